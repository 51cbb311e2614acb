"""The LPIs of one CPU: which are pending, what the property table says of them, which is best."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import enum, stream, wiring
from amaranth.lib.wiring import In, Out

from ..bus import ADDRESS_BITS, BusSignature, Region, RequesterKind
from ..tap import EventKind, TapSignature, tap_event
from .interfaces import (
    FIRST_LPI,
    PRIORITY_BITS,
    AcknowledgeSignature,
    Candidate,
    LpiCommand,
    LpiLink,
    LpiOperation,
)
from .lpi_tree import RADIX, Leaf, PriorityTree

MIN_LPIS = 32
MAX_LPIS = (1 << 16) - FIRST_LPI


class Job(enum.Enum, shape=3):
    """What is being done to one leaf."""

    SET = 0
    CLEAR = 1
    MOVE = 2
    REFRESH = 3  #: read the property again
    ACKNOWLEDGE = 4


class Origin(enum.Enum, shape=2):
    """Who must hear that the job is done."""

    NOBODY = 0
    ARRIVAL = 1


class _State:
    """The registers of an engine with ``numbers`` LPIs and a pending table of ``words`` words."""

    def __init__(self, numbers: int, words: int):
        self.open = Signal()  # lpi_enable has been high ever since these were sampled:
        self.property_base = Signal(ADDRESS_BITS)
        self.pending_base = Signal(ADDRESS_BITS)
        self.id_bits = Signal(5)

        # The candidate is the best of the tree, unless ``stale``: then none is shown.
        self.shown = Signal()
        self.shown_lpi = Signal(range(numbers))
        self.shown_priority = Signal(PRIORITY_BITS)
        self.stale = Signal()

        self.acked_now = Signal()
        self.owes_ack = Signal()
        self.acked_lpi = Signal(range(numbers))

        # The uncollated second pend of an LPI that is pending already.
        self.repeat = Signal()
        self.repeat_lpi = Signal(range(numbers))

        self.job = Signal(Job)
        self.job_lpi = Signal(range(numbers))
        self.job_target = Signal(8)
        self.job_origin = Signal(Origin)
        self.fetched = Signal()
        self.fetch_failed = Signal()
        self.property_byte = Signal(8)

        # A walk over all leaves: MOVE_ALL or INVALIDATE_ALL. Each leaf is visited once.
        self.scanning = Signal()
        self.scan_moves = Signal()
        self.scan_target = Signal(8)
        self.scan_at = Signal(range(numbers + 1))

        # The pending table: ``bits`` of it from LPI number ``bits_lpi`` on; ``word`` comes next.
        self.loading = Signal()
        self.word = Signal(range(words + 1))
        self.bits = Signal(32)
        self.bits_lpi = Signal(range(words * 32 + 1))

        self.moving = Signal()
        self.moved = Signal(LpiCommand)


def check_lpis(lpis: int) -> int:
    """``lpis`` itself if it is a possible number of LPIs."""
    if not isinstance(lpis, int) or isinstance(lpis, bool):
        raise TypeError(f"Number of LPIs must be an integer, not {lpis!r}")
    if lpis not in range(MIN_LPIS, MAX_LPIS + 1):
        raise ValueError(f"Number of LPIs must be between {MIN_LPIS} and {MAX_LPIS}, not {lpis}")
    return lpis


class LpiEngine(wiring.Component):
    """Keeps the LPIs of one redistributor (GICv3, LPIs: pending or not, never active).

    An LPI is *set* by a command, *candidate* while it is the best that is pending and enabled,
    and gone once acknowledged. What makes LPIs different from other interrupts is that their
    configuration is a byte in RAM which this block reads when it needs it and then remembers:
    software that changes the byte must say so (INVALIDATE), and until then either value may count.

    Life of an engine
    -----------------
    1. Off: commands are taken and have no effect; an LPI cannot become pending (counted in
       ``dropped``, PENDING_DROPPED on the tap). SYNC is answered.
    2. ``lpi_enable`` rises: table addresses and id bits are sampled, all state is wiped; unless
       ``lpi_pending_zero``, the pending table is read and its LPIs set. Commands wait meanwhile.
    3. On.
    4. ``lpi_enable`` falls: the candidate is hidden at once, nothing new becomes pending, pending
       bits are written back to the pending table, then the engine is off. ``settling`` is high
       from 2 and from 4 until on and off respectively: software must see it low before it
       reuses the tables. A change of mind meanwhile is noticed afterwards.

    Rules
    -----
    * The property is read from the table on the first SET, on every INVALIDATE, and on
      INVALIDATE_ALL for every pending LPI; INVALIDATE_ALL drops the copies of the others. A bus
      error reads as "disabled", and the next SET tries again.
    * An LPI that a MOVE or CLEAR leaves not pending is forgotten: from now on invalidations may
      go to another engine, and a copy kept here would count again when the LPI comes back.
    * A disabled LPI stays pending.
    * Same clock: an acknowledge counts before the command that is changing the same LPI: an LPI
      that was acknowledged is not moved, and a SET makes it pending again: no event is lost.
    * After an acknowledge no candidate is shown until the next best is known.
    * Equal priority: the lowest INTID first.
    * An INTID below 8192, not below 8192 + ``lpis`` or not below 2 ** (``lpi_id_bits`` + 1) is
      dropped like one that comes while the engine is off.
    * With ``duplicate`` a SET of an LPI that is already pending is remembered and makes it
      pending once more after the acknowledge (as GIC-600 may). One such repeat is held per
      engine; further ones merge. A CLEAR or MOVE takes the repeat with it.
    * MOVE to a CPU whose ``cpu_enabled`` bit is low: with ``keep_if_disabled`` nothing happens,
      otherwise the LPI leaves and is dropped on arrival. MOVE to this CPU itself or to one that
      does not exist does nothing.

    No deadlock between engines: a hand-over waits in ``handover`` and blocks only the commands
    of the two links. An ``arrival`` is carried out while it waits, and needs only this engine's
    memory and one bus access, so no circle of engines can wait for each other.

    Bounds, with L = levels of the tree (2 for up to 64 LPIs, 3 to 512, 4 to 4,096, 5 to 32,768,
    6 above) and B = clocks of one bus access, in clocks:

    ===========================================  ===============================================
    SET taken -> candidate                       2 when idle and property known; otherwise B + 3
    SETs in a row, properties known              one every 2 to L + 1
    acknowledge -> next candidate                2 L + 3, plus the job under way
    INVALIDATE, first SET                        B + L + 4
    INVALIDATE_ALL                               lpis / 4, and 2 B + 2 L + 8 for each pending LPI
    MOVE_ALL                                     lpis / 4, and a hand-over for each pending LPI
    ``lpi_enable`` rises                         lpis / 8; without ``lpi_pending_zero`` (B + 8) *
                                                 lpis / 32 more, and B + L + 12 for each pending
    ``lpi_enable`` falls                         the job under way, then (B + 9) * lpis / 32
    ===========================================  ===============================================

    An acknowledge, the search it causes and arrivals go before commands, so scans are not in
    their way: each is begun after the job under way and, in a scan, after at most one LPI more.

    Size: about nine bits of block memory per LPI (11 for 32 of them). Registers 251, 293, 339
    and simple gates in proportion 100, 114, 129 for 32, 1,024 and 57,344 LPIs (Yosys, before
    technology mapping, two CPUs).

    Simplifications
    ---------------
    * The pending table is read and written only when LPIs are switched on and off: that is all
      that software may rely on. Its first 1 KiB is never touched.
    * INVALIDATE_ALL covers every LPI, not only those of one collection: an engine does not know
      collections, and reading again is always allowed.
    * One bus access at a time, and commands wait for it: SET of an unknown LPI delays those
      behind it by B.

    Parameters
    ----------
    index : int
        CPU number: ``unit`` on the tap and requester id on the bus (kind CONTROLLER).
    lpis : int
        32 to 57,344, from INTID 8192.
    cpus : int
        CPUs in the system, 1 to 256.
    forbidden : tuple of Region
        Where tables cannot be: accesses there are not made and count as bus errors. Name the
        frames of the interrupt controller, or a table placed in the ITS's frame by mistake could
        make it wait for itself.

    Members
    -------
    lpi_enable, lpi_property_base, lpi_id_bits (bits less one), lpi_pending_base,
    lpi_pending_zero : In
        From GICR_CTLR, PROPBASER, PENDBASER. Addresses are byte addresses of the tables.
    candidate : Out(Candidate), acknowledge : In(AcknowledgeSignature())
        An acknowledge of anything but the candidate shown is ignored.
    searching : Out(1)
        The next candidate is being looked for: whoever acknowledges may want to wait for it.
    its, direct : In(LpiLink())
        Commands from the ITS and from the redistributor's own registers; taken in turns.
    handover : Out(stream of LpiCommand), arrival : In(stream of LpiCommand)
        To and from :class:`hdl.gic.lpi_links.HandoverNetwork`. ``arrival`` is always a SET; its
        ``ready`` comes when it has been carried out.
    busy : Out(1)
        Something was accepted whose effect is not complete.
    settling : Out(1)
        Being switched on or off.
    dropped : Out(16)
        LPIs that should have become pending and could not, since reset; wraps.
    duplicate, keep_if_disabled : In(1), cpu_enabled : In(cpus)
        See the rules above; may change at any time.
    bus : Out(BusSignature()), tap : Out(TapSignature())
        PENDING_SET, PENDING_CLEARED, PENDING_MOVED (which implies that it is no longer pending
        here), PENDING_DROPPED.
    """

    def __init__(self, index: int, *, lpis: int, cpus: int, forbidden: "tuple[Region, ...]" = ()):
        check_lpis(lpis)
        if cpus not in range(1, 257):
            raise ValueError(f"Number of CPUs must be between 1 and 256, not {cpus!r}")
        if index not in range(cpus):
            raise ValueError(f"CPU number must be between 0 and {cpus - 1}, not {index!r}")
        self._index = index
        self._lpis = lpis
        self._cpus = cpus
        self._forbidden = tuple(forbidden)
        super().__init__(
            {
                "lpi_enable": In(1),
                "lpi_property_base": In(ADDRESS_BITS),
                "lpi_id_bits": In(5),
                "lpi_pending_base": In(ADDRESS_BITS),
                "lpi_pending_zero": In(1),
                "candidate": Out(Candidate),
                "searching": Out(1),
                "acknowledge": In(AcknowledgeSignature()),
                "its": In(LpiLink()),
                "direct": In(LpiLink()),
                "handover": Out(stream.Signature(LpiCommand)),
                "arrival": In(stream.Signature(LpiCommand)),
                "busy": Out(1),
                "settling": Out(1),
                "dropped": Out(16),
                "duplicate": In(1),
                "keep_if_disabled": In(1),
                "cpu_enabled": In(cpus),
                "bus": Out(BusSignature()),
                "tap": Out(TapSignature()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.tree = tree = PriorityTree(self._lpis)
        rows = tree.rows
        words = -(-self._lpis // 32)
        last_lanes = (1 << (self._lpis - 32 * (words - 1) + 7) // 8) - 1  # of the last word
        s = _State(rows * RADIX, words)
        live = Signal()
        m.d.comb += live.eq(s.open & self.lpi_enable)
        with m.If(~self.lpi_enable):
            m.d.sync += s.open.eq(0)

        m.d.comb += [
            self.candidate.valid.eq(s.shown & live),
            self.searching.eq(s.stale & live),
            self.candidate.intid.eq(FIRST_LPI + s.shown_lpi),
            self.candidate.priority.eq(Cat(Const(0, 8 - PRIORITY_BITS), s.shown_priority)),
            s.acked_now.eq(
                self.acknowledge.valid
                & self.candidate.valid
                & (self.acknowledge.intid == self.candidate.intid)
            ),
        ]
        # An acknowledge is taken at once and written to the tree as soon as the tree is free.
        with m.If(s.acked_now):
            m.d.sync += [
                s.shown.eq(0),
                s.stale.eq(1),
                s.owes_ack.eq(1),
                s.acked_lpi.eq(s.shown_lpi),
            ]

        m.d.comb += [self.handover.valid.eq(s.moving), self.handover.payload.eq(s.moved)]
        with m.If(s.moving & self.handover.ready):
            m.d.sync += s.moving.eq(0)

        # The links take turns when both have something to say.
        use_direct = Signal()
        direct_was_last = Signal()
        m.d.comb += use_direct.eq(
            self.direct.command.valid & ~(self.its.command.valid & direct_was_last)
        )
        command = Signal(LpiCommand)
        command_valid = Signal()
        command_ready = Signal()
        synced = Signal()
        m.d.comb += [
            command.eq(Mux(use_direct, self.direct.command.payload, self.its.command.payload)),
            command_valid.eq(self.direct.command.valid | self.its.command.valid),
            self.its.command.ready.eq(command_ready & ~use_direct),
            self.direct.command.ready.eq(command_ready & use_direct),
            self.its.synced.eq(synced & ~use_direct),
            self.direct.synced.eq(synced & use_direct),
        ]
        with m.If(command_valid & command_ready):
            m.d.sync += direct_was_last.eq(use_direct)

        def named(intid):
            """Whether ``intid`` is below 2 ** (id_bits + 1); without 14 bits there are no LPIs."""
            return Mux(
                s.id_bits >= 15,
                1,
                Mux(s.id_bits == 14, ~intid[15], (s.id_bits == 13) & (intid[14:] == 0)),
            )

        def exists(intid):
            """Whether ``intid`` is an LPI of this engine."""
            return (intid >= FIRST_LPI) & (intid < FIRST_LPI + self._lpis) & named(intid)

        command_exists = Signal()
        m.d.comb += command_exists.eq(
            Mux(use_direct, exists(self.direct.command.p.intid), exists(self.its.command.p.intid))
        )
        bits_intid = Signal(17)
        word_intid = Signal(17)
        m.d.comb += [
            bits_intid.eq(FIRST_LPI + s.bits_lpi),
            word_intid.eq(FIRST_LPI + (s.word << 5)),
        ]

        def lpi_of(intid):
            return Cat(intid[:13], (intid[13:] - 1)[:3])

        def drop(intid):
            m.d.sync += self.dropped.eq(self.dropped + 1)
            m.d.comb += tap_event(self.tap, EventKind.PENDING_DROPPED, unit=self._index, id=intid)

        def begin(kind, lpi, *, target=0, origin=Origin.NOBODY):
            """Put the row of ``lpi`` on the tree's output and go to work on it."""
            m.d.comb += [tree.row.eq(lpi >> 3), tree.fetch.eq(1)]
            m.d.sync += [
                s.job.eq(kind),
                s.job_lpi.eq(lpi),
                s.job_target.eq(target),
                s.job_origin.eq(origin),
                s.fetched.eq(0),
            ]
            m.next = "LEAF"

        def reachable(target):
            return (target != self._index) & (target < self._cpus)

        quiet = Signal()
        m.d.comb += self.busy.eq(~quiet | s.moving)

        # One access at a time: a property byte, or a word of the pending table. Its address is
        # ready a clock before it is needed: LPI or word are chosen in the state before.
        for_property = Signal()
        address = Signal(ADDRESS_BITS + 1)
        pending_word = Signal()
        fetch_address = Signal(ADDRESS_BITS)
        refused = Signal()
        m.d.comb += [
            address.eq(
                Mux(
                    for_property,
                    s.property_base + s.job_lpi,
                    s.pending_base + FIRST_LPI // 8 + (s.word << 2),
                )
            ),
            self.bus.request.p.address.eq(Cat(Const(0, 2), fetch_address[2:])),
            self.bus.request.p.data.eq(s.bits),
            self.bus.request.p.select.eq(
                Mux(pending_word & (s.word == words - 1), last_lanes, 0b1111)
            ),
            self.bus.request.p.requester.id.eq(self._index),
            self.bus.request.p.requester.kind.eq(RequesterKind.CONTROLLER),
        ]
        m.d.sync += [
            pending_word.eq(~for_property),
            fetch_address.eq(address),
            # The pending table ends where INTIDs do: beyond it is somebody else's memory.
            refused.eq(
                (~for_property & ~named(word_intid))
                | address[ADDRESS_BITS]
                | Cat(region.covers(address[:ADDRESS_BITS]) for region in self._forbidden).any()
            ),
        ]

        with m.FSM() as fsm:
            with m.State("OFF"):
                m.d.comb += [
                    quiet.eq(~self.lpi_enable & ~command_valid & ~self.arrival.valid),
                    self.settling.eq(self.lpi_enable),
                ]
                m.d.sync += s.scan_at.eq(0)
                with m.If(self.lpi_enable):
                    m.d.sync += [
                        s.property_base.eq(self.lpi_property_base),
                        s.pending_base.eq(self.lpi_pending_base),
                        s.id_bits.eq(self.lpi_id_bits),
                        s.loading.eq(~self.lpi_pending_zero),
                        s.open.eq(1),
                    ]
                    m.next = "WIPE"
                with m.Elif(self.arrival.valid):
                    m.d.comb += self.arrival.ready.eq(1)
                    drop(self.arrival.p.intid)
                with m.Elif(command_valid):
                    with m.If(command.operation == LpiOperation.SYNC):
                        m.d.comb += [command_ready.eq(~s.moving), synced.eq(~s.moving)]
                    with m.Else():
                        m.d.comb += command_ready.eq(1)
                        with m.If(command.operation == LpiOperation.SET):
                            drop(command.intid)

            with m.State("WIPE"):
                m.d.comb += [
                    self.settling.eq(1),
                    tree.row.eq(s.scan_at),
                    tree.wipe.eq(1),
                ]
                m.d.sync += s.scan_at.eq(s.scan_at + 1)
                with m.If(s.scan_at == rows - 1):
                    m.d.sync += [s.word.eq(0), s.bits.eq(0)]
                    m.next = "READY"

            with m.State("READY"):
                m.d.comb += self.settling.eq(s.loading | ~live)
                with m.If(s.owes_ack):
                    begin(Job.ACKNOWLEDGE, s.acked_lpi)
                with m.Elif(s.stale):
                    m.d.comb += tree.search.eq(tree.ready)
                    with m.If(tree.ready):
                        m.next = "SEARCH"
                with m.Elif(self.arrival.valid):
                    with m.If(live & exists(self.arrival.p.intid)):
                        begin(Job.SET, lpi_of(self.arrival.p.intid), origin=Origin.ARRIVAL)
                    with m.Else():
                        m.d.comb += self.arrival.ready.eq(1)
                        drop(self.arrival.p.intid)
                with m.Elif(s.loading):
                    with m.If(~s.bits.any()):
                        with m.If(s.word == words):
                            m.d.sync += s.loading.eq(0)
                        with m.Else():
                            m.next = "LOAD"
                    with m.Elif(s.bits[0]):
                        m.d.sync += [s.bits.eq(s.bits >> 1), s.bits_lpi.eq(s.bits_lpi + 1)]
                        with m.If(exists(bits_intid)):
                            begin(Job.SET, s.bits_lpi)
                    with m.Elif(s.bits[:8] == 0):
                        m.d.sync += [s.bits.eq(s.bits >> 8), s.bits_lpi.eq(s.bits_lpi + 8)]
                    with m.Else():
                        m.d.sync += [s.bits.eq(s.bits >> 1), s.bits_lpi.eq(s.bits_lpi + 1)]
                with m.Elif(s.scanning):
                    with m.If(s.scan_at >= rows * RADIX):
                        m.d.sync += s.scanning.eq(0)
                    with m.Elif(~(s.scan_moves & s.moving)):
                        m.d.comb += [tree.row.eq(s.scan_at >> 3), tree.fetch.eq(1)]
                        m.next = "SCAN"
                with m.Elif(~live), m.If(tree.ready):
                    m.d.sync += [s.word.eq(0), s.scan_at.eq(0), s.shown.eq(0), s.repeat.eq(0)]
                    m.next = "SAVE"
                with m.Elif(command_valid), m.Switch(command.operation):
                    with m.Case(LpiOperation.SET):
                        m.d.comb += command_ready.eq(1)
                        with m.If(command_exists):
                            begin(Job.SET, lpi_of(command.intid))
                        with m.Else():
                            drop(command.intid)
                    with m.Case(LpiOperation.CLEAR):
                        m.d.comb += command_ready.eq(1)
                        with m.If(command_exists):
                            begin(Job.CLEAR, lpi_of(command.intid))
                    with m.Case(LpiOperation.INVALIDATE):
                        m.d.comb += command_ready.eq(1)
                        with m.If(command_exists):
                            begin(Job.REFRESH, lpi_of(command.intid))
                    with m.Case(LpiOperation.MOVE):
                        m.d.comb += command_ready.eq(~s.moving)
                        with m.If(~s.moving & command_exists & reachable(command.target)):
                            begin(Job.MOVE, lpi_of(command.intid), target=command.target)
                    with m.Case(LpiOperation.INVALIDATE_ALL, LpiOperation.MOVE_ALL):
                        moves = command.operation == LpiOperation.MOVE_ALL
                        m.d.comb += command_ready.eq(1)
                        m.d.sync += [
                            s.scanning.eq(~moves | reachable(command.target)),
                            s.scan_moves.eq(moves),
                            s.scan_target.eq(command.target),
                            s.scan_at.eq(0),
                        ]
                    with m.Case(LpiOperation.SYNC):
                        m.d.comb += [command_ready.eq(~s.moving), synced.eq(~s.moving)]
                    with m.Default():
                        m.d.comb += command_ready.eq(1)
                with m.Else():
                    m.d.comb += quiet.eq(tree.ready)

            with m.State("LEAF"):
                self._leaf(m, tree, s)

            with m.State("FETCH"):
                m.d.comb += self.bus.request.valid.eq(~refused)
                m.d.sync += [s.fetched.eq(1), s.fetch_failed.eq(1)]
                with m.If(refused):
                    m.next = "LEAF"
                with m.Elif(self.bus.request.ready):
                    m.next = "FETCH_WAIT"

            with m.State("FETCH_WAIT"):
                m.d.comb += self.bus.response.ready.eq(1)
                lane = fetch_address[:2]
                with m.If(self.bus.response.valid):
                    m.d.sync += [
                        s.property_byte.eq(self.bus.response.p.data.word_select(lane, 8)),
                        s.fetch_failed.eq(self.bus.response.p.error),
                    ]
                    m.next = "LEAF"

            with m.State("SEARCH"), m.If(tree.done):
                m.d.sync += [
                    s.stale.eq(0),
                    s.shown.eq(tree.found),
                    s.shown_lpi.eq(tree.index_found),
                    s.shown_priority.eq(tree.best),
                ]
                m.next = "READY"

            with m.State("SCAN"):
                first = Signal(RADIX)  # pending LPIs of the row from s.scan_at on
                m.d.comb += [
                    first.eq(
                        Cat(tree.leaves[i].pending & (s.scan_at[:3] <= i) for i in range(RADIX))
                    ),
                    tree.row.eq(s.scan_at >> 3),
                    tree.forget.eq(~s.scan_moves & (s.scan_at[:3] == 0)),
                ]
                with m.If(first.any()):
                    for i in reversed(range(RADIX)):
                        with m.If(first[i]):
                            m.d.sync += [
                                s.job_lpi.eq(Cat(Const(i, 3), s.scan_at[3:])),
                                s.scan_at.eq(Cat(Const(i, 3), s.scan_at[3:]) + 1),
                            ]
                    m.d.sync += [
                        s.job.eq(Mux(s.scan_moves, Job.MOVE, Job.REFRESH)),
                        s.job_target.eq(s.scan_target),
                        s.job_origin.eq(Origin.NOBODY),
                        s.fetched.eq(0),
                    ]
                    m.next = "LEAF"
                with m.Else():
                    m.d.sync += s.scan_at.eq(((s.scan_at >> 3) + 1) << 3)
                    m.next = "READY"

            with m.State("LOAD"):
                m.d.comb += [
                    self.settling.eq(1),
                    self.bus.request.valid.eq(~refused),
                ]
                with m.If(refused):
                    m.d.sync += s.word.eq(s.word + 1)
                    m.next = "READY"
                with m.Elif(self.bus.request.ready):
                    m.next = "LOAD_WAIT"

            with m.State("LOAD_WAIT"):
                m.d.comb += [self.settling.eq(1), self.bus.response.ready.eq(1)]
                with m.If(self.bus.response.valid):
                    m.d.sync += [
                        s.bits.eq(Mux(self.bus.response.p.error, 0, self.bus.response.p.data)),
                        s.bits_lpi.eq(s.word << 5),
                        s.word.eq(s.word + 1),
                    ]
                    m.next = "READY"

            with m.State("SAVE"):
                m.d.comb += [
                    self.settling.eq(1),
                    tree.row.eq(s.scan_at),
                    tree.fetch.eq(1),
                ]
                m.next = "COLLECT"

            with m.State("COLLECT"):
                m.d.comb += self.settling.eq(1)
                row_bits = Cat(leaf.pending for leaf in (tree.leaves[i] for i in range(RADIX)))
                m.d.sync += [
                    s.bits.eq(Cat(s.bits[8:], Mux(s.scan_at < rows, row_bits, 0))),
                    s.scan_at.eq(s.scan_at + 1),
                ]
                with m.If(s.scan_at[:2] == 3):
                    m.next = "STORE"
                with m.Else():
                    m.next = "SAVE"

            with m.State("STORE"):
                m.d.comb += [
                    self.settling.eq(1),
                    self.bus.request.valid.eq(~refused),
                    self.bus.request.p.write.eq(1),
                ]
                with m.If(refused):
                    m.next = "STORED"
                with m.Elif(self.bus.request.ready):
                    m.next = "STORE_WAIT"

            with m.State("STORE_WAIT"):
                m.d.comb += [self.settling.eq(1), self.bus.response.ready.eq(1)]
                with m.If(self.bus.response.valid):
                    m.next = "STORED"

            with m.State("STORED"):
                m.d.comb += self.settling.eq(1)
                m.d.sync += s.word.eq(s.word + 1)
                m.next = "SAVE"
                with m.If(s.word == words - 1):
                    m.next = "OFF"

        working = Cat(fsm.ongoing(state) for state in ("LEAF", "FETCH", "FETCH_WAIT"))
        m.d.comb += for_property.eq(working.any())
        for state in ("LEAF", "FETCH", "FETCH_WAIT", "SEARCH", "SCAN"):
            with m.If(fsm.ongoing(state)):
                m.d.comb += self.settling.eq(s.loading | ~live)
        return m

    def _leaf(self, m, tree, s):
        """The state in which the row of the job's LPI is on the tree's output: give it its leaf."""
        was = Signal(Leaf)
        new = Signal(Leaf)
        acked = Signal()
        repeats = Signal()
        pending = Signal()
        intid = FIRST_LPI + s.job_lpi
        m.d.comb += [
            was.eq(tree.leaves[s.job_lpi[:3]]),
            acked.eq(s.owes_ack & (s.acked_lpi == s.job_lpi)),
            repeats.eq(s.repeat & (s.repeat_lpi == s.job_lpi)),
            pending.eq(Mux(acked, repeats, was.pending)),
            new.eq(was),
            tree.index.eq(s.job_lpi),
            tree.leaf.eq(new),
        ]
        with m.If(s.fetched):
            m.d.comb += [
                new.known.eq(~s.fetch_failed),
                new.enable.eq(s.property_byte[0] & ~s.fetch_failed),
                new.priority.eq(s.property_byte[8 - PRIORITY_BITS :]),
            ]
        departs = Signal()  # moves away, if it is pending
        leaves = Signal()
        m.d.comb += [
            departs.eq(
                (s.job == Job.MOVE)
                & ~(self.keep_if_disabled & ~self.cpu_enabled.bit_select(s.job_target, 1))
            ),
            leaves.eq(departs & pending),
        ]
        with m.Switch(s.job):
            with m.Case(Job.SET):
                m.d.comb += new.pending.eq(1)
            with m.Case(Job.CLEAR):
                m.d.comb += [new.pending.eq(0), new.known.eq(0)]
            with m.Case(Job.MOVE):
                m.d.comb += new.pending.eq(pending & ~departs)
                with m.If(~new.pending):
                    m.d.comb += new.known.eq(0)
            with m.Default():
                m.d.comb += new.pending.eq(pending)

        wants_property = ((s.job == Job.SET) & ~was.known) | (s.job == Job.REFRESH)
        with m.If(wants_property & ~s.fetched):
            m.next = "FETCH"
        # An acknowledge of this LPI in this clock is owed in the next: nothing here hangs on it.
        with m.Elif(tree.ready & ~(s.acked_now & (s.shown_lpi == s.job_lpi))):
            m.d.comb += [
                tree.store.eq(1),
                self.arrival.ready.eq(s.job_origin == Origin.ARRIVAL),
            ]
            m.next = "READY"
            # The acknowledge, if there is one for this LPI, is part of what is stored now.
            with m.If(acked):
                m.d.sync += s.owes_ack.eq(0)
                with m.If(repeats):
                    m.d.sync += s.repeat.eq(0)
            with m.If(((s.job == Job.CLEAR) | leaves) & repeats):
                m.d.sync += s.repeat.eq(0)
            with m.Elif((s.job == Job.SET) & pending & self.duplicate & (~s.repeat | acked)):
                m.d.sync += [s.repeat.eq(1), s.repeat_lpi.eq(s.job_lpi)]
            with m.If(leaves):
                m.d.sync += [
                    s.moving.eq(1),
                    s.moved.operation.eq(LpiOperation.SET),
                    s.moved.intid.eq(intid),
                    s.moved.target.eq(s.job_target),
                ]

            # What it means for the candidate. After an acknowledge only a search will tell.
            eligible = new.pending & new.enable
            with m.If(~s.stale & ~s.acked_now):
                same = s.shown & (s.shown_lpi == s.job_lpi)
                better = ~s.shown | (
                    Cat(s.job_lpi, new.priority) < Cat(s.shown_lpi, s.shown_priority)
                )
                with m.If(same & (~eligible | (new.priority != s.shown_priority))):
                    m.d.sync += [s.shown.eq(0), s.stale.eq(1)]
                with m.Elif(~same & eligible & better):
                    m.d.sync += [
                        s.shown.eq(1),
                        s.shown_lpi.eq(s.job_lpi),
                        s.shown_priority.eq(new.priority),
                    ]

            with m.If(new.pending & (~was.pending | acked)):
                m.d.comb += tap_event(self.tap, EventKind.PENDING_SET, unit=self._index, id=intid)
            with m.Elif(leaves):
                m.d.comb += tap_event(
                    self.tap, EventKind.PENDING_MOVED, unit=self._index, id=intid, data=s.job_target
                )
            with m.Elif((s.job == Job.CLEAR) & pending):
                m.d.comb += tap_event(
                    self.tap, EventKind.PENDING_CLEARED, unit=self._index, id=intid
                )
