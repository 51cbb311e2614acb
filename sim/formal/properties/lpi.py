"""The LPIs of a redistributor: pending until told otherwise, the best one signalled.

32 LPIs, the fewest an engine has; the tracked one is an arbitrary one of them. Commands, hand-overs
and what the bus answers (property bytes, pending tables) are arbitrary.
"""

from amaranth.hdl import Cat, Const, Mux, Signal, Value

from hdl.gic.interfaces import FIRST_LPI, LpiOperation
from hdl.gic.lpi import Job, LpiEngine, Origin
from hdl.gic.lpi_links import HandoverNetwork
from hdl.gic.lpi_tree import RADIX, BestOfRow, Leaf, Summary

from ..harness import Harness
from ..proof import Properties
from .bus import one_hot_or_none

PROPERTIES = Properties("redistributor")
_LPIS = 32
_CPUS = 3
"""Of the network between the engines; an engine itself knows of one more."""
_ROWS = _LPIS // RADIX
_LEAF = Leaf.as_shape().size
_SUMMARY = Summary.as_shape().size
_WORKING = ("LEAF", "FETCH", "FETCH_WAIT")
_ASIDE = ("OFF", "WIPE", "SAVE", "COLLECT", "STORE", "STORE_WAIT", "STORED")
"""States in which nothing is signalled and the leaves are only read or wiped."""
_ALL_KNOWN = Const.cast(Leaf.const({"known": 1})).value * sum(1 << i * _LEAF for i in range(RADIX))
_LEAF_READ = "tree.leaf_memory.leaf_read__data"


def _chosen(rows: list[Value], number: Value) -> Value:
    result = rows[0]
    for i, row in enumerate(rows[1:], 1):
        result = Mux(number == i, row, result)
    return result


class Engine(Harness):
    """An engine, the leaf of the tracked LPI, and what is always true of engine and tree."""

    def __init__(self):
        super().__init__(LpiEngine(0, lpis=_LPIS, cpus=2))
        s = self.state
        self.lpi = self.constant(range(_LPIS), "tracked")
        self.intid = FIRST_LPI + self.lpi
        self.rows = [s[f"tree.leaf_memory.row_{i}"] for i in range(_ROWS)]
        self.leaf = Leaf(_chosen(self.rows, self.lpi[3:]).word_select(self.lpi[:3], _LEAF))
        self.job, self.job_lpi = s["job"], s["job_lpi"]
        self.working = self.at(*_WORKING)
        self.aside = self.at(*_ASIDE)
        self.acked_now = s["acked_now"] & (s["shown_lpi"] == self.lpi)
        self.owes_ack = s["owes_ack"] & (s["acked_lpi"] == self.lpi)
        self.stores = self.named(s["store"], "stores")
        self.mine = self.job_lpi == self.lpi
        self._engine_lemmas()
        self._tree_lemmas()

    def at(self, *states: str) -> Value:
        return Cat(self.state.fsm(state) for state in states).any()

    def stored(self, *jobs: Job) -> Value:
        """A job of one of these kinds on the tracked LPI is complete in this clock."""
        return self.stores & self.mine & Cat(self.job == job for job in jobs).any()

    def _row(self, number) -> Value:
        return _chosen(self.rows, number)

    def _engine_lemmas(self):
        s = self.state
        self.lemma("legal", s.legal())
        self.lemma("owes-stale", ~s["owes_ack"] | s["stale"])
        self.lemma("stale-hidden", ~(s["stale"] & s["shown"]))
        quiet = ~(s["shown"] | s["stale"] | s["owes_ack"])
        self.lemma("aside-quiet", ~self.aside | quiet)
        read = s[_LEAF_READ]
        # INVALIDATE_ALL makes properties unknown behind the row that was read.
        differs = (read ^ self._row(self.job_lpi[3:])) & ~_ALL_KNOWN
        self.lemma("job-read", ~self.working | ~differs.any())
        self.lemma("scan-read", ~self.at("SCAN") | (read == self._row(s["scan_at"][3:5])))
        self.lemma("scan-within", ~self.at("SCAN") | (s["scan_at"] < _LPIS))
        wiping = self.at("WIPE")
        for r, row in enumerate(self.rows):
            self.lemma(f"wiped-{r}", ~wiping | (s["scan_at"] <= r) | (row == 0))
        self.lemma("wipe-within", ~wiping | (s["scan_at"] < _ROWS))
        self.lemma("off-at-start", ~self.at("OFF") | s["tree.ready"])
        self.lemma("search-stale", ~self.at("SEARCH") | (s["stale"] & ~s["owes_ack"]))
        self.lemma("one-move", ~(self.working & (self.job == Job.MOVE)) | ~s["moving"])
        scan_moves = self.at("SCAN") & s["scan_moves"]
        self.lemma("scan-one-move", ~scan_moves | ~s["moving"])

    def _tree_lemmas(self):
        s = self.state
        climbing, descending, at_leaf = (
            s.fsm(x, "tree.fsm_state") for x in ("CLIMB", "DESCEND", "LEAF")
        )
        upper = s["tree.upper_memory.row_0"]
        upper_read = s["tree.upper_memory.upper_read__data"]
        climber = s["tree.climber"]
        self.lemma("tree-legal", s.legal("tree.fsm_state"))
        self.lemma("searching", self.at("SEARCH") == (descending | at_leaf))
        self.lemma("aside-ready", ~self.aside | s["tree.ready"] | self.at("OFF"))
        self.lemma("upper-read", ~(climbing | descending) | (upper_read == upper))
        self.lemma("level", ~(climbing | descending) | (s["tree.level"] == 1))
        self.lemma("from-the-root", ~descending | (climber == 0))
        self.lemma("upper-wiped", ~(self.at("WIPE") & (s["scan_at"] != 0)) | (upper == 0))
        for r in range(_ROWS, RADIX):
            self.lemma(f"nobody-{r}", ~upper.word_select(r, _SUMMARY)[0])
        row = climber[:2]
        self.lemma("found-read", ~at_leaf | (s[_LEAF_READ] == self._row(row)))
        self.lemma("found-row", ~at_leaf | (climber < _ROWS))

    def search(self):
        """The tournament is right, so a search finds the best."""
        s = self.state
        climbing, at_leaf = (s.fsm(x, "tree.fsm_state") for x in ("CLIMB", "LEAF"))
        upper, climber = s["tree.upper_memory.row_0"], s["tree.climber"]
        best = []
        for r, row in enumerate(self.rows):
            self.m.submodules[f"best_{r}"] = contest = BestOfRow()
            for i in range(RADIX):
                leaf = Leaf(row.word_select(i, _LEAF))
                self.m.d.comb += [
                    contest.entries[i].valid.eq(leaf.pending & leaf.enable),
                    contest.entries[i].priority.eq(leaf.priority),
                ]
            best.append(contest.best.as_value())
            said = upper.word_select(r, _SUMMARY)
            changing = climbing & (climber[3:] == r)
            self.lemma(f"said-{r}", changing | self.at("WIPE") | (said == best[r]))
            self.lemma(f"climbs-{r}", ~changing | (Value.cast(s["tree.summary"]) == best[r]))
        chosen, row = _chosen(best, climber[:2]), climber[:2]
        for r in range(_ROWS):
            mine, other = (Cat(b[1:], ~b[0]) for b in (chosen, best[r]))
            first = (mine < other) | ((mine == other) & (row <= r))
            self.lemma(f"found-best-{r}", ~at_leaf | (chosen[0] & first))

    def candidates(self):
        """The candidate is due."""
        s, leaf = self.state, self.leaf
        shown = s["shown"] & (s["shown_lpi"] == self.lpi)
        due = leaf.pending & leaf.enable & (leaf.priority == s["shown_priority"])
        self.lemma("shown-due", ~shown | due)

    def bests(self):
        """Nothing is better than the candidate."""
        s, leaf = self.state, self.leaf
        key = Cat(s["shown_lpi"], s["shown_priority"])
        best = s["shown"] & (key <= Cat(self.lpi, leaf.priority))
        eligible = leaf.pending & leaf.enable
        self.lemma("shown-best", ~eligible | self.aside | s["stale"] | best)


@PROPERTIES.proof(steps=1, slow=True)
def best_lpi_is_signalled() -> Harness:
    """The signalled LPI is pending and enabled, with the priority its property has, and no other
    that is pending and enabled is more urgent, or as urgent with a lower number."""
    h = Engine()
    h.candidates()
    h.search()
    h.bests()
    shown, leaf = h.dut.candidate, h.leaf
    mine = shown.valid & (shown.intid == h.intid)
    h.claim("due", ~mine | (leaf.pending & leaf.enable & (shown.priority == leaf.priority << 3)))
    later = shown.intid < h.intid
    worse = (shown.priority < leaf.priority << 3) | ((shown.priority == leaf.priority << 3) & later)
    h.claim("best", ~(shown.valid & leaf.pending & leaf.enable) | mine | worse)
    missed = leaf.pending & leaf.enable & ~h.aside & h.state["live"] & ~h.dut.searching
    h.claim("some", ~missed | shown.valid)
    return h


@PROPERTIES.proof(steps=1, reach=18)
def pending_stays() -> Harness:
    """An LPI that was set is pending until it is acknowledged, cleared, moved or the engine is
    switched off; a SET that was taken is carried out."""
    h = Engine()
    h.candidates()
    s = h.state
    must = Signal()
    leaves = h.stored(*Job) & s["leaves"]
    with h.m.If(h.acked_now | h.stored(Job.CLEAR) | leaves | h.aside):
        h.m.d.sync += must.eq(0)
    with h.m.If(h.stored(Job.SET)):
        h.m.d.sync += must.eq(1)
    coming = Signal()
    for_mine = s["command"][3:19] == h.intid
    is_set = s["command"][:3] == LpiOperation.SET
    taken = s["command_valid"] & s["command_ready"] & is_set & for_mine
    exists = (s["id_bits"] >= 13) & s["live"]
    with h.m.If(h.stored(Job.SET)):
        h.m.d.sync += coming.eq(0)
    with h.m.Elif(taken & exists & h.at("READY")):
        h.m.d.sync += coming.eq(1)
    h.claim("stays", ~must | (h.leaf.pending & ~h.owes_ack))
    h.claim("carried-out", ~coming | (h.working & h.mine & (h.job == Job.SET)))
    return h


@PROPERTIES.proof(steps=1)
def acknowledge_clears_one() -> Harness:
    """An acknowledged LPI is not signalled again before it is set again, and the acknowledgement
    takes no other LPI's pending state; the next candidate is another."""
    h = Engine()
    h.candidates()
    s = h.state
    h.assume(~h.dut.duplicate)
    gone = Signal()
    with h.m.If(h.acked_now):
        h.m.d.sync += gone.eq(1)
    with h.m.If(h.stored(Job.SET)):
        h.m.d.sync += gone.eq(0)
    h.lemma("no-repeat", ~s["repeat"])
    cleared = ~h.leaf.pending | h.owes_ack
    h.lemma("gone", ~gone | cleared)
    shown = h.dut.candidate
    h.claim("not-again", ~(gone & shown.valid & (shown.intid == h.intid)))
    was = h.before(h.leaf.pending, "was_pending")
    acked = h.before(h.acked_now | h.owes_ack, "acked")
    others = h.before(h.stored(Job.CLEAR, Job.MOVE) | h.aside, "taken_otherwise")
    h.claim("no-other", ~was | h.leaf.pending | acked | others)
    return h


@PROPERTIES.proof(steps=1, reach=18)
def moved_is_handed_over() -> Harness:
    """A pending LPI that leaves is offered to its new CPU as a SET, once, until it is taken."""
    h = Engine()
    s, dut = h.state, h.dut
    moved = h.stored(Job.MOVE) & s["leaves"]
    target = h.before(s["job_target"], "target")
    left = h.before(moved, "left")
    handover = dut.handover
    right = (
        (handover.p.intid == h.intid)
        & (handover.p.operation == LpiOperation.SET)
        & (handover.p.target == target)
    )
    h.claim("offered", ~left | (handover.valid & right))
    h.claim("gone-here", ~left | ~h.leaf.pending)
    waits = h.before(handover.valid & ~handover.ready, "waits")
    payload = h.before(handover.payload, "payload")
    h.claim("until-taken", ~waits | (handover.valid & (Value.cast(handover.payload) == payload)))
    taken = h.before(handover.valid & handover.ready, "handed_over")
    any_left = h.before(h.stores & s["leaves"], "any_left")
    h.claim("once", ~(taken & handover.valid) | any_left)
    return h


@PROPERTIES.proof(steps=1, reach=18)
def arrival_is_carried_out() -> Harness:
    """An LPI that another CPU hands over is pending when its hand-over is taken, and not only
    later, unless LPIs are off here or the engine does not have it."""
    h = Engine()
    s, arrival = h.state, h.dut.arrival
    waits = h.before(arrival.valid & ~arrival.ready, "waits")
    payload = h.before(arrival.payload, "payload")
    h.assume(~waits | (arrival.valid & (Value.cast(arrival.payload) == payload)))
    number = arrival.p.intid - FIRST_LPI
    own = h.working & (s["job_origin"] == Origin.ARRIVAL)
    same = (h.job == Job.SET) & (number == h.job_lpi)
    h.lemma("its-own", ~own | (arrival.valid & same))
    taken = arrival.valid & arrival.ready & (arrival.p.intid == h.intid)
    has_it = s["live"] & (s["id_bits"] >= 13)
    refused = h.at("OFF") | (h.at("READY") & ~has_it)
    done = h.stored(Job.SET)
    h.claim("carried-out", ~taken | refused | done)
    h.claim("pending", ~h.before(taken & done, "taken") | h.leaf.pending)
    return h


class Prompt(Engine):
    """An engine whose bus answers at once."""

    def __init__(self):
        super().__init__()
        request, response = self.dut.bus.request, self.dut.bus.response
        asked = self.before(request.valid & request.ready, "asked")
        self.assume(request.ready & (response.valid == asked))
        self.lemma("answered", self.at("FETCH_WAIT", "LOAD_WAIT", "STORE_WAIT") == asked)

    def taken_within(self, stream, clocks: int, excused: Value):
        waits = self.before(stream.valid & ~stream.ready, "waits")
        payload = self.before(stream.payload, "payload")
        same = Value.cast(stream.payload) == payload
        self.assume(~waits | (stream.valid & same))
        waited = Signal(range(clocks + 1))
        more = Mux(waited == clocks, clocks, waited + 1)
        waiting = stream.valid & ~stream.ready & ~excused
        self.m.d.sync += waited.eq(Mux(waiting, more, 0))
        self.claim("in-time", waited < clocks)


@PROPERTIES.proof(steps=22, reach=36, slow=True)
def arrival_is_taken_in_time() -> Harness:
    """With a bus that answers at once, an engine that is not just being switched on or off takes a
    hand-over within 20 clocks, its own under way or not: engines do not block each other."""
    h = Prompt()
    h.taken_within(h.dut.arrival, 20, h.aside)
    return h


@PROPERTIES.proof(steps=26, reach=40, slow=True)
def command_is_taken_in_time() -> Harness:
    """With a bus that answers at once, a command of the ITS is taken within 24 clocks, in turn with
    direct ones, when no hand-over, scan or load of the pending table is in its way."""
    h = Prompt()
    s = h.state
    busy = h.dut.arrival.valid | s["scanning"] | s["loading"] | s["moving"]
    h.taken_within(h.dut.its.command, 24, h.aside | busy | ~s["live"])
    return h


@PROPERTIES.proof(steps=1, reach=8)
def handover_arrives_once() -> Harness:
    """Between three CPUs each hand-over is given to its target once and as it was offered, and only
    then its sender is told."""
    h = Harness(HandoverNetwork(_CPUS))
    s, senders, targets = h.state, h.dut.senders, h.dut.targets
    for i, sender in enumerate(senders):
        held = h.before(sender.valid & ~sender.ready, f"held_{i}")
        payload = h.before(sender.payload, f"payload_{i}")
        same = Value.cast(sender.payload) == payload
        h.assume(~held | (sender.valid & same))
        carried = sender.valid & (Value.cast(sender.payload) == s["command"])
        h.lemma(f"carried-{i}", ~s["sender"][i] | carried)
    h.lemma("one-carried", one_hot_or_none(s["sender"]))
    told = Cat(sender.valid & sender.ready for sender in senders)
    given = Cat(target.valid & target.ready for target in targets)
    h.claim("one-told", one_hot_or_none(told))
    h.claim("one-given", one_hot_or_none(given))
    for i, sender in enumerate(senders):
        exists = sender.p.target < _CPUS
        h.claim(f"told-{i}", ~told[i] | (given == Mux(exists, 1 << sender.p.target, 0)))
    for t, target in enumerate(targets):
        its = Cat(
            told[i] & (Value.cast(sender.payload) == Value.cast(target.payload))
            for i, sender in enumerate(senders)
        )
        h.claim(f"as-offered-{t}", ~given[t] | its.any())
    return h
