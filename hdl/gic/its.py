"""Interrupt Translation Service: a device's write becomes an LPI at some CPU."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..bus import BusRequest, BusSignature, Region, RequesterKind
from ..registers.gits import (
    ENTRY_BYTES,
    IDENTIFICATION,
    IIDR,
    BaserType,
    GitsBaser,
    GitsCbaser,
    GitsCreadr,
    GitsCtlr,
    GitsCwriter,
    GitsRegister,
    GitsTyper,
    Reason,
)
from ..tap import TapSignature
from .flight import Flight
from .interfaces import LpiCommand, LpiLink
from .its_commands import CommandUnit
from .its_tables import TableUnit
from .its_translation import TranslationUnit
from .lpi import check_lpis

LINK_DEPTH = 2


class Its(wiring.Component):
    """GICv3 ITS for physical LPIs.

    A device writes an EventID to GITS_TRANSLATER; its requester id is the DeviceID. Three tables
    in RAM, which software provides and commands fill, say what that means: the device table where
    the device's translation table lies, that one which LPI the event is and which collection it
    belongs to, the collection table to which CPU the collection goes. So an interrupt is moved by
    changing an entry; the message never changes.

    Parts
    -----
    :class:`TranslationUnit` translates messages, :class:`CommandUnit` carries out commands; both
    use :class:`TableUnit` for the tables, and a translation, once made, and a command are on
    different ways until they meet at the link to a redistributor. Without SYNC their order is
    therefore open, as in the architecture: the windows W1, W3, W7 and W8 are real here.

    * A translation that has been made departs to the redistributor it names, whatever commands do
      meanwhile, ``translation_distance`` clocks later.
    * SYNC waits until all translations that had begun have reached their links, then sends a SYNC
      down the link of its redistributor, behind them, and waits for the answer: from then on
      nothing that was translated before reaches that redistributor, and hand-overs from it have
      landed. No later command begins before.
    * MAPD waits for the walk under way: once it is consumed nobody reads the old table.

    Where messages and commands meet
    --------------------------------
    A link takes a command's action and a departure in turns. Of two in the same clock the one
    that did not go last goes first.

    Commands
    --------
    ========  ================================================================  =================
    command   what it does here                                                 errors, in order
    ========  ================================================================  =================
    MAPD      writes the device entry; empties the translation cache            01, 02
    MAPC      writes the collection entry; empties the cache. What is pending   03, 02
              stays where it is
    MAPTI,    write the translation entry, also over a valid one                01, 04, 05, 06,
    MAPI                                                                        03
    MOVI      changes the collection in the entry; if the CPU differs, MOVE     01, 04, 05, 07,
              to the old one                                                    09, 03 (new), 09
    MOVALL    MOVE_ALL to the first CPU; nothing if they are the same           01
    DISCARD   removes the entry, then CLEAR. The collection need not be mapped  01, 04, 05, 07
    INT       SET                                                               01, 04, 05, 07,
                                                                                09
    CLEAR     CLEAR                                                             as INT
    INV       INVALIDATE                                                        as INT
    INVALL    INVALIDATE_ALL to the collection's CPU                            03, 09
    SYNC      see above                                                         20
    ========  ================================================================  =================

    Numbers are the low byte of the error code, :class:`hdl.registers.gits.Reason`. Any table
    access can end in 40 (memory fault), fetching a command too; 41 is an unknown opcode (GICv4's
    among them). A command with an error changes nothing.

    What the architecture leaves open, and what it is here
    ------------------------------------------------------
    ==============================================  ============================================
    topic                                           choice
    ==============================================  ============================================
    a command with an error; memory fault           ``on_error``: "skip" consumes it; "stall"
                                                    stops at it with CREADR.Stalled until
                                                    CWRITER.Retry, which fetches it again
    Retry while not stalled                         no effect; reads zero
    CWRITER outside the queue                       the write is ignored, Retry included; one left
                                                    outside by a smaller queue stops the queue
    CBASER, BASERn written while enabled, or before ignored
    Quiescent
    CBASER written                                  CREADR and Stalled zero; CWRITER stays
    enabled without a valid queue or table          no commands; every id is out of range
    BASERn: Type, EntrySize, Indirect               RO, RO (8 bytes), RAZ: one level only
    BASERn: page size 3                             kept, counts as 64 KiB
    BASER2 to BASER7                                RAZ/WI: no further tables
    cacheability, shareability                      kept as written, no effect
    addresses at or above 2**40                     kept; an access to them is a memory fault
    CTLR.Enabled cleared                            the command and the messages under way finish,
                                                    then Quiescent
    messages while disabled                         dropped
    DeviceID of a CPU's or the GIC's own write      none: dropped
    write to TRANSLATER that is not 32 bits, or not ignored (dropped)
    16 bits at its beginning; a read                RAZ
    8- and 16-bit writes to other registers         the other bytes stay
    other offsets                                   RAZ/WI
    EventIDs of MAPD beyond ``event_id_bits``       error 02
    pINTID                                          8192 to 8191 + ``lpis``, otherwise error 06
    a message that cannot be translated             dropped, counted, TRANSLATION_DROPPED
    MAPD over a valid entry; MAPD V=0               replaces it; what is pending stays
    reserved fields of commands                     ignored
    a SET for a redistributor with LPIs off         dropped there (see :class:`LpiEngine`)
    ==============================================  ============================================

    Collections: 16-bit ICIDs, all in memory (HCC = 0); RDbase is a CPU number (PTA = 0).
    Entry formats: :mod:`hdl.registers.gits`.

    Simplifications: no SError for a dropped message (SEIS = 0), one level of tables, no virtual
    LPIs, no UMSI registers, ITS_Number and ImDe RAZ/WI: nothing here would use them.

    Time
    ----
    In clocks; b = one bus access, request and response included (2 for a RAM alone, 4 through an
    idle interconnect), d = ``translation_distance`` + ``link_distance``:

    ===================================  =========================================================
    register access                      answered 2 after it was taken
    TRANSLATER write                     the same while fewer than four messages wait; otherwise
                                         when the first of them has left: a walk and its link's
                                         time. Nothing behind a link waits for the frames, so that
                                         time is bounded
    message taken -> at its LPI engine   5 + d when cached, 11 + 4 b + d otherwise; 2 more to the
                                         engine's candidate
    messages in a row, cached            one every 2; one every 3 through the frames
    a command: fetching it               12 + 8 b
    and then                             MAPD 6 + 2 b (V=0: 6 + b), MAPC 6 + b, MAPTI 7 + 3 b,
                                         MOVI 18 + 8 b, INT, CLEAR, INV 9 + 4 b, INVALL 7 + b,
                                         DISCARD 14 + 7 b, MOVALL 3, SYNC 7 + d, more if its
                                         engine has work
    ===================================  =========================================================

    So with b = 2 a MOVI with its SYNC takes 97 clocks, and a cached message 7 to the candidate.

    Parameters
    ----------
    cpus : int
        1 to 256.
    lpis : int
        32 to 57,344.
    device_id_bits, event_id_bits : int
        1 to 16, as GITS_TYPER reports.
    on_error : str
        "skip" or "stall".
    translation_cache : int
        Translations remembered: a power of two, 2 to 1,024.
    forbidden : tuple of Region
        Where the queue and tables cannot be: accesses there count as memory faults. Name the
        frames of the interrupt controller: an ITS table in the ITS's own frame would make it wait
        for itself.

    Members
    -------
    frames : In(BusSignature())
        Control and translation frame, 128 KiB; the bits of the address above are ignored.
    bus : Out(BusSignature())
        Queue and tables; kind CONTROLLER, requester id ``cpus``.
    links : array of Out(LpiLink()), index is the CPU number
    translation_distance, link_distance : In(8)
        Further clocks between a translation and the link, and on the link.
    dropped : Out(16)
        Messages dropped since reset, wraps.
    tap, command_tap : Out(TapSignature())
        Translations and commands.
    """

    def __init__(
        self,
        *,
        cpus: int,
        lpis: int,
        device_id_bits: int = 16,
        event_id_bits: int = 16,
        on_error: str = "skip",
        translation_cache: int = 64,
        forbidden: "tuple[Region, ...]" = (),
    ):
        if cpus not in range(1, 257):
            raise ValueError(f"Number of CPUs must be between 1 and 256, not {cpus!r}")
        check_lpis(lpis)
        for name, bits in (("device_id_bits", device_id_bits), ("event_id_bits", event_id_bits)):
            if bits not in range(1, 17):
                raise ValueError(f"{name} must be between 1 and 16, not {bits!r}")
        if on_error not in ("skip", "stall"):
            raise ValueError(f"on_error must be 'skip' or 'stall', not {on_error!r}")
        self._cpus = cpus
        ids = {"device_id_bits": device_id_bits, "event_id_bits": event_id_bits}
        self._tables = TableUnit(cpus=cpus, lpis=lpis, forbidden=forbidden, **ids)
        self._translations = TranslationUnit(cpus=cpus, cache=translation_cache, **ids)
        self._commands = CommandUnit(cpus=cpus, stall_on_error=on_error == "stall", **ids)
        self._typer = GitsTyper.const(
            {
                "physical": 1,
                "itt_entry_size": ENTRY_BYTES - 1,
                "id_bits": event_id_bits - 1,
                "dev_bits": device_id_bits - 1,
                "cid_bits": 15,
                "cil": 1,
            }
        )
        super().__init__(
            {
                "frames": In(BusSignature()),
                "bus": Out(BusSignature()),
                "links": Out(LpiLink()).array(cpus),
                "translation_distance": In(8),
                "link_distance": In(8),
                "dropped": Out(16),
                "tap": Out(TapSignature()),
                "command_tap": Out(TapSignature()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.tables = tables = self._tables
        m.submodules.translations = translations = self._translations
        m.submodules.commands = commands = self._commands
        wiring.connect(m, commands.tables, tables.commands)
        wiring.connect(m, translations.tables, tables.translations)
        wiring.connect(m, tables.bus, wiring.flipped(self.bus))
        wiring.connect(m, translations.tap, wiring.flipped(self.tap))
        wiring.connect(m, commands.tap, wiring.flipped(self.command_tap))

        links_idle = self._links(m, commands, translations)
        m.d.comb += [
            translations.distance.eq(self.translation_distance),
            translations.mark.eq(commands.mark),
            commands.drained.eq(translations.drained),
            translations.forget.eq(commands.forget),
            translations.forget_device.eq(commands.forget_device),
            translations.forget_event.eq(commands.forget_event),
            self.dropped.eq(translations.dropped),
        ]
        self._registers(m, commands, translations, tables, links_idle)
        return m

    def _links(self, m, commands, translations):
        """Joins actions and departures at each link; whether all links are empty."""
        action, departure = commands.actions, translations.departures
        idle = Signal(self._cpus)
        for i, link in enumerate(self.links):
            m.submodules[f"link_{i}"] = flight = Flight(LpiCommand, depth=LINK_DEPTH)
            wiring.connect(m, flight.far, wiring.flipped(link.command))
            here_action = Signal(name=f"action_{i}")
            here_departure = Signal(name=f"departure_{i}")
            action_was_last = Signal(name=f"action_was_last_{i}")
            takes_action = Signal(name=f"takes_action_{i}")
            under_way = Signal(range(LINK_DEPTH + 1), name=f"under_way_{i}")
            taken = flight.near.valid & flight.near.ready
            m.d.comb += [
                flight.distance.eq(self.link_distance),
                here_action.eq(action.valid & (action.p.cpu == i)),
                here_departure.eq(departure.valid & (departure.p.target == i)),
                takes_action.eq(here_action & ~(here_departure & action_was_last)),
                flight.near.valid.eq(here_action | here_departure),
                commands.synced[i].eq(link.synced),
                idle[i].eq(under_way == 0),
            ]
            m.d.sync += under_way.eq(under_way + taken - (flight.far.valid & flight.far.ready))
            with m.If(takes_action):
                m.d.comb += flight.near.payload.eq(action.p.command)
            with m.Else():
                # LpiOperation.SET is zero, and it is what a departure asks for.
                m.d.comb += flight.near.p.intid.eq(departure.p.intid)
            with m.If(taken):
                m.d.sync += action_was_last.eq(takes_action)
                with m.If(takes_action):
                    m.d.comb += action.ready.eq(1)
                with m.Else():
                    m.d.comb += departure.ready.eq(1)
        return idle.all()

    def _registers(self, m, commands, translations, tables, links_idle):
        """The bus target: takes a request, carries it out in the next clock, then answers."""
        request = Signal(BusRequest)
        enabled = Signal()
        quiescent = Signal()
        cbaser = Signal(GitsCbaser)
        write_offset = Signal(15)
        basers = [Signal(GitsBaser, name=f"baser{n}") for n in range(2)]
        types = (BaserType.DEVICE, BaserType.COLLECTION)

        # A clock late: whether a command begins depends on what software may write meanwhile.
        idle = Signal(init=1)
        m.d.sync += idle.eq(commands.idle & translations.idle & links_idle)
        m.d.comb += [
            quiescent.eq(~enabled & idle),
            commands.run.eq(enabled & cbaser.valid),
            commands.queue.eq(cbaser),
            commands.write_offset.eq(write_offset),
            tables.devices.eq(basers[0]),
            tables.collections.eq(basers[1]),
            # Tables may have changed while the ITS was disabled.
            translations.forget_all.eq(commands.forget_all | quiescent),
        ]

        # Reading: a 64-bit register is two words.
        low: dict[int, object] = {}

        def readable(offset, value):
            low[offset] = value[:32]
            low[offset + 4] = value[32:]

        ctlr, creadr, cwriter = Signal(GitsCtlr), Signal(GitsCreadr), Signal(GitsCwriter)
        m.d.comb += [
            ctlr.enabled.eq(enabled),
            ctlr.quiescent.eq(quiescent),
            creadr.stalled.eq(commands.stalled),
            creadr.offset.eq(commands.read_offset),
            cwriter.offset.eq(write_offset),
        ]
        low[GitsRegister.CTLR] = ctlr.as_value()
        low[GitsRegister.IIDR] = Const(IIDR, 32)
        readable(GitsRegister.TYPER, Const(self._typer.as_bits(), 64))
        readable(GitsRegister.CBASER, cbaser.as_value())
        readable(GitsRegister.CWRITER, cwriter.as_value())
        readable(GitsRegister.CREADR, creadr.as_value())
        for n, (baser, kind) in enumerate(zip(basers, types, strict=True)):
            shown = Signal(GitsBaser, name=f"baser{n}_read")
            m.d.comb += [
                shown.eq(baser),
                shown.type.eq(kind),
                shown.entry_size.eq(ENTRY_BYTES - 1),
                shown.indirect.eq(0),
            ]
            readable(GitsRegister.BASER0 + 8 * n, shown.as_value())
        for n, value in enumerate(IDENTIFICATION):
            low[GitsRegister.PIDR4 + 4 * n] = Const(value, 32)

        offset = request.address[:17]
        read_data = Signal(32)
        with m.Switch(offset):
            for register, value in low.items():
                with m.Case(register):
                    m.d.comb += read_data.eq(value)

        # Writing: the bytes that were selected replace those of the register.
        mask = Signal(32)
        m.d.comb += mask.eq(Cat(lane.replicate(8) for lane in request.select))

        def merged(word):
            return (word & ~mask) | (request.data & mask)

        response = self.frames.response
        answer = Signal(32)
        m.d.comb += response.p.data.eq(answer)

        message = translations.messages
        wide = request.select == 0b1111
        is_message = (offset == GitsRegister.TRANSLATER) & request.write
        m.d.comb += [
            message.p.device.eq(request.requester.id),
            message.p.event.eq(Mux(wide, request.data, request.data[:16])),
            message.p.reason.eq(
                Mux(
                    request.requester.kind != RequesterKind.DEVICE,
                    Reason.NOT_A_DEVICE,
                    Mux(
                        ~wide & (request.select != 0b0011),
                        Reason.BAD_ACCESS,
                        Mux(enabled, Reason.OK, Reason.DISABLED),
                    ),
                )
            ),
        ]

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.frames.request.ready.eq(1)
                m.d.sync += request.eq(self.frames.request.payload)
                with m.If(self.frames.request.valid):
                    m.next = "ACCESS"

            with m.State("ACCESS"):
                m.d.sync += answer.eq(Mux(request.write, 0, read_data))
                m.next = "ANSWER"
                # The GIC's own writes never wait here: they could be what others wait for.
                with m.If(is_message & (request.requester.kind != RequesterKind.CONTROLLER)):
                    m.d.comb += message.valid.eq(1)
                    with m.If(~message.ready):
                        m.next = "ACCESS"
                with m.Elif(request.write), m.Switch(offset):
                    with m.Case(GitsRegister.CTLR), m.If(request.select[0]):
                        m.d.sync += enabled.eq(request.data[0])
                    for half in range(2):
                        with m.Case(GitsRegister.CBASER + 4 * half), m.If(quiescent):
                            self._write_half(m, cbaser, half, merged)
                            m.d.comb += commands.rewind.eq(1)
                        for n, baser in enumerate(basers):
                            with (
                                m.Case(GitsRegister.BASER0 + 8 * n + 4 * half),
                                m.If(quiescent),
                            ):
                                self._write_half(m, baser, half, merged)
                    with m.Case(GitsRegister.CWRITER):
                        new = Signal(32)
                        m.d.comb += new.eq(merged(cwriter.as_value()[:32]))
                        with m.If((new[5:20] >> 7) <= cbaser.size):
                            m.d.sync += write_offset.eq(new[5:20])
                            m.d.comb += commands.retry.eq(new[0])

            with m.State("ANSWER"):
                m.d.comb += response.valid.eq(1)
                with m.If(response.ready):
                    m.next = "IDLE"

    @staticmethod
    def _write_half(m, register, half, merged):
        """Write one word of a 64-bit register; its reserved fields stay zero."""
        word = slice(32 * half, 32 * half + 32)
        kept = Const(_writable(register.shape()), 64)[word]
        old = register.as_value()[word]
        m.d.sync += old.eq(merged(old) & kept)


def _writable(layout) -> int:
    """Mask of the bits of a register's fields that software may write."""
    fixed = {"type", "entry_size", "indirect"}
    mask = 0
    for name, field in data.Layout.cast(layout):
        if not name.startswith("_") and name not in fixed:
            mask |= ((1 << field.width) - 1) << field.offset
    return mask
