"""Calling the actions of an interrupt. Source: kernel/irq/handle.c"""

from functools import partial
from typing import Any

from hdl.probe import CpuContext

from ..machine.cpu import Cpu
from . import masking
from .desc import Action, Irqd, IrqDesc, IrqReturn, IState
from .records import Kind
from .spurious import note_interrupt


async def handle_irq_event(cpu: Cpu, desc: IrqDesc) -> int:
    """Run all actions; the descriptor's lock is held, and dropped meanwhile.

    Returns their results, ORed. What others do while the lock is dropped shows in the state
    words afterwards: a PENDING seen then was set by somebody else.
    """
    if not desc.action:
        cpu.misuse("an interrupt is handled that has no action left", irq=desc.irq)
    desc.clear_istate(cpu, IState.PENDING)
    desc.set_flag(cpu, Irqd.IRQ_INPROGRESS)
    await desc.lock.release(cpu)
    result = await _run_actions(cpu, desc)
    await note_interrupt(cpu, desc, result)
    await desc.lock.acquire(cpu)
    desc.clear_flag(cpu, Irqd.IRQ_INPROGRESS)
    return result


async def _run_actions(cpu: Cpu, desc: IrqDesc) -> int:
    total = 0
    for action in tuple(desc.action):
        name = action.name
        with cpu.context(CpuContext.HANDLER, irq=desc.irq):
            cpu.log(Kind.HANDLER_START, irq=desc.irq, action=name)
            result = checked(cpu, desc, await action.handler(cpu))
            cpu.log(Kind.HANDLER_END, irq=desc.irq, action=name, result=result)
        if result == IrqReturn.WAKE_THREAD:
            _wake_thread(cpu, desc, action)
        total |= result
    return total


def checked(cpu: Cpu, desc: IrqDesc, result: Any) -> int:
    """What a handler returned, as a number; what is none counts as NONE and is recorded."""
    if not isinstance(result, int):
        cpu.log(Kind.BAD_RETURN, irq=desc.irq, result=result)
        return IrqReturn.NONE
    return int(result)


def _wake_thread(cpu: Cpu, desc: IrqDesc, action: Action) -> None:
    if action.thread is None:
        cpu.misuse("a handler wakes a thread that it has not got", irq=desc.irq, action=action.name)
        return
    action.thread_running += 1
    if action.thread_running > 1:
        return
    desc.threads_oneshot |= action.thread_mask
    desc.threads_active += 1
    cpu.preempt(partial(_thread, desc, action))


async def _thread(desc: IrqDesc, action: Action, cpu: Cpu) -> None:
    """The thread of ``action``, woken: it runs on top of whatever task this CPU had."""
    assert action.thread is not None
    while action.thread_running:
        action.thread_running = 0
        cpu.log(Kind.THREAD_START, irq=desc.irq, action=action.name)
        result = checked(cpu, desc, await action.thread(cpu))
        cpu.log(Kind.THREAD_END, irq=desc.irq, action=action.name, result=result)
        if result & IrqReturn.HANDLED:
            desc.threads_handled += 1
        await _finish_oneshot(cpu, desc, action)
    desc.threads_active -= 1


async def _finish_oneshot(cpu: Cpu, desc: IrqDesc, action: Action) -> None:
    """irq_finalize_oneshot: the last thread of a one-shot interrupt unmasks it."""
    if not desc.istate & IState.ONESHOT:
        return
    while True:
        async with desc.held(cpu):
            if not desc.in_progress:
                if not action.thread_running:
                    desc.threads_oneshot &= ~action.thread_mask
                    if not desc.threads_oneshot and not desc.disabled and desc.masked:
                        await masking.unmask_threaded_irq(cpu, desc)
                return
        await cpu.spin_until(lambda: not desc.in_progress)
