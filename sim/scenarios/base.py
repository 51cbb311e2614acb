"""What a scenario says about itself."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from hdl.config import SocConfig

from ..hosts.base import Poke
from ..trial import Outcome, Plan
from .own import OWN, load_class


@dataclass(frozen=True)
class Axis:
    """One number that a trial chooses: a clock, a latency, a switch."""

    default: int
    low: int
    high: int
    summary: str

    def check(self, name: str, value: int) -> int:
        if not self.low <= value <= self.high:
            raise ValueError(f"{name} must be between {self.low} and {self.high}, not {value}")
        return value


@dataclass(frozen=True)
class Strategy:
    """One way the software does it; ``claims_correct``: its authors claimed it loses nothing.

    ``code`` is the class that does it, where a scenario has one for each strategy.
    """

    summary: str
    claims_correct: bool
    code: type | None = None


class Scenario(ABC):
    """Hardware and software of one experiment.

    A trial is data: the scenario, a strategy's name and a value for each axis determine it.

    Attributes
    ----------
    grids : mapping
        For ``sweep``: the values of axes in the grids ``quick`` and ``full``; others keep their
        default.
    own : type or None
        What a strategy of the user's own must be a subclass of; None: there can be none.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    source: ClassVar[str]
    config: ClassVar[SocConfig]
    axes: ClassVar[Mapping[str, Axis]]
    strategies: ClassVar[Mapping[str, Strategy]]
    grids: ClassVar[Mapping[str, Mapping[str, Sequence[int]]]]
    own: ClassVar[type | None] = None

    @abstractmethod
    def plan(self, strategy: str, at: Mapping[str, int]) -> Plan:
        """The trial at a point of the axes."""

    def judge(self, strategy: str, at: Mapping[str, int], outcome: Outcome) -> frozenset[str]:
        """The verdicts that the trial earned (see :mod:`sim.verdict`)."""
        return frozenset() if outcome.quiet else frozenset({"crash"})

    def window(self, at: Mapping[str, int], outcome: Outcome) -> tuple[int, int]:
        """First and last clock worth looking at: all of it, unless a scenario knows better."""
        return 0, outcome.cycles

    def strategy(self, word: str) -> Strategy:
        """The strategy called ``word``, or the user's own that ``FILE.py:CLASS`` names."""
        if word in self.strategies:
            return self.strategies[word]
        if self.own and OWN.fullmatch(word):
            code = load_class(word, self.own)
            return Strategy(code.summary, code.claims_correct, code)
        known = ", ".join(self.strategies) + (", or FILE.py:CLASS" if self.own else "")
        raise ValueError(f"{self.name} has no strategy {word!r}; it has: {known}")

    def label(self, word: str) -> str:
        """What the strategy ``word`` is called in tables and file names."""
        code = self.strategy(word).code
        return word if word in self.strategies else code.name  # type: ignore[union-attr]

    def complete(self, strategy: str, at: Mapping[str, int]) -> dict[str, int]:
        """``at`` with defaults filled in; an error names what does not exist and what does."""
        self.strategy(strategy)
        for name, value in at.items():
            if name not in self.axes:
                known = ", ".join(self.axes)
                raise ValueError(f"{self.name} has no axis {name!r}; it has: {known}")
            self.axes[name].check(name, value)
        return {name: axis.default for name, axis in self.axes.items()} | dict(at)


def device_event(endpoint: int, cycle: int, vector: int = 0) -> list[Poke]:
    """Pokes that make ``endpoint`` have an event in clock ``cycle``."""
    return [
        Poke(cycle, f"endpoint_{endpoint}_vector", vector),
        Poke(cycle, f"endpoint_{endpoint}_event", 1),
        Poke(cycle + 1, f"endpoint_{endpoint}_event", 0),
    ]
