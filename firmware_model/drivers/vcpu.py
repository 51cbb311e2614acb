"""A virtual CPU: when the physical one runs the guest, and when the host.

Source: arch/arm64/kvm/arm.c
"""

from ..chips.gicv3 import SplitGicV3
from ..core.records import Kind
from ..machine.cpu import Cpu
from ..machine.ops import Line
from .vgic import Vgic

KICK_SGI = 0
"""Reschedule: it has nothing to do, to have left the guest is all."""


class Vcpu:
    """The guest's only CPU, whose thread never leaves CPU ``index``.

    That CPU runs the guest from :meth:`start` on, except in an interrupt of the host: it leaves the
    guest first and goes back at the end. The guest is what takes virtual interrupts there.

    Attributes
    ----------
    in_guest : bool
    gone : bool
        It will never run again.
    """

    def __init__(self, index: int, gic: SplitGicV3, vgic: Vgic):
        self.index = index
        self.vgic = vgic
        self.in_guest = False
        self.gone = False
        self._gic = gic
        self._started = False
        self._requested = False
        self._stopping = False
        vgic.kick = self.kick
        gic.private[KICK_SGI] = self._nothing

    async def start(self, cpu: Cpu) -> None:
        """KVM_RUN, on its CPU."""
        self._started = True
        async with cpu.irqs_disabled():
            await self._enter(cpu)

    async def interrupt(self, cpu: Cpu, line: Line) -> None:
        """An interrupt of the host, on its CPU."""
        if self.in_guest:
            await self._leave(cpu)
        await self._gic.vector(cpu, line)
        if self._started and not self.gone:
            await self._enter(cpu)

    async def kick(self, cpu: Cpu) -> None:
        """kvm_vcpu_kick: have it look at its interrupts, and at whether to stop."""
        self._requested = True
        if self.in_guest and cpu.index != self.index:
            await self._gic.send_sgi(cpu, self.index, KICK_SGI)

    async def stop(self, cpu: Cpu) -> None:
        """From another CPU: it leaves the guest for good; what its interrupts were is dropped."""
        self._stopping = True
        await self.kick(cpu)
        await cpu.sleep_until(self._is_gone)

    async def _enter(self, cpu: Cpu) -> None:
        """An injection that comes after the look at the interrupts is one more look."""
        while not self._stopping:
            self._requested = False
            await self.vgic.flush(cpu)
            self.in_guest = True
            if not self._requested:
                cpu.log(Kind.GUEST_ENTRY)
                await self.vgic.restore(cpu)
                return
            self.in_guest = False
        self.gone = True
        cpu.log(Kind.GUEST_GONE)

    async def _leave(self, cpu: Cpu) -> None:
        self.in_guest = False
        cpu.log(Kind.GUEST_EXIT)
        await self.vgic.save(cpu)
        await self.vgic.sync(cpu)

    def _is_gone(self) -> bool:
        return self.gone

    async def _nothing(self, cpu: Cpu) -> None:
        pass
