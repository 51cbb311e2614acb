"""Strategies of the user's own: a class in a file, wherever it is."""

import importlib.util
import re
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from ..cache import digest

OWN = re.compile(r"(?P<file>.+\.py):(?P<name>\w+)")
"""``FILE.py:CLASS``."""

REQUIRED = ("name", "summary", "claims_correct")


def absolute(word: str) -> str:
    """``word`` with its file's whole path, if it names one: other processes stand elsewhere."""
    match = OWN.fullmatch(word)
    return f"{Path(match['file']).resolve()}:{match['name']}" if match else word


@cache
def load_class(word: str, base: type) -> Any:
    """The class that ``FILE.py:CLASS`` names; it must be a subclass of ``base``.

    The file runs once in a process. An error of its own comes out as it is.

    Raises
    ------
    ValueError
        For a file, a class or an attribute that is not there, and for a class of another kind.
    """
    match = OWN.fullmatch(word)
    if match is None:
        raise ValueError(f"a strategy of your own is FILE.py:CLASS, not {word!r}")
    file, name = Path(match["file"]), match["name"]
    if not file.is_file():
        raise ValueError(f"there is no file {file}, which --strategy {word} names")
    found = getattr(_module(file.resolve()), name, None)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ValueError(f"{file} must have a class {name}, a subclass of {base.__name__}")
    missing = [attribute for attribute in REQUIRED if not hasattr(found, attribute)]
    if missing:
        raise ValueError(f"{name} in {file} must have {', '.join(missing)}")
    return found


@cache
def _module(file: Path) -> ModuleType:
    """The module, known by a name of its own, so that its objects can be pickled."""
    spec = importlib.util.spec_from_file_location(f"irqscope_own_{digest(str(file))}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
