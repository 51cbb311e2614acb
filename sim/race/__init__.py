"""Races on a board: software recorded and compiled for the sequencer, and sweeps of it."""

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

from hdl.boards.platforms import BOARDS

from ..hosts.board import Board, BoardHost, open_port
from ..scenarios import Scenario
from ..sweep.grid import Point
from ..sweep.results import Sweep
from ..trial import Outcome, Plan, run
from .sweep import Racer, check_counterexamples

__all__ = ["Racer", "check_counterexamples", "connect", "run_on_board", "sweep_on_board"]


def connect(port: str) -> Board:
    """The board at the serial port called ``port``."""
    return Board(open_port(port), [board.lab for board in BOARDS.values()])


def run_on_board(plan: Plan, port: str) -> tuple[Outcome, bool]:
    """One trial, and whether the board has recorded all of it; its software runs here, its
    hardware there."""
    with connect(port) as board:
        host: Any = BoardHost(board)
        return run(plan, host), board.lab.recorded is None


def sweep_on_board(
    scenario: Scenario,
    strategies: Sequence[str],
    points: Sequence[Point],
    port: str,
    advance: Callable[[], None] = lambda: None,
) -> Sweep:
    """All points, by the board's sequencer. The smallest counterexample of each verdict is run
    again with its software here, and judged whole: it must come to the same."""
    begin = perf_counter()
    with connect(port) as board, Racer(scenario, board) as racer:
        results = racer.run(points, report_all=False, advance=advance)
        found = Sweep(
            scenario, strategies, len(points), results, perf_counter() - begin, host="board"
        )
        smallest = [x.point for name in strategies for x in found.counterexamples(name)]
        again = [result for result in results if result.point in smallest]
        check_counterexamples(scenario, board, again)
    return found
