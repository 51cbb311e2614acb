"""A file descriptor that stands for an event. Source: fs/eventfd.c"""

from ..core.records import Kind
from ..machine.cpu import Cpu
from ..machine.locks import SpinLock
from ..machine.ops import Software


class EventFd:
    """Whoever listens is called, as ``listener(cpu)``, with the lock held and interrupts masked.

    So a listener must not signal an eventfd itself, nor sleep; what takes longer it leaves to a
    work item. All have one lock class: to signal with a lock held that a listener takes is an
    order in which two CPUs can dead-lock.
    """

    def __init__(self, name: str):
        self.name = name
        self.listeners: list[Software] = []
        self._lock = SpinLock(f"eventfd {name}", lock_class="eventfd")

    async def signal(self, cpu: Cpu) -> None:
        """It has happened."""
        async with self._lock.guard_irqsave(cpu):
            cpu.log(Kind.EVENTFD, name=self.name)
            for listener in tuple(self.listeners):
                await listener(cpu)
