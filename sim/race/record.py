"""What software did in a trial, wake by wake: what it saw, and what it made of it.

The software is that of the scenario, whole, on the verilated host; nothing here is written by
hand. Since software is deterministic, what it saw so far decides what it does next.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from firmware_model.core.records import Kind
from firmware_model.machine.machine import Machine
from firmware_model.machine.ops import Demands, Record, Submission, Wait
from hdl.boards.protocol import Deadline

from ..trial import Plan
from ..verdict import FATAL_RECORDS, Owner, Tenure, overlap, storm, wrong_cpu


class CompileError(ValueError):
    """Software that the sequencer cannot run; the message says why."""


class Seen(NamedTuple):
    """What software saw when it went on.

    ``answers`` has (data, error) for each CPU, or None; ``lines`` a mask for each CPU; ``due``:
    the timer had run out since it went on last.
    """

    answers: tuple[tuple[int, int] | None, ...]
    lines: tuple[int, ...]
    due: bool


class Marks(NamedTuple):
    """What its log said then: see :attr:`hdl.boards.protocol.LabConfig.edge`."""

    start: bool = False
    foreign: bool = False
    unheld: bool = False
    resent: bool = False
    facts: frozenset[str] = frozenset()
    held: frozenset[tuple[int, int]] = frozenset()


class Deed(NamedTuple):
    """What software did. ``timer``: what becomes of it, and a number of clocks or a clock."""

    submissions: tuple[Submission, ...]
    timer: tuple[Deadline, int]
    waiting: bool
    watch: tuple[int, ...]
    resting: bool
    marks: Marks = Marks()


@dataclass
class Recording:
    """A trial's software: every wake that was not for nothing."""

    steps: list[tuple[Seen, Deed]] = field(default_factory=list)


class _Observer:
    """A machine that is looked at while it runs."""

    def __init__(self, machine: Machine, recorder: "Recorder"):
        self._machine = machine
        self._recorder = recorder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._machine, name)

    def start(self, cycle: int, lines: Sequence[int]) -> Demands:
        self._recorder.begin(self._machine, cycle)
        demands = self._machine.start(cycle, lines)
        self._recorder.note(self._machine, cycle, {}, lines, demands)
        return demands

    def wake(self, cycle: int, answers: Mapping, lines: Sequence[int]) -> Demands:
        demands = self._machine.wake(cycle, answers, lines)
        self._recorder.note(self._machine, cycle, answers, lines, demands)
        return demands


class Recorder:
    """Looks on while the software of a plan runs, and makes a :class:`Recording`."""

    def __init__(self, owner: Owner):
        self.recording = Recording()
        self._owner = owner
        self._before: Demands | None = None
        self._timer: int | None = None
        """When the sequencer's timer will run out."""
        self._known: set[int] = set()
        self._logged = 0
        self._facts: frozenset[str] = frozenset()
        self._tenure = Tenure(owner)

    def watching(self, plan: Plan) -> Plan:
        """``plan``, looked at in both its parts."""
        follow = plan.follow
        machine: Any = _Observer(plan.machine, self)
        if follow is None:
            return replace(plan, machine=machine)
        return replace(plan, machine=machine, follow=lambda: self.watching(follow()))

    def begin(self, machine: Machine, cycle: int) -> None:
        """A part of the trial begins. The boot's end is a deadline like any other."""
        if not self.recording.steps:
            return
        seen, deed = self.recording.steps[-1]
        if not deed.resting:
            raise CompileError("the software of the boot is not at rest at its end")
        deed = deed._replace(timer=(Deadline.AT, cycle), waiting=True, resting=False)
        self.recording.steps[-1] = seen, deed
        assert self._before is not None
        self._before.deadline = self._timer = cycle

    def note(
        self,
        machine: Machine,
        cycle: int,
        answers: Mapping[int, tuple[int, int]],
        lines: Sequence[int],
        demands: Demands,
    ) -> None:
        """The machine was woken and demands something."""
        before = self._before
        due = before is not None and before.deadline == cycle
        out = self._timer is not None and self._timer <= cycle
        watched = before is not None and any(
            high & mask for high, mask in zip(lines, before.watch, strict=True)
        )
        if before is None or answers or due or watched:
            cpus = range(len(lines))
            seen = Seen(
                tuple(
                    (answers[cpu][0], int(answers[cpu][1])) if cpu in answers else None
                    for cpu in cpus
                ),
                tuple(lines) if before is not None else tuple(0 for _ in cpus),
                out,
            )
            if out:
                self._timer = None
            deed = Deed(
                tuple(demands.submissions),
                self._set_timer(machine, cycle, demands.deadline),
                demands.deadline is not None,
                tuple(demands.watch),
                demands.finished and demands.idle,
                self._marks(machine.log, len(lines)),
            )
            self.recording.steps.append((seen, deed))
        elif demands.submissions or len(machine.log) > self._logged:
            raise CompileError(f"software went on in clock {cycle} although nothing had happened")
        self._before = demands
        self._known = _deadlines(machine)

    def _set_timer(
        self, machine: Machine, cycle: int, deadline: int | None
    ) -> tuple[Deadline, int]:
        """A deadline counts from when software made it, even if it is not in force at once."""
        if deadline is None:
            new = _deadlines(machine) - self._known
            if len(new) != 1 or self._timer is not None:
                return Deadline.KEEP, 0
            [deadline] = new
        elif deadline == self._timer:
            return Deadline.KEEP, 0
        elif deadline in self._known:
            raise CompileError(
                f"in clock {cycle} software goes back to an older deadline; there is one timer"
            )
        self._timer = deadline
        frames = [cpu.frame for cpu in machine.cpus if cpu.frame is not None]
        if any(frame.wait == Wait.UNTIL and frame.deadline == deadline for frame in frames):
            return Deadline.AT, deadline
        return Deadline.AFTER, deadline - cycle

    def _marks(self, log: list[Record], cpus: int) -> Marks:
        new = log[self._logged :]
        self._logged = len(log)
        for record in new:
            self._tenure.note(record)
        owner = self._owner
        own = [record for record in log if record.fields.get("irq") == owner.irq]
        starts = [record for record in new if record.kind == Kind.HANDLER_START]
        mine = [record for record in starts if record.fields["action"] == owner.action]
        resent = [
            record
            for record in new
            if record.kind in (Kind.RETRIGGER, Kind.RESEND) and record.fields["irq"] == owner.irq
        ]
        unheld = [record for record in new if record.kind == Kind.NO_IRQ_HANDLER]
        if max(len(mine), len(resent), len(unheld)) > 1:
            raise CompileError("two of a kind in one clock: the sequencer counts by one")
        facts = {
            "wrong_cpu": wrong_cpu(log, owner),
            "overlap": overlap(own),
            "storm": storm(log, owner.bearable),
            "crash": any(record.kind in FATAL_RECORDS for record in log),
        }
        return Marks(
            bool(mine),
            len(starts) > len(mine),
            bool(unheld),
            bool(resent),
            frozenset(name for name, true in facts.items() if true),
            self._tenure.pairs(cpus),
        )


def _deadlines(machine: Machine) -> set[int]:
    """Every clock that some software waits for."""
    frames = [cpu.frame.deadline for cpu in machine.cpus if cpu.frame is not None]
    timers = [timer[0] for cpu in machine.cpus for timer in cpu.timers]
    return {deadline for deadline in (*frames, *timers) if deadline is not None}
