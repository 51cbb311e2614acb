"""An Arm system that gives one PCI function to a guest; another one on the line is the host's."""

from collections.abc import Callable, Coroutine
from typing import Any

from hdl.probe import CpuContext
from hdl.registers import pci
from hdl.registers.ich import MAINTENANCE_INTID

from ..chips.gicv3 import SplitGicV3
from ..chips.pci import PciFunction
from ..chips.pci_intx import IntxControl
from ..core.desc import Action, ActionFlag, Irqd
from ..core.manage import request_irq
from ..core.records import Kind
from ..drivers.event_device import EventDriver
from ..drivers.guest import Guest
from ..drivers.irqfd import IrqFd
from ..drivers.vcpu import Vcpu
from ..drivers.vfio import VfioIntx
from ..drivers.vgic import Vgic, VirtualIrq
from ..machine.cpu import Cpu
from ..machine.ops import HOST_LINES, Line, Software
from ..machine.work import Workqueue
from ..strategies.vfio import IntxStrategy
from .arm64 import Arm64System

HOST_CPU, GUEST_CPU, USER_CPU = range(3)
"""Who takes the line's interrupt; who runs the guest; who sets up and tears down."""
GUEST_INTID = 40
"""The interrupt of its device, as the guest knows it."""
CO_DEVICE = "co-device"


class PassthroughSystem(Arm64System):
    """Two functions on one INTx line: the guest's, and the co-device, which is the host's.

    Parameters
    ----------
    strategy : IntxStrategy or a subclass
    intid : int
        Of the line they share.
    devices : (int, int)
        PCI device numbers of the guest's function and of the co-device.
    edge : bool
        The controller is told to look for edges: it presents an assertion once, and not again
        when the interrupt is unmasked or ended with the line still up. Software knows nothing
        of that; so do the controllers for which lazy disabling was found to lose interrupts.
    co_first : bool
        The co-device's driver asks for the interrupt first.
    kernel, frames, jiffy, options
        See :class:`Arm64System`; EOImode is 1, and there are three CPUs.

    Attributes
    ----------
    irq : int
        Of the line.
    intx : VfioIntx
    guest : Guest
    vcpu : Vcpu
    irqfd : IrqFd
    refused : str
        Whose request for the interrupt failed, if one did: the name of its action.
    """

    irq = 21

    def __init__(
        self,
        strategy: IntxStrategy | type[IntxStrategy],
        *,
        intid: int,
        devices: tuple[int, int] = (1, 2),
        edge: bool = False,
        co_first: bool = False,
        **options: Any,
    ):
        lines = [HOST_LINES] * 3
        lines[GUEST_CPU] |= Line.VIRQ
        super().__init__(eoimode=1, cpus=3, lines=lines, **options)
        assert isinstance(self.gic, SplitGicV3)
        self.strategy = strategy() if isinstance(strategy, type) else strategy
        self.refused = ""
        self._edge = edge
        self._co_first = co_first
        self._bars = [pci.MMIO_BASE + i * pci.BAR_SIZE for i in range(len(devices))]
        mine, other = (PciFunction(device) for device in devices)
        self.co_function = other
        self.co_driver = EventDriver(self._bars[1])
        self.co_action = Action(self.co_driver.handle, CO_DEVICE, ActionFlag.SHARED)
        self.desc = self.add_spi(self.irq, intid, affinity=1 << HOST_CPU)
        self.meter = Meter(len(self.machine.cpus))
        queue = MeteredQueue(self.machine.cpus[HOST_CPU], self.meter)
        self.intx = VfioIntx(mine, self.desc, self.strategy, queue)
        assert self.intx.trigger is not None
        virtual = VirtualIrq(GUEST_INTID)
        vgic = Vgic(self.gic, [virtual])
        self.vcpu = Vcpu(GUEST_CPU, self.gic, vgic)
        self.irqfd = IrqFd(
            vgic,
            virtual,
            self.intx.trigger,
            self.intx.unmask_fd,
            queue,
            level_first=self.strategy.level_first,
        )
        self.intx.consumer = self.irqfd
        self.guest = Guest(self.vcpu, EventDriver(self._bars[0]), GUEST_INTID)
        self.gic.private[MAINTENANCE_INTID] = self._maintenance

    async def vector(self, cpu: Cpu, line: Line) -> None:
        if line is Line.VIRQ:
            await self.guest.interrupt(cpu)
        elif cpu.index == GUEST_CPU:
            await self.meter.run("interrupt", cpu, self.vcpu.interrupt, line)
        else:
            await self.meter.run("interrupt", cpu, super().vector, line)

    async def _maintenance(self, cpu: Cpu) -> None:
        """To have left the guest is all that it takes."""

    # From the boot to the end of the guest

    async def set_up(self, cpu: Cpu) -> None:
        """Both drivers, in their order; the guest, if its device has an interrupt."""
        for function, bar in zip((self.intx.function, self.co_function), self._bars, strict=True):
            await function.enable(cpu, bar)
        await self.gic.set_type(cpu, self.desc.data, level=not self._edge)
        self.desc.set_flag(cpu, Irqd.LEVEL)
        requests = [self._request_vfio, self._request_co]
        for request in reversed(requests) if self._co_first else requests:
            await request(cpu)
        if self.refused == self.intx.name:
            return
        if not self.strategy.linked_late:
            await self.strategy.connect(cpu, self.intx)
        guest_cpu = self.machine.cpus[GUEST_CPU]
        guest_cpu.spawn(self._start_guest)
        await cpu.sleep_until(lambda: guest_cpu.settled)
        guest_cpu.set_context(CpuContext.GUEST)

    async def _request_vfio(self, cpu: Cpu) -> None:
        if await self.intx.enable(cpu):
            self.refused = self.intx.name
            await self.intx.close(cpu)

    async def _request_co(self, cpu: Cpu) -> None:
        """A driver that does not get its interrupt leaves a device that asks for none."""
        if await request_irq(cpu, self.desc, self.co_action):
            self.refused = CO_DEVICE
            await IntxControl(self.co_function).set_disable(cpu, True)

    async def _start_guest(self, cpu: Cpu) -> None:
        await self.gic.unmask(cpu, MAINTENANCE_INTID)
        await self.guest.boot(cpu)
        await self.vcpu.start(cpu)

    def start_link(self, at: int) -> None:
        """Have the guest's interrupt linked at clock ``at``, if that is not done already."""
        if self.strategy.linked_late and self.refused != self.intx.name:
            self.machine.cpus[USER_CPU].spawn(self._link, at)

    def start_teardown(self, at: int) -> None:
        """Have the guest end at clock ``at``, if there is one."""
        if self.refused != self.intx.name:
            self.machine.cpus[USER_CPU].spawn(self._tear_down, at)

    async def _link(self, cpu: Cpu, at: int) -> None:
        await cpu.delay_until(at)
        await self.strategy.connect(cpu, self.intx)

    async def _tear_down(self, cpu: Cpu, at: int) -> None:
        """What the exit of a virtual machine's process does, in its order."""
        await cpu.delay_until(at)
        await self.vcpu.stop(cpu)
        await self.irqfd.shutdown(cpu)
        await self.intx.disable(cpu)
        await self.irqfd.del_producer(cpu)
        await self.intx.close(cpu)
        self.machine.cpus[GUEST_CPU].set_context(CpuContext.IDLE)
        cpu.log(Kind.REMOVED, function=self.intx.function.device, irq=self.irq)


class Meter:
    """Steps and clocks that pieces of the host's software take; what is nested counts once.

    A step is an access, or a lock taken or given back.
    """

    def __init__(self, cpus: int):
        self._counted = [(0, 0)] * cpus

    async def run(
        self, what: str, cpu: Cpu, function: Callable[..., Coroutine[Any, Any, None]], *args: Any
    ) -> None:
        """``function(cpu, *args)``, and a record of what it took."""
        steps, begin = cpu.steps, cpu.machine.cycle
        inner_steps, inner_clocks = self._counted[cpu.index]
        await function(cpu, *args)
        steps, clocks = cpu.steps - steps, cpu.machine.cycle - begin
        counted_steps, counted_clocks = self._counted[cpu.index]
        own_steps = steps - (counted_steps - inner_steps)
        own_clocks = clocks - (counted_clocks - inner_clocks)
        self._counted[cpu.index] = (counted_steps + own_steps, counted_clocks + own_clocks)
        cpu.log(Kind.HOST_WORK, what=what, steps=own_steps, clocks=own_clocks)


class MeteredQueue(Workqueue):
    """Work whose cost is recorded."""

    def __init__(self, worker: Cpu, meter: Meter):
        super().__init__(worker)
        self._meter = meter

    async def execute(self, cpu: Cpu, function: Software) -> None:
        await self._meter.run("work", cpu, super().execute, function)
