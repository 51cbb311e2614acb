"""One replay from beginning to end: survey, machine, programs, tally."""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from hdl.config import SocConfig

from ..design import Design
from ..hosts.cocotb import CocotbHost, run_in_simulator
from ..hosts.verilated import VerilatedHost
from .apic import ApicPlayer
from .dumps import dumps_beside
from .events import Event, parse
from .gic import GicPlayer
from .program import PATIENCE, Fields, Numbered, Program, perform
from .survey import Survey, Surveyor
from .tally import Mismatch, Tally
from .trace import Trace, TraceError

BATCH = 2000
"""Steps in a program, at least: what the host does in one go."""

Progress = Callable[[int, int], None]


@dataclass
class Answer:
    """What a replay says.

    ``damage`` is where and why the recording could not be read on; what came before was replayed.
    """

    trace: tuple[Path, ...]
    host: str
    config: SocConfig
    events: int = 0
    seconds: float = 0.0
    damage: str | None = None
    tally: Tally = field(default_factory=Tally)

    @property
    def first_mismatch(self) -> Mismatch | None:
        """None if there is none."""
        return self.tally.found[0] if self.tally.found else None

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """What ``replay --json`` says."""
        first = self.first_mismatch
        return {
            "trace": [str(path) for path in self.trace],
            "host": self.host,
            "events": self.events,
            "compared": self.tally.compared,
            "comparisons": dict(self.tally.kinds),
            "mismatches": self.tally.mismatches,
            "waived": dict(self.tally.waived),
            "first_mismatch": first.as_dict() if first else None,
            "damage": self.damage,
            "seconds": self.seconds,
        }


class Reading:
    """The events of a recording, up to its end, its damage or ``limit`` lines."""

    def __init__(self, trace: Trace, limit: int | None = None):
        self.trace = trace
        self._limit = limit
        self.damage: str | None = None

    def __iter__(self) -> Iterator[tuple[int, int, Event]]:
        self.damage = None
        trace, limit = self.trace, self._limit
        try:
            for text in trace:
                if limit is not None and trace.line > limit:
                    return
                try:
                    time, event = parse(text)
                except ValueError as error:
                    self.damage = f"{trace.position()}: {error}"
                    return
                yield trace.line, time, event
        except TraceError as error:
            self.damage = str(error)


@contextmanager
def uncollected() -> Iterator[None]:
    """No search for reference cycles meanwhile: a replay makes none, and it is slow to look."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def survey(reading: Reading) -> Survey:
    """The first pass: how many of what, and the state of memory."""
    surveyor = Surveyor()
    for _, _, event in reading:
        surveyor.note(event)
    return surveyor.end()


class Replay:
    """A recording on its way into a machine.

    Parameters
    ----------
    paths : sequence of Path
        The parts of one recording.
    limit : int or None
        Lines to replay; all of them are surveyed.
    wanted : dict
        Fields of :class:`hdl.config.SocConfig` that override what the survey found.
    """

    def __init__(self, paths: Sequence[Path], limit: int | None, wanted: dict[str, int]):
        self.trace = Trace(paths)
        self.survey = survey(first := Reading(self.trace))
        if not self.survey.gic and not self.survey.apic:
            raise ValueError(first.damage or f"{paths[0]}: nothing that could be replayed")
        self.config = self.survey.config(**wanted)
        self._reading = Reading(self.trace, limit)

    def begin(self, host: Fields, name: str) -> None:
        """Make ready for a machine; ``name`` is what its host is called."""
        self.answer = Answer(self.trace.paths, name, self.config)
        self.program = Program(host, self.config.cpus)
        arguments = self.program, self.config, self.survey, self.answer.tally, self.trace.position
        self.player: GicPlayer | ApicPlayer
        if self.survey.gic:
            self.player = GicPlayer(*arguments, dumps_beside(self.trace.paths[0]))
        else:
            self.player = ApicPlayer(*arguments)

    def programs(self) -> Iterator[None]:
        """Yields whenever the program is to be performed, and absorbed, before going on."""
        answer, program, player = self.answer, self.program, self.player
        started = perf_counter()
        try:
            for line, time, event in self._reading:
                answer.events += 1
                if player.prepare(line, event):
                    if len(program) >= BATCH:
                        yield
                    player.drive(line, time, event)
        except (ValueError, KeyError) as error:
            what = f"no {error}= there" if isinstance(error, KeyError) else error
            answer.damage = f"{self.trace.position()}: {what}"
        player.finish()
        yield
        answer.damage = answer.damage or self._reading.damage
        answer.seconds = perf_counter() - started


def replay(
    paths: Sequence[Path],
    *,
    host: str = "verilated",
    limit: int | None = None,
    wanted: dict[str, int] | None = None,
    progress: Progress = lambda done, total: None,
) -> Answer:
    """Drive the gateware with a recording, and compare; see :class:`Replay`.

    ``progress`` is told how many lines are done, of how many.
    """
    if host not in ("verilated", "cocotb"):
        raise ValueError(f'host must be "verilated" or "cocotb", not {host!r}')
    run = Replay(paths, limit, wanted or {})
    design = Design(run.config)
    if host == "cocotb":
        job = {"paths": [path.resolve() for path in paths], "limit": limit, "wanted": wanted}
        answer = run_in_simulator(design, "sim.replay.session:replay_inside", job)
        answer.trace = run.trace.paths
        return answer
    total = min(limit or run.survey.lines, run.survey.lines)
    with VerilatedHost(design) as machine, uncollected():
        run.begin(machine, host)
        for _ in run.programs():
            done = machine.perform(run.program.steps, PATIENCE)
            records = machine.records()
            machine.forget_records()
            run.player.absorb(done, records)
            progress(run.answer.events, total)
    return run.answer


async def replay_inside(
    host: CocotbHost, paths: Sequence[Path], limit: int | None, wanted: dict[str, int] | None
) -> Answer:
    """The same within a simulation under cocotb."""
    run = Replay(paths, limit, wanted or {})
    numbers = Numbered()
    run.begin(numbers, "cocotb")
    for _ in run.programs():
        done = await perform(host, numbers.names(), run.program.steps)
        records = host.records()
        host.forget_records()
        run.player.absorb(done, records)
    return run.answer
