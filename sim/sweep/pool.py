"""Trials on several processes, none of which anything depends on.

A worker is a process with a machine of its own and a pipe. It is sent a few trials at a time and
answers each at once, so when it dies, it is known which trial it died of: that one is tried once
more, and the others go to whoever is free. (The executors of the standard library give up
everything when one process dies.)
"""

import multiprocessing
import signal
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from .. import trial
from ..design import Design
from ..hosts.verilated import VerilatedHost
from ..scenarios import find_scenario
from ..toolchain import ToolError
from .grid import Point

BATCH = 16
"""Trials that a worker is sent at a time."""
ATTEMPTS = 2
READY = "ready"
"""A worker's first word. Whoever dies before it has no trial to blame."""


@dataclass(frozen=True)
class Result:
    """What became of one trial; ``error``: it could not be run."""

    point: Point
    verdicts: frozenset[str] = frozenset()
    cycles: int = 0
    error: str = ""


class Runner:
    """One machine; every trial starts from the same snapshot, straight out of reset."""

    def __init__(self, scenario: str):
        self.scenario = find_scenario(scenario)
        self.host = VerilatedHost(Design(self.scenario.config))
        self._fresh = self.host.snapshot()

    def outcome(self, point: Point) -> trial.Outcome:
        self.host.restore(self._fresh)
        return trial.run(self.scenario.plan(point.strategy, point.at), self.host)

    def run(self, point: Point) -> Result:
        """An exception of the software is the result of its trial."""
        try:
            outcome = self.outcome(point)
            verdicts = self.scenario.judge(point.strategy, point.at, outcome)
        except Exception as error:
            return Result(point, error=f"{type(error).__name__}: {error}")
        return Result(point, verdicts, outcome.cycles)


def _work(scenario: str, pipe: Connection) -> None:
    """The life of a worker. It ends with the pipe."""
    runner = Runner(scenario)
    pipe.send(READY)
    with suppress(EOFError, ConnectionError):
        while True:
            for point in pipe.recv():
                pipe.send(runner.run(point))


class _Worker:
    """A process seen from outside."""

    def __init__(self, scenario: str):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(
            target=_work, args=(scenario, theirs), daemon=True
        )
        # Ctrl-C is for the parent alone. The child inherits what is blocked, from its first moment;
        # the start of the resource tracker, which comes with the first child, would unblock it.
        resource_tracker.ensure_running()
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        theirs.close()
        self.ready = False
        self.waiting: deque[int] = deque()

    def give(self, numbers: Sequence[int], points: Sequence[Point]) -> None:
        self.waiting.extend(numbers)
        with suppress(ConnectionError):  # it is dead: its end of the pipe tells soon
            self.pipe.send([points[number] for number in numbers])

    def end(self) -> str:
        """Stop it, if it runs; how it ended."""
        self.pipe.close()
        self.process.join(timeout=0.2)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        return f"the process ended with status {self.process.exitcode}"


def run_points(scenario: str, points: Sequence[Point], jobs: int) -> Generator[Result]:
    """The result of every point, as they come; ``jobs`` processes.

    Closing the iterator ends the processes.

    Raises
    ------
    ToolError
        If a process ends before it has its machine.
    """
    todo = deque(range(len(points)))
    died: dict[int, int] = {}
    workers: list[_Worker] = []
    try:
        while todo or any(worker.waiting for worker in workers):
            for _ in range(min(jobs - len(workers), len(todo))):
                workers.append(_Worker(scenario))
            for worker in workers:
                if todo and not worker.waiting:
                    size = min(BATCH, -(-len(todo) // jobs))
                    worker.give([todo.popleft() for _ in range(size)], points)
            busy = {worker.pipe: worker for worker in workers if worker.waiting}
            for pipe in wait(list(busy)):
                worker = busy[pipe]  # type: ignore[index]
                try:
                    answer = worker.pipe.recv()
                except (EOFError, OSError):
                    workers.remove(worker)
                    how = worker.end()
                    if not worker.ready:
                        raise ToolError(f"a worker of the sweep did not start: {how}") from None
                    guilty, *others = worker.waiting
                    died[guilty] = died.get(guilty, 0) + 1
                    todo.extendleft(reversed(others))
                    if died[guilty] < ATTEMPTS:
                        todo.append(guilty)
                    else:
                        yield Result(points[guilty], error=f"{how}, {ATTEMPTS} times")
                    continue
                if answer == READY:
                    worker.ready = True
                else:
                    worker.waiting.popleft()
                    yield answer
    finally:
        for worker in workers:
            worker.end()
