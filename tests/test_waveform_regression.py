"""A gateware that is broken on purpose: the regression must notice, and say where."""

import pytest

from sim.design import Design
from sim.scenarios import find_scenario
from sim.test_first_msi import NETS
from sim.trial import run_under_cocotb
from sim.waves import GoldenMismatchError, Goldens


def test_a_line_that_is_a_clock_late_is_found(tmp_path):
    config = find_scenario("first-msi").config
    design = Design(config, factory="tests.mutants:late_line")
    vcd = tmp_path / "late.vcd"
    point = {"scenario": "first-msi", "strategy": "plain", "at": {"inject": 40}}
    run_under_cocotb(design, "sim.runs:make_plan", [point], vcd=vcd)

    with pytest.raises(GoldenMismatchError) as failure:
        Goldens(out=tmp_path / "out").check("first-msi", vcd, design, NETS, first=430, last=500)
    difference = failure.value.difference
    assert (difference.net, difference.cycle) == ("cpu_1_intr", 453)
    assert (difference.expected, difference.seen) == (1, 0)
    assert str(difference) in str(failure.value)
    for name in ("expected.vcd", "seen.vcd", "comparison.gtkw"):
        assert list(tmp_path.glob(f"out/**/{name}")), f"{name} was not left behind"
