"""The fast host: pokes, wake-ups, records, snapshots; and what it refuses."""

import copy
import random
import time

import numpy
import pytest

from hdl.cpu_port import Operation
from hdl.soc import RAM_BASE
from hdl.tap import EventKind
from sim.events import decode
from sim.hosts.base import EXTERNAL, Poke, Response, Wake, operation_pokes
from sim.hosts.verilated import RecordsFullError, VerilatedHost

from ..random_traffic import RandomTraffic, quiesce, run
from ..small_machine import SCENE_FLOOD, SLOW

IRQ, VIRQ, INTR = 1, 2, 4
LOAD, STORE = Operation.LOAD.value, Operation.STORE.value
MISALIGNED = (LOAD, 2, RAM_BASE + 1, 0)


@pytest.fixture
def host(small):
    with VerilatedHost(small) as host:
        yield host


def operate(host, asker, operation, size, address, data=0):
    """One operation to its answer."""
    pokes = operation_pokes(asker, host.cycle, operation, size, address, data)
    end = host.cycle + 500
    while host.cycle < end:
        wake = host.advance(pokes, end)
        if asker in wake.responses:
            return wake.responses[asker]
        pokes = []
    raise AssertionError(f"no answer to an operation at {address:#x} within 500 clocks")


# Fields


@pytest.mark.parametrize("seed", range(3))
def test_every_input_field_keeps_its_value_beside_its_neighbours(host, seed):
    """Among them fields that straddle 32-bit words and 64 bits of them at odd places."""
    ports = host.design.ports
    dice = random.Random(seed)
    names = [name for name, field in ports.fields.items() if field.port in ports.inputs]
    names = [name for name in names if not name.endswith("_valid")]
    assert any(ports[n].width == 64 and ports[n].lsb % 32 for n in names)
    model = dict.fromkeys(names, 0)
    for _ in range(20):
        for name in dice.sample(names, 7):
            ones = (1 << ports[name].width) - 1
            model[name] = dice.choice([0, 1, ones, ones ^ 1, dice.getrandbits(64) & ones])
            host.poke(host.cycle, name, model[name])
        host.advance((), host.cycle + 1)
        assert {name: host.peek(name) for name in names} == model


def test_a_value_too_wide_does_not_reach_its_neighbours(host):
    field = "cpu_0_port_request_payload.size"
    host.advance([Poke(0, field, 0b10111)], 1)
    assert host.peek(field) == 0b11
    assert host.peek("cpu_0_port_request_payload.operation") == 0
    assert host.peek("cpu_0_port_request_payload.address") == 0


def test_outputs_are_those_of_the_clock_about_to_come(host):
    """A line that follows an input at once and one that follows a clock later."""
    host.advance([Poke(5, "probe_scene", 0x0101)], 5)
    assert (host.peek("cpu_0_irq"), host.peek("cpu_0_virq")) == (0, 0)
    host.advance((), 6)
    assert (host.peek("cpu_0_irq"), host.peek("cpu_0_virq")) == (1, 1)


@pytest.mark.parametrize("name", ["nothing", "cpu_0_irq.x", "cpu_0_port_request_payload"])
def test_unknown_fields(host, name):
    with pytest.raises(KeyError, match=rf"{name}' is not a field of this design"):
        host.peek(name)
    with pytest.raises(KeyError, match=rf"{name}' is not an input field of this design"):
        host.poke(0, name, 1)


def test_outputs_cannot_be_poked(host):
    with pytest.raises(KeyError, match=r"'cpu_0_irq' is not an input field of this design"):
        host.advance([Poke(0, "cpu_0_irq", 1)], 5)
    assert host.cycle == 0


# The schedule


def test_of_two_pokes_in_one_clock_the_later_given_wins(host):
    dice = random.Random(1)
    for first in range(0, 400, 40):
        last = {}
        for _ in range(60):
            cycle = first + dice.randrange(1, 4)
            last[cycle] = dice.getrandbits(16) & ~SCENE_FLOOD
            host.poke(cycle, "probe_scene", last[cycle])
        for cycle in sorted(last):
            while host.cycle <= cycle:
                host.advance((), cycle + 1)
            assert host.peek("probe_scene") == last[cycle]
        while host.cycle < first + 40:
            host.advance((), first + 40)


def test_pokes_wait_for_their_clock_and_old_ones_come_at_once(host):
    host.advance([Poke(9, "external_requester.id", 9), Poke(4, "external_requester.id", 4)], 4)
    assert host.peek("external_requester.id") == 0
    host.advance((), 5)
    assert host.peek("external_requester.id") == 4
    host.advance((), 9)
    assert host.peek("external_requester.id") == 4
    host.advance((), 10)
    assert host.peek("external_requester.id") == 9
    host.advance([Poke(3, "external_requester.id", 3)], 11)
    assert host.peek("external_requester.id") == 3


def test_pokes_count_whether_given_ahead_or_with_advance(host):
    for i in range(300):
        host.poke(i, "external_requester.id", i)
    host.advance([Poke(299, "external_requester.id", 1234)], 299)
    assert host.peek("external_requester.id") == 298
    host.advance((), 300)
    assert host.peek("external_requester.id") == 1234


# Wake-ups


def test_nothing_to_see_returns_when_due(host):
    assert host.advance((), 100) == Wake(100, {}, (0, 0))
    assert host.cycle == 100
    assert host.advance((), 100) == Wake(100, {}, (0, 0))
    assert host.advance((), 3) == Wake(100, {}, (0, 0)), "time does not run backwards"


def test_wakes_on_a_response(host):
    """Refused two clocks after it was offered, seen in that clock, so the next can be chosen."""
    for asker in (0, 1, EXTERNAL):
        start = host.cycle
        wake = host.advance(operation_pokes(asker, start + 5, *MISALIGNED), start + 1000)
        assert wake == Wake(start + 8, {asker: Response(0, True)}, (0, 0))


def test_wakes_once_for_responses_in_one_clock(host):
    pokes = [poke for asker in (0, 1, EXTERNAL) for poke in operation_pokes(asker, 3, *MISALIGNED)]
    wake = host.advance(pokes, 1000)
    assert wake.cycle == 6
    assert wake.responses == dict.fromkeys([0, 1, EXTERNAL], Response(0, True))
    assert host.advance((), 50) == Wake(50, {}, (0, 0))


def test_a_response_carries_its_data(host):
    value = 0x8765_4321
    assert operate(host, 0, STORE, 2, RAM_BASE + 8, value) == Response(0, False)
    assert operate(host, 1, LOAD, 2, RAM_BASE + 8) == Response(value, False)
    assert operate(host, EXTERNAL, LOAD, 0, RAM_BASE + 11) == Response(0x87, False)


def test_wakes_when_a_line_changes_and_not_while_it_stays(host):
    assert host.advance([Poke(10, "probe_scene", 0b01)], 1000) == Wake(11, {}, (IRQ, 0))
    assert host.lines == (IRQ, 0)
    assert host.advance([Poke(20, "probe_scene", 0b11)], 1000) == Wake(21, {}, (IRQ, IRQ))
    assert host.advance((), 60) == Wake(60, {}, (IRQ, IRQ))
    assert host.advance([Poke(70, "probe_scene", 0b10)], 1000) == Wake(71, {}, (0, IRQ))
    pokes = [Poke(80, "probe_scene", 0x0102)]
    assert host.advance(pokes, 1000) == Wake(82, {}, (VIRQ, IRQ)), "virq comes a clock later"
    assert host.advance([Poke(90, "probe_scene", 0)], 1000) == Wake(91, {}, (VIRQ, 0))
    assert host.advance((), 1000) == Wake(92, {}, (0, 0))


def test_a_glitch_between_clocks_of_two_pokes_is_no_change(host):
    pokes = [Poke(5, "probe_scene", 1), Poke(5, "probe_scene", 0)]
    assert host.advance(pokes, 30) == Wake(30, {}, (0, 0))


def test_a_line_and_a_response_in_one_clock(host):
    pokes = [*operation_pokes(0, 3, *MISALIGNED), Poke(5, "probe_scene", 0b10)]
    assert host.advance(pokes, 100) == Wake(6, {0: Response(0, True)}, (0, IRQ))


def test_intr_follows_traffic(host):
    operate(host, 0, STORE, 2, RAM_BASE, 0b10)
    quiesce(host)
    assert host.lines == (0, INTR)


# Records


def test_bus_errors_are_recorded_with_their_clock(host, small):
    operate(host, 1, STORE, 2, 0x2000_0000, 5)
    first = host.cycle
    host.advance(operation_pokes(EXTERNAL, first + 4, *MISALIGNED), first + 100)
    events = decode(host.records(), small.channels)
    assert [(e.channel, e.kind, e.unit, e.address, e.data) for e in events] == [
        ("cpu1", EventKind.BUS_ERROR, 1, 0x2000_0000, 1),
        ("external", EventKind.BUS_ERROR, 0xFE, RAM_BASE + 1, 0),
    ]
    assert events[1].cycle == first + 5
    assert "bus error" in str(events[1])


def test_records_of_one_clock_stand_in_channel_order(host, small):
    pokes = [poke for asker in (EXTERNAL, 1, 0) for poke in operation_pokes(asker, 3, *MISALIGNED)]
    host.advance(pokes, 100)
    events = decode(host.records(), small.channels)
    assert [(event.cycle, event.channel) for event in events] == [
        (4, "cpu0"),
        (4, "cpu1"),
        (4, "external"),
    ]


def test_every_bit_of_a_record_arrives(host, small):
    host.advance([Poke(7, "probe_scene", SCENE_FLOOD), Poke(307, "probe_scene", 0)], 400)
    events = decode(host.records(), small.channels)
    assert [event.cycle for event in events] == list(range(7, 307))
    for count, event in enumerate(events):
        other = count ^ 0xFFFF
        assert event.channel == "flood"
        assert event.kind == EventKind.MESSAGE
        assert event.unit == count & 0xFF
        assert event.id == count
        assert event.data == other | count << 16
        assert event.address == count | other << 16 | count << 32 | other << 48


def test_records_are_a_copy_and_can_be_forgotten(host):
    host.advance([Poke(0, "probe_scene", SCENE_FLOOD)], 10)
    kept = host.records()
    assert len(kept) == 10
    host.forget_records()
    assert len(host.records()) == 0
    host.advance((), 13)
    assert host.records()["cycle"].tolist() == [10, 11, 12]
    assert kept["cycle"].tolist() == list(range(10))


def test_too_many_records_are_refused(host):
    host.poke(0, "probe_scene", SCENE_FLOOD)
    with pytest.raises(RecordsFullError, match=r"^more tap records than fit by clock 4194304$"):
        host.advance((), 5_000_000)
    assert len(host.records()) == 1 << 22
    host.forget_records()
    host.advance((), host.cycle + 5)
    assert len(host.records()) == 5


# RAM


def test_ram_past_the_bus(host):
    host.write_ram(0x1FFE, b"\x01\x02\x03\x04")
    assert host.read_ram(0x1FFC, 8) == b"\x00\x00\x01\x02\x03\x04\x00\x00"
    assert operate(host, 0, LOAD, 2, RAM_BASE + 0x1FFC).data == 0x0201_0000
    operate(host, 0, STORE, 1, RAM_BASE + 0x2002, 0xBEEF)
    assert host.read_ram(0x2000, 4) == b"\x03\x04\xef\xbe"
    host.write_ram(0, b"")
    size = host.design.config.ram_bytes
    host.write_ram(size - 1, b"\xff")
    assert host.read_ram(size - 2, 2) == b"\x00\xff"
    assert len(host.read_ram(0, size)) == size == host.ram_bytes


@pytest.mark.parametrize(
    ("offset", "count"), [(-1, 1), (0x1_0000, 1), (0xFFFF, 2), (0, 0x1_0001), (1 << 40, 4), (4, -1)]
)
def test_ram_ends_where_it_ends(host, offset, count):
    message = rf"^{count} bytes at {offset:#x} are not within the RAM's 0x10000$"
    with pytest.raises(ValueError, match=message):
        host.read_ram(offset, count)
    if count >= 0:
        with pytest.raises(ValueError, match=message):
            host.write_ram(offset, bytes(count))


# Snapshots


def state(host):
    return host.cycle, host.lines, host.records().tobytes(), host.read_ram(0, host.ram_bytes)


@pytest.mark.parametrize("seed", range(5))
def test_after_restore_everything_happens_as_the_first_time(host, seed):
    """Random traffic is interrupted by a snapshot with operations and pokes under way."""
    traffic = RandomTraffic(seed)
    host.write_ram(0x3000, bytes(range(256)))
    before = run(host, traffic, 150 + seed)
    saved, taken = host.snapshot(), state(host)
    again = copy.deepcopy(traffic)
    first = run(host, traffic, 600, before[-1])
    ended = state(host)
    assert ended != taken
    host.write_ram(0x8000, b"only in the first future")
    host.poke(host.cycle + 3, "probe_scene", 3)
    host.restore(saved)
    assert state(host) == taken
    assert run(host, again, 600, before[-1]) == first
    assert state(host) == ended


def test_several_snapshots_in_any_order(host):
    traffic = RandomTraffic("several")
    kept = []
    wake = None
    for _ in range(4):
        wake = run(host, traffic, 200, wake)[-1]
        kept.append((host.snapshot(), state(host), copy.deepcopy(traffic), wake))
    assert len({slot for slot, *_ in kept}) == 4
    futures = {}
    for slot, taken, then, wake in [kept[2], kept[0], kept[3], kept[0], kept[1], kept[2]]:
        host.restore(slot)
        assert state(host) == taken
        run(host, copy.deepcopy(then), 200, wake)
        assert futures.setdefault(slot, state(host)) == state(host)
    for slot, following in zip((0, 1, 2), kept[1:], strict=True):
        assert futures[slot] == following[1], "the future of one snapshot is the next snapshot"


def test_a_slot_can_be_used_again(host):
    slot = host.snapshot()
    host.advance((), 50)
    other = host.snapshot()
    host.advance((), 70)
    assert host.snapshot(slot) == slot
    host.restore(other)
    assert host.cycle == 50
    host.restore(slot)
    assert host.cycle == 70


def test_pokes_given_before_a_snapshot_belong_to_it(host):
    host.poke(10, "probe_scene", 1)
    slot = host.snapshot()
    for _ in range(2):
        assert host.advance((), 100) == Wake(11, {}, (IRQ, 0))
        host.restore(slot)


def test_pokes_given_after_a_snapshot_go_with_their_future(host):
    slot = host.snapshot()
    host.poke(10, "probe_scene", 1)
    host.restore(slot)
    assert host.advance((), 100) == Wake(100, {}, (0, 0))


def test_lines_after_restore_are_those_last_seen(host):
    """Even when the wires already have a new level that no clock has shown yet."""
    host.advance([Poke(5, "probe_scene", 0x0100)], 6)
    assert host.lines == (0, 0)
    slot = host.snapshot()
    host.restore(slot)
    assert host.lines == (0, 0)
    assert host.advance((), 6) == Wake(6, {}, (0, 0))
    assert host.advance((), 100) == Wake(7, {}, (VIRQ, 0))


@pytest.mark.parametrize("slot", [1, -1, 7, None, "0"])
def test_a_snapshot_that_was_never_taken(host, slot):
    host.snapshot()
    message = rf"^no snapshot {slot!r}; there are 1, from 0$"
    with pytest.raises(ValueError, match=message):
        host.restore(slot)
    if slot is not None:
        with pytest.raises(ValueError, match=message):
            host.snapshot(slot)


def test_snapshot_and_restore_are_quick(host):
    """A figure for the reader, with sixteen written pages of RAM and two hundred records; a shared
    machine's clock is no verdict, so it is printed and only the result is checked."""
    for page in range(16):
        host.write_ram(page * 4096, bytes([page + 1]) * 4096)
    host.advance([Poke(0, "probe_scene", SCENE_FLOOD)], 200)
    slot = host.snapshot()
    taken = state(host)
    best = float("inf")
    for _ in range(50):
        host.advance((), host.cycle + 10)
        start = time.perf_counter()
        host.restore(slot)
        host.snapshot(slot)
        best = min(best, time.perf_counter() - start)
    print(f"snapshot and restore: {1e6 * best:.0f} us")
    assert state(host) == taken


# Several hosts, and none


def test_hosts_of_one_library_are_independent(small):
    with VerilatedHost(small) as one, VerilatedHost(small) as other:
        alone = run(one, RandomTraffic("alone"), 300)
        assert state(other) == (0, (0, 0), b"", bytes(other.ram_bytes))
        one.snapshot()
        with pytest.raises(ValueError, match=r"^no snapshot 0; there are none$"):
            other.restore(0)
        assert run(other, RandomTraffic("alone"), 300) == alone
        assert state(other) == state(one)
        one.close()
        run(other, RandomTraffic("on"), 100)
        assert other.cycle == 400


def test_a_new_host_starts_from_nothing(small):
    with VerilatedHost(small) as host:
        run(host, RandomTraffic("dirt"), 300)
    with VerilatedHost(small) as host:
        assert state(host) == (0, (0, 0), b"", bytes(host.ram_bytes))


@pytest.mark.parametrize(
    "use",
    [
        lambda host: host.cycle,
        lambda host: host.poke(0, "probe_scene", 1),
        lambda host: host.peek("cpu_0_irq"),
        lambda host: host.advance((), 10),
        lambda host: host.records(),
        lambda host: host.forget_records(),
        lambda host: host.snapshot(),
        lambda host: host.restore(0),
        lambda host: host.read_ram(0, 4),
        lambda host: host.write_ram(0, b"1234"),
        lambda host: host.spin(1),
    ],
)
def test_a_closed_host_refuses_everything(small, use):
    host = VerilatedHost(small)
    host.snapshot()
    host.close()
    host.close()
    with pytest.raises(RuntimeError, match=r"^this host is closed; make a new one$"):
        use(host)


def test_spinning_moves_time_and_nothing_else(host):
    host.spin(100)
    assert host.cycle == 100
    assert len(host.records()) == 0
    assert numpy.array_equal(host.records(), host.records())
    assert operate(host, 0, LOAD, 2, SLOW.base).data > 100
