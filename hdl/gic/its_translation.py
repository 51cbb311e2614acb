"""From a device's message to an LPI on its way to a CPU."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..registers.gits import Reason
from ..tap import EventKind, TapSignature, tap_event
from .flight import Flight
from .its_cache import TranslationCache
from .its_tables import TableOperation, TablePort

QUEUE_DEPTH = 4
FLIGHT_DEPTH = 4


class Message(data.Struct):
    """A write to GITS_TRANSLATER; ``reason`` is not OK if it is known to be dropped."""

    device: 16
    event: 32
    reason: 8


class Departure(data.Struct):
    """A translated message: make ``intid`` pending at CPU ``target``."""

    intid: 16
    target: 8


class TranslationUnit(wiring.Component):
    """Translates messages in order, one at a time, and sends them off.

    A message is translated when it gets to the head of the queue; what it then read (or found in
    the cache) is what it becomes, however long it takes from there to the redistributor. This is
    the window in which a command can overtake it: ``distance`` widens it.

    Clocks from message taken to departure offered, nothing else under way: 3 when the translation
    is cached, 4 + a TRANSLATE of :class:`TableUnit` otherwise; ``distance`` more. Cached
    translations follow each other every 2 clocks. Whatever cannot be translated is dropped,
    counted, and reported on the tap with the reason.

    Members
    -------
    messages : In(stream of Message)
        Up to four wait here.
    departures : Out(stream of Departure)
    tables : Out(TablePort())
    forget, forget_device, forget_event, forget_all : In
        For the cache.
    mark : In(1), drained : Out(1)
        After a clock of ``mark``, ``drained`` is high from when every message whose translation
        had begun has departed, until the next ``mark``. Later messages do not delay it.
    idle : Out(1)
        No message is here.
    distance : In(8)
    dropped : Out(16)
        Messages dropped since reset; wraps.
    tap : Out(TapSignature())
        TRANSLATION, TRANSLATION_DROPPED.
    """

    def __init__(self, *, cpus: int, device_id_bits: int, event_id_bits: int, cache: int):
        self._cpus = cpus
        self._device_id_bits = device_id_bits
        self._event_id_bits = event_id_bits
        self._cache = cache
        super().__init__(
            {
                "messages": In(stream.Signature(Message)),
                "departures": Out(stream.Signature(Departure)),
                "tables": Out(TablePort()),
                "forget": In(1),
                "forget_device": In(device_id_bits),
                "forget_event": In(event_id_bits),
                "forget_all": In(1),
                "mark": In(1),
                "drained": Out(1),
                "idle": Out(1),
                "distance": In(8),
                "dropped": Out(16),
                "tap": Out(TapSignature()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.queue = queue = Flight(Message, depth=QUEUE_DEPTH)
        m.submodules.flight = flight = Flight(Departure, depth=FLIGHT_DEPTH)
        m.submodules.cache = cache = TranslationCache(
            self._cache,
            device_id_bits=self._device_id_bits,
            event_id_bits=self._event_id_bits,
            cpus=self._cpus,
        )
        wiring.connect(m, wiring.flipped(self.messages), queue.near)
        wiring.connect(m, flight.far, wiring.flipped(self.departures))

        head = queue.far
        found = Signal(Departure)
        walked = Signal()
        result = Signal(Departure)
        m.d.comb += [
            flight.distance.eq(self.distance),
            cache.device.eq(head.p.device),
            cache.event.eq(head.p.event),
            cache.fill_intid.eq(self.tables.answer.intid),
            cache.fill_target.eq(self.tables.answer.target),
            cache.forget.eq(self.forget),
            cache.forget_device.eq(self.forget_device),
            cache.forget_event.eq(self.forget_event),
            cache.forget_all.eq(self.forget_all),
            self.tables.request.operation.eq(TableOperation.TRANSLATE),
            self.tables.request.device.eq(head.p.device),
            self.tables.request.event.eq(head.p.event),
            flight.near.payload.eq(found),
        ]
        with m.If(walked):
            m.d.comb += found.eq(result)
        with m.Else():
            m.d.comb += [found.intid.eq(cache.intid), found.target.eq(cache.target)]

        def drop(reason):
            m.d.comb += head.ready.eq(1)
            m.d.sync += self.dropped.eq(self.dropped + 1)
            m.d.comb += tap_event(
                self.tap,
                EventKind.TRANSLATION_DROPPED,
                id=head.p.device,
                address=head.p.event,
                data=reason,
            )

        def depart():
            m.d.comb += flight.near.valid.eq(1)
            with m.If(flight.near.ready):
                m.d.comb += head.ready.eq(1)
                m.d.comb += tap_event(
                    self.tap,
                    EventKind.TRANSLATION,
                    id=head.p.device,
                    address=head.p.event,
                    data=found.intid,
                    unit=found.target,
                )
                m.next = "LOOK_UP"

        between = Signal()  # no translation has begun that has not ended
        out_of_range = Mux(
            head.p.device[self._device_id_bits :].any(), Reason.DEVICE_OOR, Reason.ID_OOR
        )
        with m.FSM():
            with m.State("LOOK_UP"):
                m.d.comb += [between.eq(1), cache.lookup.eq(1)]
                m.d.sync += walked.eq(0)
                with m.If(head.valid):
                    with m.If(head.p.reason != Reason.OK):
                        drop(head.p.reason)
                    with m.Elif(
                        head.p.device[self._device_id_bits :].any()
                        | head.p.event[self._event_id_bits :].any()
                    ):
                        drop(out_of_range)
                    with m.Else():
                        m.next = "FOUND"

            with m.State("FOUND"):
                with m.If(walked | cache.hit):
                    depart()
                with m.Else():
                    m.next = "WALK"

            with m.State("WALK"):
                m.d.comb += self.tables.valid.eq(1)
                with m.If(self.tables.done):
                    with m.If(self.tables.answer.reason == Reason.OK):
                        m.d.comb += cache.fill.eq(1)
                        m.d.sync += [
                            walked.eq(1),
                            result.intid.eq(self.tables.answer.intid),
                            result.target.eq(self.tables.answer.target),
                        ]
                        m.next = "FOUND"
                    with m.Else():
                        drop(self.tables.answer.reason)
                        m.next = "LOOK_UP"

        # How many have taken off and not landed; those of them that a mark still waits for.
        aloft = Signal(range(FLIGHT_DEPTH + 1))
        owed = Signal.like(aloft)
        take_off = flight.near.valid & flight.near.ready
        landing = self.departures.valid & self.departures.ready
        marked = Signal()
        waiting = Signal()
        m.d.sync += aloft.eq(aloft + take_off - landing)
        m.d.comb += [
            self.idle.eq(between & ~head.valid & (aloft == 0)),
            self.drained.eq(~marked & ~waiting),
        ]
        with m.If(self.mark):
            m.d.sync += marked.eq(1)
        with m.Elif(marked & between):
            m.d.sync += [marked.eq(0), waiting.eq(1), owed.eq(aloft - landing)]
        with m.Elif(waiting):
            m.d.sync += owed.eq(owed - (landing & (owed != 0)))
            with m.If(owed == 0):
                m.d.sync += waiting.eq(0)
        return m
