"""One trial as the command line asks for it: on a host, with or without waves."""

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from . import trial
from .design import Design
from .hosts.verilated import VerilatedHost
from .scenarios import find_scenario
from .trial import Outcome, Plan, Stall


@dataclass(frozen=True)
class Request:
    """One trial, where it runs, and what to keep of it."""

    scenario: str
    strategy: str
    at: Mapping[str, int]
    host: str = "verilated"
    stalls: tuple[Stall, ...] = ()
    vcd: Path | None = None
    gtkw: Path | None = None
    png: Path | None = None


def make_plan(
    scenario: str, strategy: str, at: Mapping[str, int], stalls: Iterable[Stall] = ()
) -> Plan:
    """The trial these words stand for; simulations call it by name."""
    return find_scenario(scenario).plan(strategy, at, stalls)


def execute(request: Request) -> Outcome:
    """Run the trial and write what was asked for."""
    scenario = find_scenario(request.scenario)
    design = Design(scenario.hardware(request.strategy))
    if request.host == "verilated":
        with VerilatedHost(design) as host:
            plan = scenario.plan(request.strategy, request.at, request.stalls)
            return trial.run(plan, host)
    point = {
        "scenario": request.scenario,
        "strategy": request.strategy,
        "at": dict(request.at),
        "stalls": request.stalls,
    }
    waves = request.vcd or request.png
    with tempfile.TemporaryDirectory(prefix="irqscope-") as scratch:
        vcd = request.vcd or Path(scratch) / "trial.vcd"
        [outcome] = trial.run_under_cocotb(
            design, "sim.runs:make_plan", [point], vcd=vcd if waves else None
        )
        if request.gtkw or request.png:
            _illustrate(request, design, vcd, outcome)
    return outcome


def _illustrate(request: Request, design: Design, vcd: Path, outcome: Outcome) -> None:
    from .waves import draw_trial, write_gtkw

    scenario = find_scenario(request.scenario)
    first, last = scenario.window(request.at, outcome)
    if request.gtkw:
        write_gtkw(vcd, request.gtkw, design, first=first, last=last)
    if request.png:
        draw_trial(vcd, request.png, design, first=first, last=last, title=scenario.summary)
