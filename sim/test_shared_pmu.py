"""shared-pmu, net for net: an overflow on the wrong CPU, and one between events and line."""

import pytest

from sim.design import Design
from sim.scenarios import find_scenario
from sim.scenarios.shared_pmu import BOOT
from sim.trial import run_under_cocotb

SCENARIO = find_scenario("shared-pmu")
NETS = [
    "tap.pmu0.valid",
    "tap.gic_wires.valid",
    "tap.gic_wires.data",
    "tap.gic_cpu0.valid",
    "tap.gic_cpu0.kind",
    "tap.gic_cpu0.id",
    "tap.gic_cpu1.valid",
    "tap.gic_cpu1.kind",
    "tap.gic_cpu1.id",
    "cpu_0_irq",
    "cpu_1_irq",
    "probe_cpu_0.context",
    "probe_cpu_0.irq",
    "probe_cpu_1.context",
    "probe_cpu_1.irq",
]

RUNS = {
    "shared-pmu-wrong-cpu": ("independent", {"overflow": 20, "dying": -1}, {"wrong_cpu"}),
    "shared-pmu-window": ("dmc620", {"overflow": 200, "dying": 0, "strict": 1}, {"wrong_cpu"}),
}


@pytest.mark.parametrize("name", RUNS)
def test_an_overflow_and_the_cpu_that_handles_it(golden, tmp_path, name):
    strategy, at, verdicts = RUNS[name]
    at = SCENARIO.complete(strategy, at)
    design = Design(SCENARIO.hardware(strategy))
    vcd = tmp_path / "shared-pmu.vcd"
    point = {"scenario": SCENARIO.name, "strategy": strategy, "at": at}
    [outcome] = run_under_cocotb(design, "sim.runs:make_plan", [point], vcd=vcd)
    assert SCENARIO.judge(strategy, at, outcome) == verdicts
    clock = BOOT + at["overflow"]
    golden.check(name, vcd, design, NETS, first=clock - 5, last=clock + 115)
