"""Random values, described the way hypothesis describes them, but drawn from a plain generator.

Scripts of a million operations are drawn in minutes, every seed stands for one script on every
machine, and choices are as likely as they say. Hypothesis comes in when two machines differ, to
find the few operations that matter: see :mod:`.shrink`.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

ATTEMPTS = 1000


class Draw:
    """A random value, given a generator."""

    def __init__(self, draw: Callable[[Random], Any]):
        self._draw = draw

    def __call__(self, dice: Random) -> Any:
        return self._draw(dice)

    def map(self, function: Callable[[Any], Any]) -> "Draw":
        return Draw(lambda dice: function(self(dice)))

    def flatmap(self, function: Callable[[Any], "Draw"]) -> "Draw":
        return Draw(lambda dice: function(self(dice))(dice))

    def filter(self, accepted: Callable[[Any], bool]) -> "Draw":
        def draw(dice: Random) -> Any:
            for _ in range(ATTEMPTS):
                if accepted(value := self(dice)):
                    return value
            raise ValueError(f"{ATTEMPTS} values in a row were not accepted")

        return Draw(draw)


def just(value: Any) -> Draw:
    return Draw(lambda dice: value)


def integers(low: int, high: int) -> Draw:
    return Draw(lambda dice: dice.randint(low, high))


def booleans() -> Draw:
    return Draw(lambda dice: dice.random() < 0.5)


def sampled_from(values: Sequence[Any]) -> Draw:
    return Draw(lambda dice: dice.choice(values))


def pick(*parts: Draw) -> Draw:
    """One of ``parts``, each as likely as any other."""
    return Draw(lambda dice: dice.choice(parts)(dice))


def weighted(*parts: tuple[int, Draw]) -> Draw:
    """One of the draws, each as likely as the number before it says."""
    weights, draws = zip(*parts, strict=True)
    return Draw(lambda dice: dice.choices(draws, weights)[0](dice))


def builds(function: Callable[..., Any], *parts: Draw) -> Draw:
    return Draw(lambda dice: function(*(part(dice) for part in parts)))


def tuples(*parts: Draw) -> Draw:
    return builds(lambda *values: values, *parts)


def lists(part: Draw, length: int) -> Draw:
    return Draw(lambda dice: [part(dice) for _ in range(length)])
