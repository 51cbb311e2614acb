"""Locks between CPUs, and the order they are taken in.

Only machine operations give the CPU away, so a lock excludes anyone only across operations,
delays and waits: as in the kernel, where it is the accesses that take long.
"""

from collections import deque
from typing import TYPE_CHECKING, Any

from hdl.probe import CpuContext

from .cpu import leave_mask
from .ops import Context, Frame

if TYPE_CHECKING:
    from .cpu import Cpu


class SpinLock:
    """A raw spinlock, handed over in the order in which it was asked for.

    The hand-over costs no time: who waited longest goes on in the same clock, even if an
    interrupt runs on its CPU just then (the others then wait for that handler too, as they do
    behind a ticket or queue lock). Waiting CPUs take interrupts if unmasked.

    Recorded, never raised: a release by a CPU that does not hold the lock (which is ignored);
    software that ends with the lock held; waiting that can never end (see :class:`Record`).

    Parameters
    ----------
    name : str
        In records; ``lock_class`` (default: ``name``) is what the lock order is about, for
        instance ``desc`` for every descriptor's lock.

    Attributes
    ----------
    owner : Cpu or None
    number : int
        Its number in ``machine.locks``, given when it is first taken or by
        ``machine.register(lock)``; the probe shows one more.
    """

    sleeps = False
    waiting_context: Context = CpuContext.SPIN

    __slots__ = ("holder", "lock_class", "name", "number", "owner", "waiters")

    def __init__(self, name: str, *, lock_class: str | None = None):
        self.name = name
        self.lock_class = name if lock_class is None else lock_class
        self.number = -1
        self.owner: Cpu | None = None
        self.holder: Frame | None = None
        self.waiters: deque[tuple[Cpu, Frame]] = deque()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    async def acquire(self, cpu: "Cpu") -> None:
        """Take the lock, waiting as long as it takes."""
        stall = cpu.count_step()
        if stall:
            await cpu.stall(stall)
        machine = cpu.machine
        if self.number < 0:
            machine.register(self)
        machine.lock_order.note(cpu, self)
        frame = cpu.frame
        assert frame is not None
        if self.owner is None:
            self._take(cpu, frame)
        else:
            self.waiters.append((cpu, frame))
            machine.find_deadlock(cpu, self)
            await cpu.wait_for(self, self.waiting_context)

    async def release(self, cpu: "Cpu") -> None:
        """Give the lock back: whoever waited longest has it at once."""
        stall = cpu.count_step()
        if stall:
            await cpu.stall(stall)
        self._give_back(cpu)
        await cpu.preemption_point()

    def try_acquire(self, cpu: "Cpu") -> bool:
        """Take the lock if it is free; whether it was."""
        machine = cpu.machine
        if self.number < 0:
            machine.register(self)
        if self.owner is not None:
            return False
        assert cpu.frame is not None
        self._take(cpu, cpu.frame)
        return True

    def guard(self, cpu: "Cpu") -> "_Guard":
        """``async with lock.guard(cpu):`` holds it; an exception that passes releases it."""
        return _Guard(self, cpu, False)

    def guard_irqsave(self, cpu: "Cpu") -> "_Guard":
        """As :meth:`guard`, with the CPU's interrupts masked from before the wait."""
        return _Guard(self, cpu, True)

    def _take(self, cpu: "Cpu", frame: Frame) -> None:
        machine = cpu.machine
        if machine.trace_locks:
            cpu.log("lock", lock=self.name, held=[lock.name for lock in cpu.locks])
        self.owner = cpu
        self.holder = frame
        cpu.locks.append(self)
        cpu.lane_changed = True

    def _give_back(self, cpu: "Cpu") -> None:
        machine = cpu.machine
        owner = self.owner
        if owner is not cpu:
            cpu.misuse(
                "a lock was released by a CPU that does not hold it",
                lock=self.name,
                owner=None if owner is None else owner.index,
            )
            return
        if machine.trace_locks:
            cpu.log("unlock", lock=self.name)
        cpu.locks.remove(self)
        cpu.lane_changed = True
        self.owner = self.holder = None
        if self.waiters:
            heir, frame = self.waiters.popleft()
            self._take(heir, frame)
            heir.granted(frame)
            # An heir below an interrupt handler that waits for this lock will never run.
            top = heir.frame
            if top is not None and top is not frame and top.lock is not None:
                machine.find_deadlock(heir, top.lock)


class Mutex(SpinLock):
    """A sleeping lock, for tasks only: misuse with a spinlock held or in an interrupt."""

    sleeps = True
    waiting_context = CpuContext.IDLE

    __slots__ = ()

    async def acquire(self, cpu: "Cpu") -> None:
        """Take the mutex, sleeping as long as it takes."""
        cpu.check_may_sleep(f"mutex {self.name}")
        await super().acquire(cpu)


class _Guard:
    __slots__ = ("_cpu", "_lock", "_mask", "_saved")

    def __init__(self, lock: SpinLock, cpu: "Cpu", mask: bool):
        self._lock = lock
        self._cpu = cpu
        self._mask = mask
        self._saved = 0

    async def __aenter__(self) -> None:
        if self._mask:
            self._saved = self._cpu.mask()
        await self._lock.acquire(self._cpu)

    async def __aexit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if kind is None:
            await self._lock.release(self._cpu)
        elif kind is not GeneratorExit:
            self._lock._give_back(self._cpu)
        if self._mask:
            await leave_mask(self._cpu, self._saved, kind)


class LockOrder:
    """Which lock classes were taken while which others were held, over all CPUs.

    A circle of classes is recorded (``lock_order``) when its last edge appears, whether or not
    it dead-locked this time. A spinlock class that is taken in an interrupt, and elsewhere with
    that CPU's interrupts unmasked, is recorded as misuse: the interrupt can find it held.
    """

    __slots__ = ("_in_interrupt", "_unmasked", "edges")

    def __init__(self) -> None:
        self.edges: dict[str, dict[str, tuple[int, int]]] = {}
        """``edges[outer][inner]`` is the (cycle, cpu) at which that nesting was first seen."""
        self._in_interrupt: set[str] = set()
        self._unmasked: set[str] = set()

    def note(self, cpu: "Cpu", lock: SpinLock) -> None:
        """``cpu`` asks for ``lock`` with ``cpu.locks`` held."""
        inner = lock.lock_class
        for held in cpu.locks:
            nested = self.edges.setdefault(held.lock_class, {})
            if inner not in nested:
                nested[inner] = (cpu.machine.cycle, cpu.index)
                back = self._path(inner, held.lock_class)
                if back and held is not lock:
                    cpu.log("lock_order", locks=[held.lock_class, *back])
        if lock.sleeps:
            return
        if cpu.in_interrupt:
            seen, other = self._in_interrupt, self._unmasked
        elif not cpu.irqs_off:
            seen, other = self._unmasked, self._in_interrupt
        else:
            return
        if inner not in seen:
            seen.add(inner)
            if inner in other:
                cpu.misuse("a lock of interrupts is taken with interrupts unmasked", lock=inner)

    def _path(self, start: str, end: str) -> list[str] | None:
        """Classes from ``start`` to ``end`` along the edges, or None."""
        paths = deque([[start]])
        seen = {start}
        while paths:
            path = paths.popleft()
            if path[-1] == end:
                return path
            for inner in self.edges.get(path[-1], ()):
                if inner not in seen:
                    seen.add(inner)
                    paths.append([*path, inner])
        return None
