"""A small change of the gateware, in force for a while."""

import contextlib
import inspect
import textwrap
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pkgutil import resolve_name

from sim.formal.harness import Harness


@dataclass(frozen=True)
class Mutant:
    """In ``function``, named ``module:qualified.name``, the text ``old`` becomes ``new``.

    ``kills`` names the property that notices, ``reach`` a clock after power-on in which it does;
    None, of a property that says that something can happen: it never does. ``given`` narrows the
    search for a counterexample that lies deep. ``slow``: not looked for in every test run.
    """

    kills: str
    function: str
    old: str
    new: str
    reach: int | None
    given: Callable[[Harness], None] = lambda h: None
    slow: bool = False

    def __str__(self) -> str:
        return f"{self.kills}: {self.old.strip()} -> {self.new.strip()}"

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        function = resolve_name(self.function)
        source = textwrap.dedent(inspect.getsource(function))
        if source.count(self.old) != 1:
            raise ValueError(f"{self.function} has {source.count(self.old)} times {self.old!r}")
        sound, function.__code__ = function.__code__, _code(function, source, self)
        try:
            yield
        finally:
            function.__code__ = sound

    def narrowed(self, make: Callable[[], Harness]) -> Callable[[], Harness]:
        """``make``, and what is given."""

        def made() -> Harness:
            harness = make()
            self.given(harness)
            return harness

        return made


def _code(function, source: str, mutant: Mutant) -> types.CodeType:
    changed = source.replace(mutant.old, mutant.new)
    whole = compile(changed, inspect.getsourcefile(function), "exec")
    codes = [const for const in whole.co_consts if isinstance(const, types.CodeType)]
    return next(code for code in codes if code.co_name == function.__name__)
