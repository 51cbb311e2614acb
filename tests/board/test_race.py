"""The sequencer's sweeps are the verilated host's, trial by trial."""

import json
import sys

import pytest

from sim.cli import main
from sim.hosts.board_simulated import simulated_board
from sim.race import Racer
from sim.race.record import CompileError
from sim.scenarios import find_scenario
from sim.sweep.grid import Point
from sim.sweep.pool import Runner

from .rig import design, plugged_in

SCENARIO = find_scenario("torn-msi")


def points(strategy, injects, **others):
    return [
        Point(strategy, SCENARIO.complete(strategy, {"inject": inject} | others))
        for inject in injects
    ]


def compare(there, trials):
    """The board's results, each of which must be the verilated host's in verdicts and clocks."""
    with Racer(SCENARIO, there) as racer:
        ours = {id_of(result): result for result in racer.run(trials)}
        report = racer.report
    with Runner("torn-msi") as runner:
        for point in trials:
            theirs = runner.run(point)
            found = ours.pop(id_of(theirs))
            assert (found.verdicts, found.cycles) == (theirs.verdicts, theirs.cycles), point.at
    assert not ours
    return report


def id_of(result):
    return result.point.strategy, *sorted(result.point.at.items())


@pytest.fixture(scope="module")
def port():
    with simulated_board(design()) as name:
        yield name


@pytest.fixture
def there(port):
    with plugged_in(port) as found:
        yield found


@pytest.mark.parametrize("hotplug", [0, 1])
@pytest.mark.parametrize("strategy", ["naive", "two-step"])
def test_the_sweep_of_a_board(there, strategy, hotplug):
    report = compare(there, points(strategy, range(20, 121, 5), hotplug=hotplug))
    assert report.trials >= 21


def test_only_what_was_found_comes_back(there):
    trials = points("naive", range(30, 81, 10))
    with Racer(SCENARIO, there) as racer:
        whole = {id_of(r): r.verdicts for r in racer.run(trials)}
        short = {id_of(r): r.verdicts for r in racer.run(trials, report_all=False)}
    assert short == whole
    assert any(whole.values())
    assert not all(whole.values())


def test_latencies_and_an_order_that_pci_forbids(there):
    compare(there, points("naive", range(30, 91, 15), bus_latency=60, ordering=1))


def test_other_devices_vectors(there):
    compare(there, points("two-step", range(30, 91, 12), foreign_new=1, foreign_old=1))


def test_a_scenario_that_cannot_race(there):
    with pytest.raises(ValueError, match="first-msi has no owner to judge for"):
        Racer(find_scenario("first-msi"), there)


def test_a_function_that_the_board_does_not_have(there):
    with (
        Racer(SCENARIO, there) as racer,
        pytest.raises(CompileError, match="no input endpoint_1_vector that can be set"),
    ):
        racer.run(points("mask", [30]))


def test_the_commands(port, monkeypatch, capsys, tmp_path):
    answers = {}
    for host in (["board", "--port", port], ["verilated", "--jobs", "1"]):
        words = ["sweep", "torn-msi", "--strategy", "naive", "--grid", "inject=30:70:20"]
        words += ["--host", *host, "--json", "-"]
        monkeypatch.setattr(sys, "argv", ["irqscope", *words])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 0
        answers[host[0]] = json.loads(capsys.readouterr().out)
    assert answers["board"]["host"] == "board"
    ours, theirs = (answers[host]["strategies"][0] for host in ("board", "verilated"))
    assert ours["verdicts"] == theirs["verdicts"]
    assert ours["verdicts"]["lost"]
    assert ours["smallest_counterexample"]["at"] == theirs["smallest_counterexample"]["at"]


@pytest.mark.slow
@pytest.mark.parametrize("hotplug", [0, 1])
@pytest.mark.parametrize("strategy", ["naive", "two-step"])
def test_every_clock_of_the_move(there, strategy, hotplug):
    compare(there, points(strategy, range(241), hotplug=hotplug))
