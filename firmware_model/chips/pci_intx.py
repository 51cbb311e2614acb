"""INTx at the function: the bit that disables it, and whether it is this function that asks.

Source: drivers/pci/pci.c, drivers/pci/irq.c
"""

from hdl.registers.pci import COMMAND_INTX_DISABLE, STATUS_INTERRUPT, Header

from ..machine.cpu import Cpu
from ..machine.locks import SpinLock
from .pci import PciFunction
from .pci_msi import set_intx


class IntxControl:
    """The INTx disable bit of ``function``, which has been there since PCI 2.3."""

    def __init__(self, function: PciFunction):
        self.function = function
        self._pci_lock = SpinLock("pci_lock")

    async def set_disable(self, cpu: Cpu, disable: bool) -> None:
        """pci_intx."""
        await set_intx(cpu, self.function, not disable)

    async def check_and_mask(self, cpu: Cpu) -> bool:
        """Disable INTx if the function asks for an interrupt; whether it did."""
        return await self._check(cpu, mask=True)

    async def check_and_unmask(self, cpu: Cpu) -> bool:
        """Enable INTx unless the function asks for an interrupt; whether it did not."""
        return await self._check(cpu, mask=False)

    async def _check(self, cpu: Cpu, *, mask: bool) -> bool:
        async with self._pci_lock.guard_irqsave(cpu):
            # Command and status are one word: both are of the same moment.
            word = await self.function.read(cpu, Header.COMMAND, 4)
            asks = bool(word >> 16 & STATUS_INTERRUPT)
            if asks != mask:
                return False
            command = word & 0xFFFF
            if bool(command & COMMAND_INTX_DISABLE) != mask:
                command ^= COMMAND_INTX_DISABLE
                await self.function.write(cpu, Header.COMMAND, command, 2)
            return True
