"""What systems with one PCI function that has events have in common, whoever takes its messages."""

from abc import abstractmethod

from ..chips.pci import PciFunction
from ..chips.pci_irq import PciMsiChip, disable_messages, enable_messages
from ..chips.pci_msi import MsiCapability
from ..chips.pci_msix import MsixCapability
from ..core.desc import Action
from ..core.flow import FlowHandler
from ..core.manage import free_irq, request_irq
from ..drivers.event_device import EventDriver
from ..machine.cpu import Cpu
from .system import System

CAPABILITIES = ("msi", "msix")


class MessageDeviceSystem(System):
    """A system whose subclass calls :meth:`add_device` after ``super().__init__``.

    Attributes
    ----------
    irq : int
        Of the event device.
    bar : int
    function, capability, chip, driver, action, desc
        The parts.
    """

    irq = 33

    def add_device(
        self,
        flow: FlowHandler,
        *,
        capability: str = "msi",
        device: int = 1,
        bar: int,
        affinity: int = 1,
        work: int = 0,
        can_mask: bool = True,
        keep_pin: bool = False,
    ) -> None:
        """The function, its driver and its interrupt.

        Parameters
        ----------
        flow : FlowHandler
            Of its interrupt.
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
        can_mask : bool
            Whether the kernel masks entries of MSI-X.
        keep_pin : bool
            A device quirk: INTx stays possible, so that an event while MSI is off asserts the pin.
        """
        if capability not in CAPABILITIES:
            raise ValueError(f'capability must be "msi" or "msix", not {capability!r}')
        kernel = self.core.kernel
        self.bar = bar
        self.function = PciFunction(device)
        self.capability: MsiCapability | MsixCapability
        if capability == "msi":
            self.capability = MsiCapability(
                self.function, read_back=kernel.msi_read_back, keep_pin=keep_pin
            )
        else:
            self.capability = MsixCapability(
                self.function,
                bar,
                can_mask=can_mask,
                masked_update=kernel.msix_masked_update,
                unmask_read_back=kernel.msix_unmask_read_back,
                keep_pin=keep_pin,
            )
        self.chip = self.make_chip()
        self.driver = EventDriver(bar, work=work)
        self.action = Action(self.driver.handle, "event device")
        self.desc = self.core.allocate(self.irq, affinity=affinity, handle=flow)

    @abstractmethod
    def make_chip(self) -> PciMsiChip:
        """What carries the messages of :attr:`capability`."""

    async def set_up(self, cpu: Cpu) -> None:
        """Find the function, enable its messages, request its interrupt."""
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
