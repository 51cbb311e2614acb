"""What a sweep found: counts, smallest counterexamples, files."""

import json
import shlex
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any

import pyarrow
import pyarrow.parquet

from ..scenarios import Scenario
from ..verdict import BROKEN_CLAIM, VERDICTS
from .explore import NO_STALLS, Bounds, extended
from .grid import Point
from .pool import Result, Runner

WAVES = ("vcd", "gtkw", "png")


@dataclass(frozen=True)
class Counterexample:
    """The smallest trial of a strategy that earned a verdict."""

    scenario: Scenario
    verdict: str
    point: Point

    @property
    def file_stem(self) -> str:
        return f"{self.scenario.label(self.point.strategy)}-{self.verdict}"

    @property
    def at(self) -> dict[str, int]:
        """What to say on the command line: the first axis, and whatever is not as usual."""
        first = next(iter(self.scenario.axes))
        return {
            name: value
            for name, value in self.point.at.items()
            if name == first or value != self.scenario.axes[name].default
        }

    def command(self, folder: Path) -> str:
        """The command that replays it under cocotb, with waves and a picture."""
        words = ["irqscope", "run", self.scenario.name, "--strategy", self.point.strategy]
        for name, value in self.at.items():
            words += ["--at", f"{name}={value}"]
        for stall in self.point.stalls:
            words += ["--stall", str(stall)]
        for suffix in WAVES:
            words += [f"--{suffix}", str(folder / f"{self.file_stem}.{suffix}")]
        return shlex.join(words)


@dataclass
class Sweep:
    """All results of one sweep, as they came; ``stopped``: not all were run."""

    scenario: Scenario
    strategies: Sequence[str]
    wanted: int
    results: Sequence[Result]
    seconds: float
    host: str = "verilated"
    stopped: bool = False

    @cached_property
    def _by_strategy(self) -> Mapping[str, list[Result]]:
        found: dict[str, list[Result]] = {name: [] for name in self.strategies}
        for result in self.results:
            found[result.point.strategy].append(result)
        return found

    def of(self, strategy: str) -> list[Result]:
        return self._by_strategy[strategy]

    def counts(self, strategy: str) -> dict[str, int]:
        """Trials by verdict; ``ok`` are those that ran and earned none."""
        done = [result for result in self.of(strategy) if not result.error]
        earned = Counter(verdict for result in done for verdict in result.verdicts)
        clean = sum(not result.verdicts for result in done)
        return {"ok": clean} | {verdict: earned[verdict] for verdict in VERDICTS}

    def counterexamples(self, strategy: str) -> list[Counterexample]:
        """The smallest of each verdict, in the order of :data:`sim.verdict.VERDICTS`.

        Small is what has few stalls, then few axes off their default, then small values.
        """
        smallest: dict[str, Point] = {}
        for result in sorted(self.of(strategy), key=lambda result: self._size(result.point)):
            for verdict in result.verdicts:
                smallest.setdefault(verdict, result.point)
        return [Counterexample(self.scenario, v, smallest[v]) for v in VERDICTS if v in smallest]

    def _size(self, point: Point) -> tuple:
        first, *others = self.scenario.axes
        unusual = sum(point.at[name] != self.scenario.axes[name].default for name in others)
        stalled = sum(stall.clocks for stall in point.stalls)
        values = tuple(point.at[name] for name in (first, *others))
        return len(point.stalls), unusual, stalled, values, point.stalls

    def coverage(self, strategy: str) -> dict[str, int]:
        """How many boundaries CPUs stalled at, how many different courses the software took, and
        how many different outcomes there were: a course and its verdicts."""
        done = [result for result in self.of(strategy) if not result.error]
        stalls = {(s.cpu, s.step) for result in done for s in result.point.stalls}
        return {
            "boundaries": len(stalls),
            "courses": len({result.shape for result in done}),
            "outcomes": len({(result.shape, result.verdicts) for result in done}),
        }

    def figures(self, strategy: str) -> dict[str, float]:
        """The mean of each of the scenario's figures, over the trials that have it."""
        found: defaultdict[str, list[float]] = defaultdict(list)
        for result in self.of(strategy):
            for name, value in result.figures.items():
                found[name].append(value)
        return {name: sum(values) / len(values) for name, values in found.items()}

    @property
    def explored(self) -> bool:
        """Whether CPUs stalled."""
        return any(result.point.stalls for result in self.results)

    @property
    def refuted(self) -> list[str]:
        """Strategies that claim to lose nothing, and do: :data:`sim.verdict.BROKEN_CLAIM`."""
        return [
            name
            for name in self.strategies
            if self.scenario.strategy(name).claims_correct
            and any(result.verdicts & BROKEN_CLAIM for result in self.of(name))
        ]

    @property
    def errors(self) -> list[Result]:
        return [result for result in self.results if result.error]

    def answer(self, folder: Path | None) -> dict[str, Any]:
        """What ``sweep --json`` says; ``folder`` is where :func:`write_results` wrote."""
        return {
            "scenario": self.scenario.name,
            "host": self.host,
            "trials": len(self.results),
            "wanted": self.wanted,
            "stopped": self.stopped,
            "seconds": self.seconds,
            "cycles": sum(result.cycles for result in self.results),
            "strategies": [self._answer(name, folder) for name in self.strategies],
            "errors": [
                {
                    "strategy": self.scenario.label(result.point.strategy),
                    "at": dict(result.point.at),
                    "stalls": [str(stall) for stall in result.point.stalls],
                    "error": result.error,
                }
                for result in self.errors
            ],
        }

    def _answer(self, name: str, folder: Path | None) -> dict[str, Any]:
        found = [
            {
                "verdict": example.verdict,
                "at": example.at,
                "stalls": [str(stall) for stall in example.point.stalls],
                "events": str(folder / f"{example.file_stem}.jsonl") if folder else None,
                "command": example.command(folder or Path()),
            }
            for example in self.counterexamples(name)
        ]
        return {
            "name": self.scenario.label(name),
            "claims_correct": self.scenario.strategy(name).claims_correct,
            "trials": len(self.of(name)),
            "verdicts": self.counts(name),
            "coverage": self.coverage(name),
            "figures": self.figures(name),
            "smallest_counterexample": found[0] if found else None,
            "counterexamples": found,
        }


Execute = Callable[[str, Sequence[Point]], Generator[Result]]
"""Runs points of the scenario of that name."""


def run_sweep(
    scenario: Scenario,
    strategies: Sequence[str],
    points: Sequence[Point],
    execute: Execute,
    advance: Callable[[], None] = lambda: None,
    *,
    host: str = "verilated",
    bounds: Bounds = NO_STALLS,
) -> Sweep:
    """Run all points, and then, within ``bounds``, all that stall.

    ``advance`` is called after each trial. Ctrl-C ends the sweep with what was done.
    """
    results: list[Result] = []
    stopped = False
    wanted = 0
    begin = perf_counter()
    try:
        for stalls in range(bounds.stalls + 1):
            if stalls:
                points = extended(results[-len(points) :], bounds.lengths)
            wanted += len(points)
            with closing(execute(scenario.name, points)) as running:
                for result in running:
                    results.append(result)
                    advance()
    except KeyboardInterrupt:
        stopped = True
    return Sweep(
        scenario, strategies, wanted, results, perf_counter() - begin, host, stopped=stopped
    )


def write_results(sweep: Sweep, folder: Path) -> None:
    """``results.parquet`` with a row for each trial, and a file of events per counterexample."""
    folder.mkdir(parents=True, exist_ok=True)
    results, scenario = sweep.results, sweep.scenario
    labels = {name: scenario.label(name) for name in sweep.strategies}
    columns: dict[str, list] = {"strategy": [labels[r.point.strategy] for r in results]}
    columns |= {axis: [r.point.at[axis] for r in results] for axis in scenario.axes}
    columns |= {verdict: [verdict in r.verdicts for r in results] for verdict in VERDICTS}
    columns |= {"stalls": [" ".join(map(str, r.point.stalls)) for r in results]}
    columns |= {"cycles": [r.cycles for r in results], "error": [r.error for r in results]}
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "results.parquet")
    examples = [example for name in sweep.strategies for example in sweep.counterexamples(name)]
    if not examples:
        return
    with Runner(scenario.name) as runner:
        for example in examples:
            lines = [json.dumps(event.as_dict()) for event in runner.outcome(example.point).events]
            (folder / f"{example.file_stem}.jsonl").write_text("\n".join(lines) + "\n")
