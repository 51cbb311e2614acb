"""GICv3 CPU interface: what a CPU sees of its interrupts through system registers."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..cpu_port import CpuResponse, SysregSignature
from ..lowest import lowest
from ..registers.icc import (
    BPR1_MINIMUM,
    IDLE_PRIORITY,
    PRIORITY_BITS,
    SPECIAL_INTIDS,
    SRE_VALUE,
    IccCtlr,
    IccSgi1r,
)
from ..registers.sysreg import SystemRegister
from ..tap import EventKind, LineKind, TapSignature, tap_event
from .distributor import MAX_CPUS, check_count
from .interfaces import (
    FIRST_SPI,
    INTID_BITS,
    NO_INTERRUPT,
    AcknowledgeSignature,
    Candidate,
    Deactivate,
)

PATIENCE = 255
"""Clocks an acknowledge waits for sources that are looking for their next candidate."""


class ActivePriorities(wiring.Component):
    """AP1R0: bit n is set while an interrupt of group priority 8n is being handled.

    Nested interrupts have ever lower values, so the lowest set bit is the one that runs, and a
    priority drop clears that one.

    Members
    -------
    bits : Out(32)
    running : Out(8)
        Running priority, 0xFF while none is active.
    activate : In(1), priority : In(8)
        Sets the bit of a group priority.
    drop : In(1)
    load : In(1), value : In(32)
        Software writes the register. One of the three at a time.
    """

    bits: Out(32)
    running: Out(8)
    activate: In(1)
    priority: In(8)
    drop: In(1)
    load: In(1)
    value: In(32)

    def elaborate(self, platform):
        m = Module()
        most_urgent = Cat(Const(0, 8 - PRIORITY_BITS), lowest(self.bits))
        m.d.comb += self.running.eq(Mux(self.bits.any(), most_urgent, IDLE_PRIORITY))
        with m.If(self.activate):
            level = self.priority[8 - PRIORITY_BITS :]
            m.d.sync += self.bits.eq(self.bits | (1 << level))
        with m.If(self.drop):
            m.d.sync += self.bits.eq(self.bits & (self.bits - 1))
        with m.If(self.load):
            m.d.sync += self.bits.eq(self.value)
        return m


def group_mask(binary_point):
    """The bits of a priority that decide about preemption: 7 down to ``binary_point``."""
    return (Const(0xFF, 8) << binary_point)[:8]


def is_special(intid):
    return (intid >= SPECIAL_INTIDS.start) & (intid < SPECIAL_INTIDS.stop)


class CpuInterface(wiring.Component):
    """The ICC_* registers of one CPU and its interrupt line (Arm IHI 0069, CPU interface).

    The best of up to three candidates (SPI, SGI or PPI, LPI; lowest priority value, among equals
    the lowest INTID) is *signalled* while IGRPEN1 is one, its priority is strictly below PMR, and
    either nothing is active or its group priority is strictly below the running one.

    * Candidate to ``irq``: 1 clock. ``irq`` falls 1 clock after a candidate went.
    * A register access is answered 2 clocks after it was taken. IAR1 and HPPIR1 wait while a
      source that lost its candidate is looking for the next one, 255 clocks at most: a source
      that takes longer counts as empty. EOIR1 and DIR wait while a deactivation cannot be taken.
    * IAR1 looks at the candidates and acknowledges one of them in a single clock, so a candidate
      that was withdrawn, even in the clock before, is not returned; then the answer is 1023 or
      the next best.
    * EOIR1 drops the running priority whatever INTID it names, except 1020 to 1023: that does
      nothing. In EOImode 0 it also deactivates the INTID named, even if nothing was running.
    * DIR deactivates in EOImode 1 only. Neither deactivates INTIDs above 1019, nor LPIs.
    * HPPIR1 is the best candidate regardless of PMR and running priority.
    * SGI1R: Aff3, Aff2, Aff1 must be zero, as those of every CPU are; RS counts as zero.

    Writing a register that can only be read, reading one that can only be written, and one that
    is not listed here, is answered with an error and has no effect. Bits that are not implemented
    read zero.

    Simplifications: group 1 only, seen as Non-secure (BPR1 counts from bit 7 down to bit n, its
    minimum is 3); CTLR.CBPR reads zero because the BPR0 it points to belongs to group 0; PMHE
    reads zero; SRE is fixed.

    Parameters
    ----------
    index : int
        CPU number: Aff0.
    cpus : int

    Members
    -------
    sysreg : In(SysregSignature())
    spi, private, lpi : In(Candidate)
        From distributor, redistributor, LPI engine.
    acknowledge_spi, acknowledge_private, acknowledge_lpi : Out(AcknowledgeSignature())
    searching : In(1)
        A source is looking for its next candidate.
    deactivate : Out(stream.Signature(Deactivate))
        INTIDs below 1020, of any kind.
    sgi_targets : Out(cpus), sgi : Out(4)
        For one clock: SGI ``sgi`` is sent to the CPUs whose bits are set.
    irq : Out(1)
    taps : array of Out(TapSignature())
        :attr:`channels` names them: ACKNOWLEDGE and EOI; LINE.
    """

    channels = ("cpu", "irq")

    def __init__(self, index: int, *, cpus: int):
        check_count("CpuInterface", "cpus", cpus, 1, MAX_CPUS)
        check_count("CpuInterface", "index", index, 0, cpus - 1)
        self._index = index
        self._cpus = cpus
        super().__init__(
            {
                "sysreg": In(SysregSignature()),
                "spi": In(Candidate),
                "private": In(Candidate),
                "lpi": In(Candidate),
                "acknowledge_spi": Out(AcknowledgeSignature()),
                "acknowledge_private": Out(AcknowledgeSignature()),
                "acknowledge_lpi": Out(AcknowledgeSignature()),
                "searching": In(1),
                "deactivate": Out(stream.Signature(Deactivate)),
                "sgi_targets": Out(cpus),
                "sgi": Out(4),
                "irq": Out(1),
                "taps": Out(TapSignature()).array(len(self.channels)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.active = active = ActivePriorities()
        self._pmr = Signal(PRIORITY_BITS)
        self._bpr = Signal(3, init=BPR1_MINIMUM)
        self._eoi_mode = Signal()
        self._enabled = Signal()

        pmr = Cat(Const(0, 8 - PRIORITY_BITS), self._pmr)

        # Every comparison at once, so that none waits for which candidate is best.
        passing = Cat(
            candidate.valid
            & self._enabled
            & (candidate.priority < pmr)
            & ((candidate.priority & group_mask(self._bpr)) < active.running)
            for candidate in (self.private, self.spi, self.lpi)
        )
        best, chosen = self._best(m)
        group_priority = Signal(8)
        signalled = Signal(3)
        m.d.comb += [
            group_priority.eq(best.priority & group_mask(self._bpr)),
            signalled.eq(chosen & passing),
            active.priority.eq(group_priority),
        ]
        # Not for one clock more when the interrupt is acknowledged as soon as it appears.
        m.d.sync += self.irq.eq(signalled.any() & ~active.activate)
        was_irq = Signal()
        m.d.sync += was_irq.eq(self.irq)
        with m.If(self.irq != was_irq):
            m.d.comb += tap_event(
                self.taps[1],
                EventKind.LINE,
                unit=self._index,
                id=LineKind.IRQ,
                data=self.irq,
            )
        self._access(m, active, best, signalled)
        return m

    def _best(self, m):
        """The most urgent candidate, and which of the three it is, a bit each.

        SGIs and PPIs have the lowest INTIDs, LPIs the highest.
        """

        def better(low, high):
            return low.valid & (~high.valid | (low.priority <= high.priority))

        best, chosen = Signal(Candidate), Signal(3)
        private_before_spi = better(self.private, self.spi)
        m.d.comb += [
            chosen[0].eq(private_before_spi & better(self.private, self.lpi)),
            chosen[1].eq(~private_before_spi & better(self.spi, self.lpi)),
            chosen[2].eq(~chosen[:2].any()),
            best.eq(Mux(chosen[0], self.private, Mux(chosen[1], self.spi, self.lpi))),
        ]
        return best, chosen

    def _access(self, m, active, best, signalled):
        register = Signal(6)
        write = Signal()
        value = Signal(64)
        answer = Signal(CpuResponse)
        patience = Signal(range(PATIENCE + 1))
        request, response = self.sysreg.request, self.sysreg.response
        m.d.comb += [response.payload.eq(answer), active.value.eq(value)]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += request.ready.eq(1)
                m.d.sync += patience.eq(PATIENCE)
                with m.If(request.valid):
                    m.d.sync += [
                        register.eq(request.p.register),
                        write.eq(request.p.write),
                        value.eq(request.p.data),
                    ]
                    m.next = "EXECUTE"
            with m.State("EXECUTE"):
                m.next = "ANSWER"
                m.d.sync += [answer.data.eq(0), answer.error.eq(1), patience.eq(patience - 1)]
                with m.If(write):
                    self._write(m, register, value, active, answer)
                with m.Elif(
                    (
                        (register == SystemRegister.ICC_IAR1_EL1)
                        | (register == SystemRegister.ICC_HPPIR1_EL1)
                    )
                    & self.searching
                    & (patience != 0)
                ):
                    m.next = "EXECUTE"
                with m.Else():
                    self._read(m, register, active, best, signalled, answer)
            with m.State("ANSWER"):
                m.d.comb += response.valid.eq(1)
                with m.If(response.ready):
                    m.next = "IDLE"

    def _read(self, m, register, active, best, signalled, answer):
        control = Signal(IccCtlr)
        m.d.comb += [
            control.eoi_mode.eq(self._eoi_mode),
            control.pri_bits.eq(PRIORITY_BITS - 1),
            control.a3v.eq(1),
        ]
        readable = {
            SystemRegister.ICC_IAR1_EL1: Mux(signalled.any(), best.intid, NO_INTERRUPT),
            SystemRegister.ICC_HPPIR1_EL1: Mux(
                best.valid & self._enabled, best.intid, NO_INTERRUPT
            ),
            SystemRegister.ICC_PMR_EL1: self._pmr << (8 - PRIORITY_BITS),
            SystemRegister.ICC_BPR1_EL1: self._bpr,
            SystemRegister.ICC_RPR_EL1: active.running,
            SystemRegister.ICC_CTLR_EL1: control,
            SystemRegister.ICC_IGRPEN1_EL1: self._enabled,
            SystemRegister.ICC_AP1R0_EL1: active.bits,
            SystemRegister.ICC_SRE_EL1: SRE_VALUE,
        }
        with m.Switch(register):
            for number, content in readable.items():
                with m.Case(number):
                    m.d.sync += [answer.data.eq(content), answer.error.eq(0)]
        with m.If(register == SystemRegister.ICC_IAR1_EL1):
            m.d.comb += active.activate.eq(signalled.any())
            with m.If(signalled.any()):
                m.d.comb += tap_event(
                    self.taps[0], EventKind.ACKNOWLEDGE, unit=self._index, id=best.intid
                )
            for mine, source, acknowledge in zip(
                signalled,
                (self.private, self.spi, self.lpi),
                (self.acknowledge_private, self.acknowledge_spi, self.acknowledge_lpi),
                strict=True,
            ):
                m.d.comb += [acknowledge.valid.eq(mine), acknowledge.intid.eq(source.intid)]

    def _write(self, m, register, value, active, answer):
        intid = value[:24]
        # What follows may be carried out again while it waits; all of it but the last time is
        # without effect.
        with m.Switch(register):
            with m.Case(SystemRegister.ICC_EOIR1_EL1):
                m.d.sync += answer.error.eq(0)
                with m.If(~is_special(intid)):
                    done = self._deactivate(m, intid, wanted=~self._eoi_mode)
                    with m.If(done):
                        m.d.comb += [
                            active.drop.eq(1),
                            *tap_event(
                                self.taps[0],
                                EventKind.EOI,
                                unit=self._index,
                                id=intid[:INTID_BITS],
                            ),
                        ]
            with m.Case(SystemRegister.ICC_DIR_EL1):
                m.d.sync += answer.error.eq(0)
                self._deactivate(m, intid, wanted=self._eoi_mode)
            with m.Case(SystemRegister.ICC_PMR_EL1):
                m.d.sync += [self._pmr.eq(value[8 - PRIORITY_BITS : 8]), answer.error.eq(0)]
            with m.Case(SystemRegister.ICC_BPR1_EL1):
                low = value[:3] < BPR1_MINIMUM
                m.d.sync += [self._bpr.eq(Mux(low, BPR1_MINIMUM, value)), answer.error.eq(0)]
            with m.Case(SystemRegister.ICC_CTLR_EL1):
                m.d.sync += [self._eoi_mode.eq(IccCtlr(value).eoi_mode), answer.error.eq(0)]
            with m.Case(SystemRegister.ICC_IGRPEN1_EL1):
                m.d.sync += [self._enabled.eq(value[0]), answer.error.eq(0)]
            with m.Case(SystemRegister.ICC_SGI1R_EL1):
                sgi = IccSgi1r(value)
                others = (1 << self._cpus) - 1 & ~(1 << self._index)
                here = ~(sgi.aff1 | sgi.aff2 | sgi.aff3).any()
                m.d.comb += [
                    self.sgi.eq(sgi.intid),
                    self.sgi_targets.eq(Mux(sgi.irm, others, Mux(here, sgi.target_list, 0))),
                ]
                m.d.sync += answer.error.eq(0)
            with m.Case(SystemRegister.ICC_AP1R0_EL1):
                m.d.comb += active.load.eq(1)
                m.d.sync += answer.error.eq(0)
            with m.Case(SystemRegister.ICC_SRE_EL1):
                m.d.sync += answer.error.eq(0)

    def _deactivate(self, m, intid, *, wanted):
        """Hands over a deactivation if there is one to make; the result: nothing is left to do."""
        needed = wanted & (intid < SPECIAL_INTIDS.start)
        m.d.comb += [self.deactivate.valid.eq(needed), self.deactivate.p.intid.eq(intid)]
        with m.If(needed & ~self.deactivate.ready):
            m.next = "EXECUTE"
        return ~needed | self.deactivate.ready


class DeactivateSplit(wiring.Component):
    """Where a CPU's deactivations go: to its redistributor below INTID 32, else the distributor.

    Takes those of the physical and of the virtual CPU interface; a CPU executes one instruction
    at a time, so the two never come together. Gives a DEACTIVATE record when one is handed over.

    Members
    -------
    physical, virtual : In(stream.Signature(Deactivate))
    redistributor, distributor : Out(stream.Signature(Deactivate))
    tap : Out(TapSignature())
    """

    def __init__(self, index: int):
        self._index = index
        port = stream.Signature(Deactivate)
        super().__init__(
            {
                "physical": In(port),
                "virtual": In(port),
                "redistributor": Out(port),
                "distributor": Out(port),
                "tap": Out(TapSignature()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        intid = Mux(self.physical.valid, self.physical.p.intid, self.virtual.p.intid)
        valid = self.physical.valid | self.virtual.valid
        private = Mux(
            self.physical.valid,
            self.physical.p.intid < FIRST_SPI,
            self.virtual.p.intid < FIRST_SPI,
        )
        ready = Mux(private, self.redistributor.ready, self.distributor.ready)
        m.d.comb += [
            self.redistributor.valid.eq(valid & private),
            self.redistributor.p.intid.eq(intid),
            self.distributor.valid.eq(valid & ~private),
            self.distributor.p.intid.eq(intid),
            self.physical.ready.eq(ready),
            self.virtual.ready.eq(ready & ~self.physical.valid),
        ]
        with m.If(valid & ready):
            m.d.comb += tap_event(self.tap, EventKind.DEACTIVATE, unit=self._index, id=intid)
        return m
