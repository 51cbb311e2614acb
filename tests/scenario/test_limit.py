"""A trial whose software never gives the interpreter back costs its time limit, and no more."""

import asyncio
import time

import pytest

from sim.scenarios import find_scenario
from sim.sweep import Point, run_points
from sim.sweep.pool import limited
from sim.sweep.simulated import ChildError, in_child

TORN = find_scenario("torn-msi")
LOOPS = """
import time
from pathlib import Path
from firmware_model.strategies.torn_msi import Naive

class Loops(Naive):
    name = "loops"
    summary = "never ends"
    claims_correct = True

    async def update(self, cpu, move):
        while True:
            pass

class LoopsOnce(Loops):
    name = "loops-once"

    async def update(self, cpu, move):
        mark = Path(__file__).with_suffix(".looped")
        if not mark.exists():
            mark.touch()
            await super().update(cpu, move)
        await Naive.update(self, cpu, move)

class LoopsAtBoot(Naive):
    name = "loops-at-boot"
    summary = "never begins"
    claims_correct = True

    def __init__(self):
        while True:
            time.sleep(1)
"""


@pytest.fixture
def own(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(LOOPS)
    return lambda name: f"{file}:{name}"


@pytest.fixture(scope="module")
def fine():
    """A trial, what becomes of it, and that its machine is there."""
    point = Point("naive", TORN.complete("naive", {}))
    [result] = run_points("torn-msi", [point], 1)
    assert not result.error
    return result


@pytest.mark.parametrize("name", ["Loops", "LoopsAtBoot"])
def test_a_trial_that_never_ends_is_stopped_twice_and_reported(own, fine, name):
    wanted = [Point(own(name), fine.point.at), fine.point]
    begin = time.monotonic()
    found = {r.point.strategy: r for r in run_points("torn-msi", wanted, 1, seconds=1.5)}
    assert 3 < time.monotonic() - begin < 60
    assert found[own(name)].error == "the trial took more than 1.5 s, 2 times"
    assert found["naive"] == fine


def test_a_trial_that_takes_long_once_is_run_again(own, fine):
    [result] = run_points("torn-msi", [Point(own("LoopsOnce"), fine.point.at)], 1, seconds=1.5)
    assert not result.error
    assert result.verdicts == fine.verdicts


def test_a_simulation_is_stopped_too():
    async def loop():
        with limited(0.5):
            while True:
                pass

    with pytest.raises(ChildError, match=r"^the trial took more than 0\.5 s$"):
        asyncio.run(in_child(loop, 0.5))


def test_what_is_done_in_time_goes_on(fine):
    with limited(0.1):
        pass
    time.sleep(0.2)
    with limited(None):
        time.sleep(0.01)
