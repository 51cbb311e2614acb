"""What every machine's software has: CPUs that boot, an interrupt core, cross calls, hotplug."""

from abc import ABC, abstractmethod
from typing import Any

from ..core.core import IrqCore
from ..core.kernel import LINUX_7_1, Kernel
from ..core.records import Kind
from ..machine.cpu import Cpu
from ..machine.machine import Machine
from ..machine.smp import CrossCalls, stop_machine


class System(ABC):
    """The software of a whole machine; a platform gives it its interrupt hardware.

    A subclass makes its parts after ``super().__init__`` and ends with :meth:`install`.

    Parameters
    ----------
    kernel : Kernel
    cpus : int
    jiffy : int
        Clocks in a jiffy.
    options
        For :class:`Machine`.

    Attributes
    ----------
    machine : Machine
        Not started; :meth:`boot` is spawned on every CPU.
    core : IrqCore
    calls : CrossCalls
    """

    def __init__(
        self, kernel: Kernel = LINUX_7_1, *, cpus: int = 2, jiffy: int = 1000, **options: Any
    ):
        self.machine = Machine(cpus, **options)
        self.core = IrqCore(self.machine, kernel, jiffy=jiffy)
        self.calls = CrossCalls(self.machine, self.send_call)
        self._started = 0

    def install(self) -> None:
        """The first software of every CPU, and what takes its interrupts."""
        for cpu in self.machine.cpus:
            cpu.vector = self.vector
            cpu.spawn(self.boot)

    @abstractmethod
    async def vector(self, cpu: Cpu, line: Any) -> None:
        """Take one interrupt."""

    @abstractmethod
    async def start_cpu(self, cpu: Cpu) -> None:
        """Let interrupts in: at boot, and as a task after ``cpu.bring_up()``."""

    @abstractmethod
    async def stop_cpu(self, cpu: Cpu, grace: int) -> None:
        """What a CPU that goes offline does, all others stopped; it leaves the online mask."""

    @abstractmethod
    async def send_call(self, cpu: Cpu, target: int) -> None:
        """The IPI that makes ``target`` look at its cross calls."""

    @abstractmethod
    async def set_up(self, cpu: Cpu) -> None:
        """The devices: on CPU 0, when every CPU is up."""

    async def boot(self, cpu: Cpu) -> None:
        """CPU 0 first, then the others; CPU 0 then sets the devices up, and logs ``ready``."""
        await cpu.sleep_until(lambda: cpu.index == 0 or self._started)
        await self.start_cpu(cpu)
        self._started += 1
        if cpu.index == 0:
            await cpu.sleep_until(lambda: self._started == len(self.machine.cpus))
            await self.set_up(cpu)
            cpu.log(Kind.READY)

    async def take_down(self, cpu: Cpu, target: int, *, grace: int = 0) -> None:
        """From a task of ``cpu``: CPU ``target`` goes offline. Not from its own task and back.

        ``grace``: clocks that it waits for late messages, if it does that at all.
        """

        async def down(dying: Cpu) -> None:
            await self.stop_cpu(dying, grace)

        await stop_machine(cpu, down, self.calls, on=target)

    def bring_up(self, target: int) -> None:
        """CPU ``target``, which is offline, comes back."""
        cpu = self.machine.cpus[target]
        cpu.bring_up()
        cpu.spawn(self.start_cpu)
