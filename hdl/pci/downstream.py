"""The way down: one access at a time from the bus to a function, and its answer back."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..bus import BusRequest, BusSignature
from ..registers import pci
from ..tap import EventKind, TapSignature, tap_event
from .interfaces import AccessSignature, lanes
from .upstream import DEPTH

ALL_ONES = 0xFFFF_FFFF


class Downstream(wiring.Component):
    """Carries accesses from one bus target port to the functions behind it.

    An access goes to the function whose bit in ``hit`` is set (the lowest of several). Where
    there is none, or the function goes away meanwhile, a read answers all ones and a write is
    forgotten; never an error.

    A function is offered the request one clock after it is taken here. The answer to the bus
    follows the function's own by 2 clocks, plus ``completion_latency`` for reads and, in
    configuration space, writes. A read with ``push_posted`` takes one clock more, and
    waits until everything that the function had posted when it answered has been delivered.

    Bound: let a function answer within ``f`` clocks, and what it posts be delivered within ``p``
    clocks of its being offered; the answer comes within ``f + max(completion_latency, p) + 5``
    clocks.

    Simplification: a write to the BAR is answered when the function has it; a real one is posted
    and answered before.

    Parameters
    ----------
    functions : int
    address_bits : int
        Low bits of the bus address that the function sees.
    configuration : bool
        Configuration space: writes have a completion that takes as long as a read's, and accesses
        show on the tap.

    Members
    -------
    bus : In(BusSignature())
    hit : In(functions)
        Whom the request on ``bus`` means, in the same clock.
    access : array of Out(AccessSignature(address_bits))
    gone : In(functions)
    completion_latency, push_posted : In
        See :class:`~hdl.pci.interfaces.FabricSignature`.
    offered, pending, delivered : In
        As in :class:`~hdl.pci.upstream.Upstream`.
    tap : Out(TapSignature())
        CONFIG_WRITE in the clock the function takes it, CONFIG_READ in that of its answer.
    """

    def __init__(self, functions: int, *, address_bits: int, configuration: bool):
        self._functions = functions
        self._address_bits = address_bits
        self._configuration = configuration
        super().__init__(
            {
                "bus": In(BusSignature()),
                "hit": In(functions),
                "access": Out(AccessSignature(address_bits)).array(functions),
                "gone": In(functions),
                "completion_latency": In(12),
                "push_posted": In(1),
                "offered": In(2).array(functions),
                "pending": In(range(DEPTH + 1)).array(functions),
                "delivered": In(functions),
                "tap": Out(TapSignature()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        request, response = self.bus.request, self.bus.response
        asked = Signal(BusRequest)
        function = Signal(range(self._functions))
        lowest = Signal.like(function)
        for i in reversed(range(self._functions)):
            with m.If(self.hit[i]):
                m.d.comb += lowest.eq(i)

        # the function under way
        gone = self.gone.bit_select(function, 1)
        delivered = self.delivered.bit_select(function, 1)
        offered = Array(self.offered)[function]
        pending = Array(self.pending)[function]
        ready, answered, answer = Signal(), Signal(), Signal(32)

        timer = Signal(12)
        untaken = Signal(2)  # of these it has not been seen that the bridge took them
        undelivered = Signal(range(DEPTH + 1))
        complete = Signal(32)
        nobody = Signal()  # answers: all ones
        load = Signal()
        m.d.comb += response.p.data.eq(complete)

        for i, access in enumerate(self.access):
            chosen = function == i
            m.d.comb += [
                access.request.p.address.eq(asked.address),
                access.request.p.write.eq(asked.write),
                access.request.p.data.eq(asked.data),
                access.request.p.select.eq(asked.select),
            ]
            with m.If(chosen):
                m.d.comb += [
                    ready.eq(access.request.ready),
                    answered.eq(access.response.valid),
                    answer.eq(access.response.payload),
                ]

        def finish():
            m.d.comb += load.eq(~asked.write)
            m.next = "DELAY"

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += request.ready.eq(1)
                m.d.sync += [
                    asked.eq(request.payload),
                    function.eq(lowest),
                    undelivered.eq(0),
                    complete.eq(0),
                    timer.eq(self.completion_latency),
                ]
                if not self._configuration:
                    with m.If(request.p.write):
                        m.d.sync += timer.eq(0)
                with m.If(request.valid):
                    m.next = "ASK"
                    with m.If(~self.hit.any()):
                        m.d.comb += [nobody.eq(1), load.eq(~request.p.write)]
                        m.next = "DELAY"
            with m.State("ASK"):
                for i, access in enumerate(self.access):
                    m.d.comb += access.request.valid.eq((function == i) & ~gone)
                with m.If(gone):
                    self._report_read(m, asked, function, ALL_ONES)
                    m.d.comb += nobody.eq(1)
                    finish()
                with m.Elif(ready):
                    self._report_write(m, asked, function)
                    m.next = "ANSWER"
            with m.State("ANSWER"):
                for i, access in enumerate(self.access):
                    m.d.comb += access.response.ready.eq(function == i)
                value = Mux(gone, ALL_ONES, answer)
                with m.If(gone | answered):
                    self._report_read(m, asked, function, value)
                    m.d.comb += nobody.eq(gone)
                    finish()
                    m.d.sync += untaken.eq(offered)
                    with m.If(self.push_posted & ~asked.write):
                        m.next = "PUSH"
            with m.State("PUSH"):
                m.d.sync += [
                    untaken.eq(untaken & offered),
                    undelivered.eq(pending - delivered),
                ]
                with m.If(untaken == 0):
                    m.next = "DELAY"
            with m.State("DELAY"):
                with m.If(undelivered.any() & delivered):
                    m.d.sync += undelivered.eq(undelivered - 1)
                with m.If(timer.any()):
                    m.d.sync += timer.eq(timer - 1)
                with m.If(~timer.any() & ~undelivered.any()):
                    m.next = "RESPOND"
            with m.State("RESPOND"):
                m.d.comb += response.valid.eq(1)
                with m.If(response.ready):
                    m.next = "IDLE"

        with m.If(load):
            m.d.sync += complete.eq(answer | nobody.replicate(32))
        return m

    def _report_write(self, m, asked, function):
        if self._configuration:
            with m.If(asked.write):
                self._report(
                    m, EventKind.CONFIG_WRITE, asked, function, asked.data & lanes(asked.select)
                )

    def _report_read(self, m, asked, function, value):
        if self._configuration:
            with m.If(~asked.write):
                self._report(m, EventKind.CONFIG_READ, asked, function, value)

    def _report(self, m, kind, asked, function, data):
        m.d.comb += tap_event(
            self.tap,
            kind,
            id=Array(pci.requester_id(i) for i in range(self._functions))[function],
            address=asked.address[: self._address_bits],
            data=data,
        )
