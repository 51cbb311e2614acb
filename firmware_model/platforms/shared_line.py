"""PCI functions on one INTx line of an Arm system; they are added, removed, and disappear."""

from typing import Any

from hdl.registers import pci
from hdl.registers.pci import Header

from ..chips.intx import IntxDomain, read_wire
from ..chips.pci import PciFunction
from ..chips.pci_msi import set_intx
from ..core.desc import Action, ActionFlag, Irqd, Trigger
from ..core.domain import IrqDomain
from ..core.flow import FasteoiFlow
from ..core.manage import free_irq, request_irq
from ..core.records import Kind
from ..drivers.event_device import GONE, EventDriver
from ..machine.cpu import Cpu
from ..machine.locks import Mutex
from ..machine.ops import Line
from ..strategies.intx_refcount import LineStrategy
from .arm64 import Arm64System

FIRST_SPI = 35
"""INTID of wire INTA, as a device tree says; the other wires follow."""
POLL = 16
"""Clocks from one look whether a function is still there to the next."""


class LineFunction(PciFunction):
    """A function with its driver.

    Attributes
    ----------
    wire : int
        The one its pin drives, known since the bus was enumerated; negative: it has no pin.
    irq : int
        Its interrupt's number; 0: it has none.
    deleted : bool
        No driver will bind to it any more.
    lock : Mutex
        A driver binds to it, or lets go.
    """

    def __init__(self, number: int, device: int, bar: int, work: int):
        super().__init__(device)
        self.bar = bar
        self.wire = 0
        self.irq = 0
        self.deleted = False
        self.lock = Mutex(f"function {number}", lock_class="device_lock")
        self.driver = EventDriver(bar, work=work)
        self.action = Action(self.driver.handle, f"function {number}", ActionFlag.SHARED)


class SharedLineSystem(Arm64System):
    """The software of a machine whose functions share a line.

    Parameters
    ----------
    strategy : type
        A subclass of :class:`LineStrategy`.
    devices : sequence of int
        PCI device numbers; function ``i`` is ``functions[i]``.
    hierarchical : bool
        The wires are a level of their own above the GIC. Otherwise the GIC's domain has one
        level, and is one without a hierarchy.
    one_disposal : bool
        The callers are of the old kind: each function maps its line, and when all are gone the
        core is told once to dispose of it, whatever the strategy counts.
    work : int
        Clocks that a handler works.
    options
        For :class:`Arm64System`.
    """

    def __init__(
        self,
        strategy: type[LineStrategy],
        *,
        devices: tuple[int, ...] = (1, 2, 3, 4),
        hierarchical: bool = True,
        one_disposal: bool = False,
        work: int = 0,
        **options: Any,
    ):
        super().__init__(strategy.kernel, **options)
        flags = Irqd.SINGLE_TARGET | Irqd.HANDLE_ENFORCE_IRQCTX
        gic = IrqDomain(
            self.core,
            "GIC",
            self.gic,
            hierarchical=hierarchical,
            flow=FasteoiFlow(),
            flags=flags,
        )
        self.gic.irqs = gic.revmap
        self.domain = IntxDomain(self.core, gic, FIRST_SPI) if hierarchical else gic
        self.strategy = strategy(self.core)
        self.one_disposal = one_disposal
        self._disposable = 0
        self.rescan = Mutex("pci_rescan_remove")
        self.functions = [
            LineFunction(number, device, pci.MMIO_BASE + number * pci.BAR_SIZE, work)
            for number, device in enumerate(devices)
        ]

    async def vector(self, cpu: Cpu, line: Line) -> None:
        """An interrupt may go on with whatever descriptor it finds, until it returns."""
        with self.core.rcu.reading(cpu):
            await super().vector(cpu, line)

    async def set_up(self, cpu: Cpu) -> None:
        """The bus is enumerated; as firmware leaves them, functions are silent."""
        for function in self.functions:
            function.wire = await read_wire(cpu, function)
            await set_intx(cpu, function, False)
            await function.enable(cpu, function.bar)

    # Functions come

    async def add(self, cpu: Cpu, number: int) -> None:
        """As :meth:`probe`; no other function is added or removed meanwhile."""
        async with self.rescan.guard(cpu):
            await self.probe(cpu, number)

    async def probe(self, cpu: Cpu, number: int) -> None:
        """The driver binds: the line is mapped, its irq requested, and the pin let loose."""
        function = self.functions[number]
        async with function.lock.guard(cpu):
            if function.deleted:
                return
            irq = await self._map(cpu, function.wire)
            desc = self.core.irqs.get(irq)
            if desc is None or await request_irq(cpu, desc, function.action):
                cpu.log(Kind.PROBE_FAILED, function=number, irq=irq)
                return
            function.irq = irq
            await set_intx(cpu, function, True)
            cpu.log(Kind.PROBED, function=number, irq=irq)

    async def _map(self, cpu: Cpu, wire: int) -> int:
        if wire < 0:
            return 0
        hwirq = wire if isinstance(self.domain, IntxDomain) else FIRST_SPI + wire
        if not self.one_disposal:
            return await self.strategy.map_line(cpu, self.domain, hwirq)
        trigger = Trigger.LEVEL_HIGH
        self._disposable = await self.strategy.mappings.create(cpu, self.domain, hwirq, trigger)
        return self._disposable

    # Functions go

    async def watch(self, cpu: Cpu, number: int) -> None:
        """Hot plug: look whether the function is still there until it is not; then remove it."""
        function = self.functions[number]
        while await function.read(cpu, Header.VENDOR, 4) != GONE:
            await cpu.delay(POLL)
        await self.remove(cpu, number)

    async def remove(self, cpu: Cpu, number: int) -> None:
        """The driver lets go, and the function is deleted; it may be gone already."""
        function = self.functions[number]
        async with self.rescan.guard(cpu):
            async with function.lock.guard(cpu):
                function.deleted = True
                irq, function.irq = function.irq, 0
                if not irq:
                    return
                await set_intx(cpu, function, False)
                desc = self.core.irqs.get(irq)
                if desc is not None:
                    await free_irq(cpu, desc, function.action)
            if not self.one_disposal:
                await self.strategy.unmap_line(cpu, irq)
            cpu.log(Kind.REMOVED, function=number, irq=irq)

    async def remove_all(self, cpu: Cpu) -> None:
        """Every function, and then the host bridge with the wires' domain."""
        for number in range(len(self.functions)):
            await self.remove(cpu, number)
        if self.one_disposal:
            await self.strategy.mappings.dispose(cpu, self._disposable)
        await self.domain.remove(cpu)
