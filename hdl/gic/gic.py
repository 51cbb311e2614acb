"""Assembly of the interrupt controller: distributor, redistributors, LPIs, ITS, CPU interfaces."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..bus import BusSignature, Region
from ..cpu_port import SysregSignature
from ..registers.ich import MAINTENANCE_INTID
from ..tap import TapSignature
from .cpu_interface import CpuInterface, DeactivateSplit
from .distributor import MAX_CPUS, Distributor, check_count
from .its import Its
from .lpi import LpiEngine
from .lpi_links import HandoverNetwork
from .redistributor import PPIS, SGIS, Redistributor
from .virtual import VirtualInterface


class Gic(wiring.Component):
    """A GICv3 with ``cpus`` CPUs.

    Frames are bus targets, tables are read through bus initiators, system registers come in per
    CPU. The blocks' docstrings say what they do, how long it takes and what is simplified.

    System registers 0x00 to 0x1F are the physical CPU interface's, those above the virtual one's;
    ``LAPIC_INTA`` does not belong here and is answered with an error like any that does not exist.

    An SGI reaches its targets in the clock in which SGI1R is executed. The maintenance interrupt
    of a CPU and its wire ``ppis[cpu][9]`` share PPI 25.

    Latencies of an idle system, in clocks: wire of an SPI or PPI to ``irq`` 6, write of SGI1R
    taken to ``irq`` of a target 7, IAR1 taken to its answer 2.

    Parameters
    ----------
    cpus : int
        1 to 16.
    spis : int
        Multiple of 32, 32 to 960.
    lpis : int
        0, or 32 to 57,344.
    its : bool
        An ITS. Without one, LPIs are set by GICR_SETLPIR (DirectLPI); with one, only by the ITS.
    invalidation, ces : bool
        See :class:`.redistributor.Redistributor`.
    forbidden : tuple of Region
        Where the tables of LPIs and ITS cannot be: see :class:`.lpi.LpiEngine`. Name the frames
        of the GIC.
    its_on_error, device_id_bits, event_id_bits, translation_cache
        See :class:`.its.Its`.

    Members
    -------
    distributor : In(BusSignature())
    redistributors : array of In(BusSignature()), one per CPU
    its : In(BusSignature())
        Control and translation frame, 128 KiB. With an ITS only.
    table_buses : array of Out(BusSignature())
        :attr:`tables` names them.
    sysreg : array of In(SysregSignature()), one per CPU
    irq, virq : Out(cpus)
    wires : In(spis)
        SPI 32 + i.
    ppis : array of In(16), one per CPU
        PPI 16 + i.
    deactivate_distance, withdraw_distance : In(8)
        See :class:`.distributor.Distributor`; the latter also for SGIs and PPIs.
    lose_foreign_deactivate : In(1)
        Bug injection, see the distributor.
    handover_distance : In(8), lpi_duplicate, lpi_keep_if_disabled : In(1)
        See :class:`.lpi_links.HandoverNetwork` and :class:`.lpi.LpiEngine`. With LPIs only.
    translation_distance, link_distance : In(8)
        See :class:`.its.Its`. With an ITS only.
    taps : array of Out(TapSignature())
        :attr:`channels` names them.
    """

    def __init__(
        self,
        *,
        cpus: int = 2,
        spis: int = 64,
        lpis: int = 0,
        its: bool = False,
        invalidation: bool = True,
        ces: bool = True,
        forbidden: "tuple[Region, ...]" = (),
        its_on_error: str = "skip",
        device_id_bits: int = 16,
        event_id_bits: int = 16,
        translation_cache: int = 64,
    ):
        check_count("Gic", "cpus", cpus, 1, MAX_CPUS)
        if its and not lpis:
            raise ValueError("Gic: an ITS needs LPIs, not lpis=0")
        self._cpus = cpus
        self._distributor = Distributor(cpus=cpus, spis=spis, lpis=lpis)
        self._redistributors = [
            Redistributor(
                c,
                cpus=cpus,
                lpis=lpis > 0,
                direct_lpi=lpis > 0 and not its,
                invalidation=invalidation,
                ces=ces,
            )
            for c in range(cpus)
        ]
        self._interfaces = [CpuInterface(c, cpus=cpus) for c in range(cpus)]
        self._virtuals = [VirtualInterface(c) for c in range(cpus)]
        self._splits = [DeactivateSplit(c) for c in range(cpus)]
        self._engines = []
        if lpis:
            self._engines = [
                LpiEngine(c, lpis=lpis, cpus=cpus, forbidden=forbidden) for c in range(cpus)
            ]
        self._its = None
        if its:
            self._its = Its(
                cpus=cpus,
                lpis=lpis,
                device_id_bits=device_id_bits,
                event_id_bits=event_id_bits,
                on_error=its_on_error,
                translation_cache=translation_cache,
                forbidden=forbidden,
            )

        taps, tables = {}, {}
        for c in range(cpus):
            for block in (self._interfaces[c], self._virtuals[c], self._redistributors[c]):
                for name, tap in zip(block.channels, block.taps, strict=True):
                    taps[f"{name}{c}"] = tap
            taps[f"deactivate{c}"] = self._splits[c].tap
        for c, engine in enumerate(self._engines):
            taps[f"lpi{c}"] = engine.tap
            tables[f"lpi{c}"] = engine.bus
        if self._its:
            taps |= {"its": self._its.tap, "its_commands": self._its.command_tap}
            tables["its"] = self._its.bus
        for name, tap in zip(self._distributor.channels, self._distributor.taps, strict=True):
            taps[name] = tap
        self._taps, self._tables = taps, tables
        self.channels = tuple(taps)
        self.tables = tuple(tables)

        members = {
            "distributor": In(BusSignature()),
            "redistributors": In(BusSignature()).array(cpus),
            "table_buses": Out(BusSignature()).array(len(tables)),
            "sysreg": In(SysregSignature()).array(cpus),
            "irq": Out(cpus),
            "virq": Out(cpus),
            "wires": In(spis),
            "ppis": In(PPIS).array(cpus),
            "deactivate_distance": In(8),
            "withdraw_distance": In(8),
            "lose_foreign_deactivate": In(1),
            "taps": Out(TapSignature()).array(len(taps)),
        }
        if lpis:
            members |= {
                "handover_distance": In(8),
                "lpi_duplicate": In(1),
                "lpi_keep_if_disabled": In(1),
            }
        if its:
            members |= {
                "its": In(BusSignature()),
                "translation_distance": In(8),
                "link_distance": In(8),
            }
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        m.submodules.distributor = distributor = self._distributor
        wiring.connect(m, wiring.flipped(self.distributor), distributor.bus)
        m.d.comb += [
            distributor.wires.eq(self.wires),
            distributor.deactivate_distance.eq(self.deactivate_distance),
            distributor.withdraw_distance.eq(self.withdraw_distance),
            distributor.lose_foreign_deactivate.eq(self.lose_foreign_deactivate),
        ]
        for c in range(self._cpus):
            self._connect_cpu(m, c)
        self._send_sgis(m)
        if self._engines:
            self._connect_lpis(m)
        if self._its:
            self._connect_its(m)
        for port, bus in zip(self.table_buses, self._tables.values(), strict=True):
            wiring.connect(m, bus, wiring.flipped(port))
        for tap, source in zip(self.taps, self._taps.values(), strict=True):
            m.d.comb += [tap.valid.eq(source.valid), tap.record.eq(source.record)]
        return m

    def _connect_cpu(self, m, c):
        distributor, redistributor = self._distributor, self._redistributors[c]
        interface, virtual, split = self._interfaces[c], self._virtuals[c], self._splits[c]
        m.submodules[f"redistributor_{c}"] = redistributor
        m.submodules[f"cpu_interface_{c}"] = interface
        m.submodules[f"virtual_{c}"] = virtual
        m.submodules[f"deactivate_split_{c}"] = split

        wiring.connect(m, wiring.flipped(self.redistributors[c]), redistributor.bus)
        wiring.connect(m, interface.deactivate, split.physical)
        wiring.connect(m, virtual.deactivate, split.virtual)
        wiring.connect(m, split.distributor, distributor.deactivate[c])
        wiring.connect(m, split.redistributor, redistributor.deactivate)
        wiring.connect(m, interface.acknowledge_spi, distributor.acknowledge[c])
        wiring.connect(m, interface.acknowledge_private, redistributor.acknowledge)
        searching = distributor.searching[c] | redistributor.searching
        if self._engines:
            searching |= self._engines[c].searching
        m.d.comb += [
            redistributor.forwarding.eq(distributor.forwarding),
            redistributor.withdraw_distance.eq(self.withdraw_distance),
            redistributor.ppi.eq(
                self.ppis[c] | (virtual.maintenance << (MAINTENANCE_INTID - SGIS))
            ),
            distributor.awake[c].eq(redistributor.awake),
            interface.spi.eq(distributor.candidate[c]),
            interface.private.eq(redistributor.candidate),
            interface.searching.eq(searching),
            self.irq[c].eq(interface.irq),
            self.virq[c].eq(virtual.virq),
        ]

        # One request at a time, so at most one of the two has an answer to give.
        port, sides = self.sysreg[c], (interface.sysreg, virtual.sysreg)
        for i, side in enumerate(sides):
            m.d.comb += [
                side.request.payload.eq(port.request.payload),
                side.request.valid.eq(port.request.valid & (port.request.p.register[5] == i)),
                side.response.ready.eq(port.response.ready),
            ]
            with m.If(port.request.p.register[5] == i):
                m.d.comb += port.request.ready.eq(side.request.ready)
            with m.If(side.response.valid):
                m.d.comb += [
                    port.response.valid.eq(1),
                    port.response.payload.eq(side.response.payload),
                ]

    def _send_sgis(self, m):
        for c, redistributor in enumerate(self._redistributors):
            sgi = 0
            for sender in self._interfaces:
                sgi |= sender.sgi_targets[c] << sender.sgi
            m.d.comb += redistributor.sgi.eq(sgi)

    def _connect_lpis(self, m):
        m.submodules.handovers = network = HandoverNetwork(self._cpus)
        m.d.comb += network.distance.eq(self.handover_distance)
        for c, engine in enumerate(self._engines):
            redistributor, interface = self._redistributors[c], self._interfaces[c]
            m.submodules[f"lpi_{c}"] = engine
            wiring.connect(m, redistributor.lpi, engine.direct)
            wiring.connect(m, engine.handover, network.senders[c])
            wiring.connect(m, network.targets[c], engine.arrival)
            wiring.connect(m, interface.acknowledge_lpi, engine.acknowledge)
            shown = self._distributor.forwarding & redistributor.awake
            m.d.comb += [
                engine.lpi_enable.eq(redistributor.lpi_enable),
                engine.lpi_property_base.eq(redistributor.lpi_property_base),
                engine.lpi_id_bits.eq(redistributor.lpi_id_bits),
                engine.lpi_pending_base.eq(redistributor.lpi_pending_base),
                engine.lpi_pending_zero.eq(redistributor.lpi_pending_zero),
                redistributor.lpi_busy.eq(engine.busy),
                redistributor.lpi_settling.eq(engine.settling),
                engine.duplicate.eq(self.lpi_duplicate),
                engine.keep_if_disabled.eq(self.lpi_keep_if_disabled),
                interface.lpi.eq(engine.candidate),
                interface.lpi.valid.eq(engine.candidate.valid & shown),
            ]
            for j, other in enumerate(self._redistributors):
                m.d.comb += engine.cpu_enabled[j].eq(other.lpi_enable)

    def _connect_its(self, m):
        m.submodules.its = its = self._its
        wiring.connect(m, wiring.flipped(self.its), its.frames)
        m.d.comb += [
            its.translation_distance.eq(self.translation_distance),
            its.link_distance.eq(self.link_distance),
        ]
        for link, engine in zip(its.links, self._engines, strict=True):
            wiring.connect(m, link, engine.its)
