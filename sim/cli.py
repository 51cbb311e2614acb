"""The ``irqscope`` command.

Exit status: 0 the question was answered and nothing is wrong, 1 a check failed, 2 the request
was wrong. Errors are one line on stderr.
"""

import io
import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from rich.console import Console

from .toolchain import SimulationError, ToolError

if TYPE_CHECKING:
    from .sweep import Bounds
    from .trial import Stall

AT = "AXIS=VALUE"
STALL_LENGTHS = (30, 300)
LONGEST_STALL = 1000
"""Longer than anything that software waits for."""


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


port_option = click.option("--port", metavar="DEV", help="Serial port of the board.")


def _check_port(host: str | None, port: str | None) -> None:
    if host == "board" and not port:
        raise WrongRequest("say where the board is: --port DEV, such as /dev/ttyUSB0")
    if port and host != "board":
        raise WrongRequest("--port goes with --host board")


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


def _stalls(texts: tuple[str, ...]) -> tuple["Stall", ...]:
    from .trial import Stall

    try:
        stalls = tuple(Stall(*map(int, text.split(":"))) for text in texts)
    except (ValueError, TypeError):
        raise WrongRequest(
            f"--stall takes CPU:STEP:CLOCKS, three numbers, not {' '.join(texts)!r}"
        ) from None
    if len({(stall.cpu, stall.step) for stall in stalls}) < len(stalls):
        raise WrongRequest("--stall says one step of a CPU twice: it stalls once before each")
    return stalls


@cli.command()
@click.argument("scenario")
@click.option("--strategy", required=True, help="A name, or FILE.py:CLASS of your own.")
@click.option("--at", "point", multiple=True, metavar=AT, help="A value of an axis; repeatable.")
@click.option(
    "--stall",
    "stalls",
    multiple=True,
    metavar="CPU:STEP:CLOCKS",
    help="A CPU does nothing before a step of its software, as in `sweep --explore`; repeatable.",
)
@click.option("--host", type=click.Choice(["cocotb", "verilated", "board"]), default=None)
@port_option
@click.option("--vcd", type=click.Path(dir_okay=False, path_type=Path), help="Keep the waveform.")
@click.option("--gtkw", type=click.Path(dir_okay=False, path_type=Path), help="Lanes for GTKWave.")
@click.option("--png", type=click.Path(dir_okay=False, path_type=Path), help="Draw the lanes.")
@json_option
def run(
    scenario: str,
    strategy: str,
    point: tuple[str, ...],
    stalls: tuple[str, ...],
    host: str | None,
    port: str | None,
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
    stalled = _stalls(stalls)
    request = Request(chosen.name, strategy, at, host, stalled, vcd, gtkw, png)
    _check_port(host, port)
    if port:
        from .race import run_on_board

        outcome, whole = run_on_board(chosen.plan(strategy, at, request.stalls), port)
    else:
        outcome, whole = execute(request), True
    verdicts = chosen.judge(strategy, at, outcome)
    console = _console(json_target)
    print_outcome(chosen, strategy, at, outcome, verdicts, console)
    for cpu, step, _ in stalled:
        if step not in outcome.steps[cpu]:
            came = outcome.steps[cpu]
            span = f"{came.start} to {came.stop - 1}"
            console.print(f"Nothing stalled at step {step}: CPU {cpu} took steps {span}.")
    if json_target:
        _write_json(outcome_answer(chosen, strategy, at, host, outcome, verdicts), json_target)
    differences = chosen.contradictions(strategy, outcome) if whole else []
    if differences:
        _fail(f"tap and software disagree: {'; '.join(differences)}", 1)


def _bounds(explore: bool, stalls: int | None, lengths: str | None) -> "Bounds":
    from .sweep import Bounds

    if not explore:
        if stalls or lengths is not None:
            raise WrongRequest("--stalls and --stall-lengths go with --explore")
        return Bounds()
    try:
        clocks = [*STALL_LENGTHS] if lengths is None else list(map(int, lengths.split(",")))
        if not all(1 <= length <= LONGEST_STALL for length in clocks):
            raise ValueError
    except ValueError:
        raise WrongRequest(
            f"--stall-lengths takes one or more numbers, from 1 to {LONGEST_STALL} clocks, "
            f"not {lengths!r}"
        ) from None
    return Bounds(stalls or 1, clocks)


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
    help="quick (the usual), full, default or AXIS=LO[:HI[:STEP]]; repeatable, later ones win.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=os.cpu_count() or 1,
    help="Processes. Default: one a processor.",
)
@click.option("--host", type=click.Choice(["verilated", "cocotb", "board"]), default="verilated")
@port_option
@click.option(
    "--executor",
    "where",
    type=click.Choice(["local", "dask"]),
    default="local",
    show_default=True,
    help="On this machine, or on a dask.distributed cluster.",
)
@click.option("--scheduler", metavar="ADDR", help="The cluster's scheduler, tcp://HOST:PORT.")
@click.option(
    "--trial-seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=60,
    show_default=True,
    help="A trial that takes longer is stopped, tried again once, and reported. Not on a cluster.",
)
@click.option(
    "--explore",
    is_flag=True,
    help="Have CPUs stall at every boundary of the software, too; without --grid, at the defaults.",
)
@click.option("--stalls", type=click.IntRange(1, 3), help="At most so many in a trial. Default: 1.")
@click.option(
    "--stall-lengths",
    metavar="CLOCKS,…",
    help=f"How long a CPU stalls. Default: {','.join(map(str, STALL_LENGTHS))}.",
)
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
    port: str | None,
    where: str,
    scheduler: str | None,
    trial_seconds: float,
    explore: bool,
    stalls: int | None,
    stall_lengths: str | None,
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
    from .sweep import executor, parse_grid, points, run_sweep, write_results

    if where == "dask" and not scheduler:
        raise WrongRequest("say where the dask scheduler is: --scheduler tcp://HOST:PORT")
    if where == "dask" and host != "verilated":
        raise WrongRequest("a cluster runs trials on the verilated host only")
    if scheduler and where != "dask":
        raise WrongRequest("--scheduler goes with --executor dask")
    if scheduler and not re.fullmatch(r"((tcp|tls|ucx|wss?)://)?[^/]+:\d+", scheduler):
        raise WrongRequest(f"--scheduler takes tcp://HOST:PORT, not {scheduler!r}")
    _check_port(host, port)
    if explore and port:
        raise WrongRequest("--explore needs the verilated host: a board's software never stalls")
    bounds = _bounds(explore, stalls, stall_lengths)
    chosen = find_scenario(scenario)
    names = tuple(dict.fromkeys(map(absolute, strategies))) or tuple(chosen.strategies)
    labels = [chosen.label(name) for name in names]
    for label in labels:
        if labels.count(label) > 1:
            raise WrongRequest(f"two strategies are called {label!r}: name one otherwise")
    grid = parse_grid(chosen, words or (["default"] if explore else []))
    trials = points(names, grid, chosen)
    if out:
        out.mkdir(parents=True, exist_ok=True)  # better refused now than after the work
    if port:
        from .race import sweep_on_board

        with sweep_progress(len(trials)) as advance:
            found = sweep_on_board(chosen, names, trials, port, advance)
    else:
        execute = executor(chosen, names, jobs, host, scheduler, trial_seconds)
        with sweep_progress(None if explore else len(trials)) as advance:
            found = run_sweep(chosen, names, trials, execute, advance, host=host, bounds=bounds)
    if out:
        write_results(found, out)
    print_sweep(found, out, _console(json_target))
    if json_target:
        _write_json(found.answer(out), json_target)
    if found.stopped:
        done, wanted = len(found.results), found.wanted
        _fail(f"stopped after {done} of {wanted} trials; those are kept", 130)
    if found.errors:
        count = f"{len(found.errors)} of {found.wanted} trials failed"
        _fail(f"{count}; the first: {found.errors[0].error}", 1)
    if found.refuted:
        sys.exit(1)


@cli.command("replay")
@click.argument(
    "traces",
    nargs=-1,
    required=True,
    metavar="TRACE...",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option("--host", type=click.Choice(["verilated", "cocotb"]), default="verilated")
@click.option("--limit", type=click.IntRange(min=1), help="Replay only so many lines.")
@click.option("--cpus", type=int, help="CPUs, where the recording shows fewer.")
@click.option("--spis", type=int, help="SPIs; by default what the recorded GICD_TYPER says.")
@click.option("--lpis", type=int, help="LPIs; by default those that the recording maps.")
@json_option
def replay_(
    traces: tuple[Path, ...],
    host: str,
    limit: int | None,
    cpus: int | None,
    spis: int | None,
    lpis: int | None,
    json_target: str | None,
) -> None:
    """Recorded traffic of a real kernel drives the hardware; every answer is compared.

    Several files are the parts of one recording, in order; .xz and .gz are read as they are.
    Exit status 1 if anything did not match that is not waived.

    \b
    Example:
      irqscope replay arm64_gicv3_its_2cpu.trace.xz
    """
    from .replay import TraceError, replay
    from .replay.report import print_answer, replay_progress

    wanted = {"cpus": cpus, "spis": spis, "lpis": lpis}
    sizes = {name: value for name, value in wanted.items() if value is not None}
    try:
        with replay_progress() as progress:
            answer = replay(traces, host=host, limit=limit, wanted=sizes, progress=progress)
    except TraceError as error:
        raise WrongRequest(str(error)) from None
    print_answer(answer, _console(json_target))
    if json_target:
        _write_json(answer.as_dict(), json_target)
    if answer.damage:
        _fail(answer.damage, 1 if answer.tally.mismatches else 2)
    if answer.tally.mismatches:
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
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--list", "listing", is_flag=True, help="Say what each property means.")
@click.option("--quick", is_flag=True, help="Without the proofs that take long.")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=os.cpu_count() or 1,
    help="Solvers at a time. Default: one a processor.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("irqscope-out"),
    show_default=True,
    help="Where counterexamples go, as NAME.vcd and NAME.gtkw.",
)
@json_option
def prove(
    names: tuple[str, ...],
    listing: bool,
    quick: bool,
    jobs: int,
    out: Path,
    json_target: str | None,
) -> None:
    """Properties of the gateware, proved for arbitrary inputs; NAME is a block or a property.

    Exit status 1 if a property does not hold or could not be decided.

    \b
    Example:
      irqscope prove bus distributor.active-is-silent
    """
    from .formal.campaign import solve_all
    from .formal.properties import find
    from .formal.report import entry, print_answers, print_properties
    from .report import sweep_progress

    proofs = [proof for proof in find(names) if not (quick and proof.slow)]
    console = _console(json_target)
    if listing:
        print_properties(proofs, console)
        if json_target:
            _write_json({"properties": [entry(proof) for proof in proofs]}, json_target)
        return
    with sweep_progress(len(proofs), "properties") as advance:
        answers = solve_all(proofs, jobs, advance)
    for proof, answer in answers.items():
        if answer.has_trace:
            answer.keep(out / f"{proof.name}.vcd")
    print_answers(answers, out, console)
    if json_target:
        told = [entry(proof, answer) for proof, answer in answers.items()]
        _write_json({"properties": told}, json_target)
    if any(answer.status not in ("proved", "found") for answer in answers.values()):
        sys.exit(1)


@cli.command()
@click.argument("board", required=False)
@click.option("--list", "listing", is_flag=True, help="The boards, and what is on them.")
@click.option("--flash", is_flag=True, help="Send the bitstream to the board that is plugged in.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the bitstream and the tools' logs go. Default: irqscope-out/BOARD.",
)
@json_option
def synth(
    board: str | None, listing: bool, flash: bool, out: Path | None, json_target: str | None
) -> None:
    """The bitstream of a board, what it takes, and how fast it may be clocked.

    Exit status 1 if it is too slow for the board's clock.

    \b
    Example:
      irqscope synth ulx3s-85f --flash
    """
    from hdl.boards.platforms import BOARDS, find_board

    from . import synth as maker

    console = _console(json_target)
    if listing:
        maker.print_boards(BOARDS.values(), console)
        if json_target:
            _write_json({"boards": list(BOARDS)}, json_target)
        return
    if board is None:
        raise WrongRequest(f"say which board: {', '.join(BOARDS)}")
    found = maker.synthesise(find_board(board), out or Path("irqscope-out", board))
    maker.print_figures(found, console)
    if json_target:
        _write_json(found.answer(), json_target)
    if not found.timing_met:
        slow = f"{found.fmax_mhz:.1f} MHz is less than {found.board.clock_mhz:g} MHz"
        _fail(f"{board} is too slow: {slow}; it was not flashed" if flash else slow, 1)
    if flash:
        maker.flash(found.board, found.bitstream)


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
    print(f"irqscope: {' '.join(message.splitlines())}", file=sys.stderr)
    sys.exit(status)
