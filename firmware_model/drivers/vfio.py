"""INTx of a PCI function that a guest owns: its interrupts become signals of an eventfd.

Source: drivers/vfio/pci/vfio_pci_intrs.c

The line is level-sensitive and only the guest can make it drop, so whoever takes the interrupt
must keep it from coming again until the guest has had its turn. How is the
:class:`~firmware_model.strategies.vfio.IntxStrategy`'s to decide.
"""

from typing import TYPE_CHECKING

from hdl.registers.pci import COMMAND_INTX_DISABLE, Header

from ..chips.gicv3 import SplitGicV3
from ..chips.pci import PciFunction
from ..chips.pci_intx import IntxControl
from ..core.desc import Action, ActionFlag, IrqDesc
from ..core.manage import (
    disable_irq_nosync,
    enable_irq,
    free_irq,
    request_irq,
    synchronize_irq,
)
from ..core.records import Kind
from ..machine.cpu import Cpu
from ..machine.locks import Mutex, SpinLock
from ..machine.work import Workqueue
from .eventfd import EventFd
from .irqfd import IrqFd

if TYPE_CHECKING:
    from ..strategies.vfio import IntxStrategy


class VfioIntx:
    """The driver of one function, for the one interrupt ``desc``.

    Methods with ``igate`` in their description sleep; the handler and :meth:`resampled` do not.

    Parameters
    ----------
    function : PciFunction
    desc : IrqDesc
    strategy : IntxStrategy
    queue : Workqueue

    Attributes
    ----------
    masked : bool
        Kept from interrupting, at the function or at the controller; under ``irqlock``.
    virq_disabled : bool
        The guest has set the INTx disable bit that it sees.
    direct : bool
        The guest's end of the interrupt ends the physical one; nobody masks.
    trigger : EventFd or None
        Signalled for the guest.
    unmask_fd : EventFd
        Signalled by whoever knows that the guest has ended its interrupt.
    consumer : IrqFd or None
        Whom the guest's end of the interrupt can be left to.
    """

    name = "vfio-intx"

    def __init__(
        self, function: PciFunction, desc: IrqDesc, strategy: "IntxStrategy", queue: Workqueue
    ):
        self.function = function
        self.desc = desc
        self.strategy = strategy
        self.control = IntxControl(function)
        self.irqlock = SpinLock("irqlock")
        self.igate = Mutex("igate")
        self.trigger: EventFd | None = EventFd("trigger")
        self.unmask_fd = EventFd("unmask")
        self.consumer: IrqFd | None = None
        self.enabled = False
        self.masked = False
        self.virq_disabled = False
        self.direct = False
        self.action = Action(self.handle, self.name)
        self._again = queue.item(self.signal)

    # The life of the interrupt

    async def enable(self, cpu: Cpu) -> int:
        """vfio_intx_enable: 0, or -EBUSY if another device's driver does not share the line."""
        self.masked = self.virq_disabled
        if self.strategy.at_device:
            await self.control.set_disable(cpu, self.masked)
            flags = ActionFlag.SHARED
        else:
            flags = ActionFlag.NO_AUTOEN if self.masked else 0
            flags |= ActionFlag.DISABLE_UNLAZY if self.strategy.unlazy else 0
        self.action.flags = flags
        # The first interrupt may come before the request is done.
        self.enabled = True
        error = await request_irq(cpu, self.desc, self.action)
        if error:
            self.enabled = False
        else:
            self.unmask_fd.listeners.append(self.resampled)
        return error

    async def disable(self, cpu: Cpu) -> None:
        """vfio_intx_disable: no more interrupts, whatever the guest still owes."""
        self.unmask_fd.listeners.remove(self.resampled)
        await self.strategy.free(cpu, self)
        await self._again.flush(cpu)
        self.enabled = False
        self.masked = False

    async def free(self, cpu: Cpu) -> None:
        """Give the interrupt back."""
        await free_irq(cpu, self.desc, self.action)

    async def close(self, cpu: Cpu) -> None:
        """vfio_pci_core_disable: the function can do no harm; nothing else is left enabled."""
        await self.function.write(cpu, Header.COMMAND, COMMAND_INTX_DISABLE, 2)

    # An interrupt

    async def handle(self, cpu: Cpu) -> bool:
        """The interrupt handler."""
        return await self.strategy.handle(cpu, self)

    async def automask(self, cpu: Cpu) -> bool:
        """With irqlock: whether it is this function's interrupt, which is then masked.

        Only the function can say, so at the controller every interrupt is its own.
        """
        if not self.strategy.at_device:
            await disable_irq_nosync(cpu, self.desc)
            self.masked = True
        elif self.masked or not await self.control.check_and_mask(cpu):
            return False
        self.masked = True
        return True

    async def signal(self, cpu: Cpu) -> None:
        """Tell the guest."""
        if self.enabled and not self.virq_disabled and self.trigger is not None:
            await self.trigger.signal(cpu)

    async def set_trigger(self, cpu: Cpu, trigger: EventFd | None) -> None:
        """vfio_intx_set_signal (igate): on return nobody signals the old one any more."""
        async with self.igate.guard(cpu):
            old, self.trigger = self.trigger, trigger
            if old is not None:
                await synchronize_irq(cpu, self.desc)
                await self._again.flush(cpu)

    # Masking by others, and the way back

    async def mask(self, cpu: Cpu) -> None:
        """The user asks for it (igate)."""
        async with self.igate.guard(cpu), self.irqlock.guard_irqsave(cpu):
            if not self.enabled:
                if self.strategy.at_device:
                    await self.control.set_disable(cpu, True)
            elif not self.masked:
                if self.strategy.at_device:
                    await self.control.set_disable(cpu, True)
                else:
                    await disable_irq_nosync(cpu, self.desc)
                self.masked = True

    async def unmask(self, cpu: Cpu) -> None:
        """The user asks for it (igate). A function that still asks has one more interrupt."""
        async with self.igate.guard(cpu):
            async with self.irqlock.guard_irqsave(cpu):
                again = await self._unmask(cpu)
            if again:
                await self.signal(cpu)

    async def resampled(self, cpu: Cpu) -> None:
        """The guest has ended its interrupt. An eventfd calls, so no eventfd is signalled here."""
        async with self.irqlock.guard_irqsave(cpu):
            again = await self._unmask(cpu)
        cpu.log(Kind.RESAMPLED, irq=self.desc.irq, again=again)
        if again:
            self._again.schedule()

    async def _unmask(self, cpu: Cpu) -> bool:
        """Whether it asks still, and so stays masked."""
        if not self.enabled:
            if self.strategy.at_device:
                await self.control.set_disable(cpu, False)
            return False
        if not self.masked or self.virq_disabled:
            return False
        if self.strategy.at_device:
            if not await self.control.check_and_unmask(cpu):
                return True
        else:
            await enable_irq(cpu, self.desc)
        self.masked = False
        return False

    async def set_virq_disabled(self, cpu: Cpu, disabled: bool) -> None:
        """The guest writes the INTx disable bit that it sees (igate)."""
        self.virq_disabled = disabled
        await (self.mask(cpu) if disabled else self.unmask(cpu))

    # Leaving the end to the guest

    async def forward(self, cpu: Cpu, forwarded: bool) -> None:
        """irq_set_vcpu_affinity: from now on the guest ends the physical interrupt, or the host."""
        chip = self.desc.chip
        assert isinstance(chip, SplitGicV3)
        async with self.desc.held(cpu):
            await chip.irq_set_vcpu_affinity(cpu, self.desc.data, forwarded)
        self.direct = forwarded
