"""intx-refcount on the gateware: the outcome of every strategy, and of every way to get there."""

from dataclasses import replace

import pytest

from firmware_model.core.records import Kind
from firmware_model.machine.ops import Record
from hdl.tap import EventKind
from sim.scenarios import find_scenario
from sim.scenarios.intx_refcount import AROUND, INTID, PATIENCE, START
from sim.sweep import Point
from sim.sweep.explore import extended
from sim.sweep.pool import Runner

SCENARIO = find_scenario("intx-refcount")
SOME = range(-60, 121, 15)
"""Clocks from the unplugging to the event: before, during and after the removal."""
CREATION = 20
"""Clocks of the allocation, in which another CPU can look for the mapping in vain."""


@pytest.fixture(scope="module")
def runner():
    with Runner("intx-refcount") as runner:
        yield runner


def point(strategy, **at):
    return Point(strategy, SCENARIO.complete(strategy, at))


def verdicts(runner, strategy, axis="assert", values=SOME, **at):
    """The verdicts of trials, by the value of the axis."""
    found = {}
    for value in values:
        result = runner.run(point(strategy, **{axis: value}, **at))
        assert not result.error, "tap and log tell the same story"
        found[value] = set(result.verdicts)
    return found


def having(found, verdict):
    return [value for value, earned in found.items() if verdict in earned]


def earned(found):
    return set().union(*found.values())


def records(outcome, *kinds):
    return [record for record in outcome.log if record.kind in kinds]


def figures(outcome):
    return SCENARIO.figures("", {}, outcome)


def acknowledged(outcome):
    """Clocks in which a CPU took the line's interrupt, from the tap."""
    return [
        event.cycle
        for event in outcome.events
        if event.kind == EventKind.ACKNOWLEDGE and event.id == INTID
    ]


TEAR_DOWN = ("misuse", Kind.UNMAPPED)
"""Begin, with the remark that somebody uses it, and end."""
DEAD = {"lost", "misdirected", "spurious", "storm"}
EXPECTED = {
    "dispose-always": (DEAD, DEAD),
    "dispose-never": ({"crash"}, {"crash"}),
    "kobject-count": (set(), {"crash"}),
    "arch-count": (set(), set()),
    "create-race": (set(), set()),
    "create-locked": (set(), set()),
}
"""What events around the removal can earn, without and with a hierarchy."""


@pytest.mark.parametrize("hierarchy", [0, 1])
@pytest.mark.parametrize("strategy", EXPECTED)
def test_one_function_goes_and_another_has_an_event(runner, strategy, hierarchy):
    found = verdicts(runner, strategy, hierarchy=hierarchy)
    assert earned(found) == EXPECTED[strategy][hierarchy]


def test_every_strategy_is_expected_to_do_something():
    assert set(EXPECTED) == set(SCENARIO.strategies)


@pytest.mark.parametrize("functions", [2, 3, 4])
@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("strategy", ["dispose-always", "arch-count"])
def test_whoever_else_is_on_the_line_changes_nothing(runner, strategy, order, functions):
    found = verdicts(runner, strategy, values=(-60, 90), order=order, functions=functions)
    assert found[-60] == set()
    assert found[90] == EXPECTED[strategy][1]


def test_what_the_event_meets_decides(runner):
    """Before the tear-down the handler; during it a bad irq that is never ended; then nobody."""
    met = []
    for at in range(0, 81, 3):
        trial = runner.outcome(point("dispose-always", **{"assert": at}))
        given = SCENARIO.judge("dispose-always", SCENARIO.complete("dispose-always", {}), trial)
        taken = acknowledged(trial)
        story = [record.kind for record in records(trial, Kind.INTERRUPT, *TEAR_DOWN)]
        if story[0] == Kind.INTERRUPT:
            met.append("handler")
            assert records(trial, Kind.HANDLER_START)
            assert given == set()
        elif story[1] == Kind.INTERRUPT:
            met.append("bad irq")
            assert records(trial, Kind.UNEXPECTED_IRQ)
            assert len(taken) == 1, "its priority stays raised: this CPU takes no more"
            assert given == DEAD - {"storm"}
        else:
            met.append("nobody")
            assert len(records(trial, Kind.NO_IRQ_HANDLER)) == len(taken) > 10
            assert given == DEAD
    assert sorted(met, key=["handler", "bad irq", "nobody"].index) == met
    assert len(set(met)) == 3


@pytest.mark.parametrize("order", [0, 1])
def test_both_find_no_mapping_while_one_is_created(runner, order):
    """With the last mapping the line goes to one function's irq; freeing the other's masks it."""
    staggers = range(0, 41, 4)
    at = {"axis": "stagger", "values": staggers, "order": order, "parallel": 1}
    found = verdicts(runner, "create-race", **at)
    assert having(found, "lost") == [stagger for stagger in staggers if stagger < CREATION]
    assert all(not verdicts for stagger, verdicts in found.items() if stagger >= CREATION)
    trial = runner.outcome(point("create-race", stagger=0, parallel=1, order=order))
    assert {record.fields["irq"] for record in records(trial, Kind.MAPPED)} == {1, 2}
    assert figures(trial) == {"irqs_made": 2, "mappings_left": 0}
    assert earned(verdicts(runner, "create-locked", **at)) == set()


def test_with_more_functions_the_wrong_handlers_run_for_ever(runner):
    at = {"stagger": 0, "order": 1, "functions": 4}
    found = verdicts(runner, "create-race", values=[60], parallel=1, **at)
    assert found[60] == DEAD
    assert verdicts(runner, "create-race", values=[60], parallel=0, **at)[60] == set()


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("dispose-always", set()),
        ("dispose-never", set()),
        ("kobject-count", {"crash"}),
        ("arch-count", set()),
    ],
)
@pytest.mark.parametrize("hierarchy", [0, 1])
def test_callers_that_map_often_and_dispose_once(runner, strategy, expected, hierarchy):
    """What the patch leaks is why the host bridge cannot go."""
    found = verdicts(runner, strategy, values=(0, 60), legacy=1, hierarchy=hierarchy)
    assert earned(found) == expected
    trial = runner.outcome(point(strategy, legacy=1, hierarchy=hierarchy))
    assert bool(records(trial, Kind.DOMAIN_BUSY)) == bool(expected)
    assert bool(records(trial, Kind.DOMAIN_REMOVED)) != bool(expected)
    assert figures(trial) == {"irqs_made": 1, "mappings_left": len(expected)}


def test_a_hierarchy_whose_count_is_zero_is_freed_too_late(runner):
    trial = runner.outcome(point("kobject-count"))
    levels = records(trial, Kind.UNMAPPED)
    assert [record.fields["domain"] for record in levels] == ["INTx", "GIC"]
    assert [record.fields["references"] for record in levels] == [0, 0]
    [crash] = records(trial, "crash")
    assert crash.cycle >= levels[-1].cycle
    assert crash.fields["error"] == "ReferenceCountError"


def test_a_probe_that_meets_the_tear_down_is_deaf(runner):
    """It is given the mapping, waits for the other's free_irq, and requests an irq without chip."""
    at = {"unplug": 0, "parallel": 1}
    trial = runner.outcome(point("dispose-always", stagger=120, **at))
    told = (Kind.MAPPING_FOUND, Kind.FREE_IRQ, Kind.REQUEST_IRQ, Kind.UNMAPPED)
    story = [record.kind for record in records(trial, *told)]
    assert story == [Kind.REQUEST_IRQ, *told, Kind.UNMAPPED]
    assert not acknowledged(trial)
    staggers = range(90, 151, 12)
    found = verdicts(runner, "dispose-always", "stagger", staggers, **at)
    assert found[114] == found[126] == {"lost"}
    assert earned(verdicts(runner, "arch-count", "stagger", staggers, **at)) == set()


@pytest.mark.parametrize(
    ("strategy", "at", "broken"),
    [
        ("arch-count", {"parallel": 1}, {"lost"}),
        ("arch-count", {"parallel": 0}, set()),
        ("kobject-count", {"parallel": 1, "hierarchy": 0}, set()),
    ],
)
def test_a_stall_between_map_and_count(runner, strategy, at, broken):
    """The architecture counts outside the core's mutex, so what was found can be gone by then,
    unless functions come and go one at a time. A count inside has no such window."""
    start = runner.run(point(strategy, unplug=0, stagger=105, **at))
    probing = [p for p in extended([start], (60,)) if p.stalls[0].cpu == 2]
    results = [runner.run(point) for point in probing]
    assert len(results) >= 10
    assert set().union(*(result.verdicts for result in results)) == broken
    assert sum(bool(result.verdicts) for result in results) == 2 * len(broken)


def test_the_quick_grid_reaches_both_sides_of_what_happens(runner):
    trial = runner.outcome(point("dispose-always"))
    unplug = START + SCENARIO.axes["unplug"].default
    removal = records(trial, Kind.UNMAPPED)[-1].cycle - unplug
    [grid] = SCENARIO.grids["quick"]
    assert min(grid["assert"]) < 0 < removal + 10 < max(grid["assert"])


PERIOD = 26
"""Clocks from one look for the function to the next."""


@pytest.mark.parametrize("strategy", ["dispose-always", "arch-count"])
def test_the_full_grid_has_every_clock_that_matters(runner, strategy):
    """Looking is periodic, and events before and after its offsets earn what its ends do."""
    around, *_, probing, _ = SCENARIO.grids["full"]
    assert len(around["unplug"]) == len(probing["unplug"]) == PERIOD
    first = min(around["unplug"])
    for unplug in range(first, first + PERIOD, 6):
        found = [
            verdicts(runner, strategy, values=(-30, 0, 30, 60), unplug=clock)
            for clock in (unplug, unplug + PERIOD)
        ]
        assert found[0] == found[1]
    low, high = min(AROUND), max(AROUND)
    outside = verdicts(runner, strategy, values=(-200, -100, low, high, 200, 300), unplug=first)
    assert outside[-200] == outside[-100] == outside[low] == set()
    assert outside[high] == outside[200] == outside[300]
    late = verdicts(runner, strategy, "stagger", (max(probing["stagger"]), 260, 320), unplug=100)
    assert len({frozenset(earned) for earned in late.values()}) == 1


# A strategy of one's own, and the verdicts that none of the above earns

OWN = '''
from firmware_model.core.manage import disable_irq, enable_irq
from firmware_model.strategies.intx_refcount import ArchCount


class Slow(ArchCount):
    """Counts as the architecture does, and keeps the line quiet while it thinks."""

    name = "slow"
    summary = "the line is disabled for a while when a function goes"
    claims_correct = True

    async def unmap_line(self, cpu, irq):
        desc = self.mappings.core.irqs[irq]
        await disable_irq(cpu, desc)
        await cpu.delay(400)
        await enable_irq(cpu, desc)
        await super().unmap_line(cpu, irq)
'''


def test_a_strategy_of_ones_own_starves_the_others(runner, tmp_path):
    file = tmp_path / "slow.py"
    file.write_text(OWN)
    found = verdicts(runner, f"{file}:Slow", values=(-60, 90))
    assert found == {-60: set(), 90: {"starved"}}
    trial = runner.outcome(point(f"{file}:Slow", **{"assert": 90}))
    event = START + SCENARIO.axes["unplug"].default + 90
    served = [r.cycle for r in records(trial, Kind.HANDLER_START) if r.cycle > event]
    assert served[0] - event > PATIENCE


def rejudged(trial, log):
    return SCENARIO.judge(
        "arch-count", SCENARIO.complete("arch-count", {}), replace(trial, log=log)
    )


def test_the_log_of_a_run_that_could_not_be(runner):
    """Verdicts that need another core or another chip than any strategy has."""
    trial = runner.outcome(point("arch-count"))
    log = trial.log
    assert rejudged(trial, log) == set()
    start = next(i for i, record in enumerate(log) if record.kind == Kind.HANDLER_START)
    end = next(i for i, record in enumerate(log) if record.kind == Kind.HANDLER_END)
    again = [*log[: end + 1], log[start], log[end], *log[end + 1 :]]
    assert rejudged(trial, again) == {"duplicate"}
    elsewhere = [
        record._replace(cpu=1) if start <= i <= end else record for i, record in enumerate(log)
    ]
    assert rejudged(trial, elsewhere) == {"wrong_cpu"}
    twice = [*log[: start + 1], log[start]._replace(cpu=1), *log[start + 1 :]]
    assert rejudged(trial, twice) == {"wrong_cpu", "overlap"}
    idle = [*log, Record(trial.cycles, 0, Kind.SPURIOUS_INTID, {"intid": 1023})]
    assert rejudged(trial, idle) == {"spurious"}
    stuck = [*log, Record(trial.cycles, 1, "stuck", {})]
    assert rejudged(trial, stuck) == {"crash"}
