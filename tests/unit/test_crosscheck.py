"""The tap against the software's own log: each comparison is quiet on a true story and fires on
one in which either side was changed."""

from dataclasses import replace

import numpy
import pytest

from firmware_model.chips import local_apic
from firmware_model.core.records import Kind
from firmware_model.strategies import torn_msi
from firmware_model.strategies.torn_msi import Naive
from hdl.tap import EventKind
from sim.crosscheck import contradictions
from sim.scenarios import find_scenario
from sim.sweep import Point
from sim.sweep.pool import Runner

DRIVERS = {"event device": 0}
TORN = find_scenario("torn-msi")


@pytest.fixture(scope="module")
def runner():
    with Runner("torn-msi") as runner:
        yield runner


@pytest.fixture(scope="module")
def story(runner):
    """A two-step move that sends an event on: acknowledges, IPIs, a handler."""
    return runner.outcome(Point("two-step", TORN.complete("two-step", {"inject": 85})))


def without_record(story, kind):
    """The story with the last record of a kind forgotten."""
    last = max(i for i, record in enumerate(story.log) if record.kind == kind)
    return replace(story, log=[*story.log[:last], *story.log[last + 1 :]])


def with_fields(story, kind, **fields):
    log = [r._replace(fields=r.fields | fields) if r.kind == kind else r for r in story.log]
    return replace(story, log=log)


def without_event(story, kind):
    keep = story.records["kind"] != kind.value
    return replace(story, records=story.records[keep])


def again(story, kind):
    """The story in which the last event of a kind comes twice."""
    last = numpy.flatnonzero(story.records["kind"] == kind.value)[-1]
    return replace(story, records=numpy.insert(story.records, last, story.records[last]))


def test_a_true_story_has_no_contradictions(story):
    kinds = {record.kind for record in story.log}
    assert {Kind.INTERRUPT, Kind.IPI, Kind.HANDLED} <= kinds
    assert contradictions(story, DRIVERS) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: without_record(s, Kind.INTERRUPT), "CPU 1 acknowledged 1 interrupts, and took"),
        (lambda s: without_event(s, EventKind.ACKNOWLEDGE), "acknowledged 0 interrupts, and took"),
        (lambda s: again(s, EventKind.ACKNOWLEDGE), "CPU 1 acknowledged 2 interrupts, and took 1"),
        (
            lambda s: with_fields(s, Kind.INTERRUPT, vector=0x77),
            "CPU 0 acknowledged 0xfb in clock 724, and took 0x77",
        ),
        (lambda s: without_record(s, Kind.IPI), "vector 0x22 became pending on CPU 1 1 times, for"),
        (lambda s: again(s, EventKind.PENDING_SET), "became pending on CPU 1 2 times, for 1"),
        (lambda s: with_fields(s, Kind.HANDLED, events=0), "has counted 0 events by clock"),
        (lambda s: with_fields(s, Kind.HANDLED, events=2), "has counted 2 events by clock"),
        (lambda s: without_event(s, EventKind.DEVICE_EVENT), "its device had 0 before"),
    ],
)
def test_a_changed_story_has_one(story, change, says):
    [first, *_] = contradictions(change(story), DRIVERS)
    assert says in first


def test_the_last_acknowledge_of_a_trial_that_was_stopped_may_be_unwritten(story):
    cut = replace(without_record(story, Kind.INTERRUPT), quiet=False)
    assert contradictions(cut, DRIVERS) == []


class Secretive(Naive):
    """Sends an interrupt behind the back of the log."""

    async def update(self, cpu, move):
        await super().update(cpu, move)
        if move.new != move.old:
            await local_apic.send(cpu, move.new.cpu, move.new.vector)


def test_a_trial_with_a_contradiction_is_an_error(monkeypatch):
    monkeypatch.setattr(Secretive, "__module__", torn_msi.__name__)
    monkeypatch.setattr(torn_msi, "Secretive", Secretive, raising=False)
    monkeypatch.setitem(
        TORN.strategies, "secretive", replace(TORN.strategies["naive"], code=Secretive)
    )
    with Runner("torn-msi") as runner:
        result = runner.run(Point("secretive", TORN.complete("secretive", {"inject": 10})))
    assert result.error.startswith("tap and software disagree: vector 0x22 became pending on CPU 1")
    assert not result.verdicts
