"""Things made once: directories named by the content they were made from."""

import contextlib
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock
import platformdirs
from rich.console import Console

ROOT = Path(__file__).resolve().parent.parent


def cache_folder() -> Path:
    """``$IRQSCOPE_CACHE``, or ``.irqscope`` in a checkout, or the user's cache folder."""
    if chosen := os.environ.get("IRQSCOPE_CACHE"):
        folder = Path(chosen).expanduser().resolve()
    elif (ROOT / "pyproject.toml").exists() and os.access(ROOT, os.W_OK):
        folder = ROOT / ".irqscope"
    else:
        folder = platformdirs.user_cache_path("irqscope")
    if any(character.isspace() for character in str(folder)):
        raise ValueError(
            f"make cannot build in {str(folder)!r}: set IRQSCOPE_CACHE to a folder without spaces"
        )
    return folder


def digest(*parts: str | bytes) -> str:
    """A short name for a sequence of contents."""
    total = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        total.update(len(content).to_bytes(8, "little"))
        total.update(content)
    return total.hexdigest()[:20]


@contextlib.contextmanager
def _told(what: str | None) -> Iterator[None]:
    """Say on a terminal what takes so long, and that it is still going on."""
    if what is None or not sys.stderr.isatty():
        yield
        return
    with Console(stderr=True).status(what):
        yield


def made_once(kind: str, key: str, make: Callable[[Path], None], *, quiet: bool = False) -> Path:
    """The folder ``kind/key`` of the cache, filled by ``make(folder)`` unless it exists.

    Two processes that want the same folder make it once; a process that dies in the middle leaves
    nothing that looks finished, and what it leaves is cleared away by the next that makes it.
    """
    shelf = cache_folder() / kind
    finished = shelf / key
    if finished.exists():
        return finished
    shelf.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(shelf / f"{key}.lock"):
        if not finished.exists():
            for abandoned in shelf.glob(f"{key}.*/"):
                shutil.rmtree(abandoned, ignore_errors=True)
            unfinished = Path(tempfile.mkdtemp(prefix=f"{key}.", dir=shelf))
            try:
                what = f"making the {kind} model of this gateware (once, a minute or so) …"
                with _told(None if quiet else what):
                    make(unfinished)
                unfinished.rename(finished)
            except BaseException:
                shutil.rmtree(unfinished, ignore_errors=True)
                raise
    return finished
