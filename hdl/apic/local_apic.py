"""Local APIC: what an x86 CPU's interrupts wait in, and in what order it gets them."""

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ..bus import BusSignature, FairArbiter
from ..cpu_port import SysregSignature
from ..registers.lapic import (
    FIRST_LEGAL_VECTOR,
    ICR_MASK,
    REGISTER_BASE,
    DeliveryMode,
    DestinationModel,
    ErrorStatus,
    InterruptCommand,
    LapicRegister,
    MessageFault,
    SpuriousVector,
)
from ..registers.sysreg import SystemRegister
from ..tap import EventKind, LineKind, TapSignature, tap_event

VERSION = 0x0005_0014
"""Version 0x14, six local vector table entries: what QEMU's model reports."""

LVT_MASKED = 1 << 16
CLASSES = 16
STORAGE = 0x300
"""Registers from here on, to 0x3F0, are plain storage (and ICR_LOW also a command)."""


class ApicMessage(data.Struct):
    """An interrupt on its way into one local APIC: a vector, and whether it is level-triggered."""

    vector: 8
    level: 1


class Ipi(data.Struct):
    """An inter-processor interrupt on its way out; ``destination`` is ICR_HIGH's top byte."""

    command: InterruptCommand
    destination: 8


class ApicIdentity(data.Struct):
    """What the message bus compares destinations with, and whether messages are accepted."""

    id: 8
    logical: 8
    model: DestinationModel
    enabled: 1


class ApicLink(wiring.Signature):
    """Between a local APIC and the message bus, seen from the local APIC.

    * A message taken while ``identity.enabled`` is low is dropped.
    * ``ipi`` holds until the bus has carried it to every destination.
    """

    def __init__(self):
        super().__init__(
            {
                "message": In(stream.Signature(ApicMessage)),
                "ipi": Out(stream.Signature(Ipi)),
                "identity": Out(ApicIdentity),
            }
        )


class ClassRow(data.Struct):
    """The sixteen vectors of one priority class in the three sets."""

    irr: 16
    isr: 16
    tmr: 16


class Row(data.Union):
    """One row of the memory: a priority class, or the value of a storage register."""

    sets: ClassRow
    word: 32


IRR, ISR, TMR = 1, 2, 4
WORD = IRR | ISR
"""Parts of a row, as the memory's write enables count them."""


def highest_bit(m, bits, name):
    """Number of the highest bit set in ``bits``, a power of two of them; 0 if there is none."""
    number = Signal(range(len(bits)), name=name)
    m.d.comb += number.eq(_highest(bits)[1])
    return number


def _highest(bits):
    """Whether any of ``bits`` is set, and the number of the highest."""
    if len(bits) == 1:
        return bits[0], Const(0, 0)
    middle = len(bits) // 2
    any_below, below = _highest(bits[:middle])
    any_above, above = _highest(bits[middle:])
    return any_above | any_below, Cat(Mux(any_above, above, below), any_above)


class LocalApic(wiring.Component):
    """One CPU's local APIC, xAPIC style.

    IRR, ISR and TMR are one block memory with a row per priority class (``vector >> 4``); beside
    it stand two 16-bit summaries, which classes have something requested and which something in
    service. The line to the CPU depends on the summaries alone; the vector is looked up when
    the CPU asks for it. One operation at a time goes through the memory: a message, an
    interrupt-acknowledge, or a register access. They are served fairly, in the order of
    asking, and each takes effect as a whole: none sees another half done.

    Rules (source: QEMU's model and what Linux relies on; not checked against Intel's manual):

    * A message sets IRR[vector] and TMR[vector]. If IRR[vector] was set it merges: no count.
    * PPR is TPR, if TPR's class is not below that of the highest vector in service; otherwise
      that vector with its low four bits zero. ``intr`` is high while the APIC is enabled and
      the highest requested class exceeds PPR's.
    * Interrupt-acknowledge moves the highest requested vector from IRR to ISR and returns it;
      while ``intr`` is low it returns the spurious vector and changes nothing. A class is thus
      never in service twice.
    * A write to EOI, of whatever value, clears the highest bit of ISR.
    * A message with a vector below 16 sets an error and nothing else.
    * While software disables the APIC (SVR bit 8 clear) IRR and ISR stay as they are, ``intr``
      is low and messages are dropped; inter-processor interrupts can still be sent.
    * A write to ICR_LOW sends. Its pending bit (12) reads 1 until every destination has the
      interrupt; a further write to ICR_LOW waits for that. A fixed or lowest-priority one with
      a vector below 16 sets an error instead.
    * ESR shows the errors collected up to the last write to it.

    Register accesses:

    * All four byte lanes, or the access is answered with an error and does nothing.
    * A reserved offset, or one that is no multiple of 16, reads zero, ignores writes and sets
      the illegal-register error. Writes to read-only registers are ignored.
    * ``inta`` answers reads of LAPIC_INTA; anything else there is an error.

    Reset state: disabled, as in hardware (SVR 0xFF), TPR, LDR and all sets zero, DFR all ones,
    LVT entries masked. The first 32 clocks after reset clear the memory; requests of that time
    wait.

    Timing:

    * Message taken to ``intr``: 2 clocks.
    * EOI, TPR or SVR write taken to ``intr``, in either direction: 3 clocks; interrupt-acknowledge
      to the fall of ``intr`` likewise. Its answer comes in the same clock.
    * Answers: 3 clocks after the request was taken (4 for a word of IRR, ISR or TMR; 2 for a
      spurious vector, an EOI with nothing in service, a refused or reserved access) if nothing
      else is under way, and at most 7, not counting the 32 after reset, nor for ICR_LOW the
      wait for the interrupt before it. A message is held back for at most 6 clocks.

    Simplifications: no timer (its registers are storage, the current count reads zero) and no
    other local interrupt source, so the LVT is storage that disabling does not mask; no
    x2APIC, no arbitration priority (APR reads zero), no EOI broadcast (level-triggered vectors
    would need an I/O APIC to hear it), ID read-only. None of these takes part in a message's
    way to a CPU.

    Parameters
    ----------
    index : int
        CPU number and APIC id, 0 to 254.
    held : bool
        Whoever is behind ``private`` holds a request until it is answered; it is not kept here,
        then.

    Members
    -------
    private : In(BusSignature())
        The CPU's own accesses; the low 12 bits of the address count.
    inta : In(SysregSignature())
    intr : Out(1)
    link : Out(ApicLink())
    tap : array of two Out(TapSignature())
        0: PENDING_SET (data 1: merged), ACKNOWLEDGE (data 1: the spurious vector), EOI (id 0:
        nothing was in service), MESSAGE_BAD (an illegal vector in ICR_LOW: address that of
        ICR_LOW, data the command, id the CPU, unit the :class:`MessageFault`).
        1: LINE of ``intr``, in the clock of the new level.
    """

    def __init__(self, index: int, *, held: bool = False):
        if isinstance(index, bool) or not isinstance(index, int):
            raise TypeError(f"Local APIC index must be an integer, not {index!r}")
        if not 0 <= index <= 254:
            raise ValueError(f"Local APIC index must be between 0 and 254, not {index}")
        self._index = index
        self._held = held
        super().__init__(
            {
                "private": In(BusSignature()),
                "inta": In(SysregSignature()),
                "intr": Out(1),
                "link": Out(ApicLink()),
                "tap": Out(TapSignature()).array(2),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.rows = rows = memory.Memory(shape=Shape.cast(Row), depth=2 * CLASSES, init=[])
        self._read = rows.read_port()
        self._write = rows.write_port(granularity=16)
        self._old = Row(self._read.data)
        self._new = Row(self._write.data)

        self._tpr = Signal(8)
        self._ldr = Signal(8)
        self._model = Signal(DestinationModel, init=DestinationModel.FLAT)
        self._svr = Signal(SpuriousVector, init={"vector": 0xFF})
        self._errors = Signal(ErrorStatus)
        self._esr = Signal(ErrorStatus)
        self._ipi = Signal(Ipi)
        self._ipi_valid = Signal()

        self._requested = Signal(CLASSES)
        self._in_service = Signal(CLASSES)
        self._priority(m)
        self._links(m)
        self._private_port(m)
        self._inta_port(m)
        self._engine(m)
        return m

    def _priority(self, m):
        self._top_requested = highest_bit(m, self._requested, "top_requested")
        self._top_in_service = highest_bit(m, self._in_service, "top_in_service")
        self._ppr = Signal(8)
        with m.If(self._tpr[4:] >= self._top_in_service):
            m.d.comb += self._ppr.eq(self._tpr)
        with m.Else():
            m.d.comb += self._ppr[4:].eq(self._top_in_service)
        m.d.comb += self.intr.eq(self._svr.enable & (self._top_requested > self._ppr[4:]))

        was = Signal()
        m.d.sync += was.eq(self.intr)
        with m.If(self.intr != was):
            m.d.comb += tap_event(
                self.tap[1], EventKind.LINE, unit=self._index, id=LineKind.INTR, data=self.intr
            )

    def _links(self, m):
        identity = self.link.identity
        m.d.comb += [
            identity.id.eq(self._index),
            identity.logical.eq(self._ldr),
            identity.model.eq(self._model),
            identity.enabled.eq(self._svr.enable),
            self.link.ipi.valid.eq(self._ipi_valid),
            self.link.ipi.payload.eq(self._ipi),
        ]
        with m.If(self.link.ipi.ready):
            m.d.sync += self._ipi_valid.eq(0)

    def _private_port(self, m):
        """Keep one access of the CPU until the engine comes to it, then its answer."""
        request, response = self.private.request, self.private.response
        self._access = access = Signal(
            data.StructLayout({"offset": 12, "write": 1, "data": 32, "whole": 1})
        )
        self._access_waits = Signal()
        self._access_done = Signal()
        self._access_answer = Signal(32)  # zero from the choice until a read finds something
        owed = Signal()
        m.d.comb += [
            request.ready.eq(~owed),
            response.valid.eq(self._access_done),
            response.p.data.eq(self._access_answer),
            response.p.error.eq(~access.whole),
        ]
        taken = request.valid & request.ready
        asked = [
            access.offset.eq(request.p.address[:12]),
            access.write.eq(request.p.write),
            access.data.eq(request.p.data),
            access.whole.eq(request.p.select.all()),
        ]
        if self._held:
            m.d.comb += asked
        else:
            with m.If(taken):
                m.d.sync += asked
        with m.If(taken):
            m.d.sync += [self._access_waits.eq(1), owed.eq(1)]
        with m.If(response.valid & response.ready):
            m.d.sync += [owed.eq(0), self._access_done.eq(0)]

    def _inta_port(self, m):
        request, response = self.inta.request, self.inta.response
        self._inta_waits = Signal()
        self._inta_done = Signal()
        self._inta_answer = Signal(8)
        owed = Signal()
        refused = Signal()
        m.d.comb += [
            request.ready.eq(~owed),
            response.valid.eq(self._inta_done),
            response.p.data.eq(self._inta_answer),
            response.p.error.eq(refused),
        ]
        with m.If(request.valid & request.ready):
            known = (request.p.register == SystemRegister.LAPIC_INTA) & ~request.p.write
            m.d.sync += [
                owed.eq(1),
                refused.eq(~known),
                self._inta_waits.eq(known),
                self._inta_done.eq(~known),
                self._inta_answer.eq(0),
            ]
        with m.If(response.valid & response.ready):
            m.d.sync += [owed.eq(0), self._inta_done.eq(0)]

    def _engine(self, m):
        """Serve one request at a time: choose and read a row, then change it and answer."""
        m.submodules.arbiter = arbiter = FairArbiter(3)
        read, write = self._read, self._write
        message, access = self.link.message, self._access
        row = Signal(range(2 * CLASSES))
        old = self._old.sets
        new = self._new.sets
        vector = Signal(8)
        level = Signal()
        is_command = access.write & (access.offset == LapicRegister.ICR_LOW)

        own_class = Signal(CLASSES)
        request, withdraw, begin, end = Signal(), Signal(), Signal(), Signal()
        m.d.comb += own_class.eq(1 << row[:4])
        for summary, rise, fall in (
            (self._requested, request, withdraw),
            (self._in_service, begin, end),
        ):
            risen = summary | (own_class & rise.replicate(CLASSES))
            m.d.sync += summary.eq(risen & ~(own_class & fall.replicate(CLASSES)))

        bit = Signal(16)
        ending = Signal()
        found = highest_bit(m, Mux(ending, old.isr, old.irr), "found")
        sixteen = Signal(16)
        with m.Switch(access.offset[7:10]):
            with m.Case(LapicRegister.ISR >> 7):
                m.d.comb += sixteen.eq(old.isr)
            with m.Case(LapicRegister.TMR >> 7):
                m.d.comb += sixteen.eq(old.tmr)
            with m.Default():
                m.d.comb += sixteen.eq(old.irr)

        # Reading and writing take turns, so it does not matter what a collision would read.
        # Parts of a row that are not written may be anything.
        m.d.comb += [
            read.en.eq(0),
            write.addr.eq(row),
            self._new.word.eq(access.data),
            new.tmr.eq(Mux(level, old.tmr | bit, old.tmr & ~bit)),
        ]
        with m.FSM(name="engine"):
            with m.State("CLEAR"):
                lvt = (row >= _storage_row(LapicRegister.LVT_TIMER)) & (
                    row <= _storage_row(LapicRegister.LVT_ERROR)
                )
                m.d.comb += [
                    write.en.eq(IRR | ISR | TMR),
                    write.data.eq(Mux(lvt, LVT_MASKED, 0)),
                ]
                m.d.sync += row.eq(row + 1)
                with m.If(row.all()):
                    m.next = "CHOOSE"

            with m.State("CHOOSE"):
                m.d.comb += [
                    read.en.eq(1),
                    arbiter.requests.eq(
                        Cat(
                            message.valid,
                            self._inta_waits,
                            self._access_waits & ~(is_command & self._ipi_valid),
                        )
                    ),
                    arbiter.taken.eq(arbiter.grant.any()),
                ]
                m.d.sync += row.eq(read.addr)
                with m.If(arbiter.grant[0]):
                    self._choose_message(m)
                with m.If(arbiter.grant[1]):
                    self._choose_acknowledge(m)
                with m.If(arbiter.grant[2]):
                    self._choose_access(m)
                m.d.sync += [vector.eq(message.p.vector), level.eq(message.p.level)]

            with m.State("ACCEPT"):
                m.d.comb += [
                    bit.eq(1 << vector[:4]),
                    new.irr.eq(old.irr | bit),
                    write.en.eq(IRR | TMR),
                    *tap_event(
                        self.tap[0],
                        EventKind.PENDING_SET,
                        unit=self._index,
                        id=vector,
                        data=(old.irr & bit).any(),
                    ),
                ]
                m.d.comb += request.eq(1)
                m.next = "CHOOSE"

            with m.State("ACKNOWLEDGE"):
                m.d.comb += [
                    bit.eq(1 << found),
                    new.irr.eq(old.irr & ~bit),
                    new.isr.eq(old.isr | bit),
                    write.en.eq(IRR | ISR),
                ]
                with m.If(~new.irr.any()):
                    m.d.comb += withdraw.eq(1)
                m.d.comb += begin.eq(1)
                self._answer_acknowledge(m, Cat(found, row[:4]), spurious=0)
                m.next = "CHOOSE"

            with m.State("EOI"):
                m.d.comb += [
                    ending.eq(1),
                    new.isr.eq(0),  # a class is never in service twice
                    write.en.eq(ISR),
                    *tap_event(
                        self.tap[0], EventKind.EOI, unit=self._index, id=Cat(found, row[:4])
                    ),
                ]
                m.d.comb += end.eq(1)
                self._answer_access(m)
                m.next = "CHOOSE"

            with m.State("FIRST ROW"):
                m.d.comb += [read.en.eq(1), read.addr.eq(row + 1)]
                m.d.sync += self._access_answer[:16].eq(sixteen)
                m.next = "SECOND ROW"

            with m.State("SECOND ROW"):
                self._answer_access(m, Cat(self._access_answer[:16], sixteen))
                m.next = "CHOOSE"

            with m.State("STORAGE"):
                self._storage(m)
                m.next = "CHOOSE"

            with m.State("COMMAND"):
                self._command(m)
                m.next = "CHOOSE"

            with m.State("REGISTER"):
                self._register(m)
                m.next = "CHOOSE"

        with m.If(arbiter.grant[2]):
            m.d.sync += self._access_answer.eq(0)

    def _choose_message(self, m):
        message = self.link.message
        m.d.comb += [message.ready.eq(1), self._read.addr.eq(message.p.vector[4:])]
        with m.If(self._svr.enable):
            with m.If(message.p.vector < FIRST_LEGAL_VECTOR):
                m.d.sync += self._errors.receive_illegal_vector.eq(1)
            with m.Else():
                m.next = "ACCEPT"

    def _choose_acknowledge(self, m):
        m.d.comb += self._read.addr.eq(self._top_requested)
        m.d.sync += self._inta_waits.eq(0)
        with m.If(self.intr):
            m.next = "ACKNOWLEDGE"
        with m.Else():
            self._answer_acknowledge(m, self._svr.vector, spurious=1)

    def _choose_access(self, m):
        access = self._access
        m.d.sync += self._access_waits.eq(0)
        with m.If(~access.whole | access.offset[:4].any()):
            with m.If(access.whole):
                m.d.sync += self._errors.illegal_register.eq(1)
            self._answer_access(m)
        with m.Elif(access.write & (access.offset == LapicRegister.EOI)):
            m.d.comb += self._read.addr.eq(self._top_in_service)
            with m.If(self._in_service.any()):
                m.next = "EOI"
            with m.Else():
                m.d.comb += tap_event(self.tap[0], EventKind.EOI, unit=self._index)
                self._answer_access(m)
        with m.Elif(access.write & (access.offset == LapicRegister.ICR_LOW)):
            m.d.comb += self._read.addr.eq(_storage_row(LapicRegister.ICR_HIGH))
            m.next = "COMMAND"
        with m.Elif(_is_set(access.offset) & ~access.write):
            m.d.comb += self._read.addr.eq(Cat(Const(0, 1), access.offset[4:7]))
            m.next = "FIRST ROW"
        with m.Elif(_is_storage(access.offset)):
            m.d.comb += self._read.addr.eq(Cat(access.offset[4:8], Const(1, 1)))
            m.next = "STORAGE"
        with m.Else():
            m.next = "REGISTER"

    def _answer_acknowledge(self, m, vector, *, spurious):
        m.d.sync += [self._inta_done.eq(1), self._inta_answer.eq(vector)]
        m.d.comb += tap_event(
            self.tap[0], EventKind.ACKNOWLEDGE, unit=self._index, id=vector, data=spurious
        )

    def _answer_access(self, m, value=None):
        """Answer a read with ``value``; a write, and what is given none, with zero."""
        m.d.sync += self._access_done.eq(1)
        if value is not None:
            with m.If(~self._access.write):
                m.d.sync += self._access_answer.eq(value)

    def _storage(self, m):
        """Read or write a register that only remembers."""
        access, write = self._access, self._write
        value = Signal(InterruptCommand)
        m.d.comb += value.eq(self._old.word)
        with m.If(access.offset == LapicRegister.ICR_LOW):
            m.d.comb += value.pending.eq(self._ipi_valid)
        self._answer_access(m, value)
        with m.If(access.write & (access.offset != LapicRegister.TIMER_CURRENT)):
            m.d.comb += write.en.eq(WORD)
        with m.If(access.offset == LapicRegister.ICR_HIGH):
            m.d.comb += self._new.word[:24].eq(0)

    def _command(self, m):
        """Write ICR_LOW and send; the row that was read is ICR_HIGH's."""
        write = self._write
        command = Signal(InterruptCommand)
        m.d.comb += [
            command.eq(self._access.data & ICR_MASK),
            write.addr.eq(_storage_row(LapicRegister.ICR_LOW)),
            self._new.word.eq(command),
            write.en.eq(WORD),
        ]
        self._answer_access(m)
        carries_vector = (command.delivery == DeliveryMode.FIXED) | (
            command.delivery == DeliveryMode.LOWEST_PRIORITY
        )
        with m.If(carries_vector & (command.vector < FIRST_LEGAL_VECTOR)):
            m.d.sync += self._errors.send_illegal_vector.eq(1)
            m.d.comb += tap_event(
                self.tap[0],
                EventKind.MESSAGE_BAD,
                address=REGISTER_BASE + LapicRegister.ICR_LOW,
                data=command,
                id=self._index,
                unit=MessageFault.ILLEGAL_VECTOR,
            )
        with m.Else():
            m.d.sync += [
                self._ipi_valid.eq(1),
                self._ipi.command.eq(command),
                self._ipi.destination.eq(self._old.word[24:]),
            ]

    def _register(self, m):
        """Read or write what has flip-flops of its own, or does not exist."""
        access = self._access
        value = Signal(32)
        written = access.data
        with m.Switch(access.offset):
            with m.Case(LapicRegister.ID):
                m.d.comb += value[24:].eq(self._index)
            with m.Case(LapicRegister.VERSION):
                m.d.comb += value.eq(VERSION)
            with m.Case(LapicRegister.TPR):
                m.d.comb += value.eq(self._tpr)
                self._when_written(m, [self._tpr.eq(written[:8])])
            with m.Case(LapicRegister.PPR):
                m.d.comb += value.eq(self._ppr)
            with m.Case(LapicRegister.LDR):
                m.d.comb += value[24:].eq(self._ldr)
                self._when_written(m, [self._ldr.eq(written[24:])])
            with m.Case(LapicRegister.DFR):
                m.d.comb += value.eq(Cat(Const(~0, 28), self._model))
                self._when_written(m, [self._model.eq(written[28:])])
            with m.Case(LapicRegister.SVR):
                m.d.comb += value.eq(self._svr.as_value())
                self._when_written(m, [self._svr.as_value().eq(written)])
            with m.Case(LapicRegister.ESR):
                m.d.comb += value.eq(self._esr.as_value())
                self._when_written(m, [self._esr.eq(self._errors), self._errors.eq(0)])
            with m.Case(LapicRegister.APR, LapicRegister.EOI, *_SET_OFFSETS):
                pass  # read as zero where they get here, and ignore writes
            with m.Default():
                m.d.sync += self._errors.illegal_register.eq(1)
        self._answer_access(m, value)

    def _when_written(self, m, statements):
        with m.If(self._access.write):
            m.d.sync += statements


_SET_OFFSETS = tuple(range(LapicRegister.ISR, LapicRegister.ESR, 0x10))


def _storage_row(offset):
    return CLASSES + ((offset - STORAGE) >> 4)


def _is_set(offset):
    return (offset >= LapicRegister.ISR) & (offset < LapicRegister.ESR)


def _is_storage(offset):
    in_line = (offset >= STORAGE) & (offset <= LapicRegister.TIMER_CURRENT)
    return in_line | (offset == LapicRegister.TIMER_DIVIDE)
