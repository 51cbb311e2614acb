"""The half of a player that looks at outcomes."""

from collections.abc import Callable
from typing import Any

from ..hosts.base import Done
from .events import Event
from .program import Program
from .tally import Tally


class Checker:
    """Runs a program's checks. While one runs, ``done[index]`` is what its step came to.

    Parameters
    ----------
    program : Program
        Where the steps go.
    tally : Tally
    where : callable
        Says where a line, by number, stands.
    """

    def __init__(self, program: Program, tally: Tally, where: Callable[[int], str]):
        self.program = program
        self.tally = tally
        self._where = where
        self.done: list[Done] = []
        self.index = 0

    def run_checks(self, done: list[Done]) -> None:
        """All of them, in order; then the next program begins."""
        self.done = done
        for index, check, line, event, more in self.program.checks:
            if index >= len(done):
                self.compare("access", line, event, "an answer", "none")
                break
            self.index = index
            check(done[index], line, event, *more)
        self.program.clear()

    def compare(self, kind: str, line: int, event: Event, expected: Any, seen: Any) -> bool:
        """Count a comparison and keep what differed; whether they are equal."""
        equal = self.tally.compare(kind, expected == seen)
        if not equal:
            what = f"{kind} {type(event).__name__}{tuple(event)}"
            self.tally.describe(self._where(line), what, expected, seen)
        return equal

    def _check_done(self, done: Done, line: int, event: Any) -> None:
        """A write has been carried out."""
        if done.error:
            self.compare("access", line, event, "an answer", "a bus error")
