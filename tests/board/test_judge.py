"""The sequencer's judgement of a trial against the whole one, on trials made up at random."""

import random
from dataclasses import dataclass, field

import pytest
from amaranth.sim import Simulator

from firmware_model.core.records import Kind
from firmware_model.machine.ops import Record
from hdl.boards.platforms import find_board
from hdl.boards.protocol import Fact, Verdict
from hdl.boards.sequencer import TrialJudge
from hdl.tap import EventKind
from sim.events import Event
from sim.race.sweep import verdict_names
from sim.verdict import Owner, judge

LAB = find_board("ulx3s-85f").lab
CLOCKS = 60
OWNER = Owner(unit=0, requester=8, irq=33, action="mine", patience=15)
PAIRS = [(0, 0x35), (1, 0x22)]
CHECKED = {"lost", "misdirected", "spurious", "duplicate", "starved", "crash"}
"""The others follow from the log alone; :class:`sim.race.record.Recorder` finds them."""


@dataclass
class Trial:
    """What happened, for both: ``clocks`` has taps, ``decisions`` marks by the clock before."""

    events: list[Event] = field(default_factory=list)
    log: list[Record] = field(default_factory=list)
    quiet: bool = True
    decisions: dict[int, dict[str, int]] = field(default_factory=dict)


def make_up(seed: int) -> Trial:
    choice = random.Random(seed)
    busy = choice.choice([0.02, 0.05, 0.2])
    trial = Trial(quiet=choice.random() < 0.9)
    held: set[int] = set()
    for clock in range(CLOCKS):
        marks: dict[str, int] = {}

        def note(kind, cpu=0, clock=clock, **fields):
            trial.log.append(Record(clock, cpu, kind, {"irq": OWNER.irq} | fields))

        if choice.random() < busy:
            number = choice.randrange(2)
            cpu, vector = PAIRS[number]
            if number in held:
                held.remove(number)
                note(Kind.CLEANUP, cpu, vector=vector, done=True)
            else:
                held.add(number)
                note(Kind.VECTOR_ASSIGNED, target=cpu, vector=vector)
            marks["held"] = 1
        if choice.random() < busy:
            note(Kind.HANDLER_START, action=OWNER.action)
            marks["start"] = 1
        if choice.random() < busy / 8:
            trial.log.append(Record(clock, 0, Kind.HANDLER_START, {"irq": 50, "action": "other"}))
            marks["foreign"] = 1
        if choice.random() < busy / 8:
            trial.log.append(Record(clock, 0, Kind.NO_IRQ_HANDLER, {"vector": 0x44}))
            marks["unheld"] = 1
        if choice.random() < busy / 4:
            note(Kind.RETRIGGER)
            marks["resent"] = 1
        if marks:
            trial.decisions[clock] = marks | {"held": sum(1 << n for n in held)}
        if choice.random() < busy:
            unit = int(choice.random() < 0.2)
            trial.events.append(Event(clock, "endpoint0_event", EventKind.DEVICE_EVENT, unit))
        if choice.random() < busy:
            cpu, vector = choice.choice([*PAIRS, (1, 0x35)])
            requester = choice.choice([8, 8, 16])
            trial.events.append(
                Event(
                    *(clock, "posted", EventKind.MESSAGE, 0, requester, vector),
                    address=0xFEE0_0000 | cpu << 12,
                )
            )
        if choice.random() < busy / 10:
            trial.events.append(Event(clock, "apic0", EventKind.ACKNOWLEDGE, 0, 0xFF, 1))
    return trial


def judged_by_gateware(trials):
    """The verdicts of each trial, one after the other on the same circuit."""
    dut = TrialJudge(LAB)
    found = []

    async def bench(ctx):
        ctx.set(dut.sweep.function, OWNER.unit)
        ctx.set(dut.sweep.patience, OWNER.patience)
        for i, (cpu, vector) in enumerate(PAIRS):
            ctx.set(dut.sweep.pairs[i], {"cpu": cpu, "vector": vector})
        for trial in trials:
            ctx.set(dut.clear, 1)
            ctx.set(dut.unfinished, 0)
            await ctx.tick()
            ctx.set(dut.clear, 0)
            for clock in range(CLOCKS):
                if clock in trial.decisions:
                    ctx.set(dut.edge, trial.decisions[clock] | {"facts": Fact(0)})
                    ctx.set(dut.decided, 1)
                    await ctx.tick()
                    ctx.set(dut.decided, 0)
                now = {e.kind: e for e in trial.events if e.cycle == clock}
                for port, kind in (
                    (dut.observed.event, EventKind.DEVICE_EVENT),
                    (dut.observed.message, EventKind.MESSAGE),
                ):
                    event = now.get(kind)
                    ctx.set(port.valid, event is not None)
                    if event:
                        ctx.set(port.record.unit, event.unit)
                        ctx.set(port.record.id, event.id)
                        ctx.set(port.record.data, event.data)
                        ctx.set(port.record.address, event.address)
                ctx.set(dut.observed.nothing_acknowledged, EventKind.ACKNOWLEDGE in now)
                ctx.set(dut.running, 1)
                await ctx.tick()
                ctx.set(dut.running, 0)
            ctx.set(dut.unfinished, not trial.quiet)
            found.append(verdict_names(Verdict(ctx.get(dut.verdicts.as_value()))))

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    return found


def test_the_sequencer_judges_as_the_whole_judgement_does():
    trials = [make_up(seed) for seed in range(150)]
    seen = set()
    for seed, (trial, found) in enumerate(zip(trials, judged_by_gateware(trials), strict=True)):
        wanted = judge(trial, OWNER) & CHECKED
        assert found == wanted, f"trial {seed}"
        seen |= wanted
    assert seen == CHECKED, "the trials made up do not show every verdict"


@pytest.mark.parametrize("fact", ["wrong_cpu", "overlap", "storm", "crash"])
def test_facts_of_the_log_become_verdicts(fact):
    dut = TrialJudge(LAB)

    async def bench(ctx):
        ctx.set(dut.edge, {"facts": Fact[fact.upper()]})
        ctx.set(dut.decided, 1)
        await ctx.tick()
        ctx.set(dut.edge, {"facts": Fact(0)})
        await ctx.tick()
        assert verdict_names(Verdict(ctx.get(dut.verdicts.as_value()))) == {fact}
        ctx.set(dut.clear, 1)
        ctx.set(dut.decided, 0)
        await ctx.tick()
        assert not ctx.get(dut.verdicts.as_value())

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
