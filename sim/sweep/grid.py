"""From the words of ``--grid`` to trials."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..scenarios import Scenario
from ..scenarios.base import Block
from ..trial import Stall

SPAN = "AXIS=LO:HI[:STEP]"
DEFAULT = "default"


@dataclass(frozen=True)
class Point:
    """One trial: a strategy, a value for each axis, and where CPUs stall."""

    strategy: str
    at: Mapping[str, int]
    stalls: tuple[Stall, ...] = ()


def parse_grid(scenario: Scenario, words: Sequence[str]) -> list[Block]:
    """Blocks that have the values of every axis: their trials together are the sweep's.

    Each word is a grid of the scenario (``quick``, which is what no word means, or ``full``), or
    ``default``, the default of every axis, or a span of one axis, both ends included; later words
    win. What no word names keeps its default.
    """
    defaults: Block = {name: [axis.default] for name, axis in scenario.axes.items()}
    grid = [defaults]
    for word in words or ("quick",):
        if word == DEFAULT:
            news: Sequence[Block] = [defaults]
        elif word in scenario.grids:
            news = scenario.grids[word]
        else:
            news = [_span(scenario, word)]
        grid = [{**block, **new} for block in grid for new in news]
    return grid


def _span(scenario: Scenario, word: str) -> Block:
    name, equals, text = word.partition("=")
    if not equals:
        known = ", ".join([*scenario.grids, DEFAULT])
        raise ValueError(f"--grid takes {known} or {SPAN}, not {word!r}")
    if name not in scenario.axes:
        known = ", ".join(scenario.axes)
        raise ValueError(f"{scenario.name} has no axis {name!r}; it has: {known}")
    try:
        numbers = [int(number, 0) for number in text.split(":")]
        if len(numbers) > 3:
            raise ValueError
    except ValueError:
        raise ValueError(
            f"--grid {name} takes a whole number or LO:HI[:STEP], not {text!r}"
        ) from None
    low, high, step = (*numbers, 1)[:3] if len(numbers) > 1 else (*numbers, *numbers, 1)
    if step < 1 or low > high:
        raise ValueError(f"--grid {name}=LO:HI[:STEP] goes upwards, not {text!r}")
    for end in (low, high):
        scenario.axes[name].check(name, end)
    return {name: range(low, high + 1, step)}


def points(
    strategies: Iterable[str],
    grid: Iterable[Block],
    scenario: Scenario | None = None,
) -> list[Point]:
    """Every trial of the grid once, strategy by strategy; the last axis changes fastest.

    With ``scenario``, an axis that means nothing to a strategy does not multiply its trials.
    """
    blocks = list(grid)
    found: list[Point] = []
    for strategy in strategies:
        idle = scenario.idle_axes(strategy) if scenario else ()
        seen: dict[tuple, Point] = {}
        for block in blocks:
            axes = [values[:1] if name in idle else values for name, values in block.items()]
            for values in itertools.product(*axes):
                at = dict(zip(block, values, strict=True))
                key = tuple(None if name in idle else at[name] for name in at)
                seen.setdefault(key, Point(strategy, at))
        found += seen.values()
    return found
