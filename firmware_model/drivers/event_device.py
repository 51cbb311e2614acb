"""The driver of the event device: reads how many events there were, says that it has seen them."""

from hdl.registers.pci import Device

from ..machine.cpu import Cpu


class EventDriver:
    """Driver of the event device whose BAR is at ``bar``.

    Attributes
    ----------
    seen : int
        The event count at the last look.
    """

    def __init__(self, bar: int):
        self._bar = bar
        self.seen = 0

    async def handle(self, cpu: Cpu) -> bool:
        """The interrupt handler; False if the device had nothing to say."""
        count = await cpu.load(self._bar + Device.COUNT)
        events = (count - self.seen) % (1 << 32)
        self.seen = count
        cpu.log("handled", events=events)
        if events:
            await cpu.store(self._bar + Device.ACKNOWLEDGE, count)
        return bool(events)
