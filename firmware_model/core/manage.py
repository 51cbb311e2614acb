"""What drivers call: request, free, disable, enable, synchronise. Source: kernel/irq/manage.c"""

from errno import EBUSY, EINVAL

from ..machine.cpu import Cpu
from . import masking
from .chip import ChipFlag
from .desc import Action, ActionFlag, Irqd, IrqDesc, IState
from .records import Kind

MAX_THREADS = 32
"""Actions of a one-shot interrupt, one bit each."""


async def request_irq(cpu: Cpu, desc: IrqDesc, action: Action) -> int:
    """Have ``action`` called for ``desc``; 0 or a negative error, with no side effect then."""
    result = _check(desc, action)
    if not result:
        async with desc.request_mutex.guard(cpu), desc.held(cpu):
            result = await _setup(cpu, desc, action)
    cpu.log(Kind.REQUEST_IRQ, irq=desc.irq, action=action.name, result=result)
    return result


def _check(desc: IrqDesc, action: Action) -> int:
    shared = action.flags & ActionFlag.SHARED
    if shared and action.flags & ActionFlag.NO_AUTOEN:
        return -EINVAL
    return -EINVAL if desc.no_request else 0


async def _setup(cpu: Cpu, desc: IrqDesc, action: Action) -> int:
    if action in desc.action:
        cpu.misuse("an action was requested twice", irq=desc.irq, action=action.name)
        return -EBUSY
    shared = bool(desc.action)
    if shared and not _compatible(desc.action[0].flags, action.flags):
        return -EBUSY
    if action.flags & ActionFlag.ONESHOT and not desc.chip.flags & ChipFlag.ONESHOT_SAFE:
        taken = 0
        for other in desc.action:
            taken |= other.thread_mask
        free = ~taken & (1 << MAX_THREADS) - 1
        if not free:
            return -EBUSY
        action.thread_mask = free & -free
    if not shared:
        error = await masking.activate(cpu, desc)
        if error:
            return error
        desc.clear_istate(cpu, IState.SPURIOUS_DISABLED | IState.ONESHOT | IState.WAITING)
        desc.clear_flag(cpu, Irqd.IRQ_INPROGRESS)
        desc.disable_unlazy = bool(action.flags & ActionFlag.DISABLE_UNLAZY)
        desc.no_debug = bool(action.flags & ActionFlag.NO_DEBUG)
        if action.flags & ActionFlag.PERCPU:
            desc.set_flag(cpu, Irqd.PER_CPU)
        if action.flags & ActionFlag.ONESHOT and action.thread_mask:
            desc.set_istate(cpu, IState.ONESHOT)
        if action.flags & ActionFlag.NO_AUTOEN:
            desc.depth = 1
        else:
            await masking.startup(cpu, desc, again=True)
    desc.action.append(action)
    desc.irq_count = 0
    desc.irqs_unhandled = 0
    if shared and desc.istate & IState.SPURIOUS_DISABLED:
        desc.clear_istate(cpu, IState.SPURIOUS_DISABLED)
        cpu.log(Kind.REENABLED, irq=desc.irq)
        await _enable(cpu, desc)
    return 0


def _compatible(old: int, new: int) -> bool:
    same = ActionFlag.ONESHOT | ActionFlag.PERCPU
    return bool(old & new & ActionFlag.SHARED) and not (old ^ new) & same


async def free_irq(cpu: Cpu, desc: IrqDesc, action: Action) -> bool:
    """Take ``action`` away and wait until it is not running; False if it was not there."""
    async with desc.request_mutex.guard(cpu):
        async with desc.held(cpu):
            if action not in desc.action:
                cpu.misuse("an irq is freed that is free already", irq=desc.irq, action=action.name)
                return False
            desc.action.remove(action)
            if not desc.action:
                desc.disable_unlazy = False
                await masking.shutdown(cpu, desc)
        await synchronize_irq(cpu, desc)
        if not desc.action:
            async with desc.held(cpu):
                await masking.deactivate(cpu, desc)
    cpu.log(Kind.FREE_IRQ, irq=desc.irq, action=action.name)
    return True


async def synchronize_irq(cpu: Cpu, desc: IrqDesc) -> None:
    """Wait until no CPU runs a handler, the hardware has none active, and no thread runs."""
    await synchronize_hardirq(cpu, desc, ask_chip=True)
    if desc.threads_active:
        await cpu.sleep_until(lambda: not desc.threads_active)


async def synchronize_hardirq(cpu: Cpu, desc: IrqDesc, *, ask_chip: bool = False) -> None:
    """Wait until no CPU runs a handler. In that very handler, this waits for ever."""
    while True:
        await cpu.spin_until(lambda: not desc.in_progress)
        async with desc.held(cpu):
            busy = desc.in_progress
            if not busy and ask_chip and desc.chip.irq_get_active is not None:
                busy = await desc.chip.irq_get_active(cpu, desc.data)
        if not busy:
            return


async def disable_irq_nosync(cpu: Cpu, desc: IrqDesc) -> None:
    """Disable once more; a handler may still be running afterwards."""
    async with desc.held(cpu):
        desc.depth += 1
        if desc.depth == 1:
            await masking.disable(cpu, desc)
        desc.show(cpu)
        cpu.log(Kind.DISABLE_IRQ, irq=desc.irq, depth=desc.depth)


async def disable_irq(cpu: Cpu, desc: IrqDesc) -> None:
    """Disable once more and wait for the handler; may sleep."""
    cpu.check_may_sleep("disable_irq")
    await disable_irq_nosync(cpu, desc)
    await synchronize_irq(cpu, desc)


async def enable_irq(cpu: Cpu, desc: IrqDesc) -> None:
    """Take back one disable; the last sends again what was swallowed meanwhile."""
    async with desc.held(cpu):
        await _enable(cpu, desc)
        cpu.log(Kind.ENABLE_IRQ, irq=desc.irq, depth=desc.depth)


async def _enable(cpu: Cpu, desc: IrqDesc) -> None:
    if desc.depth == 0:
        cpu.misuse("an irq is enabled that is enabled already", irq=desc.irq)
    elif desc.depth == 1 and not desc.istate & IState.SUSPENDED:
        await masking.startup(cpu, desc, again=True)
    elif desc.depth == 1:
        cpu.misuse("an irq is enabled that is suspended", irq=desc.irq)
    else:
        desc.depth -= 1
    desc.show(cpu)
