"""Assembly: CPU ports, RAM, interrupt controllers and devices on one bus."""

from amaranth.hdl import Cat, Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .apic.local_apic import LocalApic
from .apic.message_bus import ApicMessageBus
from .bus import Interconnect, Requester, RequesterKind
from .config import (
    APIC_WINDOW,
    DISTRIBUTOR,
    ECAM,
    INTX_SPI,
    MMIO,
    PMU_SPI,
    RAM_BASE,
    SocConfig,
)
from .cpu_port import CpuLink, CpuPort, OperationLink
from .gic.gic import Gic
from .gic.interfaces import FIRST_SPI
from .memory import Ram
from .pci.host import PciHost
from .pci.interfaces import FabricSignature, QuirkSignature, StimulusSignature
from .pmu import PmuBank
from .probe import ProbeSignature
from .sysreg_decoder import SysregDecoder
from .tap import TapSignature

__all__ = ["EXTERNAL_UNIT", "RAM_BASE", "GicKnobs", "Soc", "SocConfig"]

EXTERNAL_UNIT = 0xFE
"""``unit`` of the external initiator in BUS_ERROR records."""
PMU_COUNTERS = 2


class GicKnobs(data.Struct):
    """Distances and choices inside the interrupt controller: see :class:`hdl.gic.gic.Gic`."""

    deactivate_distance: 8
    withdraw_distance: 8
    handover_distance: 8
    translation_distance: 8
    link_distance: 8
    lose_foreign_deactivate: 1
    lpi_duplicate: 1
    lpi_keep_if_disabled: 1


class Soc(wiring.Component):
    """The whole machine.

    Parameters
    ----------
    config : SocConfig
    external : bool
        Whether there is the external initiator.
    held_operations : bool
        Whoever drives the CPU ports holds an operation until it is answered.

    Members
    -------
    cpu : array of In(CpuLink()), one per CPU
    external : In(OperationLink())
        An initiator outside the chip, for debuggers and stray bus masters; it has no system
        registers.
    external_requester : In(Requester)
        In whose name it asks. These two only if there is one.
    wires : In(spis)
        Level of SPI 32 + i from outside, ORed with the machine's own devices. This and the next
        two with a GIC only.
    ppis : array of In(16), one per CPU
        Level of PPI 16 + i.
    gic_knobs : In(GicKnobs)
    endpoint, quirks : arrays of In(StimulusSignature()), In(QuirkSignature()), one per endpoint
    fabric : In(FabricSignature())
        With endpoints only.
    pmu_count, pmu_overflow : arrays of In(2), one per PMU
        With PMUs only.
    tap : array of Out(TapSignature()); :attr:`channels` names them
    tap_active : Out(channels)
        One bit a channel: its ``valid``.
    probe : In(ProbeSignature(cpus))
    ram_written, ram_index : Out
        With RAM only: see :class:`hdl.memory.Ram`.
    bad_messages : Out(16)
        With local APICs only: see :class:`hdl.apic.message_bus.ApicMessageBus`.
    """

    def __init__(
        self,
        config: SocConfig | None = None,
        *,
        external: bool = True,
        held_operations: bool = False,
    ):
        self.config = config = SocConfig() if config is None else config
        cpus = range(config.cpus)
        apics = config.local_apics
        self._ram = Ram(config.ram_bytes) if config.ram_bytes else None
        self._ports = [CpuPort(i, private=apics, sysregs=True, held=held_operations) for i in cpus]
        self._external = CpuPort(EXTERNAL_UNIT, private=False, sysregs=False) if external else None
        self._gic = self._make_gic() if config.gic else None
        self._apics = [LocalApic(i, held=held_operations) for i in cpus] if apics else []
        self._apic_bus = ApicMessageBus(config.cpus) if apics else None
        self._pci = PciHost(config.endpoints) if config.endpoints else None
        self._pmus = PmuBank(config.pmus, counters=PMU_COUNTERS) if config.pmus else None

        channels = list(self._tap_channels())
        self.channels = tuple(name for name, _ in channels)
        self._taps = tuple(tap for _, tap in channels)
        members = {"cpu": In(CpuLink()).array(config.cpus)}
        if self._external:
            members |= {"external": In(OperationLink()), "external_requester": In(Requester)}
        members |= {
            "tap": Out(TapSignature()).array(len(channels)),
            "tap_active": Out(len(channels)),
            "probe": In(ProbeSignature(config.cpus)),
        }
        if self._ram:
            members |= {"ram_written": Out(1), "ram_index": Out(range(self._ram.words))}
        if self._apic_bus:
            members["bad_messages"] = Out(16)
        if self._gic:
            members |= {
                "wires": In(data.ArrayLayout(1, config.spis)),
                "ppis": In(data.ArrayLayout(1, 16)).array(config.cpus),
                "gic_knobs": In(GicKnobs),
            }
        if self._pci:
            members |= {
                "endpoint": In(StimulusSignature()).array(len(config.endpoints)),
                "quirks": In(QuirkSignature()).array(len(config.endpoints)),
                "fabric": In(FabricSignature()),
            }
        if self._pmus:
            members |= {
                "pmu_count": In(PMU_COUNTERS).array(config.pmus),
                "pmu_overflow": In(PMU_COUNTERS).array(config.pmus),
            }
        super().__init__(members)

    def _make_gic(self):
        config = self.config
        return Gic(
            cpus=config.cpus,
            spis=config.spis,
            lpis=config.lpis,
            its=config.its,
            its_on_error=config.its_on_error,
            device_id_bits=config.device_id_bits,
            event_id_bits=config.event_id_bits,
            forbidden=(DISTRIBUTOR, config.its_region, *config.redistributors),
        )

    def _tap_channels(self):
        """Name and channel of every source of events, causes before effects."""
        if self._pmus:
            yield from ((f"pmu{i}", tap) for i, tap in enumerate(self._pmus.tap))
        if self._pci:
            yield from zip(self._pci.channels, self._pci.tap, strict=True)
        if self._apic_bus:
            yield "apic_bus", self._apic_bus.tap
        for i, apic in enumerate(self._apics):
            yield f"apic{i}", apic.tap[0]
            yield f"apic{i}_line", apic.tap[1]
        if self._gic:
            for name, tap in zip(self._gic.channels, self._gic.taps, strict=True):
                yield f"gic_{name}", tap
        for i, port in enumerate(self._ports):
            yield f"port{i}", port.tap
        if self._external:
            yield "external", self._external.tap

    def elaborate(self, platform):
        m = Module()
        initiators = []
        targets = []
        if self._external:
            self._add_external(m, initiators)
        self._add_cpus(m, initiators)
        if self._ram:
            self._add_ram(m, targets)
        if self._gic:
            self._add_gic(m, initiators, targets)
        if self._apic_bus:
            self._add_apics(m, targets)
        if self._pci:
            self._add_pci(m, initiators, targets)
        if self._pmus:
            self._add_pmus(m, targets)

        m.submodules.interconnect = interconnect = Interconnect(
            len(initiators), [region for region, _ in targets]
        )
        for initiator, port in zip(initiators, interconnect.initiators, strict=True):
            wiring.connect(m, initiator, port)
        for (_, target), port in zip(targets, interconnect.targets, strict=True):
            wiring.connect(m, port, target)

        for out, channel in zip(self.tap, self._taps, strict=True):
            m.d.comb += [out.valid.eq(channel.valid), out.record.eq(channel.record)]
        m.d.comb += self.tap_active.eq(Cat(channel.valid for channel in self._taps))
        return m

    def _add_external(self, m, initiators):
        m.submodules.external = self._external
        m.d.comb += self._external.requester.eq(self.external_requester)
        wiring.connect(m, wiring.flipped(self.external), self._external.link)
        initiators.append(self._external.bus)

    def _add_cpus(self, m, initiators):
        for i, port in enumerate(self._ports):
            m.submodules[f"cpu{i}"] = port
            m.submodules[f"sysregs{i}"] = sysregs = SysregDecoder(
                gic=self.config.gic, apic=self.config.local_apics
            )
            m.d.comb += [
                port.requester.id.eq(i),
                port.requester.kind.eq(RequesterKind.CPU),
            ]
            wiring.connect(m, wiring.flipped(self.cpu[i].port), port.link)
            wiring.connect(m, port.sysreg, sysregs.cpu)
            initiators.append(port.bus)
            if self._gic:
                wiring.connect(m, sysregs.gic, self._gic.sysreg[i])
                m.d.comb += [
                    self.cpu[i].irq.eq(self._gic.irq[i]),
                    self.cpu[i].virq.eq(self._gic.virq[i]),
                    self._gic.ppis[i].eq(self.ppis[i]),
                ]
            else:
                m.d.comb += [self.cpu[i].irq.eq(0), self.cpu[i].virq.eq(0)]
            if self._apics:
                apic = self._apics[i]
                m.submodules[f"apic{i}"] = apic
                wiring.connect(m, port.private, apic.private)
                wiring.connect(m, sysregs.apic, apic.inta)
                m.d.comb += self.cpu[i].intr.eq(apic.intr)
            else:
                m.d.comb += self.cpu[i].intr.eq(0)

    def _add_ram(self, m, targets):
        m.submodules.ram = ram = self._ram
        m.d.comb += [self.ram_written.eq(ram.written), self.ram_index.eq(ram.index)]
        targets.append((self.config.ram, ram.bus))

    def _add_gic(self, m, initiators, targets):
        m.submodules.gic = gic = self._gic
        for name, _ in data.Layout.cast(GicKnobs):
            if name in gic.signature.members:
                m.d.comb += getattr(gic, name).eq(self.gic_knobs[name])
        own = 0
        if self._pci:
            own |= self._pci.wires << (INTX_SPI - FIRST_SPI)
        if self._pmus:
            own |= self._pmus.line << (PMU_SPI - FIRST_SPI)
        m.d.comb += gic.wires.eq(self.wires.as_value() | own)
        initiators += gic.table_buses
        targets.append((DISTRIBUTOR, gic.distributor))
        targets += zip(self.config.redistributors, gic.redistributors, strict=True)
        if self.config.its:
            targets.append((self.config.its_region, gic.its))

    def _add_apics(self, m, targets):
        m.submodules.apic_bus = self._apic_bus
        m.d.comb += self.bad_messages.eq(self._apic_bus.bad)
        for apic, link in zip(self._apics, self._apic_bus.link, strict=True):
            wiring.connect(m, apic.link, link)
        targets.append((APIC_WINDOW, self._apic_bus.bus))

    def _add_pci(self, m, initiators, targets):
        m.submodules.pci = host = self._pci
        for i in range(len(self.config.endpoints)):
            wiring.connect(m, wiring.flipped(self.endpoint[i]), host.stimulus[i])
            wiring.connect(m, wiring.flipped(self.quirks[i]), host.quirks[i])
        wiring.connect(m, wiring.flipped(self.fabric), host.fabric)
        initiators.append(host.bus)
        targets += [(ECAM, host.ecam), (MMIO, host.mmio)]

    def _add_pmus(self, m, targets):
        m.submodules.pmus = bank = self._pmus
        for i in range(self.config.pmus):
            m.d.comb += [
                bank.count[i].eq(self.pmu_count[i]),
                bank.overflow[i].eq(self.pmu_overflow[i]),
            ]
        targets.append((self.config.pmu_region, bank.bus))
