"""The poller: runs the actions of lines that were switched off. Source: kernel/irq/spurious.c"""

from typing import TYPE_CHECKING

from ..machine.cpu import Cpu
from .desc import ActionFlag, Irqd, IrqDesc, IrqReturn, IState
from .handle import handle_irq_event

if TYPE_CHECKING:
    from .core import IrqCore


async def poll_disabled_irqs(cpu: Cpu, core: "IrqCore") -> None:
    """Try every line that nobody cared for; one CPU at a time does that."""
    if core.poll_cpu is not None:
        return
    core.poll_cpu = cpu
    for desc in list(core.irqs.values()):
        if desc.istate & IState.SPURIOUS_DISABLED:
            async with desc.held(cpu):
                await try_one_irq(cpu, desc, force=True)
            core.start_poller(cpu)
    core.poll_cpu = None


async def try_one_irq(cpu: Cpu, desc: IrqDesc, *, force: bool) -> bool:
    """Run the actions without an interrupt, the lock held; whether that made sense."""
    if desc.flags & Irqd.PER_CPU:
        return False
    if desc.disabled and not force:
        return False
    action = desc.action[0] if desc.action else None
    if action is None or not action.flags & ActionFlag.SHARED or action.flags & ActionFlag.TIMER:
        return False
    if desc.in_progress:
        desc.set_istate(cpu, IState.PENDING)
        return False
    desc.set_istate(cpu, IState.POLL_INPROGRESS)
    result = 0
    while True:
        result |= await handle_irq_event(cpu, desc)
        if not (desc.istate & IState.PENDING and desc.action):
            break
    desc.clear_istate(cpu, IState.POLL_INPROGRESS)
    return result & IrqReturn.HANDLED != 0
