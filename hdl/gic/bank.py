"""The state of wired and software-made interrupts, in rows of 32, and the search for the best.

A distributor is a bank with many rows and a route per interrupt, the SGI and PPI half of a
redistributor is a bank with one row and one CPU. Both therefore obey one state machine, written
once:

* pending = latch, or for a level-sensitive interrupt: latch or line
* *signalable* = pending, not active, group 1, enabled; an active interrupt is signalled to no CPU
* an edge, SETSPI or a pending-register write sets the latch; an acknowledgement clears it and sets
  active; a deactivation clears active
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, enum, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ..bus import FairArbiter
from ..registers.gicd import GicdRegister
from ..registers.icc import PRIORITY_BITS
from ..tap import EventKind, TapSignature, tap_event
from .interfaces import AcknowledgeSignature, Candidate

ROW = 32
"""Interrupts in a row: those one 32-bit register word speaks of."""


class BankRegister(enum.Enum, shape=4):
    """The register arrays of a bank. GROUP to CLEAR_ACTIVE stand 0x80 apart in a frame."""

    GROUP = 1
    SET_ENABLE = 2
    CLEAR_ENABLE = 3
    SET_PENDING = 4
    CLEAR_PENDING = 5
    SET_ACTIVE = 6
    CLEAR_ACTIVE = 7
    PRIORITY = 8
    CONFIG = 9
    ROUTE = 10
    ROUTE_HIGH = 11


class BankAccess(data.Struct):
    """One register access. ``index`` counts the array's words from the bank's first interrupt.

    For ROUTE and ROUTE_HIGH, the low and the high word of a route, it counts interrupts.
    """

    register: BankRegister
    index: 10
    write: 1
    data: 32
    select: 4


class BankDeactivate(data.Struct):
    """Deactivation asked for by ``cpu``; ``index`` counts from the bank's first interrupt."""

    index: 10
    cpu: 4


class BankAnswer(wiring.Signature):
    """Seen from the bank: ``data`` counts in the one clock ``valid`` is high."""

    def __init__(self):
        super().__init__({"valid": Out(1), "data": Out(32)})


class Row(data.Struct):
    """32 interrupts. ``line`` and ``reported`` (pending) are what the tap was told last."""

    enable: ROW
    group: ROW
    edge: ROW
    latch: ROW
    active: ROW
    line: ROW
    reported: ROW


class Route(data.Struct):
    aff0: 8
    aff1: 8
    aff2: 8
    aff3: 8


class Job(enum.Enum, shape=2):
    """What the bank does with a row. VISIT looks for changes and for candidates."""

    VISIT = 0
    ACKNOWLEDGE = 1
    DEACTIVATE = 2
    ACCESS = 3


def decode_array(m, offset, access, *, first: int, rows: int, routed: bool):
    """Turns a frame offset into an access of a bank whose first interrupt is INTID ``first``.

    ``offset`` is a 16-bit byte offset; drives ``access.register`` and ``access.index`` and returns
    a signal that is high when the bank holds that word. ``first`` is a multiple of 32;
    ``routed``: the frame has the array of routes.
    """
    hit = Signal()
    arrays = [(BankRegister(i), 1, 2, 0x80 * i) for i in range(1, 8)]
    arrays += [
        (BankRegister.PRIORITY, 8, 2, GicdRegister.IPRIORITYR),
        (BankRegister.CONFIG, 2, 2, GicdRegister.ICFGR),
    ]
    if routed:
        arrays.append((BankRegister.ROUTE, ROW, 3, GicdRegister.IROUTER))
    for register, words_per_row, low_bit, base in arrays:
        # How far an array reaches with all 1024 INTIDs; its base is a multiple of that.
        span = (1024 // ROW * words_per_row) << low_bit
        skipped = first // ROW * words_per_row
        word = offset[low_bit : span.bit_length() - 1]
        inside = (offset >> (span.bit_length() - 1)) == base // span
        held = (word >= skipped) & (word < skipped + rows * words_per_row)
        with m.If(inside & held):
            m.d.comb += [
                hit.eq(1),
                access.register.eq(register),
                access.index.eq(word - skipped),
            ]
            if register is BankRegister.ROUTE:
                with m.If(offset[2]):
                    m.d.comb += access.register.eq(BankRegister.ROUTE_HIGH)
    return hit


def _lowest(m, bits, name):
    """Index of the lowest one of ``bits``; zero if there is none."""
    index = Signal(range(max(len(bits), 2)), name=name)
    for i in reversed(range(len(bits))):
        with m.If(bits[i]):
            m.d.comb += index.eq(i)
    return index


class InterruptBank(wiring.Component):
    """``rows`` times 32 interrupts from INTID ``first`` on, and a candidate for each of ``cpus``.

    All state of an interrupt lives in block memory: a word of bits per row, a word per four
    priorities, a word per route. Flip-flops are spent only on what must see every clock, two per
    wire (its level a clock ago, an edge not yet taken in), and on one candidate per CPU. One job
    at a time works on one row; area grows with the number of rows by little more than the two
    flip-flops per wire and the selection of a row's wires.

    Which job goes first: acknowledgements, then deactivations, accesses and visits in turn. A
    visit takes in the row's wires, reports what changed to the tap and offers every signalable
    interrupt to its CPU. A row is visited when a wire of it changed, when a job changed it, and
    when a CPU lost its candidate (then every row with something signalable).

    Latency of an idle bank, in clocks. Call an interrupt *of interest* in a visit when it is
    signalable or there is something to tell of it.

    * wire to candidate: 5, plus one for every interrupt of interest of lower number in its row
    * access taken to its answer: 2
    * acknowledgement to the next candidate: 4, plus for its own row and every other row with
      something signalable 3 and one for each interrupt of interest

    Bounds: a visit takes at most ``ROW + 3`` clocks, any other job 2. A change of a wire is taken
    in within ``(rows + 1) * (ROW + 7)`` clocks, an access is answered within ``2 * ROW + 12``,
    both plus 2 for each acknowledgement meanwhile, of which a CPU can give one per search.

    A candidate that is acknowledged is gone in the next clock, and its CPU is offered nothing
    until the acknowledgement has been written back, so no interrupt is acknowledged twice.
    ``searching`` is high while a CPU has lost its candidate and the next one is being looked for,
    so that nobody takes a lesser interrupt only because its row came first; after twice as many
    visits as there are rows what was found so far is offered anyway, so that steady traffic
    cannot hold it back for ever.

    An interrupt that is disabled while it is a CPU's candidate stays one for ``withdraw_distance``
    clocks; ``withdrawing`` is high meanwhile. Losing pending state, group, route or priority, or
    becoming active, withdraws it at once.

    Same-cycle winners: a rising edge beats the acknowledgement and the write-back it meets (it is
    kept and taken in later); an acknowledgement beats an access that would withdraw the candidate
    in that clock.

    Simplifications: an interrupt of group 0 is never signalled, because the CPU interface has no
    group 0 registers. Routes hold Aff3 to Aff0 and no "any CPU" mode. Edge and level are the only
    two configurations.

    Parameters
    ----------
    first : int
        INTID of the first interrupt, a multiple of 32.
    rows : int
    cpus : int
        CPUs an interrupt can go to. With a bank that has no routes: 1.
    routed : bool
        Whether each interrupt has a route. Without, all go to CPU 0 of ``candidate``.
    software : int
        The first so many interrupts of the bank are SGIs: always edge-triggered, raised by their
        wire and only while they are in group 1, and not reported as wires.
    unit : int
        ``unit`` of the tap records.

    Members
    -------
    wires : In(32 * rows)
        Any rising edge counts, however short. A level counts when a visit sees it.
    access : In(stream.Signature(BankAccess)), taken when its job begins
    answer : Out(BankAnswer())
    deactivate : In(stream.Signature(BankDeactivate)); a number the bank does not hold is dropped
    lose_foreign : In(1)
        Bug injection: a deactivation that does not come from the CPU the route names is lost.
    withdraw_distance : In(8)
    withdrawing : Out(1)
    candidate : array of Out(Candidate)
    acknowledge : array of In(AcknowledgeSignature())
    searching : Out(cpus)
    pending_tap, wire_tap : Out(TapSignature())
        PENDING_SET when an interrupt becomes pending, PENDING_CLEARED when it stops being so
        without an acknowledgement; WIRE. Told by visits, so some clocks late; a pulse of a wire
        that begins and ends before a visit shows as PENDING_SET only.
    """

    def __init__(
        self, *, first: int, rows: int, cpus: int, routed: bool, unit: int, software: int = 0
    ):
        self._first_row = first // ROW
        self._rows = rows
        self._cpus = cpus
        self._routed = routed
        self._unit = unit
        self._software = software
        super().__init__(
            {
                "wires": In(ROW * rows),
                "access": In(stream.Signature(BankAccess)),
                "answer": Out(BankAnswer()),
                "deactivate": In(stream.Signature(BankDeactivate)),
                "lose_foreign": In(1),
                "withdraw_distance": In(8),
                "withdrawing": Out(1),
                "candidate": Out(Candidate).array(cpus),
                "acknowledge": In(AcknowledgeSignature()).array(cpus),
                "searching": Out(cpus),
                "pending_tap": Out(TapSignature()),
                "wire_tap": Out(TapSignature()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        self._declare()
        self._storage(m)
        self._compute_row(m)
        self._compute_answer(m)
        self._sequence(m)
        self._watch_wires(m)
        self._acknowledge(m)
        return m

    def _declare(self):
        rows, cpus = self._rows, self._cpus
        row_shape = range(max(rows, 2))
        self.dirty = Signal(rows)  # to be visited: something changed
        self.rescan = Signal(rows)  # to be visited: a CPU lost its candidate
        self.signalable_rows = Signal(rows)  # something was signalable when last looked at

        self.visited = Signal(row_shape)

        # The job under way: chosen in PICK, carried out in EXECUTE, a visit goes on in OFFER.
        self.starting = Signal()
        self.start_row = Signal(row_shape)
        self.executing = Signal()
        self.job = Signal(Job)
        self.row = Signal(row_shape)
        self.bit = Signal(range(ROW))
        self.cpu = Signal(4)
        self.request = Signal(BankAccess)
        self.edges = Signal(ROW)
        self.lines = Signal(ROW)

        # What _compute_row says about the row.
        self.changes = Signal(ROW)  # pending state that the tap has not been told
        self.line_changes = Signal(ROW)
        self.pending = Signal(ROW)
        self.unmasked = Signal(ROW)  # signalable, were it enabled
        self.signalable = Signal(ROW)
        self.new_priorities = Signal(data.ArrayLayout(PRIORITY_BITS, 4))
        self.new_route = Signal(Route)
        self.reordered = Signal(ROW)  # interrupts whose priority or route this job changes

        slot = data.StructLayout({"bit": range(ROW), "row": row_shape, "priority": PRIORITY_BITS})
        self.found = Signal(cpus)
        self.best = [Signal(slot, name=f"best_{c}") for c in range(cpus)]
        self.acknowledged = Signal(cpus)  # and not yet written back
        self.leaving = Signal(cpus)
        self.leaving_clocks = Signal(8)

    def _storage(self, m):
        rows = [{"edge": (1 << self._software) - 1}] + [{}] * (self._rows - 1)
        m.submodules.rows = rows = memory.Memory(shape=Row, depth=self._rows, init=rows)
        m.submodules.priorities = priorities = memory.Memory(
            shape=data.ArrayLayout(PRIORITY_BITS, 4), depth=self._rows * ROW // 4, init=[]
        )
        self.rows_read, self.rows_write = rows.read_port(), rows.write_port()
        self.priority_read, self.priority_write = priorities.read_port(), priorities.write_port()
        m.d.comb += [
            self.rows_read.addr.eq(self.start_row),
            # The row as it was stays readable while a visit offers its interrupts.
            self.rows_read.en.eq(self.starting),
            self.rows_write.addr.eq(self.row),
            self.rows_write.en.eq(self.executing),
            self.priority_write.addr.eq(self.request.index),
            self.priority_write.data.eq(self.new_priorities),
        ]
        self.target = Signal(8)
        self.target_exists = Signal(init=1)
        if self._routed:
            m.submodules.routes = routes = memory.Memory(
                shape=Route, depth=self._rows * ROW, init=[]
            )
            self.route_read, self.route_write = routes.read_port(), routes.write_port()
            route = self.route_read.data
            m.d.comb += [
                self.target.eq(route.aff0),
                self.target_exists.eq(~(route.aff1 | route.aff2 | route.aff3).any()),
                self.route_write.addr.eq(self.request.index),
                self.route_write.data.eq(self.new_route),
            ]

    def _compute_row(self, m):
        """The row after the job and what follows from it; stays valid during a visit."""
        old, new = self.rows_read.data, Signal(Row)
        request = self.request
        lanes, written = Signal(ROW), Signal(ROW)
        one = Signal(ROW)
        fresh = Signal(ROW)
        software = Const((1 << self._software) - 1, ROW)
        m.d.comb += [
            lanes.eq(
                Cat(lane.replicate(8) for lane in request.select) & request.write.replicate(ROW)
            ),
            written.eq(request.data & lanes),
            one.eq(1 << self.bit),
            # An SGI that is in group 0 here is not raised by a group 1 request.
            fresh.eq(self.edges & old.edge & (old.group | ~software)),
            new.eq(old),
            new.latch.eq(old.latch | fresh),
            self.pending.eq(new.latch | (self.lines & ~new.edge)),
            self.unmasked.eq(self.pending & new.group & ~new.active),
            self.signalable.eq(self.unmasked & new.enable),
            self.changes.eq(self.pending ^ old.reported),
            self.line_changes.eq((self.lines ^ old.line) & ~software),
            self.rows_write.data.eq(new),
        ]
        with m.Switch(self.job):
            with m.Case(Job.VISIT):
                m.d.comb += [new.line.eq(self.lines), new.reported.eq(self.pending)]
            with m.Case(Job.ACKNOWLEDGE):
                m.d.comb += [
                    # An edge not taken in before is one more event.
                    new.latch.eq((old.latch & ~one) | fresh),
                    new.active.eq(old.active | one),
                    new.reported.eq((old.reported & ~one) | (one & self.lines & ~old.edge)),
                ]
            with m.Case(Job.DEACTIVATE):
                foreign = ~self.target_exists | (self.target != self.cpu)
                with m.If(~(self.lose_foreign & foreign)):
                    m.d.comb += new.active.eq(old.active & ~one)
            with m.Case(Job.ACCESS), m.Switch(request.register):
                with m.Case(BankRegister.GROUP):
                    m.d.comb += new.group.eq((old.group & ~lanes) | written)
                with m.Case(BankRegister.SET_ENABLE):
                    m.d.comb += new.enable.eq(old.enable | written)
                with m.Case(BankRegister.CLEAR_ENABLE):
                    m.d.comb += new.enable.eq(old.enable & ~written)
                with m.Case(BankRegister.SET_PENDING):
                    m.d.comb += new.latch.eq(old.latch | fresh | written)
                with m.Case(BankRegister.CLEAR_PENDING):
                    m.d.comb += new.latch.eq((old.latch | fresh) & ~written)
                with m.Case(BankRegister.SET_ACTIVE):
                    m.d.comb += new.active.eq(old.active | written)
                with m.Case(BankRegister.CLEAR_ACTIVE):
                    m.d.comb += new.active.eq(old.active & ~written)
                with m.Case(BankRegister.CONFIG):
                    for i in range(self._software, ROW):
                        low = 2 * (i % 16)
                        with m.If((request.index[0] == i // 16) & lanes[low]):
                            m.d.comb += new.edge[i].eq(request.data[low + 1])

    def _compute_answer(self, m):
        """What an access reads, and the words that it writes beside the row."""
        old, request = self.rows_read.data, self.request
        lanes = request.select & request.write.replicate(4)
        is_access = self.executing & (self.job == Job.ACCESS)
        read = Signal(32)
        for i, priority in enumerate(self.new_priorities):
            top = request.data[8 * i + 8 - PRIORITY_BITS : 8 * i + 8]
            m.d.comb += priority.eq(Mux(lanes[i], top, self.priority_read.data[i]))
        with m.Switch(request.register):
            with m.Case(BankRegister.GROUP):
                m.d.comb += read.eq(old.group)
            with m.Case(BankRegister.SET_ENABLE, BankRegister.CLEAR_ENABLE):
                m.d.comb += read.eq(old.enable)
            with m.Case(BankRegister.SET_PENDING, BankRegister.CLEAR_PENDING):
                m.d.comb += read.eq(self.pending)
            with m.Case(BankRegister.SET_ACTIVE, BankRegister.CLEAR_ACTIVE):
                m.d.comb += read.eq(old.active)
            with m.Case(BankRegister.CONFIG):
                half = Mux(request.index[0], old.edge[16:], old.edge[:16])
                m.d.comb += read.eq(Cat(Cat(Const(0, 1), bit) for bit in half))
            with m.Case(BankRegister.PRIORITY):
                pad = Const(0, 8 - PRIORITY_BITS)
                m.d.comb += [
                    read.eq(Cat(Cat(pad, self.priority_read.data[i]) for i in range(4))),
                    self.priority_write.en.eq(is_access),
                ]
                for i in range(4):
                    changed = self.new_priorities[i] != self.priority_read.data[i]
                    for j in range(ROW // 4):
                        mine = request.index[:3] == j
                        m.d.comb += self.reordered[4 * j + i].eq(changed & mine)
            if self._routed:
                with m.Case(BankRegister.ROUTE, BankRegister.ROUTE_HIGH):
                    route = self.route_read.data
                    high = request.register == BankRegister.ROUTE_HIGH
                    m.d.comb += [
                        read.eq(Mux(high, route.aff3, Cat(route.aff0, route.aff1, route.aff2))),
                        self.route_write.en.eq(is_access),
                        self.reordered.eq((self.new_route != route) << request.index[:5]),
                        self.new_route.eq(route),
                    ]
                    for name, lane, word in (
                        ("aff0", 0, 0),
                        ("aff1", 1, 0),
                        ("aff2", 2, 0),
                        ("aff3", 0, 1),
                    ):
                        with m.If(lanes[lane] & (high == word)):
                            byte = request.data[8 * lane : 8 * lane + 8]
                            m.d.comb += self.new_route[name].eq(byte)
        m.d.sync += [
            self.answer.valid.eq(is_access),
            self.answer.data.eq(Mux(request.write, 0, read)),
        ]

    def _sequence(self, m):
        attention = self.dirty | self.rescan
        visit_row = self._next_row(m, attention)
        # In turn: deactivation, access, visit.
        m.submodules.turns = turns = FairArbiter(3)
        m.d.comb += turns.requests.eq(
            Cat(self.deactivate.valid, self.access.valid, attention.any())
        )
        patience = Signal(range(2 * self._rows + 1))
        any_acknowledged = self.acknowledged.any()
        work = Signal(ROW)
        offered, offered_bit = Signal(), Signal(range(ROW))
        work_bit = _lowest(m, work, "work_bit")
        deactivated_row = self.deactivate.p.index[5:]

        with m.If(self.leaving_clocks != 0):
            m.d.sync += self.leaving_clocks.eq(self.leaving_clocks - 1)
        with m.If(~self.searching.any()):
            m.d.sync += patience.eq(2 * self._rows)
        m.d.sync += offered.eq(0)

        with m.FSM():
            with m.State("PICK"):
                with m.If((~any_acknowledged & ~self.rescan.any()) | (patience == 0)):
                    m.d.sync += self.searching.eq(0)
                with m.If(self.leaving.any() & (self.leaving_clocks == 0)):
                    m.d.sync += self.rescan.eq(self.rescan | self.signalable_rows)
                    for c in range(self._cpus):
                        with m.If(self.leaving[c]):
                            self._withdraw(m, c)
                with m.Elif(any_acknowledged):
                    cpu = _lowest(m, self.acknowledged, "acknowledged_cpu")
                    for c, best in enumerate(self.best):
                        with m.If(cpu == c):
                            self._start(m, Job.ACKNOWLEDGE, best.row)
                            m.d.sync += [self.bit.eq(best.bit), self.acknowledged[c].eq(0)]
                with m.Elif(turns.grant[0]):
                    m.d.comb += [turns.taken.eq(1), self.deactivate.ready.eq(1)]
                    m.d.sync += [
                        self.bit.eq(self.deactivate.p.index[:5]),
                        self.cpu.eq(self.deactivate.p.cpu),
                    ]
                    with m.If(deactivated_row < self._rows):
                        self._start(m, Job.DEACTIVATE, deactivated_row)
                with m.Elif(turns.grant[1]):
                    m.d.comb += [turns.taken.eq(1), self.access.ready.eq(1)]
                    m.d.sync += self.request.eq(self.access.payload)
                    self._start(m, Job.ACCESS, self._row_of(m, self.access.payload))
                with m.Elif(turns.grant[2]):
                    m.d.comb += turns.taken.eq(1)
                    self._start(m, Job.VISIT, visit_row)
                    m.d.sync += [
                        self.visited.eq(visit_row),
                        self.dirty.bit_select(visit_row, 1).eq(0),
                        self.rescan.bit_select(visit_row, 1).eq(0),
                    ]
                    with m.If(self.searching.any() & (patience != 0)):
                        m.d.sync += patience.eq(patience - 1)
                # Read beside the row: what the job may need of the other memories.
                m.d.comb += self.priority_read.addr.eq(self.access.p.index)
                if self._routed:
                    index = Mux(turns.grant[1], self.access.p.index, self.deactivate.p.index)
                    m.d.comb += self.route_read.addr.eq(index)

            with m.State("EXECUTE"):
                m.d.comb += self.executing.eq(1)
                self._reconsider(m)
                m.d.sync += [
                    self.signalable_rows.bit_select(self.row, 1).eq(self.signalable.any()),
                    work.eq(self.signalable | self.changes | self.line_changes),
                ]
                with m.If(self.job == Job.VISIT):
                    m.next = "OFFER"
                with m.Else():
                    m.d.sync += self.dirty.bit_select(self.row, 1).eq(1)
                    m.next = "PICK"

            with m.State("OFFER"):
                m.d.comb += self.priority_read.addr.eq(Cat(work_bit[2:], self.row))
                if self._routed:
                    m.d.comb += self.route_read.addr.eq(Cat(work_bit, self.row))
                with m.If(work.any()):
                    m.d.sync += [
                        work.eq(work & (work - 1)),
                        offered.eq(self.signalable.bit_select(work_bit, 1)),
                        offered_bit.eq(work_bit),
                    ]
                    self._report(m, work_bit)
                with m.If(offered):
                    self._offer(m, offered_bit)
                with m.If(~work.any()):
                    m.next = "PICK"

    def _next_row(self, m, attention):
        """The row to be visited next: round and round, so that each has its turn."""
        if self._rows == 1:
            return Const(0, 1)
        behind = Signal(self._rows)
        m.d.comb += behind.eq(attention & ~((2 << self.visited) - 1))
        first = _lowest(m, attention, "first_row")
        return Mux(behind.any(), _lowest(m, behind, "first_row_behind"), first)

    def _row_of(self, m, access):
        row = Signal.like(self.row)
        m.d.comb += row.eq(access.index)
        with m.Switch(access.register):
            with m.Case(BankRegister.PRIORITY):
                m.d.comb += row.eq(access.index[3:])
            with m.Case(BankRegister.CONFIG):
                m.d.comb += row.eq(access.index[1:])
            with m.Case(BankRegister.ROUTE, BankRegister.ROUTE_HIGH):
                m.d.comb += row.eq(access.index[5:])
        return row

    def _start(self, m, job, row):
        m.d.comb += [self.starting.eq(1), self.start_row.eq(row)]
        m.d.sync += [self.job.eq(job), self.row.eq(row)]
        m.next = "EXECUTE"

    def _withdraw(self, m, c):
        m.d.sync += [self.found[c].eq(0), self.leaving[c].eq(0), self.searching[c].eq(1)]

    def _reconsider(self, m):
        """Whether a candidate survives what the job does to its row."""
        accessing = self.job == Job.ACCESS
        disabling = accessing & (self.request.register == BankRegister.CLEAR_ENABLE)
        lost = Signal(self._cpus)
        for c, best in enumerate(self.best):
            bit = best.bit
            linger = Signal(name=f"linger_{c}")
            m.d.comb += linger.eq(
                self.unmasked.bit_select(bit, 1)
                & (self.leaving[c] | (disabling & (self.withdraw_distance != 0)))
            )
            with m.If(self.found[c] & (best.row == self.row)):
                with m.If(accessing & self.reordered.bit_select(bit, 1)):
                    m.d.comb += lost[c].eq(1)
                with m.Elif(self.signalable.bit_select(bit, 1)):
                    m.d.sync += self.leaving[c].eq(0)
                with m.Elif(linger):
                    m.d.sync += self.leaving[c].eq(1)
                    with m.If(~self.leaving[c]):
                        m.d.sync += self.leaving_clocks.eq(self.withdraw_distance)
                with m.Else():
                    m.d.comb += lost[c].eq(1)
            with m.If(lost[c]):
                self._withdraw(m, c)
        with m.If(lost.any() | (self.job == Job.ACKNOWLEDGE)):
            m.d.sync += self.rescan.eq(self.rescan | self.signalable_rows | (1 << self.row))

    def _report(self, m, bit):
        intid = Cat(bit, (self.row + self._first_row)[:5])
        with m.If(self.changes.bit_select(bit, 1)):
            with m.If(self.pending.bit_select(bit, 1)):
                m.d.comb += tap_event(
                    self.pending_tap, EventKind.PENDING_SET, unit=self._unit, id=intid
                )
            with m.Else():
                m.d.comb += tap_event(
                    self.pending_tap, EventKind.PENDING_CLEARED, unit=self._unit, id=intid
                )
        with m.If(self.line_changes.bit_select(bit, 1)):
            level = self.lines.bit_select(bit, 1)
            m.d.comb += tap_event(
                self.wire_tap, EventKind.WIRE, unit=self._unit, id=intid, data=level
            )

    def _offer(self, m, bit):
        priority = self.priority_read.data.as_value().word_select(bit[:2], PRIORITY_BITS)
        rank = Cat(bit, self.row, priority)
        for c, best in enumerate(self.best):
            mine = self.target_exists & (self.target == c)
            better = ~self.found[c] | (rank <= best.as_value())
            # The place of an acknowledged candidate stays as it is until it was written back.
            taken = self.acknowledged[c] | self.acknowledge[c].valid
            with m.If(mine & better & ~taken):
                m.d.sync += [best.eq(rank), self.found[c].eq(1), self.leaving[c].eq(0)]

    def _watch_wires(self, m):
        previous, risen = Signal.like(self.wires), Signal.like(self.wires)
        rise, changed = Signal.like(self.wires), Signal.like(self.wires)
        m.d.comb += [rise.eq(self.wires & ~previous), changed.eq(self.wires ^ previous)]
        m.d.sync += [previous.eq(self.wires), risen.eq(risen | rise)]
        for r in range(self._rows):
            mine = slice(ROW * r, ROW * (r + 1))
            with m.If(self.starting & (self.start_row == r)):
                m.d.sync += [
                    self.edges.eq(risen[mine]),
                    self.lines.eq(previous[mine]),
                    risen[mine].eq(rise[mine]),
                ]
            with m.If(changed[mine].any()):
                m.d.sync += self.dirty[r].eq(1)

    def _acknowledge(self, m):
        """Comes last: an acknowledgement wins over whatever else happens to the candidate."""
        for c, best in enumerate(self.best):
            m.d.comb += [
                self.candidate[c].valid.eq(self.found[c] & ~self.searching[c]),
                self.candidate[c].intid.eq(Cat(best.bit, (best.row + self._first_row)[:5])),
                self.candidate[c].priority.eq(best.priority << (8 - PRIORITY_BITS)),
            ]
            with m.If(self.acknowledge[c].valid):
                m.d.sync += [
                    self.found[c].eq(0),
                    self.leaving[c].eq(0),
                    self.acknowledged[c].eq(1),
                    self.searching[c].eq(1),
                ]
        m.d.comb += self.withdrawing.eq(self.leaving.any())
