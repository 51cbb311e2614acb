"""Every trial of a grid, on all processors, and what became of them."""

from .explore import Bounds
from .grid import Point, parse_grid, points
from .pool import Result, run_points
from .results import Counterexample, Sweep, run_sweep, write_results
from .where import executor

__all__ = [
    "Bounds",
    "Counterexample",
    "Point",
    "Result",
    "Sweep",
    "executor",
    "parse_grid",
    "points",
    "run_points",
    "run_sweep",
    "write_results",
]
