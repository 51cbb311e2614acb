"""Where a clock lies in a picture: to scale, but with long quiet stretches folded."""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

QUIET = 16
"""Clocks without a change from which on a stretch is folded."""

_KEPT = 4
"""Clocks that a fold leaves at either end."""

_FOLD_CLOCKS, _FOLD_WIDTH = 3.0, 28.0
"""A fold is as wide as that many clocks, but no wider than this."""


@dataclass(frozen=True)
class Segment:
    """Clocks ``start`` to ``stop`` between the abscissae ``left`` and ``right``."""

    start: int
    stop: int
    left: float
    right: float
    folded: bool


class Timescale:
    """Maps the starts of ``clocks`` to abscissae from ``left`` to ``right``.

    ``moments`` are the clocks in which something happens. Where they are further apart than
    :data:`QUIET`, the middle is folded.
    """

    def __init__(self, clocks: range, moments: Iterable[int], left: float, right: float):
        inside = {moment for moment in moments if moment in clocks}
        stretches: list[tuple[int, int, bool]] = []
        here = clocks.start
        points = sorted({clocks.start, clocks.stop, *inside})
        for before, after in pairwise(points):
            if after - before > QUIET:
                stretches += [(here, before + _KEPT, False), (before + _KEPT, after - _KEPT, True)]
                here = after - _KEPT
        stretches.append((here, clocks.stop, False))

        folds = sum(folded for _, _, folded in stretches)
        clocks_to_scale = sum(stop - start for start, stop, folded in stretches if not folded)
        unit = (right - left) / (clocks_to_scale + _FOLD_CLOCKS * folds)
        fold = min(_FOLD_CLOCKS * unit, _FOLD_WIDTH)
        self.unit = (right - left - folds * fold) / clocks_to_scale
        """Width of one clock."""
        self.segments: list[Segment] = []
        for start, stop, folded in stretches:
            end = left + (fold if folded else (stop - start) * self.unit)
            self.segments.append(Segment(start, stop, left, end, folded))
            left = end
        self._starts = [segment.start for segment in self.segments]

    def __call__(self, cycle: int) -> float:
        """The abscissa at which clock ``cycle`` starts."""
        segment = self.segments[max(bisect_right(self._starts, cycle) - 1, 0)]
        share = (cycle - segment.start) / (segment.stop - segment.start)
        return segment.left + share * (segment.right - segment.left)

    def visible(self, start: int, stop: int) -> list[tuple[float, float]]:
        """From where to where clocks ``start`` to ``stop`` are seen, outside the folds."""
        pieces = [
            (self(max(start, segment.start)), self(min(stop, segment.stop)))
            for segment in self.segments
            if not segment.folded and segment.start < stop and segment.stop > start
        ]
        return pieces or [(self(start), self(stop))]

    def clear(self, left: float, width: float) -> bool:
        """Whether no fold lies between ``left`` and ``left + width``."""
        return not any(
            segment.folded and segment.left < left + width and segment.right > left
            for segment in self.segments
        )

    def ticks(self, distance: float) -> list[int]:
        """Round clock numbers outside the folds, at least ``distance`` apart."""
        steps = (size * 10**power for power in range(9) for size in (1, 2, 5))
        step = next(step for step in steps if step * self.unit >= distance)
        found: list[int] = []
        for segment in self.segments:
            if not segment.folded:
                first = -(-segment.start // step) * step
                for cycle in range(first, segment.stop + 1, step):
                    if not found or self(cycle) - self(found[-1]) >= distance:
                        found.append(cycle)
        return found
