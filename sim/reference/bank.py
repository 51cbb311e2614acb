"""Interrupts that have an active state: SGIs and PPIs of a redistributor, SPIs of the distributor.

The state machine is that of section 2.1 of the facts, and it needs no states: five bits per
interrupt say everything. ::

    pending  = latch, or level-sensitive and the line is high
    signalled only while pending and enabled and in group 1 and not active

An edge, a write to ISPENDR and a message set the latch; an acknowledge, a write to ICPENDR and
CLRSPI clear it. That is why a level interrupt is pending again in the moment it is deactivated
with its line still high, and why any number of edges during a handler become one.
"""

from collections.abc import Iterator

from .bits import WORD, merge, ones
from .implementation import Implementation

Candidate = tuple[int, int]
"""(priority, INTID): the smaller one is the more urgent one, the lower INTID among equals."""


class Array:
    """Offsets of the first word of each register array, the same in GICD and SGI_base."""

    IGROUPR = 0x080
    ISENABLER = 0x100
    ICENABLER = 0x180
    ISPENDR = 0x200
    ICPENDR = 0x280
    ISACTIVER = 0x300
    ICACTIVER = 0x380
    IPRIORITYR = 0x400
    ITARGETSR = 0x800
    ICFGR = 0xC00


FIRST, LAST = Array.IGROUPR, Array.ICFGR + 0xFC
"""The words that a bank answers."""


def is_priority(offset: int) -> bool:
    return Array.IPRIORITYR <= offset < Array.ITARGETSR


class InterruptBank:
    """INTIDs ``first`` to ``first + count - 1`` and their registers, 0x080 to 0xCFF of a frame.

    A bit or byte of an INTID that the bank does not have reads zero and ignores writes: in GICD
    those of INTIDs 0-31 (section 2), in SGI_base those above.

    Parameters
    ----------
    fixed_edge : int
        INTIDs (a bit set) whose trigger is edge and cannot be changed: SGIs.
    """

    def __init__(self, first: int, count: int, choices: Implementation, fixed_edge: int = 0):
        self.implemented = (1 << count) - 1 << first
        self.enable = self.latch = self.line = self.active = self.group1 = 0
        self.edge = self._fixed_edge = fixed_edge & self.implemented
        self.priority = bytearray(1024)
        self._priority_mask = choices.priority_mask
        self._drivers: dict[int, set[object]] = {}

    def __contains__(self, intid: int) -> bool:
        return intid >= 0 and bool(self.implemented >> intid & 1)

    @property
    def pending(self) -> int:
        return self.latch | self.line & ~self.edge

    def candidate(self, eligible: int = -1) -> "Candidate | None":
        """The most urgent interrupt, among ``eligible`` ones, that can be signalled now."""
        ready = self.pending & self.enable & self.group1 & ~self.active & eligible
        if not ready:
            return None
        return min((self.priority[intid], intid) for intid in ones(ready))

    # Events -----------------------------------------------------------------------------------

    def set_line(self, intid: int, level: bool, driver: object = "wire") -> None:
        """``driver`` asserts or releases its side of a shared line; the line is the OR of all."""
        drivers = self._drivers.setdefault(intid, set())
        (drivers.add if level else drivers.discard)(driver)
        bit = 1 << intid
        was_high = self.line & bit
        if not drivers:
            self.line &= ~bit
        elif not was_high:
            self.line |= bit
            self.latch |= self.edge & bit

    def set_pending(self, intid: int) -> None:
        """ISPENDR, SETSPI, an SGI. An INTID that is not here changes nothing."""
        self.latch |= 1 << intid & self.implemented

    def clear_pending(self, intid: int) -> None:
        """ICPENDR, CLRSPI; a high line keeps a level interrupt pending."""
        self.latch &= ~(1 << intid)

    def acknowledge(self, intid: int) -> None:
        self.active |= 1 << intid & self.implemented
        self.latch &= ~(1 << intid)

    def deactivate(self, intid: int) -> None:
        self.active &= ~(1 << intid)

    # Registers --------------------------------------------------------------------------------

    def read(self, offset: int) -> int:
        if is_priority(offset):
            first = offset - Array.IPRIORITYR
            return int.from_bytes(self.priority[first : first + 4], "little")
        if offset >= Array.ICFGR:
            edges = self.edge >> 4 * (offset - Array.ICFGR)
            return sum(2 << 2 * i for i in range(16) if edges >> i & 1)
        bits = {
            Array.IGROUPR: self.group1,
            Array.ISENABLER: self.enable,
            Array.ICENABLER: self.enable,
            Array.ISPENDR: self.pending,
            Array.ICPENDR: self.pending,
            Array.ISACTIVER: self.active,
            Array.ICACTIVER: self.active,
        }.get(offset & 0xF80, 0)
        return bits >> 8 * (offset & 0x7C) & WORD

    def write(self, offset: int, value: int, lanes: int) -> None:
        if is_priority(offset):
            self._write_priorities(offset - Array.IPRIORITYR, value, lanes)
        elif offset >= Array.ICFGR:
            self._write_triggers(4 * (offset - Array.ICFGR), value, lanes)
        else:
            shift = 8 * (offset & 0x7C)
            bits = (value & lanes) << shift & self.implemented
            match offset & 0xF80:
                case Array.IGROUPR:
                    touched = lanes << shift & self.implemented
                    self.group1 = merge(self.group1, bits, touched)
                case Array.ISENABLER:
                    self.enable |= bits
                case Array.ICENABLER:
                    self.enable &= ~bits
                case Array.ISPENDR:
                    self.latch |= bits
                case Array.ICPENDR:
                    self.latch &= ~bits
                case Array.ISACTIVER:
                    self.active |= bits
                case Array.ICACTIVER:
                    self.active &= ~bits

    def _write_priorities(self, first: int, value: int, lanes: int) -> None:
        for i in range(4):
            if lanes >> 8 * i & 1 and first + i in self:
                self.priority[first + i] = value >> 8 * i & self._priority_mask

    def _write_triggers(self, first: int, value: int, lanes: int) -> None:
        for i in range(16):
            bit = 1 << first + i & self.implemented & ~self._fixed_edge
            if lanes >> 2 * i & 1:
                self.edge = self.edge | bit if value >> 2 * i + 1 & 1 else self.edge & ~bit

    # For comparison ---------------------------------------------------------------------------

    def _listed(self, bits: int) -> Iterator[int]:
        return ones(bits & self.implemented)

    def state(self) -> dict:
        """INTIDs by property, ascending; only priorities other than zero are listed."""
        return {
            "enabled": list(self._listed(self.enable)),
            "pending": list(self._listed(self.pending)),
            "active": list(self._listed(self.active)),
            "group1": list(self._listed(self.group1)),
            "edge": list(self._listed(self.edge)),
            "priority": {i: self.priority[i] for i in self._listed(-1) if self.priority[i]},
        }
