"""The tour."""

from pathlib import Path

from rich.console import Console

from .report import print_outcome
from .runs import Request, execute
from .scenarios import find_scenario

SCENARIO, STRATEGY = "first-msi", "plain"


def run_demo(out: Path, console: Console) -> None:
    """One interrupt from device to handler: its event log, its waveform, its picture."""
    scenario = find_scenario(SCENARIO)
    at = scenario.complete(STRATEGY, {})
    files = {suffix: out / f"{SCENARIO}.{suffix}" for suffix in ("vcd", "gtkw", "png")}
    out.mkdir(parents=True, exist_ok=True)
    console.print("Compiling the gateware (once, a few minutes) and running one interrupt …")
    outcome = execute(Request(SCENARIO, STRATEGY, at, "cocotb", **files))
    print_outcome(scenario, STRATEGY, at, outcome, console)
    console.print("The same as a picture and as waves:")
    for path in files.values():
        console.print(f"  {path}")
