"""Trials on several processes, none of which anything depends on.

A worker is a process with a machine of its own and a pipe. It is sent a few trials at a time and
answers each at once, so when it dies, it is known which trial it died of: that one is tried once
more, and the others go to whoever is free. (The executors of the standard library give up
everything when one process dies.)
"""

import gc
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pkgutil import resolve_name
from zlib import crc32

from hdl.config import SocConfig

from ..boot import Machinery
from ..design import Design
from ..scenarios import Scenario, find_scenario
from ..toolchain import ToolError
from ..trial import Outcome
from .grid import Point

BATCH = 16
"""Trials that a worker is sent at a time."""
ATTEMPTS = 2
TRIAL_SECONDS = 60.0
"""What a trial may take; usually it is some milliseconds, but software may loop for ever."""
RUNNERS = {
    "verilated": "sim.sweep.pool:Runner",
    "cocotb": "sim.sweep.simulated:SimulatedRunner",
}
"""Who runs the trials in a worker, by host."""
READY = "ready"
"""A worker's first word. Whoever dies before it has no trial to blame."""


@dataclass(frozen=True)
class Result:
    """What became of one trial; ``error``: it could not be run, or proves nothing.

    ``shape`` names the course that the software took: who did what after what, not when. ``steps``
    are those of each CPU after the boot; ``figures`` the scenario's own numbers.
    """

    point: Point
    verdicts: frozenset[str] = frozenset()
    cycles: int = 0
    error: str = ""
    shape: int = 0
    steps: tuple[range, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)


def judged(scenario: Scenario, point: Point, outcome: Outcome) -> Result:
    """What a trial came to. If tap and software differ about it, it has no verdicts."""
    differences = scenario.contradictions(point.strategy, outcome)
    if differences:
        error = f"tap and software disagree: {'; '.join(differences)}"
        return Result(point, frozenset(), outcome.cycles, error)
    verdicts = scenario.judge(point.strategy, point.at, outcome)
    told = " ".join(f"{record.cpu}{record.kind}" for record in outcome.log)
    return Result(
        point,
        verdicts,
        outcome.cycles,
        shape=crc32(told.encode()),
        steps=outcome.steps,
        figures=scenario.figures(point.strategy, point.at, outcome),
    )


@contextmanager
def limited(seconds: float | None) -> Iterator[None]:
    """Kill this process (by SIGALRM) if what is done within takes longer; None: never."""
    if seconds is None:
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def how_it_ended(what: str, status: int, seconds: float | None) -> str:
    """In words, for a process that :func:`limited` may have killed."""
    if status == -signal.SIGALRM and seconds is not None:
        return f"the trial took more than {seconds:g} s"
    return f"{what} ended with status {status}"


class Runner:
    """Machines that run the trials of one scenario, one for each hardware its strategies need.

    Use as a context manager, or :meth:`close` it.
    """

    def __init__(self, scenario: str):
        self.scenario = find_scenario(scenario)
        self._machines: dict[SocConfig, Machinery] = {}

    def prepare(self, strategies: Iterable[str]) -> None:
        """Have the machines that these strategies need."""
        for strategy in strategies:
            self._machine(strategy)

    def _machine(self, strategy: str) -> Machinery:
        config = self.scenario.hardware(strategy)
        if config not in self._machines:
            self._machines[config] = Machinery(Design(config))
        return self._machines[config]

    def outcome(self, point: Point) -> Outcome:
        machine = self._machine(point.strategy)
        return machine.run(self.scenario, point.strategy, point.at, point.stalls)

    def run(self, point: Point) -> Result:
        """The trial, judged; what goes wrong in that is its result."""
        try:
            return judged(self.scenario, point, self.outcome(point))
        except Exception as error:
            return Result(point, error=f"{type(error).__name__}: {error}")

    def run_all(self, points: Iterable[Point], seconds: float | None = None) -> Iterator[Result]:
        """The results, in order, each as soon as it is there.

        A trial that takes more than ``seconds`` ends this process; machines are made before.
        """
        for point in points:
            with suppress(Exception):  # the trial says it
                self.prepare([point.strategy])
            with limited(seconds):
                result = self.run(point)
            yield result

    def close(self) -> None:
        """Free the machines."""
        for machine in self._machines.values():
            machine.close()
        self._machines.clear()

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _work(runner_class: str, scenario: str, pipe: Connection, seconds: float) -> None:
    """The life of a worker. It ends with the pipe."""
    os.setpgid(0, 0)  # so that all it starts ends with it
    runner = resolve_name(runner_class)(scenario)
    pipe.send(READY)
    gc.freeze()  # what is there by now stays: collections need not look at it
    with suppress(EOFError, ConnectionError):
        while True:
            for result in runner.run_all(pipe.recv(), seconds):
                pipe.send(result)


class _Worker:
    """A process seen from outside."""

    def __init__(self, runner: str, scenario: str, seconds: float):
        self.seconds = seconds
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(
            target=_work, args=(runner, scenario, theirs, seconds), daemon=True
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

    def end(self, patience: float = 0.2) -> str:
        """Stop it, if it still runs after ``patience`` seconds; how it ended."""
        self.pipe.close()
        self.process.join(timeout=patience)
        if self.process.is_alive():
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)  # type: ignore[arg-type]
            self.process.kill()
            self.process.join()
        return how_it_ended("the process", self.process.exitcode or 0, self.seconds)


def run_points(
    scenario: str,
    points: Sequence[Point],
    jobs: int,
    host: str = "verilated",
    seconds: float = TRIAL_SECONDS,
) -> Generator[Result]:
    """The result of every point, as they come; ``jobs`` processes. ``host``: of :data:`RUNNERS`.

    A trial whose process dies, or that takes more than ``seconds``, is tried once more. Closing the
    iterator ends the processes.

    Raises
    ------
    ToolError
        If processes end before they have their machines.
    """
    todo = deque(range(len(points)))
    died: dict[int, int] = {}
    workers: list[_Worker] = []
    stillborn = 0
    try:
        while todo or any(worker.waiting for worker in workers):
            for _ in range(min(jobs - len(workers), len(todo))):
                workers.append(_Worker(RUNNERS[host], scenario, seconds))
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
                    how = worker.end(patience=10)  # it is ending by itself
                    if not worker.ready:
                        stillborn += 1
                        if stillborn == ATTEMPTS:
                            raise ToolError(f"a worker of the sweep did not start: {how}") from None
                        todo.extendleft(reversed(worker.waiting))
                        continue
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
                    stillborn = 0
                else:
                    worker.waiting.popleft()
                    yield answer
    finally:
        for worker in workers:
            worker.end()
