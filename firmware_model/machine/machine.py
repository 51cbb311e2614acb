"""Several CPUs and their software, driven by a host that owns the time and the hardware."""

from collections.abc import Mapping, Sequence
from itertools import cycle as cycle_through
from typing import TYPE_CHECKING, Any

from .cpu import STEPS_PER_WAKE, Cpu
from .locks import LockOrder
from .ops import HOST_LINES, Demands, Frame, Line, Record, Software, Submission, Wait

if TYPE_CHECKING:
    from .locks import SpinLock

_OPERATION = int(Wait.OPERATION)


class Machine:
    """CPUs whose software runs when the host wakes it; performs no input or output of its own.

    The host calls :meth:`start` once and then :meth:`wake`, whenever one of these happens:
    an operation is answered, a watched line is high, the deadline is reached (:class:`Demands`).
    Each call runs, CPU by CPU in order and again until nothing can go on, all software up to its
    next wait; the order is fixed, so the same wakes give the same log. Several answers may
    come in one wake. Waking for nothing is allowed and changes nothing but what time it is.

    Software errors never leave here: see :class:`Record`. What a *host* does wrong is raised.

    A finished machine (``Demands.finished``) holds no coroutine, so ``copy.deepcopy`` of it and of
    the software's data is a snapshot of the software; tasks can be spawned on the copy.

    Parameters
    ----------
    cpus : int
    vector : async function (cpu, line) or None
        Takes the interrupts; ``machine.cpus[i].vector`` may be set for each CPU.
    lines : Line, or a sequence with one for each CPU
        The lines that exist for the host, unmasked at first (VIRQ only if asked for).
    issue_cycles : int, or a sequence with one for each CPU
        Clocks of software time before every operation.
    stalls : mapping of CPU to mapping of step to clocks
        Extra clocks before the numbered steps (``Cpu.steps``), during which that CPU does nothing.
    trace_locks : bool
        Record every lock taken and given back.

    Attributes
    ----------
    cpus : tuple of Cpu
    cycle : int
        The present.
    log : list of Record
    locks : list of SpinLock, in the order of their numbers
    lock_order : LockOrder
    stalled : int
        Clocks of all stalls together: no delay of the software's own.
    """

    def __init__(
        self,
        cpus: int = 2,
        *,
        vector: Software | None = None,
        lines: Line | Sequence[Line] = HOST_LINES,
        issue_cycles: int | Sequence[int] = 0,
        stalls: Mapping[int, Mapping[int, int]] | None = None,
        trace_locks: bool = False,
    ):
        if not isinstance(cpus, int) or isinstance(cpus, bool):
            raise TypeError(f"The number of CPUs must be an integer, not {cpus!r}")
        if cpus < 1:
            raise ValueError(f"A machine needs at least one CPU, not {cpus}")
        costs = _per_cpu("issue_cycles", issue_cycles, cpus)
        if min(costs) < 0:
            raise ValueError(f"issue_cycles must be 0 or more, not {min(costs)}")
        line_sets = _per_cpu("lines", lines, cpus)
        for line_set in line_sets:
            if line_set not in range(8):
                raise ValueError(f"lines must be a combination of Line, not {line_set!r}")
        self.cycle = 0
        self.wakes = 0
        self.running: Cpu | None = None
        self.log: list[Record] = []
        self.locks: list[SpinLock] = []
        self.lock_order = LockOrder()
        self.trace_locks = trace_locks
        self.stalled = 0
        self.submissions: list[Submission] = []
        self.cpus = tuple(
            Cpu(
                self,
                i,
                vector=vector,
                lines=line_sets[i],
                issue_cycles=costs[i],
            )
            for i in range(cpus)
        )
        for index, steps in (stalls or {}).items():
            self._check_cpu(index)
            for step, clocks in steps.items():
                self.stall(index, step, clocks)
        self._deadlocks: set[tuple[int, ...]] = set()
        self._closed = False

    # For the host

    def start(self, cycle: int = 0, lines: Sequence[int] | None = None) -> Demands:
        """Run everything up to its first wait; ``lines`` as for :meth:`wake`, default all low."""
        self.cycle = cycle
        return self.wake(cycle, {}, (0,) * len(self.cpus) if lines is None else lines)

    def wake(
        self,
        cycle: int,
        responses: Mapping[int, tuple[int, int]],
        lines: Sequence[int],
    ) -> Demands:
        """Something happened at ``cycle``.

        Parameters
        ----------
        cycle : int
            Never less than before.
        responses : mapping of CPU to (data, error)
            Operations that were answered in this clock.
        lines : sequence of int
            One mask of :class:`Line` a CPU: what is high in this clock.
        """
        if self._closed:
            raise ValueError("The machine is closed")
        if cycle < self.cycle:
            raise ValueError(f"Time must not go back from cycle {self.cycle} to {cycle}")
        cpus = self.cpus
        if len(lines) != len(cpus):
            raise ValueError(f"lines must name {len(cpus)} CPUs, not {len(lines)}")
        self.cycle = cycle
        self.wakes += 1
        submissions: list[Submission] = []
        self.submissions = submissions
        for cpu, asserted in zip(cpus, lines, strict=True):
            cpu.asserted = asserted
            cpu.budget = STEPS_PER_WAKE
            if cpu.timers:
                cpu.expire_timers(cycle)
        for index, (data, error) in responses.items():
            if not 0 <= index < len(cpus):
                raise ValueError(f"There is no CPU {index} to answer, only 0 to {len(cpus) - 1}")
            cpus[index].answer(data, error)

        # Round and round, until none of the others can go on after one that did.
        idle = -len(cpus)
        for cpu in cycle_through(cpus):
            frame = cpu.frame
            if (frame is None or frame.wait != _OPERATION) and cpu.advance():
                idle = 1 - len(cpus)
            else:
                idle += 1
            if not idle:
                break
        return self._demands(submissions)

    def stall(self, cpu: int, step: int, clocks: int) -> None:
        """Have ``clocks`` more before step ``step`` of CPU ``cpu``, as the parameter ``stalls``."""
        self._check_cpu(cpu)
        if step < 0 or clocks < 0:
            raise ValueError(f"stalls: step and clocks must be 0 or more, not {step}: {clocks}")
        self.cpus[cpu].stall_at(step, clocks)
        self.stalled += clocks

    def close(self) -> None:
        """Drop all software that has not ended, silently. For hosts that stop before the end."""
        self._closed = True
        for cpu in self.cpus:
            cpu.abandon()

    def __enter__(self) -> "Machine":
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        self.close()

    def _check_cpu(self, cpu: int) -> None:
        if cpu not in range(len(self.cpus)):
            raise ValueError(f"stalls: there is no CPU {cpu!r}, only 0 to {len(self.cpus) - 1}")

    def report_stuck(self) -> None:
        """Log what every CPU with unfinished software waits for: when a host gives up."""
        for cpu in self.cpus:
            frame = cpu.frame
            if frame is None or cpu.halted or cpu.dead:
                continue
            what: Any = None
            if frame.wait in (Wait.OPERATION, Wait.ISSUE):
                what = frame.request.address
            elif frame.wait == Wait.LOCK:
                what = frame.lock.name
            cpu.log("stuck", wait=Wait(frame.wait).name.lower(), since=frame.since, what=what)

    def _demands(self, submissions: list[Submission]) -> Demands:
        busy = False
        finished = True
        deadline: int | None = None
        watch = []
        probes = []
        for cpu in self.cpus:
            frame = cpu.frame
            if frame is not None and frame.wait == _OPERATION:
                busy = True
                finished = False
                watch.append(0)
            else:
                operating, due, lines = cpu.demand()
                busy |= operating
                if due is not None and (deadline is None or due < deadline):
                    deadline = due
                watch.append(lines)
                finished = finished and cpu.settled
            if cpu.lane_changed:
                lane = cpu.probe()
                if lane is not None:
                    probes.append((cpu.index, lane))
        idle = not busy and deadline is None
        deadlocked = idle and not finished and not any(watch)
        if deadlocked and not self._deadlocks:
            self._record_deadlock(
                [cpu for cpu in self.cpus if not cpu.settled], [], "nothing can wake them"
            )
        return Demands(submissions, probes, deadline, watch, idle, finished, deadlocked)

    # For CPUs and locks

    def register(self, lock: "SpinLock") -> None:
        """Number ``lock`` now rather than when it is first taken."""
        if lock.number < 0:
            lock.number = len(self.locks)
            self.locks.append(lock)

    def find_deadlock(self, cpu: Cpu, lock: "SpinLock") -> None:
        """Record it if ``cpu``, which asks for ``lock``, can never get it.

        Each CPU waits for at most one lock, so this follows one path, from owner to owner.
        """
        circle = [cpu]
        locks = [lock]
        while True:
            owner = locks[-1].owner
            if owner is None:
                return
            if owner.halted or owner.dead:
                self._record_deadlock(circle, locks, f"CPU {owner.index} will never release it")
                return
            if owner in circle:
                if owner is cpu:
                    reason = "recursive" if len(circle) == 1 else "circular"
                    self._record_deadlock(circle, locks, reason)
                return
            frame = owner.frame
            if frame is None or frame.lock is None:
                return
            circle.append(owner)
            locks.append(frame.lock)

    def _record_deadlock(self, cpus: list[Cpu], locks: list["SpinLock"], reason: str) -> None:
        key = (*sorted(cpu.index for cpu in cpus), -1, *sorted(lock.number for lock in locks))
        if key not in self._deadlocks:
            self._deadlocks.add(key)
            cpus[0].log(
                "deadlock",
                cpus=[cpu.index for cpu in cpus],
                locks=[lock.name for lock in locks],
                reason=reason,
            )

    def gone(self) -> None:
        """A CPU crashed or went offline: whoever waits for a lock of its has waited in vain."""
        for cpu in self.cpus:
            frame = cpu.frame
            if frame is not None and frame.lock is not None and not (cpu.halted or cpu.dead):
                self.find_deadlock(cpu, frame.lock)

    @staticmethod
    def discard(frames: list[Frame]) -> None:
        """Close coroutines, innermost first, however much they want to await on their way out."""
        for frame in reversed(frames):
            for _ in range(100):
                try:
                    frame.coroutine.close()
                except RuntimeError:  # it awaited again instead of ending
                    continue
                break


def _per_cpu(name: str, value: Any, cpus: int) -> tuple:
    if isinstance(value, int):
        return (value,) * cpus
    values = tuple(value)
    if len(values) != cpus:
        raise ValueError(f"{name} must have one entry for each of {cpus} CPUs, not {len(values)}")
    return values
