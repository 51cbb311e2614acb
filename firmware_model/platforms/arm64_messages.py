"""An Arm system whose event device interrupts by a message, which becomes an LPI or an SPI."""

from typing import Any

from hdl.registers import pci

from ..chips.its_msi import ItsMsiChip
from ..chips.mbi import MbiMsiChip
from ..chips.pci_irq import PciMsiChip
from ..core.flow import FlowHandler
from ..core.kernel import LINUX_7_1, Kernel
from .arm64 import Arm64System
from .message_device import MessageDeviceSystem

MBI_INTID = 48
"""The SPI that stands in for the LPI."""


class MessageSystem(MessageDeviceSystem, Arm64System):
    """CPUs, a GICv3 with its ITS, and one PCI function that has events.

    Parameters
    ----------
    flow : FlowHandler
        Of the function's interrupt.
    kernel : Kernel
    spi : bool
        Its messages set an SPI, instead of going through the ITS.
    capability, device, bar, affinity, work
        See :meth:`add_device`.
    options
        For :class:`Arm64System`.
    """

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
        self.spi = spi
        self.add_device(
            flow, capability=capability, device=device, bar=bar, affinity=affinity, work=work
        )

    def make_chip(self) -> PciMsiChip:
        if self.spi:
            return MbiMsiChip(self.capability, self.gic, MBI_INTID)
        if self.its is None:
            raise ValueError("frames.its must be the address of an ITS, not None")
        startup = self.core.kernel.msi_startup
        return ItsMsiChip(self.capability, self.function, self.its, startup=startup)
