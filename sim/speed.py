"""How fast each host runs the same trials: ratios in one run, for machines differ.

The verilated host does it as a sweep does: it boots once, and every trial starts from a copy.
Clocks are those of the trials, with those in which nothing changes, which the verilated host skips:
``of_raw_loop`` compares it with the bare hardware, clocked as often.
"""

import os
import platform
import shutil
import time
from contextlib import closing
from typing import Any

from rich.console import Console
from rich.table import Table

from .boot import Machinery
from .design import Design
from .hosts.cocotb import CocotbHost, run_in_simulator
from .hosts.verilated import VerilatedHost
from .runs import make_plan
from .scenarios import find_scenario
from .trial import run_async

SCENARIO, STRATEGY = "torn-msi", "two-step"
TRIALS = {"verilated": 400, "cocotb_verilator": 40, "cocotb_icarus": 10}
RAW_CYCLES = 400_000


def _points(trials: int) -> list[dict[str, int]]:
    injections = find_scenario(SCENARIO).grids["full"][0]["inject"]
    return [{"inject": injections[i * 7 % len(injections)]} for i in range(trials)]


async def time_under_cocotb(host: CocotbHost, trials: int) -> tuple[int, float]:
    """Inside a simulation: (clocks, seconds) of ``trials`` trials, one after the other."""
    cycles = 0
    begin = time.perf_counter()
    for at in _points(trials):
        cycles += (await run_async(make_plan(SCENARIO, STRATEGY, at), host)).cycles
        host.forget_records()
    return cycles, time.perf_counter() - begin


def _time_verilated(design: Design, trials: int) -> tuple[int, float]:
    scenario = find_scenario(SCENARIO)
    with closing(Machinery(design)) as machinery:
        begin = time.perf_counter()
        cycles = scenario.boot_clocks
        for at in _points(trials):
            cycles += machinery.run(scenario, STRATEGY, at).cycles - scenario.boot_clocks
        return cycles, time.perf_counter() - begin


def _time_raw(design: Design, cycles: int) -> float:
    with VerilatedHost(design) as host:
        host.spin(cycles // 10)
        begin = time.perf_counter()
        host.spin(cycles)
        return time.perf_counter() - begin


def measure(*, quick: bool = False) -> dict[str, Any]:
    """Run the same trials everywhere; see ``bench --json``. Builds are not counted."""
    share = 10 if quick else 1
    design = Design(find_scenario(SCENARIO).hardware(STRATEGY))
    trials = {name: max(count // share, 2) for name, count in TRIALS.items()}
    times = {"verilated": _time_verilated(design, trials["verilated"])}
    for simulator in ("verilator", "icarus"):
        if simulator == "icarus" and not shutil.which("iverilog"):
            continue
        name = f"cocotb_{simulator}"
        arguments = {"trials": trials[name]}
        times[name] = run_in_simulator(
            design, "sim.speed:time_under_cocotb", arguments, simulator=simulator
        )
    raw = RAW_CYCLES // share
    raw_speed = raw / _time_raw(design, raw)
    speeds = {name: cycles / seconds for name, (cycles, seconds) in times.items()}
    return {
        "trials_per_second": {
            name: trials[name] / times[name][1] if name in times else None for name in TRIALS
        },
        "cycles_per_second": {name: speeds.get(name) for name in TRIALS} | {"raw_loop": raw_speed},
        "of_raw_loop": speeds["verilated"] / raw_speed,
        "machine": {
            "processors": os.cpu_count(),
            "architecture": platform.machine(),
            "python": platform.python_version(),
        },
    }


def print_speeds(speeds: dict[str, Any], console: Console) -> None:
    """One row a host, with its ratio to the fastest."""
    table = Table(title="The same trials on every host", title_justify="left")
    for heading in ("host", "trials/s", "clocks/s", "of the raw loop"):
        table.add_column(heading, justify="left" if heading == "host" else "right")
    raw = speeds["cycles_per_second"]["raw_loop"]
    for name, cycles in speeds["cycles_per_second"].items():
        trials = speeds["trials_per_second"].get(name)
        table.add_row(
            name.replace("_", " "),
            f"{trials:,.1f}" if trials else "",
            f"{cycles:,.0f}" if cycles else "not installed",
            f"{cycles / raw:.1%}" if cycles else "",
        )
    console.print(table)
