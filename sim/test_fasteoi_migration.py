"""fasteoi-migration, net for net: an LPI that comes while its handler runs, and what becomes of it.

A picture begins with the second event, or, if what happens then is in another one, with the end of
the handler on the CPU that the interrupt has left. A lane's mark counts its handlers' starts.
"""

import pytest

from sim.scenarios.fasteoi_migration import BOOT

CPUS = [
    "cpu_0_irq",
    "cpu_1_irq",
    "probe_cpu_0.context",
    "probe_cpu_0.state",
    "probe_cpu_0.mark",
    "probe_cpu_1.context",
    "probe_cpu_1.state",
    "probe_cpu_1.mark",
]
GIC = [
    "tap.endpoint0_event.valid",
    "tap.gic_its.valid",
    "tap.gic_its.unit",
    *(f"tap.gic_cpu{cpu}.{field}" for cpu in (0, 1) for field in ("valid", "kind", "id")),
    *CPUS,
]
APIC = [
    "tap.endpoint0_event.valid",
    *(f"tap.apic{cpu}.{field}" for cpu in (0, 1) for field in ("valid", "kind", "id")),
    "cpu_0_intr",
    "cpu_1_intr",
    *CPUS[2:],
]
RUNS = {
    "fasteoi-drop": ("drop", {}, {"lost"}, GIC, range(545, 620)),
    "fasteoi-rerun": ("rerun", {}, {"wrong_cpu"}, GIC, range(545, 800)),
    "fasteoi-eoi-in-loop": ("rerun-eoi-in-loop", {}, {"wrong_cpu", "crash"}, GIC, range(745, 1400)),
    "fasteoi-resend": ("resend", {}, set(), GIC, range(745, 1040)),
    "fasteoi-replay": (
        "resend",
        {"inject2": 450, "handler_cycles": 700, "disable_enable": 520},
        {"lost"},
        GIC,
        range(515, 900),
    ),
    "fasteoi-spi": ("spi-control", {}, set(), GIC, range(545, 830)),
    "fasteoi-edge": ("edge", {"inject2": 300}, {"wrong_cpu"}, APIC, range(295, 370)),
    "fasteoi-edge-busywait": ("edge-busywait", {"inject2": 300}, set(), APIC, range(295, 370)),
}


@pytest.mark.parametrize("name", RUNS)
def test_it_comes_while_its_handler_runs(golden_trial, name):
    strategy, at, verdicts, nets, clocks = RUNS[name]
    _, found = golden_trial(
        name,
        "fasteoi-migration",
        strategy,
        at,
        nets,
        first=BOOT + clocks.start,
        last=BOOT + clocks.stop,
    )
    assert found == verdicts
