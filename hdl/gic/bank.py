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
from ..lowest import lowest
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
    arrays: list[tuple] = [(BankRegister(i), 1, 2, 0x80 * i) for i in range(1, 8)]
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


class InterruptBank(wiring.Component):
    """``rows`` times 32 interrupts from INTID ``first`` on, and a candidate for each of ``cpus``.

    All state of an interrupt lives in block memory: a word of bits per row, a word per four
    priorities, a word per route. Flip-flops are spent only on what must see every clock, two per
    wire (its level a clock ago, an edge not yet taken in), and on one candidate per CPU. One job
    at a time works on one row; area grows with the number of rows by little more than the two
    flip-flops per wire and the selection of a row's wires.

    Which job goes first: acknowledgements, then deactivations, accesses and visits in turn. A
    visit takes in the row's wires, reports what changed to the tap and offers every signalable
    interrupt to its CPU. A row is visited when a wire of it changed, when a job wrote to it, and
    when a CPU lost its candidate (then every row with something signalable).

    Latency of an idle bank, in clocks. Call an interrupt *of interest* in a visit when it is
    signalable or there is something to tell of it.

    * wire to candidate: 5, plus one for every interrupt of interest of lower number in its row
    * access taken to its answer: 2
    * acknowledgement to the next candidate: 4, plus for its own row and every other row with
      something signalable 3 and one for each interrupt of interest

    Bounds: a visit takes at most ``ROW + 3`` clocks, any other job 2. A change of a wire counts
    within ``(rows + 1) * (ROW + 7)`` clocks, an access is answered within ``2 * ROW + 12``,
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
        self._dirty = Signal(rows)  # to be visited: something changed
        self._rescan = Signal(rows)  # to be visited: a CPU lost its candidate
        self._signalable_rows = Signal(rows)  # something was signalable when last looked at
        self._visited = Signal(row_shape)

        # The job under way: chosen in PICK, carried out in EXECUTE, a visit goes on in OFFER.
        self._starting = Signal()
        self._start_row = Signal(row_shape)
        self._executing = Signal()
        self._job = Signal(Job)
        self._row = Signal(row_shape)
        self._bit = Signal(range(ROW))
        self._cpu = Signal(4)
        self._request = Signal(BankAccess)
        self._edges = Signal(ROW)
        self._lines = Signal(ROW)

        # What _compute_row says about the row.
        self._changes = Signal(ROW)  # pending state that the tap has not been told
        self._line_changes = Signal(ROW)
        self._pending = Signal(ROW)
        self._unmasked = Signal(ROW)  # signalable, were it enabled
        self._signalable = Signal(ROW)
        self._new_priorities = Signal(data.ArrayLayout(PRIORITY_BITS, 4))
        self._new_route = Signal(Route)
        self._reprioritised = Signal(4)  # interrupts of the word whose priority this job changes
        self._rerouted = Signal()

        slot = data.StructLayout({"bit": range(ROW), "row": row_shape, "priority": PRIORITY_BITS})
        self._found = Signal(cpus)
        self._best = [Signal(slot, name=f"best_{c}") for c in range(cpus)]
        self._acknowledged = Signal(cpus)  # and not yet written back
        self._leaving = Signal(cpus)
        self._leaving_clocks = Signal(8)

    def _storage(self, m):
        rows = [{"edge": (1 << self._software) - 1}] + [{}] * (self._rows - 1)
        m.submodules.rows = rows = memory.Memory(shape=Row, depth=self._rows, init=rows)
        m.submodules.priorities = priorities = memory.Memory(
            shape=data.ArrayLayout(PRIORITY_BITS, 4), depth=self._rows * ROW // 4, init=[]
        )
        self._rows_read, self._rows_write = rows.read_port(), rows.write_port()
        self._priority_read, self._priority_write = priorities.read_port(), priorities.write_port()
        m.d.comb += [
            self._rows_read.addr.eq(self._start_row),
            # The row as it was stays readable while a visit offers its interrupts.
            self._rows_read.en.eq(self._starting),
            self._rows_write.addr.eq(self._row),
            self._rows_write.en.eq(self._executing),
            self._priority_write.addr.eq(self._request.index),
            self._priority_write.data.eq(self._new_priorities),
        ]
        self._target = Signal(8)
        self._target_exists = Signal(init=1)
        if self._routed:
            m.submodules.routes = routes = memory.Memory(
                shape=Route, depth=self._rows * ROW, init=[]
            )
            self._route_read, self._route_write = routes.read_port(), routes.write_port()
            route = self._route_read.data
            m.d.comb += [
                self._target.eq(route.aff0),
                self._target_exists.eq(~(route.aff1 | route.aff2 | route.aff3).any()),
                self._route_write.addr.eq(self._request.index),
                self._route_write.data.eq(self._new_route),
            ]

    def _compute_row(self, m):
        """The row after the job and what follows from it; stays valid during a visit."""
        old, new = self._rows_read.data, Signal(Row)
        request = self._request
        lanes, written = Signal(ROW), Signal(ROW)
        one = Signal(ROW)
        fresh = Signal(ROW)
        software = Const((1 << self._software) - 1, ROW)
        m.d.comb += [
            lanes.eq(
                Cat(lane.replicate(8) for lane in request.select) & request.write.replicate(ROW)
            ),
            written.eq(request.data & lanes),
            one.eq(1 << self._bit),
            # An SGI that is in group 0 here is not raised by a group 1 request.
            fresh.eq(self._edges & old.edge & (old.group | ~software)),
            new.eq(old),
            new.latch.eq(old.latch | fresh),
            self._pending.eq(new.latch | (self._lines & ~new.edge)),
            self._unmasked.eq(self._pending & new.group & ~new.active),
            self._signalable.eq(self._unmasked & new.enable),
            self._changes.eq(self._pending ^ old.reported),
            self._line_changes.eq((self._lines ^ old.line) & ~software),
            self._rows_write.data.eq(new),
        ]
        with m.Switch(self._job):
            with m.Case(Job.VISIT):
                m.d.comb += [new.line.eq(self._lines), new.reported.eq(self._pending)]
            with m.Case(Job.ACKNOWLEDGE):
                m.d.comb += [
                    # An edge not taken in before is one more event.
                    new.latch.eq((old.latch & ~one) | fresh),
                    new.active.eq(old.active | one),
                    new.reported.eq((old.reported & ~one) | (one & self._lines & ~old.edge)),
                ]
            with m.Case(Job.DEACTIVATE):
                foreign = ~self._target_exists | (self._target != self._cpu)
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
        old, request = self._rows_read.data, self._request
        lanes = request.select & request.write.replicate(4)
        is_access = self._executing & (self._job == Job.ACCESS)
        read = Signal(32)
        for i, priority in enumerate(self._new_priorities):
            top = request.data[8 * i + 8 - PRIORITY_BITS : 8 * i + 8]
            m.d.comb += priority.eq(Mux(lanes[i], top, self._priority_read.data[i]))
        with m.Switch(request.register):
            with m.Case(BankRegister.GROUP):
                m.d.comb += read.eq(old.group)
            with m.Case(BankRegister.SET_ENABLE, BankRegister.CLEAR_ENABLE):
                m.d.comb += read.eq(old.enable)
            with m.Case(BankRegister.SET_PENDING, BankRegister.CLEAR_PENDING):
                m.d.comb += read.eq(self._pending)
            with m.Case(BankRegister.SET_ACTIVE, BankRegister.CLEAR_ACTIVE):
                m.d.comb += read.eq(old.active)
            with m.Case(BankRegister.CONFIG):
                half = Mux(request.index[0], old.edge[16:], old.edge[:16])
                m.d.comb += read.eq(Cat(Cat(Const(0, 1), bit) for bit in half))
            with m.Case(BankRegister.PRIORITY):
                pad = Const(0, 8 - PRIORITY_BITS)
                m.d.comb += [
                    read.eq(Cat(Cat(pad, self._priority_read.data[i]) for i in range(4))),
                    self._priority_write.en.eq(is_access),
                ]
                for i in range(4):
                    changed = self._new_priorities[i] != self._priority_read.data[i]
                    m.d.comb += self._reprioritised[i].eq(changed)
            if self._routed:
                with m.Case(BankRegister.ROUTE, BankRegister.ROUTE_HIGH):
                    route = self._route_read.data
                    high = request.register == BankRegister.ROUTE_HIGH
                    m.d.comb += [
                        read.eq(Mux(high, route.aff3, Cat(route.aff0, route.aff1, route.aff2))),
                        self._route_write.en.eq(is_access),
                        self._rerouted.eq(self._new_route != route),
                        self._new_route.eq(route),
                    ]
                    for name, lane, word in (
                        ("aff0", 0, 0),
                        ("aff1", 1, 0),
                        ("aff2", 2, 0),
                        ("aff3", 0, 1),
                    ):
                        with m.If(lanes[lane] & (high == word)):
                            byte = request.data[8 * lane : 8 * lane + 8]
                            m.d.comb += self._new_route[name].eq(byte)
        m.d.sync += [
            self.answer.valid.eq(is_access),
            self.answer.data.eq(Mux(request.write, 0, read)),
        ]

    def _sequence(self, m):
        attention = self._dirty | self._rescan
        visit_row = self._next_row(m, attention)
        # In turn: deactivation, access, visit.
        m.submodules.turns = turns = FairArbiter(3)
        m.d.comb += turns.requests.eq(
            Cat(self.deactivate.valid, self.access.valid, attention.any())
        )
        patience = Signal(range(2 * self._rows + 1))
        any_acknowledged = self._acknowledged.any()
        work = Signal(ROW)
        offered = Signal()
        offered_bit = Signal(range(ROW))
        work_bit = Signal(range(ROW))
        m.d.comb += work_bit.eq(lowest(work))
        deactivated_row = self.deactivate.p.index[5:]

        with m.If(self._leaving_clocks != 0):
            m.d.sync += self._leaving_clocks.eq(self._leaving_clocks - 1)
        with m.If(~self.searching.any()):
            m.d.sync += patience.eq(2 * self._rows)
        m.d.sync += offered.eq(0)

        with m.FSM():
            with m.State("PICK"):
                with m.If((~any_acknowledged & ~self._rescan.any()) | (patience == 0)):
                    m.d.sync += self.searching.eq(0)
                with m.If(self._leaving.any() & (self._leaving_clocks == 0)):
                    m.d.sync += self._rescan.eq(self._rescan | self._signalable_rows)
                    for c in range(self._cpus):
                        with m.If(self._leaving[c]):
                            self._withdraw(m, c)
                with m.Elif(any_acknowledged):
                    cpu = lowest(self._acknowledged)
                    for c, best in enumerate(self._best):
                        with m.If(cpu == c):
                            self._start(m, Job.ACKNOWLEDGE, best.row)
                            m.d.sync += [self._bit.eq(best.bit), self._acknowledged[c].eq(0)]
                with m.Elif(turns.grant[0]):
                    m.d.comb += [turns.taken.eq(1), self.deactivate.ready.eq(1)]
                    m.d.sync += [
                        self._bit.eq(self.deactivate.p.index[:5]),
                        self._cpu.eq(self.deactivate.p.cpu),
                    ]
                    with m.If(deactivated_row < self._rows):
                        self._start(m, Job.DEACTIVATE, deactivated_row)
                with m.Elif(turns.grant[1]):
                    m.d.comb += [turns.taken.eq(1), self.access.ready.eq(1)]
                    m.d.sync += self._request.eq(self.access.payload)
                    self._start(m, Job.ACCESS, self._row_of(m, self.access.payload))
                with m.Elif(turns.grant[2]):
                    m.d.comb += turns.taken.eq(1)
                    self._start(m, Job.VISIT, visit_row)
                    m.d.sync += [
                        self._visited.eq(visit_row),
                        self._dirty.bit_select(visit_row, 1).eq(0),
                        self._rescan.bit_select(visit_row, 1).eq(0),
                    ]
                    with m.If(self.searching.any() & (patience != 0)):
                        m.d.sync += patience.eq(patience - 1)
                # Read beside the row: what the job may need of the other memories.
                m.d.comb += self._priority_read.addr.eq(self.access.p.index)
                if self._routed:
                    index = Mux(turns.grant[1], self.access.p.index, self.deactivate.p.index)
                    m.d.comb += self._route_read.addr.eq(index)

            with m.State("EXECUTE"):
                m.d.comb += self._executing.eq(1)
                self._reconsider(m)
                m.d.sync += [
                    self._signalable_rows.bit_select(self._row, 1).eq(self._signalable.any()),
                    work.eq(self._signalable | self._changes | self._line_changes),
                ]
                with m.If(self._job == Job.VISIT):
                    m.next = "OFFER"
                with m.Else():
                    m.next = "PICK"
                    with m.If((self._job != Job.ACCESS) | self._request.write):
                        m.d.sync += self._dirty.bit_select(self._row, 1).eq(1)

            with m.State("OFFER"):
                m.d.comb += self._priority_read.addr.eq(Cat(work_bit[2:], self._row))
                if self._routed:
                    m.d.comb += self._route_read.addr.eq(Cat(work_bit, self._row))
                with m.If(work.any()):
                    m.d.sync += [
                        work.eq(work & (work - 1)),
                        offered.eq(self._signalable.bit_select(work_bit, 1)),
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
        m.d.comb += behind.eq(attention & ~((2 << self._visited) - 1))
        return Mux(behind.any(), lowest(behind), lowest(attention))

    def _row_of(self, m, access):
        row = Signal.like(self._row)
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
        m.d.comb += [self._starting.eq(1), self._start_row.eq(row)]
        m.d.sync += [self._job.eq(job), self._row.eq(row)]
        m.next = "EXECUTE"

    def _withdraw(self, m, c):
        m.d.sync += [self._found[c].eq(0), self._leaving[c].eq(0), self.searching[c].eq(1)]

    def _reconsider(self, m):
        """Whether a candidate survives what the job does to its row."""
        accessing = self._job == Job.ACCESS
        disabling = accessing & (self._request.register == BankRegister.CLEAR_ENABLE)
        lost = Signal(self._cpus)
        for c, best in enumerate(self._best):
            bit = best.bit
            linger = Signal(name=f"linger_{c}")
            m.d.comb += linger.eq(
                self._unmasked.bit_select(bit, 1)
                & (self._leaving[c] | (disabling & (self.withdraw_distance != 0)))
            )
            with m.If(self._found[c] & (best.row == self._row)):
                with m.If(accessing & self._reorders(bit)):
                    m.d.comb += lost[c].eq(1)
                with m.Elif(self._signalable.bit_select(bit, 1)):
                    m.d.sync += self._leaving[c].eq(0)
                with m.Elif(linger):
                    m.d.sync += self._leaving[c].eq(1)
                    with m.If(~self._leaving[c]):
                        m.d.sync += self._leaving_clocks.eq(self.withdraw_distance)
                with m.Else():
                    m.d.comb += lost[c].eq(1)
            with m.If(lost[c]):
                self._withdraw(m, c)
        with m.If(lost.any() | (self._job == Job.ACKNOWLEDGE)):
            m.d.sync += self._rescan.eq(self._rescan | self._signalable_rows | (1 << self._row))

    def _reorders(self, bit):
        """Whether the access under way changes priority or route of interrupt ``bit``."""
        index = self._request.index
        priority = self._reprioritised.bit_select(bit[:2], 1) & (index[:3] == bit[2:])
        return priority | (self._rerouted & (index[:5] == bit))

    def _report(self, m, bit):
        intid = Cat(bit, (self._row + self._first_row)[:5])
        with m.If(self._changes.bit_select(bit, 1)):
            with m.If(self._pending.bit_select(bit, 1)):
                m.d.comb += tap_event(
                    self.pending_tap, EventKind.PENDING_SET, unit=self._unit, id=intid
                )
            with m.Else():
                m.d.comb += tap_event(
                    self.pending_tap, EventKind.PENDING_CLEARED, unit=self._unit, id=intid
                )
        with m.If(self._line_changes.bit_select(bit, 1)):
            level = self._lines.bit_select(bit, 1)
            m.d.comb += tap_event(
                self.wire_tap, EventKind.WIRE, unit=self._unit, id=intid, data=level
            )

    def _offer(self, m, bit):
        priority = self._priority_read.data.as_value().word_select(bit[:2], PRIORITY_BITS)
        rank = Cat(bit, self._row, priority)
        for c, best in enumerate(self._best):
            mine = self._target_exists & (self._target == c)
            better = ~self._found[c] | (rank <= best.as_value())
            # The place of an acknowledged candidate stays as it is until it was written back.
            taken = self._acknowledged[c] | self.acknowledge[c].valid
            with m.If(mine & better & ~taken):
                m.d.sync += [best.eq(rank), self._found[c].eq(1), self._leaving[c].eq(0)]

    def _watch_wires(self, m):
        previous = Signal.like(self.wires)
        risen = Signal.like(self.wires)
        rise = Signal.like(self.wires)
        changed = Signal.like(self.wires)
        m.d.comb += [rise.eq(self.wires & ~previous), changed.eq(self.wires ^ previous)]
        m.d.sync += [previous.eq(self.wires), risen.eq(risen | rise)]
        for r in range(self._rows):
            mine = slice(ROW * r, ROW * (r + 1))
            with m.If(self._starting & (self._start_row == r)):
                m.d.sync += self._lines.eq(previous[mine])
                # Not while an acknowledgement waits to be written back: it would take a newer
                # edge of its interrupt away with the latch.
                with m.If(self._acknowledged.any()):
                    m.d.sync += self._edges.eq(0)
                with m.Else():
                    m.d.sync += [self._edges.eq(risen[mine]), risen[mine].eq(rise[mine])]
            with m.If(changed[mine].any()):
                m.d.sync += self._dirty[r].eq(1)

    def _acknowledge(self, m):
        """Comes last: an acknowledgement wins over whatever else happens to the candidate."""
        for c, best in enumerate(self._best):
            m.d.comb += [
                self.candidate[c].valid.eq(self._found[c] & ~self.searching[c]),
                self.candidate[c].intid.eq(Cat(best.bit, (best.row + self._first_row)[:5])),
                self.candidate[c].priority.eq(best.priority << (8 - PRIORITY_BITS)),
            ]
            with m.If(self.acknowledge[c].valid):
                m.d.sync += [
                    self._found[c].eq(0),
                    self._leaving[c].eq(0),
                    self._acknowledged[c].eq(1),
                    self.searching[c].eq(1),
                ]
        m.d.comb += self.withdrawing.eq(self._leaving.any())
