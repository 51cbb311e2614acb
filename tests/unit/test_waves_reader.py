"""Reading waveforms clock by clock."""

import pytest
from vcd import VCDWriter

from sim.waves import Waveform, WaveformError
from sim.waves.reader import canonical

from .waves_files import FakeDesign, write


@pytest.fixture
def vcd(tmp_path):
    nets = {
        "top/valid": (1, {0: 0, 3: 1, 4: 0}),
        "top/word": (68, {0: 0, 2: (5 << 64) | 0xABCD, 6: (9 << 64) | 0xEF}),
        "top.unit/bus__request__payload.address": (40, {1: 0x1000}),
        "top/tap_0_valid": (1, {0: 0, 5: 1, 6: 0}),
        "top/tap_0_record": (12, {0: 0, 5: 0x7A1, 6: 0}),
    }
    return write(tmp_path / "run.vcd", nets, 8)


def test_clock_zero_is_the_first_without_reset(vcd):
    waveform = Waveform(vcd)
    assert waveform.clocks == range(-2, 8)
    assert waveform.values("rst") == [1, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    assert waveform.time(0) == 20_000
    assert waveform.time(8) == 100_000


def test_values_are_those_before_the_rising_edge(tmp_path):
    path = tmp_path / "edge.vcd"
    with path.open("w") as file, VCDWriter(file, timescale="1 ps") as writer:
        clock = writer.register_var("top", "clk", "wire", 1, init=0)
        register = writer.register_var("top", "register", "wire", 1, init=0)
        glitch = writer.register_var("top", "glitch", "wire", 1, init=0)
        for time, variable, value in (
            (5, clock, 1),
            (5, register, 1),  # taken over at the edge: the next clock's value
            (7, glitch, 1),
            (8, glitch, 0),  # gone again before the next edge
            (10, clock, 0),
            (15, clock, 1),
            (20, clock, 0),
        ):
            writer.change(variable, time, value)
    waveform = Waveform(path)
    assert waveform.clocks == range(2)
    assert waveform.values("register") == [0, 1]
    assert waveform.changes("glitch") == [(0, 0)]


def test_a_value_that_never_came_is_unknown(vcd):
    waveform = Waveform(vcd)
    assert waveform.values("valid", range(-2, 5)) == [None, None, 0, 0, 0, 1, 0]
    assert waveform.at("word", 3) == (5 << 64) | 0xABCD


def test_runs_cut_at_the_edges_of_the_window(vcd):
    waveform = Waveform(vcd)
    assert waveform.runs("valid", range(2, 4)) == [(2, 3, 0), (3, 4, 1)]
    assert waveform.runs("valid", range(5, 8)) == [(5, 8, 0)]


def test_a_net_goes_by_either_name(vcd):
    waveform = Waveform(vcd)
    full = "top.unit.bus__request__payload.address"
    assert canonical(full) == "unit.bus_request_payload.address"
    assert waveform.net(full) is waveform.net("unit.bus_request_payload.address")
    assert waveform.at(full, 1) == 0x1000
    assert full in waveform
    assert "unit.bus" not in waveform


def test_fields_and_channels_come_from_the_design(vcd):
    design = FakeDesign(
        {"valid": 1, "word": 68, "tap_0_valid": 1, "tap_0_record": 12},
        [("word.low", "word", 0, 16), ("word.high", "word", 64, 4)]
        + [("tap_0_record.id", "tap_0_record", 0, 8), ("tap_0_record.kind", "tap_0_record", 8, 4)],
        ["apic0"],
    )
    waveform = Waveform(vcd, design)
    assert waveform.values("word.high", range(8)) == [0, 0, 5, 5, 5, 5, 9, 9]
    assert waveform.at("word.low", 2) == 0xABCD
    assert waveform.at("word.high", -1) is None
    assert waveform.values("tap.apic0.valid", range(4, 7)) == [0, 1, 0]
    assert waveform.at("tap.apic0.kind", 5) == 7
    assert waveform.at("tap.apic0.id", 5) == 0xA1


def test_of_two_nets_of_one_name_the_port_counts(tmp_path):
    nets = {
        "$rootio/wires": (4, {0: 0b1010}),
        "top/wires": (1, {0: 0}),
    }
    waveform = Waveform(write(tmp_path / "run.vcd", nets, 2))
    assert waveform.net("wires").width == 4
    assert waveform.at("wires", 1) == 0b1010


def test_a_partly_unknown_vector_has_known_parts(tmp_path):
    nets = {"top/word": (8, {0: "xxxx0110"})}
    design = FakeDesign({"word": 8}, [("word.low", "word", 0, 4), ("word.high", "word", 4, 4)])
    waveform = Waveform(write(tmp_path / "run.vcd", nets, 2), design)
    assert (waveform.at("word.low", 0), waveform.at("word.high", 0)) == (6, None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file"),
        ("", "not a waveform"),
        ("no waveform at all\n", "not a waveform"),
    ],
)
def test_a_file_that_is_no_waveform(tmp_path, capfd, content, message):
    path = tmp_path / "broken.vcd"
    if content is not None:
        path.write_text(content)
    with pytest.raises(WaveformError, match=rf"broken\.vcd: {message}"):
        Waveform(path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9])
def test_a_truncated_file(vcd, kept):
    content = vcd.read_bytes()
    cut = content[: int(len(content) * kept)].rstrip(b"\n")
    vcd.write_bytes(cut)
    with pytest.raises(WaveformError, match="cut off"):
        Waveform(vcd)


@pytest.mark.parametrize("damage", ["hello\n", "b1 zz\n", "#soon\n"])
def test_damage_inside_is_one_clear_error(vcd, capfd, damage):
    vcd.write_text(vcd.read_text() + damage)
    with pytest.raises(WaveformError, match="not a waveform"):
        Waveform(vcd)
    assert capfd.readouterr().err == ""


def test_a_missing_net_names_its_neighbours(vcd):
    with pytest.raises(WaveformError, match=r"no net 'valide'; nearest: valid"):
        Waveform(vcd).values("valide")
    with pytest.raises(WaveformError, match=r"no net 'qqqqqq'$"):
        Waveform(vcd).values("qqqqqq")


def test_clocks_outside_the_run(vcd):
    waveform = Waveform(vcd)
    with pytest.raises(WaveformError, match=r"has clocks -2 to 7, not 5 to 9$"):
        waveform.values("valid", range(5, 10))
    assert waveform.window(5, 100) == range(5, 8)
    assert waveform.window(None, None) == range(8)
    with pytest.raises(WaveformError, match=r"has clocks -2 to 7, nothing of 20 to 30$"):
        waveform.window(20, 30)


def test_a_run_of_another_design(vcd):
    with pytest.raises(WaveformError, match="not a run of this design, which has a port word of 9"):
        Waveform(vcd, FakeDesign({"word": 9}))
    with pytest.raises(WaveformError, match="has a port missing of 1 bits"):
        Waveform(vcd, FakeDesign({"missing": 1}))


def test_a_clock_that_never_rises(tmp_path):
    path = tmp_path / "still.vcd"
    with path.open("w") as file, VCDWriter(file, timescale="1 ps") as writer:
        writer.register_var("top", "clk", "wire", 1, init=0)
    with pytest.raises(WaveformError, match="'clk' never rises"):
        _ = Waveform(path).clocks
