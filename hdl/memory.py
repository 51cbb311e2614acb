"""RAM behind the bus."""

from amaranth.hdl import Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from .bus import BusSignature


class Ram(wiring.Component):
    """``size`` bytes of block memory, little-endian words, zero after configuration.

    Answers in the clock after a request is taken. The address wraps at ``size``: decoding is the
    interconnect's business.

    Parameters
    ----------
    size : int
        Bytes; a power of two, at least 8.

    Members
    -------
    bus : In(BusSignature())
    written : Out(1)
        High in the clock in which the word ``index`` is written: lets a simulator know which
        words changed since a snapshot.
    index : Out(word index)
    """

    def __init__(self, size: int):
        if size < 8 or size & (size - 1):
            raise ValueError(f"RAM size must be a power of two of at least 8 bytes, not {size}")
        self.words = size // 4
        super().__init__(
            {"bus": In(BusSignature()), "written": Out(1), "index": Out(range(self.words))}
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.words = words = memory.Memory(shape=32, depth=self.words, init=[])
        read = words.read_port()
        write = words.write_port(granularity=8)

        request, response = self.bus.request, self.bus.response
        owed = Signal()
        was_write = Signal()
        taken = request.valid & request.ready
        m.d.comb += [
            request.ready.eq(~owed),
            response.valid.eq(owed),
            self.index.eq(request.p.address[2:]),
            self.written.eq(taken & request.p.write & request.p.select.any()),
            read.addr.eq(self.index),
            read.en.eq(taken),
            write.addr.eq(self.index),
            write.data.eq(request.p.data),
        ]
        with m.If(taken & request.p.write):
            m.d.comb += write.en.eq(request.p.select)
        with m.If(~was_write):
            m.d.comb += response.p.data.eq(read.data)
        with m.If(taken):
            m.d.sync += [owed.eq(1), was_write.eq(request.p.write)]
        with m.If(response.valid & response.ready):
            m.d.sync += owed.eq(0)
        return m
