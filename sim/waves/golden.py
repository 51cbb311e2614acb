"""What chosen nets did in a run known to be good, as a text that diffs well."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from .reader import Waveform, WaveformError

FLAG = "--update-golden"
_HEADER = "irqscope golden waveform"


def value_text(value: int | None) -> str:
    """A value as goldens have it."""
    return "x" if value is None else f"{value:#x}"


History = list[tuple[int, int | None]]


@dataclass(frozen=True)
class Difference:
    """The first clock in which a run is not as its golden, and the first net there."""

    net: str
    cycle: int
    expected: int | None
    seen: int | None

    def __str__(self) -> str:
        return (
            f"{self.net} differs first in clock {self.cycle}: "
            f"expected {value_text(self.expected)}, seen {value_text(self.seen)}"
        )


@dataclass
class Golden:
    """What nets did, clock by clock.

    ``widths`` has every net, ``histories`` for each its (clock, value) changes, beginning with the
    value in the first of ``clocks``. As text: two lines of heading, one line per net, then one
    line per clock in which a net changed, so that a diff reads as a story.
    """

    clocks: range
    widths: dict[str, int] = field(default_factory=dict)
    histories: dict[str, History] = field(default_factory=dict)

    @classmethod
    def record(cls, waveform: Waveform, nets: Iterable[str], clocks: range) -> "Golden":
        """What ``nets`` do in ``clocks`` of ``waveform``."""
        golden = cls(clocks)
        for name in nets:
            golden.widths[name] = waveform.net(name).width
            runs = waveform.runs(name, clocks)
            golden.histories[name] = [(start, value) for start, _, value in runs]
        return golden

    def text(self) -> str:
        """As it is stored."""
        lines = [_HEADER, f"clocks {self.clocks.start} to {self.clocks.stop - 1}"]
        lines += [f"net {name} {width}" for name, width in self.widths.items()]
        changes: dict[int, list[str]] = {}
        for name, history in self.histories.items():
            for cycle, value in history:
                changes.setdefault(cycle, []).append(f"{name}={value_text(value)}")
        lines += [f"{cycle} {' '.join(changes[cycle])}" for cycle in sorted(changes)]
        return "\n".join(lines) + "\n"

    @classmethod
    def parse(cls, text: str, source: str = "golden") -> "Golden":
        """The golden that ``text`` stores; a :class:`WaveformError` names the line it breaks at."""
        golden = cls(range(0))
        lines = text.splitlines()
        for number, line in enumerate([*lines, *[""] * (2 - len(lines))], 1):
            try:
                golden._read(number, line)
            except (ValueError, KeyError):
                raise WaveformError(
                    f"{source}: line {number} is not as in a golden waveform; "
                    f"write it anew with {FLAG}"
                ) from None
        return golden

    def _read(self, number: int, line: str) -> None:
        """Take in one line; :class:`ValueError` or :class:`KeyError` if it is none of ours."""
        words = line.split()
        if number == 1:
            if line != _HEADER:
                raise ValueError(line)
        elif number == 2:
            clocks, first, to, last = words
            if (clocks, to) != ("clocks", "to"):
                raise ValueError(line)
            self.clocks = range(int(first), int(last) + 1)
        elif words[:1] == ["net"]:
            _, name, width = words
            self.widths[name] = int(width)
            self.histories[name] = []
        else:
            cycle, *changes = words
            for change in changes:
                name, _, value = change.partition("=")
                known = None if value == "x" else int(value, 16)
                self.histories[name].append((int(cycle), known))

    def difference(self, seen: "Golden") -> Difference | None:
        """The first one to ``seen``, which has the same nets and clocks."""
        found = [
            difference
            for name in self.widths
            if (difference := _first_difference(name, self.histories[name], seen.histories[name]))
        ]
        return min(found, key=lambda difference: difference.cycle, default=None)

    def until(self, stop: int) -> "Golden":
        """The part before clock ``stop``."""
        kept = {
            name: [change for change in history if change[0] < stop]
            for name, history in self.histories.items()
        }
        return Golden(range(self.clocks.start, stop), self.widths, kept)


def _first_difference(name: str, expected: History, seen: History) -> Difference | None:
    ours, theirs = dict(expected), dict(seen)
    expect = see = None
    for cycle in sorted({*ours, *theirs}):
        expect, see = ours.get(cycle, expect), theirs.get(cycle, see)
        if expect != see:
            return Difference(name, cycle, expect, see)
    return None
