"""Cuts the pieces in ``data/`` out of the recordings: ``python -m tests.sequences.cut FOLDER``.

FOLDER holds the recordings of real kernels, ``x86_msi_2cpu.trace.xz`` and so on. Run it again only
to add a piece.
"""

import lzma
import re
import sys
from pathlib import Path
from typing import NamedTuple

DATA = Path(__file__).parent / "data"
LINUX_6_1, LINUX_5_10 = "x86_msi_2cpu", "x86_msi_2cpu-510"
AHCI, PORT_MSI, PORT_MSIX = "00:1f.2", "00:09.0", "00:0a.0"
APIC = r"LAPIC (W 0x0b0|R 0x2[0-7]0|[RW] 0x3[01]0) "


class Piece(NamedTuple):
    """What to keep: the accesses of ``cpus`` to ``function``'s messages within ``times``."""

    recording: str
    function: str
    times: tuple[tuple[int, int], ...]
    apic: bool = True
    cpus: str = "01"


PIECES = {
    "move-msi-6.1": Piece(LINUX_6_1, AHCI, ((88341311, 88341468),), cpus="0"),
    "move-msi-5.10": Piece(LINUX_5_10, AHCI, ((52592002, 52592114),), cpus="0"),
    "move-maskable-6.1": Piece(LINUX_6_1, PORT_MSI, ((39109543, 39109733),), cpus="0"),
    "move-maskable-5.10": Piece(LINUX_5_10, PORT_MSI, ((42109850, 42110018),), cpus="0"),
    "move-msix-6.1": Piece(LINUX_6_1, PORT_MSIX, ((41312163, 41312420),), cpus="1"),
    "move-msix-5.10": Piece(LINUX_5_10, PORT_MSIX, ((45257905, 45258060),), cpus="1"),
    "clean-up-6.1": Piece(LINUX_6_1, AHCI, ((88342867, 88342922),)),
    "set-up-msi-6.1": Piece(
        LINUX_6_1, AHCI, ((128573659, 128573920), (128575835, 128575862)), apic=False
    ),
    "set-up-maskable-6.1": Piece(
        LINUX_6_1, PORT_MSI, ((4620681, 4622320), (4623198, 4623435)), apic=False
    ),
    "set-up-msix-6.1": Piece(LINUX_6_1, PORT_MSIX, ((4633477, 4635533),), apic=False),
    "set-up-msix-5.10": Piece(LINUX_5_10, PORT_MSIX, ((7504743, 7507855),), apic=False),
    "free-msi-6.1": Piece(LINUX_6_1, AHCI, ((127402880, 127403413),), apic=False),
    "free-maskable-6.1": Piece(LINUX_6_1, PORT_MSI, ((145854207, 145854836),), apic=False),
    "free-msix-6.1": Piece(LINUX_6_1, PORT_MSIX, ((145849675, 145850158),), apic=False),
}


def cut(piece: Piece, lines: list[str]) -> list[str]:
    """The lines of ``piece``, as recorded."""
    function = re.escape(piece.function)
    wanted = [
        rf"CFG [RW] \S+ {function} \S+ \S+ \S+ (MSI\.\w+|MSIX\.\w+|COMMAND)$",
        rf"MSIX [RW] {function} ",
    ]
    if piece.apic:
        wanted.append(APIC)
    pattern = re.compile(rf"^(\d+) ([{piece.cpus}]) ({'|'.join(wanted)})")
    kept = []
    for line in lines:
        if match := pattern.match(line):
            time = int(match.group(1))
            if any(first <= time <= last for first, last in piece.times):
                kept.append(line)
    return kept


def main(folder: Path) -> None:
    DATA.mkdir(exist_ok=True)
    for recording in (LINUX_6_1, LINUX_5_10):
        with lzma.open(folder / f"{recording}.trace.xz", "rt") as file:
            lines = file.read().splitlines()
        for name, piece in PIECES.items():
            if piece.recording == recording:
                text = "\n".join([f"# {recording} {piece.function}", *cut(piece, lines)])
                (DATA / f"{name}.txt").write_text(text + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
