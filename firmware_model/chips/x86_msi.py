"""PCI messages straight to a CPU's vectors: x86 without interrupt remapping.

Source: arch/x86/kernel/apic/msi.c, drivers/pci/msi/irqdomain.c, kernel/irq/msi.c.
"""

from typing import TYPE_CHECKING

from ..core import masking
from ..core.chip import ChipFlag, IrqChip, ack_parent
from ..core.desc import Irqd, IrqData, IrqDesc
from ..machine.cpu import Cpu
from .pci_msi import MsiCapability
from .pci_msix import MsixCapability
from .x86_vector import Target, VectorDomain

if TYPE_CHECKING:
    from ..strategies.torn_msi import MsiStrategy


class X86MsiChip(IrqChip):
    """The level of one function's messages; ``hwirq`` is the number of the message.

    Parameters
    ----------
    capability : MsiCapability or MsixCapability
    domain : VectorDomain
        The level below.
    strategy : MsiStrategy
        How a message in use is changed.
    """

    name = "PCI-MSI"
    flags = ChipFlag.AFFINITY_PRE_STARTUP | ChipFlag.MOVE_DEFERRED | ChipFlag.ONESHOT_SAFE

    def __init__(
        self,
        capability: MsiCapability | MsixCapability,
        domain: VectorDomain,
        strategy: "MsiStrategy",
    ):
        self.capability = capability
        self.domain = domain
        self.strategy = strategy

    async def irq_mask(self, cpu: Cpu, data: IrqData) -> None:
        await self.capability.mask(cpu, data.hwirq)

    async def irq_unmask(self, cpu: Cpu, data: IrqData) -> None:
        await self.capability.unmask(cpu, data.hwirq)

    async def irq_ack(self, cpu: Cpu, data: IrqData) -> None:
        await ack_parent(cpu, data)

    async def irq_set_affinity(self, cpu: Cpu, data: IrqData, mask: int, force: bool) -> int:
        return await self.strategy.set_affinity(cpu, self, data, mask, force)

    async def write_target(self, cpu: Cpu, data: IrqData, target: Target) -> None:
        """One message update: from now on events go to ``target``."""
        message = self.domain.compose(target)
        await self.capability.write_message(cpu, message.address, message.data, data.hwirq)

    async def activate(self, cpu: Cpu, data: IrqData, *, early: bool) -> int:
        error = await super().activate(cpu, data, early=early)
        if not error:
            await self.write_target(cpu, data, self.domain.target(data))
        return error

    async def deactivate(self, cpu: Cpu, data: IrqData) -> None:
        # Zeros, with MSI still on: that is how the kernel does it.
        await self.capability.write_message(cpu, 0, 0, data.hwirq)
        await super().deactivate(cpu, data)


async def enable_messages(cpu: Cpu, chip: X86MsiChip, descs: list[IrqDesc]) -> int:
    """pci_alloc_irq_vectors: one descriptor a message; 0, or a negative error.

    A function whose messages can be masked gets real vectors only when they are requested.
    """
    for index, desc in enumerate(descs):
        chip.domain.add_to(desc)
        desc.add_level(chip, index)
        if chip.capability.maskable:
            desc.flags |= Irqd.CAN_RESERVE
    if isinstance(chip.capability, MsixCapability):
        await chip.capability.set_up(cpu, len(descs))
    else:
        await chip.capability.set_up(cpu)
    for desc in descs:
        error = await masking.activate(cpu, desc, early=True)
        if error:
            return error
    await chip.capability.go_live(cpu)
    return 0


async def disable_messages(cpu: Cpu, chip: X86MsiChip, descs: list[IrqDesc]) -> None:
    """pci_free_irq_vectors: the function is off, and its vectors are free. All irqs are freed."""
    for desc in descs:
        if desc.action:
            cpu.misuse("messages are freed that are still requested", irq=desc.irq)
        await masking.deactivate(cpu, desc)
    await chip.capability.shut_down(cpu)
    for desc in descs:
        await chip.domain.release(cpu, chip.domain.level(desc.data))
