"""The race sequencer: software compiled to a table, run against the machine at full clock.

Software is deterministic: what it does next follows from what it has seen so far, which are the
answers of its operations, the interrupt lines at that moment, and deadlines. So a program is an
automaton. Its nodes are what software knows; an edge says "if just this is seen, do that". The
machine stands still while an edge is looked for, usually for one clock; to the machine, software
takes no time, as on every other host.

What the program does not know is never guessed: the trial is reported as one that ``left``.
"""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ..cpu_port import CpuResponse
from ..tap import EventKind, TapRecord
from .protocol import (
    COUNTERS,
    CYCLE_BITS,
    LINES,
    PAIRS,
    Compact,
    Deadline,
    Fact,
    LabConfig,
    Poke,
    Stimulus,
    Sweep,
    Swept,
    Trial,
    Verdict,
)

TALLY_BITS = 8
"""Width of the counts within a trial; a program that could exceed them is refused by its maker."""


class ObservedSignature(wiring.Signature):
    """What is seen of the machine in the present clock; seen from the machine."""

    def __init__(self, cpus: int):
        super().__init__(
            {
                "answered": Out(cpus),
                "answer": Out(CpuResponse).array(cpus),
                "lines": Out(LINES * cpus),
                "event": Out(data.StructLayout({"valid": 1, "record": TapRecord})),
                "message": Out(data.StructLayout({"valid": 1, "record": TapRecord})),
                "nothing_acknowledged": Out(1),
            }
        )


class TrialJudge(wiring.Component):
    """Verdicts of a trial from a few facts of the tap and what the program says of its software.

    They are those of the whole judgement (``sim.verdict``), for one owner.

    Members
    -------
    clear : In(1)
        A trial begins.
    running : In(1)
        This clock of the machine counts.
    seen : In(ObservedSignature)
    decided : In(1)
        Software went on as ``edge`` says.
    edge : In(config.edge)
    unfinished : In(1)
        The trial ended before its software did.
    sweep : In(Sweep)
    verdicts : Out(Verdict)
    """

    def __init__(self, config: LabConfig):
        super().__init__(
            {
                "clear": In(1),
                "running": In(1),
                "observed": In(ObservedSignature(config.soc.cpus)),
                "decided": In(1),
                "edge": In(config.edge),
                "unfinished": In(1),
                "sweep": In(Sweep),
                "verdicts": Out(Verdict),
            }
        )

    def elaborate(self, platform):
        m = Module()
        edge, observed, sweep = self.edge, self.observed, self.sweep
        raised, starts, unheld, resent = (Signal(TALLY_BITS) for _ in range(4))
        held = Signal(PAIRS)
        facts = Signal(Fact)
        unserved, starved, misdirected, spurious = (Signal() for _ in range(4))
        age = Signal(CYCLE_BITS)

        event = observed.event.valid & (observed.event.record.unit == sweep.unit)
        raised_now = Signal(TALLY_BITS)
        m.d.comb += raised_now.eq(raised + event)
        message = observed.message.record
        holder = Cat(
            held[i]
            & (message.address[12:20] == sweep.pairs[i].cpu)
            & (message.data[:8] == sweep.pairs[i].vector)
            for i in range(PAIRS)
        ).any()

        with m.If(self.running):
            m.d.sync += [raised.eq(raised_now), age.eq(age + 1)]
            with m.If(event & ~unserved):
                m.d.sync += [unserved.eq(1), age.eq(1)]
            with m.If(observed.message.valid & (message.id == sweep.requester) & ~holder):
                m.d.sync += misdirected.eq(1)
            with m.If(
                observed.nothing_acknowledged | (starts > raised_now) | (unheld > raised_now)
            ):
                m.d.sync += spurious.eq(1)
        with m.If(self.decided):
            m.d.sync += [
                starts.eq(starts + edge.start),
                unheld.eq(unheld + edge.unheld),
                resent.eq(resent + edge.resent),
                held.eq(edge.held),
                facts.as_value().eq(facts.as_value() | edge.facts.as_value()),
            ]
            with m.If(edge.foreign):
                m.d.sync += spurious.eq(1)
            with m.If(edge.start):
                m.d.sync += unserved.eq(0)
                with m.If(unserved & (age > sweep.patience)):
                    m.d.sync += starved.eq(1)
        with m.If(self.clear):
            m.d.sync += [
                signal.eq(0)
                for signal in (
                    *(raised, starts, unheld, resent, held, facts.as_value()),
                    *(unserved, starved, misdirected, spurious),
                )
            ]

        wrong_cpu, overlap, storm, crash = facts.as_value()
        m.d.comb += self.verdicts.as_value().eq(
            Cat(
                unserved,
                misdirected,
                spurious,
                starts > raised + resent,
                wrong_cpu,
                overlap,
                starved,
                storm,
                crash | self.unfinished,
            )
        )
        return m


class Sequencer(wiring.Component):
    """Runs a program against the machine, trial by trial, and counts verdicts.

    Members
    -------
    begin : In(1)
        A strobe: sweep as ``sweep`` says.
    busy : Out(1)
    load_edge, load_operation, load_stimulus : In
        Words for the memories, written in the clock ``valid`` is high; not while busy.
    observed : In(ObservedSignature)
        Of the clock in which ``enable`` is high.
    enable, reset : Out(1)
        The machine's clock counts; the machine and its inputs are as after power-up.
    submit : Out(cpus), request : array of Out(Compact)
        Operations offered in this clock.
    poke : Out(stream of Poke)
        Always taken.
    report : Out(stream of Trial)
    swept : Out(stream of Swept)
    count_index, count : In, Out
        The counter of that number.
    lost : Out(1)
        The sweep has found a lost event.
    """

    def __init__(self, config: LabConfig):
        self._config = config
        cpus = config.soc.cpus
        super().__init__(
            {
                "begin": In(1),
                "sweep": In(Sweep),
                "busy": Out(1),
                "load_edge": In(stream.Signature(config.load_edge, always_ready=True)),
                "load_operation": In(stream.Signature(config.load_operation, always_ready=True)),
                "load_stimulus": In(stream.Signature(config.load_stimulus, always_ready=True)),
                "observed": In(ObservedSignature(cpus)),
                "enable": Out(1),
                "reset": Out(1),
                "submit": Out(cpus),
                "request": Out(Compact).array(cpus),
                "poke": Out(stream.Signature(Poke, always_ready=True)),
                "report": Out(stream.Signature(Trial)),
                "swept": Out(stream.Signature(Swept)),
                "count_index": In(range(COUNTERS)),
                "count": Out(24),
                "lost": Out(1),
            }
        )

    def _add_memory(self, m, name, shape, depth, load):
        m.submodules[name] = store = memory.Memory(shape=shape, depth=depth, init=[])
        write = store.write_port()
        m.d.comb += [
            write.addr.eq(load.payload.index),
            write.data.eq(load.payload.word),
            write.en.eq(load.valid),
        ]
        return store.read_port(), write

    def elaborate(self, platform):
        m = Module()
        config, observed = self._config, self.observed
        cpus = range(config.soc.cpus)
        edges, _ = self._add_memory(m, "program", config.edge, config.edges, self.load_edge)
        stimuli, _ = self._add_memory(m, "stimuli", Stimulus, config.stimuli, self.load_stimulus)
        operations = []
        for cpu in cpus:
            read, write = self._add_memory(
                m, f"operations{cpu}", Compact, config.operations, self.load_operation
            )
            m.d.comb += [
                write.en.eq(self.load_operation.valid & (self.load_operation.payload.cpu == cpu)),
                self.request[cpu].eq(read.data),
            ]
            operations.append(read)
        edge = edges.data

        sweep = Signal(Sweep)
        trial = Signal(24)
        offset = Signal(CYCLE_BITS)
        clocks = Signal(48)
        cycle = Signal(CYCLE_BITS)
        pointer = Signal(range(config.edges))
        submit = Signal(len(cpus))
        watch = Signal(LINES * len(cpus))
        counting, waiting = Signal(), Signal()
        remaining = Signal(CYCLE_BITS)
        resting = Signal()
        settling = Signal(CYCLE_BITS)
        seen = Signal(config.seen)
        left = Signal()
        unfinished = Signal()
        next_stimulus = Signal(range(config.stimuli))
        stimulus = Signal(Stimulus)
        stimulus_at = Signal(CYCLE_BITS)
        counters = Array(Signal(24, name=f"counter{i}") for i in range(COUNTERS))

        m.submodules.judge = judge = TrialJudge(config)
        wiring.connect(m, wiring.flipped(self.observed), judge.observed)
        m.d.comb += [
            judge.running.eq(self.enable),
            judge.edge.eq(edge),
            judge.unfinished.eq(unfinished),
            judge.sweep.eq(sweep),
            edges.addr.eq(pointer),
            stimuli.addr.eq(next_stimulus),
            self.submit.eq(submit),
            self.poke.payload.field.eq(stimulus.field),
            self.poke.payload.value.eq(stimulus.value),
            self.report.payload.index.eq(trial),
            self.report.payload.verdicts.eq(judge.verdicts),
            self.report.payload.left.eq(left),
            self.report.payload.cycles.eq(cycle),
            self.swept.payload.clocks.eq(clocks),
            self.count.eq(counters[self.count_index]),
            self.lost.eq(counters[0].any()),
        ]
        m.d.comb += [read.en.eq(judge.decided) for read in operations]
        m.d.comb += [
            read.addr.eq(edge.operation[cpu]) for cpu, read in zip(cpus, operations, strict=True)
        ]
        m.d.sync += clocks.eq(clocks + 1)

        next_cycle = Signal(CYCLE_BITS)
        due = Signal()
        woken = Signal()
        m.d.comb += [
            next_cycle.eq(cycle + 1),
            due.eq(counting & (remaining == 1)),
            woken.eq(observed.answered.any() | (observed.lines & watch).any() | (due & waiting)),
        ]

        with m.FSM() as fsm:
            m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
            with m.State("IDLE"), m.If(self.begin):
                m.d.sync += [sweep.eq(self.sweep), trial.eq(0), offset.eq(0), clocks.eq(0)]
                m.d.sync += [counter.eq(0) for counter in counters]
                m.next = "RESET"

            with m.State("RESET"):
                m.d.comb += [self.reset.eq(1), judge.clear.eq(1)]
                m.d.sync += [
                    signal.eq(0)
                    for signal in (
                        *(cycle, pointer, submit, watch, counting, waiting, resting),
                        *(seen.as_value(), left, unfinished, next_stimulus),
                    )
                ]
                m.next = "FETCH_STIMULUS"

            with m.State("FETCH_STIMULUS"):
                m.next = "TAKE_STIMULUS"
            with m.State("TAKE_STIMULUS"):
                m.d.sync += [
                    stimulus.eq(stimuli.data),
                    stimulus_at.eq(stimuli.data.cycle + Mux(stimuli.data.swept, offset, 0)),
                    next_stimulus.eq(next_stimulus + 1),
                ]
                m.next = "STIMULATE"
                with m.If(next_stimulus == 0):  # the first of the trial: software comes first
                    m.next = "DECIDE"

            with m.State("DECIDE"):
                with m.If(edge.seen == seen):
                    m.d.comb += [judge.decided.eq(1), edges.addr.eq(edge.target)]
                    m.d.sync += [
                        pointer.eq(edge.target),
                        submit.eq(edge.submit),
                        watch.eq(edge.watch),
                        waiting.eq(edge.waiting),
                        resting.eq(edge.resting),
                        settling.eq(sweep.settle),
                        seen.eq(0),
                    ]
                    with m.Switch(edge.deadline):
                        with m.Case(Deadline.AFTER):
                            m.d.sync += [counting.eq(1), remaining.eq(edge.clocks)]
                        with m.Case(Deadline.AT):
                            m.d.sync += [counting.eq(1), remaining.eq(edge.clocks - cycle)]
                            with m.If(edge.clocks <= cycle):  # over: software would not wait
                                m.d.sync += left.eq(1)
                    m.next = "STIMULATE"
                    with m.If(~stimulus.used | (stimulus_at != cycle)):
                        m.next = "RUN"
                with m.Elif(edge.last):
                    m.d.sync += left.eq(1)
                    m.next = "JUDGE"
                with m.Else():
                    m.d.sync += pointer.eq(pointer + 1)
                    m.next = "FETCH"
            with m.State("FETCH"):
                m.next = "DECIDE"

            with m.State("STIMULATE"):
                m.next = "RUN"
                with m.If(stimulus.used & (stimulus_at == cycle)):
                    m.d.comb += self.poke.valid.eq(1)
                    m.next = "FETCH_STIMULUS"

            with m.State("RUN"):
                m.d.comb += self.enable.eq(1)
                m.d.sync += [
                    cycle.eq(next_cycle),
                    submit.eq(0),
                    remaining.eq(remaining - 1),
                    settling.eq(Mux(stimulus.used, sweep.settle, settling - 1)),
                    seen.answered.eq(observed.answered),
                    seen.lines.eq(observed.lines),
                ]
                with m.If(due):  # nobody may wait for it just now
                    m.d.sync += [seen.due.eq(1), counting.eq(0)]
                for cpu in cpus:
                    with m.If(observed.answered[cpu]):
                        answer = observed.answer[cpu]
                        m.d.sync += [
                            seen.data[cpu].eq(answer.data),
                            seen.error[cpu].eq(answer.error),
                            left.eq(left | answer.data[32:].any()),
                        ]
                ended = resting & ~stimulus.used & (settling == 1)
                with m.If(ended | (next_cycle == sweep.limit)):
                    m.d.sync += unfinished.eq(~resting)
                    m.next = "JUDGE"
                with m.Elif(woken):
                    m.next = "DECIDE"
                with m.Elif(stimulus.used & (stimulus_at == next_cycle)):
                    m.next = "STIMULATE"

            with m.State("JUDGE"):
                verdicts = judge.verdicts.as_value()
                tallies = Cat(
                    verdicts & (~left).replicate(len(Verdict)), ~verdicts.any() & ~left, left
                )
                m.d.sync += [
                    counter.eq(counter + tally)
                    for counter, tally in zip(counters, tallies, strict=True)
                ]
                m.next = "NEXT"
                wanted = verdicts & sweep.report.as_value()
                with m.If(sweep.report_all | left | wanted.any()):
                    m.next = "REPORT"
            with m.State("REPORT"):
                m.d.comb += self.report.valid.eq(1)
                with m.If(self.report.ready):
                    m.next = "NEXT"
            with m.State("NEXT"):
                m.d.sync += [trial.eq(trial + 1), offset.eq(offset + sweep.step)]
                m.next = "RESET"
                with m.If(trial + 1 == sweep.count):
                    m.next = "SWEPT"
            with m.State("SWEPT"):
                m.d.comb += self.swept.valid.eq(1)
                m.d.sync += clocks.eq(clocks)
                with m.If(self.swept.ready):
                    m.next = "IDLE"

        return m


def event_of(channels, taps, kind: EventKind, suffix: str):
    """The one event of ``kind`` in this clock, of channels whose names end so: valid, record."""
    found = [tap for name, tap in zip(channels, taps, strict=True) if name.endswith(suffix)]
    valid = [tap.valid & (tap.record.kind == kind) for tap in found]
    record = 0
    for tap, there in zip(found, valid, strict=True):
        record |= Mux(there, tap.record.as_value(), 0)
    return Cat(valid).any(), record
