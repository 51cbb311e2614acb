"""Masking, enabling, starting: what the core believes of the hardware, and how it changes it.

Source: kernel/irq/chip.c. All are called with the descriptor's lock held, interrupts masked.
"""

from ..machine.cpu import Cpu
from . import migration, resend
from .chip import ChipFlag
from .desc import Irqd, IrqDesc


async def mask_irq(cpu: Cpu, desc: IrqDesc) -> None:
    """Mask the hardware, unless the core believes that it is."""
    if desc.flags & Irqd.IRQ_MASKED:
        return
    data = desc.data
    if data.chip.irq_mask is not None:
        await data.chip.irq_mask(cpu, data)
        desc.set_flag(cpu, Irqd.IRQ_MASKED)


async def unmask_irq(cpu: Cpu, desc: IrqDesc) -> None:
    """Unmask the hardware, unless the core believes that it is."""
    if not desc.flags & Irqd.IRQ_MASKED:
        return
    data = desc.data
    if data.chip.irq_unmask is not None:
        await data.chip.irq_unmask(cpu, data)
        desc.clear_flag(cpu, Irqd.IRQ_MASKED)


async def mask_ack_irq(cpu: Cpu, desc: IrqDesc) -> None:
    """Mask and acknowledge, in one go if the chip can."""
    data = desc.data
    if data.chip.irq_mask_ack is not None:
        await data.chip.irq_mask_ack(cpu, data)
        desc.set_flag(cpu, Irqd.IRQ_MASKED)
        return
    await mask_irq(cpu, desc)
    if data.chip.irq_ack is not None:
        await data.chip.irq_ack(cpu, data)


async def unmask_threaded_irq(cpu: Cpu, desc: IrqDesc) -> None:
    """Unmask for a thread, which says EOI too if the chip leaves that to it."""
    chip = desc.chip
    if chip.flags & ChipFlag.EOI_THREADED and chip.irq_eoi is not None:
        await chip.irq_eoi(cpu, desc.data)
    await unmask_irq(cpu, desc)


async def enable(cpu: Cpu, desc: IrqDesc) -> None:
    """irq_enable: take back a disable, lazy or not."""
    data = desc.data
    if not desc.flags & Irqd.IRQ_DISABLED:
        await unmask_irq(cpu, desc)
        return
    desc.clear_flag(cpu, Irqd.IRQ_DISABLED)
    if data.chip.irq_enable is not None:
        await data.chip.irq_enable(cpu, data)
        desc.clear_flag(cpu, Irqd.IRQ_MASKED)
    else:
        await unmask_irq(cpu, desc)


async def disable(cpu: Cpu, desc: IrqDesc, *, mask: bool | None = None) -> None:
    """irq_disable: lazily, which leaves the hardware alone until the next event.

    ``mask`` None: the hardware is masked at once only if the line asks for that.
    """
    if mask is None:
        mask = desc.disable_unlazy
    data = desc.data
    if desc.flags & Irqd.IRQ_DISABLED:
        if mask:
            await mask_irq(cpu, desc)
        return
    desc.set_flag(cpu, Irqd.IRQ_DISABLED)
    if data.chip.irq_disable is not None:
        await data.chip.irq_disable(cpu, data)
        desc.set_flag(cpu, Irqd.IRQ_MASKED)
    elif mask:
        await mask_irq(cpu, desc)


async def startup(cpu: Cpu, desc: IrqDesc, *, again: bool) -> None:
    """irq_startup: make it live; ``again``: send what was swallowed while it was disabled."""
    desc.depth = 0
    if desc.flags & Irqd.IRQ_STARTED:
        await enable(cpu, desc)
    elif desc.chip.flags & ChipFlag.AFFINITY_PRE_STARTUP:
        await migration.setup_affinity(cpu, desc)
        await _start(cpu, desc)
    else:
        await _start(cpu, desc)
        await migration.setup_affinity(cpu, desc)
    if again:
        await resend.check_irq_resend(cpu, desc)


async def _start(cpu: Cpu, desc: IrqDesc) -> None:
    data = desc.data
    if not desc.flags & Irqd.ACTIVATED:
        cpu.misuse("an interrupt is started that was not activated", irq=desc.irq)
    if data.chip.irq_startup is not None:
        await data.chip.irq_startup(cpu, data)
        desc.clear_flag(cpu, Irqd.IRQ_DISABLED | Irqd.IRQ_MASKED)
    else:
        await enable(cpu, desc)
    desc.set_flag(cpu, Irqd.IRQ_STARTED)


async def shutdown(cpu: Cpu, desc: IrqDesc) -> None:
    """irq_shutdown: nobody wants it any more."""
    data = desc.data
    resend.forget(desc)
    if not desc.flags & Irqd.IRQ_STARTED:
        return
    desc.depth += 1
    if data.chip.irq_shutdown is not None:
        await data.chip.irq_shutdown(cpu, data)
        desc.set_flag(cpu, Irqd.IRQ_DISABLED | Irqd.IRQ_MASKED)
    else:
        await disable(cpu, desc, mask=True)
    desc.clear_flag(cpu, Irqd.IRQ_STARTED)


async def activate(cpu: Cpu, desc: IrqDesc, *, early: bool = False) -> int:
    """irq_domain_activate_irq: give it its place in the hardware; 0 or a negative error.

    ``early``: before anybody requests it. One that may be reserved is activated again then.
    """
    if desc.flags & Irqd.ACTIVATED:
        return 0
    error = await desc.chip.activate(cpu, desc.data, early=early)
    if not error and not (early and desc.flags & Irqd.CAN_RESERVE):
        desc.set_flag(cpu, Irqd.ACTIVATED)
    return error


async def deactivate(cpu: Cpu, desc: IrqDesc) -> None:
    """irq_domain_deactivate_irq."""
    if desc.flags & Irqd.ACTIVATED:
        await desc.chip.deactivate(cpu, desc.data)
        desc.clear_flag(cpu, Irqd.ACTIVATED)
