"""A CPU's way into the machine: one operation at a time onto the bus or into system registers."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from .bus import ADDRESS_BITS, BusSignature, Requester
from .tap import EventKind, TapSignature, tap_event

PRIVATE_BASE = 0xFEE0_0000
"""Where a CPU sees the registers of its own local APIC (4 KiB)."""


class Operation(enum.Enum, shape=2):
    """What a CPU asks for."""

    LOAD = 0
    STORE = 1
    READ_SYSREG = 2
    WRITE_SYSREG = 3


class CpuRequest(data.Struct):
    """One operation.

    ``size`` is the binary logarithm of the bytes (0, 1, 2) of a load or store, whose data lie in
    the low bits of ``data``. For system registers ``address`` is a
    :class:`hdl.registers.sysreg.SystemRegister`.
    """

    operation: Operation
    size: 2
    address: 64
    data: 64


class CpuResponse(data.Struct):
    """``data`` of a load or read, in the low bits; ``error``: nothing there, or refused."""

    data: 64
    error: 1


class CpuResponseSignature(wiring.Signature):
    """An answer that cannot be held back: it is new in the clock ``valid`` is high, and ``payload``
    holds until the next one."""

    def __init__(self):
        super().__init__({"valid": Out(1), "payload": Out(CpuResponse)})


class SysregRequest(data.Struct):
    register: 6
    write: 1
    data: 64


class SysregSignature(wiring.Signature):
    """System-register access, seen from the CPU port; the same rules as on the bus.

    The block behind it answers every request within a bounded number of clocks; a register that
    does not exist is answered with ``error``.
    """

    def __init__(self):
        super().__init__(
            {
                "request": Out(stream.Signature(SysregRequest)),
                "response": In(stream.Signature(CpuResponse)),
            }
        )


class OperationLink(wiring.Signature):
    """Seen from the one who asks: operations go out, answers come in.

    One operation at a time: ``request`` is taken in the clock it is offered, unless one is still
    unanswered. ``response`` is valid for one clock, and ``request`` may be valid in that clock.
    """

    def __init__(self):
        super().__init__(
            {
                "request": Out(stream.Signature(CpuRequest)),
                "response": In(CpuResponseSignature()),
            }
        )


class CpuLink(wiring.Signature):
    """A CPU's connection to the machine, seen from the CPU: operations and interrupt lines.

    ``irq`` and ``virq`` come from the GIC CPU interface, ``intr`` from the local APIC.
    """

    def __init__(self):
        super().__init__({"port": Out(OperationLink()), "irq": In(1), "virq": In(1), "intr": In(1)})


class CpuPort(wiring.Component):
    """Carries one CPU's operations out, in the name of ``requester``.

    * An address at or above 2**40, and a load or store that is not aligned to its size or has
      size 3, is answered with an error and reaches nothing.
    * 0xFEE0_0000 to 0xFEE0_0FFF goes to ``private`` (the CPU's own local APIC), everything else
      to ``bus``.
    * Latency: two clocks to answer what is refused here; otherwise the path behind plus two.

    Parameters
    ----------
    unit : int
        Its number in BUS_ERROR records.
    private : bool
        Whether there is a local APIC; without one its window goes to the bus as well.
    sysregs : bool
        Whether there are system registers; without them every access to one is refused.
    held : bool
        Whoever asks holds the operation until it is answered; it is not kept here, then.

    Members
    -------
    link : In(OperationLink())
    requester : In(Requester)
        Holds while a request is unanswered.
    bus, private : Out(BusSignature())
    sysreg : Out(SysregSignature())
    """

    def __init__(self, unit: int, *, private: bool, sysregs: bool, held: bool = False):
        self._unit = unit
        self._held = held
        self._private = private
        self._sysregs = sysregs
        super().__init__(
            {
                "link": In(OperationLink()),
                "requester": In(Requester),
                "bus": Out(BusSignature()),
                "private": Out(BusSignature()),
                "sysreg": Out(SysregSignature()),
                "tap": Out(TapSignature()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        op = self.link.request.payload if self._held else Signal(CpuRequest)
        answer = Signal(CpuResponse)
        answered = Signal()
        byte = op.address[:2]

        m.d.comb += [self.link.response.valid.eq(answered), self.link.response.payload.eq(answer)]
        m.d.sync += answered.eq(0)

        select = Signal(4)
        lanes = Signal(32)
        with m.Switch(op.size):
            with m.Case(0):
                m.d.comb += [select.eq(1 << byte), lanes.eq(op.data[:8].replicate(4))]
            with m.Case(1):
                m.d.comb += [select.eq(0b11 << byte), lanes.eq(op.data[:16].replicate(2))]
            with m.Default():
                m.d.comb += [select.eq(0b1111), lanes.eq(op.data[:32])]

        is_store = op.operation == Operation.STORE
        word = Signal(32)
        found = Signal(32)
        with m.If(~is_store), m.Switch(op.size):
            with m.Case(0):
                m.d.comb += found.eq(word.word_select(byte, 8))
            with m.Case(1):
                m.d.comb += found.eq(word.word_select(byte[1], 16))
            with m.Default():
                m.d.comb += found.eq(word)
        for port in (self.bus, self.private):
            m.d.comb += [
                port.request.p.address.eq(Cat(Const(0, 2), op.address[2:ADDRESS_BITS])),
                port.request.p.write.eq(is_store),
                port.request.p.data.eq(lanes),
                port.request.p.select.eq(select),
                port.request.p.requester.eq(self.requester),
            ]
        m.d.comb += [
            self.sysreg.request.p.register.eq(op.address),
            self.sysreg.request.p.write.eq(op.operation == Operation.WRITE_SYSREG),
            self.sysreg.request.p.data.eq(op.data),
        ]

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.link.request.ready.eq(1)
                with m.If(self.link.request.valid):
                    if not self._held:
                        m.d.sync += op.eq(self.link.request.payload)
                    m.next = "DECIDE"

            with m.State("DECIDE"):
                misaligned = (op.size == 3) | ((op.address & ((1 << op.size) - 1)[:2]).any())
                private = (op.address[12:] == PRIVATE_BASE >> 12) & self._private
                with m.If(
                    (op.operation == Operation.READ_SYSREG)
                    | (op.operation == Operation.WRITE_SYSREG)
                ):
                    with m.If(op.address[6:].any() | (not self._sysregs)):
                        self._refuse(m, answer, answered)
                    with m.Else():
                        self._ask(m, self.sysreg, "SYSREG")
                with m.Elif(misaligned | op.address[ADDRESS_BITS:].any()):
                    self._refuse(m, answer, answered)
                    self._report(m, op)
                with m.Elif(private):
                    self._ask(m, self.private, "PRIVATE")
                with m.Else():
                    self._ask(m, self.bus, "BUS")

            for state, port in (("BUS", self.bus), ("PRIVATE", self.private)):
                with m.State(state):
                    m.d.comb += [port.response.ready.eq(1), word.eq(port.response.p.data)]
                    with m.If(port.response.valid):
                        m.d.sync += [
                            answered.eq(1),
                            answer.data.eq(found),
                            answer.error.eq(port.response.p.error),
                        ]
                        with m.If(port.response.p.error):
                            self._report(m, op)
                        m.next = "IDLE"

            with m.State("SYSREG"):
                m.d.comb += self.sysreg.response.ready.eq(1)
                with m.If(self.sysreg.response.valid):
                    m.d.sync += [answered.eq(1), answer.eq(self.sysreg.response.payload)]
                    m.next = "IDLE"
        return m

    @staticmethod
    def _ask(m, port, state):
        m.d.comb += port.request.valid.eq(1)
        with m.If(port.request.ready):
            m.next = state

    @staticmethod
    def _refuse(m, answer, answered):
        m.d.sync += [answered.eq(1), answer.data.eq(0), answer.error.eq(1)]
        m.next = "IDLE"

    def _report(self, m, op):
        m.d.comb += tap_event(
            self.tap,
            EventKind.BUS_ERROR,
            unit=self._unit,
            address=op.address,
            data=op.operation == Operation.STORE,
        )
