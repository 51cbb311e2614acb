"""CPUs that make each other do things: cross calls by IPI, stop_machine, hotplug."""

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from hdl.probe import CpuContext

from .locks import Mutex
from .ops import Context, Software

if TYPE_CHECKING:
    from .cpu import Cpu
    from .machine import Machine

Send = Callable[["Cpu", int], Coroutine[Any, Any, None]]
"""``await send(cpu, target)``: the hardware accesses that raise the IPI at CPU ``target``."""


_STOPPED: Context = CpuContext.STOP_MACHINE


class _Call:
    __slots__ = ("done", "function")

    def __init__(self, function: Software):
        self.function = function
        self.done = False


class CrossCalls:
    """Functions that one CPU runs on another, through a mailbox and an IPI.

    As in the kernel the IPI is sent only when the mailbox was empty: one IPI, not yet taken,
    stands for every call queued behind it. The software that takes the IPI calls :meth:`handle`.

    Parameters
    ----------
    machine : Machine
    send : async function (cpu, target) or None
        None: no hardware, the target runs its mailbox as a softirq at its next boundary.

    Attributes
    ----------
    sent : int
        IPIs sent so far.
    """

    def __init__(self, machine: "Machine", send: Send | None = None):
        self._machine = machine
        self._send = send
        self._mailboxes: list[list[_Call]] = [[] for _ in machine.cpus]
        self.stop_mutex = Mutex("stop_machine")
        self.sent = 0

    async def call(self, cpu: "Cpu", target: int, function: Software, *, wait: bool = True) -> bool:
        """Run ``function(target's cpu)`` on CPU ``target``; False if that is offline.

        On the caller's own CPU it runs at once, interrupts masked. ``wait`` spins until it has
        ended; with interrupts masked that can dead-lock, and is recorded as misuse.
        """
        if target not in range(len(self._mailboxes)):
            raise ValueError(
                f"The target of a cross call must be CPU 0 to {len(self._mailboxes) - 1}, "
                f"not {target}"
            )
        if target == cpu.index:
            async with cpu.irqs_disabled():
                await function(cpu)
            return True
        if not self._machine.cpus[target].online:
            return False
        if wait and cpu.irqs_off:
            cpu.misuse("a cross call waits with interrupts masked", target=target)
        # Others rely on the IPI of whoever found the mailbox empty: no stopper may come between.
        async with cpu.preemption_disabled():
            mailbox = self._mailboxes[target]
            call = _Call(function)
            mailbox.append(call)
            if len(mailbox) == 1:
                self.sent += 1
                if self._send is None:
                    self._machine.cpus[target].raise_softirq(self.handle)
                else:
                    await self._send(cpu, target)
            if wait:
                await cpu.spin_until(lambda: call.done)
        return True

    async def handle(self, cpu: "Cpu") -> int:
        """Run what is in this CPU's mailbox; returns how many calls that were."""
        mailbox = self._mailboxes[cpu.index]
        calls = mailbox[:]
        mailbox.clear()
        for call in calls:
            await call.function(cpu)
            call.done = True
        return len(calls)


class _Stop:
    """One stop_machine under way; each online CPU runs :meth:`join` once."""

    def __init__(self, function: Software, runner: "Cpu", calls: CrossCalls, cpus: int):
        self._function = function
        self._runner = runner
        self._calls = calls
        self._cpus = cpus
        self._arrived = 0
        self._masked = 0
        self._done = False
        self.result: Any = None

    async def queue(self, cpu: "Cpu") -> None:
        """What the IPI brings: the stopper runs once the task below can be preempted."""
        cpu.preempt(self.join_and_die)

    async def join_and_die(self, cpu: "Cpu") -> None:
        await self.join(cpu)
        if not cpu.online:
            await cpu.die()

    async def join(self, cpu: "Cpu") -> None:
        with cpu.context(_STOPPED):
            # No one masks before all are here: a CPU on its way may need an answer to an IPI.
            self._arrived += 1
            await self._until(cpu, lambda: self._arrived == self._cpus)
            saved = cpu.mask()
            self._masked += 1
            await self._until(cpu, lambda: self._masked == self._cpus)
            if cpu is self._runner:
                try:
                    self.result = await self._function(cpu)
                finally:
                    self._done = True
            else:
                await self._until(cpu, lambda: self._done)
            if not cpu.online:
                await self._calls.handle(cpu)  # what would be lost with this CPU
                return
            await cpu.restore(saved)

    async def _until(self, cpu: "Cpu", predicate: Callable[[], bool]) -> None:
        await cpu.spin_until(predicate, context=_STOPPED)


async def stop_machine(
    cpu: "Cpu", function: Software, calls: CrossCalls, *, on: int | None = None
) -> Any:
    """Run ``function(cpu)`` while every other online CPU spins with interrupts masked.

    ``on`` is the CPU that runs it (default: the caller's). Called from a task. The others are
    reached by cross calls, and join once they hold no spinlock and are in no interrupt.
    Returns what the function returned.

    A function that clears ``online`` of the CPU it runs on takes that CPU down: it runs what is
    left in its mailbox and goes offline without unmasking. If that is the caller's own CPU,
    this does not return.
    """
    cpu.check_may_sleep("stop_machine")
    runner = cpu.machine.cpus[cpu.index if on is None else on]
    async with calls.stop_mutex.guard(cpu):
        if not runner.online:
            raise ValueError(f"stop_machine cannot run on CPU {runner.index}, which is offline")
        online = [other for other in cpu.machine.cpus if other.online]
        stop = _Stop(function, runner, calls, len(online))
        for other in online:
            if other is not cpu:
                await calls.call(cpu, other.index, stop.queue, wait=False)
        await stop.join(cpu)
    if not cpu.online:
        await cpu.die()
    return stop.result
