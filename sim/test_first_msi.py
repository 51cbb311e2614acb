"""One MSI, net for net: the waveform that everything else starts from."""

from sim.design import Design
from sim.scenarios import find_scenario
from sim.trial import run_under_cocotb

NETS = [
    "tap.config.valid",
    "tap.endpoint0_event.valid",
    "tap.posted.valid",
    "tap.posted.address",
    "tap.posted.data",
    "tap.apic_bus.valid",
    "tap.apic1.valid",
    "tap.apic1.kind",
    "cpu_0_intr",
    "cpu_1_intr",
    "cpu_1_port_request_valid",
    "cpu_1_port_response_valid",
    "probe_cpu_1.context",
    "probe_cpu_1.irqs_off",
]


def test_the_way_of_one_message(golden, tmp_path):
    scenario = find_scenario("first-msi")
    design = Design(scenario.config)
    vcd = tmp_path / "first-msi.vcd"
    point = {"scenario": scenario.name, "strategy": "plain", "at": {"inject": 40}}
    [outcome] = run_under_cocotb(design, "sim.runs:make_plan", [point], vcd=vcd)
    assert outcome.quiet
    golden.check("first-msi", vcd, design, NETS, first=430, last=500)
