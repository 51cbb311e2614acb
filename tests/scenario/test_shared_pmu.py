"""shared-pmu on the gateware: the outcome of every strategy, and how wide its window is."""

from errno import EBUSY
from itertools import pairwise

import pytest

from firmware_model.core.records import Kind
from firmware_model.platforms.shared_pmu import SharedPmuSystem
from sim.scenarios import find_scenario
from sim.scenarios.shared_pmu import BOOT, NOBODY
from sim.sweep import Point
from sim.sweep.pool import Runner

SCENARIO = find_scenario("shared-pmu")
OVERFLOWS = range(0, 640, 18)
"""Clocks before, in and after the move of two PMUs; 54 and 306 are among them."""


@pytest.fixture(scope="module")
def runner():
    with Runner("shared-pmu") as runner:
        yield runner


def point(strategy, **at):
    return Point(strategy, SCENARIO.complete(strategy, at))


def outcome(runner, strategy, **at):
    found = runner.outcome(point(strategy, **at))
    assert found.quiet
    assert not SCENARIO.contradictions(strategy, found)
    return found


def verdicts(runner, strategy, axis="overflow", values=OVERFLOWS, **at):
    """The verdicts of trials, by the value of the axis."""
    found = {}
    for value in values:
        result = runner.run(point(strategy, **{axis: value}, **at))
        assert not result.error
        found[value] = set(result.verdicts)
    return found


def having(found, verdict):
    return [value for value, earned in found.items() if verdict in earned]


def records(outcome, *kinds):
    return [record for record in outcome.log if record.kind in kinds]


def figures(runner, strategy, **at):
    """What the trial cost."""
    return SCENARIO.figures(strategy, at, outcome(runner, strategy, **at))


def requests(outcome):
    """What became of every request for the line."""
    own = [r for r in records(outcome, Kind.REQUEST_IRQ) if r.fields["irq"] == SharedPmuSystem.irq]
    return [record.fields["result"] for record in own]


AT_REST = {
    "independent": {"wrong_cpu"},
    "multiplexed": set(),
    "global-cpu": set(),
    "exclusive": set(),
    "dmc620": set(),
    "line-first": set(),
    "quiet": set(),
    "dmc620-live": set(),
    "dmc620-uncleared": set(),
}
"""No CPU goes offline. The drivers are bound on two CPUs, and the line goes to the second."""

OFFLINE = AT_REST | {
    "independent": {"wrong_cpu", "spurious"},
    "exclusive": {"spurious"},
    "line-first": {"wrong_cpu", "spurious"},
}
"""CPU 0 goes. An overflow just before the line is masked for its move is spurious: the CPU
is interrupted, and finds that it has been withdrawn."""


def test_every_strategy_is_expected_to_do_something():
    assert set(AT_REST) == set(OFFLINE) == set(SCENARIO.strategies)


@pytest.mark.parametrize("strategy", AT_REST)
def test_while_no_cpu_goes_offline(runner, strategy):
    earned = [
        verdicts(runner, strategy, values=(100, 300), dying=NOBODY, which=which) for which in (0, 1)
    ]
    assert set().union(*earned[0].values()) == AT_REST[strategy]
    assert not set().union(*earned[1].values()), "the line goes where the last driver was bound"


@pytest.mark.parametrize("strategy", OFFLINE)
def test_while_a_cpu_goes_offline(runner, strategy):
    found = verdicts(runner, strategy, dying=0)
    assert set().union(*found.values()) - {"spurious"} == OFFLINE[strategy] - {"spurious"}
    assert set() in found.values()


def test_an_interrupt_that_is_withdrawn_is_spurious(runner):
    """The level stays, so that the CPU to which the line has moved handles it."""
    for strategy, clocks in (("independent", range(300, 312)), ("line-first", range(48, 60))):
        found = verdicts(runner, strategy, values=clocks, dying=0)
        assert set().union(*found.values()) <= {"spurious", "wrong_cpu"}
        assert having(found, "spurious")


def test_independent_drivers_leave_the_others_behind(runner):
    """Timeline 3' of the facts: one PMU's CPU goes, takes the line along, and not the others."""
    found = verdicts(runner, "independent", values=range(400, 801, 80), dying=1, which=0)
    assert set().union(*found.values()) == set(), "CPU 0 takes line and events: right by luck"
    moved = verdicts(runner, "independent", values=(1000, 1400), dying=0, which=2, spread=3, pmus=3)
    assert all(earned == {"wrong_cpu"} for earned in moved.values())


@pytest.mark.parametrize(("strategy", "count"), [("independent", 4), ("global-cpu", 4)])
def test_each_driver_requests_the_line(runner, strategy, count):
    assert requests(outcome(runner, strategy, pmus=4, dying=NOBODY)) == [0] * count


@pytest.mark.parametrize("strategy", ["multiplexed", "dmc620"])
def test_multiplexed_drivers_request_the_line_once(runner, strategy):
    assert requests(outcome(runner, strategy, pmus=4, dying=NOBODY)) == [0]


def test_an_exclusive_line_is_refused_to_the_second(runner):
    found = outcome(runner, "exclusive", pmus=4, dying=NOBODY)
    assert requests(found) == [0, -EBUSY, -EBUSY, -EBUSY]
    bound = [record.fields["result"] for record in records(found, Kind.PMU_PROBE)]
    assert bound == [0, -EBUSY, -EBUSY, -EBUSY]


def test_the_window_is_where_the_old_cpu_handles_what_the_new_one_owns(runner):
    """From the clock in which the event counts on the new CPU until the old line is masked."""
    found = outcome(runner, "dmc620", overflow=600, dying=0)
    [moved] = records(found, Kind.PMU_MOVED)
    given = records(found, Kind.EVENT_MOVED)[0].cycle
    assert moved.fields["window"] == moved.cycle - given
    clocks = range(given - BOOT - 10, moved.cycle - BOOT + 10)
    wrong = having(verdicts(runner, "dmc620", values=clocks, dying=0, strict=1), "wrong_cpu")
    assert wrong == list(range(wrong[0], wrong[-1] + 1)), "one piece"
    assert given - BOOT <= wrong[0] < wrong[-1] < moved.cycle - BOOT
    assert len(wrong) > moved.fields["window"] // 2
    assert not having(verdicts(runner, "dmc620", values=wrong[::20], dying=0), "wrong_cpu")


@pytest.mark.parametrize("strategy", ["multiplexed", "global-cpu", "dmc620"])
def test_the_window_grows_with_every_pmu_on_the_line(runner, strategy):
    at = {"overflow": 5000, "dying": 0, "spread": 1}
    widths = [figures(runner, strategy, pmus=pmus, **at)["window"] for pmus in (1, 2, 4, 8)]
    assert all(2 * narrow <= wide for narrow, wide in pairwise(widths))


def test_a_disabled_line_leaves_no_window(runner):
    found = verdicts(runner, "quiet", dying=0, strict=1)
    assert not any(found.values())
    assert having(verdicts(runner, "multiplexed", dying=0, strict=1), "wrong_cpu")


def test_one_cpu_for_all_costs_a_handler_for_every_pmu(runner):
    at = {"pmus": 8, "overflow": 100, "dying": NOBODY}
    everyone, together = (
        figures(runner, strategy, **at) for strategy in ("global-cpu", "multiplexed")
    )
    assert (everyone["handlers"], together["handlers"]) == (8, 1)
    served = outcome(runner, "global-cpu", **at)
    assert {record.cpu for record in records(served, Kind.HANDLER_START)} == {0}


def test_an_overflow_between_look_and_clearing_is_kept_if_the_counters_stop(runner):
    at = {"axis": "again", "values": range(1, 60), "dying": NOBODY, "spread": 1}
    lost = having(verdicts(runner, "dmc620-live", **at), "lost")
    assert lost
    assert lost == list(range(lost[0], lost[-1] + 1)), "from the look to the clearing"
    for strategy in ("dmc620", "multiplexed"):
        assert not any(verdicts(runner, strategy, **at).values())


def test_an_event_that_starts_on_the_new_cpu_escapes_the_old_ones_stop(runner):
    """In the window a handler runs on the old CPU while the new one starts the next counter.

    Nothing keeps the two apart, so the handler clears an overflow that it has not seen.
    """

    def lost(strategy):
        return [
            (overflow, again)
            for overflow in range(80, 100, 2)
            for again in having(
                verdicts(
                    runner, strategy, "again", range(26, 47, 4), overflow=overflow, pmus=1, dying=0
                ),
                "lost",
            )
        ]

    found = lost("dmc620")
    assert found
    assert not lost("multiplexed"), "it clears what it has read, and nothing else"
    overflow, again = found[0]
    trial = outcome(runner, "dmc620", overflow=overflow, again=again, pmus=1, dying=0)
    [start] = records(trial, Kind.HANDLER_START)
    [end] = records(trial, Kind.HANDLER_END)
    moved = {r.fields["counter"]: r.cycle for r in records(trial, Kind.EVENT_MOVED)}
    assert start.cpu == 0
    assert moved[0] < start.cycle
    assert moved[1] < BOOT + overflow + again < end.cycle
    assert [r.fields["counter"] for r in records(trial, Kind.PMU_OVERFLOW)] == [0]


@pytest.mark.parametrize("strategy", ["independent", "multiplexed", "dmc620"])
def test_an_overflow_from_before_the_boot_storms_until_its_driver_is_bound(runner, strategy):
    """A driver can only quieten its own unit: the first on the line has to bear the others."""
    found = verdicts(runner, strategy, "pmus", (1, 4), stale=1, dying=NOBODY, spread=1)
    assert found[1] == set(), "it clears its unit before it requests the line"
    assert found[4] == {"duplicate", "spurious", "storm"}


def test_a_handler_that_always_says_handled_hides_a_storm_from_the_kernel(runner):
    at = {"pmus": 8, "stale": 1, "dying": NOBODY, "spread": 1}
    results = {}
    for strategy in ("dmc620", "multiplexed"):
        found = outcome(runner, strategy, **at)
        first = records(found, Kind.PMU_PROBE)[0].cycle
        ends = records(found, Kind.HANDLER_END)
        assert not any(int(r.fields["result"]) for r in ends if r.cycle < first), "an empty list"
        results[strategy] = {int(r.fields["result"]) for r in ends if r.cycle > first}
    assert results == {"dmc620": {1}, "multiplexed": {0, 1}}


def test_without_a_reset_the_line_is_live_before_the_pmu_is_on_the_list(runner):
    at = {"pmus": 1, "stale": 1, "dying": NOBODY, "spread": 1}
    found = outcome(runner, "dmc620-uncleared", **at)
    [bound] = records(found, Kind.PMU_PROBE)
    early = [record for record in records(found, Kind.HANDLER_END) if record.cycle < bound.cycle]
    assert early
    assert not records(outcome(runner, "dmc620", **at), Kind.HANDLER_END)[0].cycle < BOOT


@pytest.mark.parametrize("strategy", AT_REST)
def test_beyond_the_clocks_of_the_full_grid_nothing_more_happens(runner, strategy):
    one, early, again, both = SCENARIO.grids["full"]
    for which in (0, 1):
        after = max(one["overflow"])
        found = verdicts(runner, strategy, values=(after, after + 50, 1500), dying=0, which=which)
        assert len({frozenset(earned) for earned in found.values()}) == 1
        at = {"dying": 0, "which": which, "offline": 300}
        start = verdicts(runner, strategy, values=(0, 300 - max(early["overflow"])), **at)
        assert len({frozenset(earned) for earned in start.values()}) == 1
    last = max(again["again"])
    at = {"axis": "again", "dying": NOBODY}
    assert (
        len({*map(frozenset, verdicts(runner, strategy, values=(last, 300), **at).values())}) == 1
    )
    for gap in (1, 30):
        after = max(both["overflow"])
        at = {"values": (after, after + 99), "again": gap, "pmus": 1}
        assert len({*map(frozenset, verdicts(runner, strategy, **at).values())}) == 1


OWN = """
from firmware_model.core.manage import disable_irq, enable_irq
from firmware_model.strategies.shared_pmu import Multiplexed


class Sleepy(Multiplexed):
    name = "sleepy"
    summary = "the line is disabled for far too long"
    claims_correct = True

    async def move_line(self, cpu, target):
        await disable_irq(cpu, self.desc)
        moved = await super().move_line(cpu, target)
        await cpu.delay(6000)
        await enable_irq(cpu, self.desc)
        return moved


class Unbalanced(Multiplexed):
    name = "unbalanced"
    summary = "the line is enabled once too often"
    claims_correct = True

    async def move_line(self, cpu, target):
        await enable_irq(cpu, self.desc)
        return await super().move_line(cpu, target)
"""


@pytest.mark.parametrize(("name", "verdict"), [("Sleepy", "starved"), ("Unbalanced", "crash")])
def test_a_strategy_of_ones_own(runner, tmp_path, name, verdict):
    file = tmp_path / "own.py"
    file.write_text(OWN)
    found = verdicts(runner, f"{file}:{name}", values=(700,), dying=0)
    assert found[700] == {verdict}
