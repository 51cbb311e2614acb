"""List registers and the guest's CPU interface of the reference model (section 7)."""

import pytest

from sim.reference import Implementation
from tests.unit.reference_rig import Rig

INVALID, PENDING, ACTIVE, BOTH = range(4)
GROUP1, HW = 1 << 60, 1 << 61
EOI_REQUEST = 1 << 41


def lr(vintid, priority=0x80, state=PENDING, pintid=None, eoi=False, group1=True):
    value = vintid | priority << 48 | state << 62 | group1 * GROUP1 | eoi * EOI_REQUEST
    return value if pintid is None else value | HW | pintid << 32


@pytest.fixture
def rig():
    return open_guest(Rig(cpus=2, endpoints=()))


def open_guest(rig):
    rig.open(eoi_mode=1)
    rig.ich("HCR", 1)
    rig.icv("PMR", 0xF8)
    rig.icv("IGRPEN1", 1)
    return rig


def state_of(rig, n=0):
    return rig.ich(f"LR{n}") >> 62


def test_reset_and_constants():
    rig = Rig()
    assert rig.ich("VTR") == 3 | 1 << 20 | 1 << 21 | 4 << 26 | 4 << 29
    assert rig.ich("VMCR") == 3 << 18 | 2 << 21
    assert rig.ich("ELRSR") == 0xF
    for name in ("HCR", "MISR", "EISR", "AP1R0", "LR0", "LR3"):
        assert rig.ich(name) == 0
    assert rig.icv("RPR") == 0xFF
    assert rig.icv("IAR1") == 1023


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("HCR", 0xF800_7CFF),
        ("VMCR", 0xF8FC_0213),
        ("LR0", 0xF0F8_1FFF_FFFF_FFFF),
        ("AP1R0", 0xFFFF_FFFF),
    ],
)
def test_writable_bits(name, expected):
    rig = Rig()
    rig.ich(name, (1 << 64) - 1)
    assert rig.ich(name) == expected
    rig.ich(name, 0)
    assert rig.ich(name) == (3 << 18 | 2 << 21 if name == "VMCR" else 0)


def test_guest_registers_are_views_of_vmcr(rig):
    rig.icv("PMR", 0xA7)
    rig.icv("BPR1", 5)
    rig.icv("CTLR", 0b11)
    assert rig.ich("VMCR") == 0xA0 << 24 | 2 << 21 | 5 << 18 | 1 << 9 | 1 << 4 | 1 << 1
    assert rig.icv("CTLR") == 0x8403
    assert rig.icv("BPR1") == 3  # common binary point: VBPR0 + 1
    rig.icv("BPR1", 7)
    rig.icv("CTLR", 0)
    assert rig.icv("BPR1") == 5
    rig.ich("VMCR", 0)
    assert (rig.icv("PMR"), rig.icv("IGRPEN1")) == (0, 0)


def test_life_of_a_virtual_interrupt(rig):
    rig.ich("LR0", lr(27))
    assert rig.virq(0)
    assert not rig.virq(1)
    assert rig.icv("HPPIR1") == 27
    assert rig.icv("IAR1") == 27
    assert state_of(rig) == ACTIVE
    assert not rig.virq(0)
    assert rig.icv("RPR") == 0x80
    rig.icv("EOIR1", 27)
    assert state_of(rig) == INVALID
    assert rig.icv("RPR") == 0xFF
    assert rig.ich("HCR") >> 27 == 0


def test_guest_split_eoi(rig):
    rig.icv("CTLR", 2)
    rig.ich("LR0", lr(27))
    rig.icv("IAR1")
    rig.icv("EOIR1", 27)
    assert (state_of(rig), rig.icv("RPR")) == (ACTIVE, 0xFF)
    rig.icv("DIR", 27)
    assert state_of(rig) == INVALID


def test_dir_is_ignored_in_eoi_mode_0(rig):
    rig.ich("LR0", lr(27))
    rig.icv("IAR1")
    rig.icv("DIR", 27)
    assert state_of(rig) == ACTIVE


def test_pending_and_active_is_not_signalled_until_deactivated(rig):
    rig.ich("LR0", lr(27, state=BOTH))
    assert not rig.virq(0)
    rig.icv("EOIR1", 27)
    assert state_of(rig) == PENDING
    assert rig.virq(0)


@pytest.mark.parametrize(
    "close",
    [
        lambda rig: rig.ich("HCR", 0),
        lambda rig: rig.icv("IGRPEN1", 0),
        lambda rig: rig.icv("PMR", 0x80),
        lambda rig: rig.ich("LR0", lr(27, group1=False)),
        lambda rig: rig.ich("AP1R0", 1 << 16),
    ],
    ids=["En", "VENG1", "VPMR", "group 0", "running"],
)
def test_each_gate_closes(rig, close):
    rig.ich("LR0", lr(27))
    assert rig.virq(0)
    close(rig)
    assert not rig.virq(0)
    assert rig.icv("IAR1") == 1023
    assert state_of(rig) == PENDING


def test_virtual_preemption(rig):
    rig.ich("LR0", lr(40, priority=0x80))
    rig.icv("IAR1")
    rig.ich("LR1", lr(41, priority=0x80))
    assert not rig.virq(0)
    rig.ich("LR2", lr(42, priority=0x78))
    assert rig.icv("IAR1") == 42
    rig.icv("BPR1", 7)
    rig.icv("EOIR1", 42)
    rig.ich("LR2", lr(42, priority=0x10))
    assert rig.icv("IAR1") == 42  # the upper half preempts the lower
    assert rig.icv("RPR") == 0


def test_common_binary_point_decides_preemption(rig):
    rig.icv("CTLR", 1)
    rig.ich("VMCR", rig.ich("VMCR") & ~(7 << 21) | 3 << 21)  # VBPR0: bits 7:4
    rig.ich("LR0", lr(40, priority=0x88))
    rig.icv("IAR1")
    assert rig.icv("RPR") == 0x80
    rig.ich("LR1", lr(41, priority=0x80))
    assert not rig.virq(0)
    rig.ich("LR1", lr(41, priority=0x78))
    assert rig.virq(0)


def test_lowest_list_register_wins_among_equals(rig):
    rig.ich("LR2", lr(40))
    rig.ich("LR1", lr(50))
    assert rig.icv("IAR1") == 50


@pytest.mark.parametrize("split", [False, True])
def test_guest_deactivates_a_hardware_interrupt(rig, split):
    """Section 7's duty cycle: physical IAR, EOIR (drop only), list register, guest EOI."""
    rig.icv("CTLR", split << 1)
    rig.spi(40)
    rig.set_wire(40, True)
    assert rig.iar() == 40
    rig.icc(0, "EOIR1", 40)
    assert not rig.irq(0)  # active, so not signalled again
    rig.ich("LR0", lr(27, pintid=40))
    assert rig.icv("IAR1") == 27
    rig.icv("EOIR1", 27)
    assert bool(rig.gicd(0x304)) is split
    if split:
        rig.icv("DIR", 27)
    assert rig.gicd(0x304) == 0
    assert rig.irq(0)  # the line is still high: pending again at once


def test_hardware_deactivation_of_a_private_interrupt(rig):
    rig.private(0, 30)
    rig.set_ppi(0, 30, True)
    rig.iar()
    rig.ich("LR0", lr(30, pintid=30))
    rig.icv("IAR1")
    rig.icv("EOIR1", 30)
    assert rig.sgi_frame(0, 0x300) == 0


def test_special_pintid_deactivates_nothing(rig):
    rig.gicd(0x304, 0xFFFF_FFFF)
    rig.ich("LR0", lr(30, pintid=1023))
    rig.icv("IAR1")
    rig.icv("EOIR1", 30)
    assert rig.gicd(0x304) == 0xFFFF_FFFF


@pytest.mark.parametrize(("bits", "active"), [(13, 1 << 8), (10, 0)])
def test_width_of_pintid(bits, active):
    rig = open_guest(Rig(Implementation(lr_pintid_bits=bits)))
    rig.gicd(0x304, 1 << 8)
    rig.ich("LR0", lr(30, pintid=0x400 | 40))
    rig.icv("IAR1")
    rig.icv("EOIR1", 30)
    assert rig.gicd(0x304) == active


@pytest.mark.parametrize(
    ("mode", "register", "vintid", "counted"),
    [
        (0, "EOIR1", 27, 1),
        (0, "EOIR1", 8192, 0),
        (0, "EOIR1", 1023, 0),
        (0, "DIR", 27, 0),
        (1, "EOIR1", 27, 0),
        (1, "DIR", 27, 1),
        (1, "DIR", 8192, 0),
        (1, "DIR", 1020, 0),
    ],
)
def test_eoi_count(rig, mode, register, vintid, counted):
    rig.icv("CTLR", mode << 1)
    rig.ich("AP1R0", 1)
    rig.icv(register, vintid)
    assert rig.ich("HCR") >> 27 == counted


def test_eoi_count_wraps(rig):
    for _ in range(33):
        rig.icv("EOIR1", 27)
    assert rig.ich("HCR") == 1 << 27 | 1


def test_eoi_with_nothing_running_may_do_nothing():
    rig = open_guest(Rig(Implementation(idle_eoi_deactivates=False)))
    rig.icv("EOIR1", 27)
    assert rig.ich("HCR") >> 27 == 0


@pytest.mark.parametrize("mode", [0, 1])
def test_virtual_lpi_needs_no_dir(rig, mode):
    rig.icv("CTLR", mode << 1)
    rig.ich("LR0", lr(8200))
    assert rig.icv("IAR1") == 8200
    rig.icv("EOIR1", 8200)
    assert state_of(rig) == INVALID


def test_status_registers(rig):
    rig.ich("LR0", lr(40, state=INVALID, eoi=True))
    rig.ich("LR1", lr(41, state=INVALID))
    rig.ich("LR2", lr(42, state=INVALID, pintid=512))
    rig.ich("LR3", lr(43, eoi=True))
    assert rig.ich("EISR") == 0b0001
    assert rig.ich("ELRSR") == 0b0110
    rig.icv("IAR1")
    rig.icv("EOIR1", 43)
    assert rig.ich("EISR") == 0b1001


@pytest.mark.parametrize(
    ("hcr", "setup", "misr"),
    [
        (0x00, {"LR0": lr(40, state=INVALID, eoi=True)}, 0x01),
        (0x02, {}, 0x02),
        (0x02, {"LR0": lr(40)}, 0x02),
        (0x02, {"LR0": lr(40), "LR1": lr(41, state=ACTIVE)}, 0x00),
        (0x04, {}, 0x00),
        (0x04 | 1 << 27, {}, 0x04),
        (0x08, {"LR0": lr(40, state=ACTIVE), "LR1": lr(41, state=BOTH)}, 0x08),
        (0x08, {"LR0": lr(40)}, 0x00),
        (0x10, {"VMCR": 1}, 0x10),
        (0x20, {"VMCR": 1}, 0x00),
        (0x20, {"VMCR": 0}, 0x20),
        (0x40, {"VMCR": 2}, 0x40),
        (0x80, {"VMCR": 0}, 0x80),
        (0x80, {"VMCR": 2}, 0x00),
    ],
)
def test_maintenance_interrupt(hcr, setup, misr):
    rig = Rig(cpus=2, endpoints=()).open()
    rig.private(0, 25)
    rig.ich("HCR", hcr)
    for name, value in setup.items():
        rig.ich(name, value)
    assert rig.ich("MISR") == misr
    assert not rig.irq(0)  # En is off
    rig.ich("HCR", hcr | 1)
    assert rig.irq(0) is bool(misr)
    rig.ich("HCR", 0)
    assert not rig.irq(0)


def test_eoi_maintenance_interrupt_follows_the_guest(rig):
    rig.private(0, 25)
    rig.ich("LR0", lr(40, eoi=True))
    rig.icv("IAR1")
    assert not rig.irq(0)
    rig.icv("EOIR1", 40)
    assert rig.iar() == 25
    rig.ich("LR0", 0)
    rig.icc(0, "EOIR1", 25)
    rig.icc(0, "DIR", 25)
    assert not rig.irq(0)


def test_maintenance_shares_its_line_with_a_wire(rig):
    rig.private(0, 25)
    rig.set_ppi(0, 25, True)
    rig.ich("HCR", 3)
    rig.ich("HCR", 1)
    assert rig.irq(0)
    rig.set_ppi(0, 25, False)
    assert not rig.irq(0)
