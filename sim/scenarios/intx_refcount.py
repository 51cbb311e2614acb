"""Functions on one INTx line, of which one disappears while another has something to say.

When all is over, the functions that are left are removed, and then the host bridge. A mapping
that was left behind, leaked or stale, does nothing by itself: it keeps the bridge from going
(``domain_busy`` in the log, ``mappings_left`` among the figures), and as that removal has stopped
for ever, its verdict is ``crash``. Two irqs for one line are the figure ``irqs_made``; what they
do to an event is its verdict.
"""

from collections import Counter
from collections.abc import Mapping
from itertools import pairwise

from firmware_model.core.desc import IrqReturn
from firmware_model.core.records import Kind
from firmware_model.machine.cpu import Cpu
from firmware_model.machine.ops import Record
from firmware_model.platforms.shared_line import FIRST_SPI, SharedLineSystem
from firmware_model.strategies.intx_refcount import STRATEGIES, LineStrategy
from hdl.tap import EventKind

from ..hosts.base import Poke
from ..trial import Outcome, Plan
from ..verdict import FATAL_RECORDS, lost, overlap, starved
from .base import Axis, Scenario, device_event, strategies_of
from .machines import ARM, gic_frames

INTID = FIRST_SPI + 1
"""Of the wire that the pins of all functions drive."""
LEAVING, STAYING = 0, 1
"""The function that disappears, and the one that has an event; others only share the line."""

START = 3_500
"""Clock at which the first function is added, by CPU 1; interrupts go to CPU 0."""
SETTLED = 500
"""Clocks from the last stimulus to the removal of all functions that are left, and the bridge."""
LIMIT = 3_000
PATIENCE = 300
BEARABLE = 10
SWITCH = (0, 1)
AROUND = range(-60, 121)
"""Clocks from the unplugging to the event: before, during and after the removal."""


class IntxRefcount(Scenario):
    """Two CPUs add functions, one watches for the one that disappears, one takes interrupts."""

    name = "intx-refcount"
    summary = "functions share an INTx line and its mapping; one is unplugged, another interrupts"
    source = (
        "irq: Add reference counting to IRQ mappings (October and November 2020); irqdomain: Fix "
        "mapping-creation race (February 2023)"
    )
    config = ARM
    boot_clocks = START
    boot_axes = ("hierarchy",)
    axes = {
        "unplug": Axis(300, 0, 1_000, "clocks from the first probe to the unplug of function 0"),
        "assert": Axis(100, -300, 500, "clocks from there to the event of function 1"),
        "functions": Axis(2, 2, 4, "functions on the line"),
        "order": Axis(0, *SWITCH, "1: function 0 is probed last instead of first"),
        "stagger": Axis(10, 0, 500, "clocks from the first probe to the others', on another CPU"),
        "parallel": Axis(0, *SWITCH, "1: probes wait neither for each other nor for a removal"),
        "hierarchy": Axis(1, *SWITCH, "1: the wires' domain is a level above the GIC's"),
        "legacy": Axis(0, *SWITCH, "1: all map the line, and it is disposed of once, at the end"),
    }
    strategies = strategies_of(STRATEGIES)
    grids = {
        "quick": [
            {
                "unplug": (100, 300),
                "assert": range(-40, 201, 60),
                "order": SWITCH,
                "parallel": SWITCH,
                "hierarchy": SWITCH,
                "legacy": SWITCH,
            }
        ],
        "full": [
            # The function that goes is looked for every 26 clocks; what follows takes 50.
            {"unplug": range(300, 326), "assert": AROUND, "hierarchy": SWITCH},
            {"assert": AROUND, "functions": (2, 3, 4), "order": SWITCH, "hierarchy": SWITCH},
            {"assert": AROUND, "legacy": (1,), "order": SWITCH, "hierarchy": SWITCH},
            # The unplugging hits the probes; it is seen when the function's own is complete.
            {"unplug": range(131), "stagger": (10, 60), "order": SWITCH, "parallel": SWITCH},
            # A probe of 100 clocks hits the removal, which is complete 80 after the unplugging.
            {"unplug": range(100, 126), "stagger": range(201), "order": SWITCH, "parallel": (1,)},
            # Probes hit each other.
            {
                "stagger": range(161),
                "functions": (2, 3, 4),
                "order": SWITCH,
                "parallel": SWITCH,
                "hierarchy": SWITCH,
            },
        ],
    }
    own = LineStrategy

    def boot(self, strategy: str, at: Mapping[str, int]) -> SharedLineSystem:
        return SharedLineSystem(
            self.code(strategy),
            hierarchical=bool(at["hierarchy"]),
            cpus=ARM.cpus,
            frames=gic_frames(ARM),
        )

    def stimulate(self, system: SharedLineSystem, strategy: str, at: Mapping[str, int]) -> Plan:
        system.one_disposal = bool(at["legacy"])
        numbers = list(range(at["functions"]))
        if at["order"]:
            numbers.append(numbers.pop(0))
        probe = system.probe if at["parallel"] else system.add
        unplug, event = START + at["unplug"], _event(at)
        _, first, second = system.machine.cpus
        first.spawn(_probe, probe, numbers[:1])
        first.spawn(_see_it_go, system)
        first.spawn(_end, system, max(unplug, event) + SETTLED + system.machine.stalled)
        second.spawn(_wait, START + at["stagger"])
        second.spawn(_probe, probe, numbers[1:])
        pokes = [Poke(unplug, f"endpoint_{LEAVING}_unplug", 1), *device_event(STAYING, event)]
        return Plan(system.machine, pokes, limit=max(unplug, event) + LIMIT, settle=80)

    def judge(self, strategy: str, at: Mapping[str, int], outcome: Outcome) -> frozenset[str]:
        events, log = outcome.events, outcome.log
        raised = [event.cycle for event in events if event.kind == EventKind.DEVICE_EVENT]
        starts = [
            record.cycle
            for record in log
            if record.kind == Kind.HANDLER_START and record.fields["action"] == _action(STAYING)
        ]
        taken = [
            event.cycle
            for event in events
            if event.kind == EventKind.ACKNOWLEDGE and event.id == INTID
        ]
        handled = [
            record.cycle
            for record in log
            if record.kind == Kind.HANDLER_END and record.fields["result"] == IrqReturn.HANDLED
        ]
        put_off = [record.cycle for record in log if record.kind == Kind.EARLY_OUT]
        in_vain = _in_vain(taken, sorted(handled + put_off))
        found = {
            "lost": lost(raised, starts),
            "misdirected": _misdirected(log, raised),
            "spurious": any(in_vain) or any(r.kind == Kind.SPURIOUS_INTID for r in log),
            "duplicate": len(handled) > len(raised),
            "wrong_cpu": any(r.kind == Kind.HANDLER_START and r.cpu != 0 for r in log),
            "overlap": overlap([record for record in log if "irq" in record.fields]),
            "starved": starved(raised, starts, PATIENCE + outcome.stalled),
            "storm": max(in_vain) > BEARABLE,
            "crash": not outcome.quiet or _crashed(log),
        }
        return frozenset(name for name, true in found.items() if true)

    def drivers(self, strategy: str) -> Mapping[str, int]:
        return {_action(number): number for number in range(len(ARM.endpoints))}

    def figures(
        self, strategy: str, at: Mapping[str, int], outcome: Outcome
    ) -> Mapping[str, float]:
        busy = [r.fields["mapped"] for r in outcome.log if r.kind == Kind.DOMAIN_BUSY]
        return {
            "irqs_made": sum(record.kind == Kind.MAPPED for record in outcome.log),
            "mappings_left": sum(busy),
        }

    def window(self, at: Mapping[str, int], outcome: Outcome) -> tuple[int, int]:
        unplug, event = START + at["unplug"], _event(at)
        return min(unplug, event) - 20, max(unplug, event) + 200


def _event(at: Mapping[str, int]) -> int:
    return max(START + at["unplug"] + at["assert"], START)


def _action(number: int) -> str:
    return f"function {number}"


# What the CPUs do: tasks, one after the other


async def _wait(cpu: Cpu, until: int) -> None:
    await cpu.delay_until(until)


async def _probe(cpu: Cpu, probe, numbers: list[int]) -> None:
    for number in numbers:
        await probe(cpu, number)


async def _see_it_go(cpu: Cpu, system: SharedLineSystem) -> None:
    await system.watch(cpu, LEAVING)


async def _end(cpu: Cpu, system: SharedLineSystem, at: int) -> None:
    await cpu.delay_until(at)
    await system.remove_all(cpu)


# Parts of the verdict


def _in_vain(taken: list[int], accounted: list[int]) -> list[int]:
    """How often the interrupt was taken for nothing, before, between and after those times when
    a handler had something to do, or it was put off since the line is disabled."""
    counts = []
    for begin, end in pairwise([-1, *accounted]):
        counts.append(max(sum(begin < cycle <= end for cycle in taken) - 1, 0))
    return [*counts, sum(cycle > (accounted or [-1])[-1] for cycle in taken)]


def _misdirected(log: list[Record], raised: list[int]) -> bool:
    """An interrupt came to nobody, or to an irq that its function has not got."""
    if any(record.kind in (Kind.NO_IRQ_HANDLER, Kind.UNEXPECTED_IRQ) for record in log):
        return True
    own: dict[str, int] = {}
    served: Counter[int] = Counter()
    for record in log:
        if record.kind == Kind.REQUEST_IRQ and not record.fields["result"]:
            own[record.fields["action"]] = record.fields["irq"]
        elif record.kind == Kind.HANDLER_START:
            served[record.fields["irq"]] += 1
    return bool(raised) and any(irq != own.get(_action(STAYING)) for irq in served)


def _crashed(log: list[Record]) -> bool:
    """The removal of the bridge, too, may have stopped for ever."""
    return any(record.kind in FATAL_RECORDS | {Kind.DOMAIN_BUSY} for record in log)
