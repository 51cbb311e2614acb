"""Virtual CPU interface: list registers (ICH) and what a guest sees of them (ICV); section 7.

A list register is one virtual interrupt. With its HW bit set it stands for a physical interrupt
that is active, and the guest's deactivation of the one deactivates the other. Software, not
hardware, keeps two list registers from naming the same interrupt.

Only group 1 has guest registers: a list register of group 0 is never signalled, and VENG0 matters
for the maintenance interrupt alone.
"""

from collections.abc import Callable
from functools import partial

from .bits import WORD, field
from .cpu_interface import FIRST_SPECIAL, SPURIOUS, Access, interface_constants
from .implementation import Implementation
from .lpi import FIRST_LPI
from .priorities import ActivePriorities

INVALID, PENDING, ACTIVE = 0, 1, 2
STATE_SHIFT = 62

HCR_ENABLE = 1 << 0
HCR_MAINTENANCE = 0xFE
"""UIE, LRENPIE, NPIE and the four group bits; MISR has the same order, and EOI at bit 0."""
EOI_COUNT_SHIFT = 27


def lr_state(lr: int) -> int:
    return lr >> STATE_SHIFT


def lr_vintid(lr: int) -> int:
    return lr & WORD


def lr_priority(lr: int) -> int:
    return field(lr, 55, 48)


def lr_group1(lr: int) -> int:
    return lr >> 60 & 1


def lr_hardware(lr: int) -> int:
    return lr >> 61 & 1


def lr_wants_eoi(lr: int) -> bool:
    """HW = 0 and the EOI bit, which lies where a hardware one has part of its pINTID."""
    return not lr_hardware(lr) and bool(lr >> 41 & 1)


class VirtualInterface:
    """One CPU's ICH and ICV registers.

    Parameters
    ----------
    deactivate : callable(intid)
        Deactivates a physical interrupt as this CPU's DIR would.
    maintenance : callable(level)
        Drives the maintenance interrupt's line; called whenever the level may have changed.
    """

    def __init__(
        self,
        choices: Implementation,
        deactivate: Callable[[int], None],
        maintenance: Callable[[bool], None],
    ):
        self._choices = choices
        self._deactivate = deactivate
        self._maintenance = maintenance
        self._active = ActivePriorities(choices)
        self._hcr = 0
        self._lrs = [0] * choices.list_registers
        self._minimum_bpr0 = 7 - choices.preemption_bits
        self._vmcr = choices.minimum_bpr << 18 | self._minimum_bpr0 << 21
        self.registers: dict[str, Access] = {
            "ICH_HCR_EL2": (lambda: self._hcr, self._write_hcr),
            "ICH_VTR_EL2": (self._read_vtr, None),
            "ICH_VMCR_EL2": (lambda: self._vmcr, self._write_vmcr),
            "ICH_MISR_EL2": (self._read_misr, None),
            "ICH_EISR_EL2": (self._read_eisr, None),
            "ICH_ELRSR_EL2": (self._read_elrsr, None),
            "ICH_AP1R0_EL2": (lambda: self._active.bits, self._active.load),
            "ICV_IAR1_EL1": (self._read_iar, None),
            "ICV_HPPIR1_EL1": (self._read_hppir, None),
            "ICV_EOIR1_EL1": (None, self._write_eoir),
            "ICV_DIR_EL1": (None, self._write_dir),
            "ICV_PMR_EL1": (lambda: self._pmr, lambda value: self._set(31, 24, value)),
            "ICV_BPR1_EL1": (self._read_bpr, self._write_bpr),
            "ICV_RPR_EL1": (lambda: self._active.running, None),
            "ICV_CTLR_EL1": (self._read_ctlr, self._write_ctlr),
            "ICV_IGRPEN1_EL1": (lambda: self._vmcr >> 1 & 1, lambda value: self._set(1, 1, value)),
            "ICV_AP1R0_EL1": (lambda: self._active.bits, self._active.load),
        }
        for n in range(choices.list_registers):
            self.registers[f"ICH_LR{n}_EL2"] = (
                partial(self._read_lr, n),
                partial(self._write_lr, n),
            )

    # VMCR and its guest views -----------------------------------------------------------------

    @property
    def _pmr(self) -> int:
        return field(self._vmcr, 31, 24)

    @property
    def _bpr1(self) -> int:
        return field(self._vmcr, 20, 18)

    @property
    def _bpr0(self) -> int:
        return field(self._vmcr, 23, 21)

    @property
    def _common_bpr(self) -> bool:
        return bool(self._vmcr >> 4 & 1)

    @property
    def _eoi_mode(self) -> bool:
        return bool(self._vmcr >> 9 & 1)

    def _write_vmcr(self, value: int) -> None:
        """Binary points below the minimum become the minimum, unimplemented PMR bits zero."""
        mask = self._choices.vmcr_mask
        new = self._vmcr & ~mask | value & mask
        pmr = field(new, 31, 24) & self._choices.priority_mask
        bpr1 = max(field(new, 20, 18), self._choices.minimum_bpr)
        bpr0 = max(field(new, 23, 21), self._minimum_bpr0)
        self._vmcr = new & 0x0003_FFFF | bpr1 << 18 | bpr0 << 21 | pmr << 24
        self._refresh()

    def _set(self, high: int, low: int, value: int) -> None:
        mask = (1 << high - low + 1) - 1
        self._write_vmcr(self._vmcr & ~(mask << low) | (value & mask) << low)

    def _read_bpr(self) -> int:
        return min(self._bpr0 + 1, 7) if self._common_bpr else self._bpr1

    def _write_bpr(self, value: int) -> None:
        if not self._common_bpr:
            self._set(20, 18, value)

    def _read_ctlr(self) -> int:
        return interface_constants(self._choices) | self._common_bpr | self._eoi_mode << 1

    def _write_ctlr(self, value: int) -> None:
        self._set(4, 4, value)
        self._set(9, 9, value >> 1)

    @property
    def _group_mask(self) -> int:
        if self._common_bpr:
            return 0xFF << self._bpr0 + 1 & 0xFF
        return self._choices.group_mask(self._bpr1)

    # List registers ---------------------------------------------------------------------------

    def _read_lr(self, n: int) -> int:
        return self._lrs[n]

    def _write_lr(self, n: int, value: int) -> None:
        priority = self._choices.priority_mask << 48 | ~(0xFF << 48)
        self._lrs[n] = value & self._choices.lr_mask & priority
        self._refresh()

    def _best(self) -> "int | None":
        """The pending list register of the most urgent priority, the lowest among equals."""
        if not (self._hcr & HCR_ENABLE and self._vmcr & 2):
            return None
        pending = (
            (lr_priority(lr), n)
            for n, lr in enumerate(self._lrs)
            if lr_state(lr) == PENDING and lr_group1(lr)
        )
        return min(pending, default=(0, None))[1]

    def _signalled(self) -> "int | None":
        best = self._best()
        if best is None:
            return None
        priority = lr_priority(self._lrs[best])
        preempts = self._active.preempted_by(priority & self._group_mask)
        return best if priority < self._pmr and preempts else None

    @property
    def virq(self) -> bool:
        """The line."""
        return self._signalled() is not None

    def _find_active(self, vintid: int) -> "int | None":
        for n, lr in enumerate(self._lrs):
            if lr_state(lr) & ACTIVE and lr_vintid(lr) == vintid:
                return n
        return None

    def _set_state(self, n: int, state: int) -> None:
        self._lrs[n] = self._lrs[n] & ~(3 << STATE_SHIFT) | state << STATE_SHIFT

    # What the guest does ----------------------------------------------------------------------

    def _read_iar(self) -> int:
        n = self._signalled()
        if n is None:
            return SPURIOUS
        self._active.activate(lr_priority(self._lrs[n]) & self._group_mask)
        self._set_state(n, ACTIVE)
        self._refresh()
        return lr_vintid(self._lrs[n]) & 0xFF_FFFF

    def _read_hppir(self) -> int:
        n = self._best() if self._choices.hppir_ignores_mask else self._signalled()
        return SPURIOUS if n is None else lr_vintid(self._lrs[n]) & 0xFF_FFFF

    def _write_eoir(self, value: int) -> None:
        """An LPI is deactivated in either mode, because no DIR will follow for it."""
        vintid = field(value, 23, 0)
        if FIRST_SPECIAL <= vintid <= SPURIOUS:
            return
        dropped = self._active.drop()
        if (dropped or self._choices.idle_eoi_deactivates) and (
            not self._eoi_mode or vintid >= FIRST_LPI
        ):
            self._deactivate_virtual(vintid)

    def _write_dir(self, value: int) -> None:
        vintid = field(value, 23, 0)
        if self._eoi_mode and vintid < FIRST_SPECIAL:
            self._deactivate_virtual(vintid)

    def _deactivate_virtual(self, vintid: int) -> None:
        n = self._find_active(vintid)
        if n is None:
            if vintid < FIRST_LPI:
                self._count_eoi()
            return
        lr = self._lrs[n]
        self._set_state(n, lr_state(lr) & ~ACTIVE)
        if lr_hardware(lr):
            self._deactivate(lr >> 32 & (1 << self._choices.lr_pintid_bits) - 1)
        self._refresh()

    def _count_eoi(self) -> None:
        """EOIcount wraps."""
        count = (self._hcr >> EOI_COUNT_SHIFT) + 1 & 0x1F
        self._hcr = self._hcr & (1 << EOI_COUNT_SHIFT) - 1 | count << EOI_COUNT_SHIFT
        self._refresh()

    # What the hypervisor sees -----------------------------------------------------------------

    def _write_hcr(self, value: int) -> None:
        self._hcr = value & self._choices.hcr_mask
        self._refresh()

    def _read_vtr(self) -> int:
        return (
            self._choices.list_registers - 1
            | 1 << 20  # nV4: no direct injection
            | self._choices.affinity_3 << 21
            | self._choices.preemption_bits - 1 << 26
            | self._choices.priority_bits - 1 << 29
        )

    def _read_eisr(self) -> int:
        ended = (lr_state(lr) == INVALID and lr_wants_eoi(lr) for lr in self._lrs)
        return sum(bit << n for n, bit in enumerate(ended))

    def _read_elrsr(self) -> int:
        empty = (lr_state(lr) == INVALID and not lr_wants_eoi(lr) for lr in self._lrs)
        return sum(bit << n for n, bit in enumerate(empty))

    def _read_misr(self) -> int:
        states = [lr_state(lr) for lr in self._lrs]
        group0, group1 = self._vmcr & 1, self._vmcr >> 1 & 1
        conditions = (
            False,
            sum(state != INVALID for state in states) <= 1,  # U
            self._hcr >> EOI_COUNT_SHIFT,  # LRENP
            PENDING not in states,  # NP
            group0,
            not group0,
            group1,
            not group1,
        )
        status = sum(bool(condition) << n for n, condition in enumerate(conditions))
        return status & self._hcr & HCR_MAINTENANCE | bool(self._read_eisr())

    def _refresh(self) -> None:
        """Drive the maintenance line, after anything that MISR depends on has changed."""
        self._maintenance(bool(self._hcr & HCR_ENABLE and self._read_misr()))

    def state(self) -> dict:
        return {
            "hcr": self._hcr,
            "vmcr": self._vmcr,
            "list_registers": list(self._lrs),
            "active_priorities": self._active.bits,
            "running": self._active.running,
            "misr": self._read_misr(),
            "virq": int(self.virq),
        }
