"""One run of software on hardware: the same loop on every host.

The software (a :class:`firmware_model.machine.machine.Machine`) knows no host, the host knows no
software. :func:`steps` stands between them and is the only place where the two meet; a host
that blocks and a host that awaits both just carry out what it yields.
"""

from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from pkgutil import resolve_name
from typing import Any

import numpy

from firmware_model.machine.machine import Machine
from firmware_model.machine.ops import ProbeState, Record

from .design import Design
from .events import Event, decode
from .hosts.base import EXTERNAL, Poke, Wake, operation_pokes
from .hosts.cocotb import CocotbHost, run_in_simulator
from .hosts.verilated import VerilatedHost

PROBE_FIELDS = ProbeState._fields


@dataclass
class Plan:
    """A trial that has not run yet.

    Attributes
    ----------
    machine : Machine
        The software, not started.
    pokes : list of Poke
        What happens at the inputs; cycles count from the start of the trial.
    limit : int
        Clocks after which the trial ends whatever happens.
    settle : int
        Clocks without an operation, a deadline or an interrupt, once the software has finished,
        after which the machine counts as quiet and the trial ends.
    """

    machine: Machine
    pokes: list[Poke] = field(default_factory=list)
    limit: int = 20_000
    settle: int = 200


@dataclass
class Outcome:
    """What a trial left behind.

    ``records`` is the tap from the start of the trial, ``log`` what the software wrote down, both
    with cycles counted from the start of the trial; ``quiet`` says whether it came to rest before
    the limit.
    """

    cycles: int
    quiet: bool
    records: numpy.ndarray
    log: list[Record]
    channels: tuple[str, ...]

    @property
    def events(self) -> list[Event]:
        """The tap as typed records."""
        return decode(self.records, self.channels)


Steps = Generator[tuple[Iterable[Poke], int], Wake, tuple[int, bool]]


def steps(plan: Plan, start: int, lines: tuple[int, ...]) -> Steps:
    """Yields (pokes, until) for a host's ``advance`` and takes the wake-ups; returns
    (cycle, quiet) at the end. ``start`` is the host's present clock."""
    machine = plan.machine
    limit = start + plan.limit
    last_poke = start + max((poke.cycle for poke in plan.pokes), default=0)
    pokes = [poke._replace(cycle=poke.cycle + start) for poke in plan.pokes]
    demands = machine.start(0, lines)
    wake = Wake(start, {}, lines)
    while True:
        for submission in demands.submissions:
            pokes += operation_pokes(submission.cpu, wake.cycle, *submission[1:])
        for cpu, lane in demands.probes:
            pokes += [
                Poke(wake.cycle, f"probe_cpu_{cpu}.{name}", value)
                for name, value in zip(PROBE_FIELDS, lane, strict=True)
            ]
        until = limit
        if demands.deadline is not None:
            until = min(until, start + demands.deadline)
        if any(high & watched for high, watched in zip(wake.lines, demands.watch, strict=True)):
            until = min(until, wake.cycle + 1)
        resting = demands.finished and demands.idle
        if resting:
            until = min(until, max(wake.cycle, last_poke) + plan.settle)

        before = wake.cycle
        wake = yield pokes, until
        pokes = []
        if wake.cycle >= limit:
            machine.report_stuck()
            return wake.cycle, resting
        if resting and wake.cycle >= max(before, last_poke) + plan.settle:
            return wake.cycle, True
        answers = {cpu: answer for cpu, answer in wake.responses.items() if cpu != EXTERNAL}
        demands = machine.wake(wake.cycle - start, answers, wake.lines)


def _outcome(plan: Plan, host, start: int, first_record: int, end: tuple[int, bool]) -> Outcome:
    plan.machine.close()
    records = host.records(first_record).copy()
    records["cycle"] -= start
    cycle, quiet = end
    return Outcome(cycle - start, quiet, records, plan.machine.log, host.design.channels)


def run(plan: Plan, host: VerilatedHost) -> Outcome:
    """Run a trial on a host that blocks, from where it stands."""
    start, first_record = host.cycle, host.record_count
    course = steps(plan, start, host.lines)
    try:
        pokes, until = next(course)
        while True:
            pokes, until = course.send(host.advance(pokes, until))
    except StopIteration as stop:
        return _outcome(plan, host, start, first_record, stop.value)


async def run_async(plan: Plan, host: CocotbHost) -> Outcome:
    """Run a trial on a host that awaits, from where it stands."""
    start, first_record = host.cycle, host.record_count
    course = steps(plan, start, host.lines)
    try:
        pokes, until = next(course)
        while True:
            pokes, until = course.send(await host.advance(pokes, until))
    except StopIteration as stop:
        return _outcome(plan, host, start, first_record, stop.value)


async def run_plans(host: CocotbHost, maker: str, arguments: list[dict[str, Any]]) -> list[Outcome]:
    """Inside a simulation: make and run one plan after the other."""
    make = resolve_name(maker)
    return [await run_async(make(**given), host) for given in arguments]


def run_under_cocotb(
    design: Design, maker: str, arguments: list[dict[str, Any]], **options
) -> list[Outcome]:
    """Run plans in a simulation. Software cannot cross over to the simulator's process, so it is
    made there: by ``maker``, ``module:function``, called with each of ``arguments``."""
    job = {"maker": maker, "arguments": arguments}
    return run_in_simulator(design, "sim.trial:run_plans", job, **options)
