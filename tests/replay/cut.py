"""Cuts the slices in ``data/`` out of the recordings.

``python -m tests.replay.cut FOLDER [NAME]...``: FOLDER holds the recordings of real kernels,
``arm64_gicv3_its_2cpu.trace.xz`` and so on. A slice is a whole recording without most of what
repeats itself, so that it begins with the boot, ends with the power-off, and has everything
between at least sometimes. Run it again only to cut otherwise.
"""

import lzma
import re
import sys
from collections.abc import Iterator
from pathlib import Path

DATA = Path(__file__).parent / "data"
RECORDINGS = ("arm64_gicv3_its_2cpu", "x86_msi_2cpu", "x86_msi_2cpu-510")
KEEP_EVERY = 12
"""Of the interrupts that came and went with nothing in between, so many-th are kept."""
FUNCTIONS = ("00:1f.2", "00:09.0", "00:0a.0")
"""The x86 functions that are kept: MSI that cannot be masked, MSI that can, MSI-X."""
SOURCES = (*(f"src={function}/" for function in FUNCTIONS), "src=ioapic(level)")


class Visit:
    """One interrupt of one CPU, from its cause to its end, while that CPU had no other."""

    def __init__(self, intid: int):
        self.lines: list[int] = []
        self.expected = [
            ("HPPI", intid),
            ("HPPI", None),
            ("IAR", intid),
            ("EOI", intid),
        ]


def without_most_visits(lines: list[str]) -> Iterator[str]:
    """A GIC's recording without most of the interrupts that leave everything as it was.

    Dropped are all lines of such a visit: cause (PPI wire up and down, SGI, MSI), HPPI to and
    fro, IAR, EOIR. Any other line about that CPU's interface in between, and any write to a
    register of the GIC, keeps it.
    """
    dropped: set[int] = set()
    open_: dict[int, Visit] = {}
    quiet: dict[int, bool] = {}
    count = 0
    for number, line in enumerate(lines):
        words = line.split(" ")
        kind = words[2]
        if kind in ("GICD", "GITS") or kind.startswith("GICR"):
            if words[3] == "W":
                open_.clear()
        elif begun := _begins(words):
            cpu, intid = begun
            if cpu in open_ or not quiet.get(cpu):
                open_.pop(cpu, None)
            else:
                open_[cpu] = Visit(intid)
                open_[cpu].lines.append(number)
        elif concerns := _concerns(words):
            cpu, what, intid = concerns
            if what == "HPPI":
                quiet[cpu] = intid is None and "irq=0" in words[8]
            visit = open_.get(cpu)
            if visit is None:
                continue
            visit.lines.append(number)
            if what in ("SGIPEND", "DOWN"):
                continue
            if visit.expected.pop(0) != (what, intid):
                del open_[cpu]
            elif not visit.expected:
                del open_[cpu]
                count += 1
                if count % KEEP_EVERY:
                    dropped.update(visit.lines)
    yield from (line for number, line in enumerate(lines) if number not in dropped)


def _begins(words: list[str]) -> tuple[int, int] | None:
    """(CPU, INTID) if the line is what makes an interrupt pending at one CPU."""
    if words[2] == "LINE" and words[3] == "ppi" and words[6] == "1":
        return int(words[4][2:]), int(words[5])
    if words[2] == "MSI" and words[-1].startswith("rd="):
        intid = next(word for word in words if word.startswith("intid="))
        return int(words[-1][3:]), int(intid[6:])
    if words[2] == "SGI":
        targets = int(words[6].removeprefix("list="), 0)
        if targets and not targets & targets - 1:
            return targets.bit_length() - 1, int(words[3][4:])
    return None


def _concerns(words: list[str]) -> tuple[int, str, int | None] | None:
    """(CPU, what, INTID) if the line is about the interface of one CPU."""
    if words[2] == "HPPI":
        intid = None if words[6] == "p0xff" else int(words[4])
        if intid is not None and words[8] != "irq=1":
            return int(words[3][1:]), "BLOCKED", intid
        return int(words[3][1:]), "HPPI", intid
    if words[2] == "ICC":
        what = {"IAR1": "IAR", "EOIR1": "EOI"}.get(words[4], words[4])
        return int(words[1]), what, int(words[5], 16)
    if words[2] == "SGIPEND":
        return int(words[3][2:]), "SGIPEND", None
    if words[2] == "LINE" and words[3] == "ppi":
        return int(words[4][2:]), "DOWN", None
    return None


_DROPPED = re.compile(r"LAPIC (R 0x2[0-7]0|R 0x300|W 0x380|W 0x0b0) |LVT |IOAPIC ")
_BULK = re.compile(r"LAPIC W 0x300 0x8f[bd]$")
"""Reschedule and function call."""


def of_functions(lines: list[str]) -> Iterator[str]:
    """An x86 recording with only :data:`FUNCTIONS`, and without timers and most IPIs.

    An EOI is kept on the CPU a kept message or IPI went to. Reads of IRR are left out, for they
    tell of vectors that are not there.
    """
    waiting: set[str] = set()
    destination: dict[str, str] = {}
    delivering = False
    for line in lines:
        _, cpu, event = line.split(" ", 2)
        if event.startswith(("CFG", "MSIX ", "MSI ")):
            delivering = event.startswith("MSI ") and any(source in event for source in SOURCES)
            if delivering or any(f" {function} " in event for function in FUNCTIONS):
                yield line
        elif event.startswith("DELIVER"):
            if delivering:
                waiting |= _cpus(int(event.split(" ")[1][5:]))
                yield line
        elif event.startswith("LAPIC W 0x0b0"):
            if cpu in waiting:
                waiting.remove(cpu)
                yield line
        elif event.startswith("LAPIC W 0x310"):
            destination[cpu] = line
        elif event.startswith("LAPIC W 0x300"):
            if not _BULK.match(event):
                if cpu in destination:
                    waiting |= _cpus(int(destination[cpu].split(" ")[5], 16) >> 24)
                    yield destination.pop(cpu)
                yield line
        elif not _DROPPED.match(event):
            yield line


def _cpus(logical: int) -> set[str]:
    """The CPUs of a flat logical destination."""
    return {str(i) for i in range(8) if logical >> i & 1}


def main(folder: Path, names: list[str]) -> None:
    DATA.mkdir(exist_ok=True)
    for name in names or RECORDINGS:
        with lzma.open(folder / f"{name}.trace.xz", "rt") as recording:
            lines = recording.read().splitlines()
        cut = without_most_visits if name.startswith("arm") else of_functions
        kept = list(cut(lines))
        text = "".join(f"{line}\n" for line in kept)
        slice_ = DATA / f"{name}.trace.xz"
        slice_.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
        print(f"{slice_.name}: {len(kept)} of {len(lines)} lines, {slice_.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
