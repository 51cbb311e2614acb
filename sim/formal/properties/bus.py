"""The bus: one answer a request, to the asker, in time."""

from itertools import combinations

from amaranth.hdl import Cat, Mux, Signal, Value

from hdl.bus import BusRequest, FairArbiter, Interconnect, Region

from ..harness import Harness
from ..proof import Properties

PROPERTIES = Properties("bus")

INITIATORS = 2
REGIONS = (Region("low", 0, 0x100), Region("high", 0x100, 0x100))
TARGET_CLOCKS = 2
"""Within how many clocks a target answers: ``t`` of :class:`hdl.bus.Interconnect`."""
STATED_ANSWER = TARGET_CLOCKS + len(REGIONS) + 2
STATED_TAKEN = INITIATORS * STATED_ANSWER


class _Asker:
    """An initiator that obeys :class:`hdl.bus.BusSignature`, and what it waits for."""

    def __init__(self, h: Harness, i: int):
        port = h.dut.initiators[i]
        self.request, self.response = port.request, port.response
        self.outstanding = Signal(name=f"outstanding_{i}")
        self.asked = Signal(BusRequest, name=f"asked_{i}")
        self.waited = Signal(range(64), name=f"waited_{i}")
        self.unanswered = Signal(range(64), name=f"unanswered_{i}")
        self.taken = self.request.valid & self.request.ready
        h.assume(port.response.ready)
        h.assume(self.request.p.requester.id == i)
        h.assume(~(self.request.valid & self.outstanding & ~self.response.valid))
        held = h.before(self.request.valid & ~self.request.ready, f"held_{i}")
        payload = h.before(self.request.payload, f"held_payload_{i}")
        h.assume(~held | (self.request.valid & (Value.cast(self.request.payload) == payload)))
        with h.m.If(self.response.valid):
            h.m.d.sync += self.outstanding.eq(0)
        with h.m.If(self.taken):
            h.m.d.sync += [self.outstanding.eq(1), self.asked.eq(self.request.payload)]
        h.m.d.sync += self.waited.eq(Mux(self.request.valid & ~self.taken, self.waited + 1, 0))
        h.m.d.sync += self.unanswered.eq(
            Mux(self.taken, 0, Mux(self.outstanding, self.unanswered + 1, 0))
        )


class _Answerer:
    """A target that answers within :data:`TARGET_CLOCKS`, with the name of the one who asked."""

    def __init__(self, h: Harness, t: int):
        port = h.dut.targets[t]
        self.request, self.response = port.request, port.response
        self.owed = Signal(name=f"owed_{t}")
        self.asker = Signal(range(INITIATORS), name=f"asker_{t}")
        self.waiting = Signal(range(64), name=f"waiting_{t}")
        h.assume(self.owed | self.request.ready)
        h.assume(~self.response.valid | self.owed)
        h.assume(self.response.p.data[:8] == self.asker)
        held = h.before(self.response.valid & ~self.response.ready, f"answer_held_{t}")
        payload = h.before(self.response.payload, f"answer_payload_{t}")
        h.assume(~held | (self.response.valid & (Value.cast(self.response.payload) == payload)))
        h.assume(~self.owed | self.response.valid | (self.waiting < TARGET_CLOCKS))
        with h.m.If(self.response.valid & self.response.ready):
            h.m.d.sync += self.owed.eq(0)
        with h.m.If(self.request.valid & self.request.ready):
            h.m.d.sync += [self.owed.eq(1), self.asker.eq(self.request.p.requester.id)]
            h.m.d.sync += self.waiting.eq(1)
        with h.m.Elif(self.owed & ~self.response.valid):
            h.m.d.sync += self.waiting.eq(self.waiting + 1)


def one_hot_or_none(value):
    return (value & (value - 1)) == 0


def ordered(first: dict[tuple[int, int], Value]) -> Value:
    """Of three: who goes before whom is without a circle."""
    ahead, between, whole = first[0, 1], first[1, 2], first[0, 2]
    return ~(ahead & between & ~whole) & ~(~ahead & ~between & whole)


def _machine() -> tuple[Harness, list[_Asker], list[_Answerer]]:
    """The interconnect between lawful neighbours, and the invariants of its insides."""
    h = Harness(Interconnect(INITIATORS, REGIONS))
    askers = [_Asker(h, i) for i in range(INITIATORS)]
    answerers = [_Answerer(h, t) for t in range(len(REGIONS))]
    s = h.state
    busy, stage_for, response_for = s["busy"], s["stage_for"], s["response_for"]
    owed = [*(answerer.owed for answerer in answerers), s["error.owed"]]
    askers_of = [answerer.asker for answerer in answerers]
    h.lemma("one-staged", one_hot_or_none(stage_for) & one_hot_or_none(response_for))
    stage = BusRequest(s["stage"])
    for t, debt in enumerate(owed):
        h.lemma(f"busy-{t}", busy[t] == (stage_for[t] ^ debt))
        h.lemma(f"free-{t}", ~(stage_for[t] & debt))
        h.lemma(f"stage-owner-{t}", ~stage_for[t] | (stage.requester.id == s[f"owner_{t}"]))
    for t, asker in enumerate(askers_of):
        h.lemma(f"owner-{t}", ~owed[t] | (asker == s[f"owner_{t}"]))
    for i, asker in enumerate(askers):
        serving = Cat(busy[t] & (s[f"owner_{t}"] == i) for t in range(len(owed)))
        places = Cat(serving, response_for[i])
        h.lemma(f"one-place-{i}", one_hot_or_none(places))
        h.lemma(f"somewhere-{i}", asker.outstanding == places.any())
    pairs = combinations(range(len(owed)), 2)
    h.lemma("an-order", ordered({(a, b): s[f"response_arbiter.before_{a}_{b}"] for a, b in pairs}))
    return h, askers, answerers


@PROPERTIES.proof(steps=8)
def answered_once() -> Harness:
    """Each request that is taken gets exactly one response, within the stated t + targets + 2."""
    h, askers, _ = _machine()
    for i, asker in enumerate(askers):
        h.claim(f"was-asked-{i}", ~asker.response.valid | asker.outstanding)
        h.claim(f"in-time-{i}", asker.unanswered < STATED_ANSWER)
    return h


@PROPERTIES.proof(steps=16)
def taken_in_time() -> Harness:
    """No request waits for longer than the stated initiators x (t + targets + 2): none starves."""
    h, askers, _ = _machine()
    for i, asker in enumerate(askers):
        h.lemma(f"answered-{i}", asker.unanswered < STATED_ANSWER)
        h.claim(f"taken-{i}", asker.waited < STATED_TAKEN)
    return h


@PROPERTIES.proof(steps=4)
def answer_to_the_asker() -> Harness:
    """A response goes to the initiator whose request it answers, as its target gave it."""
    h, askers, answerers = _machine()
    for i, asker in enumerate(askers):
        address = BusRequest(asker.asked).address
        wanted = Cat(region.covers(address) for region in REGIONS)
        given, error = Signal(32, name=f"given_{i}"), Signal(name=f"given_error_{i}")
        for t, answerer in enumerate(answerers):
            mine = wanted[t] & (answerer.asker == i)
            with h.m.If(mine & answerer.response.valid & answerer.response.ready):
                h.m.d.sync += [
                    given.eq(Mux(answerer.response.p.error, 0, answerer.response.p.data)),
                    error.eq(answerer.response.p.error),
                ]
        for t in range(len(REGIONS) + 1):
            mine = h.state["busy"][t] & (h.state[f"owner_{t}"] == i)
            here = wanted[t] if t < len(REGIONS) else ~wanted.any()
            h.lemma(f"asked-{t}-{i}", ~mine | here)
        answer = asker.response.p
        expected = Mux(wanted.any(), given, 0)
        error_expected = Mux(wanted.any(), error, 1)
        right = (answer.data == expected) & (answer.error == error_expected)
        h.claim(f"as-given-{i}", ~asker.response.valid | right)
        tag = answer.error | (answer.data[:8] == i)
        h.claim(f"to-the-asker-{i}", ~asker.response.valid | tag)
    return h


@PROPERTIES.proof(steps=4)
def request_as_asked() -> Harness:
    """A target sees the request as its initiator offered it, and only if its region covers it."""
    h, askers, answerers = _machine()
    stage = BusRequest(h.state["stage"])
    for i, asker in enumerate(askers):
        mine = h.state["stage_for"].any() & (stage.requester.id == i)
        h.lemma(f"staged-{i}", ~mine | (Value.cast(stage) == Value.cast(asker.asked)))
    for t, (answerer, region) in enumerate(zip(answerers, REGIONS, strict=True)):
        for i, asker in enumerate(askers):
            shown = answerer.request.valid & (answerer.request.p.requester.id == i)
            same = Value.cast(answerer.request.payload) == Value.cast(asker.asked)
            h.claim(f"as-asked-{t}-{i}", ~shown | same)
        h.claim(f"covered-{t}", ~answerer.request.valid | region.covers(answerer.request.p.address))
    for t, region in enumerate(REGIONS):
        h.lemma(f"routed-{t}", ~h.state["stage_for"][t] | region.covers(stage.address))
    return h


@PROPERTIES.proof(steps=3)
def overtaken_at_most_once() -> Harness:
    """The arbiter lets a requester that asks be overtaken by each other one at most once."""
    count = 3
    h = Harness(FairArbiter(count))
    arbiter = h.dut
    first = {(a, b): h.state[f"before_{a}_{b}"] for a in range(count) for b in range(a + 1, count)}
    me = h.constant(range(count), "me")
    h.assume(me < count)
    overtakers = Signal(count)
    mine = arbiter.grant.bit_select(me, 1)
    passed = Mux(arbiter.taken, arbiter.grant, 0)
    asking = arbiter.requests.bit_select(me, 1)
    with h.m.If(mine & arbiter.taken):
        h.m.d.sync += overtakers.eq(0)
    with h.m.Elif(asking):
        h.m.d.sync += overtakers.eq(overtakers | passed)
    h.claim("once", ~asking | ~(overtakers & passed).any())
    h.claim("one", one_hot_or_none(arbiter.grant) & ((arbiter.grant & ~arbiter.requests) == 0))
    h.claim("some", arbiter.grant.any() == arbiter.requests.any())
    h.lemma("an-order", ordered(first))
    h.lemma("not-by-myself", ~overtakers.bit_select(me, 1))
    for a, b in first:
        for one, other, earlier in ((a, b, first[a, b]), (b, a, ~first[a, b])):
            h.lemma(f"behind-{one}-{other}", ~((me == one) & overtakers[other]) | earlier)
    return h
