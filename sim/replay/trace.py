"""The lines of a recording: one file or several parts, plain or compressed, read as a stream."""

import gzip
import lzma
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO


class TraceError(Exception):
    """A recording that cannot be read on; says where, and what was wrong there."""


class Trace:
    """The parts of one recording, in order.

    Iterating gives the lines without their ends. :attr:`line` counts them over all parts;
    :meth:`position` says where that is. What ends in the middle of a line, or of a compressed
    stream, is damaged: :class:`TraceError`.
    """

    def __init__(self, paths: Sequence[Path]):
        if not paths:
            raise ValueError("a recording has at least one file")
        self.paths = tuple(Path(path) for path in paths)
        self.line = 0
        """Lines read so far."""
        self._starts: list[int] = []

    def __iter__(self) -> Iterator[str]:
        self.line = 0
        self._starts = []
        for path in self.paths:
            self._starts.append(self.line)
            yield from self._lines(path)

    def _lines(self, path: Path) -> Iterator[str]:
        try:
            with _open(path) as file:
                for text in file:
                    if text[-1] != "\n":
                        self.line += 1
                        raise TraceError(f"{self.position()}: ends in the middle of a line")
                    self.line += 1
                    yield text[:-1]
        except (EOFError, lzma.LZMAError, gzip.BadGzipFile, zlib.error, UnicodeError) as error:
            message = f"{self.position(self.line + 1)}: damaged file: {error}"
            raise TraceError(message) from None
        except OSError as error:
            raise TraceError(f"{path}: {error.strerror or error}") from None

    def position(self, line: int | None = None) -> str:
        """``FILE:LINE`` of a line counted over all parts; the last one read by default."""
        line = self.line if line is None else line
        part = max((i for i, start in enumerate(self._starts) if start < line), default=0)
        start = self._starts[part] if self._starts else 0
        return f"{self.paths[part]}:{line - start}"


def _open(path: Path) -> IO[str]:
    if path.suffix == ".xz":
        return lzma.open(path, "rt", encoding="ascii")
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="ascii")
    return path.open(encoding="ascii")
