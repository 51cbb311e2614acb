"""The driver of the event device: reads how many events there were, says that it has seen them."""

from hdl.registers.pci import Device

from ..core.records import Kind
from ..machine.cpu import Cpu

GONE = 0xFFFF_FFFF
"""What is read where nothing answers."""


class EventDriver:
    """Driver of the event device whose BAR is at ``bar``.

    Parameters
    ----------
    bar : int
    work : int
        Clocks between the look at the device and the acknowledgement.

    Attributes
    ----------
    work : int
        As above; it may change.
    seen : int
        The event count at the last look.
    """

    def __init__(self, bar: int, *, work: int = 0):
        self._bar = bar
        self.work = work
        self.seen = 0

    async def handle(self, cpu: Cpu) -> bool:
        """The interrupt handler; False if the device had nothing to say, or is gone."""
        count = await cpu.load(self._bar + Device.COUNT)
        if count == GONE:
            return False
        events = (count - self.seen) % (1 << 32)
        self.seen = count
        cpu.log(Kind.HANDLED, events=events)
        await cpu.delay(self.work)
        if events:
            await cpu.store(self._bar + Device.ACKNOWLEDGE, count)
        return bool(events)
