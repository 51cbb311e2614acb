"""The way up: what functions send on their own account, delivered in order after a delay."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from ..bus import ADDRESS_BITS, BusSignature, FairArbiter, RequesterKind
from ..registers import pci
from ..tap import EventKind, TapSignature, tap_event
from .interfaces import PostedWrite

DEPTH = 16
"""Posted writes and INTx changes under way, of all functions together."""

UNIT_BASE = 0x80
"""``unit`` of endpoint 0 in BUS_ERROR records: the bridge asks in its functions' names."""

CLOCK_BITS = 16


class Upstream(wiring.Component):
    """Takes posted writes and INTx changes of all functions, and delivers them.

    * One queue: everything is delivered in the order in which it was taken. (PCI demands that
      for each function only.) A change of an INTx level is a message in that queue, as on PCI
      Express, so it does not overtake data and a read can push it. Functions are taken in turn,
      one transfer a clock; of one function, an INTx change goes before a write.
    * A write is offered to the bus ``latency`` clocks after it left its function, 2 at the
      least, or when those in front of it have been answered.
    * A write to an address above the bus' or into the windows of this bridge goes nowhere: there
      is no peer-to-peer traffic, which could block the answer that it would have to wait for.
    * While the bus answers each write within ``t`` clocks, everything is delivered at most
      ``DEPTH * (t + 3) + latency`` clocks after it was taken, as long as that is below 32768;
      a queue that is stuck for longer can delay one more time as long.

    Parameters
    ----------
    pins : tuple of int
        For each function, what its interrupt pin is (0: INTA to 3: INTD), for the tap.

    Members
    -------
    posted : array of In(stream of PostedWrite)
    intx : array of In(1)
    latency : In(12)
    bus : Out(BusSignature())
    levels : Out(functions)
        The INTx levels as they have been delivered.
    offered : array of Out(2)
        A posted write (bit 0) or an INTx change (bit 1) is there and not taken in this clock.
    pending : array of Out(5)
        How much of each function has been taken and not been delivered.
    delivered : Out(functions)
        Strobe: one of these.
    tap : Out(TapSignature())
        MESSAGE and INTX in the clock of delivery; MESSAGE_BAD for what goes nowhere; BUS_ERROR
        (``unit``: 0x80 + function) for a write that the bus answered with an error.
    """

    def __init__(self, pins: tuple[int, ...]):
        self._pins = pins
        count = len(pins)
        super().__init__(
            {
                "posted": In(stream.Signature(PostedWrite)).array(count),
                "intx": In(1).array(count),
                "latency": In(12),
                "bus": Out(BusSignature()),
                "levels": Out(count),
                "offered": Out(2).array(count),
                "pending": Out(range(DEPTH + 1)).array(count),
                "delivered": Out(count),
                "tap": Out(TapSignature()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        count = len(self._pins)
        entry = data.StructLayout(
            {
                "word": 62,  # the address but for its two low bits
                "data": 32,
                "function": range(count),
                "is_intx": 1,
                "due": CLOCK_BITS,
            }
        )
        m.submodules.queue = queue = fifo.SyncFIFOBuffered(width=entry.size, depth=DEPTH)
        clock = Signal(CLOCK_BITS)  # only what waits has a use for it
        accepted = Signal(count)
        with m.If(accepted.any() | queue.level.any()):
            m.d.sync += clock.eq(clock + 1)

        self._take(m, queue, entry, clock, accepted)
        self._deliver(m, queue, entry(queue.r_data), clock)
        for i, pending in enumerate(self.pending):
            m.d.sync += pending.eq(pending + accepted[i] - self.delivered[i])
        return m

    def _take(self, m, queue, entry, clock, accepted):
        count = len(self._pins)
        m.submodules.arbiter = arbiter = FairArbiter(count)
        told = Signal(count)  # the levels of which the queue has heard
        new = Signal(entry)
        m.d.comb += [
            queue.w_data.eq(new),
            queue.w_en.eq(arbiter.grant.any()),
            arbiter.taken.eq(arbiter.grant.any()),
            accepted.eq(arbiter.grant),
            new.due.eq(clock + self.latency),
        ]
        for i, (posted, intx) in enumerate(zip(self.posted, self.intx, strict=True)):
            changed = intx != told[i]
            m.d.comb += [
                arbiter.requests[i].eq((changed | posted.valid) & queue.w_rdy),
                self.offered[i].eq(Cat(posted.valid & ~posted.ready, changed & ~arbiter.grant[i])),
            ]
            with m.If(arbiter.grant[i]):
                m.d.comb += [
                    new.function.eq(i),
                    new.is_intx.eq(changed),
                    new.word.eq(posted.p.address[2:]),
                    new.data.eq(Mux(changed, intx, posted.p.data)),
                    posted.ready.eq(~changed),
                ]
                with m.If(changed):
                    m.d.sync += told[i].eq(intx)

    def _deliver(self, m, queue, head, clock):
        request, response = self.bus.request, self.bus.response
        address = Cat(Const(0, 2), head.word)
        # `due` lies ahead of the clock by less than half of the clock's range, or behind it
        ahead = Signal(CLOCK_BITS)  # less one: then the sign says whether it is due
        m.d.comb += ahead.eq(head.due + ~clock)
        due = queue.r_rdy & ahead[-1]
        astray = address[ADDRESS_BITS:].any()
        for base, size in ((pci.ECAM_BASE, pci.ECAM_SIZE), (pci.MMIO_BASE, pci.MMIO_SIZE)):
            low = size.bit_length() - 1
            astray |= address[low:] == base >> low
        identity = Signal(16)
        m.d.comb += [
            identity.eq(Array(pci.requester_id(i) for i in range(len(self._pins)))[head.function]),
            request.p.address.eq(address),
            request.p.write.eq(1),
            request.p.data.eq(head.data),
            request.p.select.eq(0b1111),
            request.p.requester.kind.eq(RequesterKind.DEVICE),
            request.p.requester.id.eq(identity),
        ]
        fields = {"address": address, "data": head.data, "id": identity}

        def done():
            m.d.comb += [queue.r_en.eq(1), self.delivered.eq(1 << head.function)]

        with m.FSM():
            with m.State("WAIT"), m.If(due):
                with m.If(head.is_intx):
                    done()
                    m.d.sync += self.levels.bit_select(head.function, 1).eq(head.data[0])
                    m.d.comb += tap_event(
                        self.tap,
                        EventKind.INTX,
                        unit=head.function,
                        id=Array(self._pins)[head.function],
                        data=head.data,
                    )
                with m.Elif(astray):
                    done()
                    m.d.comb += tap_event(self.tap, EventKind.MESSAGE_BAD, **fields)
                with m.Else():
                    m.d.comb += request.valid.eq(1)
                    with m.If(request.ready):
                        m.d.comb += tap_event(self.tap, EventKind.MESSAGE, **fields)
                        m.next = "BUS"
            with m.State("BUS"):
                m.d.comb += response.ready.eq(1)
                with m.If(response.valid):
                    done()
                    with m.If(response.p.error):
                        m.d.comb += tap_event(
                            self.tap,
                            EventKind.BUS_ERROR,
                            unit=Cat(head.function, Const(0, 7 - len(head.function)), Const(1, 1)),
                            address=address,
                            data=1,
                        )
                    m.next = "WAIT"
