"""x86 local APIC as a target of messages (section 8a).

Unlike an LPI, an edge MSI here has an in-service bit: a vector is requested (IRR), then in service
(ISR) until EOI, and meanwhile can be requested once more. A third event of the same vector is
absorbed by the second.
"""

from collections import Counter

from .bits import WORD, field, merge
from .implementation import Implementation


class Register:
    """Offsets; ISR, TMR and IRR are the first of eight words each."""

    ID = 0x020
    VERSION = 0x030
    TPR = 0x080
    APR = 0x090
    PPR = 0x0A0
    EOI = 0x0B0
    LDR = 0x0D0
    DFR = 0x0E0
    SVR = 0x0F0
    ISR = 0x100
    TMR = 0x180
    IRR = 0x200
    ESR = 0x280
    ICR = 0x300
    ICR_HIGH = 0x310


VECTOR_TABLE = (0x320, 0x330, 0x340, 0x350, 0x360, 0x370)
TIMER = (0x380, 0x390, 0x3E0)
CURRENT_COUNT = 0x390
LOCAL_VECTORS = (*VECTOR_TABLE, *TIMER)
"""LVT and timer: there is no local interrupt source, so they are storage at most."""
VECTOR_MASKED = 1 << 16
VECTOR_SETS = range(Register.ISR, Register.IRR + 0x80, 16)
KNOWN = frozenset(
    (*(v for n, v in vars(Register).items() if n.isupper()), *LOCAL_VECTORS, *VECTOR_SETS)
)

ENABLE = 1 << 8
"""SVR: the APIC accepts messages."""
SEND_ILLEGAL, RECEIVE_ILLEGAL, ILLEGAL_REGISTER = 1 << 5, 1 << 6, 1 << 7
"""ESR: a vector below 16, twice; an access to nothing."""
ICR_MASK = 0x000C_CFFF
PHYSICAL_BROADCAST = 0xFF
FLAT, CLUSTER = 0xF, 0x0
FIXED, LOWEST_PRIORITY = 0, 1


def highest(bits: int) -> int:
    """The most urgent vector of a set; -1 if there is none, which is in no class."""
    return bits.bit_length() - 1


class LocalApic:
    """One CPU's APIC and its registers, which only that CPU can reach."""

    def __init__(self, cpu: int, choices: Implementation, bus: "ApicBus"):
        self._choices = choices
        self._bus = bus
        self._id = cpu
        self._tpr = 0
        self._ldr = 0
        self._dfr = WORD
        self._svr = 0xFF
        self._errors = self._error_register = 0
        self._icr = self._icr_high = 0
        self.irr = self.isr = self.tmr = 0
        self._local: dict[int, int] = {}
        if choices.lapic_local_storage:
            masked = dict.fromkeys(VECTOR_TABLE, VECTOR_MASKED)
            self._local = masked | dict.fromkeys(TIMER, 0)

    # Messages ---------------------------------------------------------------------------------

    @property
    def accepting(self) -> bool:
        """Whether software has it enabled. Otherwise messages are lost; IRR keeps what it has."""
        return bool(self._svr & ENABLE)

    def is_addressed(self, destination: int, logical: bool) -> bool:
        """Whether an 8-bit destination means this APIC.

        Physical: its id, or 0xFF for all. Logical: a bit in common with LDR, in the cluster model
        among CPUs of the same cluster. Models other than those two match nothing.
        """
        if not logical:
            return destination in (self._id, PHYSICAL_BROADCAST)
        own, model = self._ldr >> 24, self._dfr >> 28
        if model == FLAT:
            return bool(destination & own)
        same_cluster = destination >> 4 == own >> 4
        return model == CLUSTER and same_cluster and bool(destination & own & 0xF)

    def accept(self, vector: int, level: bool) -> None:
        """A message. One that finds its vector requested already is absorbed."""
        if vector < 16:
            self.report(RECEIVE_ILLEGAL)
            return
        bit = 1 << vector
        self.irr |= bit
        self.tmr = self.tmr | bit if level else self.tmr & ~bit

    def report(self, error: int) -> None:
        """An error for ESR."""
        self._errors |= error
        if not self._choices.lapic_esr_latched:
            self._error_register |= error

    # Priority ---------------------------------------------------------------------------------

    @property
    def ppr(self) -> int:
        """Processor priority: TPR, or the class in service if that is higher."""
        in_service = max(highest(self.isr), 0)
        return self._tpr if self._tpr >> 4 >= in_service >> 4 else in_service & 0xF0

    @property
    def intr(self) -> bool:
        """The line: a request of a higher class than the processor priority."""
        if not (self.accepting or self._choices.lapic_off_delivers):
            return False
        return highest(self.irr) >> 4 > self.ppr >> 4

    def acknowledge(self) -> int:
        """The CPU's acknowledge cycle: the vector; with nothing to deliver, the spurious one."""
        if not self.intr:
            return self._svr & 0xFF
        vector = highest(self.irr)
        self.irr &= ~(1 << vector)
        self.isr |= 1 << vector
        return vector

    def _end_of_interrupt(self) -> None:
        if self.isr:
            self.isr &= ~(1 << highest(self.isr))

    # Registers --------------------------------------------------------------------------------

    def _check(self, offset: int) -> None:
        if offset not in KNOWN and self._choices.lapic_illegal_register:
            self.report(ILLEGAL_REGISTER)

    def read(self, offset: int) -> int:
        """Registers lie 16 bytes apart; in between, and where there is none, reads give 0."""
        self._check(offset)
        if offset & 0xF:
            return 0
        for base, bits in (
            (Register.ISR, self.isr),
            (Register.TMR, self.tmr),
            (Register.IRR, self.irr),
        ):
            if base <= offset < base + 0x80:
                return bits >> 2 * (offset - base) & WORD
        return {
            Register.ID: self._id << 24,
            Register.VERSION: self._choices.lapic_version,
            Register.TPR: self._tpr,
            Register.PPR: self.ppr,
            Register.LDR: self._ldr,
            Register.DFR: self._dfr,
            Register.SVR: self._svr,
            Register.ESR: self._error_register,
            Register.ICR: self._icr,
            Register.ICR_HIGH: self._icr_high,
            **self._local,
        }.get(offset, 0)

    def write(self, offset: int, value: int, lanes: int) -> None:
        self._check(offset)
        match offset:
            case Register.ID if self._choices.lapic_id_writable:
                self._id = merge(self._id << 24, value, lanes) >> 24
            case Register.TPR:
                self._tpr = merge(self._tpr, value, lanes) & 0xFF
            case Register.EOI:  # whatever the value
                self._end_of_interrupt()
            case Register.LDR:
                self._ldr = merge(self._ldr, value, lanes) & 0xFF00_0000
            case Register.DFR:
                self._dfr = merge(self._dfr, value, lanes) | 0x0FFF_FFFF
            case Register.SVR:
                self._svr = merge(self._svr, value, lanes) & 0x1FF
            case Register.ESR:
                self._error_register = self._errors if self._choices.lapic_esr_latched else 0
                self._errors = 0
            case Register.ICR:  # the low word sends
                if lanes == WORD:
                    self._icr = value & ICR_MASK
                    self._send()
            case Register.ICR_HIGH:
                self._icr_high = merge(self._icr_high, value, lanes) & 0xFF00_0000
            case _ if offset in self._local and offset != CURRENT_COUNT:
                self._local[offset] = merge(self._local[offset], value, lanes)

    def _send(self) -> None:
        mode = field(self._icr, 10, 8)
        if mode in (FIXED, LOWEST_PRIORITY) and field(self._icr, 7, 0) < 16:
            self.report(SEND_ILLEGAL)
            return
        match field(self._icr, 19, 18):
            case 0:
                logical = bool(self._icr >> 11 & 1)
                targets = self._bus.addressed(self._icr_high >> 24, logical)
            case 1:
                targets = [self]
            case 2:
                targets = list(self._bus.apics)
            case _:
                targets = [apic for apic in self._bus.apics if apic is not self]
        self._bus.deliver(targets, self._icr)

    def state(self) -> dict:
        def vectors(bits: int) -> list[int]:
            return [v for v in range(256) if bits >> v & 1]

        return {
            "id": self._id,
            "tpr": self._tpr,
            "ppr": self.ppr,
            "ldr": self._ldr,
            "dfr": self._dfr,
            "svr": self._svr,
            "irr": vectors(self.irr),
            "isr": vectors(self.isr),
            "tmr": vectors(self.tmr),
            "intr": int(self.intr),
        }


class ApicBus:
    """All local APICs, and messages to them."""

    def __init__(self, count: int, choices: Implementation, counters: Counter):
        self._choices = choices
        self._counters = counters
        self.apics = [LocalApic(cpu, choices, self) for cpu in range(count)]

    def addressed(self, destination: int, logical: bool) -> "list[LocalApic]":
        return [apic for apic in self.apics if apic.is_addressed(destination, logical)]

    def message(self, address: int, data: int, lanes: int) -> None:
        """A device's write to 0xFEEx_xxxx: destination and mode in the address, vector in the data.

        The reserved address bits [11:4] have no effect; a part of a word is no message.
        """
        if lanes != WORD:
            self._counters["APIC: not a whole word"] += 1
            return
        targets = self.addressed(field(address, 19, 12), bool(address >> 2 & 1))
        self.deliver(targets, data, any_one=bool(address >> 3 & 1))

    def deliver(self, targets: "list[LocalApic]", data: int, any_one: bool = False) -> None:
        """Vector [7:0], delivery mode [10:8], level b14, trigger b15; as in messages so in ICR.

        A level-triggered deassert means nothing; modes other than fixed and lowest-priority are
        not understood. ``any_one``: one of the targets is enough.
        """
        level, mode = bool(data >> 15 & 1), field(data, 10, 8)
        if level and not data >> 14 & 1:
            return
        accepting = [apic for apic in targets if apic.accepting]
        if mode not in (FIXED, LOWEST_PRIORITY) or not accepting:
            self._counters["APIC: bad message"] += 1
            return
        if any_one or mode == LOWEST_PRIORITY:
            accepting = [self._arbitrate(accepting)]
        for apic in accepting:
            apic.accept(data & 0xFF, level)

    def _arbitrate(self, candidates: "list[LocalApic]") -> LocalApic:
        if self._choices.lapic_arbitration == "first":
            return candidates[0]
        return min(candidates, key=lambda apic: apic.ppr)
