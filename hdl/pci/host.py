"""PCI host bridge: the system bus on one side, functions and their four interrupt wires on the
other."""

from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..bus import BusSignature
from ..registers import pci
from ..tap import TapSignature
from .downstream import Downstream
from .endpoint import BAR_BITS, Endpoint, EndpointConfig
from .interfaces import CONFIG_BITS, FabricSignature, QuirkSignature, StimulusSignature
from .intx import WIRES, swizzle
from .upstream import Upstream

MAX_ENDPOINTS = 16
"""Devices 1 to 16 of bus 0; device 0 would be the bridge itself."""


class PciHost(wiring.Component):
    """Functions behind a host bridge: endpoint ``i`` is device ``i + 1``, function 0, on bus 0.

    * ``ecam``: configuration accesses, one register each; 8, 16 and 32 bits by byte lanes.
    * ``mmio``: goes to the function whose BAR holds the address and whose memory space is
      enabled (the first, if several do).
    * ``bus``: the functions' posted writes, in the name of their requester id, in one order.
    * Reads that nobody answers, and writes to nobody, behave as on PCI: all ones, forgotten.
      There are no bus errors. The same for a function that is unplugged, before or during the
      access; what it had posted is still delivered.
    * INTx levels reach ``wires`` as messages in the order of posted writes; pin ``p`` of device
      ``d`` drives wire ``(p + d) mod 4``, and several on one wire are ORed.

    Latency with all knobs at zero and nothing in the way: 4 clocks from an access taken to its
    answer (5 for a read that pushes posted writes, more for MSI-X tables); a posted write is
    offered to the bus 2 clocks after it left the function, 7 after its event.

    Bound: if the bus answers every write within ``t`` clocks, posted writes arrive within
    ``p = 16 * (t + 3) + posted_latency`` clocks of being taken, and an access is answered within
    ``50 + max(completion_latency, 3 * p)`` clocks, ``4 * msix_vectors`` more right after reset.
    Nothing here waits for the other bus port, so the bridge cannot block itself.

    Simplifications: no bridge function of its own and no buses behind it; no peer-to-peer
    traffic (a posted write into the bridge's own windows is MESSAGE_BAD); one order for the
    posted writes of all functions, where PCI orders each function's own; BAR writes are answered
    when they have arrived.

    Parameters
    ----------
    endpoints : tuple of EndpointConfig
        1 to 16.

    Members
    -------
    ecam, mmio : In(BusSignature())
        Addresses as in :mod:`hdl.registers.pci`; only their low bits count.
    bus : Out(BusSignature())
    wires : Out(4)
    stimulus : array of In(StimulusSignature())
    quirks : array of In(QuirkSignature())
    fabric : In(FabricSignature())
    tap : array of Out(TapSignature())
        :attr:`channels` names them.
    """

    def __init__(self, endpoints: tuple[EndpointConfig, ...]):
        self.endpoints = tuple(endpoints)
        for endpoint in self.endpoints:
            if not isinstance(endpoint, EndpointConfig):
                raise TypeError(f"An endpoint must be an EndpointConfig, not {endpoint!r}")
        count = len(self.endpoints)
        if not 1 <= count <= MAX_ENDPOINTS:
            raise ValueError(f"A host bridge has 1 to {MAX_ENDPOINTS} endpoints, not {count}")
        self.channels = (
            "config",
            "posted",
            *(f"endpoint{i}_{what}" for i in range(count) for what in ("event", "blocked")),
        )
        super().__init__(
            {
                "ecam": In(BusSignature()),
                "mmio": In(BusSignature()),
                "bus": Out(BusSignature()),
                "wires": Out(WIRES),
                "stimulus": In(StimulusSignature()).array(count),
                "quirks": In(QuirkSignature()).array(count),
                "fabric": In(FabricSignature()),
                "tap": Out(TapSignature()).array(len(self.channels)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        count = len(self.endpoints)
        pins = tuple(max(config.pin_number - 1, 0) for config in self.endpoints)
        m.submodules.upstream = upstream = Upstream(pins)
        m.submodules.ecam = ecam = Downstream(count, address_bits=CONFIG_BITS, configuration=True)
        m.submodules.mmio = mmio = Downstream(count, address_bits=BAR_BITS, configuration=False)

        wiring.connect(m, wiring.flipped(self.ecam), ecam.bus)
        wiring.connect(m, wiring.flipped(self.mmio), mmio.bus)
        wiring.connect(m, upstream.bus, wiring.flipped(self.bus))
        m.d.comb += upstream.latency.eq(self.fabric.posted_latency)
        gone = Cat(stimulus.unplug for stimulus in self.stimulus)
        for path in (ecam, mmio):
            m.d.comb += [
                path.gone.eq(gone),
                path.completion_latency.eq(self.fabric.completion_latency),
                path.push_posted.eq(~self.fabric.completions_pass_posted),
                path.delivered.eq(upstream.delivered),
            ]

        taps = [ecam.tap, upstream.tap]
        wires = [0] * WIRES
        for i, config in enumerate(self.endpoints):
            m.submodules[f"endpoint{i}"] = endpoint = Endpoint(config, unit=i)
            taps += [endpoint.event_tap, endpoint.blocked_tap]
            wiring.connect(m, wiring.flipped(self.stimulus[i]), endpoint.stimulus)
            wiring.connect(m, wiring.flipped(self.quirks[i]), endpoint.quirks)
            wiring.connect(m, ecam.access[i], endpoint.config_access)
            wiring.connect(m, mmio.access[i], endpoint.memory)
            wiring.connect(m, endpoint.posted, upstream.posted[i])
            m.d.comb += upstream.intx[i].eq(endpoint.intx)
            for path in (ecam, mmio):
                m.d.comb += [
                    path.offered[i].eq(upstream.offered[i]),
                    path.pending[i].eq(upstream.pending[i]),
                ]

            place = (pci.ecam_address(0, i + 1, 0) - pci.ECAM_BASE) >> CONFIG_BITS
            m.d.comb += ecam.hit[i].eq(self.ecam.request.p.address[CONFIG_BITS:24] == place)
            m.d.comb += mmio.hit[i].eq(
                endpoint.bar.enable
                & (self.mmio.request.p.address[BAR_BITS:] == endpoint.bar.base[BAR_BITS:])
            )
            wire = swizzle(pins[i], i + 1)
            wires[wire] |= upstream.levels[i]
        m.d.comb += self.wires.eq(Cat(wires))

        for out, channel in zip(self.tap, taps, strict=True):
            m.d.comb += [out.valid.eq(channel.valid), out.record.eq(channel.record)]
        return m
