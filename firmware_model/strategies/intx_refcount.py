"""Functions share one INTx line, so one mapping: who tears it down when a function goes?

Each class here is one answer; what it inherits it does as its parent does. A strategy of your own
is one more such class.

Source: the facts on Linux, section 4.2 (D0 to D3); the thread "irq: Add reference counting to IRQ
mappings", October and November 2020, and what Linux 5.11 and 6.3 do instead.
"""

from dataclasses import replace
from typing import ClassVar

from ..core.core import IrqCore
from ..core.desc import IrqDesc, Trigger
from ..core.domain import IrqDomain, Mappings
from ..core.kernel import LINUX_7_1, Kernel
from ..machine.cpu import Cpu
from ..machine.locks import Mutex


class LineStrategy:
    """What becomes of a line's mapping when functions come and go.

    The base makes one for the first function, finds it for the others, and never counts.

    Attributes
    ----------
    name, summary, claims_correct
        For lists: ``claims_correct`` says whether its authors claimed that it loses nothing.
    kernel : Kernel
    core_mappings : type
        How the core makes and tears down mappings.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    claims_correct: ClassVar[bool]
    kernel: ClassVar[Kernel] = LINUX_7_1
    core_mappings: ClassVar[type[Mappings]] = Mappings

    def __init__(self, core: IrqCore):
        self.mappings = self.core_mappings(core)

    async def map_line(self, cpu: Cpu, domain: IrqDomain, hwirq: int) -> int:
        """A function is added, whose line is ``hwirq``: its irq, 0 if that fails."""
        return await self.mappings.create(cpu, domain, hwirq, Trigger.LEVEL_HIGH)

    async def unmap_line(self, cpu: Cpu, irq: int) -> None:
        """A function that had ``irq`` is gone; its driver has freed it."""
        await self.mappings.dispose(cpu, irq)


class DisposeAlways(LineStrategy):
    """D0: as the base."""

    name = "dispose-always"
    summary = "the first function that goes takes the mapping with it"
    claims_correct = False


class DisposeNever(LineStrategy):
    """pseries before Linux 5.11."""

    name = "dispose-never"
    summary = "the mapping stays when the last function is gone; so must the host bridge"
    claims_correct = False

    async def unmap_line(self, cpu: Cpu, irq: int) -> None:
        pass


class CountedMappings(Mappings):
    """Whoever is given a mapping holds a reference of its descriptor's kernel object."""

    async def found(self, cpu: Cpu, desc: IrqDesc) -> None:
        desc.get()

    async def dispose(self, cpu: Cpu, irq: int) -> None:
        """Give a reference back; the last one's release tears the mapping down."""
        desc = self._mapped(cpu, irq)
        if desc is None or not desc.put():
            return
        if desc.data.domain.hierarchical:  # type: ignore[union-attr]
            # Its levels are there yet, and the last of them gives back what no one holds.
            await self.free_irqs(cpu, desc)
        else:
            await self.disassociate(cpu, desc)
            self.core.release(cpu, desc)


class KobjectCount(LineStrategy):
    """D1: the patch as it was proposed first."""

    name = "kobject-count"
    summary = "the descriptor's kernel object counts who was given the mapping (never merged)"
    claims_correct = True
    core_mappings = CountedMappings


class ArchCount(LineStrategy):
    """D2: what powerpc has since Linux 5.11. The core is as ever, and asked without the mutex."""

    name = "arch-count"
    summary = "the architecture counts the functions of each irq in a list of its own"
    claims_correct = True

    def __init__(self, core: IrqCore):
        super().__init__(core)
        self.mutex = Mutex("intx_mutex")
        self.users: dict[int, int] = {}

    async def map_line(self, cpu: Cpu, domain: IrqDomain, hwirq: int) -> int:
        irq = await super().map_line(cpu, domain, hwirq)
        if irq:
            async with self.mutex.guard(cpu):
                self.users[irq] = self.users.get(irq, 0) + 1
        return irq

    async def unmap_line(self, cpu: Cpu, irq: int) -> None:
        async with self.mutex.guard(cpu):
            if irq not in self.users:
                return
            self.users[irq] -= 1
            if not self.users[irq]:
                del self.users[irq]
                await super().unmap_line(cpu, irq)


class CreateLocked(ArchCount):
    """D3: the core since Linux 6.3."""

    name = "create-locked"
    summary = "to look for a mapping and to create it are one critical section (Linux 6.3)"


class CreateRace(ArchCount):
    """The core before."""

    name = "create-race"
    summary = "two functions that are added at once can both find no mapping and create one"
    claims_correct = False
    kernel = replace(LINUX_7_1, mapping_locked=False)


STRATEGIES: dict[str, type[LineStrategy]] = {
    strategy.name: strategy
    for strategy in (
        DisposeAlways,
        DisposeNever,
        KobjectCount,
        ArchCount,
        CreateRace,
        CreateLocked,
    )
}
