"""rogue-msi, net for net: the ITS is told who wrote, and has no such event for it."""

from sim.design import Design
from sim.scenarios import find_scenario
from sim.scenarios.rogue_msi import BOOT
from sim.trial import run_under_cocotb

NETS = [
    "tap.endpoint0_event.valid",
    "tap.posted.valid",
    "tap.posted.address",
    "tap.posted.data",
    "tap.posted.id",
    "tap.gic_its.valid",
    "tap.gic_its.kind",
    "tap.gic_its.id",
    "tap.gic_its.address",
    "tap.gic_its.data",
    "tap.gic_lpi0.valid",
    "tap.gic_lpi1.valid",
    "tap.gic_lpi2.valid",
    "cpu_0_irq",
    "cpu_1_irq",
    "cpu_2_irq",
]


def test_a_forged_event_is_dropped(golden, tmp_path):
    """EventID 2 is one that the function's neighbour has, and it has not."""
    scenario = find_scenario("rogue-msi")
    design = Design(scenario.hardware("its"))
    vcd = tmp_path / "rogue-msi.vcd"
    at = {"address": 0x40, "data": 2}
    point = {"scenario": scenario.name, "strategy": "its", "at": at}
    [outcome] = run_under_cocotb(design, "sim.runs:make_plan", [point], vcd=vcd)
    assert not scenario.judge("its", at, outcome)
    golden.check("rogue-msi", vcd, design, NETS, first=BOOT, last=BOOT + 160)
