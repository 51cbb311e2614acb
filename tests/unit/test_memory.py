"""RAM: lanes, wrapping, answers that wait, and what the simulator is told of writes."""

import random

import pytest
from amaranth.hdl import Module
from amaranth.sim import Simulator

from hdl.memory import BLOCK_RAM_LIMIT, Ram

SIZE = 64


def simulate(play, size=SIZE):
    dut = Ram(size)
    top = Module()
    top.submodules.dut = dut
    sim = Simulator(top)
    sim.add_clock(1e-6)

    async def testbench(ctx):
        await play(ctx, dut)

    sim.add_testbench(testbench)
    sim.run()


async def access(ctx, dut, address, *, write=0, data=0, select=0b1111, patience=0):
    """One request; its data. The answer is taken ``patience`` clocks after it could be."""
    bus = dut.bus
    ctx.set(
        bus.request.payload, {"address": address, "write": write, "data": data, "select": select}
    )
    ctx.set(bus.request.valid, 1)
    ctx.set(bus.response.ready, 0)
    _, _, ready, valid, written, index = await ctx.tick().sample(
        bus.request.ready, bus.response.valid, dut.written, dut.index
    )
    assert ready, "RAM that owes no answer takes a request at once"
    assert not valid
    assert written == int(bool(write and select))
    if written:
        assert index == address % (dut.words * 4) // 4
    ctx.set(bus.request.valid, 0)
    ctx.set(bus.request.payload, {"address": address ^ 4, "write": 1, "data": ~data, "select": 15})
    answers = set()
    for waited in range(patience + 1):
        ctx.set(bus.response.ready, waited == patience)
        _, _, ready, valid, payload, written = await ctx.tick().sample(
            bus.request.ready, bus.response.valid, bus.response.payload, dut.written
        )
        assert valid, "the answer comes in the next clock and stays until it is taken"
        assert not ready
        assert not written
        assert not payload.error
        answers.add(payload.data)
    ctx.set(bus.response.ready, 0)
    assert len(answers) == 1, "the answer changes while it waits"
    return answers.pop()


@pytest.mark.parametrize("seed", range(3))
def test_random_accesses_match_a_bytearray(seed):
    dice = random.Random(seed)
    model = bytearray(SIZE)

    async def play(ctx, dut):
        for _ in range(300):
            address = dice.randrange(0, 4 * SIZE, 4) | dice.choice([0, 1 << 39, 0x4000_0000])
            at = address % SIZE
            write, data, select = dice.random() < 0.5, dice.getrandbits(32), dice.getrandbits(4)
            patience = dice.choice([0, 0, 0, 1, 5])
            before = int.from_bytes(model[at : at + 4], "little")
            got = await access(
                ctx, dut, address, write=write, data=data, select=select, patience=patience
            )
            assert got == (0 if write else before)
            for lane in range(4):
                if write and select >> lane & 1:
                    model[at + lane] = data >> 8 * lane & 0xFF
        for at in range(0, SIZE, 4):
            assert await access(ctx, dut, at) == int.from_bytes(model[at : at + 4], "little")

    simulate(play)


def test_zero_after_configuration():
    async def play(ctx, dut):
        for address in range(0, SIZE, 4):
            assert await access(ctx, dut, address) == 0

    simulate(play)


def test_the_smallest_ram_has_two_words():
    async def play(ctx, dut):
        await access(ctx, dut, 0, write=1, data=0x1111_1111)
        await access(ctx, dut, 4, write=1, data=0x2222_2222)
        assert [await access(ctx, dut, a) for a in (0, 4, 8)] == [
            0x1111_1111,
            0x2222_2222,
            0x1111_1111,
        ]

    simulate(play, 8)


def test_a_held_request_is_not_taken_twice():
    """The request stays valid while the answer waits: the write happens once."""

    async def play(ctx, dut):
        bus = dut.bus
        ctx.set(bus.request.payload, {"address": 8, "write": 1, "data": 5, "select": 15})
        ctx.set(bus.request.valid, 1)
        writes = []
        for clock in range(9):
            ctx.set(bus.response.ready, clock % 3 == 2)
            _, _, written, ready = await ctx.tick().sample(dut.written, bus.request.ready)
            assert written == ready
            writes.append(written)
        assert writes == [1, 0, 0] * 3

    simulate(play)


@pytest.mark.parametrize(
    ("size", "external"),
    [(8, False), (BLOCK_RAM_LIMIT, False), (2 * BLOCK_RAM_LIMIT, True), (512 << 20, True)],
)
def test_large_memories_are_off_chip(size, external):
    ram = Ram(size)
    assert ram.external == external
    assert ram.words == size // 4


@pytest.mark.parametrize("size", [0, 1, 4, -8, 12, 1000, BLOCK_RAM_LIMIT + 4])
def test_sizes_that_are_no_power_of_two_are_rejected(size):
    message = rf"^RAM size must be a power of two of at least 8 bytes, not {size}$"
    with pytest.raises(ValueError, match=message):
        Ram(size)


@pytest.mark.parametrize("size", [True, 64.0, "64", None])
def test_sizes_that_are_no_integer_are_rejected(size):
    with pytest.raises(TypeError, match=rf"^RAM size must be an integer, not {size!r}$"):
        Ram(size)
