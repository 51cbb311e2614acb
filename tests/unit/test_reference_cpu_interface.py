"""ICC registers of the reference model: priority, preemption, drop, deactivation, SGIs."""

import pytest

from sim.reference import Implementation, UndefinedRegisterError
from tests.unit.reference_rig import Rig, ready_rig


@pytest.fixture
def rig():
    return Rig(cpus=4, spis=64, endpoints=()).open()


def fire(rig, intid, priority, cpu=0):
    rig.spi(intid, cpu=cpu, priority=priority, edge=True)
    rig.set_wire(intid, True)
    rig.set_wire(intid, False)


def test_reset():
    rig = Rig()
    values = {
        "PMR": 0,
        "BPR1": 3,
        "RPR": 0xFF,
        "CTLR": 4 << 8 | 1 << 15,
        "IGRPEN1": 0,
        "AP1R0": 0,
        "SRE": 7,
        "IAR1": 1023,
        "HPPIR1": 1023,
    }
    assert {name: rig.icc(0, name) for name in values} == values


def test_fields_that_do_not_exist_read_zero(rig):
    for name, expected in (
        ("PMR", 0xF8),
        ("BPR1", 7),
        ("CTLR", 0x8402),
        ("IGRPEN1", 1),
        ("AP1R0", 0xFFFF_FFFF),
        ("SRE", 7),
    ):
        rig.icc(0, name, 0xFFFF_FFFF_FFFF_FFFF)
        assert rig.icc(0, name) == expected
    rig.icc(0, "BPR1", 0)
    assert rig.icc(0, "BPR1") == 3


def test_pmr_is_strict(rig):
    fire(rig, 40, 0x80)
    rig.icc(0, "PMR", 0x80)
    assert not rig.irq(0)
    assert rig.iar() == 1023
    assert rig.icc(0, "HPPIR1") == 40
    rig.icc(0, "PMR", 0x88)
    assert rig.irq(0)
    assert rig.iar() == 40


def test_hppir_that_says_what_iar_would():
    rig = Rig(Implementation(hppir_ignores_mask=False)).open(pmr=0x80)
    fire(rig, 40, 0x80)
    assert rig.icc(0, "HPPIR1") == 1023
    rig.icc(0, "PMR", 0xFF)
    assert rig.icc(0, "HPPIR1") == 40


def test_nesting_and_unwinding(rig):
    """Section 6: nested acknowledges have strictly more urgent priorities; each EOI drops one."""
    depth = []
    for intid, priority in ((40, 0xA0), (41, 0x80), (42, 0x08), (43, 0x00)):
        fire(rig, intid, priority)
        assert rig.iar() == intid
        assert rig.icc(0, "RPR") == priority
        depth.append(intid)
        assert rig.icc(0, "AP1R0").bit_count() == len(depth)
    fire(rig, 44, 0x00)
    assert rig.iar() == 1023  # equal priority never preempts
    for intid, running in ((43, 0x08), (42, 0x80), (41, 0xA0), (40, 0xFF)):
        rig.gicd(0x284, 1 << 44 % 32)
        rig.icc(0, "EOIR1", intid)
        assert rig.icc(0, "RPR") == running


@pytest.mark.parametrize(
    ("bpr", "first", "second", "preempts"),
    [
        (3, 0x88, 0x80, True),
        (4, 0x88, 0x80, False),
        (4, 0x90, 0x88, True),
        (7, 0x80, 0x78, True),
        (7, 0xF0, 0x80, False),
    ],
)
def test_binary_point(rig, bpr, first, second, preempts):
    rig.icc(0, "BPR1", bpr)
    fire(rig, 40, first)
    assert rig.iar() == 40
    assert rig.icc(0, "RPR") == first & 0xFF << bpr & 0xFF
    fire(rig, 41, second)
    assert rig.irq(0) is preempts
    assert rig.iar() == (41 if preempts else 1023)


def test_secure_binary_point():
    rig = Rig(Implementation(nonsecure_bpr=False)).open()
    assert rig.icc(0, "BPR1") == 2
    rig.icc(0, "BPR1", 3)
    fire(rig, 40, 0x88)
    assert rig.iar() == 40
    assert rig.icc(0, "RPR") == 0x80


def test_eoi_mode_0_drops_and_deactivates(rig):
    fire(rig, 40, 0x80)
    rig.iar()
    rig.icc(0, "DIR", 40)  # ignored in this mode
    assert rig.gicd(0x304) == 1 << 8
    rig.icc(0, "EOIR1", 40)
    assert (rig.gicd(0x304), rig.icc(0, "RPR")) == (0, 0xFF)


def test_eoi_mode_1_splits_them(rig):
    rig.icc(0, "CTLR", 2)
    fire(rig, 40, 0x80)
    rig.iar()
    rig.icc(0, "EOIR1", 40)
    assert (rig.gicd(0x304), rig.icc(0, "RPR")) == (1 << 8, 0xFF)
    rig.icc(3, "CTLR", 2)
    rig.icc(3, "DIR", 40)  # for an SPI, any CPU may
    assert rig.gicd(0x304) == 0


@pytest.mark.parametrize("intid", [1020, 1021, 1022, 1023])
def test_eoi_of_special_intids_is_ignored(rig, intid):
    fire(rig, 40, 0x80)
    rig.iar()
    rig.icc(0, "EOIR1", intid)
    assert rig.icc(0, "RPR") == 0x80


def test_eoi_drops_whatever_intid_it_names(rig):
    fire(rig, 40, 0x80)
    rig.iar()
    rig.icc(0, "EOIR1", 41)
    assert rig.icc(0, "RPR") == 0xFF
    assert rig.gicd(0x304) == 1 << 8


@pytest.mark.parametrize(("deactivates", "active"), [(True, 0), (False, 1 << 8)])
def test_eoi_with_nothing_running(deactivates, active):
    rig = Rig(Implementation(idle_eoi_deactivates=deactivates)).open()
    rig.gicd(0x304, 1 << 8)
    rig.icc(0, "EOIR1", 40)
    assert rig.gicd(0x304) == active


def test_private_interrupts_are_deactivated_on_their_own_cpu(rig):
    for cpu in (0, 1):
        rig.private(cpu, 30)
        rig.set_ppi(cpu, 30, True)
        assert rig.iar(cpu) == 30
    rig.icc(1, "EOIR1", 30)
    assert (rig.sgi_frame(0, 0x300), rig.sgi_frame(1, 0x300)) == (1 << 30, 0)


def test_lpi_has_priority_but_no_active_state():
    """Sections 3.2 and 6: it is running until EOI, yet pending again before."""
    rig = ready_rig()
    rig.event(8, 0)
    assert rig.iar() == 8192
    assert rig.icc(0, "RPR") == 0xA0
    rig.event(8, 0)
    assert rig.pending_lpis(0) == [0]
    assert not rig.irq(0)  # its own priority is running
    rig.icc(0, "EOIR1", 8192)
    assert rig.irq(0)  # window W4
    assert rig.iar() == 8192
    rig.icc(0, "CTLR", 2)
    rig.icc(0, "DIR", 8192)
    assert rig.icc(0, "RPR") == 0xA0


@pytest.mark.parametrize(
    ("sender", "value", "targets"),
    [
        (0, 0b0001, [0]),
        (0, 0b1110, [1, 2, 3]),
        (2, 0xFFFF, [0, 1, 2, 3]),
        (2, 1 << 40, [0, 1, 3]),
        (0, 0b0001 | 1 << 16, []),
        (0, 0b0001 | 1 << 32, []),
        (0, 0b0001 | 1 << 48, []),
        (0, 0xFFF0, []),
    ],
)
def test_sgi_targets(rig, sender, value, targets):
    for cpu in range(4):
        rig.private(cpu, 5)
    rig.icc(sender, "SGI1R", value | 5 << 24)
    assert [cpu for cpu in range(4) if rig.iar(cpu) == 5] == targets
    assert [cpu for cpu in range(4) if rig.iar(cpu) != 1023] == []


def test_sgi_reaches_the_second_cluster():
    rig = Rig(cpus=18, endpoints=())
    rig.sgi_frame(17, 0x080, 1)
    rig.icc(0, "SGI1R", 0b10 | 1 << 16)
    assert rig.sgi_frame(17, 0x200) == 1
    assert rig.sgi_frame(1, 0x200) == 0


@pytest.mark.parametrize(("checks", "pending"), [(True, 0), (False, 1 << 3)])
def test_sgi_configured_in_group_0(checks, pending):
    rig = Rig(Implementation(sgi_checks_group=checks)).open()
    rig.icc(0, "SGI1R", 1 | 3 << 24)
    assert rig.sgi_frame(0, 0x200) == pending


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("ICC_EOIR1_EL1", "read"),
        ("ICC_DIR_EL1", "read"),
        ("ICC_SGI1R_EL1", "read"),
        ("ICC_IAR1_EL1", "written"),
        ("ICC_RPR_EL1", "written"),
        ("ICC_IAR0_EL1", "read"),
        ("ICH_LR4_EL2", "written"),
    ],
)
def test_undefined_register(rig, name, direction):
    arguments = (0, name) if direction == "read" else (0, name, 0)
    access = rig.read_sysreg if direction == "read" else rig.write_sysreg
    with pytest.raises(UndefinedRegisterError) as caught:
        access(*arguments)
    assert str(caught.value) == f"System register {name!r} cannot be {direction}"
    assert caught.value.name == name
