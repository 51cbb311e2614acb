"""An Arm system with several PMUs on one line, all counting, of which a CPU goes offline."""

from collections.abc import Sequence
from typing import Any

from hdl.registers.pmu import PmuRegister

from ..core.records import Kind
from ..drivers.perf import Perf
from ..drivers.pmu import COUNTERS
from ..machine.cpu import Cpu
from ..strategies.shared_pmu import PmuStrategy
from .arm64 import Arm64System

FIRST_COUNTER = 0


class SharedPmuSystem(Arm64System):
    """CPUs, a GICv3 and the PMUs, whose drivers are bound one after the other.

    Parameters
    ----------
    strategy : type of PmuStrategy
        How their drivers agree on the CPU that takes the line.
    intid : int
        Of the line.
    bases : sequence of int
        The PMUs' register frames.
    spread : int
        The driver of PMU ``i`` is bound on CPU ``i % spread``.
    stale : bool
        The firmware left an overflow in the last PMU, which asserts the line until it is reset.
    options
        For :class:`Arm64System`.

    Attributes
    ----------
    strategy : PmuStrategy
    pmus : list of Pmu
    perf, desc
        The parts.
    """

    irq = 33

    def __init__(
        self,
        strategy: type[PmuStrategy],
        *,
        intid: int,
        bases: Sequence[int],
        spread: int = 1,
        stale: bool = False,
        **options: Any,
    ):
        super().__init__(**options)
        if not 1 <= spread <= len(self.machine.cpus):
            raise ValueError(f"spread must be 1 to {len(self.machine.cpus)} CPUs, not {spread}")
        self.perf = Perf(self.machine, self.calls)
        self.desc = self.add_spi(self.irq, intid)
        self.strategy = strategy(self.desc, self.perf)
        self.pmus = [self.strategy.unit(i, base) for i, base in enumerate(bases)]
        self._spread = spread
        self._stale = stale
        self._next = -1
        self._left = False
        for cpu in self.machine.cpus:
            cpu.spawn(self._bind)

    async def set_up(self, cpu: Cpu) -> None:
        if self._stale:
            last = self.pmus[-1].base
            await cpu.store(last + PmuRegister.OVSSET, 1 << FIRST_COUNTER)
            await cpu.store(last + PmuRegister.INTENSET, 1 << FIRST_COUNTER)
            await cpu.store(last + PmuRegister.IRQ_CTRL, 1)
        self._next = 0

    async def _bind(self, cpu: Cpu) -> None:
        """Probe the PMUs that are this CPU's to probe, each when its turn has come."""
        for pmu in self.pmus[cpu.index :: self._spread] if cpu.index < self._spread else ():
            await cpu.sleep_until(lambda pmu=pmu: self._next == pmu.index)
            error = await self.strategy.probe(cpu, pmu)
            cpu.log(Kind.PMU_PROBE, pmu=pmu.index, result=error)
            owner = self.strategy.owner(pmu)
            if owner is not None:
                for counter in range(COUNTERS):
                    await self.perf.open(cpu, pmu, counter, owner)
            self._next += 1

    def start_offline(self, dying: int, at: int) -> None:
        """Have CPU ``dying`` go offline from clock ``at`` on; once, at rest."""
        others = [cpu for cpu in self.machine.cpus if cpu.index != dying]
        self.machine.cpus[dying].spawn(self._leave, at)
        others[0].spawn(self._take_down_when_left, dying)

    async def _leave(self, cpu: Cpu, at: int) -> None:
        """The hotplug thread of the CPU that goes: drivers leave while it takes interrupts."""
        await cpu.delay_until(at)
        await self.strategy.offline(cpu)
        self._left = True

    async def _take_down_when_left(self, cpu: Cpu, dying: int) -> None:
        await cpu.sleep_until(lambda: self._left)
        await self.take_down(cpu, dying)
