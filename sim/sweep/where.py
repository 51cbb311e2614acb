"""Where the trials of a sweep run."""

from collections.abc import Generator, Iterable, Sequence

from ..design import Design
from ..hosts.cocotb import model_folder
from ..scenarios import Scenario
from .cluster import run_on_cluster
from .grid import Point
from .pool import TRIAL_SECONDS, Result, Runner, run_points
from .results import Execute


def executor(
    scenario: Scenario,
    strategies: Iterable[str],
    jobs: int,
    host: str = "verilated",
    scheduler: str | None = None,
    seconds: float = TRIAL_SECONDS,
) -> Execute:
    """Who runs the points: ``jobs`` processes here, or the cluster of a dask ``scheduler``.

    Here, a trial may take ``seconds``; a cluster has no such limit. What they need here is compiled
    first, once, before many want it.
    """
    if scheduler is not None:
        return lambda name, points: run_on_cluster(name, points, scheduler)
    if host == "cocotb":
        for config in {scenario.hardware(strategy) for strategy in strategies}:
            model_folder(Design(config), "verilator")
    else:
        with Runner(scenario.name) as runner:
            runner.prepare(strategies)

    def here(name: str, points: Sequence[Point]) -> Generator[Result]:
        return run_points(name, points, jobs, host, seconds)

    return here
