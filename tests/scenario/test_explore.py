"""CPUs that stall: where, how often, and what that finds."""

import json
import shlex

import pytest

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
