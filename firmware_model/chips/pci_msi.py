"""MSI: the message a function sends, and the order in which software writes it.

Source: drivers/pci/msi/msi.c as described in the facts on Linux, section 2.3.
"""

from hdl.registers import pci
from hdl.registers.pci import CapabilityId, Header

from ..machine.cpu import Cpu
from ..machine.locks import SpinLock
from .pci import PciFunction


async def set_intx(cpu: Cpu, function: PciFunction, enable: bool) -> None:
    """Let the function use its interrupt pin, or not; written only if that is a change."""
    command = await function.read(cpu, Header.COMMAND, 2)
    wanted = command & ~pci.COMMAND_INTX_DISABLE
    if not enable:
        wanted |= pci.COMMAND_INTX_DISABLE
    if wanted != command:
        await function.write(cpu, Header.COMMAND, wanted, 2)


class MsiCapability:
    """The MSI capability of ``function``; :meth:`probe` finds it.

    One message is used, whatever the function offers; ``index`` is 0 and stands in the
    signatures only because MSI-X has the same ones.

    Parameters
    ----------
    function : PciFunction
    read_back : bool
        A message update ends with a read of the flags (Linux 5.14).
    keep_pin : bool
        A device quirk: the pin is not switched off while messages are on.

    Attributes
    ----------
    maskable : bool
        The capability has mask bits.
    """

    def __init__(self, function: PciFunction, *, read_back: bool = True, keep_pin: bool = False):
        self._function = function
        self._read_back = read_back
        self._keep_pin = keep_pin
        self._base = 0
        self._wide = False
        self._masks = 0
        self._all = 0
        self._lock = SpinLock("msi_lock")
        self.maskable = False

    async def probe(self, cpu: Cpu) -> bool:
        """Find the capability and its layout; False if the function has none."""
        self._base = await self._function.find_capability(cpu, CapabilityId.MSI)
        if not self._base:
            return False
        flags = await self.read(cpu, pci.MSI_FLAGS, 2)
        self._wide = bool(flags & pci.MSI_FLAGS_64BIT)
        self.maskable = bool(flags & pci.MSI_FLAGS_MASKABLE)
        self._all = (1 << (1 << ((flags & pci.MSI_FLAGS_CAPABLE) >> 1))) - 1
        return True

    async def set_up(self, cpu: Cpu) -> None:
        """Before any message is written: off, and everything masked that can be."""
        await self.set_enable(cpu, False)
        await self.read(cpu, pci.MSI_FLAGS, 2)
        if self.maskable:
            self._masks = await self.read(cpu, pci.msi_mask(self._wide), 4) | self._all
            await self.set_mask(cpu, self._masks)

    async def go_live(self, cpu: Cpu) -> None:
        """After the messages were written: no pin any more, on."""
        if not self._keep_pin:
            await set_intx(cpu, self._function, False)
        await self.set_enable(cpu, True)

    async def shut_down(self, cpu: Cpu) -> None:
        """Off, the pin again, and the mask bits as after reset."""
        await self.set_enable(cpu, False)
        await set_intx(cpu, self._function, True)
        self._masks = 0
        await self.set_mask(cpu, 0)

    async def mask(self, cpu: Cpu, index: int = 0) -> None:
        """Mask one message, if that is possible."""
        await self._update_mask(cpu, 1 << index, 0)

    async def unmask(self, cpu: Cpu, index: int = 0) -> None:
        """Unmask one message; what came meanwhile is sent, with the message of then."""
        await self._update_mask(cpu, 0, 1 << index)

    async def write_message(self, cpu: Cpu, address: int, data: int, index: int = 0) -> None:
        """One message update: flags (same value), address low, high, data, flags read back.

        The three writes of the message take effect one after the other; an event between them
        sends a mixture.
        """
        flags = await self.read(cpu, pci.MSI_FLAGS, 2)
        await self.write(cpu, pci.MSI_FLAGS, flags & ~pci.MSI_FLAGS_ENABLED, 2)
        await self.write_address(cpu, address)
        await self.write_data(cpu, data)
        if self._read_back:
            await self.read(cpu, pci.MSI_FLAGS, 2)

    async def write_address(self, cpu: Cpu, address: int, index: int = 0) -> None:
        """The address alone: low, then high if there is one."""
        await self.write(cpu, pci.MSI_ADDRESS_LO, address & 0xFFFF_FFFF, 4)
        if self._wide:
            await self.write(cpu, pci.MSI_ADDRESS_HI, address >> 32, 4)

    async def write_data(self, cpu: Cpu, data: int, index: int = 0) -> None:
        """The data alone."""
        await self.write(cpu, pci.msi_data(self._wide), data, 2)

    async def suspend(self, cpu: Cpu) -> int:
        """Turn MSI off for a while; returns what :meth:`resume` takes. INTx may take over."""
        flags = await self.read(cpu, pci.MSI_FLAGS, 2)
        off = flags & ~(pci.MSI_FLAGS_ENABLE | pci.MSI_FLAGS_ENABLED)
        await self.write(cpu, pci.MSI_FLAGS, off, 2)
        return flags

    async def resume(self, cpu: Cpu, saved: int) -> None:
        """Put back what :meth:`suspend` found."""
        await self.write(cpu, pci.MSI_FLAGS, saved, 2)

    async def set_enable(self, cpu: Cpu, enable: bool) -> None:
        """Turn MSI on or off."""
        flags = await self.read(cpu, pci.MSI_FLAGS, 2) & ~pci.MSI_FLAGS_ENABLE
        await self.write(cpu, pci.MSI_FLAGS, flags | enable * pci.MSI_FLAGS_ENABLE, 2)

    async def set_mask(self, cpu: Cpu, mask: int) -> None:
        """Write the mask bits, if there are any."""
        if self.maskable:
            await self.write(cpu, pci.msi_mask(self._wide), mask, 4)

    async def _update_mask(self, cpu: Cpu, set_bits: int, clear_bits: int) -> None:
        if self.maskable:
            async with self._lock.guard_irqsave(cpu):
                self._masks = (self._masks | set_bits) & ~clear_bits
                await self.set_mask(cpu, self._masks)

    async def read(self, cpu: Cpu, offset: int, size: int) -> int:
        """A register of the capability, ``offset`` from its start."""
        return await self._function.read(cpu, self._base + offset, size)

    async def write(self, cpu: Cpu, offset: int, value: int, size: int) -> None:
        """Write a register of the capability, ``offset`` from its start."""
        await self._function.write(cpu, self._base + offset, value, size)
