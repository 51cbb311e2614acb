"""GICv3 list registers: field layouts of the ICH_* registers.

Layouts follow the GICv3 architecture (Arm IHI 0069, virtualization control system registers).
Register numbers stand in :mod:`.sysreg`.
"""

from amaranth.lib import data, enum

LIST_REGISTERS = 4
MAINTENANCE_INTID = 25
"""The PPI that a list register's maintenance request raises, as a level."""


class ListState(enum.Enum, shape=2):
    INVALID = 0
    PENDING = 1
    ACTIVE = 2
    PENDING_ACTIVE = 3


class IchLr(data.Struct):
    """``ICH_LR<n>_EL2``.

    ``pintid`` is the physical interrupt to deactivate when ``hw`` is one. When it is zero, bit 41
    of the register (``pintid[9]``) asks for a maintenance interrupt at the end of interrupt.
    """

    vintid: 32
    pintid: 13
    _45: 3
    priority: 8
    _56: 3
    nmi: 1
    group: 1
    hw: 1
    state: ListState


class IchHcr(data.Struct):
    """``ICH_HCR_EL2``: what raises the maintenance interrupt, and how many EOIs found no entry."""

    en: 1
    uie: 1
    lrenpie: 1
    npie: 1
    vgrp0eie: 1
    vgrp0die: 1
    vgrp1eie: 1
    vgrp1die: 1
    vsgi_eoi_count: 1
    _9: 1
    tc: 1
    tall0: 1
    tall1: 1
    tsei: 1
    tdir: 1
    dvim: 1
    _16: 11
    eoi_count: 5


class IchMisr(data.Struct):
    """``ICH_MISR_EL2``: which maintenance conditions hold."""

    eoi: 1
    u: 1
    lrenp: 1
    np: 1
    vgrp0e: 1
    vgrp0d: 1
    vgrp1e: 1
    vgrp1d: 1


class IchVmcr(data.Struct):
    """``ICH_VMCR_EL2``: the guest's CPU interface as the hypervisor saves and restores it."""

    veng0: 1
    veng1: 1
    vackctl: 1
    vfiqen: 1
    vcbpr: 1
    _5: 4
    veoim: 1
    _10: 8
    vbpr1: 3
    vbpr0: 3
    vpmr: 8


class IchVtr(data.Struct):
    """``ICH_VTR_EL2``. ``list_regs``, ``pre_bits`` and ``pri_bits`` are one less."""

    list_regs: 5
    _5: 14
    tds: 1
    nv4: 1
    a3v: 1
    seis: 1
    id_bits: 3
    pre_bits: 3
    pri_bits: 3
