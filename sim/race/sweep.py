"""A sweep on a board: the sequencer runs the trials, and only what it found comes back."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hdl.boards.lab import make_soc, settable_ports
from hdl.boards.protocol import COUNTERS, STEP_BITS, Request, Verdict
from hdl.registers.pci import requester_id

from .. import trial
from ..design import Design
from ..hosts.base import Poke
from ..hosts.board import Board, BoardHost
from ..hosts.verilated import VerilatedHost
from ..ports import port_map
from ..scenarios import Scenario
from ..sweep.grid import Point
from ..sweep.pool import Result
from ..toolchain import ToolError
from ..verdict import VERDICTS
from .program import Program
from .record import CompileError, Recorder, Recording

EVERY = 16
"""One trial in so many is recorded before the first try; then those that left the program."""
MOST = 4096
"""Trials that the board is asked for at a time: less than a second."""
NAMES = tuple(VERDICTS)


class DisagreementError(ToolError):
    """Board and host, or two ways to the same number, do not say the same."""


@dataclass
class Family:
    """Trials that differ in their stimuli's clocks alone, equally spaced.

    Attributes
    ----------
    points : list of Point
    step : int
        Clocks between the swept stimuli of one trial and the next.
    stimuli : list of dict
        As :class:`hdl.boards.protocol.Stimulus` has them.
    limit, settle : int
    """

    points: list[Point]
    step: int
    stimuli: list[dict[str, int]]
    limit: int
    settle: int


@dataclass
class RaceReport:
    """What a sweep on a board took.

    ``recorded`` trials were run on the verilated host to learn what the software does; ``clocks``
    of the board passed in sweeps, in which ``trials`` were run there. ``words`` is the size of the
    largest program, ``rounds`` how often one was loaded.
    """

    recorded: int = 0
    trials: int = 0
    clocks: int = 0
    words: int = 0
    rounds: int = 0


class Racer:
    """Sweeps of one scenario on one board.

    Use as a context manager, or :meth:`close` it.
    """

    def __init__(self, scenario: Scenario, board: Board):
        if not hasattr(scenario, "owner"):
            raise ValueError(f"{scenario.name} has no owner to judge for; a board cannot sweep it")
        self._scenario: Any = scenario
        self._board = board
        soc = make_soc(board.lab)
        self._ports = port_map(soc)
        self._numbers = {name: i for i, name in enumerate(settable_ports(soc))}
        self._recorders: dict[Any, tuple[VerilatedHost, int]] = {}
        self.report = RaceReport()

    def close(self) -> None:
        for host, _ in self._recorders.values():
            host.close()
        self._recorders.clear()

    def __enter__(self) -> "Racer":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def run(
        self,
        points: Sequence[Point],
        *,
        report_all: bool = True,
        advance: Callable[[], None] = lambda: None,
    ) -> list[Result]:
        """The result of every point.

        With ``report_all`` False only counterexamples cross the line; the results are complete
        all the same, for what is not reported earned nothing.
        """
        results: list[Result] = []
        for group in self._groups(points):
            for result in self._sweep(group, report_all):
                results.append(result)
                advance()
        return results

    def _groups(self, points: Iterable[Point]) -> Iterator[list[Point]]:
        """Points that have all in common but the first axis, which is the one that is swept."""
        first, *others = self._scenario.axes
        groups: dict[tuple, list[Point]] = {}
        for point in points:
            at = self._scenario.complete(point.strategy, point.at)
            key = (point.strategy, *(at[name] for name in others))
            groups.setdefault(key, []).append(Point(point.strategy, at))
        for group in groups.values():
            yield sorted(group, key=lambda point: point.at[first])

    def _sweep(self, points: list[Point], report_all: bool) -> Iterator[Result]:
        program = Program()
        known: list[Point] = []
        waiting, new = points, [*points[:-1:EVERY], points[-1]]
        while waiting:
            for point in new:
                if point in known:
                    raise DisagreementError(
                        f"on the board, software at {dict(point.at)} sees what it did not see on "
                        "the verilated host: the two differ"
                    )
                program.add(self._record(point))
            known += new
            self._load(program)
            self.report.rounds += 1
            left: list[Point] = []
            for family in self._families(waiting):
                yield from self._race(family, report_all, left)
            waiting = new = left

    # Learning

    def _record(self, point: Point) -> Recording:
        """What the software does in this trial, on the verilated host."""
        host, fresh = self._recorder(point.strategy)
        host.restore(fresh)
        recorder = Recorder(self._scenario.owner(point.strategy, point.at))
        trial.run(recorder.watching(self._scenario.plan(point.strategy, point.at)), host)
        self.report.recorded += 1
        return recorder.recording

    def _recorder(self, strategy: str) -> tuple[VerilatedHost, int]:
        config = self._scenario.hardware(strategy)
        if config not in self._recorders:
            host = VerilatedHost(Design(config))
            self._recorders[config] = host, host.snapshot()
        return self._recorders[config]

    def _load(self, program: Program) -> None:
        image = program.image(self._board.lab)
        ask = self._board.ask
        for index, word in enumerate(image.edges):
            ask(Request.LOAD_EDGE, index=index, word=self._board.lab.edge.from_bits(word))
        for cpu, operations in enumerate(image.operations):
            for index, operation in enumerate(operations):
                ask(Request.LOAD_OPERATION, cpu=cpu, index=index, word=operation)
        self._pairs = [{"cpu": cpu, "vector": vector} for cpu, vector in image.pairs]
        self.report.words = max(self.report.words, len(image.edges))

    # Stimuli

    def _families(self, points: list[Point]) -> Iterator[Family]:
        """Consecutive points whose stimuli can be had from one another by shifting some."""
        shapes = [self._stimuli(point) for point in points]
        start = 0
        while start < len(points):
            end = start + 1
            step = None
            while end < min(len(points), start + MOST):
                shift = _shift(shapes[end - 1], shapes[end])
                if shift is None or (step is not None and shift != step):
                    break
                step = shift
                end += 1
            (limit, settle, stimuli), shift = shapes[start], step or (0, frozenset())
            yield Family(
                points[start:end],
                shift[0],
                [s | {"used": 1, "swept": int(i in shift[1])} for i, s in enumerate(stimuli)],
                limit,
                settle,
            )
            start = end

    def _stimuli(self, point: Point) -> tuple[int, int, list[dict[str, int]]]:
        """Limit, settle, and everything that happens at the inputs, in order."""
        scenario = self._scenario
        known = {axis: point.at[axis] for axis in scenario.boot_axes}
        system, boot = scenario.boot_plan(point.strategy, known | dict(point.at))
        plan = scenario.stimulate(system, point.strategy, point.at)
        pokes = sorted([*boot.pokes, *plan.pokes], key=lambda poke: poke.cycle)
        driven = dict.fromkeys(self._numbers, 0)
        stimuli = []
        for poke in pokes:
            name, value = self._port(poke, driven)
            if driven[name] != value:
                driven[name] = value
                stimuli.append({"cycle": poke.cycle, "field": self._numbers[name], "value": value})
        if len(stimuli) >= self._board.lab.stimuli:
            raise CompileError(
                f"{len(stimuli)} stimuli; this board takes {self._board.lab.stimuli - 1}"
            )
        if plan.limit >> self._board.lab.cycle_bits:
            raise CompileError(
                f"{plan.limit} clocks are more than the {(1 << self._board.lab.cycle_bits) - 1} "
                "that a trial on this board can have"
            )
        return plan.limit, plan.settle, stimuli

    def _port(self, poke: Poke, driven: Mapping[str, int]) -> tuple[str, int]:
        field = self._ports.fields.get(poke.name)
        if field is None or field.port not in self._numbers:
            raise CompileError(f"this board's machine has no input {poke.name} that can be set")
        mask = ((1 << field.width) - 1) << field.lsb
        value = driven[field.port] & ~mask | (poke.value << field.lsb) & mask
        if value >> 16:
            raise CompileError(f"{poke.name} is too wide for a stimulus")
        return field.port, value

    # Racing

    def _race(self, family: Family, report_all: bool, left: list[Point]) -> Iterator[Result]:
        ask = self._board.ask
        for index, stimulus in enumerate([*family.stimuli, {"used": 0}]):
            ask(Request.LOAD_STIMULUS, index=index, word=stimulus)
        first = family.points[0]
        owner = self._scenario.owner(first.strategy, first.at)
        if owner.requester != requester_id(owner.unit):
            raise CompileError(
                f"a board judges messages of the function with the events, {owner.unit}, "
                f"not of requester {owner.requester:#x}"
            )
        heard: dict[int, Any] = {}
        swept = ask(
            Request.SWEEP,
            lambda found: heard.__setitem__(found.index, found),
            count=len(family.points),
            step=family.step,
            limit=family.limit,
            settle=family.settle,
            patience=owner.patience,
            report=~Verdict(0),
            report_all=int(report_all),
            function=owner.unit,
            pairs=self._pairs,
        )
        self.report.trials += len(family.points)
        self.report.clocks += swept.clocks
        counted = [ask(Request.COUNT, index=i).value for i in range(COUNTERS)]
        self._check_counts(counted, heard.values(), len(family.points))
        for index, point in enumerate(family.points):
            found = heard.get(index)
            if found is None:
                yield Result(point)
            elif found.left:
                left.append(point)
            else:
                yield Result(point, verdict_names(found.verdicts), found.cycles)

    @staticmethod
    def _check_counts(counted: list[int], heard: Iterable[Any], trials: int) -> None:
        """The board's own counts and its reports are two ways to the same numbers."""
        *earned, clean, left = counted
        found = list(heard)
        stayed = [trial for trial in found if not trial.left]
        said = [sum(name in verdict_names(trial.verdicts) for trial in stayed) for name in NAMES]
        violations = sum(bool(verdict_names(trial.verdicts)) for trial in stayed)
        if (
            said != earned
            or clean + violations + left != trials
            or left != len(found) - len(stayed)
        ):
            raise DisagreementError(f"the board counted {counted}, but reported {said} of {trials}")


def verdict_names(verdicts: Verdict) -> frozenset[str]:
    return frozenset(name for i, name in enumerate(NAMES) if verdicts.value >> i & 1)


def _shift(one, other) -> tuple[int, frozenset[int]] | None:
    """By how much some stimuli of ``one`` are later in ``other``, and which; None: no such way."""
    if one[:2] != other[:2] or len(one[2]) != len(other[2]):
        return None
    shifts = {}
    for i, (a, b) in enumerate(zip(one[2], other[2], strict=True)):
        if a | {"cycle": 0} != b | {"cycle": 0}:
            return None
        if a["cycle"] != b["cycle"]:
            shifts[i] = b["cycle"] - a["cycle"]
    if len(set(shifts.values())) != 1 or not 0 < min(shifts.values()) < 1 << STEP_BITS:
        return None
    return next(iter(shifts.values())), frozenset(shifts)


def check_counterexamples(
    scenario: Scenario, board: Board, results: Iterable[Result]
) -> list[tuple[Result, trial.Outcome]]:
    """Run trials again on the board with their software on this side, and judge them whole.

    Raises
    ------
    DisagreementError
        If that comes to other verdicts than the sequencer's.
    """
    # Without its records of acknowledges, a run does not tell which found nothing.
    unseen = set() if board.lab.recorded is None else {"spurious"}
    outcomes = []
    for result in results:
        strategy, at = result.point.strategy, result.point.at
        host: Any = BoardHost(board)
        outcome = trial.run(scenario.plan(strategy, at), host)
        verdicts = scenario.judge(strategy, at, outcome)
        if (verdicts ^ result.verdicts) - unseen:
            raise DisagreementError(
                f"at {dict(at)} the sequencer found {sorted(result.verdicts)}, "
                f"the whole judgement {sorted(verdicts)}"
            )
        outcomes.append((result, outcome))
    return outcomes
