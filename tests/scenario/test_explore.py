"""CPUs that stall: where, how often, and what that finds."""

import json
import shlex

import pytest

from firmware_model.core.records import Kind
from hdl.tap import EventKind
from sim.runs import Request, execute
from sim.scenarios import find_scenario
from sim.sweep import Bounds, Point, parse_grid, points, run_sweep
from sim.sweep.explore import extended
from sim.sweep.pool import Result, Runner
from sim.trial import Stall

TORN = find_scenario("torn-msi")


@pytest.fixture(scope="module")
def runner():
    with Runner("torn-msi") as runner:
        yield runner


@pytest.fixture(scope="module")
def here(runner):
    """Runs points in this process."""

    def run(_scenario, wanted):
        yield from runner.run_all(wanted)

    return run


def sweep(here, strategy, words, bounds):
    return run_sweep(
        TORN, [strategy], points([strategy], parse_grid(TORN, words)), here, bounds=bounds
    )


def test_every_step_of_every_cpu_stalls_for_every_length_once():
    at = {"inject": 1}
    plain = Result(Point("naive", at), steps=(range(3, 5), range(7, 8)))
    once = extended([plain], (10, 20))
    assert [point.stalls for point in once] == [
        (Stall(cpu, step, clocks),) for cpu, step in ((0, 3), (0, 4), (1, 7)) for clocks in (10, 20)
    ]
    # The second stall prolonged CPU 1 by a step.
    again = [Result(point, steps=(range(3, 5), range(7, 9))) for point in once]
    twice = extended(again, (10,))
    assert len({point.stalls for point in twice}) == len(twice)
    assert all(a[:2] != b[:2] for a, b in (point.stalls for point in twice))
    assert (Stall(0, 3, 20), Stall(1, 8, 10)) in [point.stalls for point in twice]
    assert extended([Result(Point("naive", at), error="x", steps=(range(9),))], (1,)) == []


def test_a_stall_is_time_in_which_its_cpu_does_nothing(runner):
    at = TORN.complete("two-step", {"inject": 300})
    plain = runner.outcome(Point("two-step", at))
    moves = [r.cycle for r in plain.log if r.kind == "move_path"][1:]
    step = plain.steps[0].start + 3
    stalled = runner.outcome(Point("two-step", at, (Stall(0, step, 77),)))
    assert [r.cycle for r in stalled.log if r.kind == "move_path"][1:] == [
        cycle + 77 for cycle in moves
    ]
    assert stalled.steps[0].start == plain.steps[0].start, "the boot is as it was"


def test_it_finds_what_the_plain_axes_do_not_reach(here):
    words = ["inject=0:120:4", "hotplug=0:1"]
    plain = sweep(here, "two-step", words, Bounds())
    explored = sweep(here, "two-step", ["default", "inject=80", "hotplug=0"], Bounds(1, (30, 300)))
    new = {result.shape for result in explored.results} - {r.shape for r in plain.results}
    assert len(new) > 3
    assert not explored.counts("two-step")["lost"]
    steps = [len(steps) for steps in explored.results[0].steps]
    coverage = explored.coverage("two-step")
    assert coverage["boundaries"] == sum(steps)
    assert explored.wanted == len(explored.results) == 1 + 2 * sum(steps)
    assert coverage["outcomes"] >= coverage["courses"] > 3
    assert plain.coverage("two-step")["boundaries"] == 0


def test_two_stalls_find_what_one_does_not(here):
    """The event misses the update, even if that is late by 30 clocks, and hits it 60 late."""
    once, twice = (
        sweep(here, "naive", ["default", "inject=105"], Bounds(stalls, (30,))) for stalls in (1, 2)
    )
    assert not any(result.verdicts for result in once.results)
    [lost] = [e for e in twice.counterexamples("naive") if e.verdict == "lost"]
    first, second = lost.point.stalls
    assert first.cpu == second.cpu == 0
    assert first.step < second.step
    boundaries = sum(len(steps) for steps in once.results[0].steps)
    assert len(once.results) == 1 + boundaries
    assert len(twice.results) == len(once.results) + boundaries * (boundaries - 1) // 2
    assert twice.results[: len(once.results)] == once.results
    assert len({result.point.stalls for result in twice.results}) == len(twice.results)
    assert twice.coverage("naive")["boundaries"] == boundaries
    assert twice.coverage("naive")["outcomes"] > once.coverage("naive")["outcomes"]


def test_a_second_stall_reaches_the_steps_that_the_first_one_made(runner):
    """A wait for a lock, or another way through the software."""
    plain = Point("two-step", TORN.complete("two-step", {"inject": 60}))
    [first] = runner.run_all([plain])
    usual = {(cpu, step) for cpu, steps in enumerate(first.steps) for step in steps}
    once = list(runner.run_all(extended([first], (300,))))
    twice = {stall[:2] for point in extended(once, (300,)) for stall in point.stalls}
    assert usual < twice
    longer = next(result for result in once if result.steps != first.steps)
    new = [
        point
        for point in extended([longer], (300,))
        if any(stall[:2] not in usual for stall in point.stalls)
    ]
    assert new
    for result in runner.run_all(new):
        assert not result.error
        assert not result.verdicts


def test_a_counterexample_with_a_stall_can_be_run_again(here, tmp_path):
    found = sweep(here, "naive", ["default", "inject=75"], Bounds(1, (30,)))
    assert not found.results[0].verdicts, "the event alone comes too late"
    [lost] = [e for e in found.counterexamples("naive") if e.verdict == "lost"]
    [stall] = lost.point.stalls
    words = shlex.split(lost.command(tmp_path))
    assert words[words.index("--stall") + 1] == str(stall) == ":".join(map(str, stall))
    request = Request("torn-msi", "naive", lost.point.at, "verilated", lost.point.stalls)
    assert "lost" in TORN.judge("naive", lost.point.at, execute(request))
    answer = json.loads(json.dumps(found.answer(None)))
    assert answer["strategies"][0]["smallest_counterexample"]["stalls"] == [str(stall)]
    assert answer["strategies"][0]["coverage"]["boundaries"] > 20


@pytest.mark.parametrize("strategy", ["resend", "spi-control"])
def test_an_acknowledge_that_stalls_reads_1023_when_the_interrupt_has_moved(strategy):
    """Exactly one boundary does that: the CPU is interrupted, and the move takes it back."""
    scenario = find_scenario("fasteoi-migration")
    plain = Point(strategy, scenario.complete(strategy, {}))
    with Runner("fasteoi-migration") as runner:
        [usual] = runner.run_all([plain])
        stalled = [p for p in extended([usual], (300,)) if p.stalls[0].cpu == 0]
        results = list(runner.run_all(stalled))
        assert set().union(*(result.verdicts for result in results)) == {"spurious"}
        [found] = [result for result in results if result.verdicts]
        outcome = runner.outcome(found.point)
    [vain] = [record for record in outcome.log if record.kind == Kind.SPURIOUS_INTID]
    lines = [e for e in outcome.events if e.kind == EventKind.LINE and e.unit == 0]
    raised, dropped = lines[-2:]
    assert (raised.data, dropped.data) == (1, 0)
    assert raised.cycle < dropped.cycle < vain.cycle, "withdrawn before it looks"
    starts = [record for record in outcome.log if record.kind == Kind.HANDLER_START]
    assert [record.cpu for record in starts] == [1, 1], "and handled where it went"


@pytest.mark.parametrize(
    ("scenario", "strategy", "stall"),
    [
        ("intx-refcount", "arch-count", Stall(0, 235, 1000)),
        ("vfio-direct-eoi", "disintx", Stall(0, 234, 1000)),
    ],
)
def test_what_waits_for_a_stall_is_not_starved_by_the_software(scenario, strategy, stall):
    at = find_scenario(scenario).complete(strategy, {})
    with Runner(scenario) as runner:
        [usual, stalled] = runner.run_all(
            [Point(strategy, at), Point(strategy, at, (stall,))],
        )
    assert stall.step in usual.steps[0]
    assert stalled.cycles > usual.cycles
    assert not stalled.error
    assert not stalled.verdicts & {"lost", "starved", "crash"}
