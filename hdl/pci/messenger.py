"""From an event to what leaves the function: data first, then the interrupt."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .interfaces import (
    VECTOR_BITS,
    Message,
    MessageKeeperSignature,
    PostedWrite,
    QuirkSignature,
)


class Messenger(wiring.Component):
    """Sends the interrupts of a function, one at a time.

    For an event: wait for ``moderation`` clocks, write the event count to memory (if asked for),
    then ask the keeper for the message and send it. Vectors take turns, lowest first after the
    one served last. A vector that was found pending and unmasked goes before all of these and
    skips wait and data.

    * Events on one vector coalesce while they wait: from the event until the clock in which the
      count is read. An event in that clock or later has an interrupt of its own.
    * Without moderation and data, the keeper is asked 3 clocks after the event. With
      ``latch_at_event`` it is asked 2 clocks after the event, or when the messages in front of
      that vector have left, and once more at the end whether to send. A vector that is masked
      the first time is not latched.
    * Whether messages are on is seen when the keeper is to be asked. While they are off, an event
      ends with ``signal`` alone: INTx takes over, or nothing does.
    * ``master`` is looked at when a write is to be offered. Once offered, it leaves. Without
      it data and message are dropped, or wait (``hold_when_no_master``): masks and registers are
      then looked at when it is back.

    Parameters
    ----------
    vectors : int
    basic : bool
        No data is written and there are no quirks; what that needs is not built. The keeper's
        reply must then hold until the next request.

    Members
    -------
    event, vector : In
    count : In(32)
    dma_enable, dma_address : In
    master : In(1)
    message_enable : In(1)
    messages : Out(MessageKeeperSignature())
    quirks : In(QuirkSignature())
    posted : Out(stream of PostedWrite)
    signal : Out(1)
        Strobe: the data of an event has left (or there is none); now comes its interrupt.
    waiting : Out(1)
        An event's interrupt has not been sent, dropped or found masked.
    subject : Out(6)
        The vector under way or next.
    blocked : Out(1)
        Strobe: ``subject``'s interrupt is held up or dropped because bus mastering is off; once
        for each interrupt.
    """

    def __init__(self, *, vectors: int, basic: bool = False):
        self._vectors = vectors
        self._basic = basic
        super().__init__(
            {
                "event": In(1),
                "vector": In(VECTOR_BITS),
                "count": In(32),
                "dma_enable": In(1),
                "dma_address": In(64),
                "master": In(1),
                "message_enable": In(1),
                "messages": Out(MessageKeeperSignature()),
                "quirks": In(QuirkSignature()),
                "posted": Out(stream.Signature(PostedWrite)),
                "signal": Out(1),
                "waiting": Out(1),
                "subject": Out(VECTOR_BITS),
                "blocked": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        request, reply = self.messages.request, self.messages.reply
        hold = self.quirks.hold_when_no_master

        events = Signal(self._vectors)  # the vectors with events that wait
        following = Signal(VECTOR_BITS)
        current = Signal(VECTOR_BITS)
        resume = Signal()
        latched = Signal()
        message = Signal(Message)
        timer = Signal(12)
        write = Signal(PostedWrite)
        reported = Signal()  # `blocked` was said for the interrupt under way
        idle = Signal()

        self._choose(m, events, current, following)
        m.d.comb += [
            self.waiting.eq(events.any() | ~idle),
            self.subject.eq(Mux(idle, following, current)),
            request.p.vector.eq(current),
        ]

        if self._basic:
            m.d.comb += [
                self.posted.p.address.eq(reply.message.address),
                self.posted.p.data.eq(reply.message.data),
                self.posted.p.interrupt.eq(1),
            ]
        else:
            m.d.comb += self.posted.payload.eq(write)

        def block():
            with m.If(~reported):
                m.d.comb += self.blocked.eq(1)
                m.d.sync += reported.eq(1)

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += idle.eq(1)
                m.d.sync += [
                    reported.eq(0),
                    latched.eq(0),
                    timer.eq(self.quirks.moderation),
                    resume.eq(self.messages.resumable.valid),
                ]
                with m.If(self.messages.resumable.valid):
                    m.d.comb += self.subject.eq(self.messages.resumable.vector)
                    m.d.sync += current.eq(self.messages.resumable.vector)
                    m.next = "ASK"
                with m.Elif(events.any()):
                    m.d.sync += current.eq(following)
                    m.next = "WAIT"
                    if not self._basic:
                        with m.If(self.quirks.latch_at_event & self.message_enable):
                            m.next = "PEEK"

            if self._basic:
                with m.State("WAIT"):
                    m.d.sync += events.bit_select(current, 1).eq(0)
                    m.d.comb += self.signal.eq(1)
                    m.next = "ASK"
            else:
                self._latch(m, latched, message)
                self._wait(m, events, current, timer, write, block)

            with m.State("ASK"):
                with m.If(~self.message_enable):
                    m.next = "IDLE"
                with m.Elif(~self.master & hold):
                    block()
                with m.Else():
                    m.d.comb += [request.valid.eq(1), request.p.resume.eq(resume)]
                    with m.If(request.ready):
                        m.next = "ANSWER"
            with m.State("ANSWER"), m.If(self.messages.reply_valid):
                chosen = Mux(latched, message, reply.message)
                m.d.sync += [
                    write.address.eq(Message(chosen).address),
                    write.data.eq(Message(chosen).data),
                    write.interrupt.eq(1),
                ]
                with m.If(~reply.send):
                    m.next = "IDLE"
                with m.Elif(self.master):
                    m.next = "SEND_MESSAGE"
                with m.Elif(hold):
                    block()
                    # the pending bit is cleared by now: ask again as for a fresh event
                    m.d.sync += resume.eq(0)
                    m.next = "ASK"
                with m.Else():
                    block()
                    m.next = "IDLE"
            with m.State("SEND_MESSAGE"):
                m.d.comb += self.posted.valid.eq(1)
                with m.If(self.posted.ready):
                    m.next = "IDLE"

        # stands last: an event in the clock in which its vector is served waits anew
        with m.If(self.event):
            m.d.sync += events.bit_select(self.vector, 1).eq(1)
        return m

    def _latch(self, m, latched, message):
        """The quirk that fixes a message when its event happens."""
        request, reply = self.messages.request, self.messages.reply
        with m.State("PEEK"):
            with m.If(~self.message_enable):
                m.next = "WAIT"  # nobody is left to be asked
            with m.Else():
                m.d.comb += [request.valid.eq(1), request.p.peek.eq(1)]
                with m.If(request.ready):
                    m.next = "LATCH"
        with m.State("LATCH"), m.If(self.messages.reply_valid):
            m.d.sync += [latched.eq(reply.send), message.eq(reply.message)]
            m.next = "WAIT"

    def _wait(self, m, events, current, timer, write, block):
        """Moderation, and the data that go before a message."""
        with m.State("WAIT"):
            m.d.sync += timer.eq(timer - 1)
            with m.If(timer == 0):
                m.d.sync += [
                    events.bit_select(current, 1).eq(0),
                    write.address.eq(self.dma_address),
                    write.data.eq(self.count),
                    write.interrupt.eq(0),
                ]
                with m.If(self.dma_enable):
                    m.next = "DATA"
                with m.Else():
                    m.d.comb += self.signal.eq(1)
                    m.next = "ASK"
        with m.State("DATA"):
            with m.If(self.master):
                m.next = "SEND_DATA"
            with m.Elif(self.quirks.hold_when_no_master):
                block()
            with m.Else():
                m.d.comb += self.signal.eq(1)
                m.next = "ASK"
        with m.State("SEND_DATA"):
            m.d.comb += self.posted.valid.eq(1)
            with m.If(self.posted.ready):
                m.d.comb += self.signal.eq(1)
                m.next = "ASK"

    def _choose(self, m, events, last, following):
        """The lowest waiting vector above the last one served, or else the lowest of all."""
        for above_last in (False, True):
            for number in reversed(range(self._vectors)):
                eligible = events[number] & (last < number) if above_last else events[number]
                with m.If(eligible):
                    m.d.comb += following.eq(number)
