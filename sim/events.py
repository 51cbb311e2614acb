"""Tap records as Python objects."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy

from hdl.tap import EventKind

_KINDS = {kind.value: kind for kind in EventKind}


class Event(NamedTuple):
    """One record of the tap; see :class:`hdl.tap.EventKind` for what the fields mean."""

    cycle: int
    channel: str
    kind: EventKind
    unit: int = 0
    id: int = 0
    data: int = 0
    address: int = 0

    @property
    def details(self) -> str:
        """The fields that are not zero, in words."""
        fields = {
            "unit": f"{self.unit}",
            "id": f"{self.id:#x}",
            "address": f"{self.address:#x}",
            "data": f"{self.data:#x}",
        }
        return ", ".join(f"{name} {text}" for name, text in fields.items() if getattr(self, name))

    def as_dict(self) -> dict[str, int | str]:
        """For JSON."""
        return {
            "cycle": self.cycle,
            "channel": self.channel,
            "kind": self.kind.name,
            "unit": self.unit,
            "id": self.id,
            "data": self.data,
            "address": self.address,
        }

    def __str__(self) -> str:
        kind = self.kind.name.lower().replace("_", " ")
        return f"{self.cycle:>6}  {self.channel:<16} {kind:<20} {self.details}"


def decode(records: numpy.ndarray, channels: tuple[str, ...]) -> list[Event]:
    """Events from an array of :data:`sim.hosts.verilated.RECORD`."""
    return list(_decode(records, channels))


def _decode(records: Iterable, channels: tuple[str, ...]) -> Iterator[Event]:
    for cycle, channel, _, address, data, id_, unit, kind in numpy.asarray(records).tolist():
        yield Event(cycle, channels[channel], _KINDS[kind], unit, id_, data, address)
