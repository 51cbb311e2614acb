"""MSI-X: capability, table and pending bits, masks, the search for pending vectors, tearing."""

import random

import pytest

from hdl.pci.endpoint import EndpointConfig
from hdl.registers import pci
from hdl.registers.pci import CapabilityId, Header
from hdl.tap import EventKind

from .pci_bench import ALL_ONES, FunctionBench

A0, A1 = 0x0000_0001_FEE0_1004, 0x0000_0002_FEE0_2008
D0, D1 = 0x8765_4035, 0x1234_0022


def function(entries, **quirks):
    config = EndpointConfig(msi="none", msix_vectors=entries, intx=False)
    return FunctionBench(config, **quirks)


def messages(count):
    return [(0x1000 + 0x1_0000_0010 * i, 0xABCD_0000 + i) for i in range(count)]


@pytest.mark.parametrize("entries", [1, 33, 64])
def test_capability(entries):
    bench = function(entries)

    async def scenario(bench):
        base = await bench.config_read(Header.CAPABILITIES, size=1)
        assert await bench.config_read(base, size=1) == CapabilityId.MSIX
        assert await bench.config_read(base + pci.MSIX_FLAGS, size=2) == entries - 1
        assert await bench.config_read(base + pci.MSIX_TABLE) == pci.BAR_MSIX_TABLE
        assert await bench.config_read(base + pci.MSIX_PENDING) == pci.BAR_MSIX_PENDING
        await bench.config_write(base, ALL_ONES)
        flags = await bench.config_read(base + pci.MSIX_FLAGS, size=2)
        assert flags == pci.MSIX_FLAGS_ENABLE | pci.MSIX_FLAGS_MASK_ALL | entries - 1
        await bench.config_write(base + pci.MSIX_FLAGS, 0, size=1)
        assert await bench.config_read(base + pci.MSIX_FLAGS, size=2) == flags

    bench.run(scenario)


@pytest.mark.parametrize("entries", [1, 5, 64])
def test_table_against_a_model(entries):
    """Random accesses in any lanes to the whole window; entries are masked and zero at first."""
    bench = function(entries)
    generator = random.Random(entries)
    writable = [0xFFFF_FFFC, ALL_ONES, ALL_ONES, 1]
    words = {4 * i: int(i % 4 == 3) for i in range(4 * entries)}

    async def scenario(bench):
        for offset, value in words.items():
            if entries <= 5 or offset % 64 in (0, 12):
                assert await bench.read(pci.BAR_MSIX_TABLE + offset) == value
        for _ in range(200):
            size = generator.choice([1, 2, 4])
            offset = generator.randrange(0, 16 * entries + 32, size)
            if generator.random() < 0.1:
                offset = generator.randrange(0, 0x1000, size)
            word, shift = offset & ~3, 8 * (offset & 3)
            mask = writable[word // 4 % 4] & ((1 << 8 * size) - 1) << shift
            if generator.random() < 0.6:
                value = generator.getrandbits(8 * size)
                await bench.write(pci.BAR_MSIX_TABLE + offset, value, size)
                if word in words:
                    words[word] = words[word] & ~mask | value << shift & mask
            word = (word + generator.choice([-4, 0, 0, 4])) % 0x1000
            assert await bench.read(pci.BAR_MSIX_TABLE + word) == words.get(word, 0), hex(word)
        await bench.replug()
        for word in generator.sample(sorted(words), 4):
            value = await bench.read(pci.BAR_MSIX_TABLE + word)
            assert value == int(word % 16 == 12), "a function that was plugged in is reset"

    bench.run(scenario)


@pytest.mark.parametrize("entries", [1, 4, 64])
def test_each_vector_has_its_message(entries):
    bench = function(entries)
    expected = messages(entries)

    async def scenario(bench):
        await bench.start_msix(expected)
        vectors = [v for v in (0, 1, 3, 31, 32, 63) if v < entries]
        for vector in vectors:
            await bench.event(vector)
            await bench.step(16)
        assert bench.messages == [expected[vector] for vector in vectors]
        await bench.event(63)
        await bench.step(16)
        assert bench.messages[-1] == expected[63 if entries == 64 else 0]

    bench.run(scenario)


def test_latency_from_event_to_message():
    """9 clocks from an event to its message; from an unmasking at most two searches and a read."""
    bench = function(64)

    async def scenario(bench):
        await bench.start_msix(messages(64))
        await bench.step(140)
        await bench.event(63)
        await bench.step(16)
        (event,) = bench.kinds(EventKind.DEVICE_EVENT)
        (message,) = bench.writes
        assert message.clock - event.clock == 9
        # the entry unmasked is looked at first, also when others wait masked
        for vector in (0, 20, 63):
            await bench.msix_mask(vector, True)
            await bench.event(vector)
            await bench.step(140)
        bench.writes.clear()
        await bench.msix_mask(20, False)
        waited = await bench.until(lambda: bench.messages, "the message")
        assert waited <= 14
        # behind the function mask the first found goes first, and the rest is found in the bound
        await bench.msix_flags(mask_all=True)
        await bench.msix_mask(63, False)
        await bench.msix_mask(0, False)
        bench.writes.clear()
        await bench.msix_flags()
        waited = await bench.until(lambda: len(bench.messages) == 2, "both messages")
        assert waited <= 2 * 64 + 2 * 14

    bench.run(scenario)


def test_pending_bits_at_every_boundary():
    """Vectors 0, 31, 32, 63: each pending bit in its place, sent once when unmasked."""
    bench = function(64)
    expected = messages(64)

    async def scenario(bench):
        await bench.start_msix(expected)
        vectors = (0, 1, 31, 32, 33, 62, 63)
        for vector in vectors:
            await bench.msix_mask(vector, True)
            await bench.event(vector)
            await bench.event(vector)
        await bench.step(20)
        assert bench.messages == []
        pending = sum(1 << vector for vector in vectors)
        assert await bench.msix_pending() == pending
        await bench.write(pci.BAR_MSIX_PENDING, 0)
        await bench.write(pci.BAR_MSIX_PENDING + 4, ALL_ONES)
        assert await bench.msix_pending() == pending, "read-only"
        for vector in reversed(vectors):
            await bench.msix_mask(vector, False)
            await bench.until(lambda: bench.messages, f"the message of vector {vector}")
            await bench.step(140)
            assert bench.messages == [expected[vector]]
            bench.writes.clear()
            pending &= ~(1 << vector)
            assert await bench.msix_pending() == pending

    bench.run(scenario)


def test_function_mask_holds_all_and_enable_records_nothing():
    bench = function(8)
    expected = messages(8)

    async def scenario(bench):
        await bench.start_msix(expected)
        await bench.msix_flags(mask_all=True)
        await bench.msix_mask(2, True)
        for vector in (5, 2, 7):
            await bench.event(vector)
            await bench.step(16)
        assert bench.messages == []
        assert await bench.msix_pending() == 0b1010_0100
        await bench.msix_flags(enable=False)
        await bench.event(0)
        await bench.step(30)
        assert await bench.msix_pending() == 0b1010_0100, "nothing is recorded while disabled"
        assert bench.messages == []
        await bench.msix_flags()
        await bench.step(60)
        assert sorted(bench.messages) == sorted([expected[5], expected[7]])
        assert await bench.msix_pending() == 0b0100
        await bench.msix_message(2, A1, D1)
        await bench.msix_mask(2, False)
        await bench.step(40)
        assert bench.messages[2:] == [(A1, D1)], "the message of its unmasking"

    bench.run(scenario)


def test_unmasking_while_a_search_is_under_way():
    """Vectors unmasked one after the other, with no time between: each is found."""
    bench = function(16)
    expected = messages(16)

    async def scenario(bench):
        await bench.start_msix(expected)
        for vector in range(16):
            await bench.msix_mask(vector, True)
            await bench.event(vector)
        await bench.step(150)
        assert await bench.msix_pending() == 0xFFFF
        for vector in (9, 3, 15, 0, 1, 14, 4, 8, 2, 7, 13, 5, 6, 12, 10, 11):
            await bench.msix_mask(vector, False)
        await bench.step(2 * 16 + 16 * 12)
        assert sorted(bench.messages) == sorted(expected)
        assert await bench.msix_pending() == 0

    bench.run(scenario)


def test_accesses_and_events_take_turns():
    """Software that never stops reading does not starve messages, nor they it."""
    bench = function(64)
    bound = 4 * 64 + 45

    async def scenario(bench):
        await bench.start_msix(messages(64))
        bench.ctx.set(bench.dut.stimulus.event, 1)
        longest = 0
        for i in range(60):
            bench.ctx.set(bench.dut.stimulus.vector, i)
            began = bench.clock
            await bench.read(pci.BAR_MSIX_PENDING if i % 3 else bench.entry(i))
            longest = max(longest, bench.clock - began)
        assert longest <= bound - 4 * 64
        assert len(bench.messages) >= 20
        bench.ctx.set(bench.dut.stimulus.event, 0)
        await bench.step(60 * 12)
        assert {data & 63 for _, data in bench.messages} == set(range(60))
        # the first access after a reset waits for the sweep
        bench.ctx.set(bench.dut.stimulus.unplug, 1)
        await bench.step()
        bench.ctx.set(bench.dut.stimulus.unplug, 0)
        began = bench.clock
        await bench.read(pci.BAR_MSIX_PENDING)
        assert bench.clock - began <= bound

    bench.run(scenario)


# --- What can be torn, clock by clock -------------------------------------------------------------


class Rewriting:
    """Rewrites entry 0 with an event one clock later in each round, as test_msi does for MSI."""

    LEAD = 20

    def __init__(self, spacing, *, mask, function_mask=False, entries=1, **quirks):
        self.bench = function(entries, **quirks)
        self.spacing, self.mask, self.function_mask = spacing, mask, function_mask
        self.moderation = quirks.get("moderation", 0)
        self.strike_at = None
        self.seen = []
        self.bench.run(self._scenario, self._strike)

    async def _strike(self, ctx):
        event = self.bench.dut.stimulus.event
        while True:
            ctx.set(event, self.bench.clock == self.strike_at)
            await ctx.tick()

    async def _set_mask(self, bench, masked):
        if self.function_mask:
            await bench.msix_flags(mask_all=masked)
        else:
            await bench.msix_mask(0, masked)

    async def _scenario(self, bench):
        words = [
            (pci.MSIX_ENTRY_ADDRESS_LO, A1 & ALL_ONES),
            (pci.MSIX_ENTRY_ADDRESS_HI, A1 >> 32),
            (pci.MSIX_ENTRY_DATA, D1),
        ]
        lead = self.LEAD + self.moderation
        length = lead + 5 * (4 + self.spacing) + 10
        for offset in range(length):
            await bench.replug()
            await bench.start_msix([(A0, D0)])
            await bench.step(4)
            bench.writes.clear()
            self.strike_at = bench.clock + offset + 1
            await bench.step(lead)
            if self.mask:
                await self._set_mask(bench, True)
                await bench.step(self.spacing)
            for register, value in words:
                await bench.write(bench.entry(0, register), value)
                await bench.step(self.spacing)
            if self.mask:
                await self._set_mask(bench, False)
            await bench.until(lambda: bench.clock > self.strike_at + 12 + self.moderation, "rest")
            await bench.step(16)
            (message,) = bench.messages
            self.seen.append(message)


HISTORY = [(A0, D0), (A0 & ~ALL_ONES | A1 & ALL_ONES, D0), (A1, D0), (A1, D1)]
QUIRKS = [
    pytest.param({}, id="plain"),
    pytest.param({"moderation": 17}, id="moderated"),
    pytest.param({"moderation": 17, "latch_at_event": 1}, id="latched"),
]


@pytest.mark.parametrize("quirks", QUIRKS)
def test_an_unmasked_rewriting_can_be_torn(quirks):
    """Each message is an entry as it stood at one clock: in the order in which it was written."""
    seen = Rewriting(spacing=4, mask=False, **quirks).seen
    assert [pair for i, pair in enumerate(seen) if pair not in seen[:i]] == HISTORY
    assert seen == sorted(seen, key=HISTORY.index)


@pytest.mark.parametrize("quirks", QUIRKS)
@pytest.mark.parametrize("spacing", [0, 3])
@pytest.mark.parametrize("function_mask", [False, True], ids=["entry-mask", "function-mask"])
def test_under_a_mask_nothing_is_torn(quirks, spacing, function_mask):
    seen = Rewriting(spacing, mask=True, function_mask=function_mask, **quirks).seen
    assert set(seen) == {(A0, D0), (A1, D1)}
