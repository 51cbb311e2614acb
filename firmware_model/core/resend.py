"""Sending an interrupt again that came when it could not be handled. Source: kernel/irq/resend.c"""

from errno import EBUSY, EINVAL

from ..machine.cpu import Cpu
from .chip import retrigger_hierarchy
from .desc import Irqd, IrqDesc, IState
from .records import Kind


async def check_irq_resend(cpu: Cpu, desc: IrqDesc, *, inject: bool = False) -> int:
    """Send ``desc`` again if it is pending (or ``inject``).

    With the descriptor's lock held and interrupts masked. Returns 0, or -EINVAL: the hardware
    does so itself or nothing can; or -EBUSY: a re-send is out already, and PENDING stays.
    """
    if desc.flags & Irqd.LEVEL:
        desc.clear_istate(cpu, IState.PENDING)
        return -EINVAL
    if desc.istate & IState.REPLAY:
        cpu.log(Kind.RESEND_REFUSED, irq=desc.irq, why="busy")
        return -EBUSY
    if not (desc.istate & IState.PENDING or inject):
        return 0
    desc.clear_istate(cpu, IState.PENDING)
    if await retrigger_hierarchy(cpu, desc.data):
        by = "hardware"
    elif desc.flags & Irqd.HANDLE_ENFORCE_IRQCTX:
        cpu.log(Kind.RESEND_REFUSED, irq=desc.irq, why="no_way")
        return -EINVAL
    else:
        by = "software"
        if desc not in desc.core.resend_list:
            desc.core.resend_list.append(desc)
        cpu.raise_softirq(desc.core.run_resends)
    desc.set_istate(cpu, IState.REPLAY)
    cpu.log(Kind.RESEND, irq=desc.irq, by=by)
    return 0


def forget(desc: IrqDesc) -> None:
    """Take ``desc`` off the list of those to be sent again by software."""
    if desc in desc.core.resend_list:
        desc.core.resend_list.remove(desc)
