"""Performance monitoring units, and a bank of them that shares one interrupt line.

The line is why they are here: several instances, one level, and drivers that must agree on the
CPU that takes it. Counting is real but modest.
"""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .bus import BusSignature, ErrorTarget
from .registers.pmu import (
    COUNTER_BITS,
    EVENT_CYCLES,
    EVENT_EXTERNAL,
    FRAME_SIZE,
    MAX_COUNTERS,
    CounterControl,
    PmuRegister,
    counter_control,
    counter_value,
    event_counter,
    event_type,
)
from .tap import EventKind, TapSignature, tap_event

FIRST_UNIT = 0x80
"""``unit`` of instance 0 on the tap; endpoints count from 0."""

EVENT_TYPE_BITS = 5


def _check(name, value, low, high):
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name} must be between {low} and {high}, not {value}")


class Pmu(wiring.Component):
    """Counters of 32 bits that set an overflow status bit when they wrap.

    A period of ``n`` events is a counter preloaded with ``2**32 - n``. A counter runs on after
    it wrapped.

    SMMUv3 view. A counter counts while CR bit 0 and its bit of CNTEN are set, whatever EVTYPER
    selects: clocks (0, also after reset), strobes of ``count`` (1), nothing (others). ``irq``
    is high while a counter has its overflow status and its INTEN bit set and IRQ_CTRL bit 0 is
    set. OVSCLR clears the bits written as 1, OVSSET sets them, and both read as the status; the
    CNTEN and INTEN pairs likewise. EVTYPER keeps its low 16 bits, in 5: 31 for all that is more.

    DMC-620 view. CONTROL holds a counter's own enable and event, VALUE is the counter, and the
    status register is a plain one: what is written stands there, so that writing 0 clears all,
    read before or not. That unit has no common enables. A counter whose CONTROL was written
    last counts and interrupts without regard to CR, IRQ_CTRL and INTEN, until CNTENSET or
    CNTENCLR name it.

    In one clock:

    * an overflow wins over every write to the status: none is lost;
    * a write to a counter wins over a count, which is then lost with what it would have wrapped;
    * an ``overflow`` strobe wins over a write to the counter's enable and value: a counter that is
      enabled when the strobe comes does overflow.

    Accesses: whole words; a write of less is answered with an error and does nothing. Unused
    offsets and the upper halves of 64-bit registers read zero and ignore writes.

    Timing: an access takes effect in the clock it is taken and is answered in the next; status
    and ``irq`` follow an overflow by one clock, and ``irq`` a write likewise.

    Simplifications: no filters, no capture, no MSI of its own, two events, one of the DMC-620's
    two clock domains (OVERFLOW_STATUS_CLK reads zero): nothing the shared line depends on.

    Source: the registers as drivers/perf/arm_smmuv3_pmu.c and arm_dmc620_pmu.c use them.

    Parameters
    ----------
    instance : int
        Number on the tap, 0 to 127.
    counters : int
        1 to 4.

    Members
    -------
    bus : In(BusSignature())
        The low 12 bits of the address count.
    count : In(counters)
        Strobes, one event each clock, for counters that count event 1.
    overflow : In(counters)
        Strobes: the counter wraps to zero now, whatever it counts. A counter that is not
        counting ignores it.
    irq : Out(1)
        Level.
    tap : Out(TapSignature())
        DEVICE_EVENT in the clock of an overflow, or of a write that sets status bits: ``unit``
        0x80 + instance, ``data`` the mask of these counters, ``id`` the lowest of them.
    """

    def __init__(self, instance: int = 0, *, counters: int = 2):
        _check("PMU instance", instance, 0, 127)
        _check("Number of PMU counters", counters, 1, MAX_COUNTERS)
        self._instance = instance
        self._counters = counters
        super().__init__(
            {
                "bus": In(BusSignature()),
                "count": In(counters),
                "overflow": In(counters),
                "irq": Out(1),
                "tap": Out(TapSignature()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        request, response = self.bus.request, self.bus.response
        owed = Signal()
        answer = Signal.like(response.payload)
        partial = request.p.write & ~request.p.select.all()
        taken = Signal()
        m.d.comb += [
            request.ready.eq(~owed),
            taken.eq(request.valid & request.ready),
            response.valid.eq(owed),
            response.payload.eq(answer),
        ]
        value = Signal(32)
        with m.If(taken):
            m.d.sync += [
                owed.eq(1),
                answer.error.eq(partial),
                answer.data.eq(Mux(request.p.write, 0, value)),
            ]
        with m.If(response.valid & response.ready):
            m.d.sync += owed.eq(0)

        write = Signal()
        m.d.comb += write.eq(taken & request.p.write & ~partial)
        self._registers(m, request.p.address[:12], write, request.p.data, value)
        return m

    def _registers(self, m, offset, write, written, value):
        n = self._counters
        values = [Signal(COUNTER_BITS, name=f"value_{i}") for i in range(n)]
        types = [Signal(EVENT_TYPE_BITS, name=f"type_{i}") for i in range(n)]
        enabled = Signal(n)
        direct = Signal(n)  # controlled through the DMC-620 view
        interrupting = Signal(n)
        status = Signal(n)
        running = Signal()
        signalling = Signal()

        counting = Signal(n)
        overflows = Signal(n)
        m.d.comb += [
            counting.eq(enabled & (direct | running.replicate(n))),
            self.irq.eq((status & (direct | (interrupting & signalling.replicate(n)))).any()),
        ]
        for i in range(n):
            event = (types[i] == EVENT_CYCLES) | ((types[i] == EVENT_EXTERNAL) & self.count[i])
            wraps = values[i].all() & event
            value_written = Signal(name=f"value_written_{i}")
            m.d.comb += [
                value_written.eq(
                    write & ((offset == event_counter(i)) | (offset == counter_value(i)))
                ),
                overflows[i].eq(counting[i] & (self.overflow[i] | (wraps & ~value_written))),
            ]
            with m.If(counting[i] & self.overflow[i]):
                m.d.sync += values[i].eq(0)
            with m.Elif(value_written):
                m.d.sync += values[i].eq(written)
            with m.Elif(counting[i] & event):
                m.d.sync += values[i].eq(values[i] + 1)

        status_next = Signal(n)
        set_by_write = Signal(n)
        m.d.comb += [status_next.eq(status), set_by_write.eq(status_next & ~status)]
        m.d.sync += status.eq(status_next | overflows)
        self._report(m, overflows | set_by_write)

        with m.Switch(offset):
            for i in range(n):
                with m.Case(event_counter(i), counter_value(i)):
                    m.d.comb += value.eq(values[i])
                with m.Case(event_type(i)):
                    m.d.comb += value.eq(types[i])
                    with m.If(write):
                        # A type too large for the field must not look like a small one.
                        too_large = written[EVENT_TYPE_BITS:16].any()
                        m.d.sync += types[i].eq(written | too_large.replicate(EVENT_TYPE_BITS))
                with m.Case(counter_control(i)):
                    control = data.View(CounterControl, value[: CounterControl.as_shape().size])
                    written_control = data.View(
                        CounterControl, written[: CounterControl.as_shape().size]
                    )
                    m.d.comb += [control.enable.eq(enabled[i]), control.event.eq(types[i])]
                    with m.If(write):
                        m.d.sync += [
                            direct[i].eq(1),
                            enabled[i].eq(written_control.enable),
                            types[i].eq(written_control.event),
                        ]
            with m.Case(PmuRegister.OVERFLOW_STATUS):
                m.d.comb += value.eq(status)
                with m.If(write):
                    m.d.comb += status_next.eq(written)
            with m.Case(PmuRegister.CNTENSET):
                m.d.comb += value.eq(enabled)
                with m.If(write):
                    m.d.sync += [enabled.eq(enabled | written), direct.eq(direct & ~written)]
            with m.Case(PmuRegister.CNTENCLR):
                m.d.comb += value.eq(enabled)
                with m.If(write):
                    m.d.sync += [enabled.eq(enabled & ~written), direct.eq(direct & ~written)]
            with m.Case(PmuRegister.INTENSET):
                m.d.comb += value.eq(interrupting)
                with m.If(write):
                    m.d.sync += interrupting.eq(interrupting | written)
            with m.Case(PmuRegister.INTENCLR):
                m.d.comb += value.eq(interrupting)
                with m.If(write):
                    m.d.sync += interrupting.eq(interrupting & ~written)
            with m.Case(PmuRegister.OVSSET):
                m.d.comb += value.eq(status)
                with m.If(write):
                    m.d.comb += status_next.eq(status | written)
            with m.Case(PmuRegister.OVSCLR):
                m.d.comb += value.eq(status)
                with m.If(write):
                    m.d.comb += status_next.eq(status & ~written)
            with m.Case(PmuRegister.CFGR):
                m.d.comb += value.eq((COUNTER_BITS - 1) << 8 | (n - 1))
            with m.Case(PmuRegister.CEID):
                m.d.comb += value.eq(1 << EVENT_CYCLES | 1 << EVENT_EXTERNAL)
            with m.Case(PmuRegister.CR):
                m.d.comb += value.eq(running)
                with m.If(write):
                    m.d.sync += running.eq(written[0])
            with m.Case(PmuRegister.IRQ_CTRL):
                m.d.comb += value.eq(signalling)
                with m.If(write):
                    m.d.sync += signalling.eq(written[0])

    def _report(self, m, events):
        with m.If(events.any()):
            m.d.comb += tap_event(
                self.tap, EventKind.DEVICE_EVENT, unit=FIRST_UNIT + self._instance, data=events
            )
        for i in reversed(range(self._counters)):
            with m.If(events[i]):
                m.d.comb += self.tap.record.id.eq(i)


class PmuBank(wiring.Component):
    """Several :class:`Pmu` behind one bus port, their interrupts ORed onto one level line.

    Instance ``i`` answers at ``i * 4096``; an access beyond the last is an error. Timing as of
    one :class:`Pmu`; ``line`` adds none.

    Parameters
    ----------
    pmus : int
        Instances, 1 to 64.
    counters : int
        Of each, 1 to 4.

    Members
    -------
    bus : In(BusSignature())
        The low :attr:`address_bits` bits of the address count.
    line : Out(1)
        Level, active high.
    count, overflow : arrays of In(counters), one for each instance
        See :class:`Pmu`.
    tap : array of Out(TapSignature()), one for each instance
    """

    def __init__(self, pmus: int, *, counters: int = 2):
        _check("Number of PMUs", pmus, 1, 64)
        self._pmus = [Pmu(i, counters=counters) for i in range(pmus)]
        super().__init__(
            {
                "bus": In(BusSignature()),
                "line": Out(1),
                "count": In(counters).array(pmus),
                "overflow": In(counters).array(pmus),
                "tap": Out(TapSignature()).array(pmus),
            }
        )

    @property
    def size(self) -> int:
        """Bytes of address space that the bank decodes: a power of two."""
        return FRAME_SIZE << (len(self._pmus) - 1).bit_length()

    @property
    def address_bits(self) -> int:
        return (self.size - 1).bit_length()

    def elaborate(self, platform):
        m = Module()
        m.submodules.beyond = beyond = ErrorTarget()
        frame = self.bus.request.p.address[FRAME_SIZE.bit_length() - 1 : self.address_bits]
        targets = [pmu.bus for pmu in self._pmus]
        for i, pmu in enumerate(self._pmus):
            m.submodules[f"pmu{i}"] = pmu
            m.d.comb += [
                pmu.count.eq(self.count[i]),
                pmu.overflow.eq(self.overflow[i]),
                self.tap[i].valid.eq(pmu.tap.valid),
                self.tap[i].record.eq(pmu.tap.record),
            ]
        m.d.comb += self.line.eq(Cat(pmu.irq for pmu in self._pmus).any())

        # One request is under way at most: whoever answers is the one who was asked.
        owed = Signal()
        request, response = self.bus.request, self.bus.response
        m.d.comb += request.ready.eq(~owed)
        for i, target in enumerate([*targets, beyond.bus]):
            chosen = frame == i if i < len(targets) else frame >= len(targets)
            m.d.comb += [
                target.request.valid.eq(request.valid & ~owed & chosen),
                target.request.payload.eq(request.payload),
                target.response.ready.eq(response.ready),
            ]
            with m.If(target.response.valid):
                m.d.comb += [response.valid.eq(1), response.payload.eq(target.response.payload)]
        with m.If(request.valid & request.ready):
            m.d.sync += owed.eq(1)
        with m.If(response.valid & response.ready):
            m.d.sync += owed.eq(0)
        return m
