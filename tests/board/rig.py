"""A simulated board for tests: pins driven, a pseudo-terminal between."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from hdl.boards.platforms import find_board
from hdl.boards.protocol import LabConfig
from sim.design import Design
from sim.hosts.board import Board, open_port
from sim.hosts.board_simulated import DIVISOR, TOP, simulated_board

LAB = replace(find_board("icebreaker").lab, divisor=DIVISOR)
TIMEOUT = 120.0


def design(kind: type[Design] = Design, lab: LabConfig = LAB) -> Design:
    return kind(lab, TOP)  # type: ignore[arg-type]


@contextmanager
def board(kind: type[Design] = Design) -> Iterator[Board]:
    """A board that is a simulation of ``kind``."""
    with simulated_board(design(kind)) as port, plugged_in(port) as found:
        yield found


def plugged_in(port: str) -> Board:
    """The simulated board behind ``port``."""
    return Board(open_port(port, TIMEOUT), [LAB])
