"""How drivers of several PMUs on one interrupt line agree on the CPU that takes it.

The line has one affinity; each PMU's events belong to a CPU, and its handler must run there. Each
class here is one answer; what it inherits it does as its parent does. A strategy of your own is
one more such class.

Source: the facts on Linux, section 6.2 (P0 to P4), the thread "perf/smmuv3: Fix shared interrupt
handling", April to July 2020, and drivers/perf/arm_dmc620_pmu.c.
"""

from typing import ClassVar

from ..core.cpumask import first_cpu
from ..core.desc import Action, ActionFlag, IrqDesc
from ..core.manage import disable_irq, enable_irq, request_irq
from ..core.migration import irq_set_affinity
from ..core.records import Kind
from ..drivers.perf import Perf
from ..drivers.pmu import Dmc620Pmu, LiveDmc620Pmu, Pmu, SmmuPmu, UnclearedDmc620Pmu
from ..machine.cpu import Cpu
from ..machine.locks import Mutex

REGISTRATION = 16
"""Clocks of what a driver does between the request and the list, the hotplug callback first."""


class PmuGroup:
    """PMUs behind one action, whose events belong to one CPU.

    Attributes
    ----------
    cpu : int
    pmus : list of Pmu
    action : Action
    """

    def __init__(self, cpu: int, name: str, flags: int):
        self.cpu = cpu
        self.pmus: list[Pmu] = []
        self.action = Action(self.handle, name, flags)

    async def handle(self, cpu: Cpu) -> bool:
        """The interrupt handler: every PMU is asked."""
        handled = False
        for pmu in tuple(self.pmus):
            handled |= await pmu.handle(cpu)
        return handled


class PmuStrategy:
    """What all have in common. As it stands each PMU has the line to itself, or believes so.

    Attributes
    ----------
    name, summary : str
    claims_correct : bool
        Whether whoever proposed it claimed that handlers run where they must.
    unit : type of Pmu
        Which hardware, and what its driver does to it.
    flags : int
        How the line is requested.
    listed : bool
        The handler finds its PMUs on a list, where they are put after the request.
    groups : list of PmuGroup
        Those that have their line.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    claims_correct: ClassVar[bool]
    unit: ClassVar[type[Pmu]] = SmmuPmu
    flags: ClassVar[int] = ActionFlag.SHARED
    listed: ClassVar[bool] = False

    def __init__(self, desc: IrqDesc, perf: Perf):
        self.desc = desc
        self.perf = perf
        self.groups: list[PmuGroup] = []
        self._irqs_lock = Mutex("irqs_lock")

    async def probe(self, cpu: Cpu, pmu: Pmu) -> int:
        """A PMU's driver is bound, on ``cpu``; 0 or a negative error."""
        await pmu.reset(cpu)
        async with self._irqs_lock.guard(cpu):
            group = self.group_of(pmu)
            if group is None:
                group = PmuGroup(self.home(cpu), f"pmu {pmu.index}", self.flags)
                if not self.listed:
                    group.pmus.append(pmu)
                error = await request_irq(cpu, self.desc, group.action)
                if error:
                    return error
                await irq_set_affinity(cpu, self.desc, 1 << group.cpu)
                self.groups.append(group)
        if self.listed:
            await cpu.delay(REGISTRATION)
            group.pmus.append(pmu)
        return 0

    def owner(self, pmu: Pmu) -> int | None:
        """The CPU to which new events of ``pmu`` belong; None if its driver is not bound."""
        return next((group.cpu for group in self.groups if pmu in group.pmus), None)

    async def offline(self, cpu: Cpu) -> None:
        """The hotplug callback, in a task of the CPU that goes offline; interrupts still come."""
        target = first_cpu(self.desc.core.online & ~(1 << cpu.index))
        if target < 0:
            return
        for batch in self.batches():
            leaving = [group for group in batch if group.cpu == cpu.index]
            if leaving:
                what = {
                    "pmus": tuple(pmu.index for group in leaving for pmu in group.pmus),
                    "source": cpu.index,
                    "target": target,
                }
                cpu.log(Kind.PMU_MOVE, **what)
                window = await self.move(cpu, leaving, target)
                cpu.log(Kind.PMU_MOVED, **what, window=window)

    # The decisions

    def group_of(self, pmu: Pmu) -> PmuGroup | None:
        """The group that ``pmu`` joins; None: one of its own, with its own request."""
        return None

    def home(self, cpu: Cpu) -> int:
        """The CPU of a new group: where the driver happens to be bound."""
        return cpu.index

    def batches(self) -> list[list[PmuGroup]]:
        """Which groups move together: all events first, then the line."""
        return [[group] for group in self.groups]

    async def move(self, cpu: Cpu, groups: list[PmuGroup], target: int) -> int:
        """Events first, the line second; returns the clocks in between.

        Meanwhile overflows still come here.
        """
        events = await self.move_events(cpu, groups, target)
        return await self.move_line(cpu, target) - events

    async def move_events(self, cpu: Cpu, groups: list[PmuGroup], target: int) -> int:
        """Returns the clock in which the first event changed hands."""
        moved = []
        for group in groups:
            for pmu in group.pmus:
                moved.append(await self.perf.migrate_context(cpu, pmu, group.cpu, target))
            group.cpu = target
        return moved[0]

    async def move_line(self, cpu: Cpu, target: int) -> int:
        """Returns the clock in which the affinity was written."""
        error = await irq_set_affinity(cpu, self.desc, 1 << target)
        if error:
            cpu.log(Kind.WARNING, text="the line could not be moved", irq=self.desc.irq)
        return cpu.machine.cycle


class Independent(PmuStrategy):
    """P0, the SMMUv3's driver: each PMU sets the affinity of a line that others have set before."""

    name = "independent"
    summary = "each PMU requests the shared line and sets its affinity"
    claims_correct = False


class Multiplexed(PmuStrategy):
    """P1, the patch: one request for the line, and the PMUs on it move with it."""

    name = "multiplexed"
    summary = "one request per line, a list of PMUs behind it, which moves as a whole"
    claims_correct = True
    flags = 0
    listed = True

    def group_of(self, pmu: Pmu) -> PmuGroup | None:
        return self.groups[0] if self.groups else None


class GlobalCpu(PmuStrategy):
    """P2, proposed in reply: all PMUs of the driver use the CPU that the first one was bound on."""

    name = "global-cpu"
    summary = "one CPU for all PMUs of the driver, whatever their lines"
    claims_correct = True

    def home(self, cpu: Cpu) -> int:
        return self.groups[0].cpu if self.groups else cpu.index

    def batches(self) -> list[list[PmuGroup]]:
        return [self.groups]


class Exclusive(PmuStrategy):
    """P3: the line is not shared, so there is nothing to agree on. One PMU works."""

    name = "exclusive"
    summary = "the line is requested without sharing: the second PMU gets -EBUSY"
    claims_correct = True
    flags = 0


class Dmc620(Multiplexed):
    """P4, Linux 5.11: P1 as it was merged, for another PMU."""

    name = "dmc620"
    summary = "multiplexed, as merged for the DMC-620, whose handler always says HANDLED"
    unit = Dmc620Pmu


class LineFirst(Multiplexed):
    """The other order: in between, overflows come to a CPU that does not own the events yet."""

    name = "line-first"
    summary = "multiplexed, but the line moves before the events do"
    claims_correct = False

    async def move(self, cpu: Cpu, groups: list[PmuGroup], target: int) -> int:
        line = await self.move_line(cpu, target)
        return line - await self.move_events(cpu, groups, target)


class Quiet(Multiplexed):
    """The window closed: overflows wait, as the level that they are, until all has moved."""

    name = "quiet"
    summary = "multiplexed, with the line disabled while events and line move"

    async def move(self, cpu: Cpu, groups: list[PmuGroup], target: int) -> int:
        await disable_irq(cpu, self.desc)
        window = await super().move(cpu, groups, target)
        await enable_irq(cpu, self.desc)
        return window


class LiveCounters(Dmc620):
    """A mutation: the DMC-620's status is cleared while its counters run."""

    name = "dmc620-live"
    summary = "dmc620 whose handler does not stop the counters: an overflow is wiped out"
    claims_correct = False
    unit = LiveDmc620Pmu


class Uncleared(Dmc620):
    """A mutation: no reset before the line is requested."""

    name = "dmc620-uncleared"
    summary = "dmc620 that requests the line with an old overflow still in the status"
    claims_correct = False
    unit = UnclearedDmc620Pmu


STRATEGIES: dict[str, type[PmuStrategy]] = {
    strategy.name: strategy
    for strategy in (
        Independent,
        Multiplexed,
        GlobalCpu,
        Exclusive,
        Dmc620,
        LineFirst,
        Quiet,
        LiveCounters,
        Uncleared,
    )
}
"""All of them, by name."""
