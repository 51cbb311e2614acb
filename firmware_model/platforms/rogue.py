"""Systems with a function that turns rogue, and devices beside it that never interrupt."""

from typing import Any

from hdl.registers import pci

from ..chips.direct_lpi import DirectLpiDomain
from ..chips.gicv3 import FIRST_LPI
from ..chips.lpi_tables import LpiTables, Pages
from ..chips.pci import PciFunction
from ..chips.pci_msi import MsiCapability
from ..core.desc import Action, IrqDesc
from ..core.flow import FasteoiFlow
from ..core.manage import request_irq
from ..drivers.bystander import Bystander
from ..drivers.event_device import EventDriver
from ..drivers.rogue import Rogue
from ..machine.cpu import Cpu
from ..strategies.torn_msi import Naive
from .arm64 import Arm64System
from .x86 import X86System

OWN_IRQ = 33
FIRST_BYSTANDER = 50
ROGUE_DEVICE, VICTIM_DEVICE = 1, 2
"""PCI device numbers."""

OWN_LPI = FIRST_LPI


def victim_lpis(cpus: int, *, its: bool) -> list[tuple[int, int]]:
    """(CPU, INTID) of each of the victim's interrupts.

    The ITS gives the rogue function two LPIs, of which it uses one; direct LPIs are single, and
    mean something on one CPU only.
    """
    first = OWN_LPI + (2 if its else 1)
    return [(cpu, first + cpu) for cpu in range(cpus)]


class X86RogueSystem(X86System):
    """Local APICs without interrupt remapping.

    Parameters
    ----------
    victims : sequence of (CPU, vector)
        What the other devices hold.
    options
        For :class:`X86System`.
    """

    def __init__(self, *, victims: tuple[tuple[int, int], ...], **options: Any):
        super().__init__(Naive, device=ROGUE_DEVICE, **options)
        assert isinstance(self.capability, MsiCapability)
        self.rogue = Rogue(self.capability, self.bar)
        for i, (cpu, vector) in enumerate(victims):
            self.add_bystander(FIRST_BYSTANDER + i, cpu, vector)

    def start_attack(self, address: int, data: int) -> None:
        """Have the function write ``data`` to ``address``; once, at rest."""
        self.machine.cpus[0].spawn(self.rogue.send, address, data)


class ArmRogueSystem(Arm64System):
    """A GICv3 with LPIs, through its ITS if ``frames`` has one.

    Interrupts are requested by the rogue function, which is given one on CPU 0, and by another
    function, the victim, with one for each CPU: see :data:`OWN_LPI` and :func:`victim_lpis`.

    Parameters
    ----------
    spi : int
        INTID of another device's wire, the level-sensitive kind.
    bar : int
        Where the rogue function's BAR is put.
    options
        For :class:`Arm64System`.
    """

    def __init__(self, *, spi: int, bar: int = pci.MMIO_BASE, **options: Any):
        super().__init__(**options)
        self.direct: DirectLpiDomain | None = None
        if self.its is None:
            lowest = victim_lpis(len(self.machine.cpus), its=False)
            self.direct = DirectLpiDomain(
                self.gic,
                LpiTables(self.gic, Pages()),
                [OWN_LPI, *(intid for _, intid in lowest[1:])],
            )
        self.function = PciFunction(ROGUE_DEVICE)
        self.bar = bar
        self.capability = MsiCapability(self.function)
        self.rogue = Rogue(self.capability, bar)
        self.own = Action(EventDriver(bar).handle, "event device")
        self._wire = self.add_spi(FIRST_BYSTANDER, spi)

    async def start_cpu(self, cpu: Cpu) -> None:
        first = not self._started
        await super().start_cpu(cpu)
        if self.direct is not None:
            if first:
                await self.direct.tables.init(cpu)
            await self.direct.tables.init_cpu(cpu)

    async def set_up(self, cpu: Cpu) -> None:
        await self.function.enable(cpu, self.bar)
        await self.capability.probe(cpu)
        cpus = [other.index for other in self.machine.cpus]
        [own] = await self._add_lpis(cpu, ROGUE_DEVICE, OWN_IRQ, [0])
        await request_irq(cpu, own, self.own)
        for desc in [
            self._wire,
            *await self._add_lpis(cpu, VICTIM_DEVICE, FIRST_BYSTANDER + 1, cpus),
        ]:
            await request_irq(cpu, desc, Action(Bystander().handle, f"bystander {desc.irq}"))

    async def _add_lpis(self, cpu: Cpu, device: int, irq: int, cpus: list[int]) -> list[IrqDesc]:
        """Interrupts for the messages of a function, one for each of ``cpus``."""
        descs = [
            self.core.allocate(irq + i, affinity=1 << target, handle=FasteoiFlow())
            for i, target in enumerate(cpus)
        ]
        if self.direct is not None:
            for desc in descs:
                self.direct.add_to(desc)
        elif self.its is not None:
            its_device = await self.its.create_device(cpu, pci.requester_id(device - 1), len(cpus))
            for i, desc in enumerate(descs):
                self.its.add_to(desc, its_device, i)
        return descs

    def start_attack(self, address: int, data: int) -> None:
        """Have the function write ``data`` to ``address``; once, at rest."""
        self.machine.cpus[0].spawn(self.rogue.send, address, data)
