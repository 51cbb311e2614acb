"""What a bitstream took: cells and clocks, as nextpnr reports them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from hdl.boards.platforms import Board

CELLS = {
    "ecp5": {"lut": "TRELLIS_COMB", "ff": "TRELLIS_FF", "ram": "DP16KD"},
    "ice40": {"lut": "ICESTORM_LC", "ff": "ICESTORM_LC", "ram": "ICESTORM_RAM"},
}
"""nextpnr's names. An iCE40's logic cell is a look-up table and a flip-flop."""


@dataclass(frozen=True)
class Used:
    """Cells of one sort."""

    used: int
    available: int

    def __str__(self) -> str:
        return f"{self.used:,} of {self.available:,}"


@dataclass(frozen=True)
class Figures:
    """A build.

    ``clocks`` has (achieved, wanted) MHz by clock; ``path`` names what is on the slowest path,
    cell by cell, from one register to the next.
    """

    board: Board
    cells: Mapping[str, Used]
    clocks: Mapping[str, tuple[float, float]]
    path: tuple[str, ...]
    bitstream: Path

    @property
    def fmax_mhz(self) -> float:
        """Of the slowest clock."""
        return min(achieved for achieved, _ in self.clocks.values())

    @property
    def timing_met(self) -> bool:
        return all(achieved >= wanted for achieved, wanted in self.clocks.values())

    def answer(self) -> dict[str, Any]:
        """What ``synth --json`` says."""
        return {
            "board": self.board.name,
            **{name: cells.used for name, cells in self.cells.items()},
            "available": {name: cells.available for name, cells in self.cells.items()},
            "clock_mhz": self.board.clock_mhz,
            "fmax_mhz": round(self.fmax_mhz, 2),
            "timing_met": self.timing_met,
            "clocks": {
                name: {"fmax_mhz": round(achieved, 2), "wanted_mhz": round(wanted, 2)}
                for name, (achieved, wanted) in self.clocks.items()
            },
            "slowest_path": list(self.path),
            "bitstream": str(self.bitstream),
        }


def read_figures(board: Board, report: Mapping[str, Any], flops: int, bitstream: Path) -> Figures:
    """From nextpnr's report; ``flops`` from Yosys, since iCE40 cells hold both."""
    there = report["utilization"]
    cells = {
        name: Used(there[cell]["used"], there[cell]["available"])
        for name, cell in CELLS[board.family].items()
    }
    cells["ff"] = Used(flops, cells["ff"].available)
    clocks = {
        name: (clock["achieved"], clock["constraint"]) for name, clock in report["fmax"].items()
    }
    paths = [path for path in report["critical_paths"] if path["from"] == path["to"]]
    slowest: Mapping[str, Any] = max(paths, key=_delay, default={"path": []})
    path = tuple(step["to"]["cell"] for step in slowest["path"])
    return Figures(board, cells, clocks, path, bitstream)


def _delay(path: Mapping[str, Any]) -> float:
    return sum(step["delay"] for step in path["path"])


def print_boards(boards: Iterable[Board], console: Console) -> None:
    """The boards that are known, and what is on them."""
    table = Table("board", "clock", "CPUs", "GICv3", "LPIs", "functions", "program words", "")
    for board in boards:
        soc = board.lab.soc
        table.add_row(
            board.name,
            f"{board.clock_mhz:g} MHz",
            str(soc.cpus),
            "yes" if soc.gic else "no",
            f"{soc.lpis:,}" if soc.gic else "-",
            str(len(soc.endpoints)),
            f"{board.lab.edges:,}",
            board.remark,
        )
    console.print(table)


def print_figures(figures: Figures, console: Console) -> None:
    """For people."""
    table = Table("", "used", "of", "", title=figures.board.name)
    for name, cells in figures.cells.items():
        share = f"{cells.used / cells.available:.0%}"
        table.add_row(name.upper(), f"{cells.used:,}", f"{cells.available:,}", share)
    console.print(table)
    for name, (achieved, wanted) in figures.clocks.items():
        margin = achieved / wanted - 1
        word = f"met, with {margin:.0%} to spare" if margin >= 0 else "NOT met"
        console.print(f"clock {name}: {achieved:.1f} MHz of {wanted:.1f} MHz wanted: {word}")
    console.print(f"bitstream: {figures.bitstream}")
