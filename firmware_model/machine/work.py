"""Work items: functions that an interrupt leaves to a thread. Source: kernel/workqueue.c"""

from .cpu import Cpu
from .ops import Software


class Workqueue:
    """Threads of CPU ``worker``, which run as soon as that takes neither interrupts nor locks."""

    def __init__(self, worker: Cpu):
        self._worker = worker

    def item(self, function: Software) -> "Work":
        """A work item that runs ``function(cpu)``."""
        return Work(self, function)

    def start(self, work: "Work") -> None:
        self._worker.preempt(work.run)

    async def execute(self, cpu: Cpu, function: Software) -> None:
        """Around every function that is run."""
        await function(cpu)


class Work:
    """Made by :meth:`Workqueue.item`."""

    def __init__(self, queue: Workqueue, function: Software):
        self._queue = queue
        self._function = function
        self._pending = 0
        self._running = 0

    def schedule(self) -> None:
        """Have it run once more; one run stands for all requests before its start."""
        if not self._pending:
            self._pending = 1
            self._queue.start(self)

    async def run(self, cpu: Cpu) -> None:
        """For the queue."""
        self._pending = 0
        self._running += 1
        await self._queue.execute(cpu, self._function)
        self._running -= 1

    @property
    def idle(self) -> bool:
        """It neither runs nor will."""
        return not self._pending and not self._running

    async def flush(self, cpu: Cpu) -> None:
        """Wait until it has run."""
        await cpu.sleep_until(self._is_idle)

    def _is_idle(self) -> bool:
        return self.idle
