"""What a scenario says about itself."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from hdl.config import SocConfig

from ..trial import Outcome, Plan


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


class Scenario(ABC):
    """Hardware and software of one experiment.

    A trial is data: the scenario, a strategy's name and a value for each axis determine it.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    source: ClassVar[str]
    config: ClassVar[SocConfig]
    axes: ClassVar[Mapping[str, Axis]]
    strategies: ClassVar[Mapping[str, str]]
    """Name and summary."""

    @abstractmethod
    def plan(self, strategy: str, at: Mapping[str, int]) -> Plan:
        """The trial at a point of the axes."""

    def window(self, at: Mapping[str, int], outcome: Outcome) -> tuple[int, int]:
        """First and last clock worth looking at: all of it, unless a scenario knows better."""
        return 0, outcome.cycles

    def complete(self, strategy: str, at: Mapping[str, int]) -> dict[str, int]:
        """``at`` with defaults filled in; an error names what does not exist and what does."""
        if strategy not in self.strategies:
            known = ", ".join(self.strategies)
            raise ValueError(f"{self.name} has no strategy {strategy!r}; it has: {known}")
        for name, value in at.items():
            if name not in self.axes:
                known = ", ".join(self.axes)
                raise ValueError(f"{self.name} has no axis {name!r}; it has: {known}")
            self.axes[name].check(name, value)
        return {name: axis.default for name, axis in self.axes.items()} | dict(at)
