"""A machine on the end of a serial line: the part of a board's design that no board changes.

The machine's clock counts only while something lets it: a run that the host asked for, or the
sequencer. Between the clocks of a run it stands still for as long as host and line need, so a
trial with its software far away is the same, clock for clock, as one in a simulator.
"""

from contextlib import contextmanager

from amaranth.hdl import Cat, EnableInserter, Module, Mux, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from ..soc import Soc
from ..tap import EventKind
from .framing import FrameReceiver, FrameTransmitter, Refusal
from .protocol import VERSION, LabConfig, Poke, Reply, Request, size_in_bytes
from .sequencer import Sequencer, event_of
from .uart import UartReceiver, UartTransmitter

PATIENCE = 200
"""Bits of silence within a frame after which it is given up: twenty bytes."""
LEDS = 4
SHELVED = (Reply.WAKE, Reply.RECORD)
"""Replies that are copied before they leave, where the request was; the others are short."""


def settable_ports(soc: Soc) -> dict:
    """The machine's inputs that the host may set, by name, in the order of their numbers.

    Not the CPU ports, which take operations; not the probe, which stays silent.
    """
    return {
        "_".join(map(str, path)): value
        for path, member, value in soc.signature.flatten(soc)
        if member.flow == wiring.In and path[0] not in ("cpu", "probe")
    }


def make_soc(config: LabConfig) -> Soc:
    """The machine of a laboratory: there is no external initiator, and operations are held."""
    return Soc(config.soc, external=False, held_operations=True)


class Lab(wiring.Component):
    """Serial line, machine, sequencer.

    Members
    -------
    rx, tx : In(1), Out(1)
        Idle high.
    leds : Out(4)
        A run is under way; a sweep is under way; the last trial counted lost an event; a frame
        was refused since the last reset.
    """

    channels = ()
    """Of a tap: it does not leave by wires."""

    def __init__(self, config: LabConfig):
        self.config = config
        self.soc = make_soc(config)
        unknown = sorted({*(config.recorded or ())} - {*self.soc.channels})
        if unknown:
            raise ValueError(
                f"the machine has no channel {unknown}; there are: {', '.join(self.soc.channels)}"
            )
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1), "leds": Out(LEDS)})

    def elaborate(self, platform):
        m = Module()
        config, soc = self.config, self.soc
        cpus = range(config.soc.cpus)
        requests, replies = config.requests(), config.replies()

        enable, reset, stop_sequencer = Signal(), Signal(), Signal()
        refusing, shelved = Signal(), Signal()
        m.submodules.soc = ResetInserter(reset)(EnableInserter(enable)(soc))
        sequencer = Sequencer(config)
        m.submodules.sequencer = ResetInserter(stop_sequencer)(sequencer)
        m.submodules.receiver = receiver = UartReceiver(config.divisor)
        m.submodules.transmitter = transmitter = UartTransmitter(config.divisor)
        sizes = {kind: size_in_bytes(layout) for kind, layout in (requests | replies).items()}
        m.submodules.frames = frames = FrameReceiver(
            max(sizes[request] for request in requests), PATIENCE * config.divisor
        )
        m.submodules.answers = answers = FrameTransmitter(max(sizes[reply] for reply in replies))
        m.d.comb += [
            receiver.rx.eq(self.rx),
            self.tx.eq(transmitter.tx),
            frames.byte.eq(receiver.byte),
            frames.valid.eq(receiver.valid),
            frames.bad.eq(receiver.bad),
        ]
        wiring.connect(m, answers.bytes, transmitter.bytes)

        # What the two who may let it run see of the machine

        observed = sequencer.observed
        lines = Cat(getattr(cpu, name) for cpu in soc.cpu for name in config.lines)
        m.d.comb += [
            observed.answered.eq(Cat(cpu.port.response.valid for cpu in soc.cpu)),
            observed.lines.eq(lines),
        ]
        for cpu in cpus:
            m.d.comb += observed.answer[cpu].eq(soc.cpu[cpu].port.response.payload)
        for event, kind, suffix in (
            (observed.event, EventKind.DEVICE_EVENT, "_event"),
            (observed.message, EventKind.MESSAGE, "posted"),
        ):
            valid, record = event_of(soc.channels, soc.tap, kind, suffix)
            m.d.comb += [event.valid.eq(valid), event.record.as_value().eq(record)]
        m.d.comb += observed.nothing_acknowledged.eq(
            Cat(
                tap.valid & (tap.record.kind == EventKind.ACKNOWLEDGE) & (tap.record.data == 1)
                for name, tap in zip(soc.channels, soc.tap, strict=True)
                if name.startswith(("apic", "gic_cpu"))
            ).any()
        )

        # The payload of a request, which ends where this ends; it stays until the next request,
        # but for a run, whose longer replies leave from here
        shelf = Signal(8 * max(sizes[kind] for kind in (*requests, *SHELVED)))
        shelve = Signal()
        to_shelve = Signal.like(shelf)
        with m.If(shelve):
            m.d.sync += shelf.eq(to_shelve)
        with m.Elif(frames.keep | answers.next & ~refusing & shelved):
            m.d.sync += shelf.eq(Cat(shelf[8:], frames.byte))

        def asked(request):
            layout = requests[request]
            return layout(shelf[len(shelf) - 8 * sizes[request] :][: layout.size])

        # The machine's inputs

        begin = Signal()
        poke = Signal(Poke)
        poked = Signal()
        submission = asked(Request.SUBMIT)
        submitted = Signal()
        m.d.comb += poke.eq(asked(Request.POKE))
        with m.If(sequencer.poke.valid):
            m.d.comb += [poke.eq(sequencer.poke.payload), poked.eq(1)]
        for number, (name, port) in enumerate(settable_ports(soc).items()):
            port = port.as_value() if hasattr(port, "as_value") else port
            kept = Signal(len(port), name=f"input_{name}")
            m.d.comb += port.eq(kept)
            with m.If(reset):
                m.d.sync += kept.eq(0)
            with m.Elif(poked & (poke.field == number)):
                m.d.sync += kept.eq(poke.value)
        for cpu in cpus:
            request = soc.cpu[cpu].port.request
            operation = Signal(config.operation, name=f"operation{cpu}")
            offer = Signal(name=f"offer{cpu}")
            m.d.comb += [
                request.valid.eq(offer | sequencer.submit[cpu]),
                *(request.payload[name].eq(operation[name]) for name, _ in config.operation),
            ]
            with m.If(reset | enable):
                m.d.sync += offer.eq(0)
            with m.If(sequencer.fetched[cpu]):
                m.d.sync += operation.eq(sequencer.operation)
            with m.If(submitted & (submission.cpu == cpu)):
                m.d.sync += [offer.eq(1), operation.eq(submission.word)]

        # Requests

        until = Signal(config.cycle_bits)
        for request, load in (
            (Request.LOAD_EDGE, sequencer.load_edge),
            (Request.LOAD_OPERATION, sequencer.load_operation),
            (Request.LOAD_STIMULUS, sequencer.load_stimulus),
        ):
            m.d.comb += load.payload.eq(asked(request))
        m.d.comb += [
            sequencer.sweep.eq(asked(Request.SWEEP)),
            sequencer.begin.eq(begin),
            sequencer.count_index.eq(asked(Request.COUNT).index),
        ]

        idle = Signal()
        known, wrong_length = Signal(), Signal()
        m.d.comb += [frames.busy.eq(~idle), wrong_length.eq(1)]
        with m.Switch(frames.kind):
            for request in requests:
                with m.Case(request):
                    m.d.comb += [
                        known.eq(1),
                        wrong_length.eq(frames.length != sizes[request]),
                    ]
        whole = Signal()
        is_reset = frames.kind == Request.RESET.value
        m.d.comb += whole.eq(frames.done & known & ~wrong_length)

        # A reset waits for the end of a reply that is under way: what that says may be changed.
        stopping, stop = Signal(), Signal()
        with m.If(stop):
            m.d.sync += stopping.eq(0)
        with m.If(whole & is_reset):
            m.d.sync += stopping.eq(1)
        m.d.comb += [
            stop.eq(stopping & answers.idle),
            reset.eq(stop | sequencer.reset),
            stop_sequencer.eq(stop),
        ]

        # Replies: the refusal of a frame, or what the state of the machine below has to say

        refused = Signal()
        reason = Signal(Refusal)
        trouble = Signal()
        replying = Signal()
        reply = Signal(Reply, init=Reply.DONE)
        chosen = Signal()
        with m.If(answers.idle):
            m.d.sync += chosen.eq(refused)
        m.d.comb += [
            refusing.eq(Mux(answers.idle, refused, chosen)),
            answers.valid.eq(refusing | replying),
            answers.kind.eq(Mux(refusing, Reply.REFUSED, reply)),
        ]
        told = answers.ready & ~refusing
        payloads = {
            kind: Signal(layout, name=f"reply_{kind.name.lower()}")
            for kind, layout in replies.items()
        }
        position = Signal(range(max(sizes[kind] for kind in replies if kind not in SHELVED)))
        with m.If(answers.idle):
            m.d.sync += position.eq(0)
        with m.Elif(answers.next):
            m.d.sync += position.eq(position + 1)
        with m.Switch(answers.kind):
            for kind, payload in payloads.items():
                with m.Case(kind):
                    m.d.comb += answers.length.eq(sizes[kind])
                    if kind in SHELVED:
                        m.d.comb += [
                            *(shelved.eq(1), shelve.eq(answers.begun)),
                            answers.byte.eq(shelf[:8]),
                        ]
                    else:
                        m.d.comb += answers.byte.eq(payload.as_value().word_select(position, 8))

        def refuse(why):
            with m.If(~refused):  # one at a time: the host waits for replies
                m.d.sync += [refused.eq(1), reason.eq(why)]

        with m.If(frames.refused):
            m.d.sync += trouble.eq(1)
            refuse(frames.refusal)
        with m.Elif(frames.done & ~known):
            refuse(Refusal.UNKNOWN)
        with m.Elif(frames.done & wrong_length):
            refuse(Refusal.LENGTH)
        with m.Elif(frames.done & ~is_reset & ~(idle & frames.kept)):
            refuse(Refusal.BUSY)
        with m.If(stop):
            m.d.sync += trouble.eq(0)
        with m.If(answers.ready & refusing):
            m.d.sync += refused.eq(0)

        # The host's runs: each clock of the machine is looked at while it stands, then let go.

        cycle = Signal(config.cycle_bits)
        levels = Signal(len(lines))
        recorded = [
            number
            for number, name in enumerate(soc.channels)
            if config.recorded is None or name in config.recorded
        ]
        active = Cat(soc.tap_active[number] for number in recorded)
        todo = Signal(len(recorded))
        first = Signal(len(todo))
        passed = Signal()
        carried_out = Signal(bits_for(max(request.value for request in Request)))
        channel, record = 0, 0
        for place, number in enumerate(recorded):
            bits = soc.tap[number].record.as_value()
            channel |= number * first[place]
            record |= bits & first[place].replicate(len(bits))
        wake, report = payloads[Reply.WAKE].as_value(), payloads[Reply.RECORD].as_value()
        waking = reply == Reply.WAKE
        m.d.comb += to_shelve.eq(report | wake & waking.replicate(len(wake)))
        wake = payloads[Reply.WAKE]
        m.d.comb += [
            sequencer.cycle.eq(cycle),
            first.eq(todo & (~todo + 1)),
            payloads[Reply.DONE].request.eq(carried_out),
            payloads[Reply.REFUSED].reason.eq(reason),
            payloads[Reply.INFO].version.eq(VERSION),
            payloads[Reply.INFO].identity.eq(config.identity),
            payloads[Reply.RECORD].cycle.eq(Mux(todo.any(), cycle, 0)),
            payloads[Reply.RECORD].channel.eq(channel),
            payloads[Reply.RECORD].record.as_value().eq(record),
            *(wake.cycle.eq(cycle), wake.passed.eq(passed), wake.lines.eq(lines)),
            payloads[Reply.TRIAL].eq(sequencer.report.payload),
            payloads[Reply.SWEPT].clocks.eq(sequencer.swept.payload),
            payloads[Reply.COUNT].value.eq(sequencer.count),
        ]
        for cpu in cpus:
            answer = observed.answer[cpu]
            m.d.comb += [
                wake.answer[cpu].data.eq(answer.data),
                wake.answer[cpu].error.eq(answer.error),
                wake.answer[cpu].valid.eq(observed.answered[cpu]),
            ]
        with m.If(enable):
            m.d.sync += [cycle.eq(cycle + 1), levels.eq(lines)]
        with m.If(reset):
            m.d.sync += [cycle.eq(0), levels.eq(0), todo.eq(0)]

        running = Signal()

        def say(kind):
            m.d.comb += [replying.eq(1), reply.eq(kind)]

        @contextmanager
        def busy(name):
            """A state in which only RESET is taken."""
            with m.State(name):
                m.d.comb += running.eq(1)
                yield
                with m.If(stop):
                    m.next = "DONE"

        with m.FSM(name="host") as fsm:
            m.d.comb += idle.eq(fsm.ongoing("IDLE"))
            with m.State("IDLE"), m.If(whole & (frames.kept | is_reset)):
                m.d.sync += carried_out.eq(frames.kind)
                m.next = "DONE"
                with m.Switch(frames.kind):
                    with m.Case(Request.POKE):
                        m.d.comb += poked.eq(1)
                    with m.Case(Request.SUBMIT):
                        m.d.comb += submitted.eq(1)
                    with m.Case(Request.LOAD_EDGE):
                        m.d.comb += sequencer.load_edge.valid.eq(1)
                    with m.Case(Request.LOAD_OPERATION):
                        m.d.comb += sequencer.load_operation.valid.eq(1)
                    with m.Case(Request.LOAD_STIMULUS):
                        m.d.comb += sequencer.load_stimulus.valid.eq(1)
                    with m.Case(Request.RUN):
                        m.d.sync += until.eq(asked(Request.RUN).until)
                        m.next = "LOOK"
                    with m.Case(Request.SWEEP):
                        m.d.comb += begin.eq(1)
                        m.next = "SWEEP"
                    with m.Case(Request.INFO):
                        m.next = "INFO"
                    with m.Case(Request.COUNT):
                        m.next = "COUNT"

            for name, kind in (
                ("DONE", Reply.DONE),
                ("INFO", Reply.INFO),
                ("COUNT", Reply.COUNT),
            ):
                with m.State(name):
                    say(kind)
                    with m.If(told):
                        m.next = "IDLE"

            with busy("LOOK"):
                m.d.sync += passed.eq(0)
                m.next = "GO"
                with m.If(cycle >= until):
                    m.next = "WAKE"
                with m.Elif(active.any()):
                    m.d.sync += todo.eq(active)
                    m.next = "RECORD"
            with busy("RECORD"):
                say(Reply.RECORD)
                with m.If(told):
                    m.d.sync += todo.eq(todo & ~first)
                    with m.If(todo == first):
                        m.next = "GO"
            with busy("GO"):
                with m.If(observed.answered.any() | (lines != levels)):
                    m.d.sync += passed.eq(1)
                    m.next = "WAKE"
                with m.Else():
                    m.d.comb += enable.eq(1)
                    m.next = "LOOK"
            with busy("WAKE"):
                say(Reply.WAKE)
                with m.If(told):
                    m.d.comb += enable.eq(passed)
                    m.next = "IDLE"

            with busy("SWEEP"):
                m.d.comb += enable.eq(sequencer.enable)
                with m.If(sequencer.report.valid):
                    say(Reply.TRIAL)
                    m.d.comb += sequencer.report.ready.eq(told)
                with m.If(sequencer.swept.valid):
                    say(Reply.SWEPT)
                    m.d.comb += sequencer.swept.ready.eq(told)
                    with m.If(told):
                        m.next = "IDLE"

        with m.If(whole & is_reset):
            m.d.sync += carried_out.eq(Request.RESET)
        m.d.comb += self.leds.eq(Cat(running, sequencer.busy, sequencer.lost, trouble))
        return m
