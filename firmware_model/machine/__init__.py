"""CPUs that run coroutines, and what those need: operations, interrupts, locks, other CPUs.

The machine knows no simulator. A host drives it: see :class:`Machine`.
"""

from .cpu import MAX_NESTING, STEPS_PER_WAKE, Cpu, Timer
from .locks import LockOrder, Mutex, SpinLock
from .machine import Machine
from .ops import (
    HOST_LINES,
    BusError,
    Demands,
    Line,
    ProbeState,
    Record,
    Software,
    Submission,
)
from .smp import CrossCalls, Send, stop_machine

__all__ = [
    "HOST_LINES",
    "MAX_NESTING",
    "STEPS_PER_WAKE",
    "BusError",
    "Cpu",
    "CrossCalls",
    "Demands",
    "Line",
    "LockOrder",
    "Machine",
    "Mutex",
    "ProbeState",
    "Record",
    "Send",
    "Software",
    "SpinLock",
    "Submission",
    "Timer",
    "stop_machine",
]
