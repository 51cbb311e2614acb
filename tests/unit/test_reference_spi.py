"""SPIs, PPIs and SGIs of the reference model: state machine, registers, routing (section 2)."""

import pytest

from sim.reference import Implementation
from tests.unit.reference_rig import Rig

SPI = 40


@pytest.fixture
def rig():
    return Rig(cpus=2, spis=64, endpoints=()).open()


def status(rig, intid=SPI):
    """(pending, active) as ISPENDR and ISACTIVER show them."""
    word = intid // 32 * 4
    bit = 1 << intid % 32
    assert rig.gicd(0x200 + word) == rig.gicd(0x280 + word)
    assert rig.gicd(0x300 + word) == rig.gicd(0x380 + word)
    return bool(rig.gicd(0x200 + word) & bit), bool(rig.gicd(0x300 + word) & bit)


def do(rig, event, intid=SPI):
    word, bit = intid // 32 * 4, 1 << intid % 32
    match event:
        case "rise":
            rig.set_wire(intid, True)
        case "fall":
            rig.set_wire(intid, False)
        case "ispendr":
            rig.gicd(0x200 + word, bit)
        case "icpendr":
            rig.gicd(0x280 + word, bit)
        case "setspi":
            rig.message(0x0800_0040, intid, 0)
        case "clrspi":
            rig.message(0x0800_0048, intid, 0)
        case "iar":
            assert rig.iar() == intid
        case "eoir":
            rig.icc(0, "EOIR1", intid)
        case "isactiver":
            rig.gicd(0x300 + word, bit)
        case "icactiver":
            rig.gicd(0x380 + word, bit)


IDLE, PENDING, ACTIVE, BOTH = (False, False), (True, False), (False, True), (True, True)

EDGE = [
    (["rise"], PENDING),
    (["rise", "fall"], PENDING),
    (["fall"], IDLE),
    (["ispendr"], PENDING),
    (["setspi", "setspi"], PENDING),
    (["setspi", "clrspi"], IDLE),
    (["rise", "icpendr"], IDLE),
    (["rise", "rise"], PENDING),
    (["rise", "iar"], ACTIVE),
    (["rise", "iar", "fall", "rise"], BOTH),
    (["rise", "iar", "fall", "rise", "fall", "rise", "eoir"], PENDING),
    (["rise", "iar", "eoir"], IDLE),
    (["rise", "iar", "icactiver"], IDLE),
    (["isactiver"], ACTIVE),
    (["isactiver", "rise"], BOTH),
]
LEVEL = [
    (["rise"], PENDING),
    (["rise", "fall"], IDLE),
    (["ispendr", "rise", "fall"], PENDING),
    (["rise", "icpendr"], PENDING),
    (["ispendr", "icpendr"], IDLE),
    (["setspi"], PENDING),
    (["setspi", "clrspi"], IDLE),
    (["rise", "iar"], BOTH),
    (["rise", "iar", "fall"], ACTIVE),
    (["rise", "iar", "eoir"], PENDING),
    (["rise", "iar", "fall", "eoir"], IDLE),
    (["ispendr", "iar"], ACTIVE),
    (["ispendr", "rise", "iar", "fall"], ACTIVE),
    (["isactiver", "rise", "icactiver"], PENDING),
]


@pytest.mark.parametrize(
    ("edge", "events", "expected"),
    [(True, *row) for row in EDGE] + [(False, *row) for row in LEVEL],
    ids=lambda value: "-".join(value) if isinstance(value, list) else None,
)
def test_state_machine(rig, edge, events, expected):
    rig.spi(SPI, edge=edge)
    for event in events:
        do(rig, event)
    assert status(rig) == expected
    assert status(rig, SPI + 1) == IDLE
    assert rig.irq(0) == (expected == PENDING)
    assert not rig.irq(1)


def test_a_disabled_interrupt_becomes_pending_and_is_signalled_when_enabled(rig):
    rig.spi(SPI, enable=False)
    rig.set_wire(SPI, True)
    assert status(rig) == PENDING
    assert not rig.irq(0)
    rig.gicd(0x104, 1 << SPI % 32)
    assert rig.irq(0)
    rig.gicd(0x184, 1 << SPI % 32)
    assert not rig.irq(0)
    assert status(rig) == PENDING


@pytest.mark.parametrize("gate", ["group", "distributor", "interface", "sleep"])
def test_each_gate_closes(rig, gate):
    rig.spi(SPI)
    rig.set_wire(SPI, True)
    assert rig.irq(0)
    match gate:
        case "group":
            rig.gicd(0x084, 0)
        case "distributor":
            rig.gicd(0x000, 0b01)
        case "interface":
            rig.icc(0, "IGRPEN1", 0)
        case "sleep":
            rig.gicr(0, 0x14, 2)
    assert not rig.irq(0)
    assert rig.iar() == 1023
    assert status(rig) == PENDING


def test_waker_handshake(rig):
    assert Rig().gicr(0, 0x14) == 0b110
    assert rig.gicr(0, 0x14) == 0
    rig.gicr(0, 0x14, 2)
    assert rig.gicr(0, 0x14) == 0b110
    assert rig.gicr(1, 0x14) == 0


def test_routing_moves_a_pending_interrupt(rig):
    rig.spi(SPI, cpu=0)
    rig.set_wire(SPI, True)
    rig.gicd(0x6000 + 8 * SPI, 1, size=8)
    assert (rig.irq(0), rig.irq(1)) == (False, True)
    rig.gicd(0x6000 + 8 * SPI, 0x5, size=8)  # no such CPU
    assert (rig.irq(0), rig.irq(1)) == (False, False)
    assert status(rig) == PENDING
    rig.gicd(0x6000 + 8 * SPI, 0)  # the halves are separate
    assert rig.irq(0)


def test_active_interrupt_is_signalled_nowhere_after_its_route_moved(rig):
    """Window W11: the old CPU's deactivation works, since the active bit is the distributor's."""
    rig.spi(SPI, cpu=0)
    rig.set_wire(SPI, True)
    assert rig.iar(0) == SPI
    rig.gicd(0x6000 + 8 * SPI, 1, size=8)
    assert status(rig) == BOTH
    assert not rig.irq(1)
    rig.icc(0, "EOIR1", SPI)
    assert rig.irq(1)
    assert not rig.irq(0)


def test_irouter_keeps_affinity_and_nothing_else(rig):
    rig.gicd(0x6000 + 8 * SPI, 0xFFFF_FFFF_FFFF_FFFF, size=8)
    assert rig.gicd(0x6000 + 8 * SPI, size=8) == 0xFF_00FF_FFFF
    flat = Rig(Implementation(affinity_3=False))
    flat.gicd(0x6000 + 8 * SPI, 0xFFFF_FFFF_FFFF_FFFF, size=8)
    assert flat.gicd(0x6000 + 8 * SPI, size=8) == 0x00FF_FFFF


@pytest.mark.parametrize(
    ("offset", "written", "expected"),
    [
        (0x084, 0xFFFF_FFFF, 0xFFFF_FFFF),
        (0x104, 0xFFFF_FFFF, 0xFFFF_FFFF),
        (0x184, 0xFFFF_FFFF, 0),
        (0x428, 0xFFFF_FFFF, 0xF8F8_F8F8),
        (0x428, 0x0706_0504, 0),
        (0xC08, 0xFFFF_FFFF, 0xAAAA_AAAA),
        (0x080, 0xFFFF_FFFF, 0),  # INTIDs 0-31 live in the redistributors
        (0x100, 0xFFFF_FFFF, 0),
        (0x200, 0xFFFF_FFFF, 0),
        (0x300, 0xFFFF_FFFF, 0),
        (0x400, 0xFFFF_FFFF, 0),
        (0x41C, 0xFFFF_FFFF, 0),
        (0xC00, 0xFFFF_FFFF, 0),
        (0xC04, 0xFFFF_FFFF, 0),
        (0x60F8, 0xFFFF_FFFF, 0),
        (0x08C, 0xFFFF_FFFF, 0),  # beyond the last SPI
        (0x10C, 0xFFFF_FFFF, 0),
        (0x460, 0xFFFF_FFFF, 0),
        (0xC18, 0xFFFF_FFFF, 0),
        (0x6300, 0xFFFF_FFFF, 0),
        (0x840, 0xFFFF_FFFF, 0),  # ITARGETSR with affinity routing
        (0xD04, 0xFFFF_FFFF, 0),
        (0xF00, 0xFFFF_FFFF, 0),
        (0x00C, 0xFFFF_FFFF, 0),
        (0x000, 0xFFFF_FFFF, 0x53),
        (0x000, 0, 0x50),
        (0x008, 0, 0x43B),
        (0xFFE8, 0, 0x3B),
    ],
)
def test_register(rig, offset, written, expected):
    rig.gicd(offset, written)
    assert rig.gicd(offset) == expected


def test_spis_that_fill_a_word_partly():
    rig = Rig(spis=40)
    for offset in (0x084, 0x104, 0x304):
        rig.gicd(offset, 0xFFFF_FFFF)
        rig.gicd(offset + 4, 0xFFFF_FFFF)
        assert rig.gicd(offset) == 0xFFFF_FFFF
        assert rig.gicd(offset + 4) == 0xFF
    assert rig.gicd(0x004) & 0x1F == 2


@pytest.mark.parametrize(
    ("config", "typer"),
    [
        (
            {"spis": 64, "lpis": 1024},
            2 | 9 << 11 | 1 << 16 | 1 << 17 | 15 << 19 | 1 << 24 | 1 << 25,
        ),
        ({"spis": 988, "lpis": 57344}, 31 | 1 << 16 | 1 << 17 | 15 << 19 | 1 << 24 | 1 << 25),
        ({"spis": 0, "lpis": 0}, 0 | 1 << 16 | 15 << 19 | 1 << 24 | 1 << 25),
    ],
)
def test_typer(config, typer):
    assert Rig(**config).gicd(0x004) == typer


def test_last_spi():
    rig = Rig(spis=988).open()
    rig.spi(1019)
    rig.set_wire(1019, True)
    assert rig.iar() == 1019


def test_priority_bytes_are_separate(rig):
    rig.gicd(0x428, 0x1020_3040)
    rig.gicd(0x429, 0xFF, size=1)
    assert rig.gicd(0x428) == 0x1020_F840
    assert rig.gicd(0x42B, size=1) == 0x10


@pytest.mark.parametrize(("choice", "expected"), [("merge", 0xFF), ("ignore", 0)])
def test_narrow_write_to_a_word_register(choice, expected):
    rig = Rig(Implementation(narrow_writes=choice))
    rig.gicd(0x084, 0xFF, size=1)
    assert rig.gicd(0x084) == expected
    rig.gicd(0x428, 0x80, size=1)  # byte access is architecture here
    assert rig.gicd(0x428) == 0x80


@pytest.mark.parametrize(
    ("size", "value", "pending"), [(4, SPI, True), (2, SPI, True), (1, SPI, False), (4, 8, False)]
)
def test_message_spi(rig, size, value, pending):
    rig.spi(SPI, edge=True)
    rig.gicd(0x040, value, size=size)
    assert status(rig)[0] is pending


def test_message_spi_looks_at_ten_bits(rig):
    rig.gicd(0x040, 0x400 | SPI)
    assert status(rig) == PENDING
    other = Rig(Implementation(setspi_bits=13))
    other.gicd(0x040, 0x400 | SPI)
    assert status(other) == IDLE


def test_level_interrupt_retriggered_through_its_trigger_type(rig):
    """Making a high line edge-sensitive forgets it: there was no edge since."""
    rig.spi(SPI, edge=False)
    rig.set_wire(SPI, True)
    rig.spi(SPI, edge=True)
    assert status(rig) == IDLE
    rig.spi(SPI, edge=False)
    assert status(rig) == PENDING


def test_sgi_and_ppi_registers(rig):
    assert rig.sgi_frame(0, 0xC00) == 0xAAAA_AAAA
    rig.sgi_frame(0, 0xC00, 0)
    assert rig.sgi_frame(0, 0xC00) == 0xAAAA_AAAA
    rig.sgi_frame(0, 0xC04, 0xFFFF_FFFF)
    assert rig.sgi_frame(0, 0xC04) == 0xAAAA_AAAA
    assert rig.sgi_frame(1, 0xC04) == 0
    for offset in (0x084, 0x104, 0x420, 0xC08, 0xD00, 0xE00):
        rig.sgi_frame(0, offset, 0xFFFF_FFFF)
        assert rig.sgi_frame(0, offset) == 0
    for offset in (0x400, 0x41C):
        rig.sgi_frame(0, offset, 0x1020_3047)
        assert rig.sgi_frame(0, offset) == 0x1020_3040
        assert rig.sgi_frame(1, offset) == 0


def test_ppi_is_private_and_level(rig):
    rig.private(0, 27)
    rig.private(1, 27)
    rig.set_ppi(1, 27, True)
    assert (rig.irq(0), rig.irq(1)) == (False, True)
    assert rig.iar(1) == 27
    rig.icc(1, "EOIR1", 27)
    assert rig.iar(1) == 27
    rig.set_ppi(1, 27, False)
    rig.icc(1, "EOIR1", 27)
    assert rig.iar(1) == 1023


def test_winner_is_most_urgent_then_lowest(rig):
    rig.spi(50, priority=0x80)
    rig.spi(41, priority=0x80)
    rig.spi(60, priority=0x40)
    rig.private(0, 20, priority=0x80)
    for intid in (50, 41, 60):
        rig.set_wire(intid, True)
    rig.set_ppi(0, 20, True)
    order = []
    while (intid := rig.icc(0, "HPPIR1")) != 1023:
        order.append(intid)
        rig.gicd(0x180 + intid // 32 * 4, 1 << intid % 32)
        rig.sgi_frame(0, 0x180, 1 << intid if intid < 32 else 0)
    assert order == [60, 20, 41, 50]
