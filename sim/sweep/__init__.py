"""Every trial of a grid, on all processors, and what became of them."""

from .grid import Point, parse_grid, points
from .pool import Result, run_points
from .results import Counterexample, Sweep, run_sweep, write_results

__all__ = [
    "Counterexample",
    "Point",
    "Result",
    "Sweep",
    "parse_grid",
    "points",
    "run_points",
    "run_sweep",
    "write_results",
]
