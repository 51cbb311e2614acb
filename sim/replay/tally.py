"""What a replay counts: what was compared, what was waived and why, and what did not match."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

KEPT = 100
"""Mismatches that are kept with all they say; the others are counted."""


@dataclass(frozen=True)
class Mismatch:
    """A place where the gateware and the recorded machine differ."""

    where: str
    what: str
    expected: str
    seen: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}: recorded {self.expected}, seen {self.seen}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return vars(self).copy()


@dataclass
class Tally:
    """The counts of one replay."""

    compared: int = 0
    mismatches: int = 0
    waived: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    """How many comparisons of which kind."""
    found: list[Mismatch] = field(default_factory=list)

    def compare(self, kind: str, equal: bool) -> bool:
        """Count a comparison; returns ``equal``."""
        self.compared += 1
        self.kinds[kind] += 1
        self.mismatches += not equal
        return equal

    def describe(self, where: str, what: str, expected: Any, seen: Any) -> None:
        """Keep what a mismatch was, if it is among the first."""
        if len(self.found) < KEPT:
            texts = [f"{v:#x}" if isinstance(v, int) else str(v) for v in (expected, seen)]
            self.found.append(Mismatch(where, what, *texts))

    def waive(self, reason: str) -> None:
        """A difference, or a line, that is let pass for ``reason``."""
        self.waived[reason] += 1
