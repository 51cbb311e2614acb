"""The tour."""

import os
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from .report import print_outcome, print_sweep, print_tour, sweep_progress
from .runs import Request, execute
from .scenarios import SCENARIOS, Scenario, find_scenario
from .sweep import (
    Counterexample,
    Point,
    Sweep,
    executor,
    parse_grid,
    points,
    run_sweep,
    write_results,
)

TORN = ("linux-6.1-recorded", "linux-5.10-recorded", "naive", "two-step", "mask")
GRID = ("inject=0:160:2", "hotplug=1")
EACH = 24
"""Trials of every strategy of every scenario in the table at the end, evenly spread."""


def run_demo(out: Path, console: Console) -> None:
    """One interrupt as it should be; the same device while its message is rewritten; everything."""
    out.mkdir(parents=True, exist_ok=True)
    console.print("Compiling the gateware (once, a minute or two) and running one interrupt …")
    pictures = [_show(Request("first-msi", "plain", {}, "cocotb"), "first-msi", out, console)]

    console.print(
        "\nNow the interrupt moves from CPU 0, which goes offline, to CPU 1. Its message is an "
        "address and a data word that change one after the other; the device fires once, at every "
        "clock around that. Five ways to do it, the first two as two kernels were recorded:"
    )
    torn = find_scenario("torn-msi")
    found = _sweep(torn, points(TORN, parse_grid(torn, GRID)))
    write_results(found, out / "torn-msi")
    print_sweep(found, out / "torn-msi", console)
    for lost in found.counterexamples("linux-6.1-recorded"):
        if lost.verdict == "lost":
            console.print("\nThe smallest loss of what Linux 6.1 was recorded to do:")
            pictures.append(_show(_replay(lost), "torn-msi-lost", out, console))

    console.print("\nEvery scenario, every strategy, a few trials each:")
    sweeps = [_sweep(scenario, _spread(scenario)) for scenario in SCENARIOS.values()]
    print_tour(sweeps, console)
    for sweep in sweeps:
        example = _telling(sweep)
        if example and sweep.scenario is not torn:
            pictures.append(
                _draw(_replay(example), f"{example.scenario.name}-{example.file_stem}", out)
            )
    console.print("\nPictures (beside each, its waveform and the lanes for GTKWave):")
    for picture in pictures:
        console.print(f"  {picture}", soft_wrap=True)


def _sweep(scenario: Scenario, trials: list[Point]) -> Sweep:
    names = list(dict.fromkeys(point.strategy for point in trials))
    execute_here = executor(scenario, names, os.cpu_count() or 1)
    with sweep_progress(len(trials), scenario.name) as advance:
        return run_sweep(scenario, names, trials, execute_here, advance)


def _spread(scenario: Scenario) -> list[Point]:
    """Some trials of the quick grid, for every strategy."""
    grid = parse_grid(scenario, ["quick"])
    trials = []
    for strategy in scenario.strategies:
        every = points([strategy], grid, scenario)
        count = min(EACH, len(every))
        trials += [every[i * len(every) // count] for i in range(count)]
    return trials


def _telling(sweep: Sweep) -> Counterexample | None:
    """The counterexample to show: of a broken claim, if there is one."""
    for name in (*sweep.refuted, *sweep.strategies):
        for example in sweep.counterexamples(name):
            return example
    return None


def _replay(example: Counterexample) -> Request:
    """The counterexample as a trial under cocotb."""
    point = example.point
    return Request(example.scenario.name, point.strategy, point.at, "cocotb", stalls=point.stalls)


def _draw(request: Request, name: str, out: Path) -> Path:
    """Waveform, lanes and picture of a trial; where the picture is."""
    vcd, gtkw, png = (out / f"{name}.{suffix}" for suffix in ("vcd", "gtkw", "png"))
    execute(replace(request, vcd=vcd, gtkw=gtkw, png=png))
    return png


def _show(request: Request, name: str, out: Path, console: Console) -> Path:
    """One trial under cocotb: its event log, its waveform, its picture."""
    scenario = find_scenario(request.scenario)
    at = scenario.complete(request.strategy, request.at)
    vcd, gtkw, png = files = [out / f"{name}.{suffix}" for suffix in ("vcd", "gtkw", "png")]
    outcome = execute(replace(request, at=at, vcd=vcd, gtkw=gtkw, png=png))
    verdicts = scenario.judge(request.strategy, at, outcome)
    print_outcome(scenario, request.strategy, at, outcome, verdicts, console)
    console.print("The same as waves and as a picture:")
    for path in files:
        console.print(f"  {path}")
    return png
