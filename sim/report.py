"""Answers as tables for people and as dictionaries for scripts."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from .scenarios.base import Scenario
from .trial import Outcome


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
    scenario: Scenario, strategy: str, at: Mapping[str, int], outcome: Outcome, console: Console
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


def outcome_answer(
    scenario: Scenario, strategy: str, at: Mapping[str, int], host: str, outcome: Outcome
) -> dict[str, Any]:
    """What ``run --json`` says."""
    return {
        "scenario": scenario.name,
        "strategy": strategy,
        "at": dict(at),
        "host": host,
        "cycles": outcome.cycles,
        "quiet": outcome.quiet,
        "events": [event.as_dict() for event in outcome.events],
        "software": [
            {"cycle": record.cycle, "cpu": record.cpu, "kind": record.kind, **record.fields}
            for record in outcome.log
        ],
    }
