"""An Arm system without an ITS, whose event device writes to the redistributors itself."""

from collections.abc import Sequence
from typing import Any

from ..chips.direct_lpi import DirectLpiDomain, DirectLpiMsiChip
from ..chips.lpi_tables import LpiTables, Pages
from ..chips.pci_irq import PciMsiChip
from ..core.flow import FasteoiFlow
from ..machine.cpu import Cpu
from ..strategies.torn_msi import MsiStrategy
from .arm64_messages import MessageSystem


class DirectLpiSystem(MessageSystem):
    """CPUs, a GICv3, and one PCI function that has events.

    Parameters
    ----------
    strategy : type of MsiStrategy
        How the function's message is changed while it is in use.
    first : sequence of int, one for each CPU
        Lowest INTID given out.
    options
        For :class:`MessageSystem`.

    Attributes
    ----------
    direct : DirectLpiDomain
    """

    def __init__(self, strategy: type[MsiStrategy], first: Sequence[int] = (), **options: Any):
        self._strategy = strategy()
        self._first = first
        super().__init__(FasteoiFlow(), strategy.kernel, **options)

    def make_chip(self) -> PciMsiChip:
        self.direct = DirectLpiDomain(self.gic, LpiTables(self.gic, Pages()), self._first)
        return DirectLpiMsiChip(self.capability, self.direct, self._strategy)

    async def start_cpu(self, cpu: Cpu) -> None:
        first = not self._started
        await super().start_cpu(cpu)
        if first:
            await self.direct.tables.init(cpu)
        await self.direct.tables.init_cpu(cpu)
