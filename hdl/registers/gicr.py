"""GICv3 redistributor: register offsets and field layouts of its two 64 KiB frames.

Layouts follow the GICv3 architecture (Arm IHI 0069, redistributor registers). Physical LPIs only:
the frames that GICv4 adds do not exist. Offsets are relative to RD_base; SGI_base lies 64 KiB
above it and holds for INTID 0 to 31 the arrays that the distributor has for SPIs, at the same
offsets within the frame (:class:`hdl.registers.gicd.GicdRegister`).
"""

import enum

from amaranth.lib import data

SGI_FRAME = 0x1_0000
FRAME_BYTES = 0x2_0000


class GicrRegister(enum.IntEnum):
    """Offset of each register from RD_base; names of SGI_base end in 0 or 1 as in the manual."""

    CTLR = 0x0000
    IIDR = 0x0004
    TYPER = 0x0008
    STATUSR = 0x0010
    WAKER = 0x0014
    SETLPIR = 0x0040
    CLRLPIR = 0x0048
    PROPBASER = 0x0070
    PENDBASER = 0x0078
    INVLPIR = 0x00A0
    INVALLR = 0x00B0
    SYNCR = 0x00C0
    PIDR2 = 0xFFE8

    IGROUPR0 = SGI_FRAME + 0x0080
    ISENABLER0 = SGI_FRAME + 0x0100
    ICENABLER0 = SGI_FRAME + 0x0180
    ISPENDR0 = SGI_FRAME + 0x0200
    ICPENDR0 = SGI_FRAME + 0x0280
    ISACTIVER0 = SGI_FRAME + 0x0300
    ICACTIVER0 = SGI_FRAME + 0x0380
    IPRIORITYR = SGI_FRAME + 0x0400
    ICFGR0 = SGI_FRAME + 0x0C00
    ICFGR1 = SGI_FRAME + 0x0C04
    IGRPMODR0 = SGI_FRAME + 0x0D00
    NSACR = SGI_FRAME + 0x0E00


class GicrCtlr(data.Struct):
    """``GICR_CTLR``. ``rwp`` is bit 3 here, bit 31 in the distributor."""

    enable_lpis: 1
    ces: 1
    ir: 1
    rwp: 1
    _4: 20
    dpg0: 1
    dpg1ns: 1
    dpg1s: 1
    _27: 4
    uwp: 1


class GicrTyper(data.Struct):
    """``GICR_TYPER``, 64 bits. ``last``: no redistributor follows this one."""

    plpis: 1
    vlpis: 1
    dirty: 1
    direct_lpi: 1
    last: 1
    dpgs: 1
    mpam: 1
    rvpeid: 1
    processor_number: 16
    common_lpi_aff: 2
    vsgi: 1
    ppi_num: 5
    affinity: 32


class GicrWaker(data.Struct):
    """``GICR_WAKER``. Out of reset both bits are one; wake up by clearing ``processor_sleep``."""

    _0: 1
    processor_sleep: 1
    children_asleep: 1
    _3: 29


class GicrPropbaser(data.Struct):
    """``GICR_PROPBASER``: ``address`` is bits 51:12 of the table's, ``id_bits`` one less."""

    id_bits: 5
    _5: 2
    inner_cache: 3
    shareability: 2
    address: 40
    _52: 4
    outer_cache: 3
    _59: 5


class GicrPendbaser(data.Struct):
    """``GICR_PENDBASER``: ``address`` is bits 51:16 of the table's; ``ptz`` reads zero."""

    _0: 7
    inner_cache: 3
    shareability: 2
    _12: 4
    address: 36
    _52: 4
    outer_cache: 3
    _59: 3
    ptz: 1
    _63: 1
