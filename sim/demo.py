"""The tour."""

import os
from pathlib import Path

from rich.console import Console

from .report import print_outcome, print_sweep, sweep_progress
from .runs import Request, execute
from .scenarios import find_scenario
from .sweep import Sweep, parse_grid, points, run_sweep, write_results

TORN = ("linux-6.1-recorded", "linux-5.10-recorded", "naive", "two-step", "mask")
GRID = ("inject=0:160:2", "hotplug=1")


def run_demo(out: Path, console: Console) -> None:
    """One interrupt as it should be, then the same device while its message is rewritten."""
    out.mkdir(parents=True, exist_ok=True)
    console.print("Compiling the gateware (once, a minute or two) and running one interrupt …")
    _show(Request("first-msi", "plain", {}, "cocotb"), out, console)

    console.print(
        "\nNow the interrupt moves from CPU 0, which goes offline, to CPU 1. Its message is an "
        "address and a data word that change one after the other; the device fires once, at every "
        "clock around that. Five ways to do it:"
    )
    found = _sweep(out / "torn-msi", console)
    for lost in found.counterexamples("linux-6.1-recorded"):
        if lost.verdict == "lost":
            console.print("\nThe smallest loss of what Linux 6.1 was recorded to do:")
            _show(Request("torn-msi", lost.point.strategy, lost.point.at, "cocotb"), out, console)


def _sweep(folder: Path, console: Console) -> Sweep:
    scenario = find_scenario("torn-msi")
    trials = points(TORN, parse_grid(scenario, GRID))
    with sweep_progress(len(trials)) as advance:
        found = run_sweep(scenario, TORN, trials, os.cpu_count() or 1, advance)
    write_results(found, folder)
    print_sweep(found, folder, console)
    return found


def _show(request: Request, out: Path, console: Console) -> None:
    """One trial under cocotb: its event log, its waveform, its picture."""
    scenario = find_scenario(request.scenario)
    at = scenario.complete(request.strategy, request.at)
    name = request.scenario if request.strategy == "plain" else f"{request.scenario}-lost"
    files = {suffix: out / f"{name}.{suffix}" for suffix in ("vcd", "gtkw", "png")}
    outcome = execute(Request(request.scenario, request.strategy, at, request.host, **files))
    verdicts = scenario.judge(request.strategy, at, outcome)
    print_outcome(scenario, request.strategy, at, outcome, verdicts, console)
    console.print("The same as waves and as a picture:")
    for path in files.values():
        console.print(f"  {path}")
