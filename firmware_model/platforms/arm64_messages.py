"""An Arm system whose event device interrupts by a message, which becomes an LPI or an SPI."""

from typing import Any

from hdl.registers import pci

from ..chips.its_msi import ItsMsiChip
from ..chips.mbi import MbiMsiChip
from ..chips.pci import PciFunction
from ..chips.pci_irq import PciMsiChip, disable_messages, enable_messages
from ..chips.pci_msi import MsiCapability
from ..chips.pci_msix import MsixCapability
from ..core.desc import Action
from ..core.flow import FlowHandler
from ..core.kernel import LINUX_7_1, Kernel
from ..core.manage import free_irq, request_irq
from ..drivers.event_device import EventDriver
from ..machine.cpu import Cpu
from .arm64 import Arm64System

MBI_INTID = 48
"""The SPI that stands in for the LPI."""


class MessageSystem(Arm64System):
    """CPUs, a GICv3 with its ITS, and one PCI function that has events.

    Parameters
    ----------
    flow : FlowHandler
        Of the function's interrupt.
    kernel : Kernel
    spi : bool
        Its messages set an SPI, instead of going through the ITS.
    capability : str
        "msi" or "msix"; the function must have it.
    device : int
        PCI device number of the function (endpoint number + 1).
    bar : int
        Where its BAR is put.
    affinity : int
        CPUs that its interrupt may go to at first, one bit each.
    work : int
        Clocks that the device's handler works.
    options
        For :class:`Arm64System`.

    Attributes
    ----------
    irq : int
        Of the event device.
    desc, driver, action, chip
        The parts.
    """

    irq = 33

    def __init__(
        self,
        flow: FlowHandler,
        kernel: Kernel = LINUX_7_1,
        *,
        spi: bool = False,
        capability: str = "msi",
        device: int = 1,
        bar: int = pci.MMIO_BASE,
        affinity: int = 1,
        work: int = 0,
        **options: Any,
    ):
        super().__init__(kernel, **options)
        self.bar = bar
        self.function = PciFunction(device)
        self.capability: MsiCapability | MsixCapability
        if capability == "msi":
            self.capability = MsiCapability(self.function, read_back=kernel.msi_read_back)
        elif capability == "msix":
            self.capability = MsixCapability(
                self.function,
                bar,
                masked_update=kernel.msix_masked_update,
                unmask_read_back=kernel.msix_unmask_read_back,
            )
        else:
            raise ValueError(f'capability must be "msi" or "msix", not {capability!r}')
        self.chip = self.make_chip(spi)
        self.driver = EventDriver(bar, work=work)
        self.action = Action(self.driver.handle, "event device")
        self.desc = self.core.allocate(self.irq, affinity=affinity, handle=flow)

    def make_chip(self, spi: bool) -> PciMsiChip:
        """What carries the function's messages."""
        if spi:
            return MbiMsiChip(self.capability, self.gic, MBI_INTID)
        if self.its is None:
            raise ValueError("frames.its must be the address of an ITS, not None")
        startup = self.core.kernel.msi_startup
        return ItsMsiChip(self.capability, self.function, self.its, startup=startup)

    async def set_up(self, cpu: Cpu) -> None:
        await self.function.enable(cpu, self.bar)
        if not await self.capability.probe(cpu):
            cpu.misuse("the function has no such capability", irq=self.irq)
            return
        error = await enable_messages(cpu, self.chip, [self.desc])
        if not error:
            await request_irq(cpu, self.desc, self.action)

    async def tear_down(self, cpu: Cpu) -> None:
        """The opposite of :meth:`set_up`."""
        await free_irq(cpu, self.desc, self.action)
        await disable_messages(cpu, self.chip, [self.desc])
