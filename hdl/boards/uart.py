"""A plain serial line: eight data bits, no parity, one stop bit."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

FRAME_BITS = 10
"""Start bit, eight data bits, stop bit."""


def check_divisor(divisor: int) -> int:
    """Clocks a bit: an integer of 4 or more, so that a bit is sampled near its middle."""
    if isinstance(divisor, bool) or not isinstance(divisor, int):
        raise TypeError(f"divisor must be an integer, not {divisor!r}")
    if not 4 <= divisor < 1 << 16:
        raise ValueError(f"divisor must be between 4 and {(1 << 16) - 1}, not {divisor}")
    return divisor


class UartTransmitter(wiring.Component):
    """Bytes onto a line.

    Parameters
    ----------
    divisor : int
        Clocks a bit.

    Members
    -------
    bytes : In(stream.Signature(8))
    tx : Out(1)
        High while idle.
    """

    def __init__(self, divisor: int):
        self._divisor = check_divisor(divisor)
        super().__init__({"bytes": In(stream.Signature(8)), "tx": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()
        bits = Signal(FRAME_BITS - 1, init=~0)
        left = Signal(range(FRAME_BITS + 1))
        clocks = Signal(range(self._divisor))

        m.d.comb += self.bytes.ready.eq(left == 0)
        with m.If(self.bytes.ready), m.If(self.bytes.valid):
            m.d.sync += [
                Cat(self.tx, bits).eq(Cat(Const(0, 1), self.bytes.payload, Const(1, 1))),
                left.eq(FRAME_BITS),
                clocks.eq(self._divisor - 1),
            ]
        with m.Elif(clocks == 0):
            m.d.sync += [
                Cat(self.tx, bits).eq(Cat(bits, Const(1, 1))),
                left.eq(left - 1),
                clocks.eq(self._divisor - 1),
            ]
        with m.Else():
            m.d.sync += clocks.eq(clocks - 1)
        return m


class UartReceiver(wiring.Component):
    """Bytes from a line. They cannot be held back: ``byte`` counts in the clock ``valid`` is high.

    A byte whose stop bit is low is dropped (``bad`` is high for a clock); so is a start bit that
    is gone in its middle.

    Parameters
    ----------
    divisor : int
        Clocks a bit.

    Members
    -------
    rx : In(1)
        Asynchronous; two flip-flops follow.
    byte, valid, bad : Out
    """

    def __init__(self, divisor: int):
        self._divisor = check_divisor(divisor)
        super().__init__({"rx": In(1, init=1), "byte": Out(8), "valid": Out(1), "bad": Out(1)})

    def elaborate(self, platform):
        m = Module()
        rx = Signal(init=1)
        m.submodules.synchronizer = FFSynchronizer(self.rx, rx, init=1)
        left = Signal(range(FRAME_BITS + 1))
        clocks = Signal(range(self._divisor))

        m.d.sync += [self.valid.eq(0), self.bad.eq(0)]
        with m.If(left == 0), m.If(~rx):
            m.d.sync += [left.eq(FRAME_BITS), clocks.eq(self._divisor // 2 - 1)]
        with m.Elif(clocks != 0):
            m.d.sync += clocks.eq(clocks - 1)
        with m.Else():
            m.d.sync += [left.eq(left - 1), clocks.eq(self._divisor - 1)]
            with m.Switch(left):
                with m.Case(FRAME_BITS), m.If(rx):  # a glitch
                    m.d.sync += left.eq(0)
                with m.Case(1):
                    m.d.sync += [self.valid.eq(rx), self.bad.eq(~rx)]
                with m.Default():
                    m.d.sync += self.byte.eq(Cat(self.byte[1:], rx))
        return m
