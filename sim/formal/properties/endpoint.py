"""The endpoint: what its messages say, when it is silent, and that none is lost or sent twice."""

from amaranth.hdl import Array, Cat, Const, Mux, Signal, Value

from hdl.pci.endpoint import Endpoint, EndpointConfig
from hdl.pci.interfaces import MessageReply, MessageRequest, PostedWrite, Resumable
from hdl.pci.msix import CONTROL, VectorControl
from hdl.registers import pci

from ..harness import Harness
from ..proof import Properties

PROPERTIES = Properties("endpoint")
_VECTORS = 4
_ALL_VECTORS = (_VECTORS - 1).bit_length()
_MESSENGER, _TABLE = "messenger.fsm_state", "msix.fsm_state"


class Sender(Harness):
    """A function with four vectors, and how a message leaves it.

    Configuration and device accesses, events, quirks and the taker of its writes are arbitrary.
    """

    def __init__(self, config: EndpointConfig):
        super().__init__(Endpoint(config))
        s = self.state
        self.assume(~self.dut.stimulus.unplug)
        self.vector = self.constant(range(_VECTORS), "tracked")
        self.lemma("legal", s.legal(_MESSENGER))
        self.request = MessageRequest(s["messenger.messages__request__payload"])
        self.resumes = s["messenger.resume"]
        self.holds = Const(0) if config.basic else self.dut.quirks.hold_when_no_master
        self.posted = PostedWrite(s["messenger.posted__payload"])
        self.offers = s["messenger.posted__valid"] & self.posted.interrupt
        self.starts = self.offers & ~self.before(self.offers, "offered")
        self.lemma("write-kind", ~self.at("SEND_MESSAGE") | self.posted.interrupt)
        self.lemma("data-kind", ~self.at("DATA", "SEND_DATA") | ~self.posted.interrupt)
        early = self.at("PEEK", "LATCH", "WAIT", "DATA", "SEND_DATA")
        self.lemma("early-fresh", ~early | ~self.resumes)
        self.current = s["messenger.current"]
        self.mine = self.current == self.vector
        self.lemma("vector", self.current < _VECTORS)

    def at(self, *states: str) -> Value:
        """The messenger is in one of these states; a basic one does not have them all."""
        known = self.state.states(_MESSENGER)
        return Cat(self.state.fsm(x, _MESSENGER) for x in states if x in known).any()

    def own(self, bits) -> Value:
        """The tracked vector's of a bit for each."""
        return bits.bit_select(self.vector, 1)

    def never_early(self):
        """The message is not fixed when its event happens."""
        self.assume(~self.dut.quirks.latch_at_event)
        latched = self.state["messenger.latched"] | self.at("PEEK", "LATCH")
        self.lemma("not-latched", ~latched)

    def account(self, *, pending, masked, decides, resume, enable, reply):
        """From its events on the tracked vector owes a message, until it is sent or dropped.

        ``decides``: its request is decided in this clock, with ``resume`` as a resumed one.
        """
        m, s = self.m, self.state
        event = s["event"] & (s["vector"] == self.vector)
        waits = self.own(s["messenger.events"])
        fresh = ~resume | pending
        sends = decides & enable & fresh & ~masked
        parks = decides & enable & fresh & masked
        owed, self.going = Signal(name="owed"), Signal(name="going")
        going = self.going
        ends = (self.at("ASK") & self.mine & ~self.resumes & ~enable) | (
            decides & ~resume & ~enable
        )
        leaves = self.at("SEND_MESSAGE") & self.mine & self.dut.posted.ready
        answered = self.at("ANSWER") & self.mine & s["messages__reply_valid"]
        drops = answered & ~s["master"] & ~self.holds
        with m.If(leaves | drops):
            m.d.sync += going.eq(0)
        with m.If(sends):
            m.d.sync += [owed.eq(waits), going.eq(1)]
        with m.Elif(parks):
            m.d.sync += [owed.eq(1), going.eq(0)]
        with m.Elif(ends):
            m.d.sync += [owed.eq(waits | pending), going.eq(0)]
        with m.If(event):
            m.d.sync += owed.eq(1)

        to_be_decided = self.at("DATA", "SEND_DATA", "ASK") | (self.at("ANSWER") & decides)
        asking = to_be_decided & self.mine & ~self.resumes
        early = self.at("PEEK", "LATCH", "WAIT")
        self.lemma("waits", ~waits | owed)
        self.lemma("early", ~(early & self.mine) | waits)
        self.lemma("pending", ~pending | owed)
        self.lemma("asking", ~asking | owed | going)
        self.lemma("answer", ~answered | (MessageReply(reply).send == going))
        self.lemma("sending", ~(self.at("SEND_MESSAGE") & self.mine) | going)
        self.lemma("going", ~going | (self.mine & self.at("ASK", "ANSWER", "SEND_MESSAGE")))
        undecided = self.at("ASK") | (self.at("ANSWER") & decides)
        self.lemma("going-fresh", ~(going & undecided) | ~self.resumes)
        self.claim("not-invented", ~sends | owed | going)
        self.claim("not-doubled", ~(self.starts & self.mine) | going)
        self.claim("not-lost", ~owed | waits | pending | asking)
        resumable = Resumable(s["messages__resumable"])
        taken_up = self.at("IDLE") & resumable.valid & (resumable.vector == self.vector)
        asked_again = self.at("ASK") & self.mine & self.resumes
        self.claim("asked-again", ~self.before(taken_up, "taken_up") | asked_again)


class Msi(Sender):
    """Maskable 64-bit MSI that has all four vectors in use."""

    def __init__(self, *, basic: bool = False):
        config = EndpointConfig(msi="64", maskable=True, msi_vectors=_VECTORS, basic=basic)
        super().__init__(config)
        s = self.state
        flags = (s["space.capability__0__index"] == 0) & s["space.capability__0__select"][2]
        asked = s["space.capability__0__data"][20:23]
        self.assume(~flags | (asked == _ALL_VECTORS))
        self.enable, self.mask, self.pending = s["msi.enable"], s["msi.mask"], s["msi.pending"]
        self.lemma("all-in-use", ~self.enable | (s["msi.enabled"] == _ALL_VECTORS))
        self.lemma("in-use", ~self.pending.any() | (s["msi.enabled"] == _ALL_VECTORS))
        self.asks = s["messenger.messages__request__valid"]
        self.reply_valid = s["msi.messages__reply_valid"]
        self.lemma("reply", self.reply_valid == self.at("ANSWER", "LATCH"))

    def two_ago(self, value, name: str) -> Signal:
        return self.before(self.before(value, f"{name}_1"), f"{name}_2")

    def silent(self):
        free = self.enable & ~self.mask.bit_select(self.current[:_ALL_VECTORS], 1)
        self.claim("was-free", ~self.starts | self.two_ago(free, "free"))
        asked = self.two_ago(self.current, "asked")
        self.claim("for-the-asked", ~self.starts | (asked == self.current))

    def of_one_clock(self):
        s = self.state
        address = self.two_ago(s["msi.address"], "address")
        data = self.two_ago(s["msi.data"], "data")
        low = self.posted.data[:_ALL_VECTORS] == self.current[:_ALL_VECTORS]
        whole = (self.posted.address == address) & low
        upper = self.posted.data[_ALL_VECTORS:] == data[_ALL_VECTORS:]
        self.claim("one-clock", ~self.starts | (whole & upper))

    def sent_once(self):
        asked = self.asks & ~self.request.peek & (self.request.vector == self.vector)
        pending, masked = self.own(self.pending), self.own(self.mask)
        self.account(
            pending=pending,
            masked=masked,
            decides=asked,
            resume=self.request.resume,
            enable=self.enable,
            reply=self.state["msi.messages__reply"],
        )
        resumable = Resumable(self.state["msi.messages__resumable"])
        lowest = resumable.valid & (resumable.vector <= self.vector)
        self.claim("taken-up", ~(pending & ~masked & self.enable) | lowest)


class Msix(Sender):
    """MSI-X with a table of four entries.

    What an entry holds when a request is decided is remembered, and the clocks since then.
    """

    DECIDED = ("ADDRESS_LO", "ADDRESS_HI", "DATA")

    def __init__(self):
        super().__init__(EndpointConfig(msi="none", msix_vectors=_VECTORS))
        m, s = self.m, self.state
        self.words = Cat(s[f"msix.words.row_{i}"] for i in range(4 * _VECTORS))
        self.live = s["msix.enable"] & ~s["msix.function_mask"]
        self.asked = asked = MessageRequest(s["msix.asked"])
        self.reply = MessageReply(s["msix.messages__reply"])
        self.reply_valid = s["msix.messages__reply_valid"]
        self.read = s["msix.words._read__data"]
        self.lemma("table-legal", s.legal(_TABLE))
        at_request = self.table_at("DECIDE", *self.DECIDED)
        self.lemma("one-request", self.at("ANSWER", "LATCH") == (at_request | self.reply_valid))
        self.lemma("answered", ~(at_request & self.reply_valid))
        same = (asked.vector == self.current) & (asked.peek == self.at("LATCH"))
        self.lemma("as-asked", ~at_request | (same & (asked.resume == self.resumes)))
        entry = self.entry(asked.vector)
        control = VectorControl(entry.word_select(CONTROL, 32))
        decides = self.table_at("DECIDE")
        self.lemma("control", ~decides | (self.read == entry.word_select(CONTROL, 32)))
        self.held, self.was_free = Signal(96, name="held"), Signal(name="was_free")
        self.since = Signal(3, name="since_decided")
        m.d.sync += self.since.eq(Mux(self.since == 7, 7, self.since + 1))
        with m.If(decides):
            m.d.sync += [
                self.held.eq(entry),
                self.was_free.eq(self.live & ~control.mask),
                self.since.eq(1),
            ]
        for i, state in enumerate(self.DECIDED):
            now = self.table_at(state)
            self.lemma(f"time-{i}", ~now | (self.since == i + 1))
            self.lemma(f"read-{i}", ~now | (self.read == self.held.word_select(i, 32)))
            replied = Value.cast(self.reply.message)[: 32 * i]
            self.lemma(f"replied-{i}", ~now | (replied == self.held[: 32 * i]))
        decided = self.table_at(*self.DECIDED)
        self.lemma("unchanged", ~decided | (entry[:96] == self.held))
        self.lemma("free", ~decided | self.was_free)
        sends = self.reply_valid & self.reply.send
        whole = Value.cast(self.reply.message) == self.held
        self.lemma("reply", ~sends | (self.was_free & (self.since == 4) & whole))

    def table_at(self, *states: str) -> Value:
        return Cat(self.state.fsm(state, _TABLE) for state in states).any()

    def entry(self, vector) -> Value:
        return self.words.word_select(vector[:_ALL_VECTORS], 128)


@PROPERTIES.proof(steps=3, reach=12)
def masked_is_silent() -> Harness:
    """A message that is offered was asked for two clocks before, its vector not masked and MSI
    enabled then: from the second clock after masking or disabling nothing new appears."""
    h = Msi()
    h.silent()
    return h


@PROPERTIES.proof(steps=3, reach=12)
def message_of_one_clock() -> Harness:
    """Unless the device latches early, a message is what the registers held in one clock, two
    before it is offered, with its vector in the low bits of the data."""
    h = Msi()
    h.never_early()
    h.of_one_clock()
    return h


@PROPERTIES.proof(steps=1, reach=16)
def pending_is_sent_once() -> Harness:
    """An event is remembered until its message is sent or the function may not send at all; its
    pending bit is taken up as soon as it is unmasked, and no message is sent without an event."""
    h = Msi()
    h.sent_once()
    return h


@PROPERTIES.proof(steps=3, reach=12)
def basic_function_is_no_worse() -> Harness:
    """A function without data writes and quirks is as silent when masked, its messages are as
    whole, and none is lost, invented or sent twice."""
    h = Msi(basic=True)
    h.silent()
    h.of_one_clock()
    h.sent_once()
    return h


@PROPERTIES.proof(steps=1, reach=14)
def intx_tells_what_is_left() -> Harness:
    """The pin is high exactly while an event that came to its turn is not acknowledged, and neither
    MSI nor INTx disable nor a quirk silences it; an event that is not acknowledged shows on the
    interrupt status or is on its way to it."""
    h = Sender(EndpointConfig(msi="64", msi_vectors=_VECTORS))
    s = h.state
    cause, event, signal = s["device.cause"], s["event"], s["messenger.signal"]
    h.assume(~cause | h.before(cause | event, "cause_or_event"))
    due = Signal()
    with h.m.If(signal):
        h.m.d.sync += due.eq(1)
    with h.m.Elif(~cause):
        h.m.d.sync += due.eq(0)
    asks = due & cause & ~s["msi.enable"] & ~h.dut.quirks.drop_when_disabled
    on_its_way = s["messenger.events"].any() | h.at("PEEK", "LATCH", "WAIT", "DATA", "SEND_DATA")
    h.lemma("due", s["pin.raised"] == due)
    h.claim("level", h.dut.intx == (asks & ~s["space.intx_disable"]))
    h.claim("status", s["interrupt_status"] == asks)
    h.claim("not-lost", ~cause | due | on_its_way)
    return h


@PROPERTIES.proof(steps=1, reach=40)
def msix_masked_is_silent() -> Harness:
    """An MSI-X message that is offered was decided five clocks before, with MSI-X enabled and
    neither the function nor the vector masked: from the sixth clock after nothing new appears."""
    h = Msix()
    h.claim("was-free", ~h.starts | h.was_free)
    h.claim("five-clocks-ago", ~h.starts | (h.since == 5))
    return h


@PROPERTIES.proof(steps=1, reach=40)
def msix_message_of_one_clock() -> Harness:
    """Unless the device latches early, an MSI-X message is what its entry held in the clock in
    which it was found unmasked: none is torn by an update under the mask bit."""
    h = Msix()
    h.never_early()
    message = Cat(h.posted.address, h.posted.data)
    h.claim("one-clock", ~h.starts | (message == h.held))
    return h


@PROPERTIES.proof(steps=1, reach=44)
def msix_pending_is_sent_once() -> Harness:
    """An event on an MSI-X vector is remembered until its message is sent or the function may not
    send at all; no message is sent without an event, and none twice."""
    h = Msix()
    control = VectorControl(h.entry(h.vector).word_select(CONTROL, 32))
    h.lemma("clear", ~h.table_at("CLEAR") | (h.entry(h.vector).word_select(CONTROL, 32) == 1))
    decided = h.at("ANSWER") & h.mine & h.table_at(*h.DECIDED)
    h.account(
        pending=control.pending,
        masked=control.mask | ~h.live,
        decides=h.table_at("DECIDE") & ~h.asked.peek & h.mine,
        resume=h.asked.resume,
        enable=h.state["msix.enable"],
        reply=h.reply,
    )
    h.lemma("decided", ~decided | h.going)
    return h


@PROPERTIES.proof(steps=1, reach=40)
def msix_unmasked_is_found() -> Harness:
    """A pending MSI-X vector that may be sent is found before the search has looked in vain at as
    many entries as there are, counted from the last unmasking; none is forgotten."""
    h = Msix()
    s, control = h.state, VectorControl(h.entry(h.vector).word_select(CONTROL, 32))
    cursor, left, found = s["msix._cursor"], s["msix._left"], s["msix._found"]
    live_before = s["msix.was_live"]
    due = control.pending & ~control.mask & h.live & live_before
    ahead = (h.vector - cursor)[:_ALL_VECTORS] < left
    searching = h.table_at("SEARCH")
    entry = VectorControl(h.entry(cursor).word_select(CONTROL, 32))
    h.lemma("clear", ~h.table_at("CLEAR") | (h.entry(h.vector).word_select(CONTROL, 32) == 1))
    h.lemma("search-read", ~searching | (VectorControl(h.read) == entry))
    h.lemma("left", left <= _VECTORS)
    h.lemma("searches", ~searching | (left.any() & ~found))
    writes = s["msix._write__en"][0] & (s["msix._write__addr"][:2] == CONTROL)
    unmasks = h.table_at("IDLE") & writes & ~s["msix._write__data"][0]
    steps = Signal(range(_VECTORS + 1))
    with h.m.If(unmasks | (h.live & ~live_before)):
        h.m.d.sync += steps.eq(0)
    with h.m.Elif(due & searching & ~(entry.pending & ~entry.mask)):
        h.m.d.sync += steps.eq(steps + 1)
    h.lemma("steps", ~due | (steps + left <= _VECTORS))
    h.claim("in-time", ~(due & ~found) | (steps < _VECTORS))
    h.claim("not-forgotten", ~due | ahead)
    h.claim("offered", ~(found & h.live) | s["msix.messages__resumable"][0])
    return h


class Update(Harness):
    """A function without mask bits, and software that programs its message and then changes it.

    Each configuration write comes whenever it likes. ``moves`` are the register writes of the
    change: "address" or "data" get their new values, "old address" again its old one.
    """

    def __init__(self, moves: tuple[str, ...]):
        config = EndpointConfig(msi="64", msi_vectors=1)
        super().__init__(Endpoint(config))
        base = config.capability("msi")
        self.assume(~self.dut.stimulus.unplug)
        old_address, new_address = (self.constant(32, f"{age}_address") for age in ("old", "new"))
        old_data, new_data = (self.constant(16, f"{age}_data") for age in ("old", "new"))
        self.assume((old_address[:2] == 0) & (new_address[:2] == 0))
        self.assume((old_address != new_address) & (old_data != new_data))
        self.assume((new_address != 0) & (old_data != 0))
        low, data = base + pci.MSI_ADDRESS_LO, base + pci.msi_data(True)
        programs = [
            (low, old_address, 0b1111),
            (data, old_data, 0b0011),
            (base, Const(pci.MSI_FLAGS_ENABLE << 16, 32), 0b1100),
            (pci.Header.COMMAND, Const(pci.COMMAND_MASTER | pci.COMMAND_MEMORY, 32), 0b0011),
        ]
        words = {
            "address": (low, new_address, 0b1111),
            "old address": (low, old_address, 0b1111),
            "high": (base + pci.MSI_ADDRESS_HI, Const(0, 32), 0b1111),
            "data": (data, new_data, 0b0011),
        }
        writes = [*programs, *(words[move] for move in moves)]
        self._software(writes)
        self._know(writes, len(programs), moves, old_address, new_address, old_data, new_data)

    def _software(self, writes):
        m, port = self.m, self.dut.config_access
        self.step = step = Signal(range(len(writes) + 1))
        addresses, values, lanes = (Array(column) for column in zip(*writes, strict=True))
        m.d.comb += [
            port.request.valid.eq(self.arbitrary(1, "writes") & (step != len(writes))),
            port.request.p.address.eq(addresses[step]),
            port.request.p.write.eq(1),
            port.request.p.data.eq(values[step]),
            port.request.p.select.eq(lanes[step]),
            port.response.ready.eq(1),
        ]
        with m.If(port.request.valid & port.request.ready):
            m.d.sync += step.eq(step + 1)

    def _know(self, writes, programmed, moves, old_address, new_address, old_data, new_data):
        s = self.state

        def torn(address, data):
            return (address[:32] == new_address) & (data == old_data)

        def since(word, count):
            return self.step > programmed + moves.index(word) if word in moves else Const(0)

        address, data = s["msi.address"][:32], s["msi.data"]
        address_now = Mux(since("address", 1), new_address, old_address)
        data_now = Mux(since("data", 1), new_data, old_data)
        self.lemma("in-sequence", self.step <= len(writes))
        self.lemma("off", (self.step > 2) == s["msi.enable"])
        self.lemma("address", address == Mux(self.step > 0, address_now, 0))
        self.lemma("data", data == Mux(self.step > 1, data_now, 0))
        # The same in single bits, with which a solver need not compare words to see that the
        # registers are never torn.
        moved, old = address == new_address, data == old_data
        self.lemma("moved", moved == since("address", 1))
        self.lemma("old", old == ((self.step > 1) & ~since("data", 1)))
        self.lemma("whole", ~(moved & old))
        self.lemma("one-vector", s["msi.enabled"] == 0)
        reply = s["msi.messages__reply"]
        self.lemma("reply", ~torn(reply[1:65], reply[65:]))
        latched = s["messenger.message"]
        self.lemma("latched", ~torn(latched[:64], latched[64:]))
        posted = PostedWrite(s["messenger.write"])
        self.lemma("write", ~(posted.interrupt & torn(posted.address, posted.data)))
        leaving = self.dut.posted
        told = leaving.valid & leaving.p.interrupt
        self.claim("not-torn", ~(told & torn(leaving.p.address, leaving.p.data)))


@PROPERTIES.proof(steps=16, reach=14, expected=True)
def naive_update_tears() -> Harness:
    """Software that writes the new address and then the new data can be caught in between: the
    function sends the old data to the new address."""
    return Update(("address", "high", "data"))


@PROPERTIES.proof(steps=1, reach=18)
def two_step_update_never_tears() -> Harness:
    """Software that first writes the new data beside the old address, and then the new address,
    never makes the function send the old data to the new address."""
    return Update(("old address", "high", "data", "address"))
