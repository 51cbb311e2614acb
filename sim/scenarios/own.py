"""Strategies of the user's own: a class in a file, wherever it is."""

import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from ..cache import digest

OWN = re.compile(r"(?P<file>.+\.py):(?P<name>\w+)")
"""``FILE.py:CLASS``."""

REQUIRED = {"name": str, "summary": str, "claims_correct": bool}
NAME = re.compile(r"\w[\w.+-]*")
"""What a table can show and a file can be called."""


def absolute(word: str) -> str:
    """``word`` with its file's whole path, if it names one: other processes stand elsewhere."""
    match = OWN.fullmatch(word)
    return f"{Path(match['file']).resolve()}:{match['name']}" if match else word


@cache
def load_class(word: str, base: type) -> Any:
    """The class that ``FILE.py:CLASS`` names; it must be a subclass of ``base``.

    The file runs once in a process.

    Raises
    ------
    ValueError
        For a file, a class or an attribute that is not there or is of another kind, and for a file
        that does not run.
    """
    match = OWN.fullmatch(word)
    if match is None:
        raise ValueError(f"a strategy of your own is FILE.py:CLASS, not {word!r}")
    file, name = Path(match["file"]), match["name"]
    if not file.is_file():
        raise ValueError(f"there is no file {file}, which --strategy {word} names")
    with blamed(word):
        module = _module(file.resolve())
    found = getattr(module, name, None)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ValueError(f"{file} must have a class {name}, a subclass of {base.__name__}")
    given: dict[str, Any] = {attribute: getattr(found, attribute, None) for attribute in REQUIRED}
    wanting = [
        f"{attribute} ({kind.__name__})"
        for attribute, kind in REQUIRED.items()
        if not isinstance(given[attribute], kind)
    ]
    if wanting:
        raise ValueError(f"{name} in {file} must have {', '.join(wanting)}")
    if not NAME.fullmatch(given["name"]):
        raise ValueError(
            f"the name of {name} in {file} may have letters, digits and _.+-, not {given['name']!r}"
        )
    return found


@contextmanager
def blamed(word: str) -> Iterator[None]:
    """An exception of a strategy of the user's own becomes a ValueError that says where it was."""
    try:
        yield
    except (Exception, SystemExit) as error:
        match = OWN.fullmatch(word)
        if match is None:
            raise
        file = str(Path(match["file"]).resolve())
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
        where = f"{file}, line {lines[-1]}" if lines else file
        raise ValueError(f"{where}: {type(error).__name__}: {error}") from error


@cache
def _module(file: Path) -> ModuleType:
    """The module, known by a name of its own, so that its objects can be pickled."""
    spec = importlib.util.spec_from_file_location(f"irqscope_own_{digest(str(file))}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    return module
