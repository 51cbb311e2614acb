"""What the tap says and what the software wrote down must be the same story.

Verdicts rest on both. Where both know a fact, it is compared here; a difference means that the
trial proves nothing, whatever its verdicts: the gateware, the software or the tool is wrong.
"""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping

from firmware_model.core.records import Kind
from firmware_model.machine.ops import Record
from hdl.registers.lapic import MESSAGE_BASE
from hdl.tap import EventKind

from .events import Event
from .trial import Outcome

MESSAGE_WINDOW = 0xFFF0_0000
UNFINISHED = frozenset({"crash", "deadlock", "stuck"})


def contradictions(outcome: Outcome, drivers: Mapping[str, int]) -> list[str]:
    """The facts on which tap and log differ, in words; none if all is well.

    ``drivers`` has the endpoint of every event device by the name of its action.
    """
    events, log = outcome.events, outcome.log
    found = _acknowledges(events, log, outcome.quiet) + _inter_processor(events, log)
    for action, unit in drivers.items():
        found += _counts(events, log, action, unit)
    return found


def _acknowledges(events: list[Event], log: list[Record], quiet: bool) -> list[str]:
    """Every acknowledge is an interrupt taken, of the same number, on the same CPU, in order.

    The last one of a CPU that did not get any further is not written down yet.
    """
    seen: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    told: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    for event in events:
        if event.kind == EventKind.ACKNOWLEDGE:
            seen[event.unit].append((event.cycle, event.id))
    unfinished = {record.cpu for record in log if record.kind in UNFINISHED}
    for cycle, cpu, kind, fields in log:
        if kind == Kind.INTERRUPT:
            told[cpu].append((cycle, fields["vector"] if "vector" in fields else fields["intid"]))
        elif kind == Kind.SPURIOUS_VECTOR:
            told[cpu].append((cycle, 0xFF))
    found = []
    for cpu in sorted(seen.keys() | told.keys()):
        hardware, software = seen[cpu], told[cpu]
        missing = len(hardware) - len(software)
        if missing not in ((0,) if quiet and cpu not in unfinished else (0, 1)):
            found.append(
                f"CPU {cpu} acknowledged {len(hardware)} interrupts, and took {len(software)}"
            )
        for (at, number), (then, taken) in zip(hardware, software, strict=False):
            if number != taken or then < at:
                found.append(
                    f"CPU {cpu} acknowledged {number:#x} in clock {at}, "
                    f"and took {taken:#x} in clock {then}"
                )
                break
    return found


def _inter_processor(events: list[Event], log: list[Record]) -> list[str]:
    """What becomes pending in a local APIC came as a message, or software has sent it."""
    causes: Counter[tuple[int, int]] = Counter()
    pending: Counter[tuple[int, int]] = Counter()
    for event in events:
        if event.kind == EventKind.MESSAGE and event.address & MESSAGE_WINDOW == MESSAGE_BASE:
            causes[event.address >> 12 & 0xFF, event.data & 0xFF] += 1
        elif event.kind == EventKind.PENDING_SET and event.channel.startswith("apic"):
            pending[event.unit, event.id] += 1
    for record in log:
        if record.kind == Kind.IPI and "vector" in record.fields:
            causes[record.fields["target"], record.fields["vector"]] += 1
    return [
        f"vector {vector:#x} became pending on CPU {cpu} {count} times, "
        f"for {causes[cpu, vector]} messages and IPIs"
        for (cpu, vector), count in pending.items()
        if count > causes[cpu, vector]
    ]


def _counts(events: list[Event], log: list[Record], action: str, unit: int) -> list[str]:
    """A driver counts what its device raised: all before its handler began, none after its look."""
    raised = [e.cycle for e in events if e.kind == EventKind.DEVICE_EVENT and e.unit == unit]
    running: dict[int, tuple[str, int]] = {}
    counted = 0
    for cycle, cpu, kind, fields in log:
        if kind == Kind.HANDLER_START:
            running[cpu] = fields["action"], cycle
        elif kind == Kind.HANDLED and cpu in running and running[cpu][0] == action:
            counted += fields["events"]
            before = bisect_left(raised, running[cpu][1])
            until = bisect_right(raised, cycle)
            if not before <= counted <= until:
                return [
                    f"the driver of {action} has counted {counted} events by clock {cycle}, "
                    f"and its device had {before} before the handler began and {until} by then"
                ]
    return []
