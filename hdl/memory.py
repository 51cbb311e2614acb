"""RAM behind the bus."""

from amaranth.hdl import ClockSignal, Instance, Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from .bus import BusSignature

BLOCK_RAM_LIMIT = 64 * 1024
"""Bytes up to which a :class:`Ram` is on-chip block memory."""


class StorageSignature(wiring.Signature):
    """32-bit words with byte write enables, seen from the user; data one clock after ``read``."""

    def __init__(self, words: int):
        super().__init__(
            {
                "index": Out(range(words)),
                "read": Out(1),
                "write": Out(4),
                "write_data": Out(32),
                "read_data": In(32),
            }
        )


class BlockStorage(wiring.Component):
    """Words in block memory."""

    def __init__(self, words: int):
        self._words = words
        super().__init__({"port": In(StorageSignature(words))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.words = words = memory.Memory(shape=32, depth=self._words, init=[])
        read = words.read_port()
        write = words.write_port(granularity=8)
        m.d.comb += [
            read.addr.eq(self.port.index),
            read.en.eq(self.port.read),
            self.port.read_data.eq(read.data),
            write.addr.eq(self.port.index),
            write.data.eq(self.port.write_data),
            write.en.eq(self.port.write),
        ]
        return m


class ExternalStorage(wiring.Component):
    """Words in a memory chip beside the FPGA, of which simulators get ``external_ram.v``.

    Its timing is that of :class:`BlockStorage`. It exists because no FPGA here holds megabytes,
    and because a simulator takes a behavioural memory far better than a million-word initial
    value.
    """

    def __init__(self, words: int):
        self._words = words
        super().__init__({"port": In(StorageSignature(words))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.chip = Instance(
            "irqscope_external_ram",
            p_INDEX_BITS=len(self.port.index),
            i_clk=ClockSignal(),
            i_index=self.port.index,
            i_read=self.port.read,
            i_write=self.port.write,
            i_write_data=self.port.write_data,
            o_read_data=self.port.read_data,
        )
        return m


class Ram(wiring.Component):
    """``size`` bytes of memory, little-endian words, zero after configuration.

    Answers in the clock after a request is taken. The address wraps at ``size``: decoding is the
    interconnect's business. On-chip up to :data:`BLOCK_RAM_LIMIT`, off-chip above.

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
        if isinstance(size, bool) or not isinstance(size, int):
            raise TypeError(f"RAM size must be an integer, not {size!r}")
        if size < 8 or size & (size - 1):
            raise ValueError(f"RAM size must be a power of two of at least 8 bytes, not {size}")
        self.words = size // 4
        self.external = size > BLOCK_RAM_LIMIT
        super().__init__(
            {"bus": In(BusSignature()), "written": Out(1), "index": Out(range(self.words))}
        )

    def elaborate(self, platform):
        m = Module()
        storage_type = ExternalStorage if self.external else BlockStorage
        m.submodules.storage = storage = storage_type(self.words)

        request, response = self.bus.request, self.bus.response
        owed = Signal()
        was_write = Signal()
        taken = request.valid & request.ready
        m.d.comb += [
            request.ready.eq(~owed),
            response.valid.eq(owed),
            self.index.eq(request.p.address[2:]),
            self.written.eq(taken & request.p.write & request.p.select.any()),
            storage.port.index.eq(self.index),
            storage.port.read.eq(taken),
            storage.port.write_data.eq(request.p.data),
        ]
        with m.If(taken & request.p.write):
            m.d.comb += storage.port.write.eq(request.p.select)
        with m.If(~was_write):
            m.d.comb += response.p.data.eq(storage.port.read_data)
        with m.If(taken):
            m.d.sync += [owed.eq(1), was_write.eq(request.p.write)]
        with m.If(response.valid & response.ready):
            m.d.sync += owed.eq(0)
        return m
