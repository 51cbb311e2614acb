"""One MSI on its way: device event, message on the bus, APIC, interrupt line, handler."""

from collections.abc import Mapping

from firmware_model.chips import local_apic
from firmware_model.chips.pci import PciFunction
from firmware_model.chips.pci_msi import MsiCapability
from firmware_model.drivers.event_device import EventDriver
from firmware_model.machine.machine import Machine
from hdl.config import MMIO
from hdl.probe import CpuContext
from hdl.registers.lapic import message_address, message_data

from ..trial import Outcome, Plan
from .base import Axis, Scenario, Strategy, device_event
from .machines import X86

VECTOR = 0x31
TARGET = 1
BOOT = 400
"""Clocks that the set-up is given; it takes about 200."""


class _System:
    """CPU 0 sets the device up; CPU 1 takes its interrupts."""

    def __init__(self, cpus: int) -> None:
        self.function = PciFunction(1)
        self.msi = MsiCapability(self.function)
        self.driver = EventDriver(MMIO.base)
        self.machine = Machine(cpus, vector=self.vector)
        for cpu in self.machine.cpus:
            cpu.spawn(self.boot)

    async def boot(self, cpu) -> None:
        await local_apic.enable(cpu)
        if cpu.index == TARGET:
            return
        await self.function.enable(cpu, MMIO.base)
        await self.msi.probe(cpu)
        await self.msi.write_message(cpu, message_address(TARGET), message_data(VECTOR))
        await self.msi.set_enable(cpu, True)
        cpu.log("ready")

    async def vector(self, cpu, _line) -> None:
        vector = await local_apic.acknowledge(cpu)
        cpu.log("interrupt", vector=vector)
        if vector == VECTOR:
            with cpu.context(CpuContext.HANDLER, irq=VECTOR):
                await self.driver.handle(cpu)
        await local_apic.end_of_interrupt(cpu)


class FirstMsi(Scenario):
    """The smallest whole: nothing races here, everything is seen once."""

    name = "first-msi"
    summary = "one MSI from the endpoint through the gateware to a handler on CPU 1"
    source = "irqscope's own"
    config = X86
    boot_clocks = BOOT
    axes = {"inject": Axis(40, 0, 400, "clocks after the set-up at which the device has an event")}
    strategies = {"plain": Strategy("the message is written once, before the first event", True)}
    grids = {"quick": [{"inject": range(0, 101, 10)}], "full": [{"inject": range(401)}]}

    def boot(self, strategy: str, at: Mapping[str, int]) -> _System:
        return _System(self.config.cpus)

    def stimulate(self, system: _System, strategy: str, at: Mapping[str, int]) -> Plan:
        return Plan(system.machine, device_event(0, BOOT + at["inject"]))

    def window(self, at: Mapping[str, int], outcome: Outcome) -> tuple[int, int]:
        event = BOOT + at["inject"]
        return event - 5, event + 55
