"""Trials on other machines: a dask.distributed cluster.

Every worker needs irqscope installed, and compiles the gateware when it is first asked. A strategy
of the user's own must be a file that the workers find under the same name.
"""

import logging
import threading
from collections.abc import Generator, Sequence

from ..toolchain import ToolError
from .grid import Point
from .pool import ATTEMPTS, BATCH, Result, Runner

_here = threading.local()
PATIENCE = 20
"""Seconds to wait for the scheduler."""
AHEAD = 2
"""Batches that a thread of the cluster has been given at any time."""


def run_batch(scenario: str, points: Sequence[Point]) -> list[Result]:
    """On a worker: the results of some trials. Each thread keeps its machines."""
    runners = vars(_here).setdefault("runners", {})
    if scenario not in runners:
        runners[scenario] = Runner(scenario)
    return list(runners[scenario].run_all(points))


def run_on_cluster(scenario: str, points: Sequence[Point], scheduler: str) -> Generator[Result]:
    """The result of every point, as they come. Closing the iterator cancels the rest.

    Trials whose worker died are tried again one by one; one that kills its worker once more is
    reported.

    Raises
    ------
    ToolError
        If dask.distributed is not installed, or nothing answers at ``scheduler``.
    """
    try:
        from distributed import Client, KilledWorker, as_completed
    except ImportError:
        raise ToolError(
            "--executor dask needs dask.distributed: pip install 'irqscope[dask]'"
        ) from None
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # it tells us by exceptions
    try:
        client = Client(scheduler, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as problem:
        raise ToolError(f"no dask scheduler answers at {scheduler}: {problem}") from None
    batches = {}
    try:
        tried: dict[int, int] = {}

        def submit(numbers: Sequence[int]):
            work = [points[number] for number in numbers]
            future = client.submit(run_batch, scenario, work, pure=False)
            batches[future.key] = numbers
            return future

        todo = range(len(points))
        waiting = iter([todo[i : i + BATCH] for i in todo[::BATCH]])
        running = as_completed(loop=client.loop)

        def feed():
            """Enough for every thread to have one more at hand: the rest can still be stopped."""
            enough = AHEAD * max(1, sum(client.nthreads().values()))
            while len(batches) < enough and (numbers := next(waiting, None)):
                running.add(submit(numbers))

        feed()
        for future in running:
            numbers = batches.pop(future.key)
            error = future.exception()
            if error is None:
                yield from future.result()
            elif not isinstance(error, KilledWorker):
                raise ToolError(f"a worker of the cluster failed: {error}")
            else:
                for number in numbers:
                    tried[number] = tried.get(number, 0) + (len(numbers) == 1)
                    if tried[number] < ATTEMPTS:
                        running.add(submit([number]))
                    else:
                        text = f"its worker died, {ATTEMPTS} times"
                        yield Result(points[number], error=text)
            feed()
    finally:
        client.close(timeout=1)
