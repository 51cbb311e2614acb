"""The four INTx wires of a PCI host, as a level above the controller that they lead to."""

from errno import EINVAL

from hdl.registers.pci import Header

from ..core.chip import IrqChip, retrigger_hierarchy, set_affinity_parent
from ..core.core import IrqCore
from ..core.desc import IrqData
from ..core.domain import IrqDomain
from ..core.flow import FasteoiFlow
from ..machine.cpu import Cpu
from .pci import PciFunction

WIRES = 4


async def read_wire(cpu: Cpu, function: PciFunction) -> int:
    """Which of its bus's wires, 0 to 3, the function's pin drives; negative: it has none.

    Source: pci_swizzle_interrupt_pin.
    """
    pin = await function.read(cpu, Header.INTERRUPT_PIN, 1)
    return (pin - 1 + function.device) % WIRES if pin else -EINVAL


class IntxChip(IrqChip):
    """Adds nothing: all that can be done to a wire, its controller does."""

    name = "INTx"

    async def irq_mask(self, cpu: Cpu, data: IrqData) -> None:
        parent = _parent(data)
        assert parent.chip.irq_mask is not None
        await parent.chip.irq_mask(cpu, parent)

    async def irq_unmask(self, cpu: Cpu, data: IrqData) -> None:
        parent = _parent(data)
        assert parent.chip.irq_unmask is not None
        await parent.chip.irq_unmask(cpu, parent)

    async def irq_eoi(self, cpu: Cpu, data: IrqData) -> None:
        parent = _parent(data)
        assert parent.chip.irq_eoi is not None
        await parent.chip.irq_eoi(cpu, parent)

    async def irq_set_affinity(self, cpu: Cpu, data: IrqData, mask: int, force: bool) -> int:
        return await set_affinity_parent(cpu, data, mask, force)

    async def irq_retrigger(self, cpu: Cpu, data: IrqData) -> bool:
        return await retrigger_hierarchy(cpu, data.parent)

    async def irq_get_active(self, cpu: Cpu, data: IrqData) -> bool:
        parent = _parent(data)
        return parent.chip.irq_get_active is not None and await parent.chip.irq_get_active(
            cpu, parent
        )


class IntxDomain(IrqDomain):
    """hwirq 0 to 3 is INTA to INTD; they lead to the parent's hwirqs from ``first`` on."""

    def __init__(self, core: IrqCore, parent: IrqDomain, first: int):
        super().__init__(
            core, "INTx", IntxChip(), parent=parent, flow=FasteoiFlow(), flags=parent.flags
        )
        self._first = first

    def parent_hwirq(self, hwirq: int) -> int:
        return self._first + hwirq

    async def map(self, cpu: Cpu, data: IrqData) -> int:
        return 0 if data.hwirq in range(WIRES) else -EINVAL


def _parent(data: IrqData) -> IrqData:
    assert data.parent is not None
    return data.parent
