"""One trial, two hosts, one log: cycle for cycle."""

import shutil

import pytest

from sim.design import Design
from sim.hosts.verilated import VerilatedHost
from sim.scenarios.machines import X86
from sim.trial import run, run_under_cocotb

from .scripts import make

SCRIPTS = 60
DESIGN = Design(X86)


@pytest.fixture(scope="module")
def verilated():
    with VerilatedHost(DESIGN) as host:
        return [run(make(seed), host) for seed in range(SCRIPTS)]


@pytest.mark.parametrize("simulator", ["verilator", "icarus"])
def test_random_scripts_leave_the_same_log(verilated, simulator):
    if simulator == "icarus" and not shutil.which("iverilog"):
        pytest.skip("Icarus Verilog is not installed; it is optional")
    seeds = [{"seed": seed} for seed in range(SCRIPTS)]
    simulated = run_under_cocotb(
        DESIGN, "tests.differential.scripts:make", seeds, simulator=simulator
    )
    for seed, (fast, slow) in enumerate(zip(verilated, simulated, strict=True)):
        assert fast.events == slow.events, f"script {seed}: the tap differs"
        assert fast.log == slow.log, f"script {seed}: the software's log differs"
        assert (fast.cycles, fast.quiet) == (slow.cycles, slow.quiet), f"script {seed}"


def test_scripts_are_worth_comparing(verilated):
    kinds = {event.kind.name for outcome in verilated for event in outcome.events}
    assert {"PENDING_SET", "ACKNOWLEDGE", "EOI", "LINE", "BUS_ERROR", "MESSAGE_BAD"} <= kinds
    assert all(outcome.quiet for outcome in verilated)
    assert len({len(outcome.records) for outcome in verilated}) > SCRIPTS // 4
