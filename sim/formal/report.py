"""Proofs as tables for people and as dictionaries for scripts."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .proof import Proof
from .solver import Answer

_COLOURS = {"proved": "green", "found": "green", "failed": "red", "unknown": "yellow"}


def print_properties(proofs: Iterable[Proof], console: Console) -> None:
    """What each property means, in a sentence."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("property", no_wrap=True)
    table.add_column("meaning")
    for proof in proofs:
        table.add_row(proof.name, Text(proof.meaning))
    console.print(table)


def print_answers(answers: Mapping[Proof, Answer], out: Path, console: Console) -> None:
    """The table of answers, then each counterexample clock by clock."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("property", "status", "method"):
        table.add_column(heading, no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    for proof, answer in answers.items():
        status = Text(answer.status, _COLOURS[answer.status])
        table.add_row(proof.name, status, proof.method, f"{answer.seconds:.1f}")
    console.print(table)
    for proof, answer in answers.items():
        if answer.has_trace:
            console.print(Text(f"{proof.name} ({answer.status}): {proof.meaning}"))
            for line in answer.story():
                console.print(Text(f"  {line}"))
            vcd = out / f"{proof.name}.vcd"
            console.print(Text(f"  waveform: {vcd}; irqscope wave {vcd} opens it"))


def entry(proof: Proof, answer: Answer | None = None) -> dict:
    """One element of ``prove --json``; without an answer that of ``prove --list``."""
    told = {"name": proof.name, "block": proof.block, "meaning": proof.meaning}
    if answer is None:
        return told | {"method": proof.method}
    return told | {"status": answer.status, "method": proof.method, "seconds": answer.seconds}
