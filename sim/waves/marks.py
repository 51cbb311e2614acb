"""Moments worth pointing at."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from hdl.tap import EventKind

from .reader import Waveform

MANY = 10
"""More marks than this hide what they point at."""


class Mark(NamedTuple):
    """The start of clock ``cycle``, and what to say about it."""

    cycle: int
    text: str


def checked_marks(marks: Iterable[tuple[int, str]]) -> list[Mark]:
    """``marks`` as :class:`Mark`, in order of time."""
    result = []
    for mark in marks:
        cycle, text = mark
        if isinstance(cycle, bool) or not isinstance(cycle, int) or not isinstance(text, str):
            raise TypeError(f"a mark must be a clock number and a text, not {mark!r}")
        result.append(Mark(cycle, " ".join(text.split())))
    return sorted(result)


_SAID = {
    EventKind.DEVICE_EVENT: "device {unit} fires",
    EventKind.MESSAGE: "message {data:#x}",
    EventKind.CONFIG_WRITE: "config {address:#x} := {data:#x}",
    EventKind.ACKNOWLEDGE: "CPU {unit} takes {id:#x}",
    EventKind.MESSAGE_BAD: "bad message {data:#x}",
    EventKind.TRANSLATION_DROPPED: "translation dropped",
}
"""Events that are marked, the most telling first, and in which words."""

_FIELDS = ("address", "data", "id", "unit")


def _events(waveform: Waveform, clocks: range) -> Iterator[tuple[int, Mark]]:
    """(how telling it is, mark) of each event on the tap that is marked."""
    kinds = {kind.value: (weight, kind) for weight, kind in enumerate(_SAID)}
    channels = [name.removesuffix(".kind") for name in waveform.nets if name.endswith(".kind")]
    for channel in (name for name in channels if name.startswith("tap.")):
        for start, stop, valid in waveform.runs(f"{channel}.valid", clocks):
            for cycle in range(start, stop) if valid else ():
                found = kinds.get(waveform.at(f"{channel}.kind", cycle))
                if found:
                    values = {name: waveform.at(f"{channel}.{name}", cycle) for name in _FIELDS}
                    yield found[0], Mark(cycle, _SAID[found[1]].format(**values))


def _handlers(waveform: Waveform, clocks: range) -> Iterator[tuple[int, Mark]]:
    """The starts of handlers, which software counts."""
    cpu = 0
    while f"probe_cpu_{cpu}.mark" in waveform:
        for cycle, value in waveform.changes(f"probe_cpu_{cpu}.mark"):
            if cycle in clocks and value and cycle > waveform.clocks.start:
                yield 0, Mark(cycle, f"CPU {cpu} starts handler")
        cpu += 1


def story(waveform: Waveform, clocks: range) -> list[Mark]:
    """What an interrupt does in ``clocks``, read from the tap and the probe.

    Handler starts and device events first, then messages, configuration writes, acknowledges; the
    least telling are left out where there would be more than :data:`MANY`. The tap is
    found only in a :class:`Waveform` that knows its design.
    """
    marks = [*_handlers(waveform, clocks), *_events(waveform, clocks)]
    telling = sorted(marks, key=lambda entry: (entry[0], entry[1]))[:MANY]
    return sorted(mark for _, mark in telling)
