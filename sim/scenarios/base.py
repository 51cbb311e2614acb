"""What a scenario says about itself.

A trial has two parts on one time line, whose clock 0 is the first after reset:

1. The **boot**: :meth:`Scenario.boot` makes the software of a machine that is set up and comes to
   rest. It depends on the strategy and on the axes named in ``boot_axes``, on nothing else, so a
   sweep boots once for all trials that have these in common and copies what has booted.
2. The **stimulus**, from clock ``boot_clocks`` on: :meth:`Scenario.stimulate` gives tasks to that
   software (``system.machine.cpus[i].spawn``) and says what happens at the inputs.

The software must be at rest at ``boot_clocks``: no task running, no timer set. It is copied by
:mod:`pickle`: its objects may refer to module-level functions, methods and classes, but not to
lambdas and functions within functions.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

from firmware_model.machine.machine import Machine
from hdl.config import SocConfig

from ..crosscheck import contradictions
from ..hosts.base import Poke
from ..trial import Outcome, Plan, Stall
from .own import OWN, blamed, load_class


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

    ``code`` is the class that does it, where a scenario has one for each strategy; ``config`` the
    hardware it needs, if that is not the scenario's.
    """

    summary: str
    claims_correct: bool
    code: type | None = None
    config: SocConfig | None = None


def strategies_of(
    classes: Mapping[str, Any], config: Callable[[Any], SocConfig | None] = lambda _: None
) -> dict[str, Strategy]:
    """Strategies that are a class each, with the hardware that each needs."""
    return {
        name: Strategy(code.summary, code.claims_correct, code, config(code))
        for name, code in classes.items()
    }


Block = Mapping[str, Sequence[int]]
"""Values of axes: all their combinations, one trial each."""


class System(Protocol):
    """All software of a trial; what else it has is between ``boot`` and ``stimulate``."""

    machine: Machine


class Scenario(ABC):
    """Hardware and software of one experiment.

    A trial is data: the scenario, a strategy's name and a value for each axis determine it.

    Attributes
    ----------
    boot_clocks : int
        Clock at which the stimulus begins; the boot of every strategy is at rest by then.
    boot_axes : sequence of str
        Axes that the boot depends on.
    grids : mapping
        For ``sweep``, by name: blocks of trials. An axis that a block does not name keeps its
        default. ``full`` has every clock of the window in which things can race.
    own : type or None
        What a strategy of the user's own must be a subclass of; None: there can be none.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    source: ClassVar[str]
    config: ClassVar[SocConfig]
    boot_clocks: ClassVar[int]
    boot_axes: ClassVar[Sequence[str]] = ()
    axes: ClassVar[Mapping[str, Axis]]
    strategies: ClassVar[Mapping[str, Strategy]]
    grids: ClassVar[Mapping[str, Sequence[Block]]]
    own: ClassVar[type | None] = None

    @abstractmethod
    def boot(self, strategy: str, at: Mapping[str, int]) -> System:
        """The software, not started. ``at`` has the ``boot_axes`` only."""

    @abstractmethod
    def stimulate(self, system: Any, strategy: str, at: Mapping[str, int]) -> Plan:
        """What hits ``system``, which has booted and is at rest.

        It is what :meth:`boot` made or a copy of it. ``at`` has all axes. The plan's machine is
        the system's; its pokes and its limit, as all cycles, count from the start of the boot.
        """

    def straps(self, strategy: str, at: Mapping[str, int]) -> Mapping[str, int]:
        """Input fields and the values that they have from clock 0 on. ``at`` is as for boot."""
        return {}

    def hardware(self, strategy: str) -> SocConfig:
        """What the strategy runs on."""
        return self.strategy(strategy).config or self.config

    def begin(self, strategy: str) -> int:
        """Clock at which the stimulus begins, if it is not the same for all."""
        return self.boot_clocks

    def idle_axes(self, strategy: str) -> Collection[str]:
        """Axes that mean nothing to the strategy: a sweep leaves them as they are."""
        return ()

    def boot_plan(self, strategy: str, at: Mapping[str, int]) -> tuple[System, Plan]:
        """The first part of a trial: a system, and the plan that boots it."""
        known = {axis: at[axis] for axis in self.boot_axes}
        with blamed(strategy):
            system = self.boot(strategy, known)
        pokes = [Poke(0, name, value) for name, value in self.straps(strategy, known).items()]
        clocks = self.begin(strategy)
        return system, Plan(system.machine, pokes, clocks, clocks)

    def plan(self, strategy: str, at: Mapping[str, int], stalls: Iterable[Stall] = ()) -> Plan:
        """The whole trial at a point of the axes."""
        at = self.complete(strategy, at)
        system, plan = self.boot_plan(strategy, at)
        return replace(plan, follow=lambda: self.second_part(system, strategy, at, stalls))

    def second_part(
        self, system: System, strategy: str, at: Mapping[str, int], stalls: Iterable[Stall]
    ) -> Plan:
        """The stimulus, with CPUs that stall; the trial has that much more time."""
        for stall in stalls:
            system.machine.stall(*stall)
        plan = self.stimulate(system, strategy, at)
        return replace(plan, limit=plan.limit + system.machine.stalled)

    def judge(self, strategy: str, at: Mapping[str, int], outcome: Outcome) -> frozenset[str]:
        """The verdicts that the trial earned (see :mod:`sim.verdict`)."""
        return frozenset() if outcome.quiet else frozenset({"crash"})

    def drivers(self, strategy: str) -> Mapping[str, int]:
        """The endpoint of each event device whose driver says what it counts, by its action."""
        return {}

    def contradictions(self, strategy: str, outcome: Outcome) -> list[str]:
        """Where the tap and the software's log differ (see :mod:`sim.crosscheck`)."""
        return contradictions(outcome, self.drivers(strategy))

    def figures(
        self, strategy: str, at: Mapping[str, int], outcome: Outcome
    ) -> Mapping[str, float]:
        """Numbers that a sweep compares between strategies, if the trial has any: their means."""
        return {}

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

    def code(self, word: str) -> Any:
        """The class that does it, of a strategy that is one."""
        code = self.strategy(word).code
        assert code is not None
        return code

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
