"""Tap records as Python objects."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy

from hdl.tap import EventKind


@dataclass(frozen=True, slots=True)
class Event:
    """One record of the tap; see :class:`hdl.tap.EventKind` for what the fields mean."""

    cycle: int
    channel: str
    kind: EventKind
    unit: int = 0
    id: int = 0
    data: int = 0
    address: int = 0

    def __str__(self) -> str:
        return (
            f"{self.cycle:>6}  {self.channel:<12} {self.kind.name.lower().replace('_', ' '):<20}"
            f" unit {self.unit:<3} id {self.id:#06x}  data {self.data:#010x}"
            f"  address {self.address:#x}"
        )


def decode(records: numpy.ndarray, channels: tuple[str, ...]) -> list[Event]:
    """Events from an array of :data:`sim.hosts.verilated.RECORD`."""
    return list(_decode(records, channels))


def _decode(records: Iterable, channels: tuple[str, ...]) -> Iterator[Event]:
    kinds = {kind.value: kind for kind in EventKind}
    for cycle, channel, _, address, data, id_, unit, kind in numpy.asarray(records).tolist():
        yield Event(cycle, channels[channel], kinds[kind], unit, id_, data, address)
