"""GICv3 CPU interface: field layouts of the ICC_* registers and of their guest view, ICV_*.

Layouts follow the GICv3 architecture (Arm IHI 0069, system registers). Register numbers stand in
:mod:`.sysreg`. Software runs as Non-secure: the binary point of group 1 has the Non-secure
meaning, so that ``BPR1 = n`` makes bits 7 to n of a priority the group priority.
"""

from amaranth.lib import data

PRIORITY_BITS = 5
"""Implemented bits of a priority, and all of them can preempt."""

PRIORITY_MASK = 0xF8
IDLE_PRIORITY = 0xFF
BPR1_MINIMUM = 8 - PRIORITY_BITS
"""Lowest value of BPR1, also after reset; writing less gives this."""

SPECIAL_INTIDS = range(1020, 1024)
SRE_VALUE = 0b111
"""ICC_SRE_EL1 is fixed: system registers on, no bypass."""


class IccCtlr(data.Struct):
    """``ICC_CTLR_EL1``. ``pri_bits`` is one less; ``id_bits`` 0: INTIDs have 16 bits."""

    cbpr: 1
    eoi_mode: 1
    _2: 4
    pmhe: 1
    _7: 1
    pri_bits: 3
    id_bits: 3
    seis: 1
    a3v: 1
    _16: 2
    rss: 1
    ext_range: 1
    _20: 44


class IccSgi1r(data.Struct):
    """``ICC_SGI1R_EL1``: who gets which SGI. ``irm``: all CPUs but the one that writes."""

    target_list: 16
    aff1: 8
    intid: 4
    _28: 4
    aff2: 8
    irm: 1
    _41: 3
    range_selector: 4
    aff3: 8
    _56: 8
