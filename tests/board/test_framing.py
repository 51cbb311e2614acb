"""Frames: whole and right, or refused."""

import pytest
from amaranth.sim import Simulator

from hdl.boards.framing import FrameReceiver, FrameTransmitter, Refusal, frame

CAPACITY = 6
PATIENCE = 40


def feed(*bursts, capacity=CAPACITY):
    """What a receiver makes of bytes; the bursts have silence between them.

    Returns frames (kind, payload) and refusals, in order.
    """
    dut = FrameReceiver(capacity, PATIENCE)
    found = []
    kept = bytearray()

    async def bench(ctx):
        async def look():
            if ctx.get(dut.done):
                payload = bytes(kept[len(kept) - ctx.get(dut.length) :])
                found.append((ctx.get(dut.kind), payload))
            if ctx.get(dut.refused):
                found.append(ctx.get(dut.refusal))

        for burst in bursts:
            for byte in burst:
                bad = byte is None
                ctx.set(dut.byte, byte or 0)
                ctx.set(dut.valid, not bad)
                ctx.set(dut.bad, bad)
                if ctx.get(dut.keep):
                    kept.append(byte)
                await ctx.tick()
                ctx.set(dut.valid, 0)
                ctx.set(dut.bad, 0)
                await look()
                await ctx.tick()
                await look()
            for _ in range(PATIENCE + 3):
                await ctx.tick()
                await look()

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    return found


@pytest.mark.parametrize("payload", [b"", b"\x01", b"\xa5\xa5\x00\xff", b"sixsix"])
def test_a_frame_arrives(payload):
    assert feed(frame(7, payload)) == [(7, payload)]


def test_frames_without_a_gap_arrive():
    assert feed(frame(1, b"ab") + frame(2, b"") + frame(3, b"c")) == [
        (1, b"ab"),
        (2, b""),
        (3, b"c"),
    ]


def test_what_is_between_frames_is_skipped():
    assert feed(b"\x00\x11noise", frame(4, b"x")) == [(4, b"x")]


GOOD = frame(9, b"\x10\x20\x30")


@pytest.mark.parametrize("flip", [1, 0x80, 0xFF])
@pytest.mark.parametrize("position", range(1, len(GOOD)))
def test_a_damaged_byte_is_refused_and_the_next_frame_is_not(position, flip):
    damaged = bytearray(GOOD)
    damaged[position] ^= flip
    found = feed(bytes(damaged), GOOD)
    assert found.count((9, b"\x10\x20\x30")) == 1
    assert found[-1] == (9, b"\x10\x20\x30")
    assert len(found) > 1, "nothing was said about the damaged frame"
    assert all(isinstance(what, Refusal) for what in found[:-1])


def test_a_frame_without_its_first_byte_is_not_one():
    assert feed(GOOD[1:], GOOD) == [(9, b"\x10\x20\x30")]


@pytest.mark.parametrize("missing", range(1, len(GOOD)))
def test_a_frame_that_breaks_off(missing):
    found = feed(GOOD[:-missing], GOOD)
    assert found == [Refusal.BROKEN_OFF, (9, b"\x10\x20\x30")]


def test_a_byte_without_stop_bit_within_a_frame():
    assert feed([*GOOD[:4], None], GOOD) == [Refusal.BROKEN_OFF, (9, b"\x10\x20\x30")]


def test_a_frame_that_is_too_long():
    found = feed(frame(9, b"seven77"), GOOD)
    assert found[0] == Refusal.LENGTH
    assert found[-1] == (9, b"\x10\x20\x30")


def test_the_payload_of_a_frame_that_begins_while_its_reader_is_busy_is_not_kept():
    dut = FrameReceiver(CAPACITY, PATIENCE)
    found = []

    async def bench(ctx):
        for text, busy in ((frame(1, b"abcdef"), 0), (frame(2, b"xy"), 1), (frame(3, b"z"), 0)):
            ctx.set(dut.busy, busy)
            kept = b""
            for position, byte in enumerate(text):
                ctx.set(dut.byte, byte)
                ctx.set(dut.valid, 1)
                if ctx.get(dut.keep):
                    kept += bytes([byte])
                await ctx.tick()
                if position == 2:
                    ctx.set(dut.busy, 0)  # too late for this frame
            ctx.set(dut.valid, 0)
            await ctx.tick()
            found.append((ctx.get(dut.done), ctx.get(dut.kind), ctx.get(dut.kept), kept))
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    assert found == [(1, 1, 1, b"abcdef"), (1, 2, 0, b""), (1, 3, 1, b"z")]


@pytest.mark.parametrize("payload", [b"", b"\x00", b"abcdef"])
def test_a_frame_is_sent_as_software_would(payload):
    dut = FrameTransmitter(CAPACITY)
    sent = []

    async def bench(ctx):
        for _ in range(2):
            assert ctx.get(dut.idle)
            ctx.set(dut.kind, 0x83)
            ctx.set(dut.length, len(payload))
            left = list(payload)
            ctx.set(dut.valid, 1)
            for pause in range(len(payload) + 5):
                await ctx.tick().repeat(pause % 3 + 1)
                assert ctx.get(dut.bytes.valid)
                ctx.set(dut.byte, left[0] if left else 0x55)
                ctx.set(dut.bytes.ready, 1)
                assert ctx.get(dut.begun) == (pause == 0)
                if ctx.get(dut.next):
                    left.pop(0)
                sent.append(ctx.get(dut.bytes.payload))
                assert ctx.get(dut.ready) == (pause == len(payload) + 4)
                await ctx.tick()
                ctx.set(dut.bytes.ready, 0)
                assert ctx.get(dut.idle) == (pause == len(payload) + 4)
            ctx.set(dut.valid, 0)
            await ctx.tick()
            assert not ctx.get(dut.bytes.valid)

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    assert bytes(sent) == frame(0x83, payload) * 2
