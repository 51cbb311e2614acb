"""GICv3 distributor: shared peripheral interrupts, and who gets each."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..bus import BusSignature, FairArbiter
from ..registers.gicd import (
    IIDR_VALUE,
    GicdCtlr,
    GicdRegister,
    GicdTyper,
    identification_registers,
)
from ..tap import EventKind, TapSignature, tap_event
from .bank import ROW, BankAccess, BankRegister, InterruptBank, decode_array
from .flight import Flight
from .interfaces import (
    FIRST_LPI,
    FIRST_SPI,
    INTID_BITS,
    AcknowledgeSignature,
    Candidate,
    Deactivate,
)

DISTRIBUTOR_UNIT = 0xFF
"""``unit`` of the distributor's tap records."""

MAX_CPUS = 16
MAX_SPIS = 960


def check_count(block: str, name: str, value: int, low: int, high: int, multiple: int = 1):
    """Rejects a construction parameter that is no integer, out of range or not a multiple."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{block}: {name} must be an integer, not {value!r}")
    if not low <= value <= high or value % multiple:
        rule = f"a multiple of {multiple} " if multiple > 1 else ""
        raise ValueError(f"{block}: {name} must be {rule}between {low} and {high}, not {value}")


class Distributor(wiring.Component):
    """The register frame GICD and the SPIs behind it (Arm IHI 0069, distributor).

    An SPI is routed to one CPU by its affinity, Aff0 = CPU number, the other levels zero; a route
    to a CPU that does not exist, or is asleep, leaves it pending here. The state machine, the
    search for candidates and their latencies are :class:`.bank.InterruptBank`'s, with one row per
    32 SPIs.

    * A register access is answered 4 clocks after it was taken if the bank holds it, else 2;
      bound: the bank's plus 2.
    * Wire to candidate: 5 clocks in an idle system.
    * A deactivation counts ``deactivate_distance + 3`` clocks after its CPU handed it over, in an
      idle system, and an interrupt that is still pending is a candidate again 4 clocks later. Up
      to four per CPU are under way, a further one waits at the CPU.
    * GICD_CTLR.RWP is high while a candidate whose enable bit, or whose group, has been cleared
      may still be acknowledged: ``withdraw_distance`` clocks.

    Area with 2 CPUs, on iCE40: 32 SPIs about 2,800 LUTs and 1,150 flip-flops, 64 SPIs 3,300 and
    1,450, 960 SPIs 8,200 and 3,150 and 24 block RAMs.

    Any lane combination of any word is answered without an error; only the selected lanes count.
    What is not implemented reads zero and ignores writes: everything about INTIDs that do not
    exist, the Secure twins, IGRPMODR, ITARGETSR, SGIR, STATUSR, and in CTLR all but EnableGrp0,
    EnableGrp1 (ARE and DS read one). SETSPI_NSR and CLRSPI_NSR take 32 bits or the low 16, INTID is
    bits 9:0; any other write, or an INTID that is no SPI of this distributor, does nothing but
    give a MESSAGE_BAD record.

    Simplifications: one security state, no group 0 delivery (EnableGrp0 is a bit without
    effect), no 1-of-N routing (TYPER.No1N = 1, IRM reads zero). IROUTER is zero after reset.

    Parameters
    ----------
    cpus : int
        1 to 16.
    spis : int
        SPIs from INTID 32 on: a multiple of 32 between 32 and 960.
    lpis : int
        What TYPER says about LPIs; 0: there are none. Their logic is elsewhere. TYPER.num_LPIs
        tells the number if it is a power of two, else it is 0 ("as many as IDbits allows").

    Members
    -------
    bus : In(BusSignature())
        Address bits 15:0 count.
    wires : In(spis)
    awake : In(cpus)
        Redistributors that take interrupts.
    forwarding : Out(1)
        Group 1 is enabled, as far as the CPU interfaces have heard: gates all candidates.
    candidate : array of Out(Candidate)
    acknowledge : array of In(AcknowledgeSignature())
    searching : Out(cpus)
        See the bank.
    deactivate : array of In(stream.Signature(Deactivate))
    deactivate_distance, withdraw_distance : In(8)
        Clocks.
    lose_foreign_deactivate : In(1)
        Bug injection: a deactivation by a CPU that the SPI is not routed to now is lost.
    taps : array of Out(TapSignature())
        :attr:`channels` names them: pending, wires, messages.
    """

    channels = ("pending", "wires", "messages")

    def __init__(self, *, cpus: int, spis: int, lpis: int = 0):
        check_count("Distributor", "cpus", cpus, 1, MAX_CPUS)
        check_count("Distributor", "spis", spis, 32, MAX_SPIS, 32)
        check_count("Distributor", "lpis", lpis, 0, (1 << 16) - FIRST_LPI)
        self._cpus = cpus
        self._spis = spis
        # Software that finds 0 in num_LPIs takes as many as INTID_BITS would allow.
        counted = lpis >= 2 and not lpis & (lpis - 1)
        self._typer = GicdTyper.const(
            {
                "it_lines_number": spis // 32,
                "mbis": 1,
                "lpis": lpis != 0,
                "num_lpis": lpis.bit_length() - 2 if counted else 0,
                "id_bits": INTID_BITS - 1,
                "a3v": 1,
                "no1n": 1,
            }
        )
        super().__init__(
            {
                "bus": In(BusSignature()),
                "wires": In(spis),
                "awake": In(cpus),
                "forwarding": Out(1),
                "candidate": Out(Candidate).array(cpus),
                "acknowledge": In(AcknowledgeSignature()).array(cpus),
                "searching": Out(cpus),
                "deactivate": In(stream.Signature(Deactivate)).array(cpus),
                "deactivate_distance": In(8),
                "withdraw_distance": In(8),
                "lose_foreign_deactivate": In(1),
                "taps": Out(TapSignature()).array(len(self.channels)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.bank = bank = InterruptBank(
            first=FIRST_SPI,
            rows=self._spis // ROW,
            cpus=self._cpus,
            routed=True,
            unit=DISTRIBUTOR_UNIT,
        )
        m.d.comb += [
            bank.wires.eq(self.wires),
            bank.withdraw_distance.eq(self.withdraw_distance),
            bank.lose_foreign.eq(self.lose_foreign_deactivate),
            self.searching.eq(bank.searching),
        ]
        for tap, source in zip(self.taps, (bank.pending_tap, bank.wire_tap), strict=False):
            m.d.comb += [tap.valid.eq(source.valid), tap.record.eq(source.record)]
        for c in range(self._cpus):
            shown = self.forwarding & self.awake[c]
            m.d.comb += [
                self.candidate[c].eq(bank.candidate[c]),
                self.candidate[c].valid.eq(bank.candidate[c].valid & shown),
                bank.acknowledge[c].valid.eq(self.acknowledge[c].valid),
                bank.acknowledge[c].intid.eq(self.acknowledge[c].intid),
            ]
        self._deactivations(m, bank)
        self._registers(m, bank)
        return m

    def _deactivations(self, m, bank):
        m.submodules.arbiter = arbiter = FairArbiter(self._cpus)
        m.d.comb += [
            bank.deactivate.valid.eq(arbiter.grant.any()),
            arbiter.taken.eq(bank.deactivate.valid & bank.deactivate.ready),
        ]
        for c, near in enumerate(self.deactivate):
            m.submodules[f"flight_{c}"] = flight = Flight(Deactivate)
            wiring.connect(m, wiring.flipped(near), flight.near)
            m.d.comb += [
                flight.distance.eq(self.deactivate_distance),
                arbiter.requests[c].eq(flight.far.valid),
                flight.far.ready.eq(arbiter.grant[c] & bank.deactivate.ready),
            ]
            with m.If(arbiter.grant[c]):
                intid = flight.far.p.intid
                # INTID 0 to 31 wraps to numbers the bank does not hold.
                m.d.comb += [
                    bank.deactivate.p.index.eq(Cat(intid[:5], intid[5:10] - FIRST_SPI // ROW)),
                    bank.deactivate.p.cpu.eq(c),
                ]

    def _registers(self, m, bank):
        request = Signal.like(self.bus.request.payload)
        control = Signal(GicdCtlr)
        group1 = Signal()
        group0 = Signal()
        leaving_clocks = Signal(8)
        m.d.comb += [
            control.enable_group0.eq(group0),
            control.enable_group1.eq(group1),
            control.are.eq(1),
            control.ds.eq(1),
            control.rwp.eq(bank.withdrawing | (self.forwarding & ~group1)),
        ]
        with m.If(group1):
            m.d.sync += [self.forwarding.eq(1), leaving_clocks.eq(self.withdraw_distance)]
        with m.Elif(leaving_clocks != 0):
            m.d.sync += leaving_clocks.eq(leaving_clocks - 1)
        with m.Else():
            m.d.sync += self.forwarding.eq(0)

        access = Signal(BankAccess)
        offset = request.address[:16]
        in_bank = decode_array(
            m, offset, access, first=FIRST_SPI, rows=self._spis // ROW, routed=True
        )
        message = Signal()
        wanted = Signal()
        intid = request.data[:10]
        m.d.comb += [
            access.write.eq(request.write),
            access.data.eq(request.data),
            access.select.eq(request.select),
            bank.access.payload.eq(access),
        ]
        for register, effect in (
            (GicdRegister.SETSPI_NSR, BankRegister.SET_PENDING),
            (GicdRegister.CLRSPI_NSR, BankRegister.CLEAR_PENDING),
        ):
            with m.If((offset == register) & request.write):
                m.d.comb += [
                    message.eq(1),
                    wanted.eq((intid >= FIRST_SPI) & (intid < FIRST_SPI + self._spis)),
                    bank.access.p.register.eq(effect),
                    bank.access.p.index.eq(intid[5:] - FIRST_SPI // ROW),
                    bank.access.p.data.eq(1 << intid[:5]),
                    bank.access.p.select.eq(0b1111),
                ]
        understood = wanted & ((request.select == 0b0011) | (request.select == 0b1111))

        own = Signal(32)
        with m.Switch(offset):
            with m.Case(GicdRegister.CTLR):
                m.d.comb += own.eq(control)
            with m.Case(GicdRegister.TYPER):
                m.d.comb += own.eq(self._typer)
            with m.Case(GicdRegister.IIDR):
                m.d.comb += own.eq(IIDR_VALUE)
            for address, value in identification_registers(0x92).items():
                with m.Case(address):
                    m.d.comb += own.eq(value)

        answer = Signal(32)
        m.d.comb += self.bus.response.p.data.eq(answer)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.bus.request.ready.eq(1)
                with m.If(self.bus.request.valid):
                    m.d.sync += request.eq(self.bus.request.payload)
                    m.next = "DECODE"
            with m.State("DECODE"):
                m.d.sync += answer.eq(Mux(request.write, 0, own))
                m.next = "ANSWER"
                with m.If(in_bank | understood):
                    m.d.comb += bank.access.valid.eq(1)
                    m.next = "DECODE"
                    with m.If(bank.access.ready):
                        m.next = "BANK"
                with m.Elif(message):
                    m.d.comb += tap_event(
                        self.taps[2],
                        EventKind.MESSAGE_BAD,
                        unit=DISTRIBUTOR_UNIT,
                        address=request.address,
                        data=request.data,
                        id=request.requester.id,
                    )
                with m.Elif((offset == GicdRegister.CTLR) & request.write & request.select[0]):
                    written = GicdCtlr(request.data)
                    m.d.sync += [
                        group0.eq(written.enable_group0),
                        group1.eq(written.enable_group1),
                    ]
            with m.State("BANK"), m.If(bank.answer.valid):
                m.d.sync += answer.eq(bank.answer.data)
                m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += self.bus.response.valid.eq(1)
                with m.If(self.bus.response.ready):
                    m.next = "IDLE"
