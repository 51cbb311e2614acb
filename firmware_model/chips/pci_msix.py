"""MSI-X: a table of messages behind a BAR, each with a mask bit of its own.

Source: drivers/pci/msi/msi.c as described in the facts on Linux, section 2.3.
"""

from hdl.registers import pci
from hdl.registers.pci import CapabilityId

from ..machine.cpu import Cpu
from .pci import PciFunction
from .pci_msi import set_intx


class MsixCapability:
    """The MSI-X capability of ``function``, whose BAR 0 is at ``bar``.

    Parameters
    ----------
    function : PciFunction
    bar : int
    can_mask : bool
        False: an entry is unmasked when it is started, and its mask bit is left alone from
        then on (somebody else owns it, as a hypervisor does).
    masked_update : bool
        An entry that is not masked is masked around its update (Linux 5.14).
    unmask_read_back : bool
        An unmask is flushed by a read (before 5.16).
    keep_pin : bool
        A device quirk: the pin is not switched off while messages are on.

    Attributes
    ----------
    entries : int
        Messages in the table.
    """

    maskable = True

    def __init__(
        self,
        function: PciFunction,
        bar: int,
        *,
        can_mask: bool = True,
        masked_update: bool = True,
        unmask_read_back: bool = False,
        keep_pin: bool = False,
    ):
        self._function = function
        self._bar = bar
        self._can_mask = can_mask
        self._masked_update = masked_update
        self._unmask_read_back = unmask_read_back
        self._keep_pin = keep_pin
        self._base = 0
        self._table = 0
        self._control: list[int] = []
        self.entries = 0

    async def probe(self, cpu: Cpu) -> bool:
        """Find the capability; False if the function has none."""
        self._base = await self._function.find_capability(cpu, CapabilityId.MSIX)
        if not self._base:
            return False
        flags = await self._read_flags(cpu)
        self.entries = (flags & pci.MSIX_FLAGS_SIZE) + 1
        return True

    async def set_up(self, cpu: Cpu, used: int = 1) -> None:
        """Before any message is written: on, everything masked, the table found."""
        await self._set_flags(cpu, pci.MSIX_FLAGS_MASK_ALL | pci.MSIX_FLAGS_ENABLE, 0)
        await self._read_flags(cpu)
        table = await self._function.read(cpu, self._base + pci.MSIX_TABLE, 4)
        self._table = self._bar + (table & ~7)
        await self._read_flags(cpu)
        self._control = [pci.MSIX_ENTRY_MASKED] * self.entries
        if self._can_mask:
            for index in range(used):
                control = await cpu.load(self._entry(index) + pci.MSIX_ENTRY_CONTROL)
                self._control[index] = control | pci.MSIX_ENTRY_MASKED

    async def go_live(self, cpu: Cpu) -> None:
        """After the messages were written: no pin any more, each entry masked, not all at once."""
        if not self._keep_pin:
            await set_intx(cpu, self._function, False)
        if self._can_mask:
            for index in range(self.entries):
                await self._write_control(cpu, index, pci.MSIX_ENTRY_MASKED)
        await self._set_flags(cpu, 0, pci.MSIX_FLAGS_MASK_ALL)

    async def shut_down(self, cpu: Cpu) -> None:
        """Each entry masked, off, the pin again."""
        for index in range(self.entries):
            await self.mask(cpu, index)
        await self._set_flags(cpu, 0, pci.MSIX_FLAGS_ENABLE)
        await set_intx(cpu, self._function, True)

    async def mask(self, cpu: Cpu, index: int = 0) -> None:
        """Mask one entry, and read the table so that it is masked on return."""
        if self._can_mask:
            self._control[index] |= pci.MSIX_ENTRY_MASKED
            await self._write_control(cpu, index, self._control[index])
            await cpu.load(self._table)

    async def unmask(self, cpu: Cpu, index: int = 0) -> None:
        """Unmask one entry; what came meanwhile is sent, with the message of then."""
        if self._can_mask or self._control[index] & pci.MSIX_ENTRY_MASKED:
            self._control[index] &= ~pci.MSIX_ENTRY_MASKED
            await self._write_control(cpu, index, self._control[index])
            if self._unmask_read_back:
                await cpu.load(self._table)

    async def write_message(self, cpu: Cpu, address: int, data: int, index: int = 0) -> None:
        """One message update: low, high, data, data read back; masked meanwhile."""
        control = self._control[index]
        live = not control & pci.MSIX_ENTRY_MASKED and self._masked_update and self._can_mask
        if live:
            await self._write_control(cpu, index, control | pci.MSIX_ENTRY_MASKED)
        await self.write_address(cpu, address, index)
        await self.write_data(cpu, data, index)
        if live:
            await self._write_control(cpu, index, control)
        await cpu.load(self._entry(index) + pci.MSIX_ENTRY_DATA)

    async def write_address(self, cpu: Cpu, address: int, index: int = 0) -> None:
        """The address alone: low, then high."""
        entry = self._entry(index)
        await cpu.store(entry + pci.MSIX_ENTRY_ADDRESS_LO, address & 0xFFFF_FFFF)
        await cpu.store(entry + pci.MSIX_ENTRY_ADDRESS_HI, address >> 32)

    async def write_data(self, cpu: Cpu, data: int, index: int = 0) -> None:
        """The data alone."""
        await cpu.store(self._entry(index) + pci.MSIX_ENTRY_DATA, data)

    async def suspend(self, cpu: Cpu) -> int:
        """Mask all entries for a while; returns what :meth:`resume` takes."""
        flags = await self._read_flags(cpu)
        await self._write_flags(cpu, flags | pci.MSIX_FLAGS_MASK_ALL)
        return flags

    async def resume(self, cpu: Cpu, saved: int) -> None:
        """Put back what :meth:`suspend` found."""
        await self._write_flags(cpu, saved)

    def _entry(self, index: int) -> int:
        return self._table + index * pci.MSIX_ENTRY_SIZE

    async def _write_control(self, cpu: Cpu, index: int, value: int) -> None:
        await cpu.store(self._entry(index) + pci.MSIX_ENTRY_CONTROL, value)

    async def _read_flags(self, cpu: Cpu) -> int:
        return await self._function.read(cpu, self._base + pci.MSIX_FLAGS, 2)

    async def _write_flags(self, cpu: Cpu, value: int) -> None:
        await self._function.write(cpu, self._base + pci.MSIX_FLAGS, value, 2)

    async def _set_flags(self, cpu: Cpu, set_bits: int, clear_bits: int) -> None:
        flags = await self._read_flags(cpu)
        await self._write_flags(cpu, flags & ~clear_bits | set_bits)
