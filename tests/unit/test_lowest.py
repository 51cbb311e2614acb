"""The lowest one of many bits."""

import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from hdl.lowest import lowest


@pytest.mark.parametrize("width", [1, 2, 3, 5, 8, 32])
def test_the_lowest_one_is_found(width):
    m = Module()
    bits, index = Signal(width), Signal(8)
    m.d.comb += index.eq(lowest(bits))
    few = range(1 << min(width, 8))
    patterns = {pattern << shift for pattern in few for shift in range(max(width - 7, 1))}

    async def testbench(ctx):
        for pattern in patterns:
            ctx.set(bits, pattern)
            found = (pattern & -pattern).bit_length() - 1 if pattern else 0
            assert ctx.get(index) == found, bin(pattern)

    simulator = Simulator(m)
    simulator.add_testbench(testbench)
    simulator.run()


def test_the_index_is_no_wider_than_it_must_be():
    widths = [len(lowest(Signal(n))) for n in (1, 2, 3, 4, 5, 32, 33)]
    assert widths == [0, 1, 2, 2, 3, 5, 6]
