"""The local APIC: from request to service to its end, for an arbitrary tracked vector."""

from itertools import combinations

from amaranth.hdl import Cat, Mux, Signal, Value

from hdl.apic.local_apic import CLASSES, ClassRow, LocalApic
from hdl.registers.lapic import FIRST_LEGAL_VECTOR, LapicRegister

from ..harness import Harness
from ..proof import Properties
from .bus import one_hot_or_none, ordered

PROPERTIES = Properties("local-apic")
_STATE = "engine_state"
_ACCESS_STATES = ("EOI", "FIRST ROW", "SECOND ROW", "STORAGE", "COMMAND", "REGISTER")


class Apic(Harness):
    """The APIC, and whether the tracked vector is requested and in service.

    Both are remembered from what the neighbours see: messages taken, vectors handed to the CPU,
    writes to EOI.
    """

    def __init__(self):
        super().__init__(LocalApic(1))
        dut, s = self.dut, self.state
        self.vector = self.constant(8, "tracked")
        self.assume(self.vector >= FIRST_LEGAL_VECTOR)
        self.high, self.low = self.vector[4:], self.vector[:4]
        words = Cat(s[f"rows.row_{i}"] for i in range(CLASSES))
        self.sets = ClassRow(words.word_select(self.high, len(s["rows.row_0"]))[:48])
        self.top_requested, self.top_in_service = dut._top_requested, dut._top_in_service

        self.accepts, self.acknowledges, self.ends = (
            s.fsm(state, _STATE) for state in ("ACCEPT", "ACKNOWLEDGE", "EOI")
        )
        row = s["row"]
        self.number = self.named(Cat(s["found"], row[:4]), "number")
        arrives = self.accepts & (s["vector"] == self.vector)
        self.starts = self.acknowledges & (self.number == self.vector)
        self.stops = self.ends & (self.number == self.vector)
        self.arrives = arrives
        self.requested, self.in_service = Signal(), Signal()
        with self.m.If(self.starts):
            self.m.d.sync += [self.requested.eq(0), self.in_service.eq(1)]
        with self.m.If(arrives):
            self.m.d.sync += self.requested.eq(1)
        with self.m.If(self.stops):
            self.m.d.sync += self.in_service.eq(0)
        self._lemmas_of_rows(row)

    def _lemmas_of_rows(self, row):
        dut, s, sets = self.dut, self.state, self.sets
        clears, stores = (s.fsm(state, _STATE) for state in ("CLEAR", "STORAGE"))
        moves = self.accepts | self.acknowledges | self.ends
        here = row[:4] == self.high
        empty = ~(Value.cast(sets).any() | dut._requested.any() | dut._in_service.any())
        self.lemma("legal", s.legal(_STATE))
        self.lemma("clear", ~clears | empty)
        self.lemma("stores-above", ~stores | row[4])
        self.lemma("moves-below", ~moves | ~row[4])
        read = Value.cast(dut._read.data)[:48]
        self.lemma("row-read", ~(moves & here) | (read == Value.cast(sets)))
        self.lemma("requested", self.requested == sets.irr.bit_select(self.low, 1))
        self.lemma("in-service", self.in_service == sets.isr.bit_select(self.low, 1))
        any_requested = dut._requested.bit_select(self.high, 1)
        any_in_service = dut._in_service.bit_select(self.high, 1)
        self.lemma("summary-requested", any_requested == sets.irr.any())
        self.lemma("summary-in-service", any_in_service == sets.isr.any())
        self.lemma("one-of-a-class", (sets.isr & (sets.isr - 1)) == 0)
        self.lemma("accepts", ~self.accepts | (row[:4] == s["vector"][4:]))
        top = (row[:4] == self.top_requested) & dut._requested.any()
        self.lemma("acknowledges", ~self.acknowledges | (top & dut.intr))
        top = (row[:4] == self.top_in_service) & dut._in_service.any()
        self.lemma("ends", ~self.ends | top)


@PROPERTIES.proof(steps=1, reach=40)
def irr_isr_eoi() -> Harness:
    """The CPU is handed the highest requested vector, which is then in service and no longer
    requested; EOI ends the highest in service and nothing else; one of a class is in service."""
    h = Apic()
    other = h.named(h.number, "handled")
    h.claim("was-requested", ~h.starts | h.requested)
    h.claim("highest-requested", ~(h.acknowledges & h.requested) | (other >= h.vector))
    h.claim("not-of-its-class", ~(h.starts & h.in_service))
    h.claim("more-urgent", ~(h.acknowledges & h.in_service) | (other[4:] > h.high))
    h.claim("was-in-service", ~h.stops | h.in_service)
    h.claim("highest-in-service", ~(h.ends & h.in_service) | (other >= h.vector))
    handed = h.before(h.acknowledges, "handed")
    last = h.before(other, "last")
    answer = h.dut.inta.response
    h.claim("handed-out", ~handed | (answer.valid & (answer.p.data == last)))
    return h


@PROPERTIES.proof(steps=1, reach=40)
def requests_coalesce() -> Harness:
    """An accepted message is never lost: its vector stays requested until it is handed to the
    CPU; further messages until then merge with it, and one after that requests it again."""
    h = Apic()
    dut = h.dut
    message = dut.link.message
    taken = message.valid & message.ready & dut.link.identity.enabled
    expected = h.before(taken & (message.p.vector == h.vector), "expected")
    waiting = Signal()
    with h.m.If(h.starts):
        h.m.d.sync += waiting.eq(0)
    with h.m.If(expected):
        h.m.d.sync += waiting.eq(1)
    h.lemma("arrives", expected == h.arrives)
    h.lemma("waits", waiting == h.requested)
    merged = dut.tap[0].record.data[0]
    h.claim("merges", ~expected | (merged == waiting))
    h.claim("only-if-asked", ~h.starts | waiting)
    sets = h.sets
    h.claim("stays", ~waiting | sets.irr.bit_select(h.low, 1))
    h.claim("shown", ~(waiting & dut.link.identity.enabled & (h.high > dut._ppr[4:])) | dut.intr)
    return h


@PROPERTIES.proof(steps=1, reach=40)
def intr_obeys_priority() -> Harness:
    """The line is high exactly while the APIC is enabled and the class of a requested vector
    exceeds both TPR's and that of every vector in service."""
    h = Apic()
    dut = h.dut
    enabled = dut.link.identity.enabled
    task = dut._tpr[4:]
    served = dut.intr & h.in_service
    h.claim("exceeds-service", ~served | (h.top_requested > h.high))
    h.claim("exceeds-task", ~dut.intr | (enabled & (h.top_requested > task)))
    h.claim("for-a-request", ~(dut.intr & (h.top_requested == h.high)) | h.sets.irr.any())
    over_all = (h.high > task) & (~dut._in_service.any() | (h.high > h.top_in_service))
    h.claim("when-due", ~(enabled & h.requested & over_all) | dut.intr)
    h.claim("top", ~h.in_service | (h.top_in_service >= h.high))
    return h


@PROPERTIES.proof(steps=12, reach=44)
def answers_in_time() -> Harness:
    """A message waits for at most 6 clocks and the CPU's access for at most 7, reset's clearing and
    a busy ICR aside."""
    h = Harness(LocalApic(1))
    dut, s = h.dut, h.state
    h.assume(dut.private.response.ready & dut.inta.response.ready)
    message = dut.link.message
    held = h.before(message.valid & ~message.ready, "held")
    payload = h.before(message.payload, "payload")
    h.assume(~held | (message.valid & (Value.cast(message.payload) == payload)))
    clearing = s.fsm("CLEAR", _STATE)
    waited, unanswered = Signal(4), Signal(4)
    more = message.valid & ~message.ready & ~clearing
    h.m.d.sync += waited.eq(Mux(more, Mux(waited == 15, 15, waited + 1), 0))
    command = dut._access.write & (dut._access.offset == LapicRegister.ICR_LOW)
    excused = clearing | (command & dut._access_waits & dut._ipi_valid)
    owed = ~dut.private.request.ready & ~dut.private.response.valid & ~excused
    h.m.d.sync += unanswered.eq(Mux(owed, Mux(unanswered == 15, 15, unanswered + 1), 0))
    h.lemma("legal", s.legal(_STATE))
    pairs = combinations(range(3), 2)
    h.lemma("an-order", ordered({(a, b): s[f"arbiter.before_{a}_{b}"] for a, b in pairs}))
    working = Cat(s.fsm(state, _STATE) for state in _ACCESS_STATES).any()
    places = Cat(dut._access_waits, dut._access_done, working)
    h.lemma("access-somewhere", dut.private.request.ready == ~places.any())
    h.lemma("access-once", one_hot_or_none(places))
    places = Cat(dut._inta_waits, dut._inta_done, s.fsm("ACKNOWLEDGE", _STATE))
    h.lemma("inta-somewhere", dut.inta.request.ready == ~places.any())
    h.claim("message", ~more | (waited < 6))
    h.claim("access", ~owed | (unanswered < 7))
    return h
