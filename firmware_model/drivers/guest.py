"""The software inside the guest: a kernel that knows one device and one interrupt."""

from collections.abc import Coroutine
from typing import Any, cast

from hdl.probe import CpuContext
from hdl.registers.icc import SPECIAL_INTIDS
from hdl.registers.sysreg import SystemRegister

from ..core.records import Kind
from ..machine.cpu import Cpu
from .event_device import EventDriver
from .vcpu import Vcpu

PRIORITY_MASK = 0xF0


class GuestGoneError(Exception):
    """The guest was stopped for good while it waited for something."""


class GuestCpu:
    """What a guest has of its CPU: as much as drivers use of a :class:`Cpu`.

    Nothing comes back once its :class:`Vcpu` has stopped.
    """

    def __init__(self, cpu: Cpu, vcpu: Vcpu):
        self._cpu = cpu
        self._vcpu = vcpu
        self.log = cpu.log

    async def load(self, address: int, size: int = 4) -> int:
        return await self._back(self._cpu.load(address, size))

    async def store(self, address: int, value: int, size: int = 4) -> None:
        await self._back(self._cpu.store(address, value, size))

    async def read_sysreg(self, register: SystemRegister) -> int:
        return await self._back(self._cpu.read_sysreg(register))

    async def write_sysreg(self, register: SystemRegister, value: int) -> None:
        await self._back(self._cpu.write_sysreg(register, value))

    async def delay(self, cycles: int) -> None:
        await self._back(self._cpu.delay(cycles))

    async def _back(self, operation: Coroutine[Any, Any, Any]) -> Any:
        result = await operation
        if self._vcpu.gone:
            raise GuestGoneError
        return result


class Guest:
    """It boots its CPU interface, and takes its virtual interrupts one after the other.

    Its handler serves the device until that has nothing more to say, as drivers do. What it does
    then, before it ends the interrupt, takes ``delay`` clocks.

    Parameters
    ----------
    vcpu : Vcpu
    driver : EventDriver
        Of the device that it was given; its accesses go straight to the device.
    intid : int
        The device's interrupt.

    Attributes
    ----------
    delay : int or None
        None: it never ends the interrupt.
    """

    def __init__(self, vcpu: Vcpu, driver: EventDriver, intid: int):
        self.vcpu = vcpu
        self.driver = driver
        self.intid = intid
        self.delay: int | None = 0

    async def boot(self, cpu: Cpu) -> None:
        """On its CPU, before it is started: the priority mask, EOImode 0, group 1 on."""
        with cpu.context(CpuContext.GUEST):
            await cpu.write_sysreg(SystemRegister.ICV_PMR_EL1, PRIORITY_MASK)
            await cpu.write_sysreg(SystemRegister.ICV_BPR1_EL1, 0)
            await cpu.write_sysreg(SystemRegister.ICV_CTLR_EL1, 0)
            await cpu.write_sysreg(SystemRegister.ICV_IGRPEN1_EL1, 1)

    async def interrupt(self, cpu: Cpu) -> None:
        """A virtual interrupt."""
        with cpu.context(CpuContext.GUEST, irq=0):
            try:
                await self._interrupt(cpu, GuestCpu(cpu, self.vcpu))
            except GuestGoneError:
                return

    async def _interrupt(self, cpu: Cpu, inside: GuestCpu) -> None:
        intid = await inside.read_sysreg(SystemRegister.ICV_IAR1_EL1)
        if intid in SPECIAL_INTIDS:
            cpu.log(Kind.SPURIOUS_INTID, intid=intid, guest=True)
            return
        cpu.set_context(CpuContext.GUEST, irq=intid)
        cpu.set_state(self.vcpu.vgic.probe_state)
        cpu.log(Kind.GUEST_START, intid=intid)
        served = False
        if intid == self.intid:
            while await self.driver.handle(cast(Cpu, inside)):
                served = True
        cpu.log(Kind.GUEST_END, intid=intid, served=served)
        if self.delay is None:
            return
        await inside.delay(self.delay)
        await inside.write_sysreg(SystemRegister.ICV_EOIR1_EL1, intid)
