"""Every verdict is earned by the software of some strategy, on the gateware."""

import pytest

from sim.scenarios import find_scenario
from sim.sweep import Point
from sim.sweep.pool import Runner
from sim.verdict import VERDICTS

EARNED = {
    "lost": ("fasteoi-migration", "drop", {}),
    "misdirected": ("torn-msi", "naive", {"inject": 60}),
    "spurious": ("vfio-direct-eoi", "disable-irq-lazy", {"reassert": 140, "guest_delay": 60}),
    "duplicate": ("vfio-direct-eoi", "direct-eoi-shared", {"co_inject": 150, "guest_delay": 1000}),
    "wrong_cpu": ("shared-pmu", "independent", {"which": 0, "dying": -1}),
    "overlap": ("fasteoi-migration", "ungated", {}),
    "starved": ("vfio-direct-eoi", "direct-eoi-shared", {"co_inject": 150, "guest_delay": 1000}),
    "storm": ("intx-refcount", "dispose-always", {}),
    "crash": ("intx-refcount", "kobject-count", {}),
}


@pytest.mark.parametrize("verdict", VERDICTS)
def test_a_strategy_earns_it(verdict):
    name, strategy, at = EARNED[verdict]
    scenario = find_scenario(name)
    with Runner(name) as runner:
        result = runner.run(Point(strategy, scenario.complete(strategy, at)))
    assert not result.error
    assert verdict in result.verdicts
