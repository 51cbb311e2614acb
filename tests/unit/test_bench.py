"""The Bench: the documentation's example, what each part does, and what it says of mistakes."""

import random

import pytest

from hdl.config import RAM_BASE, SocConfig
from hdl.tap import EventKind
from sim import backends
from sim.backends import RefusedError
from sim.bench import HOSTS, Bench, BusError
from sim.events import Event

NOWHERE = 0x2000_0000


@pytest.fixture(scope="module", params=HOSTS)
def any_bench(request, soc):
    """A bench on either host, for what needs no fresh machine."""
    with Bench(soc.config, host=request.param) as bench:
        yield bench


@pytest.fixture
def bench(soc):
    with Bench(soc.config) as bench:
        yield bench


def test_the_example_of_the_documentation():
    with Bench(SocConfig(cpus=2, endpoints=1)) as bench:
        cpu0 = bench.cpu[0]
        cpu0.write32(0x0800_0000, 0x12)
        cpu0.write_sysreg("ICC_PMR_EL1", 0xFF)
        assert cpu0.read_sysreg("ICC_PMR_EL1") & 0xF8 == 0xF8
        bench.ram.write(0x4000_0000, b"\x00" * 32)
        bench.endpoint[0].config_write(0x04, 0x0006, size=2)
        assert bench.endpoint[0].config_read(0x04, size=2) == 0x0006
        bench.endpoint[0].raise_event(vector=0)
        bench.message(0x0809_0040, data=5, device_id=8)
        bench.step(100)
        assert cpu0.irq is False, "nothing was enabled"
        events = bench.events
    assert all(isinstance(event, Event) for event in events)
    cycles = [event.cycle for event in events]
    assert cycles == sorted(cycles)
    kinds = {event.kind for event in events}
    assert {EventKind.CONFIG_WRITE, EventKind.DEVICE_EVENT} <= kinds


def test_an_interrupt_from_a_wire(bench):
    """The smallest thing that makes a line move: an SPI on one CPU and not on the other."""
    intid = 40
    distributor, redistributor = 0x0800_0000, 0x080A_0000
    cpu0, cpu1 = bench.cpu
    cpu0.write32(redistributor + 0x14, 0)
    cpu0.write32(distributor, 0x12)
    cpu0.write32(distributor + 0x80 + 4, 0xFFFF_FFFF)
    cpu0.write32(distributor + 0x100 + 4, 1 << (intid - 32))
    cpu0.write64(distributor + 0x6000 + 8 * intid, 0)
    for cpu in bench.cpu:
        cpu.write_sysreg("ICC_PMR_EL1", 0xFF)
        cpu.write_sysreg("ICC_IGRPEN1_EL1", 1)
    assert not cpu0.irq
    bench.set_wire(intid, True)
    bench.step(50)
    assert (cpu0.irq, cpu1.irq) == (True, False)
    assert (cpu0.virq, cpu0.intr) == (False, False)
    assert cpu0.read_sysreg("ICC_IAR1_EL1") == intid
    assert EventKind.ACKNOWLEDGE in {event.kind for event in bench.events}


def test_accesses_against_a_bytearray(bench):
    """Off-chip RAM, from both CPUs, by the bus and past it."""
    dice = random.Random(5)
    size = bench.config.ram_bytes
    model = {}
    places = [0, 0x1000, size // 2, size - 64]
    for _ in range(300):
        at = dice.choice(places) + dice.randrange(64)
        cpu = dice.choice(bench.cpu)
        count = dice.choice([1, 2, 4])
        at &= -count
        kind = dice.choice(["read", "write", "ram read", "ram write"])
        content = bytes(dice.randrange(256) for _ in range(count))
        if kind == "write":
            cpu.write(RAM_BASE + at, int.from_bytes(content, "little"), count)
        elif kind == "ram write":
            bench.ram.write(RAM_BASE + at, content)
        if kind.endswith("write"):
            model.update(zip(range(at, at + count), content, strict=True))
        expected = bytes(model.get(i, 0) for i in range(at, at + count))
        if kind == "read":
            assert cpu.read(RAM_BASE + at, count) == int.from_bytes(expected, "little")
        else:
            assert bench.ram.read(RAM_BASE + at, count) == expected


def test_64_bit_accesses_are_two_low_word_first(any_bench):
    cpu = any_bench.cpu[1]
    cpu.write64(RAM_BASE + 0x40, 0x1122_3344_5566_7788)
    assert cpu.read32(RAM_BASE + 0x40) == 0x5566_7788
    assert cpu.read32(RAM_BASE + 0x44) == 0x1122_3344
    assert cpu.read64(RAM_BASE + 0x40) == 0x1122_3344_5566_7788
    with pytest.raises(BusError) as error:
        cpu.read64(NOWHERE)
    assert error.value.address == NOWHERE, "the low word goes first"


@pytest.mark.parametrize(
    ("access", "address"),
    [
        (lambda b: b.cpu[0].read32(NOWHERE), NOWHERE),
        (lambda b: b.cpu[1].write32(NOWHERE, 1), NOWHERE),
        (lambda b: b.cpu[0].read32(1 << 40), 1 << 40),
        (lambda b: b.cpu[0].read32((1 << 64) - 4), (1 << 64) - 4),
        (lambda b: b.cpu[0].read(RAM_BASE + 1, 4), RAM_BASE + 1),
        (lambda b: b.cpu[0].write(RAM_BASE + 3, 1, 2), RAM_BASE + 3),
        (lambda b: b.message(NOWHERE, 5), NOWHERE),
    ],
)
def test_what_nothing_answers_is_a_bus_error(any_bench, access, address):
    with pytest.raises(BusError, match=rf"^bus error at {address:#x}$") as error:
        access(any_bench)
    assert error.value.address == address


def test_time_stands_still_until_step(bench):
    assert bench.cycle == 0
    bench.ram.write(RAM_BASE, b"1234")
    assert (bench.ram.read(RAM_BASE, 4), bench.cycle) == (b"1234", 0)
    bench.step()
    assert bench.cycle == 1
    bench.step(0)
    assert bench.cycle == 1
    bench.step(99)
    assert bench.cycle == 100
    bench.cpu[0].read32(RAM_BASE)
    assert 100 < bench.cycle < 120


def test_an_access_that_is_never_answered_is_reported(bench, monkeypatch):
    monkeypatch.setattr(backends, "ANSWER_LIMIT", 2)
    message = rf"^no answer to an access to {RAM_BASE:#x} within 2 clocks$"
    with pytest.raises(RuntimeError, match=message):
        bench.cpu[0].read32(RAM_BASE)


WHOLE = [True, 1.0, "1", None]
"""What is no integer."""


ADDRESSES = {
    "read": lambda b, v: b.cpu[0].read(v),
    "write": lambda b, v: b.cpu[0].write(v, 1),
    "read32": lambda b, v: b.cpu[0].read32(v),
    "read64": lambda b, v: b.cpu[0].read64(v),
    "write32": lambda b, v: b.cpu[0].write32(v, 1),
    "write64": lambda b, v: b.cpu[0].write64(v, 1),
    "message": lambda b, v: b.message(v, 1),
}


@pytest.mark.parametrize("call", ADDRESSES)
def test_addresses(any_bench, call):
    for value in (-1, 1 << 64):
        message = rf"^address must be between 0x0 and 0xffffffffffffffff, not {value:#x}$"
        with pytest.raises(ValueError, match=message):
            ADDRESSES[call](any_bench, value)
    for value in WHOLE:
        with pytest.raises(TypeError, match=rf"^address must be an integer, not {value!r}$"):
            ADDRESSES[call](any_bench, value)


RANGES = {
    "8 bits": ("data", 0, 0xFF, lambda b, v: b.cpu[0].write(RAM_BASE, v, 1)),
    "16 bits": ("data", 0, 0xFFFF, lambda b, v: b.cpu[0].write(RAM_BASE, v, 2)),
    "32 bits": ("data", 0, 0xFFFF_FFFF, lambda b, v: b.cpu[0].write32(RAM_BASE, v)),
    "64 bits": ("data", 0, (1 << 64) - 1, lambda b, v: b.cpu[0].write64(RAM_BASE, v)),
    "sysreg": ("data", 0, (1 << 64) - 1, lambda b, v: b.cpu[0].write_sysreg("ICC_PMR_EL1", v)),
    "message": ("data", 0, 0xFFFF_FFFF, lambda b, v: b.message(RAM_BASE, v)),
    "short message": ("data", 0, 0xFFFF, lambda b, v: b.message(RAM_BASE, v, size=2)),
    "device": ("device_id", 0, 0xFFFF, lambda b, v: b.message(RAM_BASE, 0, v)),
    "cycles": ("cycles", 0, 1 << 40, lambda b, v: b.step(v)),
    "wire": ("intid", 32, 95, lambda b, v: b.set_wire(v, True)),
    "ppi": ("intid", 16, 31, lambda b, v: b.set_ppi(0, v, True)),
    "cpu": ("cpu", 0, 1, lambda b, v: b.set_ppi(v, 20, True)),
    "offset": ("offset", 0, 0xFFF, lambda b, v: b.endpoint[0].config_read(v)),
    "config data": ("data", 0, 0xFF, lambda b, v: b.endpoint[0].config_write(4, v, 1)),
    "count": ("count", 0, 4 << 20, lambda b, v: b.ram.read(RAM_BASE, v)),
    "ram": ("address", RAM_BASE, RAM_BASE + (4 << 20) - 1, lambda b, v: b.ram.read(v, 0)),
    "ram write": ("address", RAM_BASE, RAM_BASE + (4 << 20) - 1, lambda b, v: b.ram.write(v, b"")),
}


@pytest.mark.parametrize("case", RANGES)
def test_ranges(any_bench, case):
    name, low, high, call = RANGES[case]
    for value in (low - 1, high + 1, -(1 << 70)):
        message = rf"^{name} must be between {low:#x} and {high:#x}, not {value:#x}$"
        with pytest.raises(ValueError, match=message):
            call(any_bench, value)
    for value in WHOLE:
        with pytest.raises(TypeError, match=rf"^{name} must be an integer, not {value!r}$"):
            call(any_bench, value)


def test_vectors_are_those_of_the_endpoint(any_bench):
    last = any_bench.config.endpoints[0].vectors - 1
    message = rf"^vector must be between 0x0 and {last:#x}, not {last + 1:#x}$"
    with pytest.raises(ValueError, match=message):
        any_bench.endpoint[0].raise_event(last + 1)


@pytest.mark.parametrize(
    "call",
    [
        lambda b, v: b.cpu[0].read(RAM_BASE, v),
        lambda b, v: b.cpu[0].write(RAM_BASE, 0, v),
        lambda b, v: b.message(RAM_BASE, 0, size=v),
        lambda b, v: b.endpoint[0].config_read(0, v),
        lambda b, v: b.endpoint[0].config_write(0, 0, v),
    ],
)
def test_sizes(any_bench, call):
    for value in (0, 3, 8, -4):
        with pytest.raises(ValueError, match=rf"^size must be 1, 2 or 4 bytes, not {value}$"):
            call(any_bench, value)
    for value in (*WHOLE, 4.0):
        with pytest.raises(TypeError, match=rf"^size must be an integer, not {value!r}$"):
            call(any_bench, value)


@pytest.mark.parametrize("name", ["ICC_PMR", "icc_pmr_el1", "", 4, None, ["ICC_PMR_EL1"]])
def test_system_registers_go_by_their_names(any_bench, name):
    message = r"^name must be a system register \(ICC_IAR1_EL1, .*LAPIC_INTA\), not "
    with pytest.raises(ValueError, match=message) as error:
        any_bench.cpu[0].read_sysreg(name)
    assert str(error.value).endswith(repr(name))
    with pytest.raises(ValueError, match=message):
        any_bench.cpu[0].write_sysreg(name, 0)


def test_a_register_that_cannot_be_written(any_bench):
    message = r"^this machine has no register ICC_RPR_EL1, or refuses the access$"
    with pytest.raises(RefusedError, match=message):
        any_bench.cpu[0].write_sysreg("ICC_RPR_EL1", 0)


@pytest.mark.parametrize("content", ["text", 4, None, [1, 2]])
def test_ram_takes_bytes(any_bench, content):
    with pytest.raises(TypeError, match=r"^content must be bytes, not ") as error:
        any_bench.ram.write(RAM_BASE, content)
    assert str(error.value).endswith(repr(content))


def test_ram_takes_anything_like_bytes(any_bench):
    words = memoryview(b"\x01\x02\x03\x04\x05\x06\x07\x08").cast("I")
    any_bench.ram.write(RAM_BASE + 2, words)
    any_bench.ram.write(RAM_BASE + 12, bytearray(b"\xff"))
    assert any_bench.ram.read(RAM_BASE + 2, 11) == bytes([*range(1, 9), 0, 0, 0xFF])


def test_ram_ends_where_it_ends(any_bench):
    end = RAM_BASE + any_bench.config.ram_bytes
    message = rf"^4 bytes at {end - 3:#x} reach past the end of RAM at {end:#x}$"
    with pytest.raises(ValueError, match=message):
        any_bench.ram.read(end - 3, 4)
    with pytest.raises(ValueError, match=message):
        any_bench.ram.write(end - 3, b"1234")
    assert len(any_bench.ram.read(end - 4, 4)) == 4


@pytest.mark.parametrize("config", [{"cpus": 2}, 2, "SocConfig", SocConfig])
def test_the_configuration_is_one(config):
    with pytest.raises(TypeError, match=r"^config must be a SocConfig, not "):
        Bench(config)


@pytest.mark.parametrize("host", ["cocotb", "", None, 5])
def test_hosts_nobody_knows(host):
    message = rf"^host must be one of verilated, reference, not {host!r}$"
    with pytest.raises(ValueError, match=message):
        Bench(host=host)


@pytest.mark.parametrize("host", HOSTS)
def test_a_closed_bench_refuses_everything(soc, host):
    bench = Bench(soc.config, host=host)
    cpu, ram, endpoint = bench.cpu[0], bench.ram, bench.endpoint[0]
    bench.close()
    bench.close()
    uses = [
        bench.__enter__,
        bench.step,
        lambda: bench.cycle,
        lambda: bench.events,
        lambda: bench.host,
        lambda: bench.message(RAM_BASE, 0),
        lambda: bench.set_wire(40, True),
        lambda: bench.set_ppi(0, 20, True),
        lambda: bench.poke("probe_scene", 1),
        lambda: cpu.read32(RAM_BASE),
        lambda: cpu.read64(RAM_BASE),
        lambda: cpu.write32(RAM_BASE, 0),
        lambda: cpu.write64(RAM_BASE, 0),
        lambda: cpu.read_sysreg("ICC_PMR_EL1"),
        lambda: cpu.write_sysreg("ICC_PMR_EL1", 0),
        lambda: cpu.irq,
        lambda: cpu.virq,
        lambda: cpu.intr,
        lambda: ram.read(RAM_BASE, 4),
        lambda: ram.write(RAM_BASE, b""),
        lambda: endpoint.config_read(0),
        lambda: endpoint.config_write(0, 0),
        lambda: endpoint.raise_event(0),
        lambda: endpoint.unplug(),
    ]
    for use in uses:
        with pytest.raises(RuntimeError, match=r"^this Bench is closed; make a new one$"):
            use()


def test_a_bench_closes_when_its_block_fails(soc):
    def fail():
        with Bench(soc.config, host="reference") as bench:
            kept.append(bench)
            raise LookupError("inside")

    kept = []
    with pytest.raises(LookupError, match="inside"):
        fail()
    with pytest.raises(RuntimeError, match="closed"):
        kept[0].step()


@pytest.mark.parametrize(
    ("name", "value", "error", "says"),
    [
        ("nonsense", 1, ValueError, "name must be an input field"),
        ("cpu_0_intr", 1, ValueError, "name must be an input field"),
        (3, 1, ValueError, "name must be an input field"),
        ("fabric_posted_latency", 5000, ValueError, "value must be between 0x0 and 0xfff"),
        ("fabric_posted_latency", -1, ValueError, "value must be between 0x0 and 0xfff"),
        ("fabric_posted_latency", 7.9, TypeError, "value must be an integer"),
        ("fabric_posted_latency", "7", TypeError, "value must be an integer"),
    ],
)
def test_a_poke_of_what_is_no_input_or_does_not_fit_is_refused(bench, name, value, error, says):
    with pytest.raises(error, match=says):
        bench.poke(name, value)
