"""System registers reachable through a CPU port, by architectural name.

The numbers are ours: a CPU port has no instruction encoding, only a register number. Meaning and
fields: :mod:`.icc` (physical and virtual CPU interface), :mod:`.ich` (list registers).
"""

import enum


class SystemRegister(enum.IntEnum):
    """Number of each register in :class:`hdl.cpu_port.CpuRequest`'s ``address``."""

    ICC_IAR1_EL1 = 0x00
    ICC_HPPIR1_EL1 = 0x01
    ICC_EOIR1_EL1 = 0x02
    ICC_DIR_EL1 = 0x03
    ICC_PMR_EL1 = 0x04
    ICC_BPR1_EL1 = 0x05
    ICC_RPR_EL1 = 0x06
    ICC_CTLR_EL1 = 0x07
    ICC_IGRPEN1_EL1 = 0x08
    ICC_SGI1R_EL1 = 0x09
    ICC_AP1R0_EL1 = 0x0A
    ICC_SRE_EL1 = 0x0B

    ICH_HCR_EL2 = 0x20
    ICH_VTR_EL2 = 0x21
    ICH_VMCR_EL2 = 0x22
    ICH_MISR_EL2 = 0x23
    ICH_EISR_EL2 = 0x24
    ICH_ELRSR_EL2 = 0x25
    ICH_AP1R0_EL2 = 0x26
    ICH_LR0_EL2 = 0x28
    ICH_LR1_EL2 = 0x29
    ICH_LR2_EL2 = 0x2A
    ICH_LR3_EL2 = 0x2B

    ICV_IAR1_EL1 = 0x30
    ICV_HPPIR1_EL1 = 0x31
    ICV_EOIR1_EL1 = 0x32
    ICV_DIR_EL1 = 0x33
    ICV_PMR_EL1 = 0x34
    ICV_BPR1_EL1 = 0x35
    ICV_RPR_EL1 = 0x36
    ICV_CTLR_EL1 = 0x37
    ICV_IGRPEN1_EL1 = 0x38
    ICV_AP1R0_EL1 = 0x3A

    LAPIC_INTA = 0x3F
    """Reading it is the interrupt-acknowledge cycle of an x86 CPU; the value is the vector."""
