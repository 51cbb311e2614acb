"""The larger iCE40 laboratory: two functions, and a run that records the whole tap."""

from dataclasses import replace

import pytest

from hdl.boards.platforms import find_board
from sim import trial
from sim.hosts.board import Board, BoardHost, open_port
from sim.hosts.board_simulated import DIVISOR, simulated_board
from sim.sweep.grid import Point
from sim.sweep.pool import Runner

from .rig import TIMEOUT, design
from .test_race import SCENARIO, compare, points

LAB = replace(find_board("ice40-hx8k-b-evn").lab, divisor=DIVISOR)


@pytest.fixture(scope="module")
def port():
    with simulated_board(design(lab=LAB)) as name:
        yield name


@pytest.fixture
def there(port):
    with Board(open_port(port, TIMEOUT), [LAB]) as found:
        yield found


def test_the_whole_tap_comes_over_the_line(there):
    host = BoardHost(there)
    ours = trial.run(SCENARIO.plan("naive", {"inject": 45}), host)
    with Runner("torn-msi") as runner:
        theirs = runner.outcome(Point("naive", {"inject": 45}))
    assert (ours.cycles, ours.quiet, ours.log) == (theirs.cycles, theirs.quiet, theirs.log)
    fields = ("cycle", "channel", "kind", "unit", "id", "data", "address")
    assert [[getattr(event, name) for name in fields] for event in ours.events] == [
        [getattr(event, name) for name in fields] for event in theirs.events
    ]
    assert len({event.channel for event in ours.events}) > 5
    assert not SCENARIO.contradictions("naive", ours)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["naive", "two-step", "mask"])
def test_the_sweep_of_the_larger_laboratory(there, strategy):
    assert compare(there, points(strategy, range(20, 121, 5))).trials >= 21
