"""The bank behind the distributor: who is signalled, and that nothing pending is forgotten.

One row of 32 SPIs and two CPUs; the tracked SPI is an arbitrary one of them.
"""

from amaranth.hdl import Cat, Const, Signal, Value

from hdl.gic.bank import ROW, BankRegister, InterruptBank, Job, Route, Row
from hdl.gic.interfaces import FIRST_SPI, PRIORITY_BITS

from ..harness import Harness
from ..proof import Properties

PROPERTIES = Properties("distributor")
CPUS = 2


class Bank(Harness):
    """The bank of a distributor, with what is known of the tracked SPI in every clock."""

    def __init__(self):
        super().__init__(InterruptBank(first=FIRST_SPI, rows=1, cpus=CPUS, routed=True, unit=0))
        self.spi = self.constant(range(ROW), "spi")
        bank, s = self.dut, self.state
        self.pick, self.execute, self.offer = (s.fsm(x) for x in ("PICK", "EXECUTE", "OFFER"))
        self.row = Row(s["rows.row_0"])
        self.old = bank._rows_read.data
        self.priority = self._of_words("priorities", ROW // 4).word_select(self.spi, PRIORITY_BITS)
        routes = self._of_words("routes", ROW)
        self.route = Route(routes.word_select(self.spi, 32))
        self.exists = ~(self.route.aff1 | self.route.aff2 | self.route.aff3).any()
        for c in range(CPUS):
            shown, acknowledge = bank.candidate[c], bank.acknowledge[c]
            self.assume(~acknowledge.valid | (shown.valid & (acknowledge.intid == shown.intid)))
        self.taken = [
            self.is_tracked(bank.acknowledge[c].intid) & bank.acknowledge[c].valid
            for c in range(CPUS)
        ]
        self.shown = [
            self.is_tracked(bank.candidate[c].intid) & bank.candidate[c].valid for c in range(CPUS)
        ]
        self.mine = [bank._best[c].bit == self.spi for c in range(CPUS)]
        self.found = [bank._found[c] & self.mine[c] for c in range(CPUS)]
        self.acknowledged = [bank._acknowledged[c] & self.mine[c] for c in range(CPUS)]
        self.offered = s["offered"] & (s["offered_bit"] == self.spi)
        self.acknowledging = self.execute & (bank._job == Job.ACKNOWLEDGE) & (bank._bit == self.spi)
        self.assume(self._lawful(bank.access.p))
        self._reads()
        self._candidates()

    def _lawful(self, access) -> Value:
        """The frame asks a bank only for words that it holds."""
        words = {BankRegister.PRIORITY: ROW // 4, BankRegister.CONFIG: 2}
        words |= {BankRegister.ROUTE: ROW, BankRegister.ROUTE_HIGH: ROW}
        held = [
            (access.register == register) & (access.index < words.get(register, 1))
            for register in BankRegister
        ]
        return Cat(held).any()

    def is_tracked(self, intid):
        return intid == self.spi + FIRST_SPI

    def bit(self, word):
        return word.bit_select(self.spi, 1)

    def to(self, c: int) -> Value:
        return self.exists & (self.route.aff0 == c)

    def _of_words(self, memory: str, count: int) -> Value:
        return Cat(self.state[f"{memory}.row_{i}"] for i in range(count))

    def _reads(self):
        """What was read is what stands there, as long as it matters."""
        bank, s = self.dut, self.state
        request = bank._request
        access = self.execute & (bank._job == Job.ACCESS)
        offered, deactivating = s["offered"], self.execute & (bank._job == Job.DEACTIVATE)
        self.lemma("legal", s.legal())
        self.lemma("one-row", (bank._row == 0) & (bank._visited == 0))
        self.lemma("access-held", ~access | self._lawful(request))
        self.lemma("visit-offers", ~self.offer | (bank._job == Job.VISIT))
        self.lemma("offered", ~offered | self.offer)
        self.lemma("row-read", ~self.execute | (Value.cast(self.old) == Value.cast(self.row)))
        kept = Value.cast(bank._rows_write.data) == Value.cast(self.row)
        self.lemma("row-kept", ~self.offer | kept)
        word = self.spi[2:]
        priority = Value.cast(bank._priority_read.data).word_select(self.spi[:2], PRIORITY_BITS)
        for name, when, here in (
            ("access", access, request.index),
            ("offer", offered, s["offered_bit"][2:]),
        ):
            right = priority == self.priority
            self.lemma(f"priority-{name}", ~(when & (here[:3] == word)) | right)
        for name, when, here in (
            ("access", access, request.index),
            ("deactivation", deactivating, bank._bit),
            ("offer", offered, s["offered_bit"]),
        ):
            right = Value.cast(bank._route_read.data) == Value.cast(self.route)
            self.lemma(f"route-{name}", ~(when & (here[:5] == self.spi)) | right)
        self.lemma("signalable-offered", ~self.offered | self.bit(bank._signalable))

    def _candidates(self):
        """A candidate was chosen for a reason that still holds."""
        bank = self.dut
        visiting = self.offer | (self.execute & (bank._job == Job.VISIT))
        row = self.row
        pending = self.bit(row.latch) | (~self.bit(row.edge) & self.bit(bank._lines))
        for c in range(CPUS):
            other = 1 - c
            enabled = self.bit(row.enable) | bank._leaving[c]
            due = ~self.bit(row.active) & self.bit(row.group) & enabled & self.to(c)
            right = bank._best[c].priority == self.priority
            self.lemma(f"due-{c}", ~self.found[c] | (due & right))
            self.lemma(f"pending-{c}", ~self.found[c] | self.execute | pending)
            self.lemma(f"row-{c}", bank._best[c].row == 0)
            self.lemma(f"gone-{c}", ~(bank._found[c] & bank._acknowledged[c]))
            self.lemma(f"not-twice-{c}", ~(self.found[c] & self.acknowledged[other]))
            self.lemma(f"not-again-{c}", ~(self.found[c] & self.acknowledging))
            self.lemma(f"still-its-{c}", ~(visiting & self.acknowledged[c]) | self.to(c))
            self.lemma(f"once-{c}", ~(self.acknowledged[c] & self.acknowledging))
        self.lemma("one-acknowledged", ~(self.acknowledged[0] & self.acknowledged[1]))

    def search(self):
        """The search misses nothing: at rest, what is due was compared with the candidate."""
        bank, s, row = self.dut, self.state, self.row
        visiting = self.execute & (bank._job == Job.VISIT)
        writing_back = self.execute & (bank._job == Job.ACKNOWLEDGE)
        dirty, rescan, previous = bank._dirty[0], bank._rescan[0], self.bit(s["previous"])
        line, lines = self.bit(row.line), self.bit(bank._lines)
        pending = self.bit(row.latch) | (~self.bit(row.edge) & line)
        due = pending & self.bit(row.group) & self.bit(row.enable) & ~self.bit(row.active)
        taken = self.acknowledged[0] | self.acknowledged[1] | self.acknowledging
        rank = Cat(self.spi, Const(0, 1), self.priority)
        self.lemma("to-be-visited", ~self.bit(s["risen"]) | dirty)
        self.lemma("line-looked-at", dirty | (lines == previous))
        self.lemma("line-noted", dirty | visiting | (line == previous))
        self.lemma("line-of-visit", ~self.offer | (line == lines))
        self.lemma("row-noted", ~due | dirty | self.execute | bank._signalable_rows[0])
        self.served = []
        for c in range(CPUS):
            best = bank._found[c] & (bank._best[c].as_value() <= rank)
            served = best | bank._acknowledged[c]
            soon = self.bit(s["work"]) | self.offered
            self.lemma(f"offers-{c}", ~(self.offer & due & self.to(c) & ~taken) | soon | served)
            busy = dirty | rescan | visiting | writing_back | self.offer
            self.lemma(f"served-{c}", ~(due & self.to(c) & ~taken) | busy | served)
            self.served.append(best)
        rest = self.pick & ~dirty & ~rescan & ~bank._acknowledged.any()
        self.due = due
        self.at_rest = self.named(rest & self.before(rest, "rested"), "at_rest")

    def best_shown(self, c: int) -> Value:
        """The tracked SPI or a more urgent one is signalled to ``c``."""
        shown = self.dut.candidate[c]
        lower = shown.intid <= self.spi + FIRST_SPI
        priority = self.priority << 3
        better = (shown.priority < priority) | ((shown.priority == priority) & lower)
        return shown.valid & better

    def access(self, register: BankRegister) -> Value:
        """A write that names the tracked SPI is carried out in this clock."""
        bank = self.dut
        request = bank._request
        lane = request.select.bit_select(self.spi[3:], 1)
        this = (bank._job == Job.ACCESS) & (request.register == register) & request.write
        return self.execute & this & lane & self.bit(request.data)


@PROPERTIES.proof(steps=1, reach=14)
def active_is_silent() -> Harness:
    """From its acknowledgement until it is deactivated, an SPI is signalled to no CPU."""
    h = Bank()
    bank = h.dut
    active = Signal()
    deactivating = h.execute & (bank._job == Job.DEACTIVATE) & (bank._bit == h.spi)
    with h.m.If(deactivating | h.access(BankRegister.CLEAR_ACTIVE)):
        h.m.d.sync += active.eq(0)
    with h.m.If(h.taken[0] | h.taken[1] | h.access(BankRegister.SET_ACTIVE)):
        h.m.d.sync += active.eq(1)
    somewhere = h.bit(h.row.active) | h.acknowledged[0] | h.acknowledged[1] | h.acknowledging
    h.lemma("known", ~active | somewhere)
    for c in range(CPUS):
        h.claim(f"silent-{c}", ~(active & h.shown[c]))
    return h


@PROPERTIES.proof(steps=1, reach=14)
def signalled_to_one_cpu() -> Harness:
    """No SPI is signalled to two CPUs at once, nor acknowledged by two before it is deactivated."""
    h = Bank()
    h.claim("one", ~(h.shown[0] & h.shown[1]))
    h.claim("one-takes", ~(h.taken[0] & h.taken[1]))
    for c in range(CPUS):
        h.claim(f"not-taken-too-{c}", ~(h.shown[c] & h.acknowledged[1 - c]))
    return h


@PROPERTIES.proof(steps=1, reach=14)
def signalled_is_due() -> Harness:
    """A signalled SPI is pending, in group 1, enabled or being withdrawn, and routed to the CPU."""
    h = Bank()
    bank, row = h.dut, h.row
    pending = h.bit(row.latch) | (~h.bit(row.edge) & h.bit(bank._lines)) | h.execute
    for c in range(CPUS):
        enabled = h.bit(row.enable) | bank.withdrawing
        due = pending & h.bit(row.group) & enabled & h.to(c) & ~h.bit(row.active)
        priority = bank.candidate[c].priority == h.priority << 3
        h.claim(f"signalled-{c}", ~h.shown[c] | (due & priority))
    return h


@PROPERTIES.proof(steps=2, reach=18, slow=True)
def best_is_signalled() -> Harness:
    """At rest, each CPU is signalled the best of the SPIs that are due for it."""
    h = Bank()
    h.search()
    for c in range(CPUS):
        h.claim(f"best-{c}", ~(h.at_rest & h.due & h.to(c)) | h.best_shown(c))
    return h


@PROPERTIES.proof(steps=2, reach=18, slow=True)
def level_follows_the_line() -> Harness:
    """At rest, a level-sensitive SPI that nobody made pending is signalled if its line is high,
    unless a better one is, and only then."""
    h = Bank()
    h.search()
    row = h.row
    high = h.bit(h.state["previous"])
    level = ~h.bit(row.edge) & ~h.bit(row.latch)
    for c in range(CPUS):
        ready = h.bit(row.group) & h.bit(row.enable) & ~h.bit(row.active) & h.to(c)
        h.claim(f"only-{c}", ~(h.at_rest & level & h.shown[c]) | high)
        h.claim(f"when-{c}", ~(h.at_rest & level & ready & high) | h.best_shown(c))
    return h


@PROPERTIES.proof(steps=2, reach=18, slow=True)
def edge_is_kept() -> Harness:
    """A rising edge of an edge-triggered SPI stays pending, and at rest is signalled if it is due
    and the best, until it is acknowledged, cleared or made level-sensitive."""
    h = Bank()
    h.search()
    row, bank, s = h.row, h.dut, h.state
    edge = Signal()
    rise = h.bit(s["rise"]) & h.bit(row.edge)
    cleared = h.taken[0] | h.taken[1] | h.access(BankRegister.CLEAR_PENDING)
    with h.m.If(cleared):
        h.m.d.sync += edge.eq(0)
    with h.m.If(rise):
        h.m.d.sync += edge.eq(1)
    with h.m.If(h.execute & ~h.bit(bank._rows_write.data.edge)):
        h.m.d.sync += edge.eq(0)
    waiting = h.acknowledged[0] | h.acknowledged[1]
    waits = h.bit(s["risen"])
    taken_in = h.execute & h.bit(bank._edges) & ~waiting
    latched = h.bit(row.latch) & ~waiting & ~h.acknowledging
    h.lemma("edge-triggered", ~edge | h.bit(row.edge))
    h.lemma("kept", ~edge | waits | taken_in | latched)
    h.claim("pending", ~(h.at_rest & edge) | h.bit(row.latch))
    for c in range(CPUS):
        ready = h.bit(row.group) & h.bit(row.enable) & ~h.bit(row.active) & h.to(c)
        h.claim(f"signalled-{c}", ~(h.at_rest & edge & ready) | h.best_shown(c))
    return h
