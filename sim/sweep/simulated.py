"""Trials of a sweep under cocotb: one simulation for many of them.

A simulation cannot go back in time, but its process can be copied. The one at clock 0 makes a
child for every boot, and that one, booted, a child for every trial; each child writes down what its
trial came to and is gone. So trials start from the same snapshot here, too.
"""

import os
import pickle
import traceback
from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby
from typing import Any

from ..design import Design
from ..hosts.cocotb import CocotbHost, run_in_simulator
from ..scenarios import Scenario, find_scenario
from ..trial import Mark, Outcome, drive_async, outcome
from .grid import Point
from .pool import Result, how_it_ended, judged, limited


class SimulatedRunner:
    """Runs trials of one scenario under cocotb; see :class:`.pool.Runner`."""

    def __init__(self, scenario: str):
        self.scenario = find_scenario(scenario)

    def run_all(self, points: Sequence[Point], seconds: float | None = None) -> list[Result]:
        """The results, in order. A boot or a trial that takes more than ``seconds`` is killed."""
        done: list[Result] = []
        for config, group in groupby(points, lambda point: self.scenario.hardware(point.strategy)):
            job = {"scenario": self.scenario.name, "points": list(group), "seconds": seconds}
            done += run_in_simulator(Design(config), "sim.sweep.simulated:run_inside", job)
        return done


async def run_inside(
    host: CocotbHost, scenario: str, points: list[Point], seconds: float | None
) -> list[Result]:
    """Inside the simulation, at clock 0."""
    found = find_scenario(scenario)

    def boot(point: Point) -> tuple:
        return (point.strategy, *(point.at[axis] for axis in found.boot_axes))

    results: list[Result] = []
    for _, group in groupby(points, boot):
        together = list(group)
        try:
            results += await in_child(
                lambda: _boot_and_run(host, found, together, seconds),  # noqa: B023
                seconds,
            )
        except ChildError as error:
            results += [Result(point, error=str(error)) for point in together]
    return results


async def _boot_and_run(
    host: CocotbHost, scenario: Scenario, points: list[Point], seconds: float | None
) -> list[Result]:
    since = Mark.of(host)
    strategy = points[0].strategy
    system, plan = scenario.boot_plan(strategy, points[0].at)
    with limited(seconds):
        end = await drive_async(plan, host, since.cycle)
    if not end.booted:
        failed = outcome(end, host, since)
        return [judged(scenario, point, failed) for point in points]

    async def trial(point: Point) -> Outcome:
        with limited(seconds):
            second = scenario.second_part(system, strategy, point.at, point.stalls)
            return outcome(await drive_async(second, host, since.cycle), host, since)

    results = []
    for point in points:
        try:
            ran = await in_child(lambda: trial(point), seconds)  # noqa: B023
            results.append(judged(scenario, point, ran))
        except ChildError as error:
            results.append(Result(point, error=str(error)))
    return results


class ChildError(RuntimeError):
    """What a child was to do went wrong there."""


async def in_child(work: Callable[[], Awaitable[Any]], seconds: float | None) -> Any:
    """What ``work`` comes to in a copy of this process; here no time passes.

    Raises
    ------
    ChildError
        If it raises there, or the child dies; maybe as parts of it were limited to ``seconds``.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            answer: tuple[bool, Any] = True, await work()
        except BaseException as error:
            answer = False, traceback.format_exception_only(error)[-1].strip()
        with os.fdopen(writing, "wb") as pipe:
            pickle.dump(answer, pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        content = pipe.read()
    _, status = os.waitpid(child, 0)
    if not content:
        code = os.waitstatus_to_exitcode(status)
        raise ChildError(how_it_ended("the simulation", code, seconds))
    fine, value = pickle.loads(content)
    if not fine:
        raise ChildError(value)
    return value
