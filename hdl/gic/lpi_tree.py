"""A priority queue in block memory: the best of up to 57,344 LPIs in logarithmic time.

A tournament of eight at a time. A row of leaves holds eight LPIs; a row of an upper level holds,
for eight rows below it, whether anything in them is eligible and how urgent the best of it is. A
change walks from its leaf to the root, one level a clock, and stops where nothing changes any
more; a search walks from the root to a leaf, one level a clock. Nothing is ever compared that is
not in one row, so logic does not grow with the number of LPIs, only memory and depth do.
"""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from .interfaces import PRIORITY_BITS

RADIX = 8


class Leaf(data.Struct):
    """One LPI.

    ``known``: the property is a valid copy of the table's byte. An LPI that is pending while its
    property is not known keeps competing with what was last known of it.
    """

    pending: 1
    known: 1
    enable: 1
    priority: PRIORITY_BITS


class Summary(data.Struct):
    """The best of a row: ``valid`` if any is pending and enabled. Lower is more urgent."""

    valid: 1
    priority: PRIORITY_BITS


def level_rows(leaves: int) -> "list[int]":
    """Rows on each level, leaves first; the last is the root's single row."""
    rows = [-(-leaves // RADIX)]
    while rows[-1] > 1:
        rows.append(-(-rows[-1] // RADIX))
    return rows


def _key(summary):
    """What a contest compares: invalid loses against every valid one, by the top bit."""
    return Cat(summary.priority, ~summary.valid)


class BestOfRow(wiring.Component):
    """Picks the most urgent valid entry of a row, the lowest index among equals. Combinational."""

    entries: In(data.ArrayLayout(Summary, RADIX))
    best: Out(Summary)
    index: Out(range(RADIX))

    def elaborate(self, platform):
        m = Module()
        field = [(_key(self.entries[i]), Const(i, 3)) for i in range(RADIX)]
        while len(field) > 1:
            winners = []
            for (key_a, index_a), (key_b, index_b) in zip(field[::2], field[1::2], strict=True):
                key = Signal(PRIORITY_BITS + 1)
                index = Signal(range(RADIX))
                second = key_b < key_a
                m.d.comb += [
                    key.eq(Mux(second, key_b, key_a)),
                    index.eq(Mux(second, index_b, index_a)),
                ]
                winners.append((key, index))
            field = winners
        ((key, index),) = field
        m.d.comb += [
            self.best.priority.eq(key[:PRIORITY_BITS]),
            self.best.valid.eq(~key[PRIORITY_BITS]),
            self.index.eq(index),
        ]
        return m


class PriorityTree(wiring.Component):
    """The leaves of one LPI engine and the tournament above them.

    With ``L = len(level_rows(leaves))`` levels (4 for 1,024 leaves, 6 for 57,344):

    * ``fetch`` puts row ``row`` on ``leaves`` from the next clock on, until another fetch or a
      search.
    * ``store`` (only while ``ready``) writes ``leaf`` at ``index``, whose row must be on
      ``leaves``, and updates the tournament: ``ready`` is low for at most ``L - 1`` clocks. A
      fetch is allowed meanwhile; it reads what was stored.
    * ``search`` (only while ``ready``, and no fetch until ``done``) gives ``found``, ``best`` and
      ``index_found`` in the clock ``done`` is high, at most ``L`` clocks later. It uses the
      leaves' read port.
    * ``forget`` makes the properties of the row on ``leaves``, which must be ``row``, unknown.
    * ``wipe`` clears row ``row`` of the leaves and the same row of the levels above: after all
      rows were wiped the tree is empty.

    Of ``store``, ``search``, ``forget`` and ``wipe`` at most one is high in a clock.

    Parameters
    ----------
    leaves : int
        From 9 up; the caller checks its own bounds.
    """

    def __init__(self, leaves: int):
        self._rows = level_rows(leaves)
        self.levels = len(self._rows)
        self.rows = self._rows[0]
        super().__init__(
            {
                "row": In(range(self.rows)),
                "fetch": In(1),
                "leaves": Out(data.ArrayLayout(Leaf, RADIX)),
                "store": In(1),
                "index": In(range(leaves)),
                "leaf": In(Leaf),
                "forget": In(1),
                "wipe": In(1),
                "search": In(1),
                "ready": Out(1),
                "done": Out(1),
                "found": Out(1),
                "best": Out(PRIORITY_BITS),
                "index_found": Out(range(self.rows * RADIX)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        top = self.levels - 1
        upper_rows = self._rows[1:]
        bases = [sum(upper_rows[:i]) for i in range(len(upper_rows))]
        depth = sum(upper_rows)

        m.submodules.leaf_memory = leaf_memory = memory.Memory(
            shape=data.ArrayLayout(Leaf, RADIX), depth=self.rows, init=[]
        )
        m.submodules.upper_memory = upper_memory = memory.Memory(
            shape=RADIX * Summary.as_shape().size, depth=max(2, depth), init=[]
        )
        leaf_read = leaf_memory.read_port()
        leaf_write = leaf_memory.write_port(granularity=1)
        upper_read = upper_memory.read_port()
        upper_write = upper_memory.write_port()
        m.submodules.leaf_contest = leaf_contest = BestOfRow()
        m.submodules.contest = contest = BestOfRow()

        def upper_address(level, index):
            """Row above leaf ``index`` on ``level`` (a Python number, 1 is next to the leaves)."""
            return bases[level - 1] + (index >> (level + 1) * 3)

        level = Signal(range(self.levels + 1))
        climber = Signal(range(self.rows * RADIX))
        upper = data.View(data.ArrayLayout(Summary, RADIX), upper_read.data)
        climbing = Signal()
        climbed = Signal(data.ArrayLayout(Summary, RADIX))  # with the summary that has come up

        # Who changes does not take part in a contest. It is kept beside the best of the others, and
        # the better of the two is the summary that is on its way up: so neither what changes nor
        # the comparison with it lengthens a contest.
        mine, others, summary = Signal(Summary), Signal(Summary), Signal(Summary)
        m.d.comb += summary.eq(Mux(_key(mine) < _key(others), mine, others))

        place = Signal(range(RADIX))
        with m.Switch(level):
            for k in range(1, top + 1):
                with m.Case(k):
                    m.d.comb += place.eq(climber >> 3 * k)

        def enter(entry, valid, priority, changes):
            absent = changes.replicate(PRIORITY_BITS)
            m.d.comb += [entry.valid.eq(valid & ~changes), entry.priority.eq(priority | absent)]

        for i in range(RADIX):
            leaf, row = leaf_read.data[i], upper[i]
            changes = self.ready & (self.index[:3] == i)
            enter(leaf_contest.entries[i], leaf.pending & leaf.enable, leaf.priority, changes)
            changes = climbing & (place == i)
            enter(contest.entries[i], row.valid, row.priority, changes)
            m.d.comb += climbed[i].eq(Mux(changes, summary, row))

        m.d.comb += [
            self.leaves.eq(leaf_read.data),
            leaf_read.addr.eq(self.row),
            leaf_read.en.eq(self.fetch),
            leaf_write.addr.eq(self.row),
            upper_write.addr.eq(self.row),
            upper_write.data.eq(climbed),
        ]
        with m.If(self.store):
            m.d.comb += [
                leaf_write.addr.eq(self.index >> 3),
                leaf_write.data.eq(Cat(self.leaf for _ in range(RADIX))),
                leaf_write.en.eq(1 << self.index[:3]),
            ]
        with m.Elif(self.forget):
            m.d.comb += leaf_write.en.eq(-1)
            for i in range(RADIX):
                m.d.comb += [
                    leaf_write.data[i].eq(leaf_read.data[i]),
                    leaf_write.data[i].known.eq(0),
                ]
        with m.Elif(self.wipe):
            m.d.comb += [
                leaf_write.en.eq(-1),
                upper_write.data.eq(0),
                upper_write.en.eq(self.row < depth),
            ]

        with m.FSM():
            with m.State("READY"):
                # What a store needs is made ready whether or not there is one: that is known late.
                m.d.comb += [
                    self.ready.eq(1),
                    upper_read.addr.eq(upper_address(1, self.index)),
                    upper_read.en.eq(1),
                ]
                m.d.sync += [
                    level.eq(1),
                    climber.eq(self.index),
                    mine.valid.eq(self.leaf.pending & self.leaf.enable),
                    mine.priority.eq(self.leaf.priority),
                    others.eq(leaf_contest.best),
                ]
                with m.If(self.search):
                    m.d.comb += upper_read.addr.eq(bases[-1])
                    m.d.sync += [level.eq(top), climber.eq(0)]
                    m.next = "DESCEND"
                with m.If(self.store):
                    m.next = "CLIMB"

            with m.State("CLIMB"):
                m.d.comb += climbing.eq(1)
                changed = Signal()
                m.d.comb += changed.eq(
                    Array(upper[i].as_value() for i in range(RADIX))[place] != summary.as_value()
                )
                m.d.sync += [mine.eq(summary), others.eq(contest.best), level.eq(level + 1)]
                m.next = "READY"
                with m.If(changed):
                    m.d.comb += upper_write.en.eq(1)
                    with m.If(level != top):
                        m.d.comb += upper_read.en.eq(1)
                        m.next = "CLIMB"
                with m.Switch(level):
                    for k in range(1, top + 1):
                        with m.Case(k):
                            m.d.comb += upper_write.addr.eq(upper_address(k, climber))
                            if k < top:
                                m.d.comb += upper_read.addr.eq(upper_address(k + 1, climber))

            with m.State("DESCEND"):
                path = Signal.like(climber)
                m.d.comb += path.eq(Cat(contest.index, climber))
                m.d.sync += [climber.eq(path), level.eq(level - 1)]
                with m.If(~contest.best.valid):
                    m.d.comb += self.done.eq(1)
                    m.next = "READY"
                with m.Elif(level == 1):
                    m.d.comb += [leaf_read.addr.eq(path), leaf_read.en.eq(1)]
                    m.next = "LEAF"
                with m.Else():
                    m.d.comb += upper_read.en.eq(1)
                with m.Switch(level):
                    for k in range(2, top + 1):
                        with m.Case(k):
                            m.d.comb += upper_read.addr.eq(bases[k - 2] + path)

            with m.State("LEAF"):
                m.d.comb += [
                    self.done.eq(1),
                    self.found.eq(leaf_contest.best.valid),
                    self.best.eq(leaf_contest.best.priority),
                    self.index_found.eq(Cat(leaf_contest.index, climber)),
                ]
                m.next = "READY"
        return m
