"""Where CPUs may stall: interleavings that no axis of a scenario reaches.

Software races with hardware at its operations and locks. A stall at such a boundary lets everything
else run on meanwhile, so a few stalls of a few lengths order things in ways that a stimulus alone
does not. The boundaries of a trial are known when it has run; what it did differently because of
one stall gives the boundaries for the next.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..trial import Stall
from .grid import Point
from .pool import Result


@dataclass(frozen=True)
class Bounds:
    """How far to go: at most ``stalls`` of them in a trial, each of one of ``lengths`` clocks."""

    stalls: int = 0
    lengths: Sequence[int] = ()


NO_STALLS = Bounds()


def extended(results: Iterable[Result], lengths: Sequence[int]) -> list[Point]:
    """Every trial of ``results`` with one stall more; a set of stalls comes once.

    One step stalls once. A trial that ended with an error is not looked into.
    """
    found: dict[tuple, Point] = {}
    for result in results:
        if result.error:
            continue
        point = result.point
        taken = {(stall.cpu, stall.step) for stall in point.stalls}
        for cpu, steps in enumerate(result.steps):
            for step in steps:
                if (cpu, step) in taken:
                    continue
                for clocks in lengths:
                    stalls = tuple(sorted((*point.stalls, Stall(cpu, step, clocks))))
                    key = (point.strategy, *point.at.values(), stalls)
                    found[key] = Point(point.strategy, point.at, stalls)
    return list(found.values())
