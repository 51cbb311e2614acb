"""One API on both hosts: the same calls, the same refusals."""

import pytest

from hdl.config import RAM_BASE
from sim.bench import Bench, BusError
from sim.hosts.base import LINES

from . import machines
from .machines import SKIP


@pytest.fixture
def reference():
    with Bench(SKIP, host="reference") as bench:
        yield bench


@pytest.fixture
def hosts(pair):
    pair.restart()
    return pair.gateware, pair.reference


BAD_CALLS = {
    "address": lambda bench: bench.cpu[0].read(-1),
    "address kind": lambda bench: bench.cpu[0].read("0"),
    "size": lambda bench: bench.cpu[0].read(RAM_BASE, 3),
    "data": lambda bench: bench.cpu[0].write(RAM_BASE, 0x100, 1),
    "64-bit data": lambda bench: bench.cpu[0].write64(RAM_BASE, 1 << 64),
    "register": lambda bench: bench.cpu[0].read_sysreg("ICC_NOTHING"),
    "write-only register": lambda bench: bench.cpu[0].read_sysreg("ICC_DIR_EL1"),
    "read-only register": lambda bench: bench.cpu[1].write_sysreg("ICC_IAR1_EL1", 0),
    "cycles": lambda bench: bench.step(-1),
    "cycles kind": lambda bench: bench.step(1.5),
    "device": lambda bench: bench.message(RAM_BASE, 0, device_id=1 << 16),
    "message data": lambda bench: bench.message(RAM_BASE, 1 << 16, size=2),
    "wire": lambda bench: bench.set_wire(31, True),
    "private wire": lambda bench: bench.set_ppi(0, 32, True),
    "private wire's CPU": lambda bench: bench.set_ppi(8, 16, True),
    "offset": lambda bench: bench.endpoint[0].config_read(0x1000),
    "value": lambda bench: bench.endpoint[0].config_write(4, 0x1_0000, 2),
    "vector": lambda bench: bench.endpoint[0].raise_event(64),
    "RAM address": lambda bench: bench.ram.read(0, 4),
    "RAM end": lambda bench: bench.ram.write(RAM_BASE, bytes((1 << 20) + 1)),
    "nothing there": lambda bench: bench.cpu[0].read32(machines.NOWHERE),
    "beyond the bus": lambda bench: bench.message(1 << 40, 0),
    "unaligned": lambda bench: bench.cpu[0].read(RAM_BASE + 1, 2),
    "unaligned configuration": lambda bench: bench.endpoint[0].config_read(2, 4),
    "input": lambda bench: bench.poke("nothing.0", 1),
}


@pytest.mark.parametrize("call", BAD_CALLS.values(), ids=BAD_CALLS)
def test_the_same_refusals(hosts, call):
    errors = []
    for bench in hosts:
        with pytest.raises((ValueError, TypeError, BusError)) as caught:
            call(bench)
        errors.append(caught.value)
    gateware, model = errors
    assert type(gateware) is type(model)
    if call is not BAD_CALLS["input"]:
        assert str(gateware) == str(model)


def test_the_same_answers_to_everything_once(hosts):
    def everything(bench):
        cpu, endpoint = bench.cpu[0], bench.endpoint[0]
        cpu.write64(machines.SCRATCH, 0x1234_5678_9ABC_DEF0)
        yield cpu.read64(machines.SCRATCH), cpu.read32(machines.SCRATCH)
        yield bench.ram.read(machines.SCRATCH, 8)
        bench.set_wire(40, True)
        bench.set_ppi(1, 20, True)
        bench.step(100)
        yield [getattr(cpu, line) for cpu in bench.cpu for line in LINES]
        yield bench.cpu[0].read_sysreg("ICC_IAR1_EL1"), bench.cpu[1].read_sysreg("ICC_IAR1_EL1")
        bench.poke("wires.8", 0)
        bench.poke("ppis_1.4", 0)
        bench.step(100)
        bench.cpu[0].write_sysreg("ICC_EOIR1_EL1", 40)
        bench.step(100)
        yield [cpu.irq for cpu in bench.cpu]
        bench.message(0xFEE0_1000, 0x55, device_id=8)
        bench.step(100)
        yield [cpu.intr for cpu in bench.cpu]
        endpoint.raise_event(2)
        bench.step(300)
        yield endpoint.requester_id, endpoint.config_read(0, 4), [cpu.irq for cpu in bench.cpu]
        endpoint.unplug()
        bench.step(10)
        yield endpoint.config_read(0, 4)
        endpoint.unplug(False)
        bench.step(300)
        yield endpoint.config_read(0x04, 2)

    gateware, model = hosts
    assert list(everything(gateware)) == list(everything(model))


def test_time_on_the_reference_only_counts(reference):
    reference.step(70)
    reference.poke("gic_knobs.link_distance", 5)
    reference.poke("fabric_posted_latency", 9)
    assert (reference.cycle, reference.events) == (70, [])
    with pytest.raises(RuntimeError, match="runs on no simulator"):
        _ = reference.host


def test_what_the_reference_cannot_do():
    with pytest.raises(ValueError, match=r"no PMUs: SocConfig.pmus must be 0, not 2$"):
        Bench(machines.SocConfig(pmus=2), host="reference")


def test_an_input_that_the_reference_does_not_know(reference):
    with pytest.raises(ValueError, match=r"no input 'quirks_0_moderation'$"):
        reference.poke("quirks_0_moderation", 3)


def test_closed(reference):
    reference.close()
    with pytest.raises(RuntimeError, match="closed"):
        reference.step()


def test_without_a_gic():
    with Bench(machines.SocConfig(gic=False), host="reference") as bench:
        with pytest.raises(BusError, match="0x8000000"):
            bench.cpu[0].read32(0x0800_0000)
        with pytest.raises(ValueError, match="ICC_PMR_EL1"):
            bench.cpu[0].read_sysreg("ICC_PMR_EL1")
        bench.cpu[1].write32(0xFEE0_00F0, 0x1FF)
        bench.message(0xFEE0_1000, 0x31, device_id=8)
        assert bench.cpu[1].intr
        assert bench.cpu[1].read_sysreg("LAPIC_INTA") == 0x31


def test_frames_above_4_gib():
    config = machines.SocConfig(cpus=3, high_frames=True)
    with Bench(config, host="reference") as bench:
        last = config.redistributors[2].base
        assert last > 1 << 32
        assert bench.cpu[0].read32(last + 8) & 1 << 4, "TYPER.Last"
        assert bench.cpu[0].read32(config.its_region.base) == 1 << 31
