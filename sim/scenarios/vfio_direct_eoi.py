"""A guest owns one function on an INTx line, the host another: who ends the line's interrupt?"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate

from firmware_model.core.desc import IrqReturn
from firmware_model.core.records import Kind
from firmware_model.drivers.vfio import VfioIntx
from firmware_model.machine.ops import Record
from firmware_model.platforms.passthrough import (
    CO_DEVICE,
    GUEST_CPU,
    GUEST_INTID,
    HOST_CPU,
    PassthroughSystem,
)
from firmware_model.strategies.vfio import STRATEGIES, IntxStrategy
from hdl.config import INTX_SPI
from hdl.registers.ich import MAINTENANCE_INTID
from hdl.tap import EventKind

from ..events import Event
from ..trial import Outcome, Plan
from ..verdict import FATAL_RECORDS, overlap
from .base import Axis, Scenario, device_event, strategies_of
from .machines import ARM, gic_frames

GUEST_DEVICE, OTHER_DEVICE = 0, 1
"""Endpoints, whose pins drive one wire."""
INTID = INTX_SPI + 1
SGIS = range(16)

START = 4_000
"""Clock at which the boot has come to rest, and the link may be made."""
FIRST = 200
"""Clocks from there to the first event of the guest's device."""
NEVER = 2_000
"""This ``guest_delay`` stands for a guest that never ends its interrupt."""
REST = 500
"""Clocks from the last stimulus to one more event of each device: does the line still work?"""
LIMIT = 2_000
"""Clocks from there, and two of the guest's delays, to the end of a trial that never rests."""
PATIENCE = 800
BEARABLE = 10
SWITCH = (0, 1)


class VfioDirectEoi(Scenario):
    """CPU 0 takes the line's interrupt, CPU 1 runs the guest, CPU 2 its user's process."""

    name = "vfio-direct-eoi"
    summary = "a guest ends the physical interrupt of a line that another device may share"
    source = (
        "ARM/ARM64 Direct EOI setup for VFIO wired interrupts (May and June 2017); vfio/pci: Fix "
        "INTx handling on legacy non-PCI 2.3 devices (2025)"
    )
    config = ARM
    boot_clocks = START
    boot_axes = ("edge", "co_first")
    axes = {
        "guest_delay": Axis(
            100,
            0,
            NEVER,
            f"clocks from when the guest has served its device to its EOI; {NEVER}: no EOI ever",
        ),
        "co_inject": Axis(0, 0, 3_000, "clocks from the first event to the co-device's; 0: none"),
        "reassert": Axis(0, 0, 3_000, "clocks from the first event to the next; 0: none"),
        "teardown": Axis(0, 0, 3_000, "clocks from the first event to the guest's end; 0: none"),
        "link": Axis(0, 0, 3_000, "clocks to the start of the link; the first event is at 200"),
        "edge": Axis(0, *SWITCH, "1: the controller presents each assertion once, as for edges"),
        "co_first": Axis(0, *SWITCH, "1: the co-device's driver requests the interrupt first"),
        "pause": Axis(0, 0, 500, "clocks between the two steps that follow the guest's EOI"),
    }
    strategies = strategies_of(STRATEGIES)
    grids = {
        "quick": [
            {
                "guest_delay": (60, NEVER),
                "co_inject": (0, 150),
                "reassert": (0, 40, 110, 140, 180),
                "teardown": (0, 120),
                "link": (0, 260),
                "edge": SWITCH,
                "pause": (0, 100),
            }
        ],
        # The guest has served its device 130 clocks after the event, and ended its interrupt, if it
        # does so at once, 60 clocks later; its next one can come 50 clocks after that.
        "full": [
            {"guest_delay": range(25), "reassert": range(281)},
            {"guest_delay": range(25), "co_inject": range(1, 301)},
            {"guest_delay": (60, 900, NEVER), "co_inject": range(1, 301), "co_first": SWITCH},
            {"guest_delay": (0, 60, NEVER), "teardown": range(1, 351), "co_inject": (0, 150)},
            {"guest_delay": (0, 60), "link": range(501)},
            {"guest_delay": (0, 30, 60), "reassert": range(281), "edge": (1,)},
            {"guest_delay": (0, 60), "reassert": range(281), "pause": (100,)},
            {"guest_delay": (0, 60), "reassert": (150,), "pause": range(1, 201)},
        ],
    }
    own = IntxStrategy

    def boot(self, strategy: str, at: Mapping[str, int]) -> PassthroughSystem:
        return PassthroughSystem(
            self.code(strategy),
            intid=INTID,
            devices=(GUEST_DEVICE + 1, OTHER_DEVICE + 1),
            edge=bool(at["edge"]),
            co_first=bool(at["co_first"]),
            frames=gic_frames(ARM),
        )

    def stimulate(self, system: PassthroughSystem, strategy: str, at: Mapping[str, int]) -> Plan:
        first = START + FIRST
        system.guest.delay = None if at["guest_delay"] == NEVER else at["guest_delay"]
        system.irqfd.pause = at["pause"]
        system.start_link(START + at["link"])
        pokes = device_event(GUEST_DEVICE, first)
        if at["teardown"]:
            system.start_teardown(first + at["teardown"])
        if at["co_inject"]:
            pokes += device_event(OTHER_DEVICE, first + at["co_inject"])
        if at["reassert"]:
            pokes += device_event(GUEST_DEVICE, first + at["reassert"])
        last = _last(at)
        pokes += device_event(GUEST_DEVICE, last) + device_event(OTHER_DEVICE, last)
        return Plan(system.machine, pokes, limit=last + 2 * _delay(at) + LIMIT)

    def judge(self, strategy: str, at: Mapping[str, int], outcome: Outcome) -> frozenset[str]:
        trial = Observation(outcome)
        complaints = set().union(*map(trial.complaints, trial.raised))
        found = {
            "lost": "lost" in complaints,
            "misdirected": trial.misdirected,
            "spurious": trial.spurious,
            "duplicate": len(trial.guest_starts) > len(trial.raised[GUEST_DEVICE]),
            "wrong_cpu": trial.wrong_cpu,
            "overlap": overlap([record for record in outcome.log if "irq" in record.fields]),
            "starved": "starved" in complaints,
            "storm": trial.storm,
            "crash": trial.crashed,
        }
        return frozenset(name for name, true in found.items() if true)

    def drivers(self, strategy: str) -> Mapping[str, int]:
        return {CO_DEVICE: OTHER_DEVICE}

    def contradictions(self, strategy: str, outcome: Outcome) -> list[str]:
        return super().contradictions(strategy, outcome) + Observation(outcome).contradictions()

    def figures(
        self, strategy: str, at: Mapping[str, int], outcome: Outcome
    ) -> Mapping[str, float]:
        """What an interrupt of the guest costs the host, where nothing else goes on."""
        busy = any(at[axis] for axis in ("co_inject", "teardown", "link", "edge", "pause"))
        if busy or at["guest_delay"] == NEVER:
            return {}
        cost = Observation(outcome).cost(range(START + FIRST, _last(at)))
        if not cost.interrupts:
            return {}
        return {
            "steps": cost.steps / cost.interrupts,
            "clocks": cost.clocks / cost.interrupts,
            "exits": cost.exits / cost.interrupts,
        }

    def window(self, at: Mapping[str, int], outcome: Outcome) -> tuple[int, int]:
        first = START + FIRST
        ends = (at["co_inject"], at["reassert"], at["teardown"])
        return first - 20, first + max(200, *ends) + _delay(at) + 200


def _last(at: Mapping[str, int]) -> int:
    """Clock of the events that show whether the line still works."""
    busy = max(at["co_inject"], at["reassert"], at["teardown"], at["link"] - FIRST)
    return START + FIRST + busy + _delay(at) + REST


def _delay(at: Mapping[str, int]) -> int:
    return 0 if at["guest_delay"] == NEVER else at["guest_delay"]


@dataclass(frozen=True)
class Cost:
    """What the host does for ``interrupts`` of a guest.

    ``steps`` are accesses, and locks taken or given back; ``clocks`` those that a CPU spends on it;
    ``exits`` how often the guest lost its CPU.
    """

    interrupts: int
    steps: int
    clocks: int
    exits: int


class Observation:
    """What the tap and the log say of one trial.

    Attributes
    ----------
    raised : mapping of endpoint to clocks of its events
    taken, guest_starts, guest_ends : list of int
        Acknowledges of the line's interrupt; acknowledges and ends of the guest's.
    refused : str
        Whose request failed.
    """

    def __init__(self, outcome: Outcome):
        self.quiet = outcome.quiet
        self.end = outcome.cycles
        self.patience = PATIENCE + outcome.stalled
        self.log = outcome.log
        self.events = outcome.events
        self.raised = {
            device: [e.cycle for e in self._of(EventKind.DEVICE_EVENT) if e.unit == device]
            for device in (GUEST_DEVICE, OTHER_DEVICE)
        }
        self.taken = [e.cycle for e in self._of(EventKind.ACKNOWLEDGE) if e.id == INTID]
        self.guest_starts = [e.cycle for e in self._of(EventKind.VIRTUAL_ACKNOWLEDGE)]
        self.guest_ends = [e.cycle for e in self._of(EventKind.VIRTUAL_EOI)]
        refused = [r for r in self._records(Kind.REQUEST_IRQ) if r.fields["result"]]
        self.refused = refused[0].fields["action"] if refused else ""
        self.guest_gone = min((r.cycle for r in self._records(Kind.GUEST_GONE)), default=None)

    def _of(self, kind: EventKind) -> list[Event]:
        return [event for event in self.events if event.kind == kind]

    def _records(self, *kinds: str) -> list[Record]:
        return [record for record in self.log if record.kind in kinds]

    def contradictions(self) -> list[str]:
        """Where the guest's story is not the tap's.

        A guest that ends between an acknowledge and its answer is the one that does not know.
        """
        found = []
        said, seen = len(self._records(Kind.GUEST_START)), len(self.guest_starts)
        if said != seen and not (self.guest_gone is not None and said == seen - 1):
            found.append(f"the guest took {said} interrupts, and acknowledged {seen}")
        counted = sum(events for _, events in self._looks(GUEST_DEVICE))
        raised = len(self.raised[GUEST_DEVICE])
        if counted > raised:
            found.append(f"the guest's driver has counted {counted} events of {raised}")
        return found

    def _looks(self, device: int) -> list[tuple[int, int]]:
        """When its driver looked at it, and how many new events it saw."""
        cpu = GUEST_CPU if device == GUEST_DEVICE else HOST_CPU
        return [(r.cycle, r.fields["events"]) for r in self._records(Kind.HANDLED) if r.cpu == cpu]

    def complaints(self, device: int) -> set[str]:
        """Verdicts on how the events of ``device`` were served; none, if its driver was refused.

        The guest is not owed an interrupt while it has one that it has not ended, nor near its
        own end. An event that is not served is lost, unless the guest still has an interrupt of
        the line: then it waits for that, and starves.
        """
        if self.refused == (VfioIntx.name if device == GUEST_DEVICE else CO_DEVICE):
            return set()
        looks = self._looks(device)
        seen = list(accumulate(events for _, events in looks))
        found = set()
        for number, raised in enumerate(self.raised[device], 1):
            ready = self._guest_ready(raised) if device == GUEST_DEVICE else raised
            if ready is None:
                continue
            served = bisect_left(seen, number)
            if served == len(seen):
                found.add("starved" if self._guest_holds else "lost")
            elif looks[served][0] - ready > self.patience:
                found.add("starved")
        return found

    def _guest_ready(self, cycle: int) -> int | None:
        """From when the guest could take an interrupt that is raised at ``cycle``; None: never."""
        started = [start for start in self.guest_starts if start <= cycle]
        if started and not any(started[-1] < end <= cycle for end in self.guest_ends):
            cycle = next((end for end in self.guest_ends if end > cycle), self.end)
            if cycle == self.end:
                return None
        if self.guest_gone is not None and cycle + self.patience > self.guest_gone:
            return None
        return cycle

    @property
    def _guest_holds(self) -> bool:
        """The guest lives, and has not ended its last interrupt."""
        return self.guest_gone is None and len(self.guest_starts) > len(self.guest_ends)

    @property
    def misdirected(self) -> bool:
        known = {INTID, MAINTENANCE_INTID, *SGIS}
        host = {e.id for e in self._of(EventKind.ACKNOWLEDGE)}
        guest = {e.id for e in self._of(EventKind.VIRTUAL_ACKNOWLEDGE)}
        return bool(host - known or guest - {GUEST_INTID})

    @property
    def spurious(self) -> bool:
        """The guest, or the host for this line, was interrupted for nothing."""
        idle = any(not record.fields["served"] for record in self._records(Kind.GUEST_END))
        nothing = any(
            record.cpu == HOST_CPU or record.fields.get("guest")
            for record in self._records(Kind.SPURIOUS_INTID)
        )
        return idle or nothing or any(self._between(self.taken, self._handled()))

    @property
    def storm(self) -> bool:
        """Interrupts that bring no device any further."""
        progress = [
            cycle for device in self.raised for cycle, events in self._looks(device) if events
        ]
        counts = (
            *self._between(self.taken, progress),
            *self._between(self.guest_starts, progress),
        )
        return max(counts, default=0) > BEARABLE

    def _handled(self) -> list[int]:
        return [
            r.cycle
            for r in self._records(Kind.HANDLER_END)
            if r.fields["result"] == IrqReturn.HANDLED
        ]

    @staticmethod
    def _between(taken: Iterable[int], steps: Iterable[int]) -> list[int]:
        """Before each of ``steps``, and after the last: how many of ``taken`` beyond one."""
        marks = sorted([(cycle, True) for cycle in steps] + [(cycle, False) for cycle in taken])
        counts, count = [], 0
        for _, is_step in marks:
            if is_step:
                counts.append(max(count - 1, 0))
                count = 0
            else:
                count += 1
        return [*counts, count]

    @property
    def wrong_cpu(self) -> bool:
        host = any(record.cpu != HOST_CPU for record in self._records(Kind.HANDLER_START))
        return host or any(
            event.unit != GUEST_CPU for event in self._of(EventKind.VIRTUAL_ACKNOWLEDGE)
        )

    @property
    def crashed(self) -> bool:
        """A rule is broken, an interrupt of the line ended that was not begun, or it never rests.

        What a storm keeps busy is not broken.
        """
        ended = sum(event.id == INTID for event in self._of(EventKind.DEACTIVATE))
        return (
            not (self.quiet or self.storm)
            or bool(self._records(*FATAL_RECORDS, "misuse"))
            or ended > len(self.taken)
        )

    def cost(self, span: range) -> Cost:
        """Of the interrupts that the guest ended in these clocks."""
        work = [r for r in self._records(Kind.HOST_WORK) if r.cycle in span]
        return Cost(
            sum(cycle in span for cycle in self.guest_ends),
            sum(record.fields["steps"] for record in work),
            sum(record.fields["clocks"] for record in work),
            sum(record.cycle in span for record in self._records(Kind.GUEST_EXIT)),
        )
