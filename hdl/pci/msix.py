"""MSI-X: a message of its own for every vector, in a table behind the BAR.

Masking one entry while its address and data are rewritten is what makes an update safe here, and
a mask bit is all there is to it: nothing else stops a message from being torn. Source: PCI Local
Bus 3.0 section 6.8.2.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from ..registers import pci
from .interfaces import (
    VECTOR_BITS,
    AccessSignature,
    MessageKeeperSignature,
    MessageRequest,
    RegistersSignature,
)

WINDOW_BITS = 12
"""Table and pending bits lie in the upper 4 KiB of the BAR."""

# words of an entry
ADDRESS_LO = pci.MSIX_ENTRY_ADDRESS_LO >> 2
ADDRESS_HI = pci.MSIX_ENTRY_ADDRESS_HI >> 2
DATA = pci.MSIX_ENTRY_DATA >> 2
CONTROL = pci.MSIX_ENTRY_CONTROL >> 2


class VectorControl(data.Struct):
    """The last word of an entry as the memory holds it. Software sees ``mask`` and zeros.

    The entry's bit of the pending-bit array lives here too, in a byte that software cannot write:
    one memory then holds everything, and no access has to read before it writes.
    """

    mask: 1
    reserved: 23
    pending: 1
    unused: 7


PENDING_LANE = 0b1000


class MsixTable(wiring.Component):
    """MSI-X capability register, table and pending bits.

    One block memory of four words an entry, and one engine that does one thing at a time: an
    access by software, a request for a message, or a step of the search for pending vectors. A
    message is therefore read as a whole: address and data of a reply stood in the table together.

    * After reset every entry is cleared and masked, one word a clock; accesses and requests wait
      for at most ``4 * entries`` clocks.
    * A table access is answered a clock after it is taken, a read of pending bits after at most
      33. An access waits for at most one request (5 clocks) or one step (2 clocks), and a request
      for at most one access: they take turns.
    * Request: masked (entry or function mask) sets the pending bit; otherwise the message is
      replied and the pending bit cleared. Reply after 2 clocks (nothing to send) or 5.
      While disabled, no request sends or records anything; pending bits stay.
    * Search: unmasking an entry, clearing the function mask or enabling starts a search through
      all entries, from the entry unmasked; it shows the first find as ``resumable`` and goes on
      once that was asked for. A pending vector is found within ``2 * entries`` engine clocks.
    * A vector beyond the table is taken as vector 0. The two low address bits are not stored.

    Parameters
    ----------
    entries : int
        1 to 64.
    next_capability : int

    Members
    -------
    registers : In(RegistersSignature(4))
    window : In(AccessSignature(12))
        The upper half of the BAR: table at 0x000, pending bits at 0x800, zeros elsewhere.
    enable : Out(1)
    messages : In(MessageKeeperSignature())
    """

    def __init__(self, *, entries: int, next_capability: int):
        self._entries = entries
        self._next = next_capability
        super().__init__(
            {
                "registers": In(RegistersSignature(4)),
                "window": In(AccessSignature(WINDOW_BITS)),
                "enable": Out(1),
                "messages": In(MessageKeeperSignature()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.words = words = memory.Memory(
            shape=32, depth=4 * self._entries, init=[0, 0, 0, 1] * self._entries
        )
        self._read = words.read_port()
        self._write = words.write_port(granularity=8)

        function_mask = Signal()
        self._live = Signal()
        self._registers(m, function_mask)
        m.d.comb += self._live.eq(self.enable & ~function_mask)

        # The search: `left` entries from `cursor` on have not been looked at since the last
        # occasion for a vector to become deliverable. It rests while it has `found` one.
        self._cursor = Signal(range(self._entries))
        self._left = Signal(range(self._entries + 1))
        self._found = Signal()
        self._gathering = Signal(VECTOR_BITS)
        self._gathered = Signal(32)
        self._engine(m)
        was_live = Signal()
        m.d.sync += was_live.eq(self._live)
        # stands last: a fresh occasion wins over a step of the search in the same clock
        with m.If(self._live & ~was_live):
            m.d.sync += self._left.eq(self._entries)
        m.d.comb += [
            self.messages.resumable.valid.eq(self._found & self._live),
            self.messages.resumable.vector.eq(self._cursor),
        ]
        return m

    def _registers(self, m, function_mask):
        registers = self.registers
        with m.Switch(registers.index):
            with m.Case(0):
                flags = Cat(Const(self._entries - 1, 14), function_mask, self.enable)
                header = Const(self._next << 8 | pci.CapabilityId.MSIX, 16)
                m.d.comb += registers.value.eq(Cat(header, flags))
                with m.If(registers.select[3]):
                    m.d.sync += Cat(function_mask, self.enable).eq(registers.data[30:])
            with m.Case(pci.MSIX_TABLE >> 2):
                m.d.comb += registers.value.eq(pci.BAR_MSIX_TABLE)
            with m.Case(pci.MSIX_PENDING >> 2):
                m.d.comb += registers.value.eq(pci.BAR_MSIX_PENDING)

    def _engine(self, m):
        access, ask = self.window.request, self.messages.request
        control = VectorControl(self._read.data)
        asked = Signal(MessageRequest)
        searching = self._live & self._left.any() & ~self._found
        engine_first = Signal()  # after an access it is the engine's turn

        with m.FSM():
            with m.State("CLEAR"):
                word = Signal(range(4 * self._entries))
                m.d.comb += [
                    self._write.addr.eq(word),
                    self._write.data.eq(word[:2] == 3),
                    self._write.en.eq(0b1111),
                ]
                m.d.sync += word.eq(word + 1)
                with m.If(word == 4 * self._entries - 1):
                    m.next = "IDLE"

            with m.State("IDLE"):
                with m.If(access.valid & ~(engine_first & (ask.valid | searching))):
                    m.d.sync += engine_first.eq(1)
                    m.d.comb += access.ready.eq(1)
                    self._access(m, access.p)
                with m.Elif(ask.valid):
                    m.d.sync += [engine_first.eq(0), asked.eq(ask.p)]
                    m.d.comb += ask.ready.eq(1)
                    vector = Mux(ask.p.vector < self._entries, ask.p.vector, 0)
                    m.d.sync += asked.vector.eq(vector)
                    self._fetch(m, vector, CONTROL)
                    m.next = "DECIDE"
                with m.Elif(searching):
                    m.d.sync += engine_first.eq(0)
                    self._fetch(m, self._cursor, CONTROL)
                    m.next = "SEARCH"

            self._answer_states(m, control)
            self._message_states(m, asked, control)

            with m.State("SEARCH"):
                with m.If(control.pending & ~control.mask):
                    m.d.sync += self._found.eq(1)
                with m.Else():
                    last = self._cursor == self._entries - 1
                    m.d.sync += [
                        self._cursor.eq(Mux(last, 0, self._cursor + 1)),
                        self._left.eq(self._left - 1),
                    ]
                m.next = "IDLE"

    def _fetch(self, m, entry, word):
        """Read a word of ``entry``; it is there in the next clock, and stays."""
        m.d.comb += [self._read.en.eq(1), self._read.addr.eq(Cat(Const(word, 2), entry))]

    def _access(self, m, access):
        """Begin one access by software."""
        entry, word = access.address[4:10], access.address[2:4]
        in_table = (access.address[10:] == 0) & (entry < self._entries)
        pending = access.address[3:] == (pci.BAR_MSIX_PENDING - pci.BAR_MSIX_TABLE) >> 3
        m.next = "NOTHING"
        with m.If(in_table & access.write):
            m.d.comb += [
                self._write.addr.eq(access.address[2:]),
                self._write.data.eq(access.data),
                self._write.en.eq(access.select),
            ]
            with m.If(word == ADDRESS_LO):
                m.d.comb += self._write.data[:2].eq(0)
            with m.If(word == CONTROL):
                m.d.comb += [
                    self._write.data.eq(access.data[0]),
                    self._write.en.eq(access.select[0]),
                ]
                with m.If(access.select[0] & ~access.data[0]):
                    m.d.sync += self._left.eq(self._entries)
                    with m.If(~self._left.any()):
                        m.d.sync += self._cursor.eq(entry)
        with m.Elif(in_table):
            m.d.comb += [self._read.en.eq(1), self._read.addr.eq(access.address[2:])]
            m.next = "WORD"
            with m.If(word == CONTROL):
                m.next = "CONTROL"
        with m.Elif(pending & ~access.write):
            first = Cat(Const(0, 5), access.address[2])
            with m.If(first < self._entries):
                self._fetch(m, first, CONTROL)
                m.d.sync += [self._gathering.eq(first), self._gathered.eq(0)]
                m.next = "GATHER"

    def _answer_states(self, m, control):
        """The answers to software: one state for each kind."""
        response = self.window.response
        with m.State("GATHER"):
            place = self._gathering[:5]
            m.d.sync += self._gathered.bit_select(place, 1).eq(control.pending)
            with m.If(place.all() | (self._gathering == self._entries - 1)):
                m.next = "GATHERED"
            with m.Else():
                following = Signal.like(self._gathering)
                m.d.comb += following.eq(self._gathering + 1)
                m.d.sync += self._gathering.eq(following)
                self._fetch(m, following, CONTROL)
        for state, answer in (
            ("NOTHING", 0),
            ("WORD", self._read.data),
            ("CONTROL", control.mask),
            ("GATHERED", self._gathered),
        ):
            with m.State(state):
                m.d.comb += [response.valid.eq(1), response.payload.eq(answer)]
                with m.If(response.ready):
                    m.next = "IDLE"

    def _message_states(self, m, asked, control):
        """Decide about a request, and read the message word by word; nothing comes between."""
        reply, reply_valid = self.messages.reply, self.messages.reply_valid
        m.d.sync += reply_valid.eq(0)
        with m.State("DECIDE"):
            m.d.sync += [reply.send.eq(0), reply_valid.eq(1)]
            m.next = "IDLE"
            wanted = self.enable & (~asked.resume | control.pending)
            masked = control.mask | ~self._live
            with m.If(wanted & ~masked):
                self._fetch(m, asked.vector, ADDRESS_LO)
                m.d.sync += reply_valid.eq(0)
                m.next = "ADDRESS_LO"
            with m.If(wanted & ~asked.peek):
                m.d.comb += [
                    self._write.addr.eq(Cat(Const(CONTROL, 2), asked.vector)),
                    self._write.data.eq(VectorControl.const({"pending": 1})),
                    self._write.en.eq(PENDING_LANE),
                ]
                with m.If(~masked):
                    m.d.comb += self._write.data.eq(0)
            with m.If(asked.resume):
                m.d.sync += self._found.eq(0)
        with m.State("ADDRESS_LO"):
            m.d.sync += reply.message.address[:32].eq(self._read.data)
            self._fetch(m, asked.vector, ADDRESS_HI)
            m.next = "ADDRESS_HI"
        with m.State("ADDRESS_HI"):
            m.d.sync += reply.message.address[32:].eq(self._read.data)
            self._fetch(m, asked.vector, DATA)
            m.next = "DATA"
        with m.State("DATA"):
            m.d.sync += [
                reply.message.data.eq(self._read.data),
                reply.send.eq(1),
                reply_valid.eq(1),
            ]
            m.next = "IDLE"
