"""Interrupts that leave a CPU which goes offline. Source: kernel/irq/cpuhotplug.c"""

from errno import ENOSPC

from hdl.probe import CpuContext

from ..machine.cpu import Cpu
from . import masking
from .chip import ChipFlag, force_complete_move
from .core import IrqCore
from .desc import Irqd, IrqDesc
from .migration import do_set_affinity
from .records import Kind


async def migrate_all_off_this_cpu(cpu: Cpu, core: IrqCore) -> None:
    """On the CPU that goes offline, out of the online mask already, all others stopped."""
    for irq in sorted(core.irqs):
        desc = core.irqs[irq]
        async with desc.held(cpu, CpuContext.STOP_MACHINE):
            before = desc.effective_affinity
            broke = await migrate_one_irq(cpu, desc)
        if before != desc.effective_affinity or broke:
            cpu.log(Kind.MIGRATED, irq=irq, broke_affinity=broke)


async def migrate_one_irq(cpu: Cpu, desc: IrqDesc) -> bool:
    """Move ``desc`` to a CPU that stays; whether its affinity had to be broken for that."""
    if not desc.has_chip or desc.chip.irq_set_affinity is None:
        return False
    chip, data, core = desc.chip, desc.data, desc.core
    mask_chip = bool(chip.flags & ChipFlag.MOVE_DEFERRED) and not desc.masked
    await force_complete_move(cpu, data)
    if (
        desc.flags & Irqd.PER_CPU
        or not desc.started
        or not desc.effective_affinity >> cpu.index & 1
    ):
        if desc.flags & Irqd.SETAFFINITY_PENDING and not desc.pending_mask & core.online:
            _drop_pending_move(cpu, desc)
        return False
    mask = desc.affinity
    if desc.flags & Irqd.SETAFFINITY_PENDING:
        if desc.pending_mask & core.online:
            mask = desc.pending_mask
        _drop_pending_move(cpu, desc)
    if mask_chip and chip.irq_mask is not None:
        await chip.irq_mask(cpu, data)
    broke = False
    if not mask & core.online:
        if desc.flags & Irqd.AFFINITY_MANAGED:
            await masking.shutdown(cpu, desc)
            await masking.deactivate(cpu, desc)
            return False
        mask = core.online
        broke = True
    error = await do_set_affinity(cpu, desc, mask, False)
    if error == -ENOSPC and not desc.flags & Irqd.AFFINITY_MANAGED:
        broke = True
        error = await do_set_affinity(cpu, desc, core.online, False)
    if error:
        cpu.log(Kind.WARNING, text="no CPU takes the interrupt", irq=desc.irq, error=error)
        broke = False
    if mask_chip and chip.irq_unmask is not None:
        await chip.irq_unmask(cpu, data)
    return broke


def _drop_pending_move(cpu: Cpu, desc: IrqDesc) -> None:
    desc.pending_mask = 0
    desc.clear_flag(cpu, Irqd.SETAFFINITY_PENDING)
