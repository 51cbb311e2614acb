"""Verdicts: what went wrong in a trial, decided from the tap and the software's own log.

The definitions are those of the interface description; :data:`VERDICTS` lists them. A trial can
earn several. What the device did comes from the tap; what the software made of it from its log,
since which handler belongs to which device is nothing that hardware knows.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from firmware_model.core.records import Kind
from firmware_model.machine.ops import Record
from hdl.tap import EventKind

from .events import Event
from .trial import Outcome

VERDICTS: Mapping[str, str] = {
    "lost": "the device had an event, and no handler of it began afterwards",
    "misdirected": "a message reached a (CPU, vector) pair that its device does not hold",
    "spurious": "a handler ran with nothing to show for it, or an acknowledge found nothing",
    "duplicate": "more handler runs than events can account for",
    "wrong_cpu": "a handler ran on a CPU outside its affinity",
    "overlap": "one interrupt's handler ran on two CPUs at once",
    "starved": "an event waited longer than the scenario's bound",
    "storm": "the same unhandled interrupt was taken more often than the scenario's bound",
    "crash": "the software touched something freed, missing or out of order, or stopped for ever",
}

BROKEN_CLAIM = frozenset({"lost", "starved", "storm", "crash", "overlap"})
"""Verdicts that refute "with this change no event is lost".

An event that is not served, or too late, or never for the machine is busy or dead, is lost to its
device; a handler that runs twice at once may lose one in its own data. The others are nuisances
that every driver must bear: messages merge and are sent again (``duplicate``, ``spurious``), a
late one runs on the old CPU (``wrong_cpu``), and the two-step update of Linux sends what it will
make up for to a foreign vector on purpose (``misdirected``).
"""

FATAL_RECORDS = frozenset({"crash", "deadlock", "stuck"})
BROKEN_RULES = frozenset({"crash", "deadlock", "misuse"})

DROPPED = frozenset(
    {EventKind.TRANSLATION_DROPPED, EventKind.PENDING_DROPPED, EventKind.MESSAGE_BAD}
)
"""What becomes of messages that a GIC can make nothing of."""


def apic_place(address: int, data: int) -> tuple[int, int]:
    """The local APIC and the vector that a message is for."""
    return address >> 12 & 0xFF, data & 0xFF


@dataclass(frozen=True)
class Owner:
    """Whose trial it is, and what is too much.

    Attributes
    ----------
    unit, requester : int
        The endpoint and its requester id.
    irq, action
        Its interrupt and its handler's name.
    shared : frozenset of int
        Vectors that run this interrupt's handler too, on every CPU that is online.
    foreign : frozenset of (CPU, vector)
        What other devices hold.
    patience : int
        Clocks that an event may wait for its handler; more is ``starved``.
    bearable : int
        Times that one interrupt may be taken in vain; more is ``storm``.
    place : function (address, data)
        The CPU and the vector that a message names; a local APIC's, if it is not said.
    """

    unit: int
    requester: int
    irq: int
    action: str
    shared: frozenset[int] = frozenset()
    foreign: frozenset[tuple[int, int]] = frozenset()
    patience: int = 5_000
    bearable: int = 10
    place: Callable[[int, int], tuple[int, int]] = apic_place


def judge(outcome: Outcome, owner: Owner) -> frozenset[str]:
    """The verdicts of a trial with one device that has events, by messages to local APICs."""
    events, log = outcome.events, outcome.log
    raised = [
        event.cycle
        for event in events
        if event.kind == EventKind.DEVICE_EVENT and event.unit == owner.unit
    ]
    own = [record for record in log if record.fields.get("irq") == owner.irq]
    starts = [
        record.cycle
        for record in own
        if record.kind == Kind.HANDLER_START and record.fields["action"] == owner.action
    ]
    resent = sum(record.kind in (Kind.RETRIGGER, Kind.RESEND) for record in own)
    found = {
        "lost": lost(raised, starts),
        "misdirected": _misdirected(events, log, owner),
        "spurious": _spurious(events, log, raised, starts, owner),
        "duplicate": len(starts) > len(raised) + resent,
        "wrong_cpu": wrong_cpu(log, owner),
        "overlap": overlap(own),
        "starved": starved(raised, starts, owner.patience),
        "storm": storm(log, owner.bearable),
        "crash": not outcome.quiet or any(record.kind in FATAL_RECORDS for record in log),
    }
    return frozenset(name for name, true in found.items() if true)


@dataclass(frozen=True)
class GicOwner:
    """As :class:`Owner`, for a device whose interrupt is an INTID of a GIC."""

    unit: int
    irq: int
    action: str
    intid: int
    patience: int = 5_000
    bearable: int = 10


def judge_gic(outcome: Outcome, owner: GicOwner) -> frozenset[str]:
    """The verdicts of a trial with one device that has events, and a GIC.

    Events while its driver has freed the interrupt are nobody's.
    """
    events, log = outcome.events, outcome.log
    own = [record for record in log if record.fields.get("irq") == owner.irq]
    requested = max(
        (r.cycle for r in own if r.kind == Kind.REQUEST_IRQ and not r.fields["result"]), default=0
    )
    raised = [
        event.cycle
        for event in events
        if event.kind == EventKind.DEVICE_EVENT and event.unit == owner.unit
    ]
    starts = [
        record.cycle
        for record in own
        if record.kind == Kind.HANDLER_START and record.fields["action"] == owner.action
    ]
    resent = sum(record.kind == Kind.RESEND for record in own)
    stormy = storm(log, owner.bearable)
    wanted = [cycle for cycle in raised if cycle > requested]
    found = {
        "lost": lost(wanted, starts),
        "misdirected": any(went_nowhere(event) for event in events)
        or any(record.kind == Kind.NO_IRQ_HANDLER for record in log),
        "spurious": any(record.kind == Kind.SPURIOUS_INTID for record in log)
        or outnumbered(starts, raised),
        "duplicate": len(starts) > len(raised) + resent,
        "wrong_cpu": left_behind(events, log, owner.irq, {owner.intid}, strict=True),
        "overlap": overlap(own),
        "starved": starved(wanted, starts, owner.patience),
        "storm": stormy,
        "crash": broken(outcome, storming=stormy),
    }
    return frozenset(name for name, true in found.items() if true)


def went_nowhere(event: Event) -> bool:
    """A device's message that nobody took, or that a GIC could make nothing of."""
    return event.kind in DROPPED or (
        event.kind == EventKind.BUS_ERROR and event.channel == "posted"
    )


def broken(outcome: Outcome, *, storming: bool = False) -> bool:
    """The software is at fault, or stopped for ever: not just busy with a storm."""
    if any(record.kind in BROKEN_RULES for record in outcome.log):
        return True
    if storming:
        return False
    return not outcome.quiet or unbalanced(outcome.events)


def unbalanced(events: list[Event]) -> bool:
    """On some CPU an end without its acknowledge, one out of order, or one that is missing."""
    running: dict[int, list[int]] = {}
    for event in events:
        if event.kind == EventKind.ACKNOWLEDGE and not event.data:
            running.setdefault(event.unit, []).append(event.id)
        elif event.kind == EventKind.EOI:
            stack = running.get(event.unit)
            if not stack or stack.pop() != event.id:
                return True
    return any(running.values())


def left_behind(
    events: list[Event], log: list[Record], irq: int, numbers: set[int], *, strict: bool
) -> bool:
    """A handler ran on a CPU that the interrupt had left, with no acknowledge of its own there.

    ``numbers``: the interrupt's INTIDs, or vectors. ``strict``: nor may it be acknowledged there,
    once the move is complete.
    """
    steps: list[tuple[int, int, int, Event | Record]] = [
        (event.cycle, 0, event.unit, event)
        for event in events
        if event.kind == EventKind.ACKNOWLEDGE and event.id in numbers
    ]
    steps += [(r.cycle, 1, r.cpu, r) for r in log if r.fields.get("irq") == irq]
    steps.sort(key=lambda step: step[:2])
    came: set[int] = set()
    target, moving = 0, False
    for _, _, cpu, step in steps:
        here = bool(target >> cpu & 1)
        if isinstance(step, Event):
            if strict and not here and not moving:
                return True
            came.add(cpu)
        elif step.kind == Kind.MOVE_START:
            moving = True
        elif step.kind == Kind.MOVE_END:
            moving, target = False, step.fields["effective"]
        elif step.kind == Kind.EARLY_OUT:
            came.discard(cpu)
        elif step.kind == Kind.HANDLER_START:
            if cpu not in came and not here and not moving:
                return True
            came.discard(cpu)
    return False


def outnumbered(taken: list[int], raised: list[int]) -> bool:
    """At some time there had been more of ``taken`` than of ``raised``."""
    return any(
        count > sum(cycle <= clock for cycle in raised)
        for count, clock in enumerate(taken, start=1)
    )


def lost(raised: list[int], starts: list[int]) -> bool:
    """An event is served by any start of a handler after it: events merge."""
    return bool(raised) and (not starts or starts[-1] <= raised[-1])


def starved(raised: list[int], starts: list[int], patience: int) -> bool:
    """Served, but late. What is never served is lost."""
    waits = (next((s - cycle for s in starts if s > cycle), 0) for cycle in raised)
    return any(wait > patience for wait in waits)


class Tenure:
    """The (CPU, vector) pairs of one interrupt, as its log goes on.

    A pair is held from its assignment to its clean-up, or until its CPU is offline. Between the
    steps of a two-step move the new vector is taken care of on the old CPU as well, unless it is
    another device's there: until the end of the move, since nobody looks for it afterwards.
    """

    def __init__(self, owner: Owner):
        self._owner = owner
        self._held: set[tuple[int, int]] = set()
        self._between: set[tuple[int, int]] = set()
        self._offline: set[int] = set()

    @property
    def cpus(self) -> set[int]:
        return {cpu for cpu, _ in self._held}

    def holds(self, cpu: int, vector: int) -> bool:
        if vector in self._owner.shared:
            return cpu not in self._offline
        return (cpu, vector) in self._held | (self._between - self._owner.foreign)

    def pairs(self, cpus: int) -> frozenset[tuple[int, int]]:
        """Every pair that it :meth:`holds` on a machine with so many CPUs."""
        online = set(range(cpus)) - self._offline
        shared = {(cpu, vector) for cpu in online for vector in self._owner.shared}
        own = self._held | (self._between - self._owner.foreign)
        return frozenset(shared | {pair for pair in own if pair[1] not in self._owner.shared})

    def note(self, record: Record) -> None:
        kind, fields = record.kind, record.fields
        if kind == Kind.OFFLINE:
            self._offline.add(record.cpu)
            self._held = {pair for pair in self._held if pair[0] != record.cpu}
        elif fields.get("irq") != self._owner.irq:
            return
        elif kind == Kind.VECTOR_ASSIGNED:
            self._held.add((fields["target"], fields["vector"]))
        elif kind == Kind.MOVE_PATH and fields["path"] == "two_step":
            (_, old_cpu), (new_vector, _) = fields["old"], fields["new"]
            self._between.add((old_cpu, new_vector))
        elif kind == Kind.MOVE_END:
            self._between.clear()
        elif kind == Kind.CLEANUP and fields["done"]:
            self._held.discard((record.cpu, fields["vector"]))


def _misdirected(events: list[Event], log: list[Record], owner: Owner) -> bool:
    """In one clock the software's changes come before the message."""
    tenure = Tenure(owner)
    position = 0
    for event in events:
        if event.kind != EventKind.MESSAGE or event.id != owner.requester:
            continue
        while position < len(log) and log[position].cycle <= event.cycle:
            tenure.note(log[position])
            position += 1
        if not tenure.holds(*owner.place(event.address, event.data)):
            return True
    return False


def wrong_cpu(log: list[Record], owner: Owner) -> bool:
    """It may run where it holds a vector: during a move that is the old CPU, too."""
    tenure = Tenure(owner)
    for record in log:
        tenure.note(record)
        if (
            record.kind == Kind.HANDLER_START
            and record.fields["action"] == owner.action
            and record.cpu not in tenure.cpus
        ):
            return True
    return False


def _spurious(
    events: list[Event], log: list[Record], raised: list[int], starts: list[int], owner: Owner
) -> bool:
    """An event accounts for one handler run, and for one interrupt that nobody holds.

    A run that finds its event served by the one before is not spurious: the event was there.
    """
    if any(event.kind == EventKind.ACKNOWLEDGE and event.data == 1 for event in events):
        return True
    if any(r.kind == Kind.HANDLER_START and r.fields["action"] != owner.action for r in log):
        return True
    unheld = [record.cycle for record in log if record.kind == Kind.NO_IRQ_HANDLER]
    return outnumbered(starts, raised) or outnumbered(unheld, raised)


def overlap(own: list[Record]) -> bool:
    running: set[int] = set()
    for record in own:
        if record.kind == Kind.HANDLER_START:
            if running - {record.cpu}:
                return True
            running.add(record.cpu)
        elif record.kind == Kind.HANDLER_END:
            running.discard(record.cpu)
    return False


def storm(log: list[Record], bearable: int) -> bool:
    taken: Counter[tuple] = Counter()
    for record in log:
        if record.kind == Kind.NO_IRQ_HANDLER:
            number = record.fields.get("vector", record.fields.get("intid"))
            taken["vector", record.cpu, number] += 1
        elif record.kind == Kind.HANDLER_END and not int(record.fields["result"]):
            taken["irq", record.fields["irq"]] += 1
    return any(count > bearable for count in taken.values())
