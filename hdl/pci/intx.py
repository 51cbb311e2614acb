"""INTx: the level-triggered interrupt pins that MSI replaces."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

WIRES = 4


def swizzle(pin: int, device: int) -> int:
    """Which of a bus's four wires the pin of a device drives; ``pin`` 0 (INTA) to 3 (INTD)."""
    return (pin + device) % WIRES


class IntxPin(wiring.Component):
    """One function's INTx level.

    The level rises when an event has come to its turn (``signal``) while there is something to
    do (``cause``), and falls when there no longer is. It never shows while MSI or MSI-X is
    enabled; what was not dealt with by then shows when both are disabled again.

    ``level`` and ``status`` follow their inputs in the same clock; ``signal`` counts a clock later.
    A ``signal`` wins over a ``cause`` that ends in the same clock.

    Members
    -------
    cause : In(1)
        The device has events that software has not acknowledged.
    signal : In(1)
        Strobe: the interrupt of an event is to be sent now (data before it has left).
    message_enable : In(1)
        MSI or MSI-X is enabled.
    suppress : In(1)
        The device never falls back to INTx (a quirk).
    disable : In(1)
        INTx disable of the command register.
    status : Out(1)
        Interrupt status bit: INTx is asked for, disabled or not.
    level : Out(1)
        What the pin shows.
    """

    cause: In(1)
    signal: In(1)
    message_enable: In(1)
    suppress: In(1)
    disable: In(1)
    status: Out(1)
    level: Out(1)

    def elaborate(self, platform):
        m = Module()
        raised = Signal()
        with m.If(self.signal):
            m.d.sync += raised.eq(1)
        with m.Elif(~self.cause):
            m.d.sync += raised.eq(0)
        m.d.comb += [
            self.status.eq(raised & self.cause & ~self.message_enable & ~self.suppress),
            self.level.eq(self.status & ~self.disable),
        ]
        return m
