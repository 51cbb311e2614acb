"""Read-copy-update: what readers may have found is freed when none of them can hold it any more.

As far as the interrupt core needs it. Source: kernel/rcu, as kernel/irq/irqdesc.c uses it.
"""

from typing import Any

from ..machine.cpu import Cpu
from ..machine.ops import Software


class Rcu:
    """Readers and grace periods of one machine of ``cpus`` CPUs.

    A CPU outside a read-side section is in a quiescent state. A grace period ends as soon as
    each CPU has been in one since it began; in a kernel it takes some milliseconds longer.
    """

    def __init__(self, cpus: int):
        self._depth = [0] * cpus
        self._waiting: list[tuple[set[int], Cpu, Software]] = []

    def reading(self, cpu: Cpu) -> "_Reading":
        """``with rcu.reading(cpu):`` a read-side section; sections nest, also in interrupts."""
        return _Reading(self, cpu)

    def call(self, cpu: Cpu, function: Software) -> None:
        """Run ``function(cpu)`` as a softirq of ``cpu`` after a grace period (call_rcu)."""
        readers = {index for index, depth in enumerate(self._depth) if depth}
        if readers:
            self._waiting.append((readers, cpu, function))
        else:
            cpu.raise_softirq(function)

    def _enter(self, index: int) -> None:
        self._depth[index] += 1

    def _leave(self, index: int) -> None:
        self._depth[index] -= 1
        if self._depth[index]:
            return
        for readers, cpu, function in self._waiting:
            readers.discard(index)
            if not readers:
                cpu.raise_softirq(function)
        self._waiting = [waiting for waiting in self._waiting if waiting[0]]


class _Reading:
    __slots__ = ("_index", "_rcu")

    def __init__(self, rcu: Rcu, cpu: Cpu):
        self._rcu = rcu
        self._index = cpu.index

    def __enter__(self) -> None:
        self._rcu._enter(self._index)

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        # Software that a host drops, or that crashes, never leaves: its CPU is not quiescent again.
        if kind is None:
            self._rcu._leave(self._index)
