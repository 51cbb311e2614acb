"""GICv3 redistributor: one CPU's SGIs and PPIs, and the registers of its LPIs."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..bus import ADDRESS_BITS, BusSignature
from ..registers.gicd import IIDR_VALUE, identification_registers
from ..registers.gicr import (
    GicrCtlr,
    GicrPendbaser,
    GicrPropbaser,
    GicrRegister,
    GicrTyper,
    GicrWaker,
)
from ..tap import EventKind, TapSignature, tap_event
from .bank import BankAccess, InterruptBank, decode_array
from .distributor import MAX_CPUS, check_count
from .interfaces import (
    FIRST_LPI,
    INTID_BITS,
    AcknowledgeSignature,
    Candidate,
    Deactivate,
    LpiLink,
    LpiOperation,
)

SGIS = 16
PPIS = 16
WAKE_CLOCKS = 4
"""From a change of WAKER.ProcessorSleep until ChildrenAsleep follows."""

_PROPBASER_MASK = GicrPropbaser.const(
    {
        "id_bits": 0x1F,
        "inner_cache": 7,
        "shareability": 3,
        "address": (1 << (ADDRESS_BITS - 12)) - 1,
        "outer_cache": 7,
    }
).as_bits()
_PENDBASER_MASK = GicrPendbaser.const(
    {
        "inner_cache": 7,
        "shareability": 3,
        "address": (1 << (ADDRESS_BITS - 16)) - 1,
        "outer_cache": 7,
    }
).as_bits()
_PTZ = GicrPendbaser.const({"ptz": 1}).as_bits()


class Redistributor(wiring.Component):
    """The frames RD_base and SGI_base of one CPU (Arm IHI 0069, redistributor).

    SGIs and PPIs are an :class:`.bank.InterruptBank` of one row: state machine, latencies and
    bounds stand there. The LPIs themselves live in an :class:`.lpi.LpiEngine`, for which this
    block keeps the registers.

    * A register access is answered 4 clocks after it was taken if the bank holds it, else 2;
      one that becomes an LPI command waits until the engine takes the command.
    * SGI or PPI to candidate: 5 clocks in an idle system.
    * WAKER.ChildrenAsleep follows ProcessorSleep after ``WAKE_CLOCKS``; until both are zero there
      is no candidate, and what becomes pending stays so.
    * CTLR.RWP (bit 3): a cleared enable bit of an SGI or PPI may still be on its way to the CPU
      interface, or LPIs are being switched off.
    * EnableLPIs: PROPBASER and PENDBASER ignore writes while it is one; without ``ces`` it
      cannot be cleared again.
    * SETLPIR, CLRLPIR (with ``direct_lpi``), INVLPIR, INVALLR (also with ``invalidation``) become
      commands to the engine when all 32 bits of their low word are written. Any other write, or an
      INTID that cannot be an LPI, does nothing; with SETLPIR and CLRLPIR it gives a MESSAGE_BAD
      record. SYNCR.Busy says that the engine has not finished.

    Any lane combination of any word is answered without an error; only selected lanes count.
    What is not implemented reads zero and ignores writes: DPG bits, STATUSR, IGRPMODR0, NSACR,
    the GICv4 parts of TYPER and, where their options are off, the LPI registers.

    Simplifications: as the bank's; one security state; addresses have 40 bits, the PA bits above
    read zero; cacheability and shareability are kept but mean nothing.

    Parameters
    ----------
    index : int
        CPU number: Aff0 and Processor_Number.
    cpus : int
        How many redistributors there are; the one with the highest number reads TYPER.Last = 1.
    lpis : bool
        TYPER.PLPIS.
    direct_lpi : bool
        TYPER.DirectLPI: SETLPIR and CLRLPIR work. For systems without an ITS.
    invalidation : bool
        CTLR.IR: INVLPIR and INVALLR work beside an ITS.
    ces : bool
        CTLR.CES: EnableLPIs can be cleared.

    Members
    -------
    bus : In(BusSignature())
        Address bits 16:0 count.
    sgi : In(16)
        One clock high: that SGI is sent to this CPU.
    ppi : In(16)
        Levels, PPI 16 + i.
    forwarding, awake : In(1), Out(1)
        From the distributor: group 1 is enabled. This CPU takes interrupts.
    candidate : Out(Candidate), acknowledge : In(AcknowledgeSignature()), searching : Out(1)
        Of SGIs and PPIs; see the bank.
    deactivate : In(stream.Signature(Deactivate))
        INTIDs below 32.
    withdraw_distance : In(8)
    lpi : Out(LpiLink())
    lpi_busy, lpi_settling : In(1)
        The engine has commands or tables under way; it is being switched on or off.
    lpi_enable, lpi_property_base, lpi_id_bits, lpi_pending_base, lpi_pending_zero : Out
        What the engine needs to know; ``lpi_id_bits`` is one less, as in PROPBASER.
    taps : array of Out(TapSignature())
        :attr:`channels` names them.
    """

    channels = ("pending", "wires", "messages")

    def __init__(
        self,
        index: int,
        *,
        cpus: int,
        lpis: bool = False,
        direct_lpi: bool = False,
        invalidation: bool = False,
        ces: bool = True,
    ):
        check_count("Redistributor", "cpus", cpus, 1, MAX_CPUS)
        check_count("Redistributor", "index", index, 0, cpus - 1)
        if direct_lpi and not lpis:
            raise ValueError("Redistributor: direct_lpi needs lpis")
        self._index = index
        self._lpis = lpis
        self._direct_lpi = direct_lpi
        self._invalidation = lpis and (direct_lpi or invalidation)
        self._ces = ces and lpis
        self._typer = GicrTyper.const(
            {
                "plpis": lpis,
                "direct_lpi": direct_lpi,
                "last": index == cpus - 1,
                "processor_number": index,
                "common_lpi_aff": 1,
                "affinity": index,
            }
        )
        super().__init__(
            {
                "bus": In(BusSignature()),
                "sgi": In(SGIS),
                "ppi": In(PPIS),
                "forwarding": In(1),
                "awake": Out(1),
                "candidate": Out(Candidate),
                "acknowledge": In(AcknowledgeSignature()),
                "searching": Out(1),
                "deactivate": In(stream.Signature(Deactivate)),
                "withdraw_distance": In(8),
                "lpi": Out(LpiLink()),
                "lpi_busy": In(1),
                "lpi_settling": In(1),
                "lpi_enable": Out(1),
                "lpi_property_base": Out(ADDRESS_BITS),
                "lpi_id_bits": Out(5),
                "lpi_pending_base": Out(ADDRESS_BITS),
                "lpi_pending_zero": Out(1),
                "taps": Out(TapSignature()).array(len(self.channels)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.bank = bank = InterruptBank(
            first=0, rows=1, cpus=1, routed=False, unit=self._index, software=SGIS
        )
        m.d.comb += [
            bank.wires.eq(Cat(self.sgi, self.ppi)),
            bank.withdraw_distance.eq(self.withdraw_distance),
            bank.acknowledge[0].valid.eq(self.acknowledge.valid),
            bank.acknowledge[0].intid.eq(self.acknowledge.intid),
            self.searching.eq(bank.searching),
            self.candidate.eq(bank.candidate[0]),
            self.candidate.valid.eq(bank.candidate[0].valid & self.forwarding & self.awake),
            bank.deactivate.valid.eq(self.deactivate.valid),
            bank.deactivate.p.index.eq(self.deactivate.p.intid),
            self.deactivate.ready.eq(bank.deactivate.ready),
        ]
        for tap, source in zip(self.taps, (bank.pending_tap, bank.wire_tap), strict=False):
            m.d.comb += [tap.valid.eq(source.valid), tap.record.eq(source.record)]

        self._sleep = Signal(init=1)
        self._propbaser = Signal(GicrPropbaser)
        self._pendbaser = Signal(GicrPendbaser)
        self._closing = Signal(range(8))
        self._waker(m)
        self._lpi_configuration(m)
        self._registers(m, bank)
        return m

    def _waker(self, m):
        asleep = Signal(init=1)
        clocks = Signal(range(WAKE_CLOCKS))
        m.d.comb += self.awake.eq(~asleep & ~self._sleep)
        m.d.sync += clocks.eq(0)
        with m.If(asleep != self._sleep):
            m.d.sync += clocks.eq(clocks + 1)
            with m.If(clocks == WAKE_CLOCKS - 1):
                m.d.sync += [asleep.eq(self._sleep), clocks.eq(0)]
        self._children_asleep = asleep

    def _lpi_configuration(self, m):
        m.d.comb += [
            self.lpi_property_base.eq(self._propbaser.address << 12),
            self.lpi_id_bits.eq(self._propbaser.id_bits),
            self.lpi_pending_base.eq(self._pendbaser.address << 16),
            self.lpi_pending_zero.eq(self._pendbaser.ptz),
        ]
        # Covers the clocks until the engine says by itself that it is switching off.
        with m.If(self._closing != 0):
            m.d.sync += self._closing.eq(self._closing - 1)

    def _registers(self, m, bank):
        request = Signal.like(self.bus.request.payload)
        offset = request.address[:17]
        access = Signal(BankAccess)
        in_array = decode_array(m, offset[:16], access, first=0, rows=1, routed=False)
        m.d.comb += [
            access.write.eq(request.write),
            access.data.eq(request.data),
            access.select.eq(request.select),
            bank.access.payload.eq(access),
        ]
        own = Signal(32)
        self._read(m, bank, offset, own)
        # What a write means to the engine is known when the request is taken.
        arriving = self._decode_command(m, self.bus.request.payload)
        kind = Signal.like(arriving)
        m.d.comb += [
            self.lpi.command.p.operation.eq(kind.operation),
            self.lpi.command.p.intid.eq(request.data),
            self.lpi.command.p.target.eq(self._index),
        ]

        answer = Signal(32)
        m.d.comb += self.bus.response.p.data.eq(answer)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.bus.request.ready.eq(1)
                with m.If(self.bus.request.valid):
                    m.d.sync += [request.eq(self.bus.request.payload), kind.eq(arriving)]
                    m.next = "DECODE"
            with m.State("DECODE"):
                m.d.sync += answer.eq(Mux(request.write, 0, own))
                m.next = "ANSWER"
                with m.If(kind.command):
                    m.d.comb += self.lpi.command.valid.eq(1)
                    with m.If(~self.lpi.command.ready):
                        m.next = "DECODE"
                with m.Elif(offset[16] & in_array):
                    m.d.comb += bank.access.valid.eq(1)
                    m.next = "DECODE"
                    with m.If(bank.access.ready):
                        m.next = "BANK"
                with m.Elif(kind.bad_message):
                    m.d.comb += tap_event(
                        self.taps[2],
                        EventKind.MESSAGE_BAD,
                        unit=self._index,
                        address=request.address,
                        data=request.data,
                        id=request.requester.id,
                    )
                with m.Elif(request.write):
                    self._write(m, request, offset)
            with m.State("BANK"), m.If(bank.answer.valid):
                m.d.sync += answer.eq(bank.answer.data)
                m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += self.bus.response.valid.eq(1)
                with m.If(self.bus.response.ready):
                    m.next = "IDLE"

    def _read(self, m, bank, offset, own):
        control, waker = Signal(GicrCtlr), Signal(GicrWaker)
        switching_off = ~self.lpi_enable & (self.lpi_settling | (self._closing != 0))
        m.d.comb += [
            control.enable_lpis.eq(self.lpi_enable),
            control.ces.eq(self._ces),
            control.ir.eq(self._invalidation),
            control.rwp.eq(bank.withdrawing | switching_off),
            waker.processor_sleep.eq(self._sleep),
            waker.children_asleep.eq(self._children_asleep),
        ]
        typer = self._typer.as_bits()
        words = {
            GicrRegister.CTLR: control,
            GicrRegister.IIDR: IIDR_VALUE,
            GicrRegister.TYPER: typer & 0xFFFF_FFFF,
            GicrRegister.TYPER + 4: typer >> 32,
            GicrRegister.WAKER: waker,
            **identification_registers(0x93),
        }
        if self._lpis:
            propbaser = self._propbaser.as_value()
            pendbaser = self._pendbaser.as_value() & ~Const(_PTZ, 64)
            words |= {
                GicrRegister.PROPBASER: propbaser[:32],
                GicrRegister.PROPBASER + 4: propbaser[32:],
                GicrRegister.PENDBASER: pendbaser[:32],
                GicrRegister.PENDBASER + 4: pendbaser[32:],
            }
        if self._invalidation:
            words[GicrRegister.SYNCR] = self.lpi_busy
        with m.Switch(offset):
            for address, value in words.items():
                with m.Case(address):
                    m.d.comb += own.eq(value)

    def _decode_command(self, m, request):
        """What sort of write this is, if any."""
        operations = {}
        if self._direct_lpi:
            operations |= {
                GicrRegister.SETLPIR: LpiOperation.SET,
                GicrRegister.CLRLPIR: LpiOperation.CLEAR,
            }
        if self._invalidation:
            operations |= {
                GicrRegister.INVLPIR: LpiOperation.INVALIDATE,
                GicrRegister.INVALLR: LpiOperation.INVALIDATE_ALL,
            }
        layout = {"command": 1, "bad_message": 1, "operation": LpiOperation}
        kind = Signal(data.StructLayout(layout))
        number = request.data
        is_lpi = (number >= FIRST_LPI) & ~number[INTID_BITS:].any()
        with m.Switch(request.address[:17]):
            for address, operation in operations.items():
                named = operation is not LpiOperation.INVALIDATE_ALL
                message = operation in (LpiOperation.SET, LpiOperation.CLEAR)
                with m.Case(address):
                    good = request.select.all() & (is_lpi if named else 1)
                    m.d.comb += [
                        kind.operation.eq(operation),
                        kind.command.eq(request.write & good),
                        kind.bad_message.eq(request.write & ~good & message),
                    ]
        return kind

    def _write(self, m, request, offset):
        lanes = Cat(lane.replicate(8) for lane in request.select)
        with m.Switch(offset):
            with m.Case(GicrRegister.WAKER), m.If(request.select[0]):
                m.d.sync += self._sleep.eq(GicrWaker(request.data).processor_sleep)
            if self._lpis:
                self._write_lpi_registers(m, request, lanes)

    def _write_lpi_registers(self, m, request, lanes):
        with m.Case(GicrRegister.CTLR), m.If(request.select[0]):
            wanted = GicrCtlr(request.data).enable_lpis
            with m.If(wanted):
                m.d.sync += self.lpi_enable.eq(1)
            with m.Elif(self.lpi_enable & self._ces):
                m.d.sync += [self.lpi_enable.eq(0), self._closing.eq(7)]
        for base, register, mask in (
            (GicrRegister.PROPBASER, self._propbaser, _PROPBASER_MASK),
            (GicrRegister.PENDBASER, self._pendbaser, _PENDBASER_MASK | _PTZ),
        ):
            for half in (0, 1):
                word = register.as_value().word_select(half, 32)
                kept = (mask >> (32 * half)) & 0xFFFF_FFFF
                with m.Case(base + 4 * half), m.If(~self.lpi_enable):
                    m.d.sync += word.eq((word & ~lanes) | (request.data & lanes & kept))
