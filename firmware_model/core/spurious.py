"""Interrupts that nobody cares for, and what is done about them. Source: kernel/irq/spurious.c"""

from ..machine.cpu import Cpu
from . import masking
from .desc import IrqDesc, IrqReturn, IState
from .records import Kind

COUNTED = 100_000
"""Interrupts after which the unhandled among them are looked at."""
TOLERATED = 99_900
"""More unhandled ones than this switch the line off."""

DEFERRED = 1 << 31
"""In ``threads_handled_last``: the verdict on a woken thread waits for the next interrupt."""


async def note_interrupt(cpu: Cpu, desc: IrqDesc, result: int) -> None:
    """Count an interrupt whose actions returned ``result``; without the descriptor's lock."""
    if desc.istate & IState.POLL_INPROGRESS or desc.no_debug:
        return
    if result not in (0, 1, 2, 3):
        cpu.log(Kind.BAD_RETURN, irq=desc.irq, result=result)
        return
    verdict = _judged(desc, result)
    if verdict is None:
        return
    core = desc.core
    if verdict == IrqReturn.NONE:
        now = core.jiffies
        if now > desc.last_unhandled + core.hz // 10:
            desc.irqs_unhandled = 1
        else:
            desc.irqs_unhandled += 1
        desc.last_unhandled = now
    if not desc.irqs_unhandled:
        return
    desc.irq_count += 1
    if desc.irq_count < COUNTED:
        return
    desc.irq_count = 0
    if desc.irqs_unhandled > TOLERATED:
        cpu.log(Kind.NOBODY_CARED, irq=desc.irq, unhandled=desc.irqs_unhandled)
        desc.set_istate(cpu, IState.SPURIOUS_DISABLED)
        desc.depth += 1
        await masking.disable(cpu, desc)
        core.start_poller(cpu)
    desc.irqs_unhandled = 0


def _judged(desc: IrqDesc, result: int) -> int | None:
    """NONE or HANDLED; None: known only when the woken thread has had its say."""
    if result == IrqReturn.WAKE_THREAD:
        if not desc.threads_handled_last & DEFERRED:
            desc.threads_handled_last |= DEFERRED
            return None
        handled = desc.threads_handled | DEFERRED
        if handled == desc.threads_handled_last:
            return IrqReturn.NONE
        desc.threads_handled_last = handled
        return IrqReturn.HANDLED
    if result & IrqReturn.HANDLED:
        desc.threads_handled_last &= ~DEFERRED
        return IrqReturn.HANDLED
    return IrqReturn.NONE
