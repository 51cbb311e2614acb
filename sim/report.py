"""Answers as tables for people and as dictionaries for scripts."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from .scenarios.base import Scenario
from .sweep import Sweep
from .trial import Outcome
from .verdict import VERDICTS


def print_scenarios(scenarios: Iterable[Scenario], console: Console) -> None:
    """One block per scenario."""
    for scenario in scenarios:
        table = Table(title=f"{scenario.name}: {scenario.summary}", title_justify="left")
        table.add_column("strategy / axis")
        table.add_column("meaning")
        for name, strategy in scenario.strategies.items():
            table.add_row(name, strategy.summary)
        table.add_section()
        for name, axis in scenario.axes.items():
            table.add_row(f"{name} = {axis.low}…{axis.high} ({axis.default})", axis.summary)
        console.print(table)
        console.print(f"[dim]source: {scenario.source}[/dim]\n")


def scenarios_answer(scenarios: Iterable[Scenario]) -> dict[str, Any]:
    """What ``list --json`` says."""
    return {
        "scenarios": [
            {
                "name": scenario.name,
                "source": scenario.source,
                "summary": scenario.summary,
                "axes": {
                    name: {
                        "default": axis.default,
                        "low": axis.low,
                        "high": axis.high,
                        "summary": axis.summary,
                    }
                    for name, axis in scenario.axes.items()
                },
                "strategies": [
                    {
                        "name": name,
                        "claims_correct": strategy.claims_correct,
                        "summary": strategy.summary,
                    }
                    for name, strategy in scenario.strategies.items()
                ],
            }
            for scenario in scenarios
        ]
    }


def print_outcome(
    scenario: Scenario,
    strategy: str,
    at: Mapping[str, int],
    outcome: Outcome,
    verdicts: Collection[str],
    console: Console,
) -> None:
    """The event log of one trial, hardware and software in one table."""
    point = ", ".join(f"{name}={value}" for name, value in at.items())
    table = Table(title=f"{scenario.name} / {strategy} at {point}", title_justify="left")
    table.add_column("clock", justify="right")
    table.add_column("where")
    table.add_column("what")
    table.add_column("details", overflow="fold")
    rows = [(e.cycle, e.channel, e.kind.name.lower().replace("_", " "), e) for e in outcome.events]
    lines = [(cycle, where, what, event.details) for cycle, where, what, event in rows]
    lines += [
        (
            record.cycle,
            f"software cpu{record.cpu}",
            record.kind,
            ", ".join(f"{name} {value}" for name, value in record.fields.items()),
        )
        for record in outcome.log
    ]
    for cycle, where, what, details in sorted(lines, key=lambda line: line[0]):
        table.add_row(str(cycle), where, what, details)
    console.print(table)
    rest = "came to rest" if outcome.quiet else "was stopped at its limit, not at rest,"
    console.print(f"The machine {rest} after {outcome.cycles} clocks.")
    if not verdicts:
        console.print("Verdict: ok")
    for name, meaning in VERDICTS.items():
        if name in verdicts:
            console.print(f"Verdict: [bold red]{name}[/bold red], {meaning}")


def outcome_answer(
    scenario: Scenario,
    strategy: str,
    at: Mapping[str, int],
    host: str,
    outcome: Outcome,
    verdicts: Collection[str],
) -> dict[str, Any]:
    """What ``run --json`` says."""
    return {
        "scenario": scenario.name,
        "strategy": strategy,
        "at": dict(at),
        "host": host,
        "cycles": outcome.cycles,
        "quiet": outcome.quiet,
        "verdicts": [name for name in VERDICTS if name in verdicts],
        "events": [event.as_dict() for event in outcome.events],
        "software": [
            {"cycle": record.cycle, "cpu": record.cpu, "kind": record.kind, **record.fields}
            for record in outcome.log
        ],
    }


@contextmanager
def sweep_progress(total: int) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, nothing elsewhere; call what it gives once a trial."""
    console = Console(stderr=True)
    columns = (TextColumn("trials"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("trials", total=total)
        yield lambda: progress.advance(task)


def print_sweep(sweep: Sweep, folder: Path | None, console: Console) -> None:
    """The verdict table, then the smallest counterexamples with the command that replays each."""
    scenario, refuted = sweep.scenario, sweep.refuted
    console.print(f"{scenario.name}: {scenario.summary}", style="italic")
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("strategy", no_wrap=True)
    table.add_column("claim", no_wrap=True)
    counts = {name: sweep.counts(name) for name in sweep.strategies}
    # Columns for what somebody earned: ten are too wide for a terminal.
    earned = [v for v in ("ok", *VERDICTS) if v == "ok" or any(c[v] for c in counts.values())]
    for heading in ("trials", *earned):
        table.add_column(heading.replace("_", " "), justify="right", no_wrap=True)
    for name in sweep.strategies:
        claim = "broken" if name in refuted else "holds"
        table.add_row(
            scenario.label(name),
            claim if scenario.strategy(name).claims_correct else "",
            str(len(sweep.of(name))),
            *(str(counts[name][verdict] or "") for verdict in earned),
        )
    console.print(table)
    rate = len(sweep.results) / sweep.seconds if sweep.seconds else 0.0
    done = f"{len(sweep.results)} of {sweep.wanted} trials"
    console.print(f"{done} in {sweep.seconds:.1f} s, {rate:.0f} a second.")
    commands = Text("\n")
    for name in sweep.strategies:
        for example in sweep.counterexamples(name):
            point = ", ".join(f"{axis}={value}" for axis, value in example.at.items())
            commands.append(f"{scenario.label(name)}, {example.verdict}", style="bold")
            commands.append(f", smallest at {point}:\n  {example.command(folder or Path())}\n")
    console.print(commands, soft_wrap=True)
    if folder:
        console.print(f"Results and events: {folder}")
