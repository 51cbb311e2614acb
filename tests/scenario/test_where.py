"""The same trials elsewhere: under cocotb, on a cluster. The results are the same."""

import random
import sys

import pytest

from sim.scenarios import find_scenario
from sim.sweep import Point, executor, parse_grid, points, run_points
from sim.sweep.cluster import run_on_cluster
from sim.sweep.explore import extended
from sim.sweep.pool import Runner
from sim.toolchain import ToolError

from ..unit.test_sweep import OWN, stopped_by_ctrl_c

TORN = find_scenario("torn-msi")
NAMES = ["naive", "two-step-under-lock"]


@pytest.fixture(scope="module")
def wanted():
    grid = parse_grid(TORN, ["default", "inject=60:80:20", "foreign_new=0:1"])
    return points(NAMES, grid)


@pytest.fixture(scope="module")
def expected(wanted):
    with Runner("torn-msi") as runner:
        results = list(runner.run_all(wanted))
        results += runner.run_all(extended(results[2:3], (30,))[::31])
    assert len({result.verdicts for result in results}) > 2
    return results


@pytest.fixture
def own(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(OWN)
    return lambda name: f"{file}:{name}"


def by_point(results):
    return {(r.point.strategy, *r.point.at.values(), r.point.stalls): r for r in results}


def test_under_cocotb_every_trial_comes_to_the_same(expected):
    wanted = [result.point for result in expected]
    execute = executor(TORN, NAMES, 1, "cocotb")
    assert by_point(execute("torn-msi", wanted)) == by_point(expected)


def scattered(scenario, count, seed):
    """Trials of its full grid, of any strategies; in the last one a CPU stalls, if it does any."""
    chance = random.Random(seed)
    found = []
    for _ in range(count):
        strategy = chance.choice(list(scenario.strategies))
        block = chance.choice(scenario.grids["full"])
        at = {name: chance.choice(values) for name, values in block.items()}
        found.append(Point(strategy, scenario.complete(strategy, at)))
    with Runner(scenario.name) as runner:
        [last] = runner.run_all(found[-1:])
        return [*found[:-1], chance.choice(extended([last], (60,)) or found[-1:])]


@pytest.mark.parametrize(
    "name", ["fasteoi-migration", "intx-refcount", "vfio-direct-eoi", "shared-pmu", "rogue-msi"]
)
def test_under_cocotb_any_trial_comes_to_the_same(name):
    """Verdicts, clocks, the course of the software, and the figures."""
    scenario = find_scenario(name)
    wanted = scattered(scenario, 4, name)
    names = list(dict.fromkeys(point.strategy for point in wanted))
    here, there = (
        by_point(executor(scenario, names, 1, host)(name, wanted))
        for host in ("verilated", "cocotb")
    )
    assert here == there
    assert not any(result.error for result in here.values())


def test_under_cocotb_a_trial_that_dies_costs_nothing_else(own, expected):
    at = expected[0].point.at
    wanted = [Point(own(name), at) for name in ("Raises", "Dies")] + [expected[0].point]
    raises, dies, fine = run_points("torn-msi", wanted, 1, "cocotb")
    assert "no such thing" in raises.error
    assert dies.error == "the simulation ended with status 7"
    assert fine == expected[0]


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        yield cluster


def test_on_a_cluster_every_trial_comes_to_the_same(cluster, expected):
    wanted = [result.point for result in expected]
    assert by_point(run_on_cluster("torn-msi", wanted, cluster.scheduler_address)) == by_point(
        expected
    )


def test_a_cluster_that_is_not_there_is_one_line(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("sim.sweep.cluster.PATIENCE", 1)
    with pytest.raises(ToolError, match=r"no dask scheduler answers at tcp://127\.0\.0\.1:9: "):
        list(run_on_cluster("torn-msi", [], "tcp://127.0.0.1:9"))


def test_without_the_extra_it_is_one_line_that_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ToolError, match=r"pip install 'irqscope\[dask\]'$"):
        list(run_on_cluster("torn-msi", [], "tcp://127.0.0.1:9"))


@pytest.mark.parametrize("place", ["cocotb", "cluster"])
def test_ctrl_c_keeps_what_was_done(place, own, tmp_path, request):
    out, notes = tmp_path / "out", tmp_path / "own.notes"
    arguments = ["torn-msi", "--strategy", own("Notes"), "--grid", "full", "--out", str(out)]
    if place == "cocotb":
        arguments += ["--host", "cocotb", "--jobs", "1"]
    else:
        address = request.getfixturevalue("cluster").scheduler_address
        arguments += ["--executor", "dask", "--scheduler", address]
    stopped_by_ctrl_c(arguments, out, notes, 40)
