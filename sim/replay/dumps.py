"""Memory dumps beside a recording: what the interrupt tables held at some moments.

``NAME.dumps.tar.xz`` beside ``NAME.trace.xz`` (or ``NAME.part1.trace.xz``) has a ``dumps.json``
that lists pieces of guest memory, by ``tag`` (the moment) and ``what``: the ITS's command queue
(``cmdq``), the property table (``prop``) and the pending table of CPU n (``pendN``). Its clock is
not the recording's. A moment is found by its command queue: it lies where the queue held that.
"""

import json
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .trace import TraceError

_NAME = re.compile(r"(.+?)(\.part\d+)?\.trace(\.xz|\.gz)?$")


@dataclass(frozen=True)
class Dump:
    """One moment: pieces of memory by what they are."""

    tag: str
    pieces: Mapping[str, bytes]

    @property
    def queue(self) -> bytes:
        """The command queue as it was."""
        return self.pieces["cmdq"]

    def pending(self, cpu: int) -> set[int] | None:
        """The INTIDs whose bits are set in a CPU's pending table, from 8192 on; None: no dump."""
        table = self.pieces.get(f"pend{cpu}")
        if table is None:
            return None
        return {8 * i + bit for i, byte in enumerate(table) for bit in range(8) if byte >> bit & 1}


def dumps_beside(trace: Path) -> list[Dump]:
    """The dumps that belong to a recording, in order of time; none if there is no such file."""
    found = _NAME.match(trace.name)
    archive = trace.with_name(f"{found[1]}.dumps.tar.xz") if found else None
    if archive is None or not archive.exists():
        return []
    moments: dict[str, dict[str, bytes]] = {}
    try:
        with tarfile.open(archive) as tar:
            listed = tar.extractfile("dumps.json")
            assert listed is not None
            for entry in sorted(json.load(listed), key=lambda entry: entry["t"]):
                piece = tar.extractfile(entry["file"])
                assert piece is not None
                moments.setdefault(entry["tag"], {})[entry["what"]] = piece.read()
    except (OSError, tarfile.TarError, EOFError, KeyError, ValueError, AssertionError) as error:
        raise TraceError(f"{archive}: damaged dumps: {error!r}") from None
    return [Dump(tag, pieces) for tag, pieces in moments.items() if "cmdq" in pieces]
