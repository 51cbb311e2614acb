"""Answers as tables for people and as dictionaries for scripts."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
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
def sweep_progress(total: int | None, what: str = "trials") -> Iterator[Callable[[], None]]:
    """A bar on a terminal, nothing elsewhere; call what it gives once a trial. ``total`` None: how
    many there will be is not known."""
    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)


def print_sweep(sweep: Sweep, folder: Path | None, console: Console) -> None:
    """The verdict table, then the smallest counterexamples with the command that replays each."""
    scenario = sweep.scenario
    console.print(f"{scenario.name}: {scenario.summary}", style="italic")
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("strategy", no_wrap=True)
    table.add_column("claim", no_wrap=True)
    counts = {name: sweep.counts(name) for name in sweep.strategies}
    # Columns for what somebody earned: ten are too wide for a terminal.
    earned = [v for v in ("ok", *VERDICTS) if v == "ok" or any(c[v] for c in counts.values())]
    for heading in ("trials", *earned):
        table.add_column(heading.replace("_", " "), justify="right", no_wrap=True)
    figures = {name: sweep.figures(name) for name in sweep.strategies}
    told = list(dict.fromkeys(figure for means in figures.values() for figure in means))
    for heading in told:
        table.add_column(heading, justify="right")
    for name in sweep.strategies:
        table.add_row(
            scenario.label(name),
            _claim(sweep, name),
            str(len(sweep.of(name))),
            *(str(counts[name][verdict] or "") for verdict in earned),
            *(f"{figures[name][figure]:.1f}" if figure in figures[name] else "" for figure in told),
        )
    console.print(table)
    rate = len(sweep.results) / sweep.seconds if sweep.seconds else 0.0
    done = f"{len(sweep.results)} of {sweep.wanted} trials"
    console.print(f"{done} in {sweep.seconds:.1f} s, {rate:.0f} a second.")
    for name in sweep.strategies if sweep.explored else ():
        seen = sweep.coverage(name)
        console.print(
            f"{scenario.label(name)}: stalls at {seen['boundaries']} boundaries, "
            f"{seen['courses']} courses of the software, {seen['outcomes']} different outcomes."
        )
    commands = Text("\n")
    for name in sweep.strategies:
        for example in sweep.counterexamples(name):
            point = ", ".join(f"{axis}={value}" for axis, value in example.at.items())
            commands.append(f"{scenario.label(name)}, {example.verdict}", style="bold")
            point += "".join(f", stall {stall}" for stall in example.point.stalls)
            commands.append(f", smallest at {point}:\n  {example.command(folder or Path())}\n")
    console.print(commands, soft_wrap=True)
    if folder:
        console.print(f"Results and events: {folder}")


def print_tour(sweeps: Sequence[Sweep], console: Console) -> None:
    """One table over scenarios: a row for each strategy, and how many trials earned what.

    Nine columns of verdicts are too wide for a terminal; a row names those that it has.
    """
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("scenario", "strategy", "claim"):
        table.add_column(heading, no_wrap=True)
    for heading in ("trials", "ok"):
        table.add_column(heading, justify="right")
    table.add_column("violations")
    for sweep in sweeps:
        table.add_section()
        for name in sweep.strategies:
            counts = sweep.counts(name)
            earned = [f"{v.replace('_', ' ')} {counts[v]}" for v in VERDICTS if counts[v]]
            table.add_row(
                sweep.scenario.name if name == sweep.strategies[0] else "",
                name,
                _claim(sweep, name),
                str(len(sweep.of(name))),
                str(counts["ok"]),
                ", ".join(earned),
            )
    console.print(table)
    for sweep in sweeps:
        for failed in sweep.errors:
            console.print(f"{sweep.scenario.name}, {failed.point.strategy}: {failed.error}")


def _claim(sweep: Sweep, strategy: str) -> str:
    """Whether what was claimed of a strategy holds; nothing if nothing was."""
    if not sweep.scenario.strategy(strategy).claims_correct:
        return ""
    return "broken" if strategy in sweep.refuted else "holds"
