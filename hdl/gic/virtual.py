"""GICv3 virtual CPU interface: list registers, and the guest's view of its interrupts."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..cpu_port import CpuResponse, SysregSignature
from ..lowest import lowest
from ..registers.icc import BPR1_MINIMUM, PRIORITY_BITS, SPECIAL_INTIDS, IccCtlr
from ..registers.ich import LIST_REGISTERS, IchHcr, IchLr, IchMisr, IchVmcr, IchVtr, ListState
from ..registers.sysreg import SystemRegister
from ..tap import EventKind, LineKind, TapSignature, tap_event
from .cpu_interface import ActivePriorities, group_mask, is_special
from .distributor import MAX_CPUS, check_count
from .interfaces import FIRST_LPI, INTID_BITS, NO_INTERRUPT, Deactivate

_LOW = 8 - PRIORITY_BITS
BPR0_MINIMUM = BPR1_MINIMUM - 1

_HCR_MASK = IchHcr.const(
    {
        **dict.fromkeys(("en", "uie", "lrenpie", "npie"), 1),
        **dict.fromkeys(("vgrp0eie", "vgrp0die", "vgrp1eie", "vgrp1die"), 1),
        **dict.fromkeys(("tc", "tall0", "tall1", "tsei", "tdir"), 1),
        "eoi_count": 0x1F,
    }
).as_bits()
_VTR = IchVtr.const(
    {
        "list_regs": LIST_REGISTERS - 1,
        "nv4": 1,
        "a3v": 1,
        "pre_bits": PRIORITY_BITS - 1,
        "pri_bits": PRIORITY_BITS - 1,
    }
).as_bits()


class ListEntry(data.Struct):
    """What is kept of an ICH_LR<n>_EL2."""

    vintid: INTID_BITS
    pintid: 13
    priority: PRIORITY_BITS
    group: 1
    hw: 1
    state: ListState


class VirtualInterface(wiring.Component):
    """The ICH_* and ICV_* registers of one CPU (Arm IHI 0069, virtualization).

    A list register is one virtual interrupt. With HW = 1 it stands for a physical interrupt that
    is active; when the guest deactivates the one, this block asks the physical side to deactivate
    the other, without any software of the host.

    * The best pending list register of group 1 (lowest priority value, among equals the lowest
      number) is signalled on ``virq`` while HCR.En and VENG1 are one, its priority is below VPMR
      and its group priority below the running one.
    * ICV_IAR1: pending becomes active. ICV_EOIR1: priority drop, and with VEOIM = 0, or for an
      LPI always, deactivation. ICV_DIR: deactivation, with VEOIM = 1 and not for LPIs.
      Deactivation finds the first active list register with that vINTID (active and pending
      becomes pending); if there is none, HCR.EOIcount goes up by one, wrapping, except for LPIs.
    * A pINTID above 1019 is not deactivated.
    * ``maintenance`` is the level HCR.En and MISR not zero: the PPI
      :data:`hdl.registers.ich.MAINTENANCE_INTID`.
    * A register access is answered 2 clocks after it was taken; ICV_EOIR1 and ICV_DIR wait while
      a deactivation cannot be taken. List register to ``virq``: 1 clock after the write took
      effect, so 2 after it was taken.

    Writing a register that can only be read, reading one that can only be written, and one that
    is not listed here, is answered with an error and has no effect. Bits that are not implemented
    read zero.

    Simplifications: group 1 only: a list register of group 0 is never signalled, VENG0 counts
    for the maintenance interrupt alone. There are no exception levels here, so HCR's trap bits
    are kept without effect. vINTID has 16 bits. No direct injection (GICv4), no NMI. Software
    that breaks a rule, two list registers with one vINTID say, gets the first one.

    Parameters
    ----------
    index : int
        CPU number, ``unit`` on the tap.

    Members
    -------
    sysreg : In(SysregSignature())
    deactivate : Out(stream.Signature(Deactivate))
    virq, maintenance : Out(1)
    taps : array of Out(TapSignature())
        :attr:`channels` names them: VIRTUAL_ACKNOWLEDGE and VIRTUAL_EOI; LINE.
    """

    channels = ("guest", "virq")

    def __init__(self, index: int):
        check_count("VirtualInterface", "index", index, 0, MAX_CPUS - 1)
        self._index = index
        super().__init__(
            {
                "sysreg": In(SysregSignature()),
                "deactivate": Out(stream.Signature(Deactivate)),
                "virq": Out(1),
                "maintenance": Out(1),
                "taps": Out(TapSignature()).array(len(self.channels)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.active = active = ActivePriorities()
        self._active = active
        self._entries = [Signal(ListEntry, name=f"entry_{i}") for i in range(LIST_REGISTERS)]
        self._hcr = Signal(IchHcr)
        self._vmcr = Signal(IchVmcr, init={"vbpr1": BPR1_MINIMUM, "vbpr0": BPR0_MINIMUM})

        self._choose(m)
        self._maintain(m)
        was_virq = Signal()
        m.d.sync += [
            self.virq.eq(self._signalled & ~active.activate),
            was_virq.eq(self.virq),
        ]
        with m.If(self.virq != was_virq):
            m.d.comb += tap_event(
                self.taps[1],
                EventKind.LINE,
                unit=self._index,
                id=LineKind.VIRQ,
                data=self.virq,
            )
        self._access(m)
        return m

    def _choose(self, m):
        """The best pending entry, and whether it is signalled."""
        self._best = Signal(range(LIST_REGISTERS))
        self._pending = Signal()
        self._signalled = Signal()
        self._group_priority = Signal(8)
        field = []
        for i, entry in enumerate(self._entries):
            mine = (entry.state == ListState.PENDING) & entry.group
            field.append(Cat(Const(i, 2), entry.priority, ~mine))
        while len(field) > 1:
            pairs = zip(field[::2], field[1::2], strict=True)
            field = [Mux(second < first, second, first) for first, second in pairs]
        best, best_rank = field[0][:2], field[0][2:]
        priority = Cat(Const(0, _LOW), best_rank[:PRIORITY_BITS])
        point = Mux(self._vmcr.vcbpr, self._vmcr.vbpr0 + 1, self._vmcr.vbpr1)
        m.d.comb += [
            self._best.eq(best),
            self._pending.eq(~best_rank[PRIORITY_BITS] & self._hcr.en & self._vmcr.veng1),
            self._group_priority.eq(priority & group_mask(point)),
            self._signalled.eq(
                self._pending
                & (priority < self._vmcr.vpmr)
                & (self._group_priority < self._active.running)
            ),
            self._active.priority.eq(self._group_priority),
        ]

    def _maintain(self, m):
        hcr, vmcr = self._hcr, self._vmcr
        invalid = [entry.state == ListState.INVALID for entry in self._entries]
        wants_eoi = [~entry.hw & entry.pintid[9] for entry in self._entries]
        ended = Cat(i & w for i, w in zip(invalid, wants_eoi, strict=True))
        empty = Cat(i & ~w for i, w in zip(invalid, wants_eoi, strict=True))
        pending = Cat(entry.state == ListState.PENDING for entry in self._entries)
        valid = sum(~i for i in invalid)
        misr = Signal(IchMisr)
        self._eisr, self._elrsr, self._misr = ended, empty, misr
        m.d.comb += [
            misr.eoi.eq(ended.any()),
            misr.u.eq(hcr.uie & (valid <= 1)),
            misr.lrenp.eq(hcr.lrenpie & hcr.eoi_count.any()),
            misr.np.eq(hcr.npie & ~pending.any()),
            misr.vgrp0e.eq(hcr.vgrp0eie & vmcr.veng0),
            misr.vgrp0d.eq(hcr.vgrp0die & ~vmcr.veng0),
            misr.vgrp1e.eq(hcr.vgrp1eie & vmcr.veng1),
            misr.vgrp1d.eq(hcr.vgrp1die & ~vmcr.veng1),
            self.maintenance.eq(hcr.en & misr.as_value().any()),
        ]

    def _access(self, m):
        register, write, value = Signal(6), Signal(), Signal(64)
        # Found when the request is taken: nothing but requests changes the entries.
        found, index = Signal(), Signal(range(LIST_REGISTERS))
        answer = Signal(CpuResponse)
        request, response = self.sysreg.request, self.sysreg.response
        m.d.comb += [response.payload.eq(answer), self._active.value.eq(value)]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += request.ready.eq(1)
                with m.If(request.valid):
                    m.d.sync += [
                        register.eq(request.p.register),
                        write.eq(request.p.write),
                        value.eq(request.p.data),
                        Cat(found, index).eq(Cat(*self._find_active(request.p.data[:24]))),
                    ]
                    m.next = "EXECUTE"
            with m.State("EXECUTE"):
                m.next = "ANSWER"
                m.d.sync += [answer.data.eq(0), answer.error.eq(1)]
                with m.If(write):
                    self._write(m, register, value, (found, index), answer)
                with m.Else():
                    self._read(m, register, answer)
            with m.State("ANSWER"):
                m.d.comb += response.valid.eq(1)
                with m.If(response.ready):
                    m.next = "IDLE"

    def _read(self, m, register, answer):
        vmcr, best = self._vmcr, self._select(m, self._best, "best_entry")
        control = Signal(IccCtlr)
        m.d.comb += [
            control.cbpr.eq(vmcr.vcbpr),
            control.eoi_mode.eq(vmcr.veoim),
            control.pri_bits.eq(PRIORITY_BITS - 1),
            control.a3v.eq(1),
        ]
        common = Mux(vmcr.vbpr0 == 7, 7, vmcr.vbpr0 + 1)
        readable = {
            SystemRegister.ICH_HCR_EL2: self._hcr,
            SystemRegister.ICH_VTR_EL2: _VTR,
            SystemRegister.ICH_VMCR_EL2: vmcr,
            SystemRegister.ICH_MISR_EL2: self._misr,
            SystemRegister.ICH_EISR_EL2: self._eisr,
            SystemRegister.ICH_ELRSR_EL2: self._elrsr,
            SystemRegister.ICH_AP1R0_EL2: self._active.bits,
            SystemRegister.ICV_IAR1_EL1: Mux(self._signalled, best.vintid, NO_INTERRUPT),
            SystemRegister.ICV_HPPIR1_EL1: Mux(self._pending, best.vintid, NO_INTERRUPT),
            SystemRegister.ICV_PMR_EL1: vmcr.vpmr,
            SystemRegister.ICV_BPR1_EL1: Mux(vmcr.vcbpr, common, vmcr.vbpr1),
            SystemRegister.ICV_RPR_EL1: self._active.running,
            SystemRegister.ICV_CTLR_EL1: control,
            SystemRegister.ICV_IGRPEN1_EL1: vmcr.veng1,
            SystemRegister.ICV_AP1R0_EL1: self._active.bits,
        }
        for i, entry in enumerate(self._entries):
            readable[SystemRegister.ICH_LR0_EL2 + i] = self._list_register(m, i, entry)
        with m.Switch(register):
            for number, content in readable.items():
                with m.Case(number):
                    m.d.sync += [answer.data.eq(content), answer.error.eq(0)]
        with m.If((register == SystemRegister.ICV_IAR1_EL1) & self._signalled):
            m.d.comb += [
                self._active.activate.eq(1),
                *tap_event(
                    self.taps[0],
                    EventKind.VIRTUAL_ACKNOWLEDGE,
                    unit=self._index,
                    id=best.vintid,
                ),
            ]
            for i, entry in enumerate(self._entries):
                with m.If(self._best == i):
                    m.d.sync += entry.state.eq(ListState.ACTIVE)

    def _select(self, m, index, name):
        entry = Signal(ListEntry, name=name)
        with m.Switch(index):
            for i, candidate in enumerate(self._entries):
                with m.Case(i):
                    m.d.comb += entry.eq(candidate)
        return entry

    @staticmethod
    def _list_register(m, i, entry):
        word = Signal(IchLr, name=f"list_register_{i}")
        m.d.comb += [
            word.vintid.eq(entry.vintid),
            word.pintid.eq(entry.pintid),
            word.priority.eq(entry.priority << _LOW),
            word.group.eq(entry.group),
            word.hw.eq(entry.hw),
            word.state.eq(entry.state),
        ]
        return word

    def _write(self, m, register, value, active, answer):
        vmcr = self._vmcr
        intid = value[:24]
        is_lpi = intid >= FIRST_LPI
        with m.Switch(register):
            with m.Case(SystemRegister.ICV_EOIR1_EL1):
                m.d.sync += answer.error.eq(0)
                with m.If(~is_special(intid)):
                    done = self._deactivate(m, intid, active, wanted=~vmcr.veoim | is_lpi)
                    with m.If(done):
                        m.d.comb += [
                            self._active.drop.eq(1),
                            *tap_event(
                                self.taps[0],
                                EventKind.VIRTUAL_EOI,
                                unit=self._index,
                                id=intid[:INTID_BITS],
                            ),
                        ]
            with m.Case(SystemRegister.ICV_DIR_EL1):
                m.d.sync += answer.error.eq(0)
                below = intid < SPECIAL_INTIDS.start
                self._deactivate(m, intid, active, wanted=vmcr.veoim & below)
            with m.Case(SystemRegister.ICH_HCR_EL2):
                m.d.sync += [self._hcr.eq(value & _HCR_MASK), answer.error.eq(0)]
            with m.Case(SystemRegister.ICH_VMCR_EL2):
                new = IchVmcr(value[:32])
                m.d.sync += [
                    vmcr.veng0.eq(new.veng0),
                    vmcr.veng1.eq(new.veng1),
                    vmcr.vcbpr.eq(new.vcbpr),
                    vmcr.veoim.eq(new.veoim),
                    vmcr.vbpr0.eq(Mux(new.vbpr0 < BPR0_MINIMUM, BPR0_MINIMUM, new.vbpr0)),
                    vmcr.vbpr1.eq(Mux(new.vbpr1 < BPR1_MINIMUM, BPR1_MINIMUM, new.vbpr1)),
                    vmcr.vpmr.eq(Cat(Const(0, _LOW), new.vpmr[_LOW:])),
                    answer.error.eq(0),
                ]
            with m.Case(SystemRegister.ICH_AP1R0_EL2, SystemRegister.ICV_AP1R0_EL1):
                m.d.comb += self._active.load.eq(1)
                m.d.sync += answer.error.eq(0)
            with m.Case(SystemRegister.ICV_PMR_EL1):
                m.d.sync += [vmcr.vpmr.eq(Cat(Const(0, _LOW), value[_LOW:8])), answer.error.eq(0)]
            with m.Case(SystemRegister.ICV_BPR1_EL1):
                m.d.sync += answer.error.eq(0)
                with m.If(~vmcr.vcbpr):
                    low = value[:3] < BPR1_MINIMUM
                    m.d.sync += vmcr.vbpr1.eq(Mux(low, BPR1_MINIMUM, value[:3]))
            with m.Case(SystemRegister.ICV_CTLR_EL1):
                new = IccCtlr(value)
                m.d.sync += [
                    vmcr.vcbpr.eq(new.cbpr),
                    vmcr.veoim.eq(new.eoi_mode),
                    answer.error.eq(0),
                ]
            with m.Case(SystemRegister.ICV_IGRPEN1_EL1):
                m.d.sync += [vmcr.veng1.eq(value[0]), answer.error.eq(0)]
            for i, entry in enumerate(self._entries):
                with m.Case(SystemRegister.ICH_LR0_EL2 + i):
                    new = IchLr(value)
                    m.d.sync += [
                        entry.vintid.eq(new.vintid),
                        entry.pintid.eq(new.pintid),
                        entry.priority.eq(new.priority[_LOW:]),
                        entry.group.eq(new.group),
                        entry.hw.eq(new.hw),
                        entry.state.eq(new.state),
                        answer.error.eq(0),
                    ]

    def _find_active(self, intid):
        """Whether there is an active entry with that vINTID, and which is the first."""
        matches = Cat(
            entry.state.as_value()[1] & (entry.vintid == intid) for entry in self._entries
        )
        return matches.any(), lowest(matches)

    def _deactivate(self, m, intid, active, *, wanted):
        """Ends a virtual interrupt, and waits for the physical side if it has one.

        The result: nothing is left to wait for. Takes effect only in that clock.
        """
        found, index = active
        ended = self._select(m, index, "ended_entry")
        linked = Cat(entry.hw & (entry.pintid < SPECIAL_INTIDS.start) for entry in self._entries)
        physical = wanted & found & linked.bit_select(index, 1)
        m.d.comb += [self.deactivate.valid.eq(physical), self.deactivate.p.intid.eq(ended.pintid)]
        done = ~physical | self.deactivate.ready
        with m.If(~done):
            m.next = "EXECUTE"
        with m.Elif(wanted & found):
            for i, entry in enumerate(self._entries):
                with m.If(index == i):
                    was_both = entry.state == ListState.PENDING_ACTIVE
                    m.d.sync += entry.state.eq(Mux(was_both, ListState.PENDING, ListState.INVALID))
        with m.Elif(wanted & (intid < FIRST_LPI)):
            m.d.sync += self._hcr.eoi_count.eq(self._hcr.eoi_count + 1)
        return done
