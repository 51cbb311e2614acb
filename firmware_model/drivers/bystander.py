"""The driver of a device that never interrupts: whoever runs its handler was misled."""

from ..core.records import Kind
from ..machine.cpu import Cpu


class Bystander:
    """Has nothing to do.

    Attributes
    ----------
    disturbed : int
        How often the handler ran.
    """

    def __init__(self) -> None:
        self.disturbed = 0

    async def handle(self, cpu: Cpu) -> bool:
        """The interrupt handler: never for us."""
        self.disturbed += 1
        cpu.log(Kind.DISTURBED)
        return False
