"""What the architecture leaves to an implementation, and what this model has chosen.

The differential tests set these fields to what the hardware under test publishes; everything else
in this package is architecture and has no knob. Section numbers refer to the facts.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from .bits import span

Reaction = Literal["drop", "keep"]
Disable = Literal["drop", "write_back"]
Narrow = Literal["merge", "ignore"]
Surplus = Literal["drop", "fold"]
SurplusEntry = Literal["drop", "first"]
NarrowLapic = Literal["merge", "ignore", "error"]
Arbitration = Literal["first", "least_busy"]

FIRST_ID = 0xFFD0
"""Offset of the first identification register of a GIC frame; they fill it to its end."""


@dataclass(frozen=True)
class Implementation:
    """Identification values, sizes and legal freedoms.

    Attributes
    ----------
    priority_bits : int
        Implemented bits at the top of an 8-bit priority, 4 to 8 of them; as many take part in
        preemption, of which one AP1R0 can hold five at most (section 6).
    nonsecure_bpr : bool
        BPR1 counts as in the Non-secure state: minimum one higher, group mask ``~0 << BPR``.
        Otherwise mask ``~0 << (BPR + 1)``. The finest split is the same.
    gicd_iidr, gicr_iidr, gits_iidr : int
        Identification: implementer, product, revision.
    pidr2 : int
        Architecture revision in bits 7:4. The other identification registers are those of Arm's
        parts; software does not look at them.
    interrupt_id_bits : int
        Width of an INTID, TYPER.IDbits + 1.
    report_lpi_count : bool
        GICD_TYPER.num_LPIs says how many LPIs there are when that is a power of two.
    affinity_3 : bool
        A3V of GICD_TYPER, ICC_CTLR and ICH_VTR: Aff3 may be non-zero.
    common_lpi_affinity : int
        GICR_TYPER.CommonLPIAff; 0 says that all redistributors share one property table.
    clear_enable_lpis : bool
        GICR_CTLR.CES: EnableLPIs may go back to 0.
    pending_on_disable : "drop" or "write_back"
        What happens to pending LPIs when it does: forgotten, or written to the pending table.
    invalidate_registers : bool
        GICR_CTLR.IR: INVLPIR and INVALLR work beside an ITS too. Without an ITS they always do.
    lpis_off_target : "drop" or "keep"
        MOVI and MOVALL towards a redistributor whose LPIs are off: the pending state is lost, or
        stays where it is (section 9).
    setspi_bits : int
        Bits of SETSPI_NSR and CLRSPI_NSR that are looked at (section 2).
    narrow_writes : "merge" or "ignore"
        An 8- or 16-bit write to a register that has only 32-bit accesses: its other bytes stay,
        or nothing happens. Actions (SETLPIR, INVLPIR, INVALLR, ICR) ignore such writes always.
    cpu_messages : bool
        A CPU's own write to GITS_TRANSLATER is translated with its CPU number as DeviceID;
        otherwise ignored.
    device_entry_bytes, collection_entry_bytes, translation_entry_bytes : int
        What GITS_BASER0, GITS_BASER1 and GITS_TYPER report (section 4.1).
    hppir_ignores_mask : bool
        HPPIR1 shows the best pending interrupt even when PMR or a running interrupt keeps it from
        being signalled. Otherwise exactly what IAR1 would return.
    idle_eoi_deactivates : bool
        EOIR with no active priority is unpredictable: it still deactivates, or does nothing.
    sgi_checks_group : bool
        SGI1R generates an SGI only at PEs where it is configured in group 1.
    sleep_blocks : bool
        A redistributor that sleeps (WAKER) signals nothing to its PE.
    list_registers : int
        ICH_LR0 and up, 1 to 16 of them.
    maintenance_intid : int
        PPI that ICH_MISR drives while ICH_HCR.En is set.
    hcr_mask, vmcr_mask, lr_mask : int
        Bits that can be written; the others keep their reset value (section 7).
    lr_pintid_bits : int
        Bits of ICH_LR.pINTID that are looked at.
    sre : int
        What ICC_SRE_EL1 reads as; writes are ignored.
    lapic_arbitration : "first" or "least_busy"
        Which of the enabled APICs that are addressed takes a lowest-priority message or one with
        a redirection hint: the lowest numbered, or the one with the lowest processor priority.
    lapic_illegal_register : bool
        An access to a register that no local APIC has sets ESR bit 7.
    lapic_id_writable : bool
        Whether software can change a local APIC's id.
    lapic_version : int
        Local APIC register 0x30.
    lapic_esr_latched : bool
        ESR shows the errors up to the last write to it; otherwise those since then.
    lapic_off_delivers : bool
        A software-disabled local APIC still delivers what its IRR holds.
    lapic_narrow : "merge", "ignore" or "error"
        The same for the registers of a local APIC; "error" is for reads too.
    lapic_local_storage : bool
        The local vector table and the timer's registers remember what is written, the timer's
        current count excepted, and the table is masked after reset. Otherwise they read zero.
    surplus_vector : "drop" or "fold"
        An event with a vector number at or above the enabled count of MSI messages: none leaves,
        or that of the number modulo the count.
    surplus_entry : "drop" or "first"
        An event with a vector number beyond the MSI-X table, or beyond all that the function has:
        none leaves, or it counts for vector 0.
    status_beside_messages : bool
        The interrupt status bit of a function also shows while MSI or MSI-X is enabled, when the
        pin is silent.
    """

    priority_bits: int = 5
    nonsecure_bpr: bool = True
    interrupt_id_bits: int = 16
    gicd_iidr: int = 0x0000_043B
    gicr_iidr: int = 0x0000_043B
    gits_iidr: int = 0x0000_043B
    pidr2: int = 0x3B
    report_lpi_count: bool = True
    affinity_3: bool = True
    common_lpi_affinity: int = 0
    clear_enable_lpis: bool = True
    pending_on_disable: Disable = "drop"
    invalidate_registers: bool = True
    lpis_off_target: Reaction = "drop"
    setspi_bits: int = 10
    narrow_writes: Narrow = "merge"
    cpu_messages: bool = False
    device_entry_bytes: int = 8
    collection_entry_bytes: int = 8
    translation_entry_bytes: int = 8
    hppir_ignores_mask: bool = True
    idle_eoi_deactivates: bool = True
    sgi_checks_group: bool = True
    sleep_blocks: bool = True
    list_registers: int = 4
    maintenance_intid: int = 25
    hcr_mask: int = span((31, 27), (14, 10), (7, 0))
    vmcr_mask: int = span((31, 24), (23, 21), (20, 18), 9, 4, 1, 0)
    lr_mask: int = span((31, 0), (44, 32), (55, 48), (63, 60))
    lr_pintid_bits: int = 13
    sre: int = 0x7
    lapic_arbitration: Arbitration = "first"
    lapic_illegal_register: bool = True
    lapic_id_writable: bool = False
    lapic_version: int = 0x0005_0014
    lapic_esr_latched: bool = True
    lapic_off_delivers: bool = False
    lapic_narrow: NarrowLapic = "merge"
    lapic_local_storage: bool = False
    surplus_vector: Surplus = "drop"
    surplus_entry: SurplusEntry = "drop"
    status_beside_messages: bool = True

    def __post_init__(self):
        for name, choices in (
            ("pending_on_disable", Disable),
            ("lpis_off_target", Reaction),
            ("narrow_writes", Narrow),
            ("lapic_narrow", NarrowLapic),
            ("surplus_vector", Surplus),
            ("surplus_entry", SurplusEntry),
            ("lapic_arbitration", Arbitration),
        ):
            value = getattr(self, name)
            if value not in get_args(choices):
                accepted = " or ".join(repr(choice) for choice in get_args(choices))
                raise ValueError(f"Implementation.{name} must be {accepted}, not {value!r}")
        for name, low, high in (
            ("priority_bits", 4, 8),
            ("interrupt_id_bits", 14, 16),
            ("list_registers", 1, 16),
            ("maintenance_intid", 16, 31),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(
                    f"Implementation.{name} must be between {low} and {high}, not {value}"
                )

    @property
    def priority_mask(self) -> int:
        """The implemented bits of a priority byte."""
        return 0xFF << 8 - self.priority_bits & 0xFF

    @property
    def preemption_bits(self) -> int:
        return min(self.priority_bits, 5)

    @property
    def minimum_bpr(self) -> int:
        """Smallest BPR1: the finest split of a priority that AP1R0 can tell apart."""
        return 7 - self.preemption_bits + self.nonsecure_bpr

    def identification(self, offset: int, part: int) -> int:
        """PIDR4-7, PIDR0-3 and CIDR0-3 of the frame with this part number (low byte)."""
        values = (0x44, 0, 0, 0, part, 0xB4, self.pidr2, 0, 0x0D, 0xF0, 0x05, 0xB1)
        return values[(offset - FIRST_ID) // 4]

    def group_mask(self, bpr: int) -> int:
        """The bits of a priority that decide about preemption at binary point ``bpr``."""
        return 0xFF << (bpr if self.nonsecure_bpr else bpr + 1) & 0xFF


@dataclass(frozen=True)
class AddressMap:
    """Where things are; as on QEMU's ``virt`` machine.

    ``gicr`` is the first redistributor's RD_base; the others follow at 128 KiB each, unless
    ``gicr_bases`` names them one by one. ``gits_translation`` is the frame with GITS_TRANSLATER.
    """

    gicd: int = 0x0800_0000
    gits: int = 0x0808_0000
    gits_translation: int = 0x0809_0000
    gicr: int = 0x080A_0000
    gicr_bases: "tuple[int, ...] | None" = None
    mmio: int = 0x1000_0000
    mmio_bytes: int = 256 << 20
    ecam: int = 0x3F00_0000
    ecam_bytes: int = 16 << 20
    ram: int = 0x4000_0000
    lapic: int = 0xFEE0_0000

    def redistributor(self, cpu: int) -> int:
        """RD_base of ``cpu``'s redistributor; its SGI_base is 64 KiB above."""
        if self.gicr_bases is not None:
            return self.gicr_bases[cpu]
        return self.gicr + cpu * 0x2_0000


@dataclass(frozen=True)
class PciLayout:
    """How the functions look in configuration space and where their interrupt pins go.

    A machine takes one for all functions or one for each. Function ``k`` is device
    ``first_device + k`` on bus 0; its requester id, which the ITS sees as DeviceID, is eight times
    that. Pin ``p`` of device ``d`` drives
    ``intx_intids[(d + p) % 4]`` (INTA is p = 0), as PCI bridges swizzle. ``pin`` is what the
    interrupt pin register says: 1 for INTA. ``subsystem``: the subsystem ids repeat vendor and
    device; otherwise they read zero. ``express_offset`` is where the PCI Express capability
    stands, if there is one.
    """

    first_device: int = 1
    vendor_id: int = 0x1209
    device_id: int = 0x0001
    class_revision: int = 0xFF00_0001
    msi_offset: int = 0x50
    msix_offset: int = 0x70
    express_offset: "int | None" = None
    subsystem: bool = False
    pin: int = 1
    bar_bytes: int = 0x2000
    bar_64: bool = False
    table_offset: int = 0x1000
    pba_offset: int = 0x1800
    intx_intids: "tuple[int, int, int, int]" = (35, 36, 37, 38)

    def requester_id(self, endpoint: int) -> int:
        return self.first_device + endpoint << 3
