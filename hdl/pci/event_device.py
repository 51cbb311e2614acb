"""The function's own work: events, their count and acknowledgement, and what makes them."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..registers import pci
from ..registers.pci import Device
from .interfaces import VECTOR_BITS, AccessSignature, RegistersSignature, lanes, merge

GENERATOR_REGISTERS = (
    Device.GENERATOR_PERIOD,
    Device.GENERATOR_BURST,
    Device.GENERATOR_COUNT,
    Device.GENERATOR_CONTROL,
)


class EventDevice(wiring.Component):
    """Event sources and the registers of :class:`hdl.registers.pci.Device`.

    Three sources, at most one event a clock. The stimulus goes first and always counts in its own
    clock; then a TRIGGER write, which waits meanwhile (a second one then replaces it); then the
    generator, which is held up meanwhile. An event for a vector that the function does not have
    counts for vector 0.

    An access is answered a clock after it is taken. A write that meets the generator's own
    update of a register, or an acknowledgement that meets an event: the write wins the register,
    and the event counts, so the cause stays.

    Parameters
    ----------
    vectors : int
        1 to 64.
    basic : bool
        Neither generator nor data writes: their registers read as zero and ignore writes.

    Members
    -------
    registers : In(AccessSignature(12))
        The lower half of the BAR.
    stimulus, stimulus_vector : In
    event, vector : Out
        An event, in this clock.
    count : Out(32)
        Events before this clock.
    cause : Out(1)
        COUNT differs from ACKNOWLEDGE.
    dma_enable, dma_address : Out
    waiting : In(1)
        For the status register: an interrupt has not been sent yet.
    """

    def __init__(self, *, vectors: int, basic: bool = False):
        self._vectors = vectors
        self._basic = basic
        super().__init__(
            {
                "registers": In(AccessSignature(12)),
                "stimulus": In(1),
                "stimulus_vector": In(VECTOR_BITS),
                "event": Out(1),
                "vector": Out(VECTOR_BITS),
                "count": Out(32),
                "cause": Out(1),
                "dma_enable": Out(1),
                "dma_address": Out(64),
                "waiting": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        acknowledged = Signal(32)
        triggered = Signal()
        triggered_vector = Signal(VECTOR_BITS)
        chosen = Signal(VECTOR_BITS)
        generated, running = Signal(), Signal()
        m.d.comb += [
            self.event.eq(self.stimulus | triggered | generated),
            self.vector.eq(Mux(chosen < self._vectors, chosen, 0)),
            self.cause.eq(self.count != acknowledged),
        ]
        generator = None
        if not self._basic:
            m.submodules.generator = generator = EventGenerator(vectors=self._vectors)
            m.d.comb += [generated.eq(generator.want), running.eq(generator.running)]
        with m.If(self.stimulus):
            m.d.comb += chosen.eq(self.stimulus_vector)
        with m.Elif(triggered):
            m.d.comb += chosen.eq(triggered_vector)
            m.d.sync += triggered.eq(0)
        if generator:
            with m.Else():
                m.d.comb += [chosen.eq(generator.vector), generator.grant.eq(1)]
        with m.If(self.event):
            m.d.sync += self.count.eq(self.count + 1)

        self._registers(m, generator, running, acknowledged, triggered, triggered_vector)
        return m

    def _registers(self, m, generator, running, acknowledged, triggered, triggered_vector):
        request, response = self.registers.request, self.registers.response
        owed = Signal()
        value = Signal(32)
        taken = request.valid & request.ready
        m.d.comb += [request.ready.eq(~owed), response.valid.eq(owed)]
        with m.If(taken):
            m.d.sync += [owed.eq(1), response.payload.eq(Mux(request.p.write, 0, value))]
        with m.If(response.valid & response.ready):
            m.d.sync += owed.eq(0)

        data = request.p.data
        write = Mux(taken & request.p.write, request.p.select, 0)

        def writable(register):
            bits = lanes(write)[: len(register)]
            return register.eq((register & ~bits) | (data & bits))

        with m.Switch(request.p.address):
            with m.Case(Device.IDENTITY):
                m.d.comb += value.eq(pci.IDENTITY)
            with m.Case(Device.COUNT):
                m.d.comb += value.eq(self.count)
            with m.Case(Device.ACKNOWLEDGE):
                m.d.comb += value.eq(acknowledged)
                m.d.sync += writable(acknowledged)
            with m.Case(Device.STATUS):
                m.d.comb += value.eq(Cat(self.cause, self.waiting, running))
            with m.Case(Device.TRIGGER), m.If(write.any()):
                m.d.sync += [triggered.eq(1), triggered_vector.eq(data)]
            if generator:
                with m.Case(Device.DMA_ADDRESS_LO):
                    m.d.comb += value.eq(self.dma_address[:32])
                    new = merge(self.dma_address[:32], data, write)
                    m.d.sync += self.dma_address[2:32].eq(new[2:])
                with m.Case(Device.DMA_ADDRESS_HI):
                    m.d.comb += value.eq(self.dma_address[32:])
                    m.d.sync += writable(self.dma_address[32:])
                with m.Case(Device.DMA_CONTROL):
                    m.d.comb += value.eq(self.dma_enable)
                    m.d.sync += writable(self.dma_enable)
                with m.Case(*GENERATOR_REGISTERS):
                    m.d.comb += [
                        generator.registers.data.eq(data),
                        generator.registers.index.eq(request.p.address[2:4]),
                        generator.registers.select.eq(write),
                        value.eq(generator.registers.value),
                    ]


class EventGenerator(wiring.Component):
    """Bursts of events: ``burst`` events, one a clock, every ``period`` clocks, ``count`` times.

    The first burst starts in the clock after RUN was written; a period counts from start to
    start, and a burst that lasts longer than the period delays the next. Clearing RUN lets the
    burst under way end. A register write wins over the generator's own update of that register.

    Members
    -------
    registers : In(RegistersSignature(2))
        PERIOD, BURST, COUNT, CONTROL.
    want : Out(1)
        There is an event for ``vector``. It happens in the clock in which ``grant`` is high.
    vector : Out(6)
    grant : In(1)
    running : Out(1)
    """

    def __init__(self, *, vectors: int):
        self._vectors = vectors
        super().__init__(
            {
                "registers": In(RegistersSignature(2)),
                "want": Out(1),
                "vector": Out(VECTOR_BITS),
                "grant": In(1),
                "running": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        period = Signal(16)
        burst = Signal(8)
        count = Signal(16)
        rotate = Signal()
        first = Signal(VECTOR_BITS)

        until_next = Signal(16)
        left = Signal(8)
        offset = Signal(VECTOR_BITS)
        m.d.comb += [
            self.want.eq(left.any()),
            self.vector.eq(Mux(rotate, offset, first)),
        ]
        with m.If(self.want & self.grant):
            m.d.sync += [
                left.eq(left - 1),
                offset.eq(Mux(offset >= self._vectors - 1, 0, offset + 1)),
            ]
        with m.If(until_next.any()):
            m.d.sync += until_next.eq(until_next - 1)
        with m.Elif(self.running & ~self.want):
            m.d.sync += [
                left.eq(Mux(burst.any(), burst, 1)),
                until_next.eq(Mux(period.any(), period - 1, 0)),
            ]
            with m.If(count.any()):
                m.d.sync += count.eq(count - 1)
            with m.If(count == 1):
                m.d.sync += self.running.eq(0)

        data = self.registers.data
        select = self.registers.select
        value = self.registers.value

        def writable(register):
            bits = lanes(select)[: len(register)]
            return register.eq((register & ~bits) | (data & bits))

        with m.Switch(self.registers.index):
            for index, register in enumerate((period, burst, count)):
                with m.Case(index):
                    m.d.comb += value.eq(register)
                    with m.If(select.any()):
                        m.d.sync += writable(register)
            with m.Case(3):
                m.d.comb += value.eq(Cat(self.running, rotate, Const(0, 6), first))
                with m.If(select[0]):
                    m.d.sync += [self.running.eq(data[0]), rotate.eq(data[1]), until_next.eq(0)]
                with m.If(select[1]):
                    m.d.sync += [first.eq(data[8:14]), offset.eq(data[8:14])]
        return m
