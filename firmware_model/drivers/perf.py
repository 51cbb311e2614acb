"""perf as the drivers of uncore PMUs need it: events that belong to a CPU, and move with it.

An event's CPU is the only one that schedules it and the only one that may run its overflow
handler, interrupts masked in both: that is all that keeps the two apart.

Source: kernel/events/core.c (perf_install_in_context, perf_pmu_migrate_context).
"""

from typing import TYPE_CHECKING

from ..core.records import Kind
from ..machine.cpu import Cpu
from ..machine.locks import Mutex
from ..machine.machine import Machine
from ..machine.smp import CrossCalls

if TYPE_CHECKING:
    from .pmu import Pmu


class PerfEvent:
    """A sampling event on one counter.

    Attributes
    ----------
    cpu : int
        Whose it is.
    samples : int
        Overflows handled.
    """

    def __init__(self, pmu: "Pmu", counter: int, cpu: int):
        self.pmu = pmu
        self.counter = counter
        self.cpu = cpu
        self.samples = 0

    async def schedule_in(self, cpu: Cpu) -> None:
        """On its CPU, interrupts masked: it counts from now on."""
        await self.pmu.disable(cpu)
        await self.pmu.add(cpu, self)
        await self.pmu.enable(cpu)

    async def schedule_out(self, cpu: Cpu) -> None:
        """On its CPU, interrupts masked: it no longer counts."""
        await self.pmu.disable(cpu)
        await self.pmu.delete(cpu, self)
        await self.pmu.enable(cpu)


class Perf:
    """The events' side of all PMUs.

    Parameters
    ----------
    machine : Machine
    calls : CrossCalls
    rcu : int
        Clocks that synchronize_rcu takes.
    """

    def __init__(self, machine: Machine, calls: CrossCalls, *, rcu: int = 40):
        self._calls = calls
        self._rcu = rcu
        self._contexts = [
            Mutex(f"perf context {cpu.index}", lock_class="perf context") for cpu in machine.cpus
        ]

    async def open(self, cpu: Cpu, pmu: "Pmu", counter: int, owner: int) -> PerfEvent:
        """A new event on ``counter``, which belongs to CPU ``owner``."""
        event = PerfEvent(pmu, counter, owner)
        async with self._contexts[owner].guard(cpu):
            await self._calls.call(cpu, owner, event.schedule_in)
        return event

    async def migrate_context(self, cpu: Cpu, pmu: "Pmu", source: int, target: int) -> int:
        """Give every event that ``pmu`` has on CPU ``source`` to CPU ``target``.

        Returns the clock from which on the first of them belongs there.
        """
        first, second = sorted((source, target))
        async with self._contexts[first].guard(cpu), self._contexts[second].guard(cpu):
            leaving = [event for event in pmu.events.values() if event.cpu == source]
            for event in leaving:
                await self._calls.call(cpu, source, event.schedule_out)
            await cpu.delay(self._rcu)
            moved = cpu.machine.cycle
            for event in leaving:
                event.cpu = target
                cpu.log(Kind.EVENT_MOVED, pmu=pmu.index, counter=event.counter, target=target)
                await self._calls.call(cpu, target, event.schedule_in)
        return moved
