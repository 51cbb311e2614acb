"""The words that software, CPUs and hosts share: lines, operations, demands, records."""

import enum
from collections.abc import Callable, Coroutine
from types import coroutine
from typing import Any, NamedTuple

from hdl.cpu_port import Operation
from hdl.probe import CpuContext

Software = Callable[..., Coroutine[Any, Any, Any]]
"""An ``async def`` function whose first argument is the :class:`~.cpu.Cpu` it runs on."""


Context = Any
"""A member of :class:`hdl.probe.CpuContext`; type checkers take Amaranth's members for numbers."""


def number(member: Any) -> int:
    """The number of a member of one of Amaranth's enumerations."""
    return member._value_


class Line(enum.IntFlag):
    """A CPU's interrupt lines, one bit each, in the order of :class:`hdl.cpu_port.CpuLink`."""

    IRQ = 1
    VIRQ = 2
    INTR = 4


HOST_LINES = Line.IRQ | Line.INTR
"""The lines that interrupt the host; ``VIRQ`` interrupts only a guest that runs on the CPU."""


class BusError(Exception):
    """A load, store or system-register access that the hardware answered with an error."""

    def __init__(self, cpu: int, operation: Operation, address: int):
        super().__init__(f"CPU {cpu}: {operation.name} at {address:#x} answered with an error")
        self.cpu = cpu
        self.operation = operation
        self.address = address


class Record(NamedTuple):
    """One entry of the software's own event log.

    ``kind`` is free for the software's use, except those the machine writes itself:

    ============== =========================================================================
    ``crash``      an exception left a coroutine; the CPU halted (``error text location``)
    ``misuse``     a rule was broken, and the CPU went on (``rule`` and what it was about)
    ``deadlock``   CPUs that wait for each other or for one that halted (``cpus locks reason``)
    ``lock_order`` locks taken in an order that can dead-lock (``locks``: classes in a circle)
    ``stuck``      written by :meth:`~.machine.Machine.report_stuck` (``wait since what``)
    ``lock``       with ``trace_locks``: taken (``lock``, ``held``: what was held before)
    ``unlock``     with ``trace_locks``: given back (``lock``)
    ============== =========================================================================
    """

    cycle: int
    cpu: int
    kind: str
    fields: dict[str, Any]


class Submission(NamedTuple):
    """An operation to offer on a CPU's port: plain numbers, as in :class:`CpuRequest`."""

    cpu: int
    operation: int
    size: int
    address: int
    data: int


class ProbeState(NamedTuple):
    """What one lane of the probe shows: plain numbers, fields as in :class:`SoftwareState`."""

    context: int = number(CpuContext.IDLE)
    irqs_off: int = 0
    irq: int = 0
    state: int = 0
    lock: int = 0
    mark: int = 0


class Demands:
    """What the machine wants of its host after a wake.

    Attributes
    ----------
    submissions : list of Submission
        To offer in this very clock, at most one a CPU; each is answered once, in a later wake.
    probes : list of (cpu, ProbeState)
        Lanes that changed.
    deadline : int or None
        The machine must be woken at this cycle even if nothing happens.
    watch : list of int
        One mask of :class:`Line` a CPU. The machine must be woken in the first *later* cycle in
        which ``lines[cpu] & watch[cpu]`` is not zero. Other line changes need no wake.
    idle : bool
        No operation is under way and there is no deadline: only a line can start anything.
    finished : bool
        No software is left to run and no timer is set; interrupts are still taken.
    deadlocked : bool
        Software is blocked, and no answer, deadline or line can ever change that.
    """

    __slots__ = (
        "deadline",
        "deadlocked",
        "finished",
        "idle",
        "probes",
        "submissions",
        "watch",
    )

    def __init__(
        self,
        submissions: list[Submission],
        probes: list[tuple[int, ProbeState]],
        deadline: int | None,
        watch: list[int],
        idle: bool,
        finished: bool,
        deadlocked: bool,
    ):
        self.submissions = submissions
        self.probes = probes
        self.deadline = deadline
        self.watch = watch
        self.idle = idle
        self.finished = finished
        self.deadlocked = deadlocked


class Wait(enum.IntEnum):
    """Why a frame does not run."""

    READY = 0
    """It will, at the next boundary."""
    OPERATION = 1
    ISSUE = 2
    """The cost of an operation that has not been submitted yet."""
    STALL = 3
    DELAY = 4
    UNTIL = 5
    INTERRUPT = 6
    SPIN = 7
    LOCK = 8
    DEAD = 9


class FrameKind(enum.IntEnum):
    """What sort of software a frame is."""

    TASK = 0
    INTERRUPT = 1
    GUEST_INTERRUPT = 2
    SOFTIRQ = 3
    STOPPER = 4


class Frame:
    """One coroutine on a CPU's stack, what it waits for, and what its return restores."""

    __slots__ = (
        "coroutine",
        "deadline",
        "error",
        "kind",
        "lane",
        "lock",
        "predicate",
        "remaining",
        "request",
        "send",
        "since",
        "unmasked",
        "value",
        "wait",
    )

    def __init__(self, program: Coroutine, kind: int, cycle: int):
        self.coroutine = program
        self.send = program.send
        self.kind = kind
        self.wait: int = 0
        self.since = cycle
        self.deadline: int | None = None
        self.remaining = 0
        self.value: Any = None
        self.error: Exception | None = None
        self.predicate: Callable[[], Any] | None = None
        self.request: Any = None
        self.lock: Any = None
        self.lane: Any = None
        self.unmasked = 0


TRAP = object()
"""What a machine operation yields; anything else was awaited by mistake."""


@coroutine
def trap():
    """Give the CPU back to its scheduler; the frame says until when. Returns the answer."""
    return (yield TRAP)
