"""Boot once, run many trials: what comes before the stimulus is kept and copied."""

import pickle
from collections.abc import Iterable, Mapping

from .design import Design
from .hosts.verilated import VerilatedHost
from .scenarios.base import Scenario
from .trial import Mark, Outcome, Stall, drive, outcome

START = Mark(0, 0)
KEPT = 64
"""Booted systems of one host that are kept; the oldest is booted again when it is needed."""


class _Booted:
    """A snapshot of the hardware, and the software as bytes: a copy that is quick to make."""

    def __init__(self, scenario: Scenario, strategy: str, at: Mapping[str, int], host):
        system, plan = scenario.boot_plan(strategy, at)
        end = drive(plan, host, START.cycle)
        self.failed = None if end.booted else outcome(end, host, START)
        if self.failed is None:
            self.software = pickle.dumps(system, pickle.HIGHEST_PROTOCOL)


class Machinery:
    """A verilated host of one configuration, and the systems that have booted on it.

    Use as a context manager, or :meth:`close` it.
    """

    def __init__(self, design: Design):
        self.host = VerilatedHost(design)
        self._fresh = self.host.snapshot()
        self._booted: dict[tuple, tuple[int, _Booted]] = {}

    def run(
        self,
        scenario: Scenario,
        strategy: str,
        at: Mapping[str, int],
        stalls: Iterable[Stall] = (),
    ) -> Outcome:
        """The trial; the same as if it had booted itself."""
        at = scenario.complete(strategy, at)
        slot, booted = self._boot(scenario, strategy, at)
        if booted.failed is not None:
            return booted.failed
        self.host.restore(slot)
        plan = scenario.second_part(pickle.loads(booted.software), strategy, at, stalls)
        return outcome(drive(plan, self.host, START.cycle), self.host, START)

    def _boot(
        self, scenario: Scenario, strategy: str, at: Mapping[str, int]
    ) -> tuple[int, _Booted]:
        key = (scenario.name, strategy, *(at[axis] for axis in scenario.boot_axes))
        if key not in self._booted:
            self.host.restore(self._fresh)
            booted = _Booted(scenario, strategy, at, self.host)
            slot = None
            if len(self._booted) >= KEPT:
                slot, _ = self._booted.pop(next(iter(self._booted)))
            self._booted[key] = self.host.snapshot(slot), booted
        return self._booted[key]

    def close(self) -> None:
        """Free the machine."""
        self.host.close()
