"""The serial line's bytes."""

import random

import pytest
from amaranth.sim import Simulator

from hdl.boards.uart import UartReceiver, UartTransmitter

DIVISORS = (4, 5, 12, 33)


def bits_of(byte: int, stop: int = 1) -> list[int]:
    return [0, *(byte >> i & 1 for i in range(8)), stop]


def run(dut, *benches):
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    for bench in benches:
        sim.add_testbench(bench)
    sim.run()


@pytest.mark.parametrize("divisor", DIVISORS)
def test_a_byte_leaves_start_bit_first(divisor):
    dut = UartTransmitter(divisor)
    levels = []

    async def bench(ctx):
        assert ctx.get(dut.tx) == 1
        ctx.set(dut.bytes.payload, 0x53)
        ctx.set(dut.bytes.valid, 1)
        await ctx.tick().until(dut.bytes.ready)
        ctx.set(dut.bytes.valid, 0)
        for _ in range(10):
            levels.append([ctx.get(dut.tx)])
            for _ in range(divisor - 1):
                await ctx.tick()
                levels[-1].append(ctx.get(dut.tx))
            await ctx.tick()
        assert ctx.get(dut.bytes.ready)
        assert ctx.get(dut.tx) == 1

    run(dut, bench)
    assert levels == [[bit] * divisor for bit in bits_of(0x53)]


def receive(divisor, levels):
    """Bytes, and how many bad ones, that a receiver sees in a waveform of one level a clock."""
    dut = UartReceiver(divisor)
    found, bad = [], []

    async def bench(ctx):
        for level in [*levels, *[1] * (3 * divisor)]:
            ctx.set(dut.rx, level)
            await ctx.tick()
            if ctx.get(dut.valid):
                found.append(ctx.get(dut.byte))
            if ctx.get(dut.bad):
                bad.append(True)

    run(dut, bench)
    return found, len(bad)


def wave(divisor, *frames):
    return [level for bits in frames for level in bits for _ in range(divisor)]


@pytest.mark.parametrize("divisor", DIVISORS)
def test_bytes_without_a_gap_arrive(divisor):
    sent = [0x00, 0xFF, 0xA5, *random.Random(divisor).randbytes(8)]
    assert receive(divisor, [1, *wave(divisor, *map(bits_of, sent))]) == (sent, 0)


def test_a_byte_without_stop_bit_is_bad_and_the_next_one_is_not():
    levels = wave(8, bits_of(0xFF, stop=0), [1] * 3, bits_of(0x31))
    assert receive(8, levels) == ([0x31], 1)


def test_a_glitch_is_no_start_bit():
    assert receive(16, [0, 0, 0, *[1] * 40, *wave(16, bits_of(0x77))]) == ([0x77], 0)


@pytest.mark.parametrize("skew", [-0.04, 0.04])
def test_a_clock_that_is_off_by_four_percent_is_good_enough(skew):
    divisor = 50
    bits = [bit for byte in (0x55, 0x00, 0xFE) for bit in [*bits_of(byte), 1]]
    levels = [bits[int(t / (divisor * (1 + skew)))] for t in range(int(len(bits) * divisor * 0.96))]
    assert receive(divisor, levels) == ([0x55, 0x00, 0xFE], 0)


@pytest.mark.parametrize("divisor", [3, 0, 1 << 16])
def test_a_divisor_out_of_range(divisor):
    with pytest.raises(ValueError, match=rf"between 4 and 65535, not {divisor}"):
        UartReceiver(divisor)


@pytest.mark.parametrize("divisor", [True, 8.0, "8"])
def test_a_divisor_that_is_no_integer(divisor):
    with pytest.raises(TypeError, match="must be an integer"):
        UartTransmitter(divisor)
