"""One property: what it means, and how it is proved."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .harness import Harness

_WINDOW = 2
"""Deep searches look only at the last clocks: each earlier one would be a proof of its own."""


@dataclass(frozen=True)
class Proof:
    """A property of a block.

    ``harness`` makes the block with its claims. They hold in the first ``steps`` clocks after
    power-on, and where they held for ``steps`` clocks they hold in the next: so they hold for
    ever (k-induction). ``bounded``: they are only shown for the first ``steps`` clocks.
    ``expected``: a counterexample within ``steps`` clocks is what is looked for. When a proof
    fails, a counterexample is looked for that ends about ``reach`` clocks after power-on; 0: within
    ``steps`` clocks. ``slow`` ones are left out of ``prove --quick``.
    """

    block: str
    title: str
    meaning: str
    harness: Callable[[], Harness]
    steps: int
    reach: int = 0
    bounded: bool = False
    expected: bool = False
    slow: bool = False

    @property
    def name(self) -> str:
        return f"{self.block}.{self.title}"

    @property
    def method(self) -> str:
        kind = "bmc" if self.bounded or self.expected else "k-induction"
        return f"{kind} {self.steps}"

    @property
    def window(self) -> str:
        """The clocks in which a counterexample is looked for, in the solver's words."""
        first = max(0, self.reach - _WINDOW)
        return f"{first}:{(self.reach or self.steps) + 1}"


class Properties(list[Proof]):
    """The properties of one block, in the order in which they are told."""

    def __init__(self, block: str):
        super().__init__()
        self.block = block

    def proof(self, steps: int, **how: Any) -> Callable[[Callable[[], Harness]], None]:
        """Adds the decorated maker of a harness: its name is the title, its text the meaning."""

        def add(harness: Callable[[], Harness]) -> None:
            meaning = " ".join((inspect.getdoc(harness) or "").split())
            title = harness.__name__.replace("_", "-")
            self.append(Proof(self.block, title, meaning, harness, steps, **how))

        return add
