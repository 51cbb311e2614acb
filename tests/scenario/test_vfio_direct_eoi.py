"""vfio-direct-eoi on the gateware: the outcome of every strategy, and every checker at work."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from firmware_model.core.records import Kind
from firmware_model.machine.ops import Record
from firmware_model.platforms.passthrough import GUEST_INTID
from firmware_model.strategies.vfio import STRATEGIES
from hdl.tap import EventKind
from sim.events import Event
from sim.report import print_sweep
from sim.scenarios import find_scenario
from sim.scenarios.vfio_direct_eoi import (
    FIRST,
    GUEST_DEVICE,
    INTID,
    NEVER,
    OTHER_DEVICE,
    START,
    Observation,
)
from sim.sweep import Point, Sweep
from sim.sweep.pool import Runner

SCENARIO = find_scenario("vfio-direct-eoi")
EVENT = START + FIRST
DIRECT = ("direct-eoi-shared", "direct-eoi-exclusive", "direct-eoi-bypass")


@pytest.fixture(scope="module")
def runner():
    with Runner("vfio-direct-eoi") as runner:
        yield runner


@pytest.fixture(scope="module")
def trial(runner):
    """``trial(strategy, **at)``: the result, without an error."""

    def run(strategy, **at):
        result = runner.run(Point(strategy, SCENARIO.complete(strategy, at)))
        assert not result.error
        return result

    return run


@pytest.fixture(scope="module")
def earned(trial):
    """``earned(strategy, axis, values, **at)``: values of the axis by the verdicts they earn."""

    def scan(strategy, axis, values, **at):
        found = {}
        for value in values:
            for verdict in trial(strategy, **{axis: value}, **at).verdicts:
                found.setdefault(verdict, []).append(value)
        return found

    return scan


def clocks_of(outcome, *kinds):
    """When the tap has events of these kinds of the line or of the guest, from the first on."""
    ids = (INTID, GUEST_INTID)
    return [e.cycle - EVENT for e in outcome.events if e.kind in kinds and e.id in ids]


ALONE = {
    "disintx": set(),
    "disable-irq-lazy": {"spurious"},
    "disable-irq-unlazy": set(),
    "direct-eoi-shared": set(),
    "direct-eoi-exclusive": set(),
    "direct-eoi-bypass": set(),
    "direct-eoi-unchecked": set(),
    "resample-first": set(),
    "unmasked": set(),
}
"""One device on the line asks twice, at any time. A lazily masked interrupt comes in vain, once."""


@pytest.mark.parametrize("strategy", ALONE)
def test_an_event_at_any_time_of_the_one_before(earned, strategy):
    found = earned(strategy, "reassert", range(1, 261, 20), guest_delay=60)
    assert set(found) == ALONE[strategy]


def test_every_strategy_is_expected_to_do_something():
    assert set(ALONE) == set(STRATEGIES) == set(SCENARIO.strategies)


# Another device on the line


@pytest.mark.parametrize("strategy", ["disintx", "direct-eoi-exclusive", "direct-eoi-bypass"])
@pytest.mark.parametrize("delay", [60, NEVER])
def test_the_other_device_is_served_whatever_the_guest_does(earned, strategy, delay):
    assert not earned(strategy, "co_inject", range(1, 261, 26), guest_delay=delay)


def test_the_patch_starves_the_other_device(runner, trial, earned):
    """From the host's acknowledge on, until the guest deactivates the line's interrupt."""
    never = earned("direct-eoi-shared", "co_inject", range(1, 261, 26), guest_delay=NEVER)
    assert never["starved"] == list(range(1, 261, 26)), "nor is it served later"
    assert "starved" not in earned("direct-eoi-shared", "co_inject", [1, 50, 200], guest_delay=60)
    slow = trial("direct-eoi-shared", co_inject=150, guest_delay=1000)
    assert slow.verdicts == {"starved", "spurious", "duplicate"}, "the guest is told of it, too"

    at = SCENARIO.complete("direct-eoi-shared", {"co_inject": 150, "guest_delay": 1000})
    outcome = runner.outcome(Point("direct-eoi-shared", at))
    first, second = clocks_of(outcome, EventKind.ACKNOWLEDGE)[:2]
    [ended] = [c for c in clocks_of(outcome, EventKind.VIRTUAL_EOI) if c < second]
    assert first < 150 < 1000 < ended < second < ended + 30, "it waited for the guest, no longer"


@pytest.mark.parametrize("co_first", [0, 1])
def test_an_exclusive_line_has_one_user(runner, co_first):
    at = {"co_first": co_first, "co_inject": 150}
    for name, strategy in STRATEGIES.items():
        outcome = runner.outcome(Point(name, SCENARIO.complete(name, at)))
        trial = Observation(outcome)
        second = "vfio-intx" if co_first else "co-device"
        assert trial.refused == ("" if strategy.at_device else second)
        assert not SCENARIO.judge(name, SCENARIO.complete(name, at), outcome) & {"lost", "starved"}
        served = {device: bool(trial._looks(device)) for device in (GUEST_DEVICE, OTHER_DEVICE)}
        winner = OTHER_DEVICE if co_first else GUEST_DEVICE
        assert served == {d: strategy.at_device or d == winner for d in served}


# Lazy masking


def test_lazy_masking_swallows_what_is_presented_once(runner, earned):
    """Exactly the new assertions between the masked handler and the guest's end of interrupt."""
    reasserted = range(100, 220, 6)
    found = earned("disable-irq-lazy", "reassert", reasserted, guest_delay=60, edge=1)
    at = SCENARIO.complete("disable-irq-lazy", {"guest_delay": 60, "edge": 1})
    [end] = clocks_of(runner.outcome(Point("disable-irq-lazy", at)), EventKind.VIRTUAL_EOI)[:1]
    lost = found["lost"]
    assert lost == [c for c in reasserted if lost[0] <= c <= lost[-1]]
    assert len(lost) * 6 > 40
    assert lost[-1] <= end + 20
    for other in ("disintx", "disable-irq-unlazy", *DIRECT):
        again = earned(other, "reassert", reasserted[::3], guest_delay=60, edge=1)
        assert not {"lost", "starved", "storm", "crash"} & set(again)


def test_on_a_level_lazy_masking_only_costs_an_interrupt(runner):
    """Why it neither swallows nor storms here: taken in vain it is masked, unmasked it is there."""
    at = SCENARIO.complete("disable-irq-lazy", {"reassert": 140, "guest_delay": 60})
    outcome = runner.outcome(Point("disable-irq-lazy", at))
    taken = clocks_of(outcome, EventKind.ACKNOWLEDGE)
    given = clocks_of(outcome, EventKind.VIRTUAL_ACKNOWLEDGE)
    refused = [r for r in outcome.log if r.kind == Kind.EARLY_OUT]
    assert (len(taken), len(given), len(refused)) == (6, 3, 3)


# The link, and the end of the guest


def test_a_link_while_it_is_masked_is_refused_or_kills_it(earned):
    links = range(160, 460, 30)
    assert not {"lost", "starved", "storm", "crash"} & set(
        earned("direct-eoi-bypass", "link", links, guest_delay=60)
    )
    unchecked = earned("direct-eoi-unchecked", "link", links, guest_delay=60)
    assert unchecked["lost"]
    assert unchecked["lost"] == unchecked["crash"], "and the guest ends what was not begun"


@pytest.mark.parametrize(
    "strategy", ["disintx", "disable-irq-unlazy", "direct-eoi-exclusive", "direct-eoi-bypass"]
)
def test_the_guest_ends_at_any_time(earned, strategy):
    found = earned(strategy, "teardown", range(1, 260, 26), guest_delay=60, co_inject=150)
    assert not {"lost", "starved", "storm", "crash", "overlap"} & set(found)


def test_the_patch_never_gets_over_the_end_of_its_guest(runner, earned):
    found = earned("direct-eoi-shared", "teardown", range(1, 260, 26), guest_delay=60)
    assert found["crash"] == found["lost"]
    at = SCENARIO.complete("direct-eoi-shared", {"teardown": found["crash"][-1]})
    outcome = runner.outcome(Point("direct-eoi-shared", at))
    assert not outcome.quiet
    assert not [r for r in outcome.log if r.kind == Kind.FREE_IRQ], "it waits to get its irq back"


# What the order of two steps, and masking at all, are for


def test_the_level_is_lowered_before_the_device_is_looked_at(earned):
    asked = range(131, 260, 16)
    assert not earned("disintx", "reassert", asked, guest_delay=0, pause=100)
    assert earned("resample-first", "reassert", asked, guest_delay=0, pause=100)["lost"]


def test_without_masking_the_host_is_interrupted_until_the_guest_has_served(trial):
    assert trial("unmasked", co_inject=150, guest_delay=NEVER).verdicts >= {"storm"}


@pytest.mark.parametrize("strategy", ["disintx", "disable-irq-lazy", "direct-eoi-bypass"])
def test_beyond_the_clocks_of_the_full_grid_nothing_more_happens(trial, strategy):
    """What comes later meets a line at rest, whoever it is for."""
    full = SCENARIO.grids["full"]
    for axis in ("reassert", "co_inject"):
        block = next(block for block in full if axis in block)
        last = max(block[axis])
        for delay in (0, max(block["guest_delay"])):
            found = [
                trial(strategy, guest_delay=delay, **{axis: clock}).verdicts
                for clock in (last, last + 1, last + 40, last + 400)
            ]
            assert len(set(found)) == 1


# What it saves


def test_what_an_interrupt_of_the_guest_costs_the_host(trial):
    """What the patch was for: fewer steps, and one exit of the guest instead of two."""
    figures = {name: trial(name).figures for name in STRATEGIES}
    for name, cost in figures.items():
        assert cost["exits"] == (1 if name.startswith("direct") else 2)
    steps = {name: cost["steps"] for name, cost in figures.items()}
    clocks = {name: cost["clocks"] for name, cost in figures.items()}
    assert min(steps.values()) == steps["direct-eoi-exclusive"] == steps["direct-eoi-bypass"]
    assert steps["direct-eoi-exclusive"] < steps["direct-eoi-shared"] < steps["disintx"] / 2
    assert clocks["direct-eoi-exclusive"] < clocks["direct-eoi-shared"] < clocks["disintx"] / 2
    assert steps["disable-irq-unlazy"] < steps["disable-irq-lazy"]
    assert not trial("disintx", co_inject=150).figures


def test_a_sweep_tells_the_means(trial):
    results = [trial("disintx", guest_delay=delay) for delay in (0, 60, NEVER)]
    sweep = Sweep(SCENARIO, ["disintx"], 3, results, 1.0)
    assert sweep.figures("disintx") == results[0].figures, "no figures count for nothing"
    [answer] = sweep.answer(None)["strategies"]
    assert answer["figures"]["exits"] == 2
    console = Console(record=True, width=120, file=io.StringIO())
    print_sweep(sweep, None, console)
    text = console.export_text()
    assert f"{answer['figures']['steps']:.1f}" in text
    assert "exits" in text


# Checkers that no strategy makes fire


def forged(outcome, *, events=(), log=()):
    """The outcome with more on the tap, or in the log."""

    class Forged(type(outcome)):
        events = property(lambda self: sorted([*outcome.events, *more], key=lambda e: e.cycle))

    more = events
    new = replace(outcome, log=sorted([*outcome.log, *log], key=lambda record: record.cycle))
    new.__class__ = Forged
    return new


@pytest.mark.parametrize(
    ("verdict", "events", "log"),
    [
        ("misdirected", [Event(EVENT, "irq0", EventKind.ACKNOWLEDGE, 0, 33)], []),
        ("misdirected", [Event(EVENT, "guest1", EventKind.VIRTUAL_ACKNOWLEDGE, 1, 41)], []),
        ("wrong_cpu", [], [Record(EVENT, 2, Kind.HANDLER_START, {"irq": 21, "action": "x"})]),
        ("wrong_cpu", [Event(EVENT, "guest0", EventKind.VIRTUAL_ACKNOWLEDGE, 0, 40)], []),
        (
            "overlap",
            [],
            [Record(EVENT, cpu, Kind.HANDLER_START, {"irq": 21, "action": "x"}) for cpu in (0, 2)],
        ),
        ("crash", [], [Record(EVENT, 0, "misuse", {"rule": "forged"})]),
        ("crash", [Event(EVENT, "d", EventKind.DEACTIVATE, 1, INTID)] * 3, []),
        ("spurious", [], [Record(EVENT, 0, Kind.SPURIOUS_INTID, {"intid": 1023})]),
        ("storm", [Event(EVENT, "irq0", EventKind.ACKNOWLEDGE, 0, INTID)] * 20, []),
    ],
)
def test_a_forged_story_is_seen_through(runner, verdict, events, log):
    at = SCENARIO.complete("disintx", {})
    outcome = runner.outcome(Point("disintx", at))
    assert not SCENARIO.judge("disintx", at, outcome)
    assert verdict in SCENARIO.judge("disintx", at, forged(outcome, events=events, log=log))


def test_the_guests_word_is_held_against_the_tap(runner):
    at = SCENARIO.complete("disintx", {})
    outcome = runner.outcome(Point("disintx", at))
    assert not SCENARIO.contradictions("disintx", outcome)
    lie = Record(EVENT, 1, Kind.GUEST_START, {"intid": 40})
    [said] = Observation(forged(outcome, log=[lie])).contradictions()
    assert said == "the guest took 3 interrupts, and acknowledged 2"
    lie = Record(EVENT, 1, Kind.HANDLED, {"events": 5})
    [said] = Observation(forged(outcome, log=[lie])).contradictions()
    assert said == "the guest's driver has counted 7 events of 2"


# A strategy of one's own


OWN = '''
"""Mask at the device, and never look whether it was ours."""
from firmware_model.strategies.vfio import Disintx


class Credulous(Disintx):
    name = "credulous"
    summary = "masks at the device without a look at its status"
    claims_correct = True

    async def claim(self, cpu, intx):
        if not intx.masked:
            await intx.control.set_disable(cpu, True)
        intx.masked = True
        return True
'''


def test_a_strategy_of_ones_own(tmp_path, trial):
    file = tmp_path / "own.py"
    file.write_text(OWN)
    word = f"{file}:Credulous"
    assert not trial(word).verdicts
    assert trial(word, co_inject=400).verdicts == {"spurious", "duplicate"}
