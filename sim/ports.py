"""The ports of a compiled design, by name: what a host may drive and read.

A port that carries a struct is divided into fields. ``cpu_0_request_payload.address`` is a field,
``cpu_0_irq`` a port of one field; both are addressed by that name.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from amaranth.hdl import Shape, ValueCastable
from amaranth.lib import data, wiring


@dataclass(frozen=True)
class Field:
    """``width`` bits of ``port`` from bit ``lsb`` on."""

    name: str
    port: str
    lsb: int
    width: int


@dataclass(frozen=True)
class PortMap:
    """All ports of one component in declaration order."""

    inputs: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)
    fields: dict[str, Field] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Field:
        try:
            return self.fields[name]
        except KeyError:
            close = ", ".join(n for n in self.fields if n.split(".")[0] == name) or "no such port"
            raise KeyError(f"{name!r} is not a field of this design ({close})") from None

    @property
    def widths(self) -> dict[str, int]:
        return self.inputs | self.outputs


def _leaves(name: str, shape, lsb: int) -> Iterator[tuple[str, int, int]]:
    layout = shape
    if isinstance(shape, type) and issubclass(shape, data.Struct):
        layout = data.Layout.cast(shape)
    if isinstance(layout, data.Layout):
        for key, member in layout:
            yield from _leaves(f"{name}.{key}", member.shape, lsb + member.offset)
    else:
        yield name, lsb, Shape.cast(shape).width


def top_ports(component: wiring.Component) -> dict:
    """Ports for ``amaranth.back``: path joined by single underscores, as simulators like it."""
    ports = {}
    for path, member, value in component.signature.flatten(component):
        signal = value.as_value() if isinstance(value, ValueCastable) else value
        ports["_".join(map(str, path))] = (signal, member)
    return ports


def port_map(component: wiring.Component) -> PortMap:
    """The :class:`PortMap` of ``component`` as :func:`top_ports` names it."""
    ports = PortMap()
    for name, (_, member) in top_ports(component).items():
        width = Shape.cast(member.shape).width
        side = ports.inputs if member.flow == wiring.In else ports.outputs
        side[name] = width
        for leaf, lsb, bits in _leaves(name, member.shape, 0):
            ports.fields[leaf] = Field(leaf, name, lsb, bits)
    return ports
