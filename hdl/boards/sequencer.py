"""The race sequencer: software compiled to a table, run against the machine at full clock.

Software is deterministic: what it does next follows from what it has seen so far, which are the
answers of its operations, the interrupt lines at that moment, and deadlines. So a program is an
automaton. Its nodes are what software knows; an edge says "if just this is seen, do that". The
machine stands still while an edge is looked for, usually for one clock; to the machine, software
takes no time, as on every other host.

What the program does not know is never guessed: the trial is reported as one that ``left``.
"""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from ..cpu_port import CpuResponse
from ..registers.pci import requester_id
from ..tap import EventKind, TapRecord
from .protocol import (
    CLOCKS_BITS,
    COUNT_BITS,
    COUNTERS,
    PAIRS,
    Deadline,
    Fact,
    LabConfig,
    Poke,
    Verdict,
)

TALLY_BITS = 8
"""Width of the counts within a trial; a program that could exceed them is refused by its maker."""


class ObservedSignature(wiring.Signature):
    """What is seen of the machine in the present clock; seen from the machine. An ``answer`` holds
    until the next one."""

    def __init__(self, config: LabConfig):
        cpus = config.soc.cpus
        super().__init__(
            {
                "answered": Out(cpus),
                "answer": Out(CpuResponse).array(cpus),
                "lines": Out(len(config.lines) * cpus),
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
    observed : In(ObservedSignature)
    decided : In(1)
        Software went on as ``edge`` says.
    edge : In(config.edge)
    unfinished : In(1)
        The trial ended before its software did.
    sweep : In(config.sweep)
    verdicts : Out(Verdict)
    """

    def __init__(self, config: LabConfig):
        self._config = config
        super().__init__(
            {
                "clear": In(1),
                "running": In(1),
                "observed": In(ObservedSignature(config)),
                "decided": In(1),
                "edge": In(config.edge),
                "unfinished": In(1),
                "sweep": In(config.sweep),
                "verdicts": Out(Verdict),
            }
        )

    def elaborate(self, platform):
        m = Module()
        edge, observed, sweep = self.edge, self.observed, self.sweep
        # How many more events there were than handler runs, unheld interrupts, and runs but for
        # those that software asked for again
        balances = [Signal(signed(TALLY_BITS + 1), name=f"balance{i}") for i in range(3)]
        held = Signal(PAIRS)
        facts = Signal(Fact)
        unserved, starved, misdirected, spurious = (Signal() for _ in range(4))
        age = Signal(self._config.cycle_bits)

        functions = range(len(self._config.soc.endpoints))
        requester = Array(requester_id(i) for i in functions)[sweep.function]
        event = observed.event.valid & (observed.event.record.unit == sweep.function)
        now = [Signal.like(balance) for balance in balances]
        spent = (edge.start, edge.unheld, edge.start & ~edge.resent)
        begged = (0, 0, edge.resent & ~edge.start)
        for balance, new, minus, plus in zip(balances, now, spent, begged, strict=True):
            up = (self.running & event) | (self.decided & plus)
            down = self.decided & minus
            m.d.comb += new.eq(balance + Cat(up | down, down.replicate(TALLY_BITS)))
            m.d.sync += balance.eq(new)
        message = observed.message.record
        holder = Cat(
            held[i]
            & (message.address[12:20] == sweep.pairs[i].cpu)
            & (message.data[:8] == sweep.pairs[i].vector)
            for i in range(PAIRS)
        ).any()

        with m.If(self.running):
            m.d.sync += age.eq(age + 1)
            with m.If(event & ~unserved):
                m.d.sync += [unserved.eq(1), age.eq(1)]
            with m.If(observed.message.valid & (message.id == requester) & ~holder):
                m.d.sync += misdirected.eq(1)
            with m.If(observed.nothing_acknowledged | (now[0] < 0) | (now[1] < 0)):
                m.d.sync += spurious.eq(1)
        with m.If(self.decided):
            m.d.sync += [
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
                    *(*balances, held, facts.as_value()),
                    *(unserved, starved, misdirected, spurious),
                )
            ]

        wrong_cpu, overlap, storm, crash = facts.as_value()
        m.d.comb += self.verdicts.as_value().eq(
            Cat(
                unserved,
                misdirected,
                spurious,
                balances[2] < 0,
                wrong_cpu,
                overlap,
                starved,
                storm,
                crash | self.unfinished,
            )
        )
        return m


class Counters(wiring.Component):
    """A few numbers in a memory, gone through one a clock.

    Members
    -------
    going : In(1)
        Number ``index`` becomes zero (``clear``) or grows by ``add``; the next one follows. The
        first is number 0, at which ``look`` must have been in the clock before.
    index : Out, last : Out(1)
    look : In, value : Out
        Number ``look``, a clock later; not while going.
    """

    def __init__(self, count: int, bits: int):
        self._count = count
        super().__init__(
            {
                "going": In(1),
                "clear": In(1),
                "add": In(1),
                "index": Out(range(count)),
                "last": Out(1),
                "look": In(range(count)),
                "value": Out(bits),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.store = store = memory.Memory(
            shape=len(self.value), depth=self._count, init=[]
        )
        read, write = store.read_port(), store.write_port()
        following = Signal(range(self._count + 1))
        m.d.comb += [
            following.eq(self.index + 1),
            self.last.eq(following == self._count),
            read.addr.eq(Mux(self.going, following, self.look)),
            self.value.eq(read.data),
            write.en.eq(self.going),
            write.addr.eq(self.index),
            write.data.eq(Mux(self.clear, 0, self.value + self.add)),
        ]
        m.d.sync += self.index.eq(Mux(self.going & ~self.last, following, 0))
        return m


class Sequencer(wiring.Component):
    """Runs a program against the machine, trial by trial, and counts verdicts.

    Members
    -------
    begin : In(1)
        A strobe: sweep as ``sweep`` says, which holds while busy.
    busy : Out(1)
    load_edge, load_operation, load_stimulus : In
        Words for the memories, written in the clock ``valid`` is high; not while busy.
    observed : In(ObservedSignature)
        Of the clock in which ``enable`` is high.
    enable, reset : Out(1)
        The machine's clock counts; the machine and its inputs are as after power-up.
    cycle : In
        The machine's clock: how often it was let go since it was reset.
    submit : Out(cpus)
        CPUs whose operations are offered in this clock.
    fetched : Out(cpus), operation : Out(config.operation)
        In this clock, ``operation`` is what a CPU will be offered next.
    poke : Out(stream of Poke)
        Always taken.
    report : Out(stream of config.trial)
    swept : Out(stream of clocks)
    count_index, count : In, Out
        The counter of that number, a clock later; not while busy.
    lost : Out(1)
        The sweep has found a lost event.
    """

    def __init__(self, config: LabConfig):
        self._config = config
        cpus = config.soc.cpus
        super().__init__(
            {
                "begin": In(1),
                "sweep": In(config.sweep),
                "busy": Out(1),
                "load_edge": In(stream.Signature(config.load_edge, always_ready=True)),
                "load_operation": In(stream.Signature(config.load_operation, always_ready=True)),
                "load_stimulus": In(stream.Signature(config.load_stimulus, always_ready=True)),
                "observed": In(ObservedSignature(config)),
                "enable": Out(1),
                "reset": Out(1),
                "cycle": In(config.cycle_bits),
                "submit": Out(cpus),
                "fetched": Out(cpus),
                "operation": Out(config.operation),
                "poke": Out(stream.Signature(Poke, always_ready=True)),
                "report": Out(stream.Signature(config.trial)),
                "swept": Out(stream.Signature(CLOCKS_BITS)),
                "count_index": In(range(COUNTERS)),
                "count": Out(COUNT_BITS),
                "lost": Out(1),
            }
        )

    def _add_memory(self, m, name, shape, depth, load, address=None):
        m.submodules[name] = store = memory.Memory(shape=shape, depth=depth, init=[])
        write = store.write_port()
        m.d.comb += [
            write.addr.eq(load.payload.index if address is None else address),
            write.data.eq(load.payload.word),
            write.en.eq(load.valid),
        ]
        return store.read_port()

    def elaborate(self, platform):
        m = Module()
        config, observed, sweep = self._config, self.observed, self.sweep
        cpus = range(config.soc.cpus)
        edges = self._add_memory(m, "edges", config.edge, config.edges, self.load_edge)
        stimuli = self._add_memory(
            m, "stimuli", config.stimulus, config.stimuli, self.load_stimulus
        )
        loaded = self.load_operation.payload
        index_bits = bits_for(config.operations - 1)
        operations = self._add_memory(
            *(m, "operations", config.operation, len(cpus) << index_bits, self.load_operation),
            Cat(loaded.index[:index_bits], loaded.cpu),
        )
        edge, stimulus = edges.data, stimuli.data

        trial = Signal(COUNT_BITS)
        offset = Signal(config.cycle_bits)
        clocks = Signal(CLOCKS_BITS)
        pointer = Signal(range(config.edges))
        submit = Signal(len(cpus))
        watch = Signal(len(observed.lines))
        counting, waiting = Signal(), Signal()
        deadline = Signal(config.cycle_bits)
        resting = Signal()
        settling = Signal(config.cycle_bits)
        answered = Signal(len(cpus))
        lines = Signal(len(observed.lines))
        ran_out = Signal()
        left = Signal()
        unfinished = Signal()
        next_stimulus = Signal(range(config.stimuli))
        stimulus_at = Signal(config.cycle_bits)

        m.submodules.judge = judge = TrialJudge(config)
        wiring.connect(m, wiring.flipped(self.observed), judge.observed)
        m.d.comb += [
            judge.running.eq(self.enable),
            judge.edge.eq(edge),
            judge.unfinished.eq(unfinished),
            judge.sweep.eq(sweep),
            edges.addr.eq(pointer),
            stimuli.addr.eq(next_stimulus),
            self.operation.eq(operations.data),
            self.submit.eq(submit),
            self.poke.payload.field.eq(stimulus.field),
            self.poke.payload.value.eq(stimulus.value),
            self.report.payload.index.eq(trial),
            self.report.payload.verdicts.eq(judge.verdicts),
            self.report.payload.left.eq(left),
            self.report.payload.cycles.eq(self.cycle),
            self.swept.payload.eq(clocks),
        ]
        m.d.sync += clocks.eq(clocks + 1)

        # What the edge at hand asks for, of what was seen since software went on
        met = [
            edge.seen.answered == answered,
            edge.seen.lines == lines,
            edge.seen.due == ran_out,
        ]
        for cpu in cpus:
            answer = observed.answer[cpu]
            met += [
                edge.seen.error[cpu] == (answered[cpu] & answer.error),
                ~answered[cpu] | (edge.seen.data[cpu] == answer.data[:32]),
            ]

        next_cycle = Signal(config.cycle_bits)
        due = Signal()
        woken = Signal()
        ended = Signal()
        m.d.comb += [
            next_cycle.eq(self.cycle + 1),
            due.eq(counting & (next_cycle == deadline)),
            woken.eq(observed.answered.any() | (observed.lines & watch).any() | (due & waiting)),
            ended.eq(resting & ~stimulus.used & (settling == 1)),
        ]
        m.submodules.counters = counters = Counters(COUNTERS, COUNT_BITS)
        m.d.comb += self.count.eq(counters.value)

        def go_on():
            m.next = "STIMULATE"
            with m.If(~stimulus.used | (stimulus_at != self.cycle)):
                m.next = "RUN"

        with m.FSM() as fsm:
            m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
            with m.State("IDLE"):
                m.d.comb += counters.look.eq(self.count_index)
                with m.If(self.begin):
                    m.d.sync += [trial.eq(0), offset.eq(0), clocks.eq(0), self.lost.eq(0)]
                    m.next = "CLEAR"
            with m.State("CLEAR"):
                m.d.comb += [counters.going.eq(1), counters.clear.eq(1)]
                with m.If(counters.last):
                    m.next = "RESET"

            with m.State("RESET"):
                m.d.comb += [self.reset.eq(1), judge.clear.eq(1)]
                m.d.sync += [
                    signal.eq(0)
                    for signal in (
                        *(pointer, submit, watch, counting, waiting, resting),
                        *(answered, lines, ran_out, left, unfinished, next_stimulus),
                    )
                ]
                m.next = "FETCH_STIMULUS"

            with m.State("FETCH_STIMULUS"):
                m.next = "TAKE_STIMULUS"
            with m.State("TAKE_STIMULUS"):
                m.d.sync += stimulus_at.eq(stimulus.cycle + Mux(stimulus.swept, offset, 0))
                m.next = "STIMULATE"
                with m.If(next_stimulus == 0):  # the first of the trial: software comes first
                    m.next = "DECIDE"

            with m.State("DECIDE"):
                with m.If(Cat(met).all()):
                    m.d.comb += [
                        judge.decided.eq(1),
                        operations.addr.eq(edge.operation[0]),
                    ]
                    m.d.sync += [
                        pointer.eq(edge.target),
                        submit.eq(edge.submit),
                        watch.eq(edge.watch),
                        waiting.eq(edge.waiting),
                        resting.eq(edge.resting),
                        settling.eq(sweep.settle),
                        *(answered.eq(0), lines.eq(0), ran_out.eq(0)),
                    ]
                    at = edge.deadline == Deadline.AT
                    with m.If(edge.deadline != Deadline.KEEP):
                        m.d.sync += [
                            counting.eq(1),
                            deadline.eq(edge.clocks + Mux(at, 0, self.cycle)),
                        ]
                    with m.If(at & (edge.clocks <= self.cycle)):  # over: software would not wait
                        m.d.sync += left.eq(1)
                    with m.If(edge.submit.any()):
                        m.d.comb += edges.en.eq(0)
                        m.next = "OPERATION0"
                    with m.Else():
                        m.d.comb += edges.addr.eq(edge.target)
                        go_on()
                with m.Elif(edge.last):
                    m.d.sync += left.eq(1)
                    m.next = "JUDGE"
                with m.Else():
                    m.d.sync += pointer.eq(pointer + 1)
                    m.next = "FETCH"
            with m.State("FETCH"):
                m.next = "DECIDE"

            # The edge taken stays in sight until each CPU has its operation.
            for cpu in cpus:
                with m.State(f"OPERATION{cpu}"):
                    m.d.comb += self.fetched[cpu].eq(submit[cpu])
                    if cpu != cpus[-1]:
                        index = edge.operation[cpu + 1] | (cpu + 1) << index_bits
                        m.d.comb += [edges.en.eq(0), operations.addr.eq(index)]
                        m.next = f"OPERATION{cpu + 1}"
                    else:
                        go_on()

            with m.State("STIMULATE"):
                m.next = "RUN"
                with m.If(stimulus.used & (stimulus_at == self.cycle)):
                    m.d.comb += self.poke.valid.eq(1)
                    m.d.sync += next_stimulus.eq(next_stimulus + 1)
                    m.next = "FETCH_STIMULUS"

            with m.State("RUN"):
                m.d.comb += self.enable.eq(1)
                m.d.sync += [
                    submit.eq(0),
                    settling.eq(Mux(stimulus.used, sweep.settle, settling - 1)),
                    answered.eq(observed.answered),
                    lines.eq(observed.lines),
                ]
                with m.If(due):  # nobody may wait for it just now
                    m.d.sync += [ran_out.eq(1), counting.eq(0)]
                for cpu in cpus:
                    with m.If(observed.answered[cpu] & observed.answer[cpu].data[32:].any()):
                        m.d.sync += left.eq(1)
                with m.If(ended | (next_cycle == sweep.limit)):
                    m.d.sync += unfinished.eq(~resting)
                    m.next = "JUDGE"
                with m.Elif(woken):
                    m.next = "DECIDE"
                with m.Elif(stimulus.used & (stimulus_at == next_cycle)):
                    m.next = "STIMULATE"

            with m.State("JUDGE"):
                m.next = "COUNT"
            with m.State("COUNT"):
                verdicts = judge.verdicts.as_value()
                earned = Cat(
                    verdicts & (~left).replicate(len(Verdict)), ~verdicts.any() & ~left, left
                )
                m.d.comb += [
                    counters.going.eq(1),
                    counters.add.eq(earned.bit_select(counters.index, 1)),
                ]
                m.d.sync += self.lost.eq(self.lost | earned[0])
                wanted = verdicts & sweep.report.as_value()
                with m.If(counters.last):
                    m.next = "NEXT"
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
