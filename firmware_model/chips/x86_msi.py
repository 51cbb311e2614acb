"""PCI messages straight to a CPU's vectors: x86 without interrupt remapping.

Source: arch/x86/kernel/apic/msi.c.
"""

from ..core.chip import ChipFlag, ack_parent
from ..core.desc import IrqData, IrqDesc
from ..machine.cpu import Cpu
from .pci_irq import TargetedMsiChip
from .x86_vector import VectorDomain


class X86MsiChip(TargetedMsiChip):
    """The level of one function's messages; ``hwirq`` is the number of the message."""

    flags = ChipFlag.AFFINITY_PRE_STARTUP | ChipFlag.MOVE_DEFERRED | ChipFlag.ONESHOT_SAFE
    may_reserve = True
    domain: VectorDomain

    async def detach(self, cpu: Cpu, desc: IrqDesc) -> None:
        await self.domain.release(cpu, self.domain.level(desc.data))

    async def irq_ack(self, cpu: Cpu, data: IrqData) -> None:
        await ack_parent(cpu, data)
