"""fasteoi-migration on the gateware: the outcome of every strategy, and why."""

import pytest

from firmware_model.core.records import Kind
from hdl.gic.interfaces import FIRST_LPI
from hdl.registers.gits import Opcode
from hdl.tap import EventKind
from sim.scenarios import find_scenario
from sim.scenarios.fasteoi_migration import BOOT, EVENT, LONG, SHORT
from sim.sweep import Point
from sim.sweep.pool import Runner, judged

SCENARIO = find_scenario("fasteoi-migration")


@pytest.fixture(scope="module")
def trial():
    """The outcome of a trial, and its verdicts."""
    with Runner("fasteoi-migration") as runner:

        def run(strategy, **at):
            point = Point(strategy, SCENARIO.complete(strategy, at))
            outcome = runner.outcome(point)
            result = judged(SCENARIO, point, outcome)
            assert not result.error
            return outcome, set(result.verdicts)

        yield run


def records(outcome, kind, **fields):
    wanted = fields.items()
    return [r for r in outcome.log if r.kind == kind and wanted <= r.fields.items()]


def starts(outcome):
    """The CPUs on which the device's handler was started, in this order."""
    return [record.cpu for record in records(outcome, Kind.HANDLER_START)]


def commands(outcome, opcode):
    return [
        event
        for event in outcome.events
        if event.kind == EventKind.COMMAND and event.data == opcode and event.cycle >= BOOT
    ]


EXPECTED = {
    "drop": {"lost"},
    "ungated": {"overlap"},
    "rerun": {"wrong_cpu"},
    "rerun-as-posted": {"wrong_cpu"},
    "rerun-eoi-in-loop": {"wrong_cpu", "crash"},
    "rerun-no-action-check": {"wrong_cpu"},
    "resend-at-once": {"lost"},
    "resend-always": {"storm", "spurious"},
    "resend": set(),
    "spi-control": set(),
    "edge": {"wrong_cpu"},
    "edge-busywait": set(),
}


@pytest.mark.parametrize("strategy", EXPECTED)
def test_every_strategy(trial, strategy):
    found = [trial(strategy, inject2=inject)[1] for inject in range(150, 901, 75)]
    assert set().union(*found) == EXPECTED[strategy]
    assert set() in found or strategy == "resend-always"


def test_every_strategy_is_expected_to_do_something():
    assert set(EXPECTED) == set(SCENARIO.strategies)


@pytest.mark.parametrize("eoimode", [0, 1])
def test_what_is_forgotten_is_lost_and_nothing_else(trial, eoimode):
    """S1-1: an LPI that is acknowledged on the new CPU while the old one runs the handler."""
    outcomes = [trial("drop", inject2=inject, eoimode=eoimode) for inject in range(300, 900, 60)]
    for outcome, verdicts in outcomes:
        forgotten = records(outcome, Kind.EARLY_OUT, why="busy")
        assert verdicts == ({"lost"} if forgotten else set())
        assert all(record.cpu == 1 for record in forgotten)
    assert {bool(verdicts) for _, verdicts in outcomes} == {True, False}


@pytest.mark.parametrize("eoimode", [0, 1])
def test_what_is_remembered_is_sent_again_once_to_the_new_cpu(trial, eoimode):
    outcome, verdicts = trial("resend", eoimode=eoimode)
    assert not verdicts
    assert starts(outcome) == [0, 1]
    assert [r.fields["pended"] for r in records(outcome, Kind.EARLY_OUT)] == [True]
    [command] = commands(outcome, Opcode.INT)
    [end] = [record.cycle for record in records(outcome, Kind.HANDLER_END) if record.cpu == 0]
    assert command.cycle > end


def test_the_resend_follows_the_last_move(trial):
    """T-lpi-3: it moves back before the handler has ended."""
    outcome, verdicts = trial("resend", inject2=450, move_back=500, handler_cycles=700)
    assert not verdicts
    assert len(commands(outcome, Opcode.MOVI)) == 2
    assert starts(outcome) == [0, 0]
    assert records(outcome, Kind.RETRIGGER, target=0)


def test_two_events_become_one_run(trial):
    outcome, verdicts = trial("resend", inject1=300, inject2=360, move=800)
    assert not verdicts
    assert len(starts(outcome)) == 2


def test_a_rerun_is_on_the_cpu_that_it_has_left(trial):
    """R5: F1 loses nothing, but the handler stays where it should be gone from."""
    outcome, verdicts = trial("rerun")
    assert verdicts == {"wrong_cpu"}
    assert starts(outcome) == [0, 0]
    assert not commands(outcome, Opcode.INT)


@pytest.mark.parametrize(("eoimode", "broken"), [(0, {"crash"}), (1, set())])
def test_an_end_for_every_run(trial, eoimode, broken):
    """R2. In EOImode 1 the one EOI of an LPI is written before the handler, so nothing breaks."""
    outcome, verdicts = trial("rerun-eoi-in-loop", eoimode=eoimode)
    assert verdicts == {"wrong_cpu"} | broken
    ends = [e for e in outcome.events if e.kind == EventKind.EOI and e.id == FIRST_LPI]
    taken = [e for e in outcome.events if e.kind == EventKind.ACKNOWLEDGE and e.id == FIRST_LPI]
    assert len(ends) - len(taken) == (1 if broken else 0)


def test_a_resend_that_comes_too_early_is_refused_the_second_time(trial):
    """F2: the new CPU is interrupted again while the old one still runs; REPLAY is set then."""
    outcome, verdicts = trial("resend-at-once", inject2=400)
    assert verdicts == {"lost"}
    assert [r.cpu for r in records(outcome, Kind.RESEND_REFUSED, why="busy")] == [1]
    assert len([r for r in records(outcome, Kind.INTERRUPT, intid=FIRST_LPI) if r.cpu == 1]) == 2


def test_resend_always_never_ends(trial):
    outcome, verdicts = trial("resend-always")
    assert "storm" in verdicts
    assert not outcome.quiet


def test_an_spi_is_active_everywhere(trial):
    """S1-11: it never comes to the new CPU while the old one handles it."""
    for inject in range(200, 900, 50):
        outcome, _ = trial("spi-control", inject2=inject)
        assert not records(outcome, Kind.EARLY_OUT)
    assert starts(trial("spi-control", inject2=450)[0]) == [0, 1]


def test_disable_and_enable_make_the_resend_lose(trial):
    """The hypothesis of section 3.5-c: they send it again while the handler runs, and REPLAY stays.

    That re-send meets the running handler, is remembered, and the end of the handler, which
    should send it again, finds REPLAY set.
    """
    outcome, verdicts = trial("resend", inject2=450, handler_cycles=700, disable_enable=520)
    assert verdicts == {"lost"}
    sent = records(outcome, Kind.RESEND)
    refused = records(outcome, Kind.RESEND_REFUSED, why="busy")
    assert [record.cpu for record in refused] == [0]
    assert sent[-1].cycle < refused[0].cycle
    assert trial("resend", inject2=450, handler_cycles=700, disable_enable=1500)[1] == set()


@pytest.mark.parametrize(
    ("strategy", "broken"),
    [
        ("rerun-no-action-check", {"crash"}),
        # To free the last action disables the interrupt as well, and that is looked at.
        ("rerun-as-posted", set()),
        ("rerun", set()),
        ("resend", set()),
    ],
)
def test_it_is_freed_while_its_handler_runs(trial, strategy, broken):
    outcome, verdicts = trial(strategy, inject2=450, handler_cycles=700, free_irq=600)
    assert verdicts == broken
    assert records(outcome, Kind.EARLY_OUT, pended=True)
    freed = records(outcome, Kind.FREE_IRQ)[0].cycle
    [again] = [r for r in records(outcome, Kind.REQUEST_IRQ) if r.cycle > freed]
    assert not [r for r in records(outcome, Kind.HANDLER_START) if freed < r.cycle < again.cycle]
    assert [r for r in records(outcome, Kind.HANDLER_START) if r.cycle > again.cycle]


def test_an_event_for_nobody_goes_nowhere(trial):
    """While it is free its message is zero, and so the device writes to address 0."""
    outcome, verdicts = trial("resend", inject1=20, inject2=1300, handler_cycles=100, free_irq=700)
    assert verdicts == {"misdirected"}
    [error] = [event for event in outcome.events if event.kind == EventKind.BUS_ERROR]
    assert error.address == 0


def test_the_edge_flow_follows_the_move_since_it_waits(trial):
    old, _ = trial("edge", inject2=300)
    new, _ = trial("edge-busywait", inject2=300)
    assert starts(old) == [0, 0]
    assert starts(new) == [0, 1]
    assert [record.cpu for record in records(new, Kind.BUSY_WAIT)] == [1]


OWN = '''
"""A fasteoi flow that sends again only if it is not disabled meanwhile, whatever REPLAY says."""

from firmware_model.core.chip import retrigger_hierarchy
from firmware_model.core.desc import IState
from firmware_model.strategies.fasteoi import FasteoiStrategy


class Stubborn(FasteoiStrategy):
    name = "stubborn"
    summary = "sent again after EOI if it is pending, without looking at REPLAY"
    claims_correct = True

    async def after(self, cpu, desc):
        if desc.pending and desc.runnable:
            desc.clear_istate(cpu, IState.PENDING)
            await retrigger_hierarchy(cpu, desc.data)
'''


def test_a_strategy_of_ones_own(trial, tmp_path):
    file = tmp_path / "stubborn.py"
    file.write_text(OWN)
    own = f"{file}:Stubborn"
    at = {"inject2": 450, "handler_cycles": 700, "disable_enable": 520}
    outcome, verdicts = trial(own, **at)
    assert "lost" not in verdicts
    assert starts(outcome)[-1] == 1
    assert SCENARIO.label(own) == "stubborn"


def test_the_quick_grid_has_room_on_both_sides(trial):
    """The second event comes before the move is complete to after the end of the handler."""
    [grid] = SCENARIO.grids["quick"]
    for move in (min(grid["move"]), max(grid["move"])):
        outcome, _ = trial("drop", inject2=2000, move=move)
        moved = records(outcome, Kind.MOVE_END)[-1].cycle - BOOT
        end = records(outcome, Kind.HANDLER_END)[0].cycle - BOOT
        assert min(grid["inject2"]) < moved < end < max(grid["inject2"])


ON_ITS_WAY = range(195, 232)
"""Clocks from a move to an event whose message is translated before it, and arrives after it."""


def racing(trial, strategy, step, **at):
    """Clocks of the second event that earn a verdict."""
    clocks = range(EVENT + 1, at["move"] + 420, step)
    return [c for c in clocks if trial(strategy, inject1=EVENT, inject2=c, **at)[1]]


@pytest.mark.parametrize(
    ("move", "work"),
    [
        (EVENT - 170, SHORT),
        (EVENT - 100, SHORT),
        (EVENT + 48, SHORT),
        (EVENT + 49, LONG),
        (EVENT + LONG - 151, LONG),
    ],
)
def test_events_race_only_where_the_full_grid_has_every_clock(trial, move, work):
    covered = set()
    for block in SCENARIO.grids["full"]:
        if move in block.get("move", ()) and work in block["handler_cycles"]:
            covered |= set(block["inject2"])
    lost = racing(trial, "drop", 5, move=move, handler_cycles=work)
    assert lost
    assert set(lost) <= covered
    assert set(racing(trial, "resend", 9, move=move, handler_cycles=work)) <= covered


@pytest.mark.parametrize(
    ("move", "work"), [(EVENT - 260, SHORT), (EVENT + 60, SHORT), (EVENT + LONG - 120, LONG)]
)
def test_before_and_after_the_moves_of_the_full_grid_nothing_is_lost(trial, move, work):
    """Whichever move it is, a message may be on its way to the old CPU."""
    found = racing(trial, "drop", 5, move=move, handler_cycles=work)
    assert {clock - move for clock in found} <= set(ON_ITS_WAY)


def test_an_lpi_on_its_way_during_the_move_stays_with_the_old_cpu(trial):
    """Window W1: translated before MOVI, at the redistributor after it. Not lost, but not moved.

    So even the merged flow runs the handler once more where the interrupt has left.
    """
    late = []
    for inject in range(436, 452):
        outcome, verdicts = trial("resend", move=241, inject2=inject)
        assert verdicts in (set(), {"wrong_cpu"})
        if verdicts:
            late.append(outcome)
    assert 0 < len(late) < 8
    for outcome in late:
        assert starts(outcome) == [0, 0]
        [sync] = [command.cycle for command in commands(outcome, Opcode.SYNC)]
        lpi = [e for e in outcome.events if e.id == FIRST_LPI]
        pending = [e for e in lpi if e.kind == EventKind.PENDING_SET][-1]
        assert pending.unit == 0
        assert pending.cycle < sync
        assert EventKind.PENDING_MOVED not in {event.kind for event in lpi}
        again = records(outcome, Kind.HANDLER_START)[-1]
        assert again.cycle > records(outcome, Kind.MOVE_END)[-1].cycle
