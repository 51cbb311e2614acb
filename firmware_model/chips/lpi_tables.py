"""What the GIC keeps in RAM about LPIs: their properties, and what is pending at which CPU.

Source: drivers/irqchip/irq-gic-v3-its.c. Pages are handed out from a piece of RAM of its own.
"""

from hdl.registers.gicd import GicdRegister, GicdTyper
from hdl.registers.gicr import GicrCtlr, GicrPendbaser, GicrPropbaser, GicrRegister

from ..machine.cpu import Cpu
from .gicv3 import FIRST_LPI, PRIORITY, GicV3

RAM_BASE = 0x4000_0000
ID_BITS = 14
"""Of INTIDs: 8192 LPIs, the least a pending table is made for."""
PENDING_BYTES = 0x1_0000
ENABLED, GROUP1 = 1 << 0, 1 << 1
"""Bits of a property byte, beside the priority. The second is always set."""
ENABLE_LPIS = GicrCtlr.const({"enable_lpis": 1}).as_bits()


class Pages:
    """RAM from ``base`` on, handed out and never taken back; it is zero at first."""

    def __init__(self, base: int = RAM_BASE):
        self._next = base

    def allocate(self, size: int, alignment: int) -> int:
        """The address of ``size`` bytes."""
        address = -(-self._next // alignment) * alignment
        self._next = address + size
        return address


class LpiTables:
    """The property table that all redistributors share, and each one's pending table.

    Attributes
    ----------
    pages : Pages
    count : int
        LPIs that there are; known after :meth:`init`.
    """

    def __init__(self, gic: GicV3, pages: Pages):
        self._gic = gic
        self.pages = pages
        self.count = 0
        self._properties = pages.allocate((1 << ID_BITS) - FIRST_LPI, 0x1000)
        self._pending = [pages.allocate(PENDING_BYTES, PENDING_BYTES) for _ in gic.running]
        self._allocated: set[int] = set()

    async def init(self, cpu: Cpu) -> None:
        """Once: every LPI that there is is disabled, in group 1."""
        word = await cpu.load(self._gic.frames.distributor + GicdRegister.TYPER)
        typer = GicdTyper.from_bits(word)
        most = (1 << ID_BITS) - FIRST_LPI
        self.count = min(1 << typer.num_lpis + 1, most) if typer.num_lpis else most
        for offset in range(0, self.count, 4):
            await cpu.store(self._properties + offset, (PRIORITY | GROUP1) * 0x0101_0101)

    async def init_cpu(self, cpu: Cpu) -> None:
        """Give this CPU's redistributor its tables; one that has them keeps them."""
        base = self._gic.frames.redistributors[cpu.index]
        if await cpu.load(base + GicrRegister.CTLR) & ENABLE_LPIS:
            return
        properties = GicrPropbaser.const({"id_bits": ID_BITS - 1}).as_bits() | self._properties
        pending = GicrPendbaser.const({"ptz": 1}).as_bits() | self._pending[cpu.index]
        for register, value in (
            (GicrRegister.PROPBASER, properties),
            (GicrRegister.PENDBASER, pending),
        ):
            await cpu.store64(base + register, value)
            await cpu.load64(base + register)
        control = await cpu.load(base + GicrRegister.CTLR)
        await cpu.store(base + GicrRegister.CTLR, control | ENABLE_LPIS)

    def allocate(self, count: int) -> int:
        """INTID of the first of ``count`` LPIs in a row, the lowest that are free."""
        for first in range(FIRST_LPI, FIRST_LPI + self.count - count + 1):
            wanted = set(range(first, first + count))
            if not wanted & self._allocated:
                self._allocated |= wanted
                return first
        raise ValueError(f"{count} LPIs in a row are wanted; there are {self.count} in all")

    def free(self, first: int, count: int) -> None:
        """Give them back."""
        self._allocated -= set(range(first, first + count))

    async def configure(self, cpu: Cpu, intid: int, *, enable: bool) -> None:
        """Change the enable bit in the table; redistributors have to be told."""
        address = self._properties + intid - FIRST_LPI
        value = await cpu.load(address, 1) & ~ENABLED | GROUP1
        await cpu.store(address, value | ENABLED if enable else value, 1)
