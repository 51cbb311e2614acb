"""From the words of ``--grid`` to trials."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..scenarios import Scenario
from ..trial import Stall

SPAN = "AXIS=LO:HI[:STEP]"
DEFAULT = "default"


@dataclass(frozen=True)
class Point:
    """One trial: a strategy, a value for each axis, and where CPUs stall."""

    strategy: str
    at: Mapping[str, int]
    stalls: tuple[Stall, ...] = ()


def parse_grid(scenario: Scenario, words: Sequence[str]) -> dict[str, list[int]]:
    """The values of every axis.

    Each word is a grid of the scenario (``quick``, which is what no word means, or ``full``), or
    ``default``, the default of every axis, or a span of one axis, both ends included; later words
    win. What no word names keeps its default.
    """
    defaults = {name: [axis.default] for name, axis in scenario.axes.items()}
    grid = dict(defaults)
    for word in words or ("quick",):
        if word == DEFAULT:
            grid |= defaults
        elif word in scenario.grids:
            grid |= {name: list(values) for name, values in scenario.grids[word].items()}
        else:
            name, values = _span(scenario, word)
            grid[name] = values
    return grid


def _span(scenario: Scenario, word: str) -> tuple[str, list[int]]:
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
    return name, list(range(low, high + 1, step))


def points(
    strategies: Iterable[str],
    grid: Mapping[str, Sequence[int]],
    scenario: Scenario | None = None,
) -> list[Point]:
    """Every trial of the grid, strategy by strategy; the last axis changes fastest.

    With ``scenario``, an axis that means nothing to a strategy does not multiply its trials.
    """
    found = []
    for strategy in strategies:
        idle = scenario.idle_axes(strategy) if scenario else ()
        axes = [values[:1] if name in idle else values for name, values in grid.items()]
        for values in itertools.product(*axes):
            found.append(Point(strategy, dict(zip(grid, values, strict=True))))
    return found
