"""The interface between the core and interrupt hardware, with the kernel's callback names."""

from collections.abc import Callable, Coroutine
from errno import ENOSYS
from typing import Any, ClassVar

from ..machine.cpu import Cpu
from .desc import IrqData


class ChipFlag:
    """How a chip wants to be treated; values as in include/linux/irq.h."""

    EOI_IF_HANDLED = 1 << 1
    ONESHOT_SAFE = 1 << 5
    EOI_THREADED = 1 << 6
    AFFINITY_PRE_STARTUP = 1 << 10  #: affinity is set before the first unmask
    MOVE_DEFERRED = 1 << 12  #: may only move in its own interrupt


class AffinityResult:
    """What ``irq_set_affinity`` returns if not an error."""

    OK = 0
    OK_NOCOPY = 1
    OK_DONE = 2  #: and no level above has anything left to do


Operation = Callable[[Cpu, IrqData], Coroutine[Any, Any, None]]


class IrqChip:
    """One level of interrupt hardware. A callback that is None does not exist.

    Callbacks run with the descriptor's lock held and interrupts masked. ``data`` is this chip's
    own level. ``activate`` and ``deactivate`` are the kernel's domain operations: they stand here
    since every domain has one chip; a level calls the level below itself.
    """

    name: ClassVar[str] = "none"
    flags: int = 0

    irq_ack: Operation | None = None
    irq_mask: Operation | None = None
    irq_unmask: Operation | None = None
    irq_mask_ack: Operation | None = None
    irq_eoi: Operation | None = None
    irq_enable: Operation | None = None
    irq_disable: Operation | None = None
    irq_startup: Operation | None = None
    irq_shutdown: Operation | None = None

    irq_retrigger: Callable[[Cpu, IrqData], Coroutine[Any, Any, bool]] | None = None
    """Raise the interrupt again; whether that was possible."""
    irq_set_affinity: Callable[[Cpu, IrqData, int, bool], Coroutine[Any, Any, int]] | None = None
    """(cpu, data, mask, force): an :class:`AffinityResult` or a negative error."""
    irq_get_active: Callable[[Cpu, IrqData], Coroutine[Any, Any, bool]] | None = None
    """Whether the hardware holds it active (irq_get_irqchip_state of ACTIVE)."""
    irq_force_complete_move: Operation | None = None
    """A CPU goes offline: finish whatever is left of an earlier move."""

    async def activate(self, cpu: Cpu, data: IrqData, *, early: bool) -> int:
        """Tell the hardware where to send it. ``early``: nobody has requested it yet."""
        if data.parent is not None:
            return await data.parent.chip.activate(cpu, data.parent, early=early)
        return 0

    async def deactivate(self, cpu: Cpu, data: IrqData) -> None:
        """The opposite of :meth:`activate`, this level before those below."""
        if data.parent is not None:
            await data.parent.chip.deactivate(cpu, data.parent)


def below(data: IrqData) -> IrqData:
    """The next level towards the CPU, which there must be."""
    if data.parent is None:
        raise ValueError(f"irq {data.desc.irq} has no level below {data.chip.name}")
    return data.parent


async def retrigger_hierarchy(cpu: Cpu, data: IrqData | None) -> bool:
    """Ask the first level from ``data`` downwards that can raise the interrupt again."""
    while data is not None:
        if data.chip.irq_retrigger is not None:
            return await data.chip.irq_retrigger(cpu, data)
        data = data.parent
    return False


async def ack_parent(cpu: Cpu, data: IrqData) -> None:
    """``irq_ack`` of the level below."""
    parent = data.parent
    if parent is None or parent.chip.irq_ack is None:
        cpu.misuse("a chip relies on a parent without irq_ack", irq=data.desc.irq)
        return
    await parent.chip.irq_ack(cpu, parent)


async def set_affinity_parent(cpu: Cpu, data: IrqData, mask: int, force: bool) -> int:
    """``irq_set_affinity`` of the level below; -ENOSYS if it has none."""
    parent = data.parent
    if parent is None or parent.chip.irq_set_affinity is None:
        return -ENOSYS
    return await parent.chip.irq_set_affinity(cpu, parent, mask, force)


async def force_complete_move(cpu: Cpu, data: IrqData | None) -> None:
    """``irq_force_complete_move`` of the first level from ``data`` downwards that has it."""
    while data is not None:
        if data.chip.irq_force_complete_move is not None:
            await data.chip.irq_force_complete_move(cpu, data)
            return
        data = data.parent
