"""Random scripts until there have been enough operations, or two machines differ."""

from random import Random

from .draws import lists
from .operations import Operation
from .pair import DifferenceError, Pair
from .shrink import shrink
from .traffic import Traffic

LENGTH = 60
"""Operations in a script, at least."""


def make(pair: Pair, seed: int) -> list[Operation]:
    """The script that ``seed`` stands for."""
    parts = lists(Traffic(pair.config).operations(), LENGTH)(Random(seed))
    return [operation for part in parts for operation in part]


def attempt(pair: Pair, script: list[Operation]) -> DifferenceError | None:
    """How the machines differ after a fresh start, if they do."""
    try:
        pair.restart()
        pair.run(script)
        pair.compare_state()
    except DifferenceError as difference:
        return difference
    return None


def campaign(pair: Pair, operations: int, seed: int = 0) -> int:
    """Compare at least so many operations; how many it was.

    Raises DifferenceError of a shrunk script for the first seed that shows a difference.
    """
    end = pair.total + operations
    begun = pair.total
    while pair.total < end:
        script = make(pair, seed)
        if attempt(pair, script):
            short = shrink(script, lambda part: attempt(pair, part) is not None)
            difference = attempt(pair, short)
            difference.add_note(f"found by seed {seed}")
            raise difference
        seed += 1
    return pair.total - begun
