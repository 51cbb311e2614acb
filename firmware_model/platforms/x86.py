"""An x86 system without interrupt remapping: local APICs, and one function that sends messages."""

from typing import Any

from hdl.registers import pci

from ..chips import local_apic
from ..chips.pci_irq import PciMsiChip
from ..chips.vector_table import VectorTable
from ..chips.x86_entry import CALL_VECTOR, InterruptEntry, take_cpu_down
from ..chips.x86_msi import X86MsiChip
from ..chips.x86_vector import VectorDomain
from ..core.desc import Action, IrqDesc
from ..core.flow import EdgeFlow, FlowHandler
from ..core.kernel import Kernel
from ..core.manage import request_irq
from ..core.migration import irq_set_affinity
from ..drivers.bystander import Bystander
from ..machine.cpu import Cpu
from ..machine.ops import Line
from ..strategies.torn_msi import MsiStrategy
from .message_device import MessageDeviceSystem


class X86System(MessageDeviceSystem):
    """CPUs, vectors, and the event device of one PCI function; the software of a whole machine.

    Parameters
    ----------
    strategy : MsiStrategy or a subclass
        How the function's message is changed while it is in use.
    kernel : Kernel or None
        None: the strategy's.
    flow : FlowHandler or None
        Of the function's interrupt; None: the usual edge flow.
    vectors : int, or a sequence with one for each CPU
        Lowest vector given to devices.
    capability, device, bar, affinity, keep_pin, work
        See :meth:`add_device`.
    cpus, jiffy, options
        See :class:`System`; after a jiffy the old vector is cleaned up.

    Attributes
    ----------
    entry, domain
        Of the vectors.
    machine, core, calls
        See :class:`System`.
    """

    def __init__(
        self,
        strategy: MsiStrategy | type[MsiStrategy],
        *,
        kernel: Kernel | None = None,
        flow: FlowHandler | None = None,
        capability: str = "msi",
        device: int = 1,
        bar: int = pci.MMIO_BASE,
        affinity: int = 1,
        vectors: int | tuple[int, ...] = 0x21,
        keep_pin: bool = False,
        work: int = 0,
        **options: Any,
    ):
        self.strategy = strategy() if isinstance(strategy, type) else strategy
        super().__init__(self.strategy.kernel if kernel is None else kernel, **options)
        self.domain = VectorDomain(self.core, VectorTable(len(self.machine.cpus), vectors))
        self.entry = InterruptEntry(self.domain)
        self.strategy.install(self.entry)
        self.entry.system[CALL_VECTOR] = self._handle_calls
        self.add_device(
            flow or EdgeFlow(),
            capability=capability,
            device=device,
            bar=bar,
            affinity=affinity,
            work=work,
            can_mask=self.strategy.can_mask,
            keep_pin=keep_pin,
        )
        self.install()

    def make_chip(self) -> PciMsiChip:
        return X86MsiChip(self.capability, self.domain, self.strategy)

    async def vector(self, cpu: Cpu, line: Line) -> None:
        await self.entry.vector(cpu, line)

    async def start_cpu(self, cpu: Cpu) -> None:
        await local_apic.enable(cpu)

    async def stop_cpu(self, cpu: Cpu, grace: int) -> None:
        await take_cpu_down(cpu, self.domain, grace=grace)

    async def send_call(self, cpu: Cpu, target: int) -> None:
        async with cpu.irqs_disabled():
            await self.domain.send_ipi(cpu, target, CALL_VECTOR)

    def add_bystander(self, irq: int, cpu: int, vector: int) -> Bystander:
        """Another device's interrupt, which holds ``vector`` of ``cpu``. Before the start."""
        bystander = Bystander()
        desc = self.core.allocate(irq, affinity=1 << cpu, handle=EdgeFlow())
        self.domain.add_to(desc)
        self.domain.place(desc, cpu, vector)
        action = Action(bystander.handle, f"bystander {irq}")
        self.machine.cpus[0].spawn(_request, desc, action)
        return bystander

    async def _handle_calls(self, cpu: Cpu) -> None:
        await self.domain.eoi(cpu)
        await self.calls.handle(cpu)


async def _request(cpu: Cpu, desc: IrqDesc, action: Action) -> None:
    await request_irq(cpu, desc, action)


class MovingInterrupt(X86System):
    """The event device's interrupt goes to CPU 0; then it moves to CPU 1.

    With the usual move nothing happens to the hardware at ``move_at``: the next interrupt of the
    device carries the move out, so the stimulus is one event to start it and others to hit it.

    Parameters
    ----------
    move_at : int or None
        Clock at which the affinity is written (or later, if the set-up takes longer). None: only
        when :meth:`start_move` is called, for instance on a copy of a system that has booted.
    hotplug : bool
        Instead CPU 0 goes offline then, and takes its interrupts to CPU 1.
    grace : int
        Clocks that a CPU going offline waits for late messages (in Linux, a millisecond).
    old_vector, new_vector : int
        What the interrupt gets on CPU 0, and then on CPU 1.
    foreign_new : bool
        Another device holds ``new_vector`` on CPU 0: where the message of the first step goes.
    foreign_old : bool
        Another device holds ``old_vector`` on CPU 1: where the torn message goes.
    options
        For :class:`X86System`.

    Attributes
    ----------
    bystanders : list of Bystander
    """

    def __init__(
        self,
        strategy: MsiStrategy | type[MsiStrategy],
        *,
        move_at: int | None = 1000,
        hotplug: bool = False,
        grace: int = 200,
        old_vector: int = 0x35,
        new_vector: int = 0x22,
        foreign_new: bool = False,
        foreign_old: bool = False,
        **options: Any,
    ):
        super().__init__(strategy, vectors=(old_vector, new_vector), **options)
        self.hotplug = hotplug
        self.grace = grace
        self.bystanders: list[Bystander] = []
        if foreign_new:
            self.bystanders.append(self.add_bystander(50, 0, new_vector))
        if foreign_old:
            self.bystanders.append(self.add_bystander(51, 1, old_vector))
        if move_at is not None:
            self.start_move(move_at)

    def start_move(self, at: int) -> None:
        """Have the interrupt moved at clock ``at``; once, before the start or at rest."""
        self.machine.cpus[1 if self.hotplug else 0].spawn(self._move, at)

    async def _move(self, cpu: Cpu, at: int) -> None:
        """The task that wants the interrupt on CPU 1."""
        await cpu.delay_until(at)
        if self.hotplug:
            await self.take_down(cpu, 0, grace=self.grace)
        else:
            await irq_set_affinity(cpu, self.desc, 1 << 1)
