"""Where an interrupt goes, and when that may change. Source: kernel/irq/manage.c, migration.c

All but :func:`irq_set_affinity` are called with the descriptor's lock held, interrupts masked.
"""

from errno import EBUSY, EINVAL, EIO

from ..machine.cpu import Cpu
from .chip import AffinityResult, ChipFlag
from .desc import Irqd, IrqDesc
from .records import Kind


async def irq_set_affinity(cpu: Cpu, desc: IrqDesc, mask: int, *, force: bool = False) -> int:
    """What a write to smp_affinity does: 0, or a negative error.

    0 does not say that the interrupt has moved: on x86 that happens in its next interrupt.
    """
    if not mask & desc.core.online and not force:
        result = -EINVAL
    elif desc.flags & Irqd.AFFINITY_MANAGED:
        result = -EIO
    else:
        async with desc.held(cpu):
            result = await set_affinity_locked(cpu, desc, mask, force)
    cpu.log(Kind.SET_AFFINITY, irq=desc.irq, mask=mask, result=result)
    return result


async def set_affinity_locked(cpu: Cpu, desc: IrqDesc, mask: int, force: bool = False) -> int:
    """Move it now if its chip can and no earlier move waits; otherwise at its next interrupt."""
    if desc.chip.irq_set_affinity is None:
        return -EINVAL
    if not desc.chip.flags & ChipFlag.MOVE_DEFERRED and not (desc.flags & Irqd.SETAFFINITY_PENDING):
        result = await do_set_affinity(cpu, desc, mask, force)
        if result == -EBUSY and not force:
            result = _set_pending(cpu, desc, mask)
    else:
        result = _set_pending(cpu, desc, mask)
    desc.set_flag(cpu, Irqd.AFFINITY_SET)
    return result


def _set_pending(cpu: Cpu, desc: IrqDesc, mask: int) -> int:
    desc.pending_mask = mask
    desc.set_flag(cpu, Irqd.SETAFFINITY_PENDING)
    cpu.log(Kind.MOVE_PENDING, irq=desc.irq, mask=mask)
    return 0


async def do_set_affinity(cpu: Cpu, desc: IrqDesc, mask: int, force: bool) -> int:
    """Ask the chip, now; 0 or a negative error. Only ``force`` takes CPUs that are offline."""
    data = desc.data
    if data.chip.irq_set_affinity is None:
        return -EINVAL
    usable = mask if force else mask & desc.core.online
    if not usable:
        return -EINVAL
    cpu.log(Kind.MOVE_START, irq=desc.irq, mask=usable)
    result = await data.chip.irq_set_affinity(cpu, data, usable, force)
    if result in (AffinityResult.OK, AffinityResult.OK_DONE):
        desc.affinity = mask
    if result >= 0:
        result = 0
    cpu.log(Kind.MOVE_END, irq=desc.irq, result=result, effective=desc.effective_affinity)
    return result


async def setup_affinity(cpu: Cpu, desc: IrqDesc) -> int:
    """irq_setup_affinity: at start-up, what was asked for, or any CPU online."""
    if desc.chip.irq_set_affinity is None:
        return 0
    mask = desc.affinity & desc.core.online or desc.core.online
    return await do_set_affinity(cpu, desc, mask, False)


async def irq_move_irq(cpu: Cpu, desc: IrqDesc) -> None:
    """In its own interrupt, before EOI: carry out the move that waits, masked if it can be."""
    if not desc.flags & Irqd.SETAFFINITY_PENDING or desc.disabled:
        return
    data = desc.data
    masked = desc.masked
    # Directly, and back afterwards: the core's own idea of the mask does not change.
    if not masked and data.chip.irq_mask is not None:
        await data.chip.irq_mask(cpu, data)
    await _move_masked_irq(cpu, desc)
    if not masked and data.chip.irq_unmask is not None:
        await data.chip.irq_unmask(cpu, data)


async def _move_masked_irq(cpu: Cpu, desc: IrqDesc) -> None:
    desc.clear_flag(cpu, Irqd.SETAFFINITY_PENDING)
    if desc.flags & Irqd.PER_CPU:
        cpu.log(Kind.WARNING, text="a per-CPU interrupt was to be moved", irq=desc.irq)
        return
    if not desc.pending_mask or desc.chip.irq_set_affinity is None:
        return
    if desc.pending_mask & desc.core.online:
        result = await do_set_affinity(cpu, desc, desc.pending_mask, False)
        if result == -EBUSY:
            # An earlier move is not complete: once more in the next interrupt.
            desc.set_flag(cpu, Irqd.SETAFFINITY_PENDING)
            return
    desc.pending_mask = 0
