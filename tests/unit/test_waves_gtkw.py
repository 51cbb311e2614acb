"""GTKWave save files."""

import stat

import pytest

from hdl.probe import CpuContext
from sim.toolchain import ToolError
from sim.waves import WaveformError, open_in_gtkwave, write_gtkw

from .waves_files import FakeDesign, write

PROBE = (20, {0: 1, 6: 4 | 1 << 4})


@pytest.fixture
def vcd(tmp_path):
    nets = {
        "$rootio/probe_cpu_0": PROBE,
        "top/probe_cpu_0": PROBE,
        "top/probe__cpu__0.context": (4, {0: 1, 6: 4}),
        "top/cpu_0_irq": (1, {0: 0}),
        "top.ram/bus__request__valid": (1, {0: 0, 3: 1, 4: 0}),
        "top.ram/bus__request__payload.data": (32, {0: 0, 3: 0x1234}),
    }
    return write(tmp_path / "run.vcd", nets, 20)


@pytest.fixture
def design():
    parts = [
        ("probe_cpu_0.context", "probe_cpu_0", 0, 4),
        ("probe_cpu_0.mark", "probe_cpu_0", 4, 16),
    ]
    return FakeDesign({"probe_cpu_0": 20, "cpu_0_irq": 1}, parts)


def groups(text):
    return [line[1:] for line in text.splitlines() if line.startswith("-")]


def test_groups_stand_in_order_and_quiet_lanes_are_closed(vcd, design, tmp_path):
    text = write_gtkw(vcd, tmp_path / "run.gtkw", design).read_text()
    opened = ["Bus", "CPU", "CPU: 1 quiet", "Software"]
    assert list(dict.fromkeys(groups(text))) == opened
    assert "+{RAM data} top.ram.\\bus__request__payload.data[31:0]\n" in text
    assert "+{CPU 0 irq} top.cpu_0_irq\n" in text


def test_a_field_is_put_together_from_the_bits_of_its_port(vcd, design, tmp_path):
    text = write_gtkw(vcd, tmp_path / "run.gtkw", design).read_text()
    bits = " ".join(f"({i})$rootio.probe_cpu_0[19:0]" for i in (16, 17, 18, 19))
    assert f"#{{CPU 0 context}} {bits}\n" in text


def test_without_a_design_a_field_is_the_net_in_the_file(vcd, tmp_path):
    text = write_gtkw(vcd, tmp_path / "run.gtkw").read_text()
    assert "+{CPU 0 context} top.\\probe__cpu__0.context[3:0]\n" in text


def test_names_of_members_are_beside_it_and_named_relatively(vcd, design, tmp_path):
    text = write_gtkw(vcd, tmp_path / "out" / "run.gtkw", design).read_text()
    assert "^1 run.CpuContext.txt\n" in text
    names = (tmp_path / "out" / "run.CpuContext.txt").read_text().splitlines()
    assert names == [f"{member.value:x} {member.name}" for member in CpuContext]


def test_view_and_marks(vcd, design, tmp_path):
    marks = [(6, "handler starts"), (3, "store")]
    options = {"first": 2, "last": 11, "marks": marks}
    text = write_gtkw(vcd, tmp_path / "run.gtkw", design, **options).read_text()
    start = 20_000
    assert f"[timestart] {start + 2 * 10_000}\n" in text
    assert "[markername_long] A store\n[markername_long] B handler starts\n" in text
    (zoom,) = (line for line in text.splitlines() if line.startswith("*"))
    assert zoom.split()[1:4] == [str(start + 30_000), str(start + 30_000), str(start + 60_000)]


def test_more_marks_than_letters(vcd, design, tmp_path):
    marks = [(i % 20, f"mark {i}") for i in range(40)]
    text = write_gtkw(vcd, tmp_path / "run.gtkw", design, marks=marks).read_text()
    assert text.count("[markername_long]") == 26


def test_a_waveform_without_a_clock(tmp_path):
    path = tmp_path / "run.vcd"
    path.write_text(
        "$timescale 1ns $end\n$scope module top $end\n$var wire 8 ! step [7:0] $end\n"
        "$upscope $end\n$enddefinitions $end\n#0\nb1 !\n#10\nb10 !\n"
    )
    text = write_gtkw(path, tmp_path / "run.gtkw").read_text()
    assert "+{step} top.step[7:0]\n" in text
    assert "[timestart]" not in text


def test_nothing_is_left_when_the_waveform_is_unusable(tmp_path):
    with pytest.raises(WaveformError, match="no such file"):
        write_gtkw(tmp_path / "none.vcd", tmp_path / "none.gtkw")
    assert not (tmp_path / "none.gtkw").exists()


def stand_in(folder, script):
    program = folder / "gtkwave"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def test_opening_writes_the_missing_save_file(vcd, tmp_path, monkeypatch):
    stand_in(tmp_path, f'echo "$@" > {tmp_path}/asked')
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    open_in_gtkwave(vcd)
    assert (tmp_path / "asked").read_text().split() == [str(tmp_path / "run.gtkw")]
    (tmp_path / "run.gtkw").write_text("mine")
    open_in_gtkwave(vcd)
    assert (tmp_path / "run.gtkw").read_text() == "mine"


def test_opening_without_gtkwave(vcd, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        ToolError, match=r"^gtkwave is not installed; on Debian: apt install gtkwave$"
    ):
        open_in_gtkwave(vcd)


def test_opening_what_is_not_there(tmp_path):
    with pytest.raises(WaveformError, match=r"none\.vcd: there is no such file"):
        open_in_gtkwave(tmp_path / "none.vcd")


def test_opening_fails_inside_gtkwave(vcd, tmp_path, monkeypatch):
    stand_in(tmp_path, "echo 'Could not initialize GTK!' >&2; exit 3")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(ToolError, match=r"^gtkwave: Could not initialize GTK!$"):
        open_in_gtkwave(vcd)
    stand_in(tmp_path, "exit 4")
    with pytest.raises(ToolError, match=r"^gtkwave: status 4$"):
        open_in_gtkwave(vcd)
