"""From a script on which two machines differ to the few operations and plain values that matter.

Hypothesis does the search: it is given numbers that say what to leave out or to replace, zero
standing for the simplest, and looks for small ones.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import HealthCheck, Phase, find, settings
from hypothesis import strategies as st

Differs = Callable[[Sequence[Any]], bool]

SETTINGS = settings(
    database=None,
    deadline=None,
    derandomize=True,
    max_examples=400,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
WRITES = ("write", "write64", "write_sysreg", "config_write", "message")
"""Calls whose second argument is the value written."""
CHOICES = 16
"""Most choices keep what is there, so that a first try is likely to differ still."""


def shrink(script: Sequence[Any], differs: Differs) -> list[Any]:
    """A short and simple script of which ``differs`` is true, as it is of ``script``.

    Raises ValueError if it is not: then chance has a hand in it.
    """
    if not differs(script):
        raise ValueError("the same script does not differ when it is run again")
    script = _search(list(script), _leave_out, differs)
    return _search(script, _simplify, differs)


def _search(script: list[Any], change: Callable[[list[Any], list[int]], list], differs: Differs):
    choices = st.lists(st.integers(0, CHOICES - 1), min_size=len(script), max_size=len(script))
    found = find(choices, lambda c: differs(change(script, c)), settings=SETTINGS)
    return change(script, found)


def _leave_out(script: list[Any], choices: list[int]) -> list[Any]:
    return [operation for operation, keep in zip(script, choices, strict=True) if keep]


def _simplify(script: list[Any], choices: list[int]) -> list[Any]:
    return [simpler(operation, n) for operation, n in zip(script, choices, strict=True)]


def simpler(operation: Any, choice: int) -> Any:
    """``operation`` writing a plainer value: zero, its lowest bit or its low byte; for any other
    choice, and if it does not write, itself."""
    if choice > 2 or getattr(operation, "method", "") not in WRITES:
        return operation
    place, value, *others = operation.arguments
    if not isinstance(value, int):
        return operation
    plain = (0, value & -value, value & 0xFF)[choice]
    return dataclasses.replace(operation, arguments=(place, plain, *others))
