"""Redistributor: SGIs, PPIs and LPIs of one CPU (section 3)."""

from .bank import FIRST, LAST, InterruptBank
from .bits import WORD, half, merge_half, span
from .gicd import affinity
from .implementation import FIRST_ID, Implementation
from .lpi import LpiUnit
from .memory import Memory
from .shape import Shape

SGI_BASE = 0x10000
SGIS = 0xFFFF
"""INTIDs 0-15, as bits: always edge."""

CTLR, IIDR, TYPER, WAKER = 0x0000, 0x0004, 0x0008, 0x0014
SETLPIR, CLRLPIR = 0x0040, 0x0048
PROPBASER, PENDBASER = 0x0070, 0x0078
INVLPIR, INVALLR, SYNCR = 0x00A0, 0x00B0, 0x00C0
PART = 0x93

PROPBASER_MASK = span((58, 56), (51, 12), (11, 10), (9, 7), (4, 0))
PENDBASER_MASK = span((58, 56), (51, 16), (11, 10), (9, 7))
PTZ = 1 << 62


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
        return SGI_BASE + 0x400 <= offset < SGI_BASE + 0x800

    def read(self, offset: int) -> int:
        if offset >= SGI_BASE:
            offset -= SGI_BASE
            return self.private.read(offset) if FIRST <= offset <= LAST else 0
        match offset:
            case 0x0000:  # CTLR
                ces = self._choices.clear_enable_lpis and self._has_lpis
                ir = self._choices.invalidate_registers and self._has_lpis
                return self.lpis.enabled | ces << 1 | ir << 2
            case 0x0004:  # IIDR
                return self._choices.gicr_iidr
            case 0x0008 | 0x000C:  # TYPER
                return half(self._typer, offset)
            case 0x0014:  # WAKER: ChildrenAsleep follows ProcessorSleep
                return 0b110 if self.asleep else 0
            case 0x0070 | 0x0074:  # PROPBASER
                return half(self._propbaser, offset)
            case 0x0078 | 0x007C:  # PENDBASER
                return half(self._pendbaser & PENDBASER_MASK, offset)
        return self._choices.identification(offset, PART) if offset >= FIRST_ID else 0

    def write(self, offset: int, value: int, lanes: int) -> None:
        if offset >= SGI_BASE:
            offset -= SGI_BASE
            if FIRST <= offset <= LAST:
                self.private.write(offset, value, lanes)
        elif offset == WAKER:
            if lanes & 2:
                self.asleep = bool(value & 2)
        elif self._has_lpis:
            self._write_lpi_register(offset, value, lanes)

    def _write_lpi_register(self, offset: int, value: int, lanes: int) -> None:
        if offset == CTLR:
            if lanes & 1:
                self._enable_lpis(bool(value & 1))
        elif offset & ~4 == PROPBASER:
            if not self.lpis.enabled:
                new = merge_half(self._propbaser, offset, value, lanes)
                self._propbaser = new & PROPBASER_MASK
        elif offset & ~4 == PENDBASER:
            if not self.lpis.enabled:
                new = merge_half(self._pendbaser, offset, value, lanes)
                self._pendbaser = new & (PENDBASER_MASK | PTZ)
        elif lanes != WORD:
            return  # what remains are actions, which only a whole word starts
        elif offset == SETLPIR and self._direct:
            self.lpis.set(value)
        elif offset == CLRLPIR and self._direct:
            self.lpis.clear(value)
        elif self._direct or self._choices.invalidate_registers:
            if offset == INVLPIR:
                self.lpis.invalidate(value)
            elif offset == INVALLR:
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
