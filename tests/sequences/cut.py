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
ARM = "arm64_gicv3_its_2cpu"
AHCI, PORT_MSI, PORT_MSIX = "00:1f.2", "00:09.0", "00:0a.0"
ARM_AHCI = "00:05.0"
APIC = r"LAPIC (W 0x0b0|R 0x2[0-7]0|[RW] 0x3[01]0) "
GIC = r"(GICD|GICR\d|GITS) [RW] |CMD |ICC W (PMR|BPR1|CTLR|AP1R0|IGRPEN1) "


class Piece(NamedTuple):
    """What to keep: the accesses of ``cpus`` to ``function``'s messages within ``times``.

    ``chips``: and those to interrupt controllers that match it.
    """

    recording: str
    function: str
    times: tuple[tuple[int, int], ...]
    chips: str = APIC
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
        LINUX_6_1, AHCI, ((128573659, 128573920), (128575835, 128575862)), chips=""
    ),
    "set-up-maskable-6.1": Piece(
        LINUX_6_1, PORT_MSI, ((4620681, 4622320), (4623198, 4623435)), chips=""
    ),
    "set-up-msix-6.1": Piece(LINUX_6_1, PORT_MSIX, ((4633477, 4635533),), chips=""),
    "set-up-msix-5.10": Piece(LINUX_5_10, PORT_MSIX, ((7504743, 7507855),), chips=""),
    "free-msi-6.1": Piece(LINUX_6_1, AHCI, ((127402880, 127403413),), chips=""),
    "free-maskable-6.1": Piece(LINUX_6_1, PORT_MSI, ((145854207, 145854836),), chips=""),
    "free-msix-6.1": Piece(LINUX_6_1, PORT_MSIX, ((145849675, 145850158),), chips=""),
    "move-lpi": Piece(ARM, ARM_AHCI, ((25723380, 25723460),), GIC),
    "move-spi": Piece(ARM, "-", ((167901698, 167901758),), GIC, cpus="0"),
    "set-up-lpi": Piece(
        ARM,
        ARM_AHCI,
        ((141742382, 141742560), (141742990, 141743170), (141747300, 141747500)),
        GIC,
    ),
    "set-up-lpi-msix": Piece(ARM, PORT_MSIX, ((817365, 817900), (818040, 819300)), GIC, cpus="0"),
    "free-lpi": Piece(ARM, ARM_AHCI, ((140558900, 140561240),), GIC),
    # Its SGIs, then one of its interrupts.
    "offline": Piece(
        ARM, ARM_AHCI, ((131438827, 131438976), (131439827, 131439852)), GIC, cpus="1"
    ),
    # Without the search for group 0, identification registers and the timers' PPIs.
    "online": Piece(
        ARM,
        ARM_AHCI,
        (
            (132553436, 132553510),
            (132553530, 132553556),
            (132553574, 132553574),
            (132553591, 132553920),
            (132554136, 132554195),
        ),
        GIC,
        cpus="1",
    ),
}


def cut(piece: Piece, lines: list[str]) -> list[str]:
    """The lines of ``piece``, as recorded."""
    function = re.escape(piece.function)
    wanted = [
        rf"CFG [RW] \S+ {function} \S+ \S+ \S+ (MSI\.\w+|MSIX\.\w+|COMMAND)$",
        rf"MSIX [RW] {function} ",
    ]
    if piece.chips:
        wanted.append(piece.chips)
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
    for recording in (LINUX_6_1, LINUX_5_10, ARM):
        with lzma.open(folder / f"{recording}.trace.xz", "rt") as file:
            lines = file.read().splitlines()
        for name, piece in PIECES.items():
            if piece.recording == recording:
                text = "\n".join([f"# {recording} {piece.function}", *cut(piece, lines)])
                (DATA / f"{name}.txt").write_text(text + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
