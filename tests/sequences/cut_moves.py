"""Cuts one move of an interrupt out of a recording: ``python -m tests.sequences.cut_moves FOLDER``.

FOLDER holds the recordings of real kernels, ``x86_msi_2cpu.trace.xz`` and so on. What it writes is
what the strategies ``linux-…-recorded`` play, every line as recorded, with its number before it;
and, for the test of this cutter, a slice of the recording around it.
"""

import lzma
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import firmware_model

from .cut import AHCI, DATA, LINUX_5_10, LINUX_6_1

RECORDINGS = Path(firmware_model.__file__).parent / "strategies" / "recordings"
FILES = {LINUX_6_1: "linux-6.1.txt", LINUX_5_10: "linux-5.10.txt"}
SLICES = {LINUX_6_1: "slice-6.1.txt", LINUX_5_10: "slice-5.10.txt"}
AROUND = 40
EOI = "LAPIC W 0x0b0 "
IRR = re.compile(r"LAPIC R 0x2[0-7]0 ")

Line = tuple[int, str]
"""Its number in the recording, and its text."""


@dataclass(frozen=True)
class Move:
    """Accesses of one CPU to a function's message, ``before``: those that wrote the old message."""

    before: list[Line]
    accesses: list[Line]
    torn: bool

    @property
    def shape(self) -> list[tuple[str, ...]]:
        """What is accessed, and how: all but when and which value."""
        return [
            tuple(text.split()[i] for i in ((2, 3, 6, 7) if " CFG " in text else (2, 3)))
            for _, text in self.accesses
        ]


def moves(
    lines: Iterable[Line], function: str, source: str = "0", target: str = "1"
) -> Iterator[Move]:
    """Moves of ``function``'s interrupt from CPU ``source`` to ``target`` that change the vector
    too, by the interrupt itself: everything that CPU accesses until its EOI."""
    message: dict[str, Line] = {}
    runs: defaultdict[str, list[Line]] = defaultdict(list)
    sent: list[tuple[str, str]] = []
    for number, text in lines:
        words = text.split()
        if words[2] == "MSI" and words[-1].startswith(f"src={function}/"):
            sent.append((words[3].removeprefix("addr="), words[4].removeprefix("data=")))
        rest = text.split(" ", 2)[2]
        if rest.startswith(f"CFG {words[3]} ") and words[5] == function and "MSI." in words[-1]:
            if not runs[words[1]]:
                sent.clear()
            runs[words[1]].append((number, text))
        elif IRR.match(rest) and runs[words[1]]:
            runs[words[1]].append((number, text))
        elif rest.startswith(EOI):
            run = runs.pop(words[1], [])
            after = message | {
                register: line
                for line in run
                if (register := line[1].split()[-1]) in ("MSI.addr_lo", "MSI.data")
                and line[1].split()[3] == "W"
            }
            if message and words[1] == source and after != message:
                old, new = _values(message), _values(after)
                ends = (1 << int(source), 1 << int(target))
                if (_cpus(old), _cpus(new)) == ends and old[1] & 0xFF != new[1] & 0xFF:
                    mixed = [
                        (a, d) for a, d in sent if int(a, 16) == new[0] and int(d, 16) == old[1]
                    ]
                    yield Move(sorted(message.values()), run, bool(mixed))
            if {"MSI.addr_lo", "MSI.data"} <= set(after):
                message = after


def _values(message: dict[str, Line]) -> tuple[int, int]:
    address, data = (int(message[name][1].split()[8], 16) for name in ("MSI.addr_lo", "MSI.data"))
    return address, data


def _cpus(message: tuple[int, int]) -> int:
    """The destination: one bit a CPU."""
    return message[0] >> 12 & 0xFF


def cut(lines: Iterable[Line], recording: str, function: str = AHCI) -> tuple[str, Move]:
    """The text of a recording file, and its move: the first during which a torn message was
    sent, or the first."""
    found = list(moves(lines, function))
    chosen = next((move for move in found if move.torn), found[0])
    alike = sum(move.shape == chosen.shape for move in found)
    heading = [
        f"# {recording}.trace, function {function}: the old message, and how it was changed.",
        f"# {alike} of {len(found)} moves of this kind in the lines read are like this one.",
    ]
    numbered = [f"{number} {text}" for number, text in (*chosen.before, *chosen.accesses)]
    return "\n".join([*heading, *numbered]) + "\n", chosen


def main(folder: Path) -> None:
    for recording, file in FILES.items():
        with lzma.open(folder / f"{recording}.trace.xz", "rt") as trace:
            lines = list(enumerate(trace.read().splitlines(), 1))
        text, move = cut(lines, recording)
        (RECORDINGS / file).write_text(text)
        first, last = move.accesses[0][0] - AROUND, move.accesses[-1][0] + AROUND
        kept = [line for line in lines if first <= line[0] <= last or line in move.before]
        (DATA / SLICES[recording]).write_text("".join(f"{n} {text}\n" for n, text in kept))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
