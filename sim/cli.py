"""The ``irqscope`` command.

Exit status: 0 the question was answered and nothing is wrong, 1 a check failed, 2 the request
was wrong. Errors are one line on stderr.
"""

import io
import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console

from .toolchain import SimulationError, ToolError

AT = "AXIS=VALUE"


class WrongRequest(click.ClickException):
    """The request itself cannot be carried out."""

    exit_code = 2


@click.group(no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """A laboratory for interrupt races: real interrupt hardware, driven clock by clock.

    \b
    Example:
      irqscope demo
    """


def _write_json(answer: Any, target: str) -> None:
    text = json.dumps(answer, indent=2) + "\n"
    if target == "-":
        sys.stdout.write(text)
    else:
        Path(target).write_text(text)


def _console(json_target: str | None) -> Console:
    """Where people read: nowhere when stdout belongs to the JSON answer."""
    return Console(quiet=json_target == "-")


def _check_target(_context: click.Context, _option: click.Parameter, target: str | None):
    """Refuse before the work what could not be written after it."""
    if target not in (None, "-"):
        path = Path(str(target))
        if path.is_dir() or not path.parent.is_dir():
            raise WrongRequest(f"--json {target}: not a file in a folder that exists")
    return target


json_option = click.option(
    "--json",
    "json_target",
    metavar="FILE",
    callback=_check_target,
    help="Write the answer as JSON; - is stdout.",
)


@cli.command("list")
@json_option
def list_(json_target: str | None) -> None:
    """Scenarios, their strategies and their axes.

    \b
    Example:
      irqscope list
    """
    from .report import print_scenarios, scenarios_answer
    from .scenarios import SCENARIOS

    print_scenarios(SCENARIOS.values(), _console(json_target))
    if json_target:
        _write_json(scenarios_answer(SCENARIOS.values()), json_target)


def _point(texts: tuple[str, ...]) -> dict[str, int]:
    point = {}
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            if not equals:
                raise ValueError
            if name in point:
                raise WrongRequest(f"--at says {name} twice: one trial has one value of it")
            point[name] = int(value, 0)
        except ValueError:
            raise WrongRequest(f"--at takes {AT} with a whole number, not {text!r}") from None
    return point


@cli.command()
@click.argument("scenario")
@click.option("--strategy", required=True, help="A name, or FILE.py:CLASS of your own.")
@click.option("--at", "point", multiple=True, metavar=AT, help="A value of an axis; repeatable.")
@click.option("--host", type=click.Choice(["cocotb", "verilated"]), default=None)
@click.option("--vcd", type=click.Path(dir_okay=False, path_type=Path), help="Keep the waveform.")
@click.option("--gtkw", type=click.Path(dir_okay=False, path_type=Path), help="Lanes for GTKWave.")
@click.option("--png", type=click.Path(dir_okay=False, path_type=Path), help="Draw the lanes.")
@json_option
def run(
    scenario: str,
    strategy: str,
    point: tuple[str, ...],
    host: str | None,
    vcd: Path | None,
    gtkw: Path | None,
    png: Path | None,
    json_target: str | None,
) -> None:
    """One trial, with its event log; waves when asked (they need the cocotb host).

    \b
    Example:
      irqscope run first-msi --strategy plain --at inject=40 --vcd msi.vcd --gtkw msi.gtkw
    """
    from .report import outcome_answer, print_outcome
    from .runs import Request, execute
    from .scenarios import find_scenario
    from .scenarios.own import absolute

    chosen = find_scenario(scenario)
    waves = bool(vcd or gtkw or png)
    host = host or ("cocotb" if waves else "verilated")
    if waves and host != "cocotb":
        raise WrongRequest("waves come from the cocotb host: leave --host out, or --host cocotb")
    if gtkw and not vcd:
        raise WrongRequest("--gtkw arranges a waveform: say where it goes with --vcd FILE")
    files = [path.resolve() for path in (vcd, gtkw, png) if path]
    if len(set(files)) < len(files):
        raise WrongRequest("--vcd, --gtkw and --png need a file each")
    strategy = absolute(strategy)
    at = chosen.complete(strategy, _point(point))
    outcome = execute(Request(chosen.name, strategy, at, host, vcd, gtkw, png))
    verdicts = chosen.judge(strategy, at, outcome)
    print_outcome(chosen, strategy, at, outcome, verdicts, _console(json_target))
    if json_target:
        _write_json(outcome_answer(chosen, strategy, at, host, outcome, verdicts), json_target)


@cli.command()
@click.argument("scenario")
@click.option(
    "--strategy",
    "strategies",
    multiple=True,
    metavar="NAME",
    help="One way to do it, or FILE.py:CLASS of your own; repeatable. Default: all.",
)
@click.option(
    "--grid",
    "words",
    multiple=True,
    metavar="GRID",
    help="quick (the default), full, AXIS=VALUE or AXIS=LO:HI[:STEP]; repeatable, later ones win.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=os.cpu_count() or 1,
    help="Processes. Default: one a processor.",
)
@click.option("--host", type=click.Choice(["verilated", "cocotb"]), default="verilated")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where results.parquet and the events of the counterexamples go.",
)
@json_option
def sweep(
    scenario: str,
    strategies: tuple[str, ...],
    words: tuple[str, ...],
    jobs: int,
    host: str,
    out: Path | None,
    json_target: str | None,
) -> None:
    """Every trial of a grid: verdicts, and the smallest counterexample of each violation.

    Exit status 1 if a strategy that claims to lose nothing was refuted, or a trial failed to run.

    \b
    Example:
      irqscope sweep torn-msi --strategy naive --strategy two-step --grid full --out results
    """
    from .report import print_sweep, sweep_progress
    from .scenarios import find_scenario
    from .scenarios.own import absolute
    from .sweep import parse_grid, points, run_sweep, write_results

    if host == "cocotb":
        raise WrongRequest("a sweep needs the verilated host; the cocotb host is for `run`")
    chosen = find_scenario(scenario)
    names = tuple(dict.fromkeys(map(absolute, strategies))) or tuple(chosen.strategies)
    labels = [chosen.label(name) for name in names]
    for label in labels:
        if labels.count(label) > 1:
            raise WrongRequest(f"two strategies are called {label!r}: name one otherwise")
    trials = points(names, parse_grid(chosen, words))
    with sweep_progress(len(trials)) as advance:
        found = run_sweep(chosen, names, trials, jobs, advance)
    if out:
        write_results(found, out)
    print_sweep(found, out, _console(json_target))
    if json_target:
        _write_json(found.answer(out), json_target)
    if found.stopped:
        done, wanted = len(found.results), found.wanted
        _fail(f"stopped after {done} of {wanted} trials; those are kept", 130)
    if found.errors:
        count = f"{len(found.errors)} of {found.wanted} trials could not be run"
        _fail(f"{count}; the first: {found.errors[0].error}", 1)
    if found.refuted:
        sys.exit(1)


@cli.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("irqscope-out"),
    show_default=True,
    help="Where the pictures and waveforms go.",
)
def demo(out: Path) -> None:
    """The tour: one interrupt through real gateware, as a table and as a picture.

    \b
    Example:
      irqscope demo --out tour
    """
    from .demo import run_demo

    run_demo(out, Console())


@cli.command()
@click.argument("vcd", type=click.Path(dir_okay=False, path_type=Path))
def wave(vcd: Path) -> None:
    """Open a waveform in GTKWave with the lanes arranged.

    \b
    Example:
      irqscope wave irqscope-out/first-msi.vcd
    """
    from .waves import open_in_gtkwave

    open_in_gtkwave(vcd)


@cli.command()
@click.option("--quick", is_flag=True, help="A tenth of the trials.")
@json_option
def bench(quick: bool, json_target: str | None) -> None:
    """Speed of every host on the same trials, as ratios in one run.

    \b
    Example:
      irqscope bench --quick --json -
    """
    from .speed import measure, print_speeds

    speeds = measure(quick=quick)
    print_speeds(speeds, _console(json_target))
    if json_target:
        _write_json(speeds, json_target)


@cli.command(context_settings={"ignore_unknown_options": True})
@click.argument("pytest_arguments", nargs=-1, type=click.UNPROCESSED)
def test(pytest_arguments: tuple[str, ...]) -> None:
    """Lint, types and the whole test suite; arguments go to pytest instead.

    \b
    Example:
      irqscope test
      irqscope test tests/unit -k bus
    """
    from .selftest import run_tests

    sys.exit(run_tests(pytest_arguments))


def main() -> NoReturn:
    """The command's entry point."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # an old terminal may lack a character
    try:
        cli(prog_name="irqscope", standalone_mode=False)
    except click.ClickException as error:
        _fail(error.format_message(), error.exit_code)
    except click.Abort:
        _fail("stopped", 130)
    except SimulationError as error:
        _fail(f"the simulation failed: {str(error).strip().splitlines()[-1]}", 2)
    except (ToolError, ValueError, OSError) as error:
        _fail(str(error), 2)
    sys.exit(0)


def _fail(message: str, status: int) -> NoReturn:
    print(f"irqscope: {message}", file=sys.stderr)
    sys.exit(status)
