"""One CPU: a stack of coroutines, an interrupt mask, and the operations they may await."""

import heapq
from types import CoroutineType, coroutine
from typing import TYPE_CHECKING, Any

from hdl.cpu_port import Operation
from hdl.probe import CpuContext
from hdl.registers.sysreg import SystemRegister

from .ops import (
    HOST_LINES,
    TRAP,
    BusError,
    Context,
    Frame,
    FrameKind,
    Line,
    ProbeState,
    Record,
    Software,
    Submission,
    Wait,
    number,
    trap,
)

if TYPE_CHECKING:
    from .locks import SpinLock
    from .machine import Machine

MAX_NESTING = 8
"""Interrupts that may be under way on one CPU at once; one more is a stack overflow: a crash."""

STEPS_PER_WAKE = 20_000
"""Times that one CPU's software may go on in one wake; more is an endless loop: a crash."""

# Enumeration members are slow to compute with; the scheduler uses plain numbers.
_READY, _OPERATION, _ISSUE, _STALL, _DELAY, _UNTIL, _WFI, _SPIN, _LOCK, _DEAD = map(int, Wait)
_TASK, _INTERRUPT, _GUEST_INTERRUPT, _SOFTIRQ, _STOPPER = map(int, FrameKind)
_LOAD, _STORE = number(Operation.LOAD), number(Operation.STORE)
_READ_SYSREG, _WRITE_SYSREG = number(Operation.READ_SYSREG), number(Operation.WRITE_SYSREG)
_SIZES = {1: 0, 2: 1, 4: 2}
_END = 1 << 64
_LINES = ((int(Line.IRQ), Line.IRQ), (int(Line.INTR), Line.INTR), (int(Line.VIRQ), Line.VIRQ))
_HOST = int(HOST_LINES)
_HARDWARE = int(Line.IRQ | Line.VIRQ | Line.INTR)
_SOFTWARE = 8
"""A bit beside the lines in the mask: softirqs, timers and stoppers may run."""


class Timer:
    """What :meth:`Cpu.start_timer` gives back."""

    __slots__ = ("cancelled", "function", "pending")

    def __init__(self, function: Software):
        self.function = function
        self.pending = True
        self.cancelled = False

    def cancel(self) -> bool:
        """Stop it; whether that was in time, so that the function will not run."""
        in_time = self.pending and not self.cancelled
        self.cancelled = True
        return in_time


class Cpu:
    """What software sees of its CPU; made by :class:`~.machine.Machine`.

    Software runs in no time at all; operations, delays and waits take time. A **boundary** is
    where a finished operation or wait hands back to software, where interrupts are unmasked, and
    every clock of a wait that is not an operation. At a boundary, in this order:

    1. a line that is high and unmasked runs ``vector(cpu, line)``, host lines (IRQ, INTR) before
       VIRQ. A host interrupt masks everything, a guest's only VIRQ; the return restores the mask.
       The vector may unmask, and then nests, :data:`MAX_NESTING` deep.
       At most one interrupt is taken in a wake, since the lines are sampled once in it;
    2. work that other software left for this CPU (softirqs, due timers, stoppers) runs, if
       the host's interrupts are unmasked;
    3. the software goes on.

    A guest is software that runs with VIRQ unmasked: ``async with cpu.irqs_enabled(Line.VIRQ)``.

    A handle belongs to the software that runs on that CPU. An operation on another CPU's handle,
    or awaiting anything but a machine operation, is a crash. Software that never awaits never
    gives the interpreter back: nothing can stop a Python loop.

    Attributes
    ----------
    index : int
    machine : Machine
    vector : async function (cpu, line), or None: nothing is ever taken
    online : bool
        Whether others count on this CPU; hotplug clears it before :meth:`die`.
    halted : bool
        Crashed; ``exception`` says why.
    locks : list
        Locks held, oldest first.
    steps : int
        Operations, lock acquisitions and lock releases begun so far: the index of a stall.
    """

    __slots__ = (
        "_busy",
        "_context",
        "_deferred",
        "_irq",
        "_irq_depth",
        "_lane_sent",
        "_mark",
        "_nesting",
        "_preempt_off",
        "_spinning",
        "_stack",
        "_stalls",
        "_state",
        "_taken_in",
        "_tasks",
        "_timers_started",
        "_unmasked",
        "asserted",
        "budget",
        "dead",
        "exception",
        "frame",
        "halted",
        "index",
        "issue_cycles",
        "lane_changed",
        "lines",
        "locks",
        "machine",
        "online",
        "steps",
        "timers",
        "vector",
    )

    def __init__(
        self,
        machine: "Machine",
        index: int,
        *,
        vector: Software | None,
        lines: int,
        issue_cycles: int,
    ):
        self.machine = machine
        self.index = index
        self.vector = vector
        self.lines = int(lines)
        self.issue_cycles = issue_cycles
        self.online = True
        self.halted = False
        self.dead = False
        self.exception: Exception | None = None
        self.locks: list[SpinLock] = []
        self.steps = 0
        self._stalls: dict[int, int] | None = None
        self._stack: list[Frame] = []
        self.frame: Frame | None = None
        self._tasks: list[tuple[Software, tuple]] = []
        self._deferred: list[tuple[int, Software]] = []
        self.timers: list[tuple[int, int, Timer]] = []
        self._timers_started = 0
        self.asserted = 0
        self._unmasked = self.lines | _SOFTWARE
        self._taken_in = 0
        self._nesting = 0
        self._irq_depth = 0
        self._preempt_off = 0
        self._busy: set[int] = set()
        self.budget = 0
        self._context: Context = CpuContext.IDLE
        self._irq = 0
        self._state = 0
        self._mark = 0
        self._spinning: SpinLock | None = None
        self.lane_changed = True
        self._lane_sent: ProbeState | None = None

    def __repr__(self) -> str:
        return f"<Cpu {self.index}>"

    # Operations

    async def load(self, address: int, size: int = 4) -> int:
        """Read ``size`` (1, 2 or 4) bytes; raises :class:`BusError` if refused."""
        return await self._operate(_LOAD, size, address, 0)

    async def store(self, address: int, value: int, size: int = 4) -> None:
        """Write ``size`` (1, 2 or 4) bytes, and wait until the write was answered."""
        if size in _SIZES and not 0 <= value < 1 << (8 * size):
            raise ValueError(
                f"A {size}-byte store takes 0 to {(1 << 8 * size) - 1:#x}, not {value}"
            )
        await self._operate(_STORE, size, address, value)

    async def load64(self, address: int) -> int:
        """Two 4-byte loads, low word first: not atomic, as on the bus."""
        low = await self.load(address)
        return low | await self.load(address + 4) << 32

    async def store64(self, address: int, value: int) -> None:
        """Two 4-byte stores, low word first: not atomic, as on the bus."""
        _checked_doubleword(value)
        await self.store(address, value & 0xFFFF_FFFF)
        await self.store(address + 4, value >> 32)

    async def read_sysreg(self, register: SystemRegister | str) -> int:
        """Read a 64-bit system register by its architectural name."""
        return await self._operate(_READ_SYSREG, 1, _register(register), 0)

    async def write_sysreg(self, register: SystemRegister | str, value: int) -> None:
        """Write a 64-bit system register by its architectural name."""
        _checked_doubleword(value)
        await self._operate(_WRITE_SYSREG, 1, _register(register), value)

    @coroutine
    def _operate(self, operation, size, address, data):
        log2 = _SIZES.get(size)
        if log2 is None:
            raise ValueError(f"The size of an access must be 1, 2 or 4 bytes, not {size}")
        if not 0 <= address < _END:
            raise ValueError(f"An address must be 0 to {_END - 1:#x}, not {address:#x}")
        if self.machine.running is not self:
            self._foreign()
        frame = self.frame
        cost = self.issue_cycles
        if self._stalls is not None:
            cost += self._stalls.get(self.steps, 0)
        self.steps += 1
        submission = Submission(self.index, operation, log2, address, data)
        frame.request = submission
        frame.since = self.machine.cycle
        if cost:
            frame.wait = _ISSUE
            frame.deadline = frame.since + cost
        else:
            frame.wait = _OPERATION
            self.machine.submissions.append(submission)
        return (yield TRAP)

    # Time

    async def delay(self, cycles: int) -> None:
        """Be busy for ``cycles`` clocks; time spent in interrupts is not counted."""
        if cycles < 0:
            raise ValueError(f"A delay must be 0 or more cycles, not {cycles}")
        if cycles:
            await self._wait(_DELAY, self.machine.cycle + cycles)

    async def delay_until(self, cycle: int) -> None:
        """Be busy until ``cycle`` has come; interrupts do not prolong it."""
        if cycle > self.machine.cycle:
            await self._wait(_UNTIL, cycle)

    async def wait_for_interrupt(self) -> None:
        """Stop until an interrupt was taken or, masked, a line is high; at least one wake."""
        self.check_may_sleep("wait_for_interrupt")
        context = self._context
        self._show(CpuContext.IDLE)
        await self._wait(_WFI, None)
        self._show(context)

    async def spin_until(self, predicate, timeout: int | None = None, *, context=CpuContext.SPIN):
        """Spin until ``predicate()`` is true; interrupts are taken if unmasked.

        The predicate looks at software state, which changes only while other software runs: it
        is asked again whenever any did. Polling the hardware is a loop of loads and delays.

        Returns whether it came true within ``timeout`` cycles (None: no limit).
        """
        if predicate():
            return True
        if timeout is not None and timeout <= 0:
            return False
        before = self._context
        self._show(context)
        frame = self.frame
        assert frame is not None
        frame.predicate = predicate
        deadline = None if timeout is None else self.machine.cycle + timeout
        answer = await self._wait(_SPIN, deadline)
        self._show(before)
        return answer

    async def sleep_until(self, predicate, timeout: int | None = None) -> bool:
        """As :meth:`spin_until`, for tasks: the CPU idles, and a spinlock held is misuse."""
        self.check_may_sleep("sleep_until")
        return await self.spin_until(predicate, timeout, context=CpuContext.IDLE)

    @coroutine
    def _wait(self, wait, deadline):
        if self.machine.running is not self:
            self._foreign()
        frame = self.frame
        frame.wait = wait
        frame.deadline = deadline
        frame.since = self.machine.cycle
        if wait == _WFI:
            frame.remaining = self.machine.wakes
        return (yield TRAP)

    # Interrupt masking

    @property
    def irqs_off(self) -> bool:
        """Whether the host's interrupts are masked."""
        return not self._unmasked & _SOFTWARE

    @property
    def in_interrupt(self) -> bool:
        """Whether a host interrupt is under way on this CPU."""
        return self._irq_depth > 0

    def mask(self, lines: int | None = None) -> int:
        """Mask ``lines`` (None: all), at once; gives the mask to :meth:`restore`."""
        saved = self._unmasked
        if lines is None:
            self._unmasked = 0
        else:
            self._unmasked = saved & ~_with_software(lines)
        self.lane_changed = True
        return saved

    async def unmask(self, lines: int | None = None) -> None:
        """Unmask ``lines`` (None: those the CPU started with): a boundary."""
        await self.restore(self._unmasked | _with_software(self.lines if lines is None else lines))

    async def restore(self, saved: int) -> None:
        """Put back a mask that :meth:`mask` returned: a boundary."""
        self._unmasked = saved
        self.lane_changed = True
        if self.asserted & saved or self._deferred:
            await trap()

    def irqs_disabled(self, lines: int | None = None) -> "_Masked":
        """``async with cpu.irqs_disabled():`` masks (None: all), and restores at the end."""
        return _Masked(self, lines)

    def irqs_enabled(self, lines: int | None = None) -> "_Unmasked":
        """``async with cpu.irqs_enabled():`` unmasks, for instance to let a handler nest."""
        return _Unmasked(self, lines)

    # Work for later, tasks, hotplug

    def spawn(self, function: Software, *args) -> None:
        """Run ``function(cpu, *args)`` as a task once the tasks before it have ended."""
        if self.dead:
            raise ValueError(f"CPU {self.index} is offline; bring_up() must come before spawn()")
        self._tasks.append((function, args))

    def raise_softirq(self, function: Software) -> None:
        """Run ``function(cpu)`` soon: unmasked, outside host interrupts, one at a time.

        It may be called for another CPU: a signal without hardware.
        """
        self._deferred.append((_SOFTIRQ, function))

    def preempt(self, function: Software) -> None:
        """Run ``function(cpu)`` soon, as a thread of the highest priority would run.

        That is on top of the task, but never while it holds a spinlock or has disabled
        preemption, nor inside interrupts and softirqs. It may be called for another CPU.
        """
        self._deferred.append((_STOPPER, function))

    def preemption_disabled(self) -> "_Unpreempted":
        """``async with cpu.preemption_disabled():`` keeps :meth:`preempt` off; interrupts come."""
        return _Unpreempted(self)

    def start_timer(self, cycles: int, function: Software) -> Timer:
        """Raise ``function(cpu)`` as a softirq in ``cycles`` clocks (at least 1).

        The timers of a CPU that is offline do not fire; whoever takes it down sees to them.
        """
        if cycles < 1:
            raise ValueError(f"A timer must be started for 1 or more cycles, not {cycles}")
        timer = Timer(function)
        # Timers that are due at once run in the order they were started.
        self._timers_started += 1
        heapq.heappush(self.timers, (self.machine.cycle + cycles, self._timers_started, timer))
        return timer

    async def die(self) -> None:
        """Go offline for good: never returns, and takes no interrupts until :meth:`bring_up`."""
        if self.locks:
            self.misuse("a CPU went offline with locks held", locks=[x.name for x in self.locks])
        self.online = False
        self.dead = True
        self.lane_changed = True
        self.machine.gone()
        await self._wait(_DEAD, None)

    def bring_up(self) -> None:
        """Make an offline CPU idle and ready for tasks, with interrupts unmasked."""
        if not self.dead:
            raise ValueError(f"CPU {self.index} is not offline; only die() takes it there")
        self.machine.discard(self._stack)
        self._stack.clear()
        self.frame = None
        self._deferred.clear()
        self._nesting = self._irq_depth = self._preempt_off = 0
        self._busy.clear()
        self._unmasked = self.lines | _SOFTWARE
        self._set_lane((CpuContext.IDLE, 0, 0, None))
        self.dead = False
        self.online = True

    # What the software says about itself

    def log(self, kind: str, **fields) -> None:
        """Add a record to the machine's log."""
        machine = self.machine
        machine.log.append(Record(machine.cycle, self.index, kind, fields))

    def misuse(self, rule: str, **fields) -> None:
        """Record that a rule was broken; the software goes on, as a kernel does after a warning."""
        self.log("misuse", rule=rule, **fields)

    def check_may_sleep(self, what: str) -> None:
        """Record misuse if ``what`` may not sleep here: a spinlock held, an interrupt running."""
        held = self._spinlocks()
        if held:
            self.misuse("sleeping with a spinlock held", what=what, locks=held)
        elif self._preempt_off:
            self.misuse("sleeping with preemption disabled", what=what)
        elif self._irq_depth or self._busy:
            self.misuse("sleeping in an interrupt", what=what)

    def _spinlocks(self) -> list[str]:
        return [lock.name for lock in self.locks if not lock.sleeps]

    def set_context(self, context: Context, *, irq: int | None = None) -> None:
        """Show on the probe what the software is doing; ``irq`` None keeps the number.

        Entering ``HANDLER`` counts one handler start in the lane's ``mark``. Only what holds at
        the end of a wake reaches the wires.
        """
        self._context = context
        if irq is not None:
            self._irq = irq
        if context is CpuContext.HANDLER:
            self._mark += 1
        self.lane_changed = True

    def set_state(self, state: int) -> None:
        """Show a descriptor's state bits (16) on the probe."""
        self._state = state
        self.lane_changed = True

    def context(self, context: Context, *, irq: int | None = None) -> "_Context":
        """``with cpu.context(CpuContext.FLOW, irq=5):`` shows it, and restores what was shown."""
        return _Context(self, context, irq)

    # For locks

    def stall_at(self, step: int, clocks: int) -> None:
        """Have ``clocks`` more before step ``step``."""
        self._stalls = (self._stalls or {}) | {step: clocks}

    def count_step(self) -> int:
        """Begin a step that is no operation; returns the clocks to stall before it."""
        if self.machine.running is not self:
            self._foreign()
        step = self.steps
        self.steps = step + 1
        return 0 if self._stalls is None else self._stalls.get(step, 0)

    async def stall(self, cycles: int) -> None:
        """Do nothing for ``cycles`` clocks, not even take interrupts; then there is a boundary."""
        await self._wait(_STALL, self.machine.cycle + cycles)

    async def wait_for(self, lock: "SpinLock", context: Context) -> None:
        """Block until :meth:`granted`."""
        frame = self.frame
        assert frame is not None
        before = self._context
        frame.lock = self._spinning = lock
        self._show(context)
        await self._wait(_LOCK, None)
        self._spinning = None
        self._show(before)

    def granted(self, frame: Frame) -> None:
        """Let ``frame``, which waits for a lock, go on at its next boundary."""
        frame.wait = _READY
        frame.lock = None
        self.lane_changed = True

    async def preemption_point(self) -> None:
        """A boundary, if work waits that a lock held back."""
        if self._deferred:
            await trap()

    # Scheduling, for the machine

    def expire_timers(self, cycle: int) -> None:
        """Raise the softirqs of timers that are due."""
        timers = self.timers
        while timers and timers[0][0] <= cycle:
            timer = heapq.heappop(timers)[2]
            if not timer.cancelled:
                timer.pending = False
                self._deferred.append((_SOFTIRQ, timer.function))

    def answer(self, data: int, error: int) -> None:
        """Give the operation under way its answer."""
        frame = self.frame
        if frame is None or frame.wait != _OPERATION:
            raise ValueError(f"CPU {self.index} has no operation under way that could be answered")
        frame.wait = _READY
        request = frame.request
        if error:
            frame.error = BusError(self.index, Operation(request.operation), request.address)
        elif request.operation in (_LOAD, _READ_SYSREG):
            frame.value = data

    def advance(self) -> bool:
        """Run software until it blocks; whether any ran."""
        ran = False
        while not (self.halted or self.dead):
            frame = self.frame
            if frame is None:
                if not (self._preempted() or self._start_task()):
                    break
            else:
                wait = frame.wait
                if wait == _OPERATION:
                    break
                if wait in (_ISSUE, _STALL):
                    if self.machine.cycle < frame.deadline:  # type: ignore[operator]
                        break
                elif wait != _READY and not self._over(frame, wait):
                    if not self._preempted():
                        break
                    ran = True
                    continue
                interrupted = self.asserted & self._unmasked or self._deferred
                if not (interrupted and self._preempted()):
                    if wait == _ISSUE:
                        frame.wait = _OPERATION
                        self.machine.submissions.append(frame.request)
                        break
                    self._resume(frame)
            ran = True
        return ran

    def _over(self, frame: Frame, wait: int) -> bool:
        """Whether the wait of ``frame`` has come to its end; sets what it returns."""
        if wait in (_DELAY, _UNTIL):
            if self.machine.cycle < frame.deadline:  # type: ignore[operator]
                return False
        elif wait == _WFI:
            if (
                not self.asserted & (self.lines | self._unmasked)
                or frame.remaining == self.machine.wakes
            ):
                return False
        elif wait == _SPIN:
            try:
                true = bool(frame.predicate())  # type: ignore[misc]
            except Exception as error:
                frame.error = error
                true = True
            if not true and (frame.deadline is None or self.machine.cycle < frame.deadline):
                return False
            frame.value = true
            frame.predicate = None
        else:
            return False
        frame.wait = _READY
        return True

    def _preempted(self) -> bool:
        """Whether an interrupt or deferred work has been put on top of the stack."""
        asserted = self.asserted & self._unmasked
        if asserted and self._taken_in != self.machine.wakes:
            self._taken_in = self.machine.wakes
            self._interrupt(asserted)
            return True
        if self._deferred and self._unmasked & _SOFTWARE and not self._irq_depth:
            for i, (kind, function) in enumerate(self._deferred):
                if kind == _SOFTIRQ:
                    allowed = _SOFTIRQ not in self._busy
                else:
                    allowed = not (self._busy or self._preempt_off or self._spinlocks())
                if allowed:
                    del self._deferred[i]
                    self._push(kind, function, ())
                    return True
        return False

    def _interrupt(self, asserted: int) -> None:
        bit, line = next(entry for entry in _LINES if entry[0] & asserted)
        if self.vector is None:
            self._crash(RuntimeError(f"CPU {self.index} has no vector to take {line.name} with"))
        elif self._nesting >= MAX_NESTING:
            self._crash(RuntimeError(f"Interrupts are nested more than {MAX_NESTING} deep"))
        elif bit & _HOST:
            self._push(_INTERRUPT, self.vector, (line,))
        else:
            self._push(_GUEST_INTERRUPT, self.vector, (line,))

    def _start_task(self) -> bool:
        if not self._tasks:
            return False
        function, args = self._tasks.pop(0)
        self._push(_TASK, function, args)
        return True

    def _push(self, kind: int, function: Software, args: tuple) -> None:
        """Begin ``function`` on top of the stack; what is below it keeps waiting."""
        try:
            program = function(self, *args)
            if type(program) is not CoroutineType:
                raise TypeError(f"Software must be an async function, not {function!r}")
        except Exception as error:
            self._crash(error)
            return
        below = self.frame
        if below is not None:
            if below.wait == _DELAY:
                below.remaining = below.deadline - self.machine.cycle  # type: ignore[operator]
            elif below.wait == _WFI:
                below.wait = _READY
        frame = Frame(program, kind, self.machine.cycle)
        frame.lane = (self._context, self._irq, self._state, self._spinning)
        frame.unmasked = self._unmasked
        self._stack.append(frame)
        self.frame = frame
        self._spinning = None
        self.lane_changed = True
        if kind == _TASK:
            self._context = CpuContext.TASK
            return
        self._context = CpuContext.IRQ_ENTRY
        if kind == _INTERRUPT:
            self._unmasked = 0
            self._irq_depth += 1
            self._nesting += 1
        elif kind == _GUEST_INTERRUPT:
            self._unmasked &= ~int(Line.VIRQ)
            self._nesting += 1
        else:
            self._busy.add(kind)

    def _resume(self, frame: Frame) -> None:
        """Let the top of the stack run to its next wait."""
        machine = self.machine
        self.budget -= 1
        machine.running = self
        frame.wait = _READY
        try:
            if frame.error is not None:
                error, frame.error = frame.error, None
                trapped = frame.coroutine.throw(error)
            elif self.budget < 0:
                trapped = frame.coroutine.throw(
                    RuntimeError(
                        f"Software went on {STEPS_PER_WAKE} times without any time passing"
                    )
                )
            else:
                value, frame.value = frame.value, None
                trapped = frame.send(value)
        except StopIteration:
            self._return(frame)
        except Exception as error:
            self._crash(error)
        else:
            if trapped is not TRAP:
                self._crash(
                    TypeError(f"Software may await a machine's operations only, not {trapped!r}")
                )
        finally:
            machine.running = None

    def _return(self, frame: Frame) -> None:
        """Take the ended ``frame`` off the stack; what was below goes on as if nothing was."""
        leaked = [lock.name for lock in self.locks if lock.holder is frame]
        if leaked:
            self.misuse("software ended with locks held", locks=leaked)
        kind = frame.kind
        stack = self._stack
        stack.pop()
        self._set_lane(frame.lane)
        if kind == _TASK:
            if self._unmasked != frame.unmasked:
                self.misuse("a task ended with the interrupt mask changed")
        else:
            self._unmasked = frame.unmasked
            if kind == _INTERRUPT:
                self._irq_depth -= 1
                self._nesting -= 1
            elif kind == _GUEST_INTERRUPT:
                self._nesting -= 1
            else:
                self._busy.discard(kind)
        below = self.frame = stack[-1] if stack else None
        if below is not None and below.wait == _DELAY:
            below.deadline = self.machine.cycle + below.remaining

    def _crash(self, error: Exception) -> None:
        """Record the exception and halt; locks that the stack below holds stay held."""
        self.halted = True
        self.exception = error
        self.lane_changed = True
        self.log("crash", error=type(error).__name__, text=str(error), location=_location(error))
        self.machine.gone()

    def _foreign(self) -> None:
        running = self.machine.running
        raise RuntimeError(
            f"CPU {self.index} was given an operation by software that runs on "
            f"{'no CPU' if running is None else f'CPU {running.index}'}"
        )

    # What the machine asks after everything has run

    @property
    def settled(self) -> bool:
        """Whether there is nothing left to run, now or later, but interrupts."""
        if self.halted or self.dead:
            return True
        if self._stack or self._deferred or self._tasks:
            return False
        return self._live_timer() is None

    def _live_timer(self) -> int | None:
        """The cycle of the first timer that was not cancelled."""
        while self.timers and self.timers[0][2].cancelled:
            heapq.heappop(self.timers)
        return self.timers[0][0] if self.timers else None

    def demand(self) -> tuple[bool, int | None, int]:
        """Whether an operation is under way, the next deadline, and the lines to watch."""
        if self.halted or self.dead:
            return False, None, 0
        frame = self.frame
        wait = _READY if frame is None else frame.wait
        if wait == _OPERATION:
            return True, None, 0
        deadline = None if frame is None or wait == _LOCK else frame.deadline
        if wait in (_ISSUE, _STALL):
            return False, deadline, 0
        # Timers that could not be served now are looked at again at the next boundary.
        if self.timers and self._unmasked & _SOFTWARE and not self._irq_depth:
            timer = self._live_timer()
            if timer is not None and (deadline is None or timer < deadline):
                deadline = timer
        watch = self._unmasked & _HARDWARE
        return False, deadline, watch | self.lines if wait == _WFI else watch

    def probe(self) -> ProbeState | None:
        """The lane, if it is not what was shown last. To be asked when ``lane_changed``."""
        self.lane_changed = False
        lock = self._spinning or (self.locks[-1] if self.locks else None)
        context: Context = CpuContext.OFFLINE if self.dead else self._context
        lane = ProbeState(
            number(context),
            0 if self._unmasked & _SOFTWARE else 1,
            self._irq & 0xFFFF,
            self._state & 0xFFFF,
            0 if lock is None else min(lock.number + 1, 0xFF),
            self._mark & 0xFFFF,
        )
        if lane == self._lane_sent:
            return None
        self._lane_sent = lane
        return lane

    def abandon(self) -> None:
        """Drop all software that has not ended."""
        self.machine.discard(self._stack)
        self._stack.clear()
        self.frame = None

    def _show(self, context: Context) -> None:
        self._context = context
        self.lane_changed = True

    def _set_lane(self, lane: tuple) -> None:
        self._context, self._irq, self._state, self._spinning = lane
        self.lane_changed = True


class _Masked:
    __slots__ = ("_cpu", "_lines", "_saved")

    def __init__(self, cpu: Cpu, lines: int | None):
        self._cpu = cpu
        self._lines = lines

    async def __aenter__(self) -> None:
        self._saved = self._cpu.mask(self._lines)

    async def __aexit__(self, kind: Any, error: Any, traceback: Any) -> None:
        await leave_mask(self._cpu, self._saved, kind)


class _Unmasked:
    __slots__ = ("_cpu", "_lines", "_saved")

    def __init__(self, cpu: Cpu, lines: int | None):
        self._cpu = cpu
        self._lines = lines

    async def __aenter__(self) -> None:
        self._saved = self._cpu._unmasked
        await self._cpu.unmask(self._lines)

    async def __aexit__(self, kind: Any, error: Any, traceback: Any) -> None:
        await leave_mask(self._cpu, self._saved, kind)


async def leave_mask(cpu: Cpu, saved: int, kind: Any) -> None:
    """The end of a masked region: a boundary, unless an exception (``kind``) is on its way out."""
    if kind is None:
        await cpu.restore(saved)
    elif kind is not GeneratorExit:
        cpu._unmasked = saved
        cpu.lane_changed = True


class _Unpreempted:
    __slots__ = ("_cpu",)

    def __init__(self, cpu: Cpu):
        self._cpu = cpu

    async def __aenter__(self) -> None:
        self._cpu._preempt_off += 1

    async def __aexit__(self, kind: Any, error: Any, traceback: Any) -> None:
        self._cpu._preempt_off -= 1
        if kind is None:
            await self._cpu.preemption_point()


class _Context:
    __slots__ = ("_before", "_context", "_cpu", "_irq")

    def __init__(self, cpu: Cpu, context: Context, irq: int | None):
        self._cpu = cpu
        self._context = context
        self._irq = irq

    def __enter__(self) -> None:
        cpu = self._cpu
        self._before = (cpu._context, cpu._irq, cpu._state, cpu._spinning)
        cpu.set_context(self._context, irq=self._irq)

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if kind is not GeneratorExit:
            self._cpu._set_lane(self._before)


def _with_software(lines: int) -> int:
    """The mask bits of ``lines``: software's interrupts go with the host's."""
    return int(lines) | _SOFTWARE if int(lines) & _HOST else int(lines)


def _checked_doubleword(value: int) -> None:
    if not 0 <= value < _END:
        raise ValueError(f"A 64-bit value must be 0 to {_END - 1:#x}, not {value}")


def _register(register: SystemRegister | str) -> int:
    if isinstance(register, SystemRegister):
        return register.value
    try:
        return SystemRegister.__members__[register].value
    except KeyError:
        raise ValueError(
            f"A system register must be named as in hdl.registers.sysreg, not {register!r}"
        ) from None


def _location(error: Exception) -> str:
    """Where software was: ``module:function:line`` of the innermost frame outside this package."""
    place = "?"
    step = error.__traceback__
    while step is not None:
        module = step.tb_frame.f_globals.get("__name__", "?")
        if not module.startswith(f"{__package__}."):
            place = f"{module}:{step.tb_frame.f_code.co_name}:{step.tb_lineno}"
        step = step.tb_next
    return place
