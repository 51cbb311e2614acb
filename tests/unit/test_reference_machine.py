"""The reference machine as a whole: address map, faults, arguments, random traffic."""

import random
from types import SimpleNamespace

import pytest

from sim.reference import (
    AddressMap,
    BusFaultError,
    EndpointShape,
    Implementation,
    ReferenceMachine,
    Shape,
)
from tests.unit.reference_rig import RAM, Rig, ready_rig


def test_ram_by_every_size():
    rig = Rig(ram_bytes=4096)
    rig.store(0, RAM, 0x1122_3344_5566_7788, 8)
    assert rig.ram_read(RAM, 8) == bytes.fromhex("8877665544332211")
    assert [rig.load(1, RAM + i, 1) for i in range(8)] == [
        0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
    ]  # fmt: skip
    assert rig.load(0, RAM + 2, 2) == 0x5566
    rig.store(0, RAM + 3, 0xAB, 1)
    rig.store(0, RAM + 4, 0xCDEF, 2)
    assert rig.load(0, RAM, 8) == 0x1122_CDEF_AB66_7788


@pytest.mark.parametrize(
    ("address", "size"),
    [
        (0, 4),
        (RAM - 4, 4),
        (RAM + 4096, 4),
        (RAM + 1, 2),
        (RAM + 2, 4),
        (RAM + 2, 8),
        (0x0801_0000, 4),
        (0x080E_0000, 4),  # after the second redistributor
        (1 << 40, 4),
        ((1 << 40) + RAM, 4),
        (-4, 4),
    ],
)
def test_fault(address, size):
    rig = Rig(cpus=2, ram_bytes=4096)
    with pytest.raises(BusFaultError) as caught:
        rig.load(0, address, size)
    assert str(caught.value) == f"Nothing answers at {address:#x}"
    with pytest.raises(BusFaultError) as caught:
        rig.store(0, address, 0, size)
    assert caught.value.address == address


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.load(2, RAM), "CPU must be between 0 and 1, not 2"),
        (lambda m: m.read_sysreg(-1, "ICC_IAR1_EL1"), "CPU must be between 0 and 1, not -1"),
        (lambda m: m.load(0, RAM, 3), "An access has 1, 2, 4 or 8 bytes, not 3"),
        (lambda m: m.message(RAM, 0, 8, 8), "A message has 1, 2 or 4 bytes, not 8"),
        (lambda m: m.config_read(1, 0), "Endpoint must be below 1, their number, not 1"),
        (lambda m: m.raise_event(-1), "Endpoint must be below 1, their number, not -1"),
        (lambda m: m.config_read(0, 0, 8), "A configuration access has 1, 2 or 4 bytes, not 8"),
        (
            lambda m: m.config_write(0, 0x1000, 0),
            "A configuration offset must be a multiple of its size below 0x1000, not 0x1000",
        ),
        (
            lambda m: m.config_write(0, 2, 0),
            "A configuration offset must be a multiple of its size below 0x1000, not 0x2",
        ),
        (lambda m: m.set_wire(31, 1), "A wired SPI must be between 32 and 95, not 31"),
        (lambda m: m.set_wire(96, 1), "A wired SPI must be between 32 and 95, not 96"),
        (lambda m: m.set_ppi(0, 15, 1), "A PPI must be between 16 and 31, not 15"),
    ],
)
def test_bad_argument(call, message):
    with pytest.raises(ValueError, match="^" + message.replace(".", r"\.") + "$"):
        call(ReferenceMachine(Shape(cpus=2)))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Shape(cpus=0), ValueError, "Shape.cpus must be between 1 and 128, not 0"),
        (lambda: Shape(spis="64"), TypeError, "Shape.spis must be an integer, not '64'"),
        (lambda: Shape(lpis=True), TypeError, "Shape.lpis must be an integer, not True"),
        (
            lambda: Shape(its_on_error="panic"),
            ValueError,
            "Shape.its_on_error must be 'skip' or 'stall', not 'panic'",
        ),
        (
            lambda: EndpointShape(msi=64),
            ValueError,
            "EndpointShape.msi must be 'none', '32' or '64', not 64",
        ),
        (
            lambda: EndpointShape(msi_vectors=3),
            ValueError,
            "EndpointShape.msi_vectors must be a power of two from 1 to 32, not 3",
        ),
        (
            lambda: EndpointShape(msix_vectors=65),
            ValueError,
            "EndpointShape.msix_vectors must be between 0 and 64, not 65",
        ),
        (
            lambda: Implementation(narrow_writes="swap"),
            ValueError,
            "Implementation.narrow_writes must be 'merge' or 'ignore', not 'swap'",
        ),
        (
            lambda: Implementation(priority_bits=3),
            ValueError,
            "Implementation.priority_bits must be between 4 and 8, not 3",
        ),
    ],
)
def test_bad_configuration(make, error, message):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value) == message


def test_any_object_with_the_fields_is_a_configuration():
    config = SimpleNamespace(cpus=1, spis=32, endpoints=3, latency=7)
    assert Shape.of(config) == Shape(cpus=1, spis=32, endpoints=(EndpointShape(),) * 3)
    listed = SimpleNamespace(endpoints=(SimpleNamespace(msi="32", moderation=5),))
    assert Shape.of(listed).endpoints == (EndpointShape(msi="32"),)


def test_frames_above_4_gib():
    addresses = AddressMap(gicr_bases=(0x080A_0000, 0x1_0800_0000), gits=0x2_0000_0000)
    machine = ReferenceMachine(Shape(cpus=2), addresses=addresses)
    assert machine.load(0, 0x1_0800_0014) == 0b110
    assert machine.load(0, 0x2_0000_0004) == 0x43B


@pytest.mark.parametrize(("bits", "mask"), [(4, 0xF0), (5, 0xF8), (8, 0xFF)])
def test_priority_bits(bits, mask):
    rig = Rig(Implementation(priority_bits=bits))
    rig.gicd(0x420, 0xFF, size=1)
    rig.icc(0, "PMR", 0xFF)
    assert rig.gicd(0x420, size=1) == rig.icc(0, "PMR") == mask
    assert rig.icc(0, "CTLR") >> 8 & 7 == bits - 1


def test_lines_carry_a_message_from_the_device_to_the_cpu():
    rig = ready_rig(endpoints=1)
    rig.config_write(0, 0x04, 6, 2)
    rig.config_write(0, 0x54, 0x0809_0040)
    rig.config_write(0, 0x5C, 2, 2)
    rig.config_write(0, 0x52, 1, 2)
    rig.raise_event(0)
    assert [rig.irq(cpu) for cpu in (0, 1)] == [True, False]
    assert rig.iar() == 8194


OFFSETS = (
    *range(0x000, 0x120, 4),
    *range(0x180, 0xD00, 0x40),
    0x6100,
    0x6104,
    0xFFE8,
    0x0FFC,
    0x1_0080,
    0x1_0100,
    0x1_0200,
    0x1_0400,
    0x1_0C04,
    0x1_FFFC,
)


@pytest.mark.parametrize("seed", range(6))
def test_any_traffic_keeps_the_rules(seed):
    """Random accesses of any size to any register: always an answer, and the invariants of
    section 6 hold after each."""
    rng = random.Random(seed)
    rig = ready_rig(
        Implementation(narrow_writes=rng.choice(("merge", "ignore"))),
        its_on_error=rng.choice(("skip", "stall")),
        cpus=3,
    )
    names = sorted(rig._sysregs[0])
    frames = [0x0800_0000, 0x0808_0000, 0x080A_0000, 0x080C_0000, 0x080E_0000, 0xFEE0_0000]

    def value():
        return rng.choice((0, 1, rng.getrandbits(32), 1 << rng.randrange(32), rng.randrange(8300)))

    def access():
        size = rng.choice((1, 2, 4, 4, 4))
        address = rng.choice(frames) + rng.choice(OFFSETS) + rng.choice((0, 0, size))
        try:
            if rng.random() < 0.5:
                return rig.load(rng.randrange(3), address, size)
            return rig.store(rng.randrange(3), address, value(), size)
        except BusFaultError:
            return None

    def sysreg():
        name = rng.choice(names)
        try:
            if rng.random() < 0.5:
                return rig.read_sysreg(rng.randrange(3), name)
            return rig.write_sysreg(rng.randrange(3), name, value() << rng.choice((0, 32)))
        except KeyError:
            return None

    actions = (
        access,
        sysreg,
        lambda: rig.iar(rng.randrange(3)),
        lambda: rig.icc(rng.randrange(3), "EOIR1", rng.randrange(100)),
        lambda: rig.event(rng.choice((8, 9)), rng.randrange(6), rng.choice((2, 4))),
        lambda: rig.spi(rng.randrange(32, 96), rng.randrange(3), rng.randrange(0xF0), True),
        lambda: rig.set_wire(rng.randrange(32, 96), rng.random() < 0.5),
        lambda: rig.set_ppi(rng.randrange(3), rng.randrange(16, 32), rng.random() < 0.5),
        lambda: rig.event_command(rng.randrange(18), 8, rng.randrange(6), rng.randrange(4)),
        lambda: rig.ram_write(RAM + rng.randrange(0x5_0000), rng.randbytes(8)),
    )
    acknowledged = 0
    for step in range(1500):
        if step % 10 == 0:
            rig.open()
            for cpu in range(3):
                rig.icc(cpu, "AP1R0", 0)
        rng.choice(actions)()
        for cpu in range(3):
            permitted = rig.permitted_acknowledges(cpu)
            interface = rig.state()["cpus"][cpu]["interface"] if step % 50 == 0 else None
            if interface:
                assert (interface["running"] == 0xFF) == (interface["active_priorities"] == 0)
            if rig.irq(cpu):
                before = rig.icc(cpu, "RPR")
                depth = rig.icc(cpu, "AP1R0").bit_count()
                intid = rig.iar(cpu)
                acknowledged += 1
                assert intid in permitted
                assert rig.icc(cpu, "RPR") < before
                assert rig.icc(cpu, "AP1R0").bit_count() == depth + 1
                rig.icc(cpu, "EOIR1", intid)
                assert rig.icc(cpu, "RPR") == before
            else:
                assert 1023 in permitted
                assert rig.iar(cpu) == 1023
    assert acknowledged > 20
