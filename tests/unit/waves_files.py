"""Small waveforms for the tests of :mod:`sim.waves`."""

from collections.abc import Mapping
from pathlib import Path

from vcd import VCDWriter

from sim.ports import Field, PortMap

RESET_CLOCKS = 2
PERIOD = 10_000


class FakeDesign:
    """What :class:`sim.waves.Waveform` asks of a design: ports and tap channels."""

    def __init__(self, outputs: Mapping[str, int], fields=(), channels=()):
        whole = {name: Field(name, name, 0, width) for name, width in outputs.items()}
        parts = {name: Field(name, port, lsb, width) for name, port, lsb, width in fields}
        self.ports = PortMap({}, dict(outputs), whole | parts)
        self.channels = tuple(channels)


def write(path: Path, nets: Mapping[str, tuple[int, Mapping[int, int]]], clocks: int) -> Path:
    """A run as the simulator writes it: after two clocks of reset, ``clocks`` more.

    ``nets`` gives for each full name its width and its values by clock; a value comes at the start
    of its clock, so the clock itself has it.
    """
    with path.open("w") as file, VCDWriter(file, timescale="1 ps") as writer:
        clock = writer.register_var("top", "clk", "wire", 1, init=0)
        reset = writer.register_var("top", "rst", "wire", 1, init=1)
        events = [(RESET_CLOCKS * PERIOD, reset, 0)]
        for index in range(clocks + RESET_CLOCKS):
            events += [(index * PERIOD + PERIOD // 2, clock, 1), ((index + 1) * PERIOD, clock, 0)]
        for name, (width, values) in nets.items():
            scope, _, leaf = name.partition("/")
            variable = writer.register_var(scope, leaf, "wire", width, init="x" * width)
            for cycle, value in values.items():
                events.append(((cycle + RESET_CLOCKS) * PERIOD, variable, value))
        for time, variable, value in sorted(events, key=lambda event: event[0]):
            writer.change(variable, time, value)
    return path
