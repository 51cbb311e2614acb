"""Every verdict fires on a story that earns it, and not on the story beside it."""

import numpy
import pytest

from firmware_model.core.records import Kind
from firmware_model.machine.ops import Record
from hdl.registers.lapic import message_address
from hdl.tap import EventKind
from sim.hosts.verilated import RECORD
from sim.trial import Outcome
from sim.verdict import BROKEN_CLAIM, VERDICTS, Owner, judge

OWNER = Owner(unit=0, requester=8, irq=33, action="event device", patience=500, bearable=3)
OLD, NEW = 0x35, 0x22


class Story:
    """One interrupt, at home on CPU 0; what else happens is told in order."""

    def __init__(self, owner=OWNER):
        self.owner = owner
        self.events, self.log = [], []
        self.say(0, 0, Kind.VECTOR_ASSIGNED, irq=33, target=0, vector=OLD)

    def say(self, cycle, cpu, kind, **fields):
        self.log.append(Record(cycle, cpu, kind, fields))
        return self

    def tap(self, cycle, kind, **fields):
        self.events.append({"cycle": cycle, "kind": kind.value} | fields)
        return self

    def event(self, cycle):
        return self.tap(cycle, EventKind.DEVICE_EVENT, unit=self.owner.unit)

    def message(self, cycle, cpu=0, vector=OLD, requester=8):
        address = message_address(cpu)
        return self.tap(cycle, EventKind.MESSAGE, id=requester, address=address, data=vector)

    def start(self, cycle, cpu=0, action="event device", irq=33):
        return self.say(cycle, cpu, Kind.HANDLER_START, irq=irq, action=action)

    def end(self, cycle, cpu=0, result=1):
        return self.say(cycle, cpu, Kind.HANDLER_END, irq=33, action="event device", result=result)

    def served(self, cycle, cpu=0, result=1):
        return self.start(cycle, cpu).end(cycle + 10, cpu, result)

    def assigned(self, cycle, path="direct"):
        """The move to CPU 1."""
        self.say(cycle, 0, Kind.VECTOR_ASSIGNED, irq=33, target=1, vector=NEW)
        return self.say(cycle, 0, Kind.MOVE_PATH, irq=33, path=path, old=(OLD, 0), new=(NEW, 1))

    def moved(self, cycle):
        return self.say(cycle, 0, Kind.MOVE_END, irq=33, result=0, effective=2)

    def cleaned(self, cycle):
        return self.say(cycle, 0, Kind.CLEANUP, irq=33, vector=OLD, done=True)

    def verdicts(self, quiet=True):
        records = numpy.zeros(len(self.events), RECORD)
        for row, event in zip(records, self.events, strict=True):
            for name, value in event.items():
                row[name] = value
        return judge(Outcome(1000, quiet, records, self.log, ("device",)), self.owner)


def good():
    return Story().event(100).message(102).served(110)


def many(story, count, tell):
    for index in range(count):
        tell(story, 200 + 20 * index)
    return story


SHARED = Owner(0, 8, 33, "event device", shared=frozenset({0xED}))
FOREIGN = Owner(0, 8, 33, "event device", foreign=frozenset({(0, NEW)}))


def foreign_run(story):
    return story.start(120, action="bystander 50", irq=50)


OK = {
    "served": good(),
    "nothing happened": Story(),
    "two events in one run": Story().event(100).event(101).message(102).served(110),
    "the second run finds nothing": good().event(115).message(117).served(130, result=0),
    "a message to the new place": Story().assigned(90).event(100).message(102, 1, NEW).served(110),
    "the old place, not yet cleaned": Story()
    .assigned(90)
    .moved(95)
    .event(100)
    .message(102)
    .served(110),
    "between two steps": Story()
    .assigned(90, "two_step")
    .event(100)
    .message(102, 0, NEW)
    .served(110, 1),
    "a shared vector": Story(SHARED).event(100).message(102, 1, 0xED).served(110),
    "another device's message": good().message(120, 3, 0x77, requester=16),
    "sent again": good()
    .say(120, 0, Kind.RETRIGGER, irq=33)
    .event(121)
    .message(123)
    .served(130)
    .served(150, result=0)
    .event(149),
    "nested on one CPU": good()
    .event(200)
    .event(201)
    .message(202)
    .start(210)
    .start(211)
    .end(212)
    .end(213),
    "as many in vain as bearable": many(good(), 3, lambda s, at: s.event(at).served(at + 5, 0, 0)),
    "late, but within patience": Story().event(100).message(102).served(600),
}

EARNED = [
    ("lost", "never served", Story().event(100).message(102)),
    ("lost", "started before it", Story().event(105).message(106).served(105)),
    ("lost", "another irq's handler", foreign_run(Story().event(100).message(102))),
    ("misdirected", "the torn message", good().assigned(150).event(160).message(162, 1, OLD)),
    (
        "misdirected",
        "after the clean-up",
        good().assigned(150).moved(160).cleaned(170).message(171),
    ),
    (
        "misdirected",
        "between steps, foreign",
        Story(FOREIGN).assigned(90, "two_step").message(102, 0, NEW),
    ),
    (
        "misdirected",
        "after two steps",
        Story().assigned(90, "two_step").moved(95).message(102, 0, NEW),
    ),
    (
        "misdirected",
        "the CPU is offline",
        Story().assigned(90).say(95, 0, Kind.OFFLINE).message(102),
    ),
    (
        "misdirected",
        "shared, offline",
        Story(SHARED).say(95, 0, Kind.OFFLINE).message(102, 0, 0xED),
    ),
    ("spurious", "an acknowledge of nothing", good().tap(120, EventKind.ACKNOWLEDGE, data=1)),
    ("spurious", "a handler before any event", Story().served(50, result=0).event(100).served(110)),
    ("spurious", "a bystander is disturbed", foreign_run(good())),
    (
        "spurious",
        "an unassigned vector",
        good()
        .say(120, 0, Kind.NO_IRQ_HANDLER, vector=9)
        .say(121, 0, Kind.NO_IRQ_HANDLER, vector=9),
    ),
    ("duplicate", "two runs for one event", good().served(130, result=0)),
    ("wrong_cpu", "no vector there", Story().event(100).message(102).served(110, 1)),
    (
        "wrong_cpu",
        "after the clean-up",
        Story().assigned(50).moved(60).cleaned(70).event(100).message(102, 1, NEW).served(110, 0),
    ),
    (
        "overlap",
        "on two CPUs",
        Story()
        .assigned(50)
        .event(100)
        .event(101)
        .message(102)
        .start(110, 0)
        .start(111, 1)
        .end(112, 0)
        .end(113, 1),
    ),
    ("starved", "served too late", Story().event(100).message(102).served(601)),
    (
        "storm",
        "the handler finds nothing",
        many(good(), 4, lambda s, at: s.event(at).served(at + 5, 0, 0)),
    ),
    (
        "storm",
        "nobody holds it",
        many(good(), 4, lambda s, at: s.say(at, 1, Kind.NO_IRQ_HANDLER, vector=OLD)),
    ),
    ("crash", "out of order", good().say(120, 0, "crash")),
    ("crash", "dead-lock", good().say(120, 0, "deadlock")),
    ("crash", "stuck", good().say(120, 0, "stuck")),
]


@pytest.mark.parametrize("name", OK)
def test_what_is_in_order_earns_nothing(name):
    assert OK[name].verdicts() == frozenset()


@pytest.mark.parametrize(
    ("verdict", "story"), [pytest.param(v, s, id=f"{v}: {name}") for v, name, s in EARNED]
)
def test_what_went_wrong_is_named(verdict, story):
    assert verdict in story.verdicts()


def test_a_machine_that_does_not_come_to_rest_crashed():
    assert good().verdicts(quiet=False) == {"crash"}


def test_every_verdict_has_a_story():
    assert {verdict for verdict, *_ in EARNED} == set(VERDICTS)


def test_a_claim_is_broken_by_what_costs_an_event():
    assert set(VERDICTS) > BROKEN_CLAIM
    assert BROKEN_CLAIM.isdisjoint({"misdirected", "spurious", "duplicate", "wrong_cpu"})
