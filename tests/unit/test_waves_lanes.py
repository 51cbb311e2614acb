"""Lanes, their order, what they show, and the marks that are found by themselves."""

import enum

import pytest

from hdl.tap import EventKind, TapRecord
from sim.waves import ARRANGEMENT, Lane, Mark, Waveform, arrange, story
from sim.waves.lanes import FORMATS, GROUPS, Run, lively, lively_clocks, shown
from sim.waves.marks import MANY, checked_marks

from .waves_files import FakeDesign, write

RECORD = 128


def record(kind, **fields):
    return TapRecord.const({"kind": kind} | fields).as_value().value


def tap_design(*channels, cpus=0):
    ports, fields = {}, []
    for i in range(len(channels)):
        ports |= {f"tap_{i}_valid": 1, f"tap_{i}_record": RECORD}
        for name, lsb, width in (
            ("address", 0, 64),
            ("data", 64, 32),
            ("id", 96, 16),
            ("unit", 112, 8),
            ("kind", 120, 8),
        ):
            fields.append((f"tap_{i}_record.{name}", f"tap_{i}_record", lsb, width))
    for cpu in range(cpus):
        ports[f"probe_cpu_{cpu}"] = 20
        fields.append((f"probe_cpu_{cpu}.context", f"probe_cpu_{cpu}", 0, 4))
        fields.append((f"probe_cpu_{cpu}.mark", f"probe_cpu_{cpu}", 4, 16))
    return FakeDesign(ports, fields, channels)


def events(index, *happened):
    """The two nets of tap channel ``index``; ``happened`` are (clock, record)."""
    valid, records = {0: 0}, {0: 0}
    for cycle, value in happened:
        valid |= {cycle: 1, cycle + 1: 0}
        records |= {cycle: value, cycle + 1: 0}
    return {f"top/tap_{index}_valid": (1, valid), f"top/tap_{index}_record": (RECORD, records)}


@pytest.fixture
def run(tmp_path):
    """A device event at 4, its acknowledge at 8, a handler on CPU 1 at 10."""
    nets = {
        "top/probe_cpu_0": (20, {0: 1}),
        "top/probe_cpu_1": (20, {0: 0, 8: 2, 10: 4 | 1 << 4}),
        "top/cpu_0_irq": (1, {0: 0}),
        "top/cpu_1_irq": (1, {0: 0, 7: 1, 9: 0}),
        **events(0, (7, record(EventKind.LINE, unit=1, data=1))),
        **events(1, (8, record(EventKind.ACKNOWLEDGE, unit=1, id=0x31))),
        **events(2, (4, record(EventKind.DEVICE_EVENT, unit=0, id=3))),
    }
    design = tap_design("apic1_line", "apic1", "endpoint0_event", cpus=2)
    design.ports.outputs.update({"cpu_0_irq": 1, "cpu_1_irq": 1})
    return Waveform(write(tmp_path / "run.vcd", nets, 20), design)


def test_the_order_is_that_of_an_interrupt(run):
    lanes = arrange(run)
    assert [lane.label for lane in lanes] == [
        "endpoint 0",
        "APIC 1",
        "CPU 0 irq",
        "CPU 1 irq",
        "CPU 0 context",
        "CPU 0 handlers",
        "CPU 1 context",
        "CPU 1 handlers",
    ]
    assert [lane.group for lane in lanes] == sorted(
        (lane.group for lane in lanes), key=GROUPS.index
    )


def test_placeholders_are_filled_everywhere(run):
    lane = arrange(run)[1]
    assert (lane.net, lane.when) == ("tap.apic1.kind", "tap.apic1.valid")
    assert lane.detail == "tap.apic1.id"
    assert lane.enumeration is EventKind


def test_rules_are_well_formed():
    for rule in ARRANGEMENT:
        assert rule.group in GROUPS
        assert rule.format in FORMATS
        assert (rule.enumeration is None) == (rule.format != "enum")
        for pattern in (rule.label, rule.when or "", rule.detail or ""):
            assert "{n}" not in pattern or "{n}" in rule.net
            assert "{name}" not in pattern or "{name}" in rule.net


def test_a_rule_without_its_companions_still_shows_its_net(tmp_path):
    path = write(tmp_path / "run.vcd", {"top/tap_3_record.kind": (8, {0: 9})}, 3)
    (lane,) = arrange(Waveform(path))
    assert (lane.label, lane.when, lane.detail) == ("tap 3", None, None)


def test_an_unknown_waveform_shows_its_nets(tmp_path):
    nets = {"top/alpha": (1, {0: 0}), "top.unit/beta": (8, {0: 1})}
    lanes = arrange(Waveform(write(tmp_path / "run.vcd", nets, 3)))
    assert [(lane.label, lane.format) for lane in lanes] == [("alpha", "bit"), ("unit.beta", "hex")]
    only_clock = arrange(Waveform(write(tmp_path / "clock.vcd", {}, 3)))
    assert [lane.label for lane in only_clock] == ["clk", "rst"]


def test_a_lane_shows_its_value_only_when_that_counts(run):
    endpoint, apic = arrange(run)[:2]
    assert shown(run, endpoint, range(20)) == [Run(4, 5, EventKind.DEVICE_EVENT.value, 3)]
    (seen,) = shown(run, apic, range(20))
    assert apic.text(seen.value, seen.detail) == "ACKNOWLEDGE 0x31"
    assert shown(run, apic, range(9, 20)) == []


def test_back_to_back_events_are_told_apart(tmp_path):
    nets = {
        "top/valid": (1, {0: 0, 3: 1, 6: 0}),
        "top/kind": (4, {0: 2}),
        "top/id": (8, {0: 1, 4: 5}),
    }
    waveform = Waveform(write(tmp_path / "run.vcd", nets, 8))
    lane = Lane("Nets", "kind", "kind", "hex", when="valid", detail="id")
    assert shown(waveform, lane, range(8)) == [Run(3, 4, 2, 1), Run(4, 6, 2, 5)]


class Colour(enum.Enum):
    RED = 1
    GREEN = 2


@pytest.mark.parametrize(
    ("lane", "value", "text"),
    [
        (Lane("", "", "", "hex"), 0x1F, "0x1f"),
        (Lane("", "", "", "decimal"), 31, "31"),
        (Lane("", "", "", "binary"), 5, "101"),
        (Lane("", "", ""), 1, "1"),
        (Lane("", "", "", "enum", Colour), 2, "GREEN"),
        (Lane("", "", "", "enum", Colour), 7, "0x7"),
        (Lane("", "", "", "enum", Colour), None, "x"),
    ],
)
def test_values_as_text(lane, value, text):
    assert lane.text(value) == text


def test_quiet_lanes_and_quiet_clocks(run):
    lanes = arrange(run)
    moving = lively(run, lanes, range(20))
    assert [lane.label for lane in moving] == [
        "endpoint 0",
        "APIC 1",
        "CPU 1 irq",
        "CPU 1 context",
        "CPU 1 handlers",
    ]
    assert lively(run, lanes, range(15, 20)) == lanes
    assert lively_clocks(run, lanes, margin=2) == range(2, 13)
    assert lively_clocks(run, lanes[2:3]) == range(20)


def test_the_story_of_a_run(run):
    assert story(run, range(20)) == [
        Mark(4, "device 0 fires"),
        Mark(8, "CPU 1 takes 0x31"),
        Mark(10, "CPU 1 starts handler"),
    ]
    assert story(run, range(5, 9)) == [Mark(8, "CPU 1 takes 0x31")]


def test_a_crowded_story_keeps_what_tells_most(tmp_path):
    writes = [(i, record(EventKind.CONFIG_WRITE, address=0x40)) for i in range(3, 33, 2)]
    nets = events(0, *writes) | events(1, (40, record(EventKind.DEVICE_EVENT)))
    path = write(tmp_path / "run.vcd", nets, 50)
    marks = story(Waveform(path, tap_design("config", "endpoint0_event")), range(50))
    assert len(marks) == MANY
    assert marks[-1] == Mark(40, "device 0 fires")
    assert marks[0] == Mark(3, "config 0x40 := 0x0")


def test_marks_are_checked():
    assert checked_marks([(5, "two\nlines"), (2, "a")]) == [Mark(2, "a"), Mark(5, "two lines")]
    with pytest.raises(
        TypeError, match=r"a mark must be a clock number and a text, not \('a', 3\)"
    ):
        checked_marks([("a", 3)])
