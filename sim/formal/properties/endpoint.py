"""The endpoint: what its messages say, when it is silent, and that none is lost or sent twice."""

from amaranth.hdl import Array, Const, Mux, Signal, Value

from hdl.pci.endpoint import Endpoint, EndpointConfig
from hdl.pci.interfaces import MessageRequest, PostedWrite
from hdl.registers import pci

from ..harness import Harness
from ..proof import Properties

PROPERTIES = Properties("endpoint")
_VECTORS = 4
_ALL_VECTORS = (_VECTORS - 1).bit_length()


class Function(Harness):
    """A function with maskable 64-bit MSI that has all its four vectors in use.

    Configuration and device accesses, events, quirks and the taker of its writes are arbitrary.
    """

    def __init__(self):
        super().__init__(Endpoint(EndpointConfig(msi="64", maskable=True, msi_vectors=_VECTORS)))
        s = self.state
        self.assume(~self.dut.stimulus.unplug)
        self.vector = self.constant(range(_VECTORS), "tracked")
        flags = (s["space.capability__0__index"] == 0) & s["space.capability__0__select"][2]
        asked = s["space.capability__0__data"][20:23]
        self.assume(~flags | (asked == _ALL_VECTORS))
        self.enable, self.mask, self.pending = s["msi.enable"], s["msi.mask"], s["msi.pending"]
        self.lemma("all-in-use", ~self.enable | (s["msi.enabled"] == _ALL_VECTORS))
        self.lemma("in-use", ~self.pending.any() | (s["msi.enabled"] == _ALL_VECTORS))
        self.lemma("legal", s.legal("messenger.fsm_state"))
        self.request = MessageRequest(s["messenger.messages__request__payload"])
        self.asks = s["messenger.messages__request__valid"]
        self.reply_valid = s["msi.messages__reply_valid"]
        self.posted = PostedWrite(s["messenger.write"])
        self.offers = s["messenger.posted__valid"] & self.posted.interrupt
        self.starts = self.offers & ~self.before(self.offers, "offered")
        self.lemma("write-kind", ~self.at("SEND_MESSAGE") | self.posted.interrupt)
        self.lemma("data-kind", ~(self.at("DATA") | self.at("SEND_DATA")) | ~self.posted.interrupt)
        self.lemma("reply", self.reply_valid <= (self.at("ANSWER") | self.at("LATCH")))
        self.current = s["messenger.current"]
        self.lemma("vector", self.current < _VECTORS)

    def at(self, state: str) -> Value:
        return self.state.fsm(state, "messenger.fsm_state")

    def two_ago(self, value, name: str) -> Signal:
        return self.before(self.before(value, f"{name}_1"), f"{name}_2")


@PROPERTIES.proof(steps=3, reach=12)
def masked_is_silent() -> Harness:
    """A message that is offered was asked for two clocks before, its vector not masked and MSI
    enabled then: from the second clock after masking or disabling nothing new appears."""
    h = Function()
    free = h.enable & ~h.mask.bit_select(h.current[:_ALL_VECTORS], 1)
    h.claim("was-free", ~h.starts | h.two_ago(free, "free"))
    h.claim("for-the-asked", ~h.starts | (h.two_ago(h.current, "asked") == h.current))
    return h


@PROPERTIES.proof(steps=3, reach=12)
def message_of_one_clock() -> Harness:
    """Unless the device latches early, a message is what the registers held in one clock, two
    before it is offered, with its vector in the low bits of the data."""
    h = Function()
    s = h.state
    address = h.two_ago(s["msi.address"], "address")
    data = h.two_ago(s["msi.data"], "data")
    low = h.posted.data[:_ALL_VECTORS] == h.current[:_ALL_VECTORS]
    whole = (h.posted.address == address) & low
    upper = h.posted.data[_ALL_VECTORS:] == data[_ALL_VECTORS:]
    h.assume(~h.dut.quirks.latch_at_event)
    h.lemma("not-latched", ~s["messenger.latched"])
    h.claim("one-clock", ~h.starts | (whole & upper))
    return h


@PROPERTIES.proof(steps=1, reach=16)
def pending_is_sent_once() -> Harness:
    """An event is remembered until its message is sent or the function may not send at all; its
    pending bit is taken up as soon as it is unmasked, and no message is sent without an event."""
    h = Function()
    s = h.state
    mine = h.current == h.vector
    event = s["event"] & (s["vector"] == h.vector)
    waits = s["messenger.events"].bit_select(h.vector, 1)
    pending, masked = (bits.bit_select(h.vector, 1) for bits in (h.pending, h.mask))
    asked = h.asks & ~h.request.peek & (h.request.vector == h.vector)
    fresh = ~h.request.resume | pending
    sends = asked & h.enable & fresh & ~masked
    parks = asked & h.enable & fresh & masked
    resumes = s["messenger.resume"]

    owed, going = Signal(), Signal()
    ends = h.at("ASK") & mine & ~resumes & ~h.enable
    leaves = h.at("SEND_MESSAGE") & mine & h.dut.posted.ready
    drops = h.at("ANSWER") & mine & h.reply_valid & ~s["master"] & ~h.dut.quirks.hold_when_no_master
    with h.m.If(leaves | drops):
        h.m.d.sync += going.eq(0)
    with h.m.If(sends):
        h.m.d.sync += [owed.eq(waits), going.eq(1)]
    with h.m.Elif(parks):
        h.m.d.sync += [owed.eq(1), going.eq(0)]
    with h.m.Elif(ends):
        h.m.d.sync += [owed.eq(waits | pending), going.eq(0)]
    with h.m.If(event):
        h.m.d.sync += owed.eq(1)

    asking = (h.at("DATA") | h.at("SEND_DATA") | h.at("ASK")) & mine & ~resumes
    early = h.at("PEEK") | h.at("LATCH") | h.at("WAIT")
    answered = h.at("ANSWER") & mine & h.reply_valid
    send = s["msi.messages__reply"][0]
    h.lemma("waits", ~waits | owed)
    h.lemma("early", ~(early & mine) | waits)
    h.lemma("early-fresh", ~(early | h.at("DATA") | h.at("SEND_DATA")) | ~resumes)
    h.lemma("pending", ~pending | owed)
    h.lemma("asking", ~asking | owed | going)
    h.lemma("answer", ~answered | (send == going))
    h.lemma("answered", ~h.at("ANSWER") | h.reply_valid)
    h.lemma("sending", ~(h.at("SEND_MESSAGE") & mine) | going)
    h.lemma("going", ~going | (mine & (h.at("ASK") | h.at("ANSWER") | h.at("SEND_MESSAGE"))))
    h.lemma("going-fresh", ~(going & h.at("ASK")) | ~resumes)
    h.claim("not-invented", ~sends | owed | going)
    h.claim("not-doubled", ~(h.starts & mine) | going)
    h.claim("not-lost", ~owed | waits | pending | asking)
    resumable = h.state["msi.messages__resumable"]
    lowest = resumable[0] & (resumable[1:] <= h.vector)
    h.claim("taken-up", ~(pending & ~masked & h.enable) | lowest)
    taken_up = h.before(h.at("IDLE") & resumable[0] & (resumable[1:] == h.vector), "taken_up")
    h.claim("asked-again", ~taken_up | (h.at("ASK") & mine & resumes))
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


@PROPERTIES.proof(steps=1, reach=18, slow=True)
def two_step_update_never_tears() -> Harness:
    """Software that first writes the new data beside the old address, and then the new address,
    never makes the function send the old data to the new address."""
    return Update(("old address", "high", "data", "address"))
