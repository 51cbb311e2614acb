"""Verdicts: what went wrong in a trial, decided from the tap and the software's own log.

The definitions are those of the interface description; :data:`VERDICTS` lists them. A trial can earn
several.
"""

from collections.abc import Mapping
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

FATAL_RECORDS = frozenset({"crash", "deadlock", "stuck"})


@dataclass(frozen=True)
class Owner:
    """Whose trial it is: the endpoint, its requester id, its interrupt and its handler's name."""

    unit: int
    requester: int
    irq: int
    action: str


def judge(outcome: Outcome, owner: Owner) -> frozenset[str]:
    """The verdicts of a trial with one device whose messages go to local APICs."""
    events, log = outcome.events, outcome.log
    found = {
        "lost": _lost(events, log, owner),
        "misdirected": _misdirected(events, log, owner),
        "spurious": _spurious(events, log),
        "duplicate": _runs(log, owner) > _retriggers(log, owner) + len(_raised(events, owner)),
        "overlap": _overlap(log, owner),
        "crash": not outcome.quiet or any(record.kind in FATAL_RECORDS for record in log),
    }
    return frozenset(name for name, true in found.items() if true)


def _raised(events: list[Event], owner: Owner) -> list[Event]:
    return [
        event
        for event in events
        if event.kind == EventKind.DEVICE_EVENT and event.unit == owner.unit
    ]


def _starts(log: list[Record], owner: Owner) -> list[Record]:
    return [
        record
        for record in log
        if record.kind == Kind.HANDLER_START and record.fields["action"] == owner.action
    ]


def _runs(log: list[Record], owner: Owner) -> int:
    return len(_starts(log, owner))


def _retriggers(log: list[Record], owner: Owner) -> int:
    return sum(
        record.kind in (Kind.RETRIGGER, Kind.RESEND) and record.fields["irq"] == owner.irq
        for record in log
    )


def _lost(events: list[Event], log: list[Record], owner: Owner) -> bool:
    """An event is served by any start of a handler after it: events merge."""
    raised = _raised(events, owner)
    starts = _starts(log, owner)
    return bool(raised) and (not starts or starts[-1].cycle <= raised[-1].cycle)


def _misdirected(events: list[Event], log: list[Record], owner: Owner) -> bool:
    """A pair counts as the device's from its assignment to its clean-up."""
    changes = [
        (record.cycle, record.kind, record.fields)
        for record in log
        if record.kind in (Kind.VECTOR_ASSIGNED, Kind.MOVE_PATH, Kind.CLEANUP)
        and record.fields["irq"] == owner.irq
    ]
    held: set[tuple[int, int]] = set()
    position = 0
    for event in events:
        while position < len(changes) and changes[position][0] <= event.cycle:
            _, kind, fields = changes[position]
            position += 1
            if kind == Kind.VECTOR_ASSIGNED:
                held.add((fields["target"], fields["vector"]))
            elif kind == Kind.MOVE_PATH and fields["path"] == "two_step":
                # Between the steps the new vector is taken care of on the old CPU as well.
                held.add((fields["old"][0], fields["new"][1]))
        if event.kind == EventKind.MESSAGE and event.id == owner.requester:
            cpu, vector = event.address >> 12 & 0xFF, event.data & 0xFF
            if (cpu, vector) not in held:
                return True
    return False


def _spurious(events: list[Event], log: list[Record]) -> bool:
    taken_for_nothing = any(
        event.kind == EventKind.ACKNOWLEDGE and event.data == 1 for event in events
    )
    return taken_for_nothing or any(
        record.kind == Kind.NO_IRQ_HANDLER
        or (record.kind == Kind.HANDLER_END and not int(record.fields["result"]))
        for record in log
    )


def _overlap(log: list[Record], owner: Owner) -> bool:
    running: set[int] = set()
    for record in log:
        if record.fields.get("irq") != owner.irq:
            continue
        if record.kind == Kind.HANDLER_START:
            if running - {record.cpu}:
                return True
            running.add(record.cpu)
        elif record.kind == Kind.HANDLER_END:
            running.discard(record.cpu)
    return False
