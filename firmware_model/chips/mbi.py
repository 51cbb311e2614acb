"""PCI messages that set SPIs: a write to a register of the distributor makes one pending.

Source: drivers/irqchip/irq-gic-v3-mbi.c.
"""

from hdl.registers.gicd import GicdRegister

from ..core.chip import below
from ..core.desc import IrqData, IrqDesc
from ..machine.cpu import Cpu
from .gicv3 import GicV3
from .pci_irq import Message, PciMsiChip
from .pci_msi import MsiCapability
from .pci_msix import MsixCapability


class MbiMsiChip(PciMsiChip):
    """The level of one function's messages; ``hwirq`` is the number of the message.

    Parameters
    ----------
    capability : MsiCapability or MsixCapability
    gic : GicV3
    first : int
        INTID of the first message's SPI.
    """

    name = "MBI-MSI"

    def __init__(self, capability: MsiCapability | MsixCapability, gic: GicV3, first: int):
        super().__init__(capability)
        self._gic = gic
        self._first = first

    def message(self, data: IrqData) -> Message:
        return Message(
            self._gic.frames.distributor + GicdRegister.SETSPI_NSR, self._first + data.hwirq
        )

    def attach(self, desc: IrqDesc, index: int) -> None:
        self._gic.add_to(desc, self._first + index)

    async def detach(self, cpu: Cpu, desc: IrqDesc) -> None:
        self._gic.irqs.pop(below(desc.data).hwirq, None)

    async def activate(self, cpu: Cpu, data: IrqData, *, early: bool) -> int:
        await self._gic.set_type(cpu, below(data), level=False)
        return await super().activate(cpu, data, early=early)

    async def irq_mask(self, cpu: Cpu, data: IrqData) -> None:
        await super().irq_mask(cpu, data)
        await self._gic.irq_mask(cpu, below(data))

    async def irq_unmask(self, cpu: Cpu, data: IrqData) -> None:
        await super().irq_unmask(cpu, data)
        await self._gic.irq_unmask(cpu, below(data))

    async def irq_eoi(self, cpu: Cpu, data: IrqData) -> None:
        await self._gic.irq_eoi(cpu, below(data))
