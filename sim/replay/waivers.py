"""Differences between two correct machines: by register and bits, each with its reason.

A waiver names bits, never values: what it covers may differ in any way, everything else must be
equal to the last bit.
"""

from typing import NamedTuple

from hdl.registers.gicd import GicdRegister
from hdl.registers.gicr import GicrRegister
from hdl.registers.gits import GitsRegister
from hdl.registers.sysreg import SystemRegister

IDENTIFICATION = "identification register: names the implementation"
SIZES = "how many of what the implementation has"
FEATURES = "an optional feature that only one of the two has"
ENTRY_SIZE = "size of a translation entry: each ITS has its own table format"
TWO_LEVELS = "the gateware's ITS tables have one level; they are made larger instead"
ABSENT = "the recorded machine does not have this register"
GROUP_0 = "group 0 is not implemented: every interrupt here is group 1"


class Waiver(NamedTuple):
    """Bits ``mask`` of the register at ``offset`` of ``frame`` are waived for ``reason``.

    With frame ICC, ``offset`` is the number of the system register.
    """

    frame: str
    offset: int
    mask: int
    reason: str


_ALL = 0xFFFF_FFFF
_FIRST_ID, _END_ID = 0xFFD0, 0x1_0000

WAIVERS: tuple[Waiver, ...] = (
    Waiver("GICD", GicdRegister.IIDR, _ALL, IDENTIFICATION),
    Waiver("GICR", GicrRegister.IIDR, _ALL, IDENTIFICATION),
    Waiver("GITS", GitsRegister.IIDR, _ALL, IDENTIFICATION),
    # ITLinesNumber, CPUNumber, num_LPIs, IDbits
    Waiver("GICD", GicdRegister.TYPER, 0x00F8_F8FF, SIZES),
    # ESPI, NMI, MBIS, DVIS, No1N, RSS
    Waiver("GICD", GicdRegister.TYPER, 0x0605_0300, FEATURES),
    Waiver("GICD", GicdRegister.TYPER2, _ALL, FEATURES),
    # PRIbits, IDbits
    Waiver("ICC", SystemRegister.ICC_CTLR_EL1, 0x3F << 8, SIZES),
    # SEIS, A3V, RSS, ExtRange
    Waiver("ICC", SystemRegister.ICC_CTLR_EL1, 3 << 14 | 3 << 18, FEATURES),
    # CES, IR
    Waiver("GICR", GicrRegister.CTLR, 0x0000_0006, FEATURES),
    # DirectLPI, DPGS; CommonLPIAff
    Waiver("GICR", GicrRegister.TYPER, 1 << 3 | 1 << 5 | 3 << 24, FEATURES),
    Waiver("GITS", GitsRegister.TYPER, 0xF << 4, ENTRY_SIZE),
    # ID_bits, Devbits; CIDbits and CIL
    Waiver("GITS", GitsRegister.TYPER, 0x1F << 8 | 0x1F << 13 | 0x1F << 32, SIZES),
)


def waived_bits(frame: str, offset: int, size: int) -> list[tuple[int, str]]:
    """(mask, reason) of what may differ in ``size`` bytes from ``offset`` on, in place."""
    if frame == "ICC":
        return [(w.mask, w.reason) for w in WAIVERS if (w.frame, w.offset) == (frame, offset)]
    if _FIRST_ID <= offset < _END_ID:
        return [((1 << 8 * size) - 1, IDENTIFICATION)]
    found = []
    for waiver in WAIVERS:
        shift = 8 * (offset - waiver.offset)
        if waiver.frame == frame and -64 < shift < 64:
            mask = waiver.mask >> shift if shift >= 0 else waiver.mask << -shift
            mask &= (1 << 8 * size) - 1
            if mask:
                found.append((mask, waiver.reason))
    return found
