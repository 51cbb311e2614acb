"""One run of software on hardware: the same loop on every host.

The software (a :class:`firmware_model.machine.machine.Machine`) knows no host, the host knows no
software. :func:`steps` stands between them and is the only place where the two meet; a host
that blocks and a host that awaits both just carry out what it yields.
"""

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from functools import cache, cached_property
from pkgutil import resolve_name
from typing import Any, NamedTuple

import numpy

from firmware_model.machine.machine import Machine
from firmware_model.machine.ops import ProbeState, Record

from .design import Design
from .events import Event, decode
from .hosts.base import EXTERNAL, Poke, Wake, operation_pokes
from .hosts.cocotb import CocotbHost, run_in_simulator
from .hosts.verilated import VerilatedHost

NOTHING = (None,) * len(ProbeState._fields)


@cache
def probe_names(cpu: int) -> tuple[str, ...]:
    """The input fields of a CPU's probe lane, in the order of :class:`ProbeState`."""
    return tuple(f"probe_cpu_{cpu}.{name}" for name in ProbeState._fields)


@dataclass
class Plan:
    """A trial that has not run yet, or one of its two parts. All cycles count from its start.

    Attributes
    ----------
    machine : Machine
        The software: not started, or, in the second part, booted and at rest.
    pokes : list of Poke
        What happens at the inputs.
    limit : int
        Clock at which the trial ends whatever happens.
    settle : int
        Clocks without an operation, a deadline or an interrupt, once the software has finished,
        after which the machine counts as quiet and the trial ends.
    follow : function or None
        This is the boot: it takes ``limit`` clocks however early it comes to rest, and then this
        makes the second part. If it is not at rest, or crashed, the trial ends with it.
    """

    machine: Machine
    pokes: list[Poke] = field(default_factory=list)
    limit: int = 20_000
    settle: int = 200
    follow: "Callable[[], Plan] | None" = None


@dataclass
class Outcome:
    """What a trial left behind.

    ``records`` is the tap from the start of the trial, ``log`` what the software wrote down, both
    with cycles counted from the start of the trial; ``quiet`` says whether it came to rest before
    the limit. ``steps`` has the steps of each CPU (as in ``Cpu.steps``) after the boot, ``stalled``
    is the machine's.
    """

    cycles: int
    quiet: bool
    records: numpy.ndarray
    log: list[Record]
    channels: tuple[str, ...]
    steps: tuple[range, ...] = ()
    stalled: int = 0

    @cached_property
    def events(self) -> list[Event]:
        """The tap as typed records."""
        return decode(self.records, self.channels)


class Stall(NamedTuple):
    """CPU ``cpu`` does nothing for ``clocks`` before its step number ``step`` (``Cpu.steps``)."""

    cpu: int
    step: int
    clocks: int

    def __str__(self) -> str:
        return ":".join(map(str, self))


class Mark(NamedTuple):
    """Where a trial starts on a host: its clock, and its number of tap records."""

    cycle: int
    record: int

    @classmethod
    def of(cls, host: VerilatedHost | CocotbHost) -> "Mark":
        """The host's present."""
        return cls(host.cycle, host.record_count)


class End(NamedTuple):
    """Where a part of a trial ends: the host's clock, whether it is at rest, its software, and
    the steps of each CPU in that part."""

    wake: Wake
    quiet: bool
    machine: Machine
    steps: tuple[range, ...]

    @property
    def booted(self) -> bool:
        """Whether a second part can follow."""
        return self.quiet and not any(cpu.halted for cpu in self.machine.cpus)


Steps = Generator[tuple[Iterable[Poke], int], Wake, End]


def steps(plan: Plan, start: int, wake: Wake) -> Steps:
    """Yields (pokes, until) for a host's ``advance`` and takes the wake-ups; returns the end.

    ``start`` is the clock of the host at which the trial started, ``wake`` its present.
    """
    end = yield from _part(plan, start, wake)
    if plan.follow and end.booted:
        end = yield from steps(plan.follow(), start, end.wake)
    return end


def _part(plan: Plan, start: int, wake: Wake) -> Steps:
    machine = plan.machine
    first_steps = [cpu.steps for cpu in machine.cpus]
    limit = start + plan.limit
    settle = plan.limit if plan.follow else plan.settle
    pokes = [poke._replace(cycle=poke.cycle + start) for poke in plan.pokes]
    last_poke = max((poke.cycle for poke in pokes), default=wake.cycle)
    early = [poke for poke in pokes if poke.cycle < wake.cycle]
    if early:
        raise ValueError(
            f"{early[0].name} is poked in clock {early[0].cycle - start} of the trial, before "
            f"clock {wake.cycle - start}, where this part of it begins"
        )
    shown: dict[int, ProbeState] = {}
    demands = machine.start(wake.cycle - start, wake.lines)
    while True:
        for submission in demands.submissions:
            pokes += operation_pokes(submission.cpu, wake.cycle, *submission[1:])
        for cpu, lane in demands.probes:
            before = shown.get(cpu, NOTHING)
            shown[cpu] = lane
            pokes += [
                Poke(wake.cycle, name, value)
                for name, value, old in zip(probe_names(cpu), lane, before, strict=True)
                if value != old
            ]
        until = limit
        if demands.deadline is not None:
            until = min(until, start + demands.deadline)
        if any(high & watched for high, watched in zip(wake.lines, demands.watch, strict=True)):
            until = min(until, wake.cycle + 1)
        resting = demands.finished and demands.idle
        if resting:
            until = min(until, max(wake.cycle, last_poke) + settle)

        since = wake.cycle
        wake = yield pokes, until
        pokes = []
        if wake.cycle >= limit:
            machine.report_stuck()
        elif not resting or wake.cycle < max(since, last_poke) + settle:
            answers = wake.responses
            if EXTERNAL in answers:
                answers = {cpu: answer for cpu, answer in answers.items() if cpu != EXTERNAL}
            demands = machine.wake(wake.cycle - start, answers, wake.lines)
            continue
        steps = zip(first_steps, machine.cpus, strict=True)
        return End(wake, resting, machine, tuple(range(first, cpu.steps) for first, cpu in steps))


def drive(plan: Plan, host: VerilatedHost, start: int) -> End:
    """Run a plan, or a part of one, on a host that blocks; its software stays as it is."""
    course = steps(plan, start, Wake(host.cycle, {}, host.lines))
    try:
        pokes, until = next(course)
        while True:
            pokes, until = course.send(host.advance(pokes, until))
    except StopIteration as stop:
        return stop.value


def outcome(end: End, host: VerilatedHost | CocotbHost, since: Mark) -> Outcome:
    """What a trial left behind that started at ``since``; its software is dropped."""
    end.machine.close()
    records = host.records(since.record).copy()
    records["cycle"] -= since.cycle
    cycles = end.wake.cycle - since.cycle
    channels = host.design.channels
    machine = end.machine
    return Outcome(cycles, end.quiet, records, machine.log, channels, end.steps, machine.stalled)


def run(plan: Plan, host: VerilatedHost) -> Outcome:
    """Run a trial on a host that blocks, from where it stands."""
    since = Mark.of(host)
    return outcome(drive(plan, host, since.cycle), host, since)


async def drive_async(plan: Plan, host: CocotbHost, start: int) -> End:
    """As :func:`drive`, on a host that awaits."""
    course = steps(plan, start, Wake(host.cycle, {}, host.lines))
    try:
        pokes, until = next(course)
        while True:
            pokes, until = course.send(await host.advance(pokes, until))
    except StopIteration as stop:
        return stop.value


async def run_async(plan: Plan, host: CocotbHost) -> Outcome:
    """Run a trial on a host that awaits, from where it stands."""
    since = Mark.of(host)
    return outcome(await drive_async(plan, host, since.cycle), host, since)


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
