"""A machine on the end of a serial line: the part of a board's design that no board changes.

The machine's clock counts only while something lets it: a run that the host asked for, or the
sequencer. Between the clocks of a run it stands still for as long as host and line need, so a
trial with its software far away is the same, clock for clock, as one in a simulator.
"""

from contextlib import contextmanager

from amaranth.hdl import Cat, EnableInserter, Module, ResetInserter, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..cpu_port import CpuRequest
from ..soc import Soc
from ..tap import EventKind
from .framing import FrameReceiver, FrameTransmitter, Refusal
from .protocol import (
    LINES,
    VERSION,
    LabConfig,
    Poke,
    Reply,
    Request,
    Submission,
    size_in_bytes,
)
from .sequencer import Sequencer, event_of
from .uart import UartReceiver, UartTransmitter

PATIENCE = 200
"""Bits of silence within a frame after which it is given up: twenty bytes."""
LEDS = 4


def settable_ports(soc: Soc) -> dict:
    """The machine's inputs that the host may set, by name, in the order of their numbers.

    Not the CPU ports, which take operations; not the external initiator and the probe, which stay
    silent.
    """
    return {
        "_".join(map(str, path)): value
        for path, member, value in soc.signature.flatten(soc)
        if member.flow == wiring.In and path[0] not in ("cpu", "external", "external_requester")
        if path[0] != "probe"
    }


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
        self.soc = Soc(config.soc)
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1), "leds": Out(LEDS)})

    def elaborate(self, platform):
        m = Module()
        config, soc = self.config, self.soc
        cpus = range(config.soc.cpus)
        requests, replies = config.requests(), config.replies()

        enable, reset, stop = Signal(), Signal(), Signal()
        m.submodules.soc = ResetInserter(reset)(EnableInserter(enable)(soc))
        sequencer = Sequencer(config)
        m.submodules.sequencer = ResetInserter(stop)(sequencer)
        m.submodules.receiver = receiver = UartReceiver(config.divisor)
        m.submodules.transmitter = transmitter = UartTransmitter(config.divisor)
        m.submodules.frames = frames = FrameReceiver(
            max(map(size_in_bytes, requests.values())), PATIENCE * config.divisor
        )
        m.submodules.answers = answers = FrameTransmitter(max(map(size_in_bytes, replies.values())))
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
        lines = Cat(Cat(cpu.irq, cpu.virq, cpu.intr) for cpu in soc.cpu)
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

        # The machine's inputs

        begin = Signal()
        poke = Signal(Poke)
        poked = Signal()
        submission = Signal(Submission)
        submitted = Signal()
        inputs = settable_ports(soc)
        for number, (name, port) in enumerate(inputs.items()):
            port = port.as_value() if hasattr(port, "as_value") else port
            kept = Signal(len(port), name=f"input_{name}")
            m.d.comb += port.eq(kept)
            with m.If(reset):
                m.d.sync += kept.eq(0)
            with m.Elif(poked & (poke.field == number)):
                m.d.sync += kept.eq(poke.value)
        for cpu in cpus:
            request = soc.cpu[cpu].port.request
            offered = Signal(CpuRequest, name=f"offered{cpu}")
            offer = Signal(name=f"offer{cpu}")
            compact = sequencer.request[cpu]
            m.d.comb += [request.valid.eq(offer), request.payload.eq(offered)]
            with m.If(sequencer.busy):
                m.d.comb += [
                    request.valid.eq(sequencer.submit[cpu]),
                    request.payload.operation.eq(compact.operation),
                    request.payload.size.eq(compact.size),
                    request.payload.address.eq(compact.address),
                    request.payload.data.eq(compact.data),
                ]
            with m.If(reset | enable):
                m.d.sync += offer.eq(0)
            with m.If(submitted & (submission.cpu == cpu)):
                m.d.sync += [offer.eq(1), offered.eq(submission.request)]

        # Requests and replies

        cycle = Signal(32)
        until = Signal(32)
        levels = Signal(LINES * len(cpus))
        wake = Signal(config.wake)
        todo = Signal(len(soc.tap_active))
        refused = Signal()
        reason = Signal(Refusal)
        trouble = Signal()
        idle, running = Signal(), Signal()
        sending = Signal()

        def asked(request):
            """The payload of the frame at hand, read as ``request``."""
            layout = requests[request]
            return layout(frames.payload[: layout.size]) if layout.size else None

        def answer(reply, **fields):
            layout = replies[reply]
            payload = Signal(layout, name=f"reply_{reply.name.lower()}")
            m.d.comb += [payload[name].eq(value) for name, value in fields.items()]
            m.d.comb += [
                sending.eq(reply != Reply.REFUSED),
                answers.valid.eq(1),
                answers.kind.eq(reply),
                answers.length.eq(size_in_bytes(layout)),
                answers.payload.eq(payload),
            ]

        for request, load in (
            (Request.LOAD_EDGE, sequencer.load_edge),
            (Request.LOAD_OPERATION, sequencer.load_operation),
            (Request.LOAD_STIMULUS, sequencer.load_stimulus),
        ):
            m.d.comb += load.payload.eq(asked(request))
        m.d.comb += [
            sequencer.sweep.eq(asked(Request.SWEEP)),
            sequencer.begin.eq(begin),
            submission.eq(asked(Request.SUBMIT)),
            poke.eq(asked(Request.POKE)),
            sequencer.count_index.eq(asked(Request.COUNT).index),
        ]
        with m.If(sequencer.poke.valid):
            m.d.comb += [poke.eq(sequencer.poke.payload), poked.eq(1)]

        wrong_length = Signal()
        known = Signal()
        m.d.comb += wrong_length.eq(1)
        with m.Switch(frames.kind):
            for request, layout in requests.items():
                with m.Case(request):
                    m.d.comb += [
                        known.eq(1),
                        wrong_length.eq(frames.length != size_in_bytes(layout)),
                    ]
        acceptable = Signal()
        m.d.comb += acceptable.eq(frames.done & known & ~wrong_length)
        m.d.comb += stop.eq(acceptable & (frames.kind == Request.RESET.value))

        m.d.comb += reset.eq(stop | sequencer.reset)
        with m.If(frames.refused):
            m.d.sync += [refused.eq(1), trouble.eq(1), reason.eq(frames.refusal)]
        with m.Elif(frames.done & ~known):
            m.d.sync += [refused.eq(1), reason.eq(Refusal.UNKNOWN)]
        with m.Elif(frames.done & wrong_length):
            m.d.sync += [refused.eq(1), reason.eq(Refusal.LENGTH)]
        with m.Elif(frames.done & ~idle & ~stop):
            m.d.sync += [refused.eq(1), reason.eq(Refusal.BUSY)]
        with m.If(stop):
            m.d.sync += trouble.eq(0)
        with m.If(refused):
            answer(Reply.REFUSED, reason=reason)
            with m.If(answers.ready & ~sending):
                m.d.sync += refused.eq(0)

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
            with m.State("IDLE"), m.If(acceptable):
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
                        m.d.sync += [until.eq(asked(Request.RUN).until), wake.eq(0)]
                        m.next = "LOOK"
                    with m.Case(Request.SWEEP):
                        m.d.comb += begin.eq(1)
                        m.next = "SWEEP"
                    with m.Case(Request.INFO):
                        m.next = "INFO"
                    with m.Case(Request.COUNT):
                        m.next = "COUNT"

            with m.State("DONE"):
                answer(Reply.DONE, request=frames.kind)
                with m.If(answers.ready):
                    m.next = "IDLE"
            with m.State("INFO"):
                answer(Reply.INFO, version=VERSION, identity=config.identity)
                with m.If(answers.ready):
                    m.next = "IDLE"
            with m.State("COUNT"):
                answer(Reply.COUNT, value=sequencer.count)
                with m.If(answers.ready):
                    m.next = "IDLE"

            # A clock of the machine is looked at while it stands, then it is let go.
            with busy("LOOK"):
                m.d.sync += todo.eq(soc.tap_active)
                m.next = "GO"
                with m.If(cycle >= until):
                    m.next = "WAKE"
                with m.Elif(soc.tap_active.any()):
                    m.next = "RECORD"
            with busy("RECORD"):
                first = todo & (~todo + 1)[: len(todo)]
                channel, record = 0, 0
                for number, tap in enumerate(soc.tap):
                    channel |= number * first[number]
                    record |= tap.record.as_value() & first[number].replicate(
                        len(tap.record.as_value())
                    )
                answer(Reply.RECORD, cycle=cycle, channel=channel, record=record)
                with m.If(answers.ready):
                    m.d.sync += todo.eq(todo & (todo - 1))
                    with m.If((todo & (todo - 1)) == 0):
                        m.next = "GO"
            with busy("GO"):
                m.d.comb += enable.eq(1)
                m.d.sync += [cycle.eq(cycle + 1), levels.eq(lines)]
                for cpu in cpus:
                    payload = observed.answer[cpu]
                    m.d.sync += [
                        wake.answer[cpu].data.eq(payload.data),
                        wake.answer[cpu].error.eq(payload.error),
                        wake.answer[cpu].valid.eq(observed.answered[cpu]),
                        wake.answer[cpu].lines.eq(lines.word_select(cpu, LINES)),
                    ]
                m.next = "LOOK"
                with m.If(observed.answered.any() | (lines != levels)):
                    m.next = "WAKE"
            with busy("WAKE"):
                answer(Reply.WAKE, cycle=cycle, answer=wake.answer)
                with m.If(answers.ready):
                    m.next = "IDLE"

            with busy("SWEEP"):
                m.d.comb += enable.eq(sequencer.enable)
                with m.If(sequencer.report.valid):
                    answer(Reply.TRIAL, **_fields(sequencer.report.payload))
                    m.d.comb += sequencer.report.ready.eq(answers.ready)
                with m.If(sequencer.swept.valid):
                    answer(Reply.SWEPT, clocks=sequencer.swept.payload.clocks)
                    m.d.comb += sequencer.swept.ready.eq(answers.ready)
                    with m.If(answers.ready):
                        m.next = "IDLE"

        with m.If(reset):  # a clock that was let go at the same time does not count
            m.d.sync += [cycle.eq(0), levels.eq(0)]
        m.d.comb += self.leds.eq(Cat(running, sequencer.busy, sequencer.lost, trouble))
        return m


def _fields(view) -> dict:
    return {name: view[name] for name, _ in data.Layout.cast(view.shape())}
