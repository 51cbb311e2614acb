"""Redistributor: SGIs, PPIs and LPIs of one CPU (section 3)."""

from .bank import FIRST, LAST, InterruptBank, is_priority
from .bits import WORD, half, merge_half, span
from .gicd import affinity
from .implementation import FIRST_ID, Implementation
from .lpi import LpiUnit
from .memory import Memory
from .shape import Shape

SGI_BASE = 0x10000
SGIS = 0xFFFF
"""INTIDs 0-15, as bits: always edge."""

PART = 0x93


class Register:
    """Offsets in RD_base."""

    CTLR = 0x0000
    IIDR = 0x0004
    TYPER = 0x0008
    WAKER = 0x0014
    SETLPIR = 0x0040
    CLRLPIR = 0x0048
    PROPBASER = 0x0070
    PENDBASER = 0x0078
    INVLPIR = 0x00A0
    INVALLR = 0x00B0


PROPBASER_MASK = span((58, 56), (51, 12), (11, 10), (9, 7), (4, 0))
PENDBASER_MASK = span((58, 56), (51, 16), (11, 10), (9, 7))
PTZ = 1 << 62

WIDE = (Register.TYPER, Register.PROPBASER, Register.PENDBASER)
"""Registers of 64 bits, accessed by halves."""


class Redistributor:
    """RD_base at 0, SGI_base at 0x10000: 128 KiB.

    SYNCR and CTLR.RWP always read 0: what they would wait for has already happened.
    """

    def __init__(self, cpu: int, shape: Shape, choices: Implementation, memory: Memory):
        self.cpu = cpu
        self._choices = choices
        self._direct = not shape.its and shape.lpis > 0
        self._has_lpis = shape.lpis > 0
        self.private = InterruptBank(0, 32, choices, fixed_edge=SGIS)
        self.lpis = LpiUnit(memory, shape.lpis, choices)
        self.asleep = True
        self._propbaser = 0
        self._pendbaser = 0  # with PTZ, which does not read back
        self._typer = (
            self._has_lpis
            | self._direct << 3
            | (cpu == shape.cpus - 1) << 4
            | cpu << 8
            | choices.common_lpi_affinity << 24
            | affinity(cpu) << 32
        )

    def narrow(self, offset: int) -> bool:
        """Whether the register takes 8-bit writes (section 1)."""
        return is_priority(offset - SGI_BASE)

    def read(self, offset: int) -> int:
        if offset >= SGI_BASE:
            offset -= SGI_BASE
            return self.private.read(offset) if FIRST <= offset <= LAST else 0
        match offset & ~4 if offset & ~4 in WIDE else offset:
            case Register.CTLR:
                ces = self._choices.clear_enable_lpis and self._has_lpis
                ir = self._choices.invalidate_registers and self._has_lpis
                return self.lpis.enabled | ces << 1 | ir << 2
            case Register.IIDR:
                return self._choices.gicr_iidr
            case Register.TYPER:
                return half(self._typer, offset)
            case Register.WAKER:  # ChildrenAsleep follows ProcessorSleep
                return 0b110 if self.asleep else 0
            case Register.PROPBASER:
                return half(self._propbaser, offset)
            case Register.PENDBASER:
                return half(self._pendbaser & PENDBASER_MASK, offset)
        return self._choices.identification(offset, PART) if offset >= FIRST_ID else 0

    def write(self, offset: int, value: int, lanes: int) -> None:
        if offset >= SGI_BASE:
            offset -= SGI_BASE
            if FIRST <= offset <= LAST:
                self.private.write(offset, value, lanes)
        elif offset == Register.WAKER:
            if lanes & 2:
                self.asleep = bool(value & 2)
        elif self._has_lpis:
            self._write_lpi_register(offset, value, lanes)

    def _write_lpi_register(self, offset: int, value: int, lanes: int) -> None:
        if offset == Register.CTLR:
            if lanes & 1:
                self._enable_lpis(bool(value & 1))
        elif offset & ~4 in WIDE:
            if not self.lpis.enabled:
                self._write_base(offset, value, lanes)
        elif lanes == WORD:
            self._act(offset, value)

    def _write_base(self, offset: int, value: int, lanes: int) -> None:
        if offset & ~4 == Register.PROPBASER:
            new = merge_half(self._propbaser, offset, value, lanes)
            self._propbaser = new & PROPBASER_MASK
        elif offset & ~4 == Register.PENDBASER:
            new = merge_half(self._pendbaser, offset, value, lanes)
            self._pendbaser = new & (PENDBASER_MASK | PTZ)

    def _act(self, offset: int, value: int) -> None:
        """Registers that do something, which takes a whole word."""
        invalidates = self._direct or self._choices.invalidate_registers
        match offset:
            case Register.SETLPIR if self._direct:
                self.lpis.set(value)
            case Register.CLRLPIR if self._direct:
                self.lpis.forget(value)
            case Register.INVLPIR if invalidates:
                self.lpis.invalidate(value)
            case Register.INVALLR if invalidates:
                self.lpis.invalidate(None)

    def _enable_lpis(self, on: bool) -> None:
        if on and not self.lpis.enabled:
            self.lpis.switch_on(self._propbaser, self._pendbaser, bool(self._pendbaser & PTZ))
        elif not on and self._choices.clear_enable_lpis:
            self.lpis.switch_off()

    def state(self) -> dict:
        return {
            "asleep": self.asleep,
            "private": self.private.state(),
            "lpis": self.lpis.state(),
            "propbaser": self._propbaser,
            "pendbaser": self._pendbaser & PENDBASER_MASK,
        }
