"""A function's messages as interrupts: the outermost level, above whatever its platform has.

Source: drivers/pci/msi/irqdomain.c, drivers/pci/msi/msi.c, kernel/irq/msi.c.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

from ..core import masking
from ..core.chip import AffinityResult, ChipFlag, IrqChip, set_affinity_parent
from ..core.desc import Irqd, IrqData, IrqDesc
from ..machine.cpu import Cpu
from .pci_msi import MsiCapability
from .pci_msix import MsixCapability

if TYPE_CHECKING:
    from ..strategies.torn_msi import MsiStrategy


class Message(NamedTuple):
    """What a function writes to interrupt: address and data."""

    address: int
    data: int


class PciMsiChip(IrqChip):
    """The level of one function's messages; ``hwirq`` is the number of the message.

    A platform's subclass says which message an interrupt has, and gives and takes the levels
    below.

    Parameters
    ----------
    capability : MsiCapability or MsixCapability
    """

    name = "PCI-MSI"
    flags = ChipFlag.ONESHOT_SAFE
    may_reserve = False
    """What can be masked need not be delivered anywhere before it is requested."""

    def __init__(self, capability: MsiCapability | MsixCapability):
        self.capability = capability

    def message(self, data: IrqData) -> Message:
        """The message of the interrupt as the levels below have it now."""
        raise NotImplementedError(f"{type(self).__name__} has no message")

    async def prepare(self, cpu: Cpu, count: int) -> None:
        """The function is going to have ``count`` messages."""

    def attach(self, desc: IrqDesc, index: int) -> None:
        """Give ``desc``, which is to be message ``index``, the levels below."""
        raise NotImplementedError(f"{type(self).__name__} has no levels below")

    async def detach(self, cpu: Cpu, desc: IrqDesc) -> None:
        """The opposite of :meth:`attach`."""

    async def finish(self, cpu: Cpu) -> None:
        """The opposite of :meth:`prepare`."""

    async def irq_mask(self, cpu: Cpu, data: IrqData) -> None:
        await self.capability.mask(cpu, data.hwirq)

    async def irq_unmask(self, cpu: Cpu, data: IrqData) -> None:
        await self.capability.unmask(cpu, data.hwirq)

    async def irq_set_affinity(self, cpu: Cpu, data: IrqData, mask: int, force: bool) -> int:
        """msi_domain_set_affinity: the level below decides, then the message is written again."""
        result = await set_affinity_parent(cpu, data, mask, force)
        if result >= 0 and result != AffinityResult.OK_DONE:
            await self.write(cpu, data, self.message(data))
        return result

    async def write(self, cpu: Cpu, data: IrqData, message: Message) -> None:
        """One message update."""
        await self.capability.write_message(cpu, message.address, message.data, data.hwirq)

    async def activate(self, cpu: Cpu, data: IrqData, *, early: bool) -> int:
        error = await super().activate(cpu, data, early=early)
        if not error:
            await self.write(cpu, data, self.message(data))
        return error

    async def deactivate(self, cpu: Cpu, data: IrqData) -> None:
        # Zeros, with MSI still on: that is how the kernel does it.
        await self.write(cpu, data, Message(0, 0))
        await super().deactivate(cpu, data)


class TargetedMsiChip(PciMsiChip):
    """Messages that name a CPU and a number there, so that each move changes both.

    Parameters
    ----------
    capability : MsiCapability or MsixCapability
    domain
        The level below: a chip that gives out targets (``target``, ``compose``, ``add_to``).
    strategy : MsiStrategy
        How a message in use is changed.
    """

    def __init__(
        self,
        capability: MsiCapability | MsixCapability,
        domain: Any,
        strategy: "MsiStrategy",
    ):
        super().__init__(capability)
        self.domain = domain
        self.strategy = strategy

    def message(self, data: IrqData) -> Message:
        return self.domain.compose(self.domain.target(data))

    def attach(self, desc: IrqDesc, index: int) -> None:
        self.domain.add_to(desc)

    async def irq_set_affinity(self, cpu: Cpu, data: IrqData, mask: int, force: bool) -> int:
        return await self.strategy.set_affinity(cpu, self, data, mask, force)

    async def write_target(self, cpu: Cpu, data: IrqData, target: Any) -> None:
        """One message update: from now on events go to ``target``."""
        await self.write(cpu, data, self.domain.compose(target))


async def enable_messages(cpu: Cpu, chip: PciMsiChip, descs: list[IrqDesc]) -> int:
    """pci_alloc_irq_vectors: one descriptor a message; 0, or a negative error."""
    if isinstance(chip.capability, MsixCapability):
        await chip.capability.set_up(cpu, len(descs))
    else:
        await chip.capability.set_up(cpu)
    await chip.prepare(cpu, len(descs))
    for index, desc in enumerate(descs):
        chip.attach(desc, index)
        desc.add_level(chip, index)
        if chip.may_reserve and chip.capability.maskable:
            desc.flags |= Irqd.CAN_RESERVE
    for desc in descs:
        error = await masking.activate(cpu, desc, early=True)
        if error:
            return error
    await chip.capability.go_live(cpu)
    return 0


async def disable_messages(cpu: Cpu, chip: PciMsiChip, descs: list[IrqDesc]) -> None:
    """pci_free_irq_vectors: the function is off, its interrupts are gone. All irqs are freed."""
    for desc in descs:
        if desc.action:
            cpu.misuse("messages are freed that are still requested", irq=desc.irq)
        await masking.deactivate(cpu, desc)
    await chip.capability.shut_down(cpu)
    for desc in descs:
        await chip.detach(cpu, desc)
    await chip.finish(cpu)
