"""What is built is what is simulated: the netlist of an iCE40 comes to the same verdicts."""

import pytest

from sim.race import Racer
from sim.sweep.pool import Runner
from sim.synth.netlist import Netlist

from .rig import board
from .test_race import SCENARIO, points


@pytest.mark.slow
def test_the_netlist_races_as_the_design_does():
    trials = [
        *points("naive", range(30, 81, 10)),
        *points("two-step", range(30, 81, 10)),
        *points("naive", range(30, 81, 10), hotplug=0),
    ]
    with board(Netlist) as there, Racer(SCENARIO, there) as racer:
        found = racer.run(trials)
    with Runner("torn-msi") as runner:
        wanted = {str(r.point): (r.verdicts, r.cycles) for r in map(runner.run, trials)}
    assert {str(r.point): (r.verdicts, r.cycles) for r in found} == wanted
    assert any(result.verdicts for result in found)
