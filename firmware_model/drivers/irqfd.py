"""KVM's bridge from an eventfd to a virtual interrupt, and back at its end.

Source: virt/kvm/eventfd.c
"""

from ..core.desc import IrqDesc
from ..machine.cpu import Cpu
from ..machine.work import Workqueue
from .eventfd import EventFd
from .vgic import Vgic, VirtualIrq


class IrqFd:
    """A signal of ``trigger`` raises ``irq`` of the guest; its end lowers it, and is passed on.

    The level stays up until the guest has ended the interrupt: nobody tells when the device has
    lowered its own. At the end ``resample`` is signalled, so that whoever knows the device looks
    whether it still asks.

    It is also the consumer of a physical interrupt that the guest may end itself
    (virt/lib/irqbypass.c).

    Parameters
    ----------
    level_first : bool
        The virtual level is lowered before ``resample`` is signalled, as it must be: the other way
        round, what resampling has raised again is lowered.

    Attributes
    ----------
    pause : int
        Clocks that pass between the two.
    """

    def __init__(
        self,
        vgic: Vgic,
        irq: VirtualIrq,
        trigger: EventFd,
        resample: EventFd,
        queue: Workqueue,
        *,
        level_first: bool = True,
    ):
        self.vgic = vgic
        self.irq = irq
        self.trigger = trigger
        self.resample = resample
        self.pause = 0
        self._level_first = level_first
        self._inject = queue.item(self._raise)
        trigger.listeners.append(self._wake)
        irq.acked = self._acked

    async def _wake(self, cpu: Cpu) -> None:
        """The distributor's lock may be taken, so this is nothing for a wake-up."""
        self._inject.schedule()

    async def _raise(self, cpu: Cpu) -> None:
        await self.vgic.inject(cpu, self.irq, True)

    async def _acked(self, cpu: Cpu) -> None:
        """The guest has ended it."""
        if self._level_first:
            await self.vgic.inject(cpu, self.irq, False)
            await cpu.delay(self.pause)
            await self.resample.signal(cpu)
        else:
            await self.resample.signal(cpu)
            await cpu.delay(self.pause)
            await self.vgic.inject(cpu, self.irq, False)

    async def add_producer(self, cpu: Cpu, desc: IrqDesc) -> None:
        """The guest's end of the interrupt ends ``desc`` from now on."""
        await self.vgic.map_physical(cpu, self.irq, desc)

    async def del_producer(self, cpu: Cpu) -> None:
        """The host ends it again."""
        await self.vgic.map_physical(cpu, self.irq, None)

    async def shutdown(self, cpu: Cpu) -> None:
        """The guest is gone; a signal that is under way is waited for."""
        self.trigger.listeners.remove(self._wake)
        await self._inject.flush(cpu)
        self.irq.acked = None
