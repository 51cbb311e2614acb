"""What every host offers: pokes in, time forward, wake-ups and tap records out."""

from functools import cache
from typing import NamedTuple

from ..design import Design

LINES = ("irq", "virq", "intr")
EXTERNAL = -1
"""Number by which the external initiator goes among the askers."""


class Poke(NamedTuple):
    """From clock ``cycle`` on, input field ``name`` has ``value``."""

    cycle: int
    name: str
    value: int


class Response(NamedTuple):
    """Answer to one operation."""

    data: int
    error: bool


class Wake(NamedTuple):
    """Why software may have something to decide.

    ``cycle`` is the first clock whose inputs can still be chosen; ``responses`` and ``lines``
    are what was seen in the clock before. ``lines`` has one mask per CPU, with the bits of
    :class:`firmware_model.machine.ops.Line`, in the order of :data:`LINES`.
    """

    cycle: int
    responses: dict[int, Response]
    lines: tuple[int, ...]


class Step(NamedTuple):
    """One step of a program: an operation, or a poke.

    ``kind`` is a :class:`hdl.cpu_port.Operation` of asker ``target`` (a CPU; their number stands
    for the external initiator), ``size`` the binary logarithm of the bytes. With :data:`POKE` the
    input field of that number (see ``field_number``) has value ``data`` from then on. ``settle``
    clocks pass afterwards, at most 65,535. With :data:`AWAIT` a system register is read until it
    is ``data`` while the CPU's IRQ line is ``size``, ``settle`` times at most.
    """

    address: int
    data: int
    target: int
    settle: int
    kind: int
    size: int


POKE = 4
AWAIT = 5


class Done(NamedTuple):
    """What a step came to: the clock after it, the answer, and the levels of all lines.

    ``levels`` has a bit for each line of each CPU, CPU by CPU in the order of :data:`LINES`.
    """

    cycle: int
    data: int
    error: int
    levels: int


@cache
def line_masks(levels: tuple[int, ...]) -> tuple[int, ...]:
    """One mask per CPU from the levels of all lines, CPU by CPU in the order of :data:`LINES`."""
    width = len(LINES)
    return tuple(
        sum(levels[first + bit] << bit for bit in range(width))
        for first in range(0, len(levels), width)
    )


@cache
def asker_prefix(asker: int) -> str:
    """The port prefix of CPU ``asker``, or of the external initiator."""
    return "external" if asker == EXTERNAL else f"cpu_{asker}_port"


def operation_pokes(
    asker: int, cycle: int, operation: int, size: int, address: int, data: int
) -> list[Poke]:
    """The pokes that offer one operation in clock ``cycle``."""
    port = asker_prefix(asker)
    payload = f"{port}_request_payload"
    return [
        Poke(cycle, f"{payload}.operation", operation),
        Poke(cycle, f"{payload}.size", size),
        Poke(cycle, f"{payload}.address", address),
        Poke(cycle, f"{payload}.data", data),
        Poke(cycle, f"{port}_request_valid", 1),
        Poke(cycle + 1, f"{port}_request_valid", 0),
    ]


def watched_fields(design: Design) -> tuple[list[str], list[str], list[str]]:
    """Fields that wake when high, that wake when they change, and that are read at a wake-up."""
    askers = [*range(design.config.cpus), EXTERNAL]
    high = [f"{asker_prefix(asker)}_response_valid" for asker in askers]
    change = [f"cpu_{cpu}_{line}" for cpu in range(design.config.cpus) for line in LINES]
    view = [*high, *change]
    for asker in askers:
        payload = f"{asker_prefix(asker)}_response_payload"
        view += [f"{payload}.data", f"{payload}.error"]
    return high, change, view
