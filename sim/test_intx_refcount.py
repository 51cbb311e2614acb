"""An INTx line whose mapping is gone, and one whose mapping is counted, net for net."""

import pytest

from sim.design import Design
from sim.scenarios import find_scenario
from sim.scenarios.intx_refcount import START
from sim.trial import run_under_cocotb

NETS = [
    "endpoint_0_unplug",
    "tap.endpoint1_event.valid",
    "tap.posted.valid",
    "tap.posted.kind",
    "tap.gic_wires.valid",
    "tap.gic_wires.data",
    "cpu_0_irq",
    "tap.gic_cpu0.valid",
    "tap.gic_cpu0.kind",
    "tap.gic_cpu0.id",
    "probe_cpu_0.context",
    "probe_cpu_0.irq",
    "probe_cpu_0.mark",
    "probe_cpu_1.context",
    "probe_cpu_1.irq",
]
AFTER = {"unplug": 300, "assert": 90}
"""Function 0 has been removed when function 1 has its event."""
AT_ONCE = {"unplug": 20, "assert": 90, "parallel": 1, "order": 1}
"""Both have been probed at the same time, and function 0 is about to be removed."""


@pytest.mark.parametrize(
    ("strategy", "at", "first", "verdicts"),
    [
        # Taken over and over, and nobody's: every 16 clocks until the function is silenced.
        ("dispose-always", AFTER, 325, {"lost", "misdirected", "spurious", "storm"}),
        # Served by the handler that is left.
        ("arch-count", AFTER, 325, set()),
        # The line has gone to the other function's irq: its handler runs, once, in vain.
        ("create-race", AT_ONCE, 95, {"lost", "misdirected", "spurious"}),
        # One irq, two handlers.
        ("create-locked", AT_ONCE, 95, set()),
    ],
)
def test_function_1_has_an_event(golden, tmp_path, strategy, at, first, verdicts):
    scenario = find_scenario("intx-refcount")
    design = Design(scenario.config)
    vcd = tmp_path / "intx.vcd"
    at = scenario.complete(strategy, at)
    point = {"scenario": scenario.name, "strategy": strategy, "at": at}
    [outcome] = run_under_cocotb(design, "sim.runs:make_plan", [point], vcd=vcd)
    assert scenario.judge(strategy, at, outcome) == verdicts
    begin = START + first
    golden.check(f"intx-refcount-{strategy}", vcd, design, NETS, first=begin, last=begin + 165)
