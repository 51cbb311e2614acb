"""Drivers of performance monitoring units: counters that overflow, and what clears that.

Two kinds, as the two views of the hardware (:mod:`hdl.registers.pmu`). How several of them share
one line is not decided here: see :mod:`firmware_model.strategies.shared_pmu`.

Source: drivers/perf/arm_smmuv3_pmu.c and arm_dmc620_pmu.c, as in the facts on Linux, section 6.
"""

from hdl.registers.pmu import (
    COUNTER_BITS,
    EVENT_EXTERNAL,
    CounterControl,
    PmuRegister,
    counter_control,
    counter_value,
    event_counter,
    event_type,
)

from ..core.cpumask import cpus_in as bits_in
from ..core.records import Kind
from ..machine.cpu import Cpu
from .perf import PerfEvent

COUNTERS = 2
PERIOD = 1 << COUNTER_BITS - 1
"""Events between overflows: half of what a counter can hold, so that a late handler loses none."""

ALL = (1 << COUNTERS) - 1
RUNNING = CounterControl.const({"enable": 1, "event": EVENT_EXTERNAL}).as_bits()


class Pmu:
    """One unit. What it does to its registers is up to its kind.

    Parameters
    ----------
    index : int
    base : int
        Its register frame.

    Attributes
    ----------
    events : dict of counter to PerfEvent
        Those that count now.
    """

    def __init__(self, index: int, base: int):
        self.index = index
        self.base = base
        self.events: dict[int, PerfEvent] = {}

    async def reset(self, cpu: Cpu) -> None:
        """Before the line is requested: nothing counts, nothing has overflowed."""
        raise NotImplementedError(f"{type(self).__name__} has no reset")

    async def enable(self, cpu: Cpu) -> None:
        """Let the unit count as a whole, if it can be told that."""

    async def disable(self, cpu: Cpu) -> None:
        """Take that back while events come and go."""

    async def add(self, cpu: Cpu, event: PerfEvent) -> None:
        """Let ``event`` count."""
        raise NotImplementedError(f"{type(self).__name__} has no add")

    async def delete(self, cpu: Cpu, event: PerfEvent) -> None:
        """``event`` counts no more. An overflow that has happened stays in the status."""
        raise NotImplementedError(f"{type(self).__name__} has no delete")

    async def handle(self, cpu: Cpu) -> bool:
        """The interrupt handler's part for this unit; False if it had nothing to do with it."""
        raise NotImplementedError(f"{type(self).__name__} has no handle")

    def note_overflow(self, cpu: Cpu, counter: int) -> PerfEvent | None:
        """Whose overflow this is; None, with a warning, for a counter without an event."""
        event = self.events.get(counter)
        owner = None if event is None else event.cpu
        cpu.log(Kind.PMU_OVERFLOW, pmu=self.index, counter=counter, event_cpu=owner)
        if event is None:
            cpu.log(Kind.WARNING, text="an overflow without an event", pmu=self.index)
        else:
            event.samples += 1
        return event

    async def _load(self, cpu: Cpu, offset: int) -> int:
        return await cpu.load(self.base + offset)

    async def _store(self, cpu: Cpu, offset: int, value: int) -> None:
        await cpu.store(self.base + offset, value)


class SmmuPmu(Pmu):
    """The performance monitor counter group of an SMMUv3: set and clear registers throughout."""

    async def reset(self, cpu: Cpu) -> None:
        await self.disable(cpu)
        await cpu.store64(self.base + PmuRegister.CNTENCLR, ALL)
        await cpu.store64(self.base + PmuRegister.INTENCLR, ALL)
        await cpu.store64(self.base + PmuRegister.OVSCLR, ALL)

    async def enable(self, cpu: Cpu) -> None:
        await self._store(cpu, PmuRegister.IRQ_CTRL, 1)
        await self._store(cpu, PmuRegister.CR, 1)

    async def disable(self, cpu: Cpu) -> None:
        await self._store(cpu, PmuRegister.CR, 0)
        await self._store(cpu, PmuRegister.IRQ_CTRL, 0)

    async def add(self, cpu: Cpu, event: PerfEvent) -> None:
        bit = 1 << event.counter
        self.events[event.counter] = event
        await cpu.store64(self.base + PmuRegister.INTENSET, bit)
        await self._set_period(cpu, event)
        await self._store(cpu, event_type(event.counter), EVENT_EXTERNAL)
        await cpu.store64(self.base + PmuRegister.CNTENSET, bit)

    async def delete(self, cpu: Cpu, event: PerfEvent) -> None:
        bit = 1 << event.counter
        await cpu.store64(self.base + PmuRegister.CNTENCLR, bit)
        await self._load(cpu, event_counter(event.counter))
        await cpu.store64(self.base + PmuRegister.INTENCLR, bit)
        del self.events[event.counter]

    async def handle(self, cpu: Cpu) -> bool:
        """Clears what it has read and nothing else, so an overflow meanwhile stays."""
        status = await cpu.load64(self.base + PmuRegister.OVSSET)
        if not status:
            return False
        await cpu.store64(self.base + PmuRegister.OVSCLR, status)
        for counter in bits_in(status):
            event = self.note_overflow(cpu, counter)
            if event is not None:
                await self._load(cpu, event_counter(counter))
                await self._set_period(cpu, event)
        return True

    async def _set_period(self, cpu: Cpu, event: PerfEvent) -> None:
        await self._store(cpu, event_counter(event.counter), (1 << COUNTER_BITS) - PERIOD)


class Dmc620Pmu(Pmu):
    """A memory controller's: no common switch, and a status that is cleared as a whole.

    The handler therefore stops every counter before it looks, and says HANDLED whatever it finds.
    """

    async def reset(self, cpu: Cpu) -> None:
        for counter in range(COUNTERS):
            await self._store(cpu, counter_control(counter), 0)
        await self._store(cpu, PmuRegister.OVERFLOW_STATUS, 0)
        await self._store(cpu, PmuRegister.OVERFLOW_STATUS_CLK, 0)

    async def add(self, cpu: Cpu, event: PerfEvent) -> None:
        self.events[event.counter] = event
        await self._set_period(cpu, event)
        await self._start(cpu, event.counter)

    async def delete(self, cpu: Cpu, event: PerfEvent) -> None:
        await self._stop(cpu, event.counter)
        await self._load(cpu, counter_value(event.counter))
        del self.events[event.counter]

    async def handle(self, cpu: Cpu) -> bool:
        await self.freeze(cpu)
        words = [PmuRegister.OVERFLOW_STATUS, PmuRegister.OVERFLOW_STATUS_CLK]
        found = [(word, await self._load(cpu, word)) for word in words]
        for counter in bits_in(found[0][1]):
            event = self.note_overflow(cpu, counter)
            if event is not None:
                await self._load(cpu, counter_value(counter))
                await self._set_period(cpu, event)
        for word, status in found:
            if status:
                await self._store(cpu, word, 0)
        await self.thaw(cpu)
        return True

    async def freeze(self, cpu: Cpu) -> None:
        """Stop every counter: none overflows between the look at the status and its clearing."""
        for counter in list(self.events):
            await self._stop(cpu, counter)

    async def thaw(self, cpu: Cpu) -> None:
        """Take that back, for those that have an event still."""
        for counter in list(self.events):
            await self._start(cpu, counter)

    async def _start(self, cpu: Cpu, counter: int) -> None:
        await self._store(cpu, counter_control(counter), RUNNING)

    async def _stop(self, cpu: Cpu, counter: int) -> None:
        await self._store(cpu, counter_control(counter), 0)

    async def _set_period(self, cpu: Cpu, event: PerfEvent) -> None:
        await self._store(cpu, counter_value(event.counter), (1 << COUNTER_BITS) - PERIOD)


class LiveDmc620Pmu(Dmc620Pmu):
    """A mutation: the counters run on while the status is read and cleared. It must lose."""

    async def freeze(self, cpu: Cpu) -> None:
        """Trust that none overflows now."""

    async def thaw(self, cpu: Cpu) -> None:
        """They run."""


class UnclearedDmc620Pmu(Dmc620Pmu):
    """A mutation: what the firmware left in the status is still there when the line goes live."""

    async def reset(self, cpu: Cpu) -> None:
        """Trust that it is clear."""
