"""Several PMUs on one line; counters overflow while the CPU that handles them goes offline."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from firmware_model.core.records import Kind
from firmware_model.machine.ops import Record
from firmware_model.platforms.shared_pmu import SharedPmuSystem
from firmware_model.strategies.shared_pmu import STRATEGIES, PmuStrategy
from hdl.config import PMU_SPI
from hdl.pmu import FIRST_UNIT
from hdl.registers.pmu import FRAME_SIZE
from hdl.tap import EventKind

from ..events import Event
from ..hosts.base import Poke
from ..trial import Outcome, Plan
from ..verdict import broken, lost, outnumbered, overlap, starved
from .base import Axis, Scenario, strategies_of
from .machines import ARM, gic_frames

BOOT = 12_000
"""Clock at which the stimulus begins."""
LIMIT = 10_000
"""Clocks of a stimulus that does not come to rest."""
BEARABLE = 10
"""Interrupts in which no handler finds an overflow."""
NOBODY = -1
SWITCH = (0, 1)


class SharedPmu(Scenario):
    """PMU drivers share a line; one CPU takes it, and the events belong to one CPU each."""

    name = "shared-pmu"
    summary = "PMUs on one interrupt line; a counter overflows while their CPU goes offline"
    source = (
        "perf/smmuv3: Fix shared interrupt handling (April to July 2020); "
        "driver/perf: Add PMU driver for the ARM DMC-620 memory controller (November 2020)"
    )
    config = ARM
    boot_clocks = BOOT
    boot_axes = ("pmus", "spread", "stale")
    axes = {
        "overflow": Axis(300, 0, 5000, "clocks from the start of the stimulus to the overflow"),
        "offline": Axis(0, 0, 5000, "clocks to the start of the CPU's going offline"),
        "which": Axis(0, 0, 7, "PMU whose first counter overflows"),
        "again": Axis(0, 0, 500, "clocks until its second counter overflows, too; 0: it does not"),
        "dying": Axis(0, NOBODY, ARM.cpus - 1, "CPU that goes offline; -1: none"),
        "spread": Axis(2, 1, ARM.cpus, "PMU i's driver is bound on CPU i modulo this"),
        "pmus": Axis(2, 1, ARM.pmus, "PMUs on the line"),
        "stale": Axis(0, *SWITCH, "1: the firmware left an overflow in the last PMU"),
        "strict": Axis(0, *SWITCH, "1: not even while the events move may the old CPU handle them"),
    }
    strategies = strategies_of(STRATEGIES)
    grids = {
        "quick": [
            {
                "overflow": range(0, 801, 40),
                "again": (0, 24),
                "which": (0, 1),
                "dying": (NOBODY, 0, 1),
            }
        ],
        # Two PMUs have moved 650 clocks after their CPU began to go, one 400. A handler has looked
        # at its counters and cleared what it saw 60 clocks after the overflow.
        "full": [
            {"overflow": range(801), "which": (0, 1), "dying": (0, 1)},
            {"overflow": range(100), "offline": (100,), "which": (0, 1), "dying": (0, 1)},
            {"again": range(1, 121), "which": (0, 1), "dying": (NOBODY,)},
            {"overflow": range(421), "again": range(1, 61), "pmus": (1,)},
        ],
    }
    own = PmuStrategy

    def boot(self, strategy: str, at: Mapping[str, int]) -> SharedPmuSystem:
        region = self.config.pmu_region
        return SharedPmuSystem(
            self.code(strategy),
            intid=PMU_SPI,
            bases=[region.base + FRAME_SIZE * i for i in range(at["pmus"])],
            spread=at["spread"],
            stale=bool(at["stale"]),
            frames=replace(gic_frames(self.config), its=None),
            cpus=self.config.cpus,
        )

    def stimulate(self, system: SharedPmuSystem, strategy: str, at: Mapping[str, int]) -> Plan:
        if at["dying"] != NOBODY:
            system.start_offline(at["dying"], BOOT + at["offline"])
        clock = BOOT + at["overflow"]
        pokes = overflow(at["which"], 0, clock)
        if at["again"]:
            pokes += overflow(at["which"], 1, clock + at["again"])
        return Plan(system.machine, pokes, limit=BOOT + LIMIT)

    def judge(self, strategy: str, at: Mapping[str, int], outcome: Outcome) -> frozenset[str]:
        events, log = outcome.events, outcome.log
        own = [record for record in log if record.fields.get("irq") == SharedPmuSystem.irq]
        handled = runs(log)
        starts = [cycle for cycle, _ in handled]
        raised = overflows(events)
        served = found(log)
        bound = {r.fields["pmu"]: r.cycle for r in log if r.kind == Kind.PMU_PROBE}
        counters = [
            ([cycle for cycle in raised[key] if cycle > bound[key[0]]], served.get(key, []))
            for key in raised
        ]
        every = sorted(cycle for cycles in raised.values() for cycle in cycles)
        earned = {
            "lost": any(lost(*counter) for counter in counters),
            "spurious": any(record.kind == Kind.SPURIOUS_INTID for record in log)
            or outnumbered(starts, every),
            "duplicate": len(starts) > len(every),
            "wrong_cpu": wrong_cpu(log, strict=bool(at["strict"])),
            "overlap": overlap(own),
            "starved": any(starved(*counter, LIMIT // 2) for counter in counters),
            "storm": sum(not useful for _, useful in handled) > BEARABLE,
            "crash": broken(outcome),
        }
        return frozenset(name for name, true in earned.items() if true)

    def figures(
        self, strategy: str, at: Mapping[str, int], outcome: Outcome
    ) -> Mapping[str, float]:
        return costs(outcome.log)

    def window(self, at: Mapping[str, int], outcome: Outcome) -> tuple[int, int]:
        clock = BOOT + at["overflow"]
        return clock - 60, clock + 140


def overflow(pmu: int, counter: int, cycle: int) -> list[Poke]:
    """Pokes that make one counter overflow in clock ``cycle``, if it counts then."""
    name = f"pmu_overflow_{pmu}"
    return [Poke(cycle, name, 1 << counter), Poke(cycle + 1, name, 0)]


def overflows(events: list[Event]) -> dict[tuple[int, int], list[int]]:
    """Clocks in which each (PMU, counter) overflowed, from the tap."""
    raised: dict[tuple[int, int], list[int]] = {}
    for event in events:
        if event.kind == EventKind.DEVICE_EVENT and event.unit >= FIRST_UNIT:
            for counter in range(event.data.bit_length()):
                if event.data >> counter & 1:
                    key = event.unit - FIRST_UNIT, counter
                    raised.setdefault(key, []).append(event.cycle)
    return raised


def found(log: list[Record]) -> dict[tuple[int, int], list[int]]:
    """Clocks in which a handler found each (PMU, counter) overflowed."""
    served: dict[tuple[int, int], list[int]] = {}
    for record in log:
        if record.kind == Kind.PMU_OVERFLOW:
            key = record.fields["pmu"], record.fields["counter"]
            served.setdefault(key, []).append(record.cycle)
    return served


def runs(log: list[Record]) -> list[tuple[int, bool]]:
    """Interrupts of the line that got to a handler: the clock, and whether it found an overflow.

    What a handler returns does not matter: one that always says HANDLED is believed by the kernel.
    """
    current: dict[int, list] = {}
    every: list[list] = []
    for record in log:
        if record.kind == Kind.INTERRUPT:
            current.pop(record.cpu, None)
        elif record.kind == Kind.HANDLER_START and record.cpu not in current:
            current[record.cpu] = [record.cycle, False]
            every.append(current[record.cpu])
        elif record.kind == Kind.PMU_OVERFLOW:
            current[record.cpu][1] = True
    return [(cycle, useful) for cycle, useful in every]


def wrong_cpu(log: list[Record], *, strict: bool) -> bool:
    """A handler worked on an event of another CPU.

    While a PMU's events and its line move, one run on the CPU that they come from is excused
    unless ``strict``: it is what the order "events first, line second" costs.
    """
    moving: dict[int, Record] = {}
    runs: Counter[int] = Counter()
    excused: Counter[int] = Counter()
    for record in log:
        fields = record.fields
        if record.kind == Kind.PMU_MOVE:
            moving |= dict.fromkeys(fields["pmus"], record)
        elif record.kind == Kind.PMU_MOVED:
            for pmu in fields["pmus"]:
                del moving[pmu]
        elif record.kind == Kind.HANDLER_START:
            runs[record.cpu] += 1
        elif record.kind == Kind.PMU_OVERFLOW and fields["event_cpu"] not in (None, record.cpu):
            move = moving.get(fields["pmu"])
            if strict or move is None or not _late(record, move):
                return True
            if excused.setdefault(move.cycle, runs[record.cpu]) != runs[record.cpu]:
                return True
    return False


def _late(overflow: Record, move: Record) -> bool:
    """The CPU that the event comes from handles it, though it has moved."""
    here = overflow.cpu, overflow.fields["event_cpu"]
    return here == (move.fields["source"], move.fields["target"])


def costs(log: list[Record]) -> dict[str, float]:
    """What a trial took, from its log.

    ``handlers``: runs of the line's handlers, ``clocks``: what they took in all; ``window``: clocks
    between events moved and affinity written, if a CPU with PMUs goes offline (the widest).
    """
    found: dict[str, float] = {"handlers": 0, "clocks": 0}
    since: dict[int, int] = {}
    for record in log:
        kind, fields = record.kind, record.fields
        if kind == Kind.PMU_MOVED:
            found["window"] = max(fields["window"], found.get("window", fields["window"]), key=abs)
        elif kind == Kind.HANDLER_START and fields["irq"] == SharedPmuSystem.irq:
            since[record.cpu] = record.cycle
        elif kind == Kind.HANDLER_END and fields["irq"] == SharedPmuSystem.irq:
            found["handlers"] += 1
            found["clocks"] += record.cycle - since[record.cpu]
    return found
