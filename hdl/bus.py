"""The system bus: 40-bit addresses, 32-bit data with byte enables, errors, and the asker's name.

An initiator has at most one request outstanding. It offers a request, the request is taken once,
and exactly one response comes back; a write is answered like a read. A target therefore never
sees a second request before it has answered the first.

:class:`Interconnect` joins initiators and targets. The request path and the response path are
shared, one transfer a clock each, but a transaction does not hold them while the target works:
a slow target delays only those who wait for that target.
"""

from dataclasses import dataclass

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

ADDRESS_BITS = 40
"""Width of a bus address. CPU ports and PCI bridges carry 64 bits and answer the rest as errors."""


class RequesterKind(enum.Enum, shape=2):
    """What sort of initiator asks; a local APIC's window, for one, means something else to each."""

    CPU = 0
    DEVICE = 1
    CONTROLLER = 2


class Requester(data.Struct):
    """Who asks, carried beside every request.

    ``id`` is the CPU number, or for a device its PCI requester id (bus, device, function), which
    is also the DeviceID the ITS sees.
    """

    id: 16
    kind: RequesterKind


class BusRequest(data.Struct):
    """One bus request.

    ``address`` is a byte address whose two low bits are zero; ``select`` says which of the four
    byte lanes of ``data`` take part, for reads as for writes. A target may read more lanes than
    were selected, but never changes a lane that was not.
    """

    address: ADDRESS_BITS
    write: 1
    data: 32
    select: 4
    requester: Requester


class BusResponse(data.Struct):
    """The answer to one request. ``data`` is zero for a write and for an error."""

    data: 32
    error: 1


class BusSignature(wiring.Signature):
    """Seen from the initiator.

    * ``request`` may be held for any number of clocks; payload and valid hold until ready.
    * A target that owes no answer keeps ``request.ready`` high.
    * ``response`` is valid one clock after the request was taken at the earliest.
    * An initiator that waits for an answer keeps ``response.ready`` high.
    """

    def __init__(self):
        super().__init__(
            {
                "request": Out(stream.Signature(BusRequest)),
                "response": In(stream.Signature(BusResponse)),
            }
        )


@dataclass(frozen=True)
class Region:
    """Addresses ``base`` to ``base + size - 1``; ``size`` is a power of two and aligns ``base``."""

    name: str
    base: int
    size: int

    def __post_init__(self):
        if self.size < 4 or self.size & (self.size - 1):
            raise ValueError(
                f"Region {self.name!r}: size must be a power of two of at least 4, "
                f"not {self.size:#x}"
            )
        if self.base % self.size:
            raise ValueError(
                f"Region {self.name!r}: base {self.base:#x} must be a multiple of its size "
                f"{self.size:#x}"
            )
        if not 0 <= self.base <= (1 << ADDRESS_BITS) - self.size:
            raise ValueError(
                f"Region {self.name!r}: {self.base:#x} + {self.size:#x} does not fit in "
                f"{ADDRESS_BITS} address bits"
            )

    def covers(self, address):
        """Whether ``address`` (an Amaranth value, byte address) lies inside."""
        low = self.size.bit_length() - 1
        return address[low:] == self.base >> low

    def overlaps(self, other: "Region") -> bool:
        return self.base < other.base + other.size and other.base < self.base + self.size


class FairArbiter(wiring.Component):
    """Grants one of ``count`` requests, always the one that was granted longest ago.

    ``grant`` is one-hot or zero and follows ``requests`` in the same clock. When ``taken`` is high
    the granted requester becomes the last in line. A requester passes behind another only by
    being granted, so one that asks is overtaken at most ``count - 1`` times, even if it may
    not ask in every clock; a rotating pointer would not give that.
    """

    def __init__(self, count: int):
        if count < 1:
            raise ValueError(f"An arbiter needs at least one requester, not {count}")
        self._count = count
        super().__init__({"requests": In(count), "taken": In(1), "grant": Out(count)})

    def elaborate(self, platform):
        m = Module()
        # before[i][j], i < j: requester i goes before requester j
        before = {
            (i, j): Signal(init=1, name=f"before_{i}_{j}")
            for i in range(self._count)
            for j in range(i + 1, self._count)
        }
        for i in range(self._count):
            beaten = 0
            for j in range(self._count):
                if j != i:
                    j_first = before[j, i] if j < i else ~before[i, j]
                    beaten |= self.requests[j] & j_first
            m.d.comb += self.grant[i].eq(self.requests[i] & ~beaten)
        with m.If(self.taken):
            for (i, j), i_first in before.items():
                with m.If(self.grant[i]):
                    m.d.sync += i_first.eq(0)
                with m.Elif(self.grant[j]):
                    m.d.sync += i_first.eq(1)
        return m


class ErrorTarget(wiring.Component):
    """Answers every request with an error, one clock after it was taken."""

    bus: In(BusSignature())

    def elaborate(self, platform):
        m = Module()
        owed = Signal()
        m.d.comb += [
            self.bus.request.ready.eq(~owed),
            self.bus.response.valid.eq(owed),
            self.bus.response.payload.error.eq(1),
        ]
        with m.If(self.bus.request.valid & self.bus.request.ready):
            m.d.sync += owed.eq(1)
        with m.If(self.bus.response.valid & self.bus.response.ready):
            m.d.sync += owed.eq(0)
        return m


class Interconnect(wiring.Component):
    """Joins ``initiators`` askers to one target per region; what no region covers is an error.

    Latency, when nothing else is under way: a request reaches its target one clock after it was
    offered, a response its asker one clock after the target gave it.

    Bound: let every target answer within ``t`` clocks. A request is then taken within
    ``initiators * (t + targets + 2)`` clocks, and answered within another ``t + targets + 2``.

    Members
    -------
    initiators : array of In(BusSignature())
    targets : array of Out(BusSignature()), in the order of ``regions``
    """

    def __init__(self, initiators: int, regions: "tuple[Region, ...] | list[Region]"):
        self._regions = tuple(regions)
        for i, region in enumerate(self._regions):
            for other in self._regions[:i]:
                if region.overlaps(other):
                    raise ValueError(f"Regions {other.name!r} and {region.name!r} overlap")
        if initiators < 1:
            raise ValueError(f"An interconnect needs at least one initiator, not {initiators}")
        if not self._regions:
            raise ValueError("An interconnect needs at least one region")
        self._initiators = initiators
        super().__init__(
            {
                "initiators": In(BusSignature()).array(initiators),
                "targets": Out(BusSignature()).array(len(self._regions)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.error = error = ErrorTarget()
        targets = [*self.targets, error.bus]
        initiators = list(self.initiators)

        # A target is busy from the clock its request is granted until its response is taken.
        busy = Signal(len(targets))
        owner = Array(
            Signal(range(len(initiators)), name=f"owner_{t}") for t in range(len(targets))
        )

        self._request_path(m, initiators, targets, busy, owner)
        self._response_path(m, initiators, targets, busy, owner)
        return m

    def _request_path(self, m, initiators, targets, busy, owner):
        m.submodules.request_arbiter = arbiter = FairArbiter(len(initiators))
        stage = Signal(BusRequest)
        stage_for = Signal(len(targets))
        stage_free = Signal()
        wanted = [Signal(len(targets), name=f"wanted_{i}") for i in range(len(initiators))]

        for i, initiator in enumerate(initiators):
            request = initiator.request
            hits = Cat(region.covers(request.p.address) for region in self._regions)
            m.d.comb += [
                wanted[i].eq(Cat(hits, ~hits.any())),
                arbiter.requests[i].eq(request.valid & stage_free & ~(wanted[i] & busy).any()),
                request.ready.eq(arbiter.grant[i]),
            ]

        taken_by_target = Cat(target.request.ready for target in targets) & stage_for
        m.d.comb += [
            stage_free.eq(~stage_for.any() | taken_by_target.any()),
            arbiter.taken.eq(arbiter.grant.any()),
        ]
        with m.If(stage_free):
            m.d.sync += stage_for.eq(0)
        for i, initiator in enumerate(initiators):
            with m.If(arbiter.grant[i]):
                m.d.sync += [
                    stage.eq(initiator.request.payload),
                    stage_for.eq(wanted[i]),
                ]
                for t in range(len(targets)):
                    with m.If(wanted[i][t]):
                        m.d.sync += [busy[t].eq(1), owner[t].eq(i)]
        for t, target in enumerate(targets):
            m.d.comb += [
                target.request.valid.eq(stage_for[t]),
                target.request.payload.eq(stage),
            ]

    def _response_path(self, m, initiators, targets, busy, owner):
        m.submodules.response_arbiter = arbiter = FairArbiter(len(targets))
        response = Signal(BusResponse)
        response_for = Signal(len(initiators))

        # The asker takes its response at once (see BusSignature), so the stage is always free.
        m.d.comb += arbiter.taken.eq(arbiter.grant.any())
        m.d.sync += response_for.eq(0)
        for t, target in enumerate(targets):
            m.d.comb += [
                arbiter.requests[t].eq(target.response.valid),
                target.response.ready.eq(arbiter.grant[t]),
            ]
            with m.If(arbiter.grant[t]):
                error = target.response.p.error
                m.d.sync += [
                    response.data.eq(Mux(error, 0, target.response.p.data)),
                    response.error.eq(error),
                    response_for.eq(1 << owner[t]),
                    busy[t].eq(0),
                ]
        for i, initiator in enumerate(initiators):
            m.d.comb += [
                initiator.response.valid.eq(response_for[i]),
                initiator.response.payload.eq(response),
            ]
