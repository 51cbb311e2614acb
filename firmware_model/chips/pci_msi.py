"""MSI: the message a function sends, and the order in which software writes it.

Source: drivers/pci/msi/msi.c as described in the facts on Linux, section 2.3.
"""

from hdl.registers import pci
from hdl.registers.pci import CapabilityId

from ..machine.cpu import Cpu
from .pci import PciFunction


class MsiCapability:
    """The MSI capability of ``function``; :meth:`probe` finds it."""

    def __init__(self, function: PciFunction):
        self._function = function
        self._base = 0
        self._wide = False
        self.maskable = False

    async def probe(self, cpu: Cpu) -> bool:
        """Find the capability and its layout; False if the function has none."""
        self._base = await self._function.find_capability(cpu, CapabilityId.MSI)
        if not self._base:
            return False
        flags = await self._read(cpu, pci.MSI_FLAGS, 2)
        self._wide = bool(flags & pci.MSI_FLAGS_64BIT)
        self.maskable = bool(flags & pci.MSI_FLAGS_MASKABLE)
        return True

    async def write_message(self, cpu: Cpu, address: int, data: int) -> None:
        """One message update: flags (same value), address low, high, data, flags read back.

        The three writes of the message take effect one after the other; an event between them
        sends a mixture.
        """
        flags = await self._read(cpu, pci.MSI_FLAGS, 2)
        await self._write(cpu, pci.MSI_FLAGS, flags & ~pci.MSI_FLAGS_ENABLED, 2)
        await self._write(cpu, pci.MSI_ADDRESS_LO, address & 0xFFFF_FFFF, 4)
        if self._wide:
            await self._write(cpu, pci.MSI_ADDRESS_HI, address >> 32, 4)
        await self._write(cpu, pci.msi_data(self._wide), data, 2)
        await self._read(cpu, pci.MSI_FLAGS, 2)

    async def set_enable(self, cpu: Cpu, enable: bool) -> None:
        """Turn MSI on or off."""
        flags = await self._read(cpu, pci.MSI_FLAGS, 2) & ~pci.MSI_FLAGS_ENABLE
        await self._write(cpu, pci.MSI_FLAGS, flags | enable * pci.MSI_FLAGS_ENABLE, 2)

    async def set_mask(self, cpu: Cpu, mask: int) -> None:
        """Write the mask bits, if there are any."""
        if self.maskable:
            await self._write(cpu, pci.msi_mask(self._wide), mask, 4)

    async def _read(self, cpu: Cpu, offset: int, size: int) -> int:
        return await self._function.read(cpu, self._base + offset, size)

    async def _write(self, cpu: Cpu, offset: int, value: int, size: int) -> None:
        await self._function.write(cpu, self._base + offset, value, size)
