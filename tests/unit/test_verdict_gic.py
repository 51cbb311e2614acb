"""Each verdict on a trial with a GIC, seen to fire on a story made for it."""

import pytest

from firmware_model.core.records import Kind
from firmware_model.machine.ops import Record
from hdl.tap import EventKind
from sim.events import Event
from sim.verdict import GicOwner, broken, judge_gic, left_behind, unbalanced, went_nowhere

OWNER = GicOwner(0, 33, "device", 8192, patience=100, bearable=2)


class Story:
    """An outcome as judges look at it: the tap and the log, in words.

    A move to CPU 0 in clock 0 is always there, as a boot leaves it.
    """

    cycles = 1000

    def __init__(self, *, quiet=True):
        self.quiet = quiet
        self.events = []
        self.log = [
            Record(0, 0, Kind.REQUEST_IRQ, {"irq": 33, "result": 0}),
            Record(0, 0, Kind.MOVE_END, {"irq": 33, "effective": 1}),
        ]

    def tap(self, cycle, kind, unit=0, number=0, channel="tap"):
        self.events.append(Event(cycle, channel, kind, unit, number))

    def wrote(self, cycle, cpu, kind, **fields):
        self.log.append(Record(cycle, cpu, kind, {"irq": 33, **fields}))

    def event(self, cycle):
        self.tap(cycle, EventKind.DEVICE_EVENT)

    def run(self, cycle, cpu=0, *, result=1, length=10, intid=8192, own=True):
        """An interrupt: acknowledged (unless not ``own``), handled, ended."""
        if own:
            self.tap(cycle, EventKind.ACKNOWLEDGE, cpu, intid)
        self.wrote(cycle + 1, cpu, Kind.HANDLER_START, action="device")
        self.wrote(cycle + length, cpu, Kind.HANDLER_END, action="device", result=result)
        if own:
            self.tap(cycle + length + 1, EventKind.EOI, cpu, intid)

    def move(self, begin, end, effective):
        self.wrote(begin, 2, Kind.MOVE_START)
        self.wrote(end, 2, Kind.MOVE_END, effective=effective)


def good():
    story = Story()
    story.event(10)
    story.run(20)
    story.move(40, 60, 0b10)
    story.event(70)
    story.run(80, cpu=1)
    return story


def test_nothing_is_wrong():
    assert judge_gic(good(), OWNER) == frozenset()


def lost(story):
    story.event(200)


def starved(story):
    story.event(200)
    story.run(310, cpu=1)


def misdirected(story):
    story.wrote(200, 0, Kind.NO_IRQ_HANDLER, intid=8193)


def spurious(story):
    story.wrote(200, 0, Kind.SPURIOUS_INTID, intid=1023)


def wrong_cpu(story):
    story.event(190)
    story.run(200, cpu=0)


def overlap(story):
    story.event(190)
    story.event(191)
    story.tap(200, EventKind.ACKNOWLEDGE, 1, 8192)
    for cycle, kind, fields in (
        (201, Kind.HANDLER_START, {}),
        (220, Kind.HANDLER_END, {"result": 1}),
    ):
        story.wrote(cycle, 1, kind, action="device", **fields)
    story.tap(221, EventKind.EOI, 1, 8192)
    story.move(195, 230, 0b11)
    story.log.insert(-3, Record(202, 0, Kind.HANDLER_START, {"irq": 33, "action": "device"}))
    story.log.sort(key=lambda record: record.cycle)


def crash(story):
    story.wrote(200, 0, "misuse", rule="a rule")


@pytest.mark.parametrize("spoil", [lost, starved, misdirected, spurious, wrong_cpu, overlap, crash])
def test_one_thing_is_wrong(spoil):
    story = good()
    spoil(story)
    assert judge_gic(story, OWNER) == {spoil.__name__}


def test_too_many_runs():
    story = good()
    for cycle in (200, 220, 240):
        story.run(cycle, cpu=1, result=0)
    assert judge_gic(story, OWNER) == {"spurious", "duplicate", "storm"}


def test_what_is_raised_while_nobody_wants_it_is_not_lost():
    story = good()
    story.event(200)
    story.wrote(250, 1, Kind.REQUEST_IRQ, result=0)
    assert judge_gic(story, OWNER) == frozenset()
    story.event(260)
    assert judge_gic(story, OWNER) == {"lost"}


@pytest.mark.parametrize(
    ("kind", "channel", "nowhere"),
    [
        (EventKind.TRANSLATION_DROPPED, "gic_its", True),
        (EventKind.PENDING_DROPPED, "gic_lpi0", True),
        (EventKind.MESSAGE_BAD, "gic_its", True),
        (EventKind.BUS_ERROR, "posted", True),
        (EventKind.BUS_ERROR, "port0", False),
        (EventKind.MESSAGE, "posted", False),
    ],
)
def test_where_messages_go(kind, channel, nowhere):
    assert went_nowhere(Event(5, channel, kind)) == nowhere


@pytest.mark.parametrize(
    ("story", "fault"),
    [
        ("a1 e1", False),
        ("a1 a2 e2 e1", False),
        ("a1 a2 e1 e2", True),
        ("a1 e1 e1", True),
        ("e1", True),
        ("a1", True),
    ],
)
def test_acknowledges_and_ends_are_in_pairs(story, fault):
    kinds = {"a": EventKind.ACKNOWLEDGE, "e": EventKind.EOI}
    events = [
        Event(i, "tap", kinds[word[0]], 0, int(word[1])) for i, word in enumerate(story.split())
    ]
    assert unbalanced(events) == fault
    other = [Event(e.cycle, "tap", e.kind, e.cycle, e.id) for e in events]
    assert unbalanced(other), "each CPU has its own"


def test_busy_with_a_storm_is_not_stopped():
    story = Story(quiet=False)
    assert broken(story)
    assert not broken(story, storming=True)
    story.wrote(10, 0, "deadlock")
    assert broken(story, storming=True)


def test_a_run_needs_an_acknowledge_of_its_own_where_it_has_left():
    story = good()
    story.run(300, cpu=0, own=False)
    assert left_behind(story.events, story.log, 33, {8192}, strict=True)
    story = good()
    story.tap(300, EventKind.ACKNOWLEDGE, 0, 8192)
    story.wrote(301, 0, Kind.EARLY_OUT)
    story.wrote(310, 0, Kind.HANDLER_START, action="device")
    assert left_behind(story.events, story.log, 33, {8192}, strict=False)


def test_only_the_strict_mind_a_late_acknowledge():
    story = good()
    story.run(300, cpu=0)
    assert left_behind(story.events, story.log, 33, {8192}, strict=True)
    assert not left_behind(story.events, story.log, 33, {8192}, strict=False)
