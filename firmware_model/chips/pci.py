"""A PCI function as software sees it: configuration space through ECAM, and its capabilities."""

from collections.abc import AsyncIterator

from hdl.registers import pci
from hdl.registers.pci import Header

from ..machine.cpu import Cpu


class PciFunction:
    """Function 0 of ``device`` on bus 0."""

    def __init__(self, device: int):
        self.device = device
        self._base = pci.ecam_address(0, device, 0)

    async def read(self, cpu: Cpu, offset: int, size: int) -> int:
        """Read ``size`` (1, 2, 4) bytes of configuration space."""
        return await cpu.load(self._base + offset, size)

    async def write(self, cpu: Cpu, offset: int, value: int, size: int) -> None:
        """Write ``size`` (1, 2, 4) bytes of configuration space."""
        await cpu.store(self._base + offset, value, size)

    async def set_bits(self, cpu: Cpu, offset: int, bits: int, size: int) -> None:
        """Read, OR, write."""
        await self.write(cpu, offset, await self.read(cpu, offset, size) | bits, size)

    async def capabilities(self, cpu: Cpu) -> AsyncIterator[tuple[int, int]]:
        """(id, offset) of every capability, in the order of the chain."""
        offset = await self.read(cpu, Header.CAPABILITIES, 1)
        while offset:
            word = await self.read(cpu, offset, 2)
            yield word & 0xFF, offset
            offset = word >> 8

    async def find_capability(self, cpu: Cpu, wanted: int) -> int:
        """Offset of the capability with id ``wanted``, 0 if there is none."""
        async for found, offset in self.capabilities(cpu):
            if found == wanted:
                return offset
        return 0

    async def enable(self, cpu: Cpu, bar: int) -> None:
        """Place the (32-bit) BAR at ``bar``; turn on memory space and bus mastering."""
        await self.write(cpu, Header.BAR0, bar, 4)
        await self.set_bits(cpu, Header.COMMAND, pci.COMMAND_MEMORY | pci.COMMAND_MASTER, 2)
