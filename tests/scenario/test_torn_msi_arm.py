"""torn-msi on Arm, on the gateware: the same tear at a redistributor, and none through an ITS."""

import pytest

from firmware_model.core.records import Kind
from firmware_model.strategies import direct_lpi
from hdl.registers.gits import Opcode
from hdl.tap import EventKind
from sim.scenarios import find_scenario
from sim.scenarios.torn_msi_arm import BOOT, FIRST, place
from sim.sweep import Point, parse_grid, points
from sim.sweep.pool import Runner, judged

SCENARIO = find_scenario("torn-msi")
LOW, HIGH, DATA = 0x44, 0x48, 0x4C
"""The registers of the function's MSI capability, at 0x40."""
TO_MESSAGE = 2
"""Clocks from an event to the message's look at address and data."""


@pytest.fixture(scope="module")
def trial():
    """The outcome of a trial, and its verdicts."""
    with Runner("torn-msi") as runner:

        def run(strategy, **at):
            point = Point(strategy, SCENARIO.complete(strategy, at))
            outcome = runner.outcome(point)
            result = judged(SCENARIO, point, outcome)
            assert not result.error
            return outcome, set(result.verdicts)

        yield run


def writes(outcome):
    """(clocks into the move, register) of every write of the message in the move."""
    return [
        (event.cycle - BOOT, event.address)
        for event in outcome.events
        if event.kind == EventKind.CONFIG_WRITE
        and event.cycle >= BOOT
        and event.address in (LOW, HIGH, DATA)
    ]


def torn(changes, first, last):
    """Clocks of the events that look at the message between two of its writes."""
    begin = next(cycle for cycle, register in changes if register == first)
    end = next(cycle for cycle, register in changes if register == last)
    return range(begin - TO_MESSAGE, end - TO_MESSAGE)


@pytest.mark.parametrize("hi_changes", [0, 1])
def test_naive_loses_exactly_what_comes_between_address_and_data(trial, hi_changes):
    outcome, verdicts = trial("direct-lpi-naive", inject=400, hi_changes=hi_changes)
    assert not verdicts
    window = torn(writes(outcome), LOW, DATA)
    assert len(window) > 5
    for inject in (window.start - 3, window.start, window.stop - 1, window.stop + 2):
        _, verdicts = trial("direct-lpi-naive", inject=inject, hi_changes=hi_changes)
        assert ("lost" in verdicts) == (inject in window)
        assert ("misdirected" in verdicts) == (inject in window)


def test_two_steps_lose_nothing(trial):
    outcome, _ = trial("direct-lpi-two-step", inject=400)
    changes = writes(outcome)
    assert [register for _, register in changes] == [LOW, HIGH, DATA] * 2
    first, last = changes[0][0], changes[-1][0]
    for inject in range(first - 10, last + 10, 3):
        assert trial("direct-lpi-two-step", inject=inject)[1] == set()
    between = (changes[2][0] + changes[3][0]) // 2
    outcome, _ = trial("direct-lpi-two-step", inject=between)
    [taken] = [r for r in outcome.log if r.kind == Kind.INTERRUPT and r.cycle > BOOT]
    assert (taken.cpu, taken.fields["intid"]) == (1, FIRST[2]), "new INTID on the old CPU"


def test_two_steps_are_not_enough_for_three_words(trial):
    """The new CPU is named by two words: between them the message goes nowhere."""
    outcome, _ = trial("direct-lpi-two-step", inject=400, hi_changes=1)
    second = writes(outcome)[3:]
    window = torn(second, LOW, HIGH)
    outcome, verdicts = trial("direct-lpi-two-step", inject=window.start + 2, hi_changes=1)
    assert verdicts == {"lost", "misdirected"}
    [error] = [event for event in outcome.events if event.kind == EventKind.BUS_ERROR]
    assert place(error.address, error.data)[0] < 0
    _, verdicts = trial("direct-lpi-two-step", inject=window.stop + 2, hi_changes=1)
    assert not verdicts


def test_through_an_its_no_message_changes(trial):
    for inject in range(0, 400, 20):
        outcome, verdicts = trial("its", inject=inject)
        assert not verdicts
        assert not writes(outcome)
        moves = [e for e in outcome.events if e.kind == EventKind.COMMAND and e.data == Opcode.MOVI]
        assert len(moves) == 1
    starts = [r.cpu for r in outcome.log if r.kind == Kind.HANDLER_START]
    assert starts == [2]


def test_axes_that_mean_nothing_do_not_multiply_trials():
    grid = parse_grid(SCENARIO, ["full"])
    for strategy in direct_lpi.STRATEGIES:
        trials = points([strategy], grid, SCENARIO)
        assert len(trials) == 241 * 2 * 2 * 2
        assert {point.at["hotplug"] for point in trials} == {0}
    assert {p.at["hi_changes"] for p in points(["naive"], grid, SCENARIO)} == {0}
    assert len(points(["naive"], grid)) == 2 * len(points(["naive"], grid, SCENARIO))
