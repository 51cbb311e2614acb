"""What the bits of a block's members mean."""

import enum
from collections.abc import Iterator
from typing import Any

from amaranth.hdl import Shape
from amaranth.lib import data, wiring


def members(signature: wiring.Signature, dut: Any) -> dict[str, list[dict]]:
    """The parts of every member that mean something: name, lowest bit, width, names of values."""
    return {
        "_".join(map(str, path)): list(_parts("_".join(map(str, path)), member.shape))
        for path, member, _ in signature.flatten(dut)
    }


def _parts(name: str, shape: Any, low: int = 0) -> Iterator[dict]:
    if isinstance(shape, type) and issubclass(shape, data.Struct):
        shape = data.Layout.cast(shape)
    if isinstance(shape, data.Layout):
        for key, field in shape:
            yield from _parts(f"{name}.{key}", field.shape, low + field.offset)
        return
    named = isinstance(shape, type) and issubclass(shape, enum.Enum)
    values = {str(member.value): member.name for member in shape} if named else {}
    yield {"name": name, "low": low, "width": Shape.cast(shape).width, "values": values}
