"""PCI messages through an ITS: the same message wherever the interrupt goes.

Source: drivers/irqchip/irq-gic-v3-its-pci-msi.c (irq-gic-its-msi-parent.c since Linux 6.10),
drivers/pci/msi/irqdomain.c.
"""

from hdl.registers import pci

from ..core.chip import below
from ..core.desc import IrqData, IrqDesc
from ..machine.cpu import Cpu
from .its import Its, ItsDevice
from .pci import PciFunction
from .pci_irq import Message, PciMsiChip
from .pci_msi import MsiCapability
from .pci_msix import MsixCapability


class ItsMsiChip(PciMsiChip):
    """The level of one function's messages; ``hwirq`` is the number of the message, its EventID.

    Where start-up and shutdown have callbacks of their own (Linux 6.17) the function's mask bits
    change only there, and while it is in use it is masked at the ITS; before, always at both.

    Parameters
    ----------
    capability : MsiCapability or MsixCapability
    function : PciFunction
    its : Its
    startup : bool
        There are those callbacks.
    """

    name = "ITS-MSI"

    def __init__(
        self,
        capability: MsiCapability | MsixCapability,
        function: PciFunction,
        its: Its,
        *,
        startup: bool = True,
    ):
        super().__init__(capability)
        self.its = its
        self._startup = startup
        self._device_id = pci.requester_id(function.device - 1)
        self._device: ItsDevice | None = None
        if startup:
            self.irq_startup = self._start
            self.irq_shutdown = self._shut_down

    def message(self, data: IrqData) -> Message:
        return Message(self.its.queue.translater, data.hwirq)

    async def prepare(self, cpu: Cpu, count: int) -> None:
        self._device = await self.its.create_device(cpu, self._device_id, count)

    def attach(self, desc: IrqDesc, index: int) -> None:
        assert self._device is not None
        self.its.add_to(desc, self._device, index)

    async def detach(self, cpu: Cpu, desc: IrqDesc) -> None:
        self.its.release(below(desc.data))

    async def finish(self, cpu: Cpu) -> None:
        assert self._device is not None
        await self.its.free_device(cpu, self._device)
        self._device = None

    async def irq_mask(self, cpu: Cpu, data: IrqData) -> None:
        if not self._startup:
            await super().irq_mask(cpu, data)
        await self.its.irq_mask(cpu, below(data))

    async def irq_unmask(self, cpu: Cpu, data: IrqData) -> None:
        if not self._startup:
            await super().irq_unmask(cpu, data)
        await self.its.irq_unmask(cpu, below(data))

    async def irq_eoi(self, cpu: Cpu, data: IrqData) -> None:
        await self.its.irq_eoi(cpu, below(data))

    async def _start(self, cpu: Cpu, data: IrqData) -> None:
        await self.its.irq_unmask(cpu, below(data))
        await self.capability.unmask(cpu, data.hwirq)

    async def _shut_down(self, cpu: Cpu, data: IrqData) -> None:
        await self.capability.mask(cpu, data.hwirq)
        await self.its.irq_mask(cpu, below(data))
