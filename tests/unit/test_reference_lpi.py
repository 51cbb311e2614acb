"""LPIs of the reference model: limits, tables, and what a cache is allowed to do (section 3)."""

import pytest

from sim.reference import Implementation
from tests.unit.reference_rig import GICR, PENDING, PRIORITY, PROPERTIES, Rig, ready_rig


def direct_rig(implementation=None, **config):
    """No ITS: GICR_SETLPIR makes LPIs pending."""
    rig = Rig(implementation, its=False, endpoints=(), **config).open()
    for lpi in range(32):
        rig.property(lpi, PRIORITY | 1)
    return rig


def setlpi(rig, intid, cpu=0, size=4):
    rig.gicr(cpu, 0x0040, intid, size)


@pytest.mark.parametrize(
    ("cpu", "its", "expected"),
    [
        (0, True, 1),
        (1, True, 1 | 1 << 8 | 1 << 32),
        (2, True, 1 | 1 << 4 | 2 << 8 | 2 << 32),
        (0, False, 1 | 1 << 3),
    ],
)
def test_typer(cpu, its, expected):
    assert Rig(cpus=3, its=its).gicr(cpu, 0x0008, size=8) == expected


def test_base_registers_keep_what_they_have_and_lock():
    rig = Rig()
    rig.gicr(0, 0x70, (1 << 64) - 1, size=8)
    rig.gicr(0, 0x78, (1 << 64) - 1, size=8)
    propbaser, pendbaser = rig.gicr(0, 0x70, size=8), rig.gicr(0, 0x78, size=8)
    assert propbaser == 0x070F_FFFF_FFFF_FF9F
    assert pendbaser == 0x070F_FFFF_FFFF_0F80
    rig.gicr(0, 0x00, 1)
    rig.gicr(0, 0x70, 0, size=8)
    rig.gicr(0, 0x78, 0, size=8)
    assert rig.gicr(0, 0x70, size=8) == propbaser
    assert rig.gicr(0, 0x78, size=8) == pendbaser


@pytest.mark.parametrize(("ces", "after"), [(True, 0b110), (False, 0b101)])
def test_enable_lpis_may_be_cleared_only_with_ces(ces, after):
    rig = Rig(Implementation(clear_enable_lpis=ces)).lpi_tables()
    assert rig.gicr(0, 0) == 0b101 | ces << 1
    rig.gicr(0, 0, 0)
    assert rig.gicr(0, 0) == after


def test_without_lpis_there_are_no_lpi_registers():
    rig = Rig(lpis=0, its=False)
    rig.gicr(0, 0x70, 0xFFFF_FFFF)
    rig.gicr(0, 0, 1)
    assert rig.gicr(0, 0x70) == rig.gicr(0, 0) == rig.gicr(0, 8) == 0


@pytest.mark.parametrize(
    ("lpis", "id_bits", "accepted"),
    [
        (1024, 14, [8192, 9215]),
        (16384, 14, [8192, 16383]),
        (16384, 16, [8192, 16383, 24575]),
        (1024, 13, []),  # IDbits field 12: too few for any LPI
    ],
)
def test_limits(lpis, id_bits, accepted):
    rig = direct_rig(lpis=lpis).lpi_tables(id_bits=id_bits)
    for intid in (0, 40, 8191, 8192, 9215, 9216, 16383, 16384, 24575, 24576, 0x1_2000):
        setlpi(rig, intid)
    within = [i - 8192 for i in accepted]
    assert [lpi for lpi in rig.pending_lpis(0) if lpi in within] == within
    if lpis == 1024:
        assert rig.pending_lpis(0) == within


def test_setlpir_and_clrlpir():
    rig = direct_rig().lpi_tables()
    setlpi(rig, 8195)
    setlpi(rig, 8193, cpu=1)
    setlpi(rig, 8196, size=2)  # an action takes a whole word
    assert (rig.pending_lpis(0), rig.pending_lpis(1)) == ([3], [1])
    rig.message(GICR + 0x40, 8197, 8)  # a device may use it as a doorbell
    rig.gicr(0, 0x48, 8195)
    assert rig.pending_lpis(0) == [5]
    assert rig.iar() == 8197


def test_setlpir_is_not_there_beside_an_its():
    rig = Rig().lpi_tables()
    setlpi(rig, 8192)
    assert rig.pending_lpis(0) == []


def test_nothing_becomes_pending_while_lpis_are_off():
    rig = direct_rig()
    setlpi(rig, 8192)
    rig.lpi_tables()
    assert rig.pending_lpis(0) == []


def test_events_collapse():
    rig = direct_rig().lpi_tables()
    for _ in range(3):
        setlpi(rig, 8192)
    assert rig.iar() == 8192
    rig.icc(0, "EOIR1", 8192)
    assert rig.iar() == 1023


@pytest.mark.parametrize("ptz", [True, False])
def test_initial_pending_table(ptz):
    rig = direct_rig()
    rig.ram_write(PENDING + 8192 // 8, bytes([0b0000_0101]))
    rig.ram_write(PENDING + 0x1_0000 + 8192 // 8 + 127, bytes([0x80]))
    rig.ram_write(PENDING, b"\xff" * 1024)  # INTIDs below 8192 are not LPIs
    rig.lpi_tables(ptz=ptz)
    assert rig.pending_lpis(0) == ([] if ptz else [0, 2])
    assert rig.pending_lpis(1) == ([] if ptz else [1023])


@pytest.mark.parametrize(("choice", "kept"), [("drop", []), ("write_back", [4])])
def test_pending_when_lpis_are_switched_off(choice, kept):
    rig = direct_rig(Implementation(pending_on_disable=choice)).lpi_tables()
    setlpi(rig, 8196)
    rig.gicr(0, 0, 0)
    assert not rig.irq(0)
    rig.gicr(0, 0x78, PENDING, size=8)
    rig.gicr(0, 0, 1)
    assert rig.pending_lpis(0) == kept


def test_priority_has_the_implemented_bits():
    rig = direct_rig().lpi_tables()
    rig.property(0, 0x8F)
    rig.property(1, 0x8B)
    rig.gicr(0, 0xB0, 0)
    setlpi(rig, 8193)
    setlpi(rig, 8192)
    assert rig.iar() == 8192
    assert rig.icc(0, "RPR") == 0x88


def test_disabled_lpi_stays_pending_until_enabled_and_invalidated():
    """Window W6."""
    rig = direct_rig()
    rig.property(0, PRIORITY)
    rig.lpi_tables()
    setlpi(rig, 8192)
    assert rig.pending_lpis(0) == [0]
    assert not rig.irq(0)
    rig.property(0, PRIORITY | 1)
    assert rig.permitted_acknowledges(0) == {8192, 1023}
    rig.gicr(0, 0xA0, 8192)
    assert rig.permitted_acknowledges(0) == {8192}
    assert rig.iar() == 8192


def test_a_stale_property_may_count_until_invalidated():
    """Window W5."""
    rig = direct_rig().lpi_tables()
    setlpi(rig, 8192)
    rig.property(0, PRIORITY)
    lpis = rig.state()["cpus"][0]["redistributor"]["lpis"]
    assert lpis["uncertain"] == {8192: [PRIORITY, PRIORITY | 1]}
    assert rig.irq(0)
    assert rig.permitted_acknowledges(0) == {8192, 1023}
    rig.gicr(0, 0xA0, 8193)  # another LPI
    assert rig.permitted_acknowledges(0) == {8192, 1023}
    rig.gicr(0, 0xA0, 8192, size=2)  # not a whole word
    assert rig.permitted_acknowledges(0) == {8192, 1023}
    rig.gicr(0, 0xB0, 0)
    assert rig.permitted_acknowledges(0) == {1023}
    assert not rig.irq(0)


@pytest.mark.parametrize("present", [True, False])
def test_invalidate_registers_beside_an_its(present):
    rig = ready_rig(Implementation(invalidate_registers=present))
    assert rig.gicr(0, 0) >> 2 & 1 == present
    rig.event(8, 0)
    rig.property(0, PRIORITY)
    rig.gicr(0, 0xA0, 8192)
    assert rig.irq(0) is not present
    assert rig.gicr(0, 0xC0) == 0


def test_every_byte_the_table_held_is_an_option():
    """A byte written and written over may have been read in between."""
    rig = direct_rig().lpi_tables()
    setlpi(rig, 8192)
    rig.property(0, 0x41)
    rig.property(0, PRIORITY | 1)
    setlpi(rig, 8193)
    assert rig.permitted_acknowledges(0) == {8192}
    rig.property(1, 0x81)
    assert rig.permitted_acknowledges(0) == {8192, 8193}
    assert rig.iar() == 8192


def test_permitted_acknowledges_take_each_lpi_at_its_weakest_rival():
    rig = direct_rig().lpi_tables()
    for lpi in range(3):
        setlpi(rig, 8192 + lpi)
    rig.property(0, 0x00)  # perhaps disabled
    rig.property(2, 0x41)  # perhaps most urgent
    assert rig.permitted_acknowledges(0) == {8192, 8193, 8194}
    rig.spi(40, priority=0x90)
    rig.set_wire(40, True)
    assert rig.permitted_acknowledges(0) == {40, 8194}
    rig.icc(0, "PMR", 0x90)
    assert rig.permitted_acknowledges(0) == {1023, 8194}
    rig.icc(0, "PMR", 0x40)
    assert rig.permitted_acknowledges(0) == {1023}
    rig.icc(0, "PMR", 0xFF)
    rig.icc(0, "IGRPEN1", 0)
    assert rig.permitted_acknowledges(0) == {1023}


def test_following_what_hardware_acknowledged():
    rig = direct_rig().lpi_tables()
    setlpi(rig, 8192)
    setlpi(rig, 8193)
    rig.property(1, 0x41)
    rig.acknowledge(0, 8193)
    assert rig.icc(0, "RPR") == 0x40
    rig.icc(0, "EOIR1", 8193)
    setlpi(rig, 8193)
    assert rig.icc(0, "HPPIR1") == 8193  # from now on with the byte that was seen in use
    assert rig.iar() == 8193
    assert rig.pending_lpis(0) == [0]
    with pytest.raises(ValueError, match=r"^Acknowledging must give 1023, not 8193$"):
        rig.acknowledge(0, 8193)
    rig.acknowledge(0, 1023)
    assert rig.icc(0, "RPR") == 0x40
    rig.icc(0, "EOIR1", 8193)
    rig.acknowledge(0, 8192)
    rig.icc(0, "EOIR1", 8192)
    rig.spi(40)
    rig.set_wire(40, True)
    rig.acknowledge(0, 40)
    assert rig.gicd(0x304) == 1 << 8


@pytest.mark.parametrize("running", [0x40, 0x80, 0xA0])
def test_the_running_priority_says_which_byte_was_used(running):
    rig = direct_rig().lpi_tables()
    rig.property(0, 0x41)
    setlpi(rig, 8192)
    rig.property(0, 0x81)
    with pytest.raises(ValueError, match="priority 0x40 or 0x80 or 0xa0 must run, not 0x0"):
        rig.acknowledge(0, 8192, 0)
    rig.acknowledge(0, 8192, running)
    assert rig.icc(0, "RPR") == running


def test_table_bytes_outside_ram_are_zero():
    rig = direct_rig()
    rig.gicr(0, 0x70, 0x1_0000_0000 | 13, size=8)
    rig.gicr(0, 0x78, 0x1_0000_0000, size=8)
    rig.gicr(0, 0, 1)
    setlpi(rig, 8192)
    assert rig.pending_lpis(0) == [0]
    assert not rig.irq(0)


def test_property_tables_are_looked_at_where_propbaser_says():
    rig = direct_rig()
    rig.gicr(0, 0x70, PROPERTIES + 0x1000 | 13, size=8)
    rig.gicr(0, 0x78, PENDING | 1 << 62, size=8)
    rig.gicr(0, 0, 1)
    setlpi(rig, 8192)
    assert not rig.irq(0)
    rig.ram_write(PROPERTIES + 0x1000, bytes([PRIORITY | 1]))
    rig.gicr(0, 0xB0, 0)
    assert rig.irq(0)
