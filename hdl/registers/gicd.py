"""GICv3 distributor: register offsets, field layouts, and the identification registers.

Layouts follow the GICv3 architecture (Arm IHI 0069, distributor registers), single-security view:
``GICD_CTLR.DS`` is one, affinity routing is always on. :class:`IdentificationRegister` and the
per-interrupt arrays have the same offsets in a redistributor's SGI frame, where they cover
INTID 0 to 31.

The layouts work in plain Python too: ``GicdTyper.from_bits(value).it_lines_number`` takes a
register value apart, ``GicdCtlr.const({"enable_group1": 1}).as_bits()`` puts one together.
"""

import enum

from amaranth.lib import data

FRAME_BYTES = 0x1_0000


class GicdRegister(enum.IntEnum):
    """Offset of each register in the frame; of the arrays, of their first word."""

    CTLR = 0x0000
    TYPER = 0x0004
    IIDR = 0x0008
    TYPER2 = 0x000C
    STATUSR = 0x0010
    SETSPI_NSR = 0x0040
    CLRSPI_NSR = 0x0048
    IGROUPR = 0x0080
    ISENABLER = 0x0100
    ICENABLER = 0x0180
    ISPENDR = 0x0200
    ICPENDR = 0x0280
    ISACTIVER = 0x0300
    ICACTIVER = 0x0380
    IPRIORITYR = 0x0400
    ITARGETSR = 0x0800
    ICFGR = 0x0C00
    IGRPMODR = 0x0D00
    SGIR = 0x0F00
    IROUTER = 0x6000
    PIDR2 = 0xFFE8


class GicdCtlr(data.Struct):
    """``GICD_CTLR``. ``are`` and ``ds`` always read one; ``rwp``: a clearing is under way."""

    enable_group0: 1
    enable_group1: 1
    _2: 2
    are: 1
    _5: 1
    ds: 1
    e1nwf: 1
    nassg_req: 1
    _9: 22
    rwp: 1


class GicdTyper(data.Struct):
    """``GICD_TYPER``. INTIDs below 32 * (it_lines_number + 1); ``id_bits`` is one less."""

    it_lines_number: 5
    cpu_number: 3
    espi: 1
    nmi: 1
    security_extn: 1
    num_lpis: 5
    mbis: 1
    lpis: 1
    dvis: 1
    id_bits: 5
    a3v: 1
    no1n: 1
    rss: 1
    _27: 5


class GicdIrouter(data.Struct):
    """``GICD_IROUTER``: the CPU an SPI goes to. ``irm``: any CPU instead."""

    aff0: 8
    aff1: 8
    aff2: 8
    _24: 7
    irm: 1
    aff3: 8
    _40: 24


IIDR_VALUE = 0x0000_043B
"""Implementer Arm (0x43B), product and revision 0: what QEMU's model reports too."""

CONFIG_EDGE = 0b10
"""The two bits of ICFGR for an edge-triggered interrupt; 0b00 for a level-sensitive one."""


def identification_registers(part: int) -> dict[int, int]:
    """Value of each identification register of a frame by its offset, 0xFFD0 to 0xFFFC.

    ``part`` is the low byte of the part number: 0x92 distributor, 0x93 redistributor, 0x94 ITS.
    PIDR2 bits 7:4 hold the architecture revision, 3.
    """
    values = (0x44, 0, 0, 0, part, 0xB4, 0x3B, 0, 0x0D, 0xF0, 0x05, 0xB1)
    return {0xFFD0 + 4 * i: value for i, value in enumerate(values)}
