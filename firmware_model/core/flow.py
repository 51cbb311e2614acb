"""Flow handlers: what is masked, acknowledged and run, in which order. Source: kernel/irq/chip.c

A flow is a class with a step for everything that somebody ever wanted to do otherwise; a variant
overrides one of them.
"""

from typing import ClassVar

from hdl.probe import CpuContext

from ..machine.cpu import Cpu
from . import masking, resend
from .chip import ChipFlag
from .cpumask import first_cpu
from .desc import Irqd, IrqDesc, IState
from .handle import handle_irq_event
from .records import Kind


class FlowHandler:
    """Calling it handles one interrupt, from the entry code, with interrupts masked."""

    name: ClassVar[str] = "none"

    async def __call__(self, cpu: Cpu, desc: IrqDesc) -> None:
        with cpu.context(CpuContext.FLOW, irq=desc.irq):
            # No guard: after an exception in here the lock stays held, as after an oops.
            await desc.lock.acquire(cpu)
            desc.show(cpu)
            await self.flow(cpu, desc)
            await desc.lock.release(cpu)

    async def flow(self, cpu: Cpu, desc: IrqDesc) -> None:
        """The steps, with the descriptor's lock held."""
        raise NotImplementedError(f"{type(self).__name__} has no flow")

    # The gate: may this CPU run the handler?

    async def can_handle_pm(self, cpu: Cpu, desc: IrqDesc) -> bool:
        """First half: is the handler running already, or is the line a wake-up source?"""
        if not desc.flags & (Irqd.IRQ_INPROGRESS | Irqd.WAKEUP_ARMED):
            return True
        if desc.flags & Irqd.WAKEUP_ARMED:
            desc.clear_flag(cpu, Irqd.WAKEUP_ARMED)
            desc.set_istate(cpu, IState.PENDING | IState.SUSPENDED)
            desc.depth += 1
            await masking.disable(cpu, desc)
            return False
        if desc.istate & IState.POLL_INPROGRESS:
            if desc.core.poll_cpu is cpu:
                cpu.log(Kind.WARNING, text="an interrupt that this CPU polls", irq=desc.irq)
                return False
            return await wait_on_inprogress(cpu, desc)
        return await self.while_in_progress(cpu, desc)

    async def while_in_progress(self, cpu: Cpu, desc: IrqDesc) -> bool:
        """Another CPU runs the handler: may this one run it, perhaps after waiting?"""
        return False

    def can_handle_actions(self, cpu: Cpu, desc: IrqDesc) -> bool:
        """Second half: is it wanted? If not it is remembered. A re-send counts as started."""
        desc.clear_istate(cpu, IState.REPLAY | IState.WAITING)
        if desc.runnable:
            return True
        desc.set_istate(cpu, IState.PENDING)
        return False

    def early_out(self, cpu: Cpu, desc: IrqDesc, why: str = "") -> None:
        """Record that this interrupt does not reach its actions now."""
        if not why:
            why = "disabled" if desc.disabled else "no_action"
        cpu.log(Kind.EARLY_OUT, irq=desc.irq, flow=self.name, why=why, pended=desc.pending)

    async def refuse(self, cpu: Cpu, desc: IrqDesc) -> bool:
        """Both halves of the gate; whether the interrupt was refused."""
        if not await self.can_handle_pm(cpu, desc):
            self.early_out(cpu, desc, "busy")
            return True
        if not self.can_handle_actions(cpu, desc):
            self.early_out(cpu, desc)
            return True
        return False


async def wait_on_inprogress(cpu: Cpu, desc: IrqDesc) -> bool:
    """Spin, without the lock, until the handler has ended elsewhere; may it run here then?"""
    cpu.log(Kind.BUSY_WAIT, irq=desc.irq)
    while True:
        await desc.lock.release(cpu)
        await cpu.spin_until(lambda: not desc.in_progress)
        await desc.lock.acquire(cpu)
        if not desc.in_progress:
            return desc.runnable


async def ack(cpu: Cpu, desc: IrqDesc) -> None:
    """The chip's irq_ack, if it has one."""
    if desc.chip.irq_ack is not None:
        await desc.chip.irq_ack(cpu, desc.data)


async def eoi(cpu: Cpu, desc: IrqDesc) -> None:
    """The chip's irq_eoi, if it has one; the chip is that of when the flow began."""
    data = desc.serving or desc.data
    if data.chip.irq_eoi is not None:
        await data.chip.irq_eoi(cpu, data)


async def eoi_unhandled(cpu: Cpu, desc: IrqDesc) -> None:
    """EOI of an interrupt that did not reach its actions, unless the chip wants none then."""
    if not desc.chip.flags & ChipFlag.EOI_IF_HANDLED:
        await eoi(cpu, desc)


async def cond_unmask_eoi(cpu: Cpu, desc: IrqDesc) -> None:
    """EOI after the actions; a one-shot interrupt may have to wait for its threads."""
    if not desc.istate & IState.ONESHOT:
        await eoi(cpu, desc)
    elif not desc.disabled and desc.masked and not desc.threads_oneshot:
        await eoi(cpu, desc)
        await masking.unmask_irq(cpu, desc)
    elif not desc.chip.flags & ChipFlag.EOI_THREADED:
        await eoi(cpu, desc)


class BadFlow(FlowHandler):
    """For an interrupt that nobody has set up."""

    name = "bad"

    async def flow(self, cpu: Cpu, desc: IrqDesc) -> None:
        cpu.log(Kind.UNEXPECTED_IRQ, irq=desc.irq)
        desc.count += 1


class SimpleFlow(FlowHandler):
    """No hardware is touched: a demultiplexer calls it."""

    name = "simple"

    async def flow(self, cpu: Cpu, desc: IrqDesc) -> None:
        if not await self.can_handle_pm(cpu, desc):
            if desc.flags & Irqd.RESEND_WHEN_IN_PROGRESS:
                # Nothing here looks at it again: only enable_irq does.
                desc.set_istate(cpu, IState.PENDING)
            self.early_out(cpu, desc, "busy")
            return
        if not self.can_handle_actions(cpu, desc):
            self.early_out(cpu, desc)
            return
        desc.count += 1
        await handle_irq_event(cpu, desc)


class LevelFlow(FlowHandler):
    """Masked while it is handled, since the line stays asserted until the device is served."""

    name = "level"

    async def flow(self, cpu: Cpu, desc: IrqDesc) -> None:
        await masking.mask_ack_irq(cpu, desc)
        if await self.refuse(cpu, desc):
            return
        desc.count += 1
        await handle_irq_event(cpu, desc)
        if not desc.disabled and desc.masked and not desc.threads_oneshot:
            await masking.unmask_irq(cpu, desc)


class EdgeFlow(FlowHandler):
    """Acknowledged before it is handled, so that what comes meanwhile is a new interrupt.

    Since Linux 6.17 that waits on the CPU it was moved to; before, and on other CPUs, it makes
    the CPU that runs the handler run it again.
    """

    name = "edge"

    async def flow(self, cpu: Cpu, desc: IrqDesc) -> None:
        if not await self.can_handle_pm(cpu, desc):
            desc.set_istate(cpu, IState.PENDING)
            self.early_out(cpu, desc, "busy")
            await masking.mask_ack_irq(cpu, desc)
            return
        if not self.can_handle_actions(cpu, desc):
            self.early_out(cpu, desc)
            await masking.mask_ack_irq(cpu, desc)
            return
        desc.count += 1
        await ack(cpu, desc)
        while True:
            if not desc.action:
                await masking.mask_irq(cpu, desc)
                return
            if desc.pending and not desc.disabled and desc.masked:
                await masking.unmask_irq(cpu, desc)
            await handle_irq_event(cpu, desc)
            if not desc.pending or desc.disabled:
                return

    async def while_in_progress(self, cpu: Cpu, desc: IrqDesc) -> bool:
        if (
            desc.core.kernel.edge_busy_wait
            and desc.flags & Irqd.SINGLE_TARGET
            and first_cpu(desc.effective_affinity) == cpu.index
        ):
            return await wait_on_inprogress(cpu, desc)
        return False


class FasteoiFlow(FlowHandler):
    """The controller holds it back until EOI: nothing is masked."""

    name = "fasteoi"

    async def flow(self, cpu: Cpu, desc: IrqDesc) -> None:
        if not await self.can_handle_pm(cpu, desc):
            await self.while_busy(cpu, desc)
            self.early_out(cpu, desc, "busy")
            await eoi_unhandled(cpu, desc)
            return
        if not self.can_handle_actions(cpu, desc):
            self.early_out(cpu, desc)
            await masking.mask_irq(cpu, desc)
            await eoi_unhandled(cpu, desc)
            return
        desc.count += 1
        if desc.istate & IState.ONESHOT:
            await masking.mask_irq(cpu, desc)
        desc.serving = desc.data
        await self.run(cpu, desc)
        await self.end(cpu, desc)
        desc.serving = None
        await self.after(cpu, desc)

    async def while_busy(self, cpu: Cpu, desc: IrqDesc) -> None:
        """It came while another CPU runs its handler: what becomes of it?"""
        if desc.core.kernel.fasteoi_resend and desc.flags & Irqd.RESEND_WHEN_IN_PROGRESS:
            desc.set_istate(cpu, IState.PENDING)

    async def run(self, cpu: Cpu, desc: IrqDesc) -> None:
        """The actions: once."""
        await handle_irq_event(cpu, desc)

    async def end(self, cpu: Cpu, desc: IrqDesc) -> None:
        """EOI: once, whatever happened meanwhile."""
        await cond_unmask_eoi(cpu, desc)

    async def after(self, cpu: Cpu, desc: IrqDesc) -> None:
        """After EOI: send again what came meanwhile, to the CPU it belongs to now."""
        if desc.core.kernel.fasteoi_resend and desc.pending:
            await resend.check_irq_resend(cpu, desc)


class FasteoiMaskFlow(FlowHandler):
    """As fasteoi, but masked and acknowledged first, for chips in a hierarchy that need it."""

    name = "fasteoi_mask"

    async def flow(self, cpu: Cpu, desc: IrqDesc) -> None:
        await masking.mask_ack_irq(cpu, desc)
        if await self.refuse(cpu, desc):
            await eoi_unhandled(cpu, desc)
            return
        desc.count += 1
        if desc.istate & IState.ONESHOT:
            await masking.mask_irq(cpu, desc)
        await handle_irq_event(cpu, desc)
        await cond_unmask_eoi(cpu, desc)
