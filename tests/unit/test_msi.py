"""MSI capability: layout in each of its four forms, messages, masks, and what can be torn."""

import random

import pytest

from hdl.pci.endpoint import EndpointConfig
from hdl.registers import pci
from hdl.registers.pci import CapabilityId, Header
from hdl.tap import EventKind

from .pci_bench import ALL_ONES, FunctionBench

A0, A1 = 0x0000_0001_FEE0_1004, 0x0000_0002_FEE0_2008
D0, D1 = 0x4035, 0x0022

FORMS = [
    pytest.param(msi, maskable, id=f"{msi}-bit{'-maskable' if maskable else ''}")
    for msi in ("32", "64")
    for maskable in (False, True)
]


def low(address, bench):
    """``address`` as far as the capability can hold it."""
    return address if bench.wide else address & ALL_ONES


@pytest.mark.parametrize(("msi", "maskable"), FORMS)
@pytest.mark.parametrize("vectors", [1, 32])
def test_layout(msi, maskable, vectors):
    """Every bit of the capability is where the specification puts it, and of its kind."""
    bench = FunctionBench(EndpointConfig(msi=msi, maskable=maskable, msi_vectors=vectors))
    wide = msi == "64"
    vector_bits = (1 << vectors) - 1
    log2 = vectors.bit_length() - 1
    flags = log2 << 1 | wide * pci.MSI_FLAGS_64BIT | maskable * pci.MSI_FLAGS_MASKABLE

    writable = {0x00: 0, 0x04: 0xFFFF_FFFC, (0xC if wide else 0x8): 0xFFFF}
    if wide:
        writable[0x08] = ALL_ONES
    if maskable:
        writable[0x10 if wide else 0x0C] = vector_bits
        writable[0x14 if wide else 0x10] = 0
    length = {(0, 0): 0x0A, (1, 0): 0x0E, (0, 1): 0x14, (1, 1): 0x18}[wide, maskable]
    assert pci.msi_length(wide, maskable) == length

    async def scenario(bench):
        base = await bench.config_read(Header.CAPABILITIES, size=1)
        assert base == bench.msi
        assert await bench.config_read(base, size=1) == CapabilityId.MSI
        assert await bench.config_read(base + 1, size=1) == bench.config.capability("express")
        assert await bench.config_read(base + pci.MSI_FLAGS, size=2) == flags
        for offset in range(4, 0x40, 4):
            await bench.config_write(base + offset, ALL_ONES)
            expected = writable.get(offset, 0)
            assert await bench.config_read(base + offset) == expected, hex(offset)
            await bench.config_write(base + offset, 0)
            assert await bench.config_read(base + offset) == 0, hex(offset)
        await bench.config_write(base, ALL_ONES)
        control = flags | log2 << 4 | pci.MSI_FLAGS_ENABLE
        assert await bench.config_read(base + pci.MSI_FLAGS, size=2) == control

    bench.run(scenario)


@pytest.mark.parametrize("vectors", [1, 4, 32])
def test_enabled_count_is_clamped(vectors):
    bench = FunctionBench(EndpointConfig(msi_vectors=vectors))

    async def scenario(bench):
        for asked in range(8):
            await bench.msi_flags(True, asked)
            read = await bench.config_read(bench.msi + pci.MSI_FLAGS, size=2)
            assert read >> 4 & 7 == min(asked, vectors.bit_length() - 1)

    bench.run(scenario)


@pytest.mark.parametrize(("msi", "maskable"), FORMS)
def test_message_of_each_vector(msi, maskable):
    """The low log2(enabled) data bits are the vector; the address is whole; 16 bits of data."""
    bench = FunctionBench(EndpointConfig(msi=msi, maskable=maskable, msi_vectors=32))

    async def scenario(bench):
        await bench.start_msi(A0, 0xFFFF)
        for log2 in range(6):
            await bench.msi_flags(True, log2)
            for vector in (0, 1, 2, 3, 15, 16, 30, 31):
                bench.writes.clear()
                await bench.event(vector)
                await bench.step(10)
                ones = (1 << log2) - 1
                data = 0xFFFF & ~ones | vector & ones
                assert bench.messages == [(low(A0, bench), data)], (log2, vector)

    bench.run(scenario)


def test_latency_from_event_to_message():
    """The keeper is asked 3 clocks after the event; the message is offered 2 later."""
    bench = FunctionBench()

    async def scenario(bench):
        await bench.start_msi(A0, D0)
        await bench.event()
        await bench.step(10)
        (event,) = bench.kinds(EventKind.DEVICE_EVENT)
        (message,) = bench.writes
        assert message.clock - event.clock == 5

    bench.run(scenario)


@pytest.mark.parametrize("msi", ["32", "64"])
def test_masked_vectors_wait_and_send_the_message_of_their_unmasking(msi):
    bench = FunctionBench(EndpointConfig(msi=msi, maskable=True, msi_vectors=8))

    async def scenario(bench):
        await bench.start_msi(A0, D0, log2_vectors=3)
        await bench.msi_mask(0b1010_0110)
        for vector in (1, 2, 2, 7, 0):
            await bench.event(vector)
            await bench.step(8)
        assert bench.messages == [(low(A0, bench), D0 & ~7)]
        assert await bench.msi_pending() == 0b1000_0110
        await bench.msi_message(A1, D1)
        assert bench.messages == [(low(A0, bench), D0 & ~7)]
        await bench.msi_mask(0b1000_0010)
        await bench.step(10)
        assert bench.messages[1:] == [(low(A1, bench), D1 & ~7 | 2)]
        assert await bench.msi_pending() == 0b1000_0010
        await bench.msi_mask(0)
        await bench.step(16)
        assert bench.messages[2:] == [(low(A1, bench), D1 & ~7 | v) for v in (1, 7)]
        assert await bench.msi_pending() == 0

    bench.run(scenario)


def test_fewer_enabled_vectors_drop_pending_bits():
    bench = FunctionBench(EndpointConfig(maskable=True, msi_vectors=32))

    async def scenario(bench):
        await bench.start_msi(A0, D0, log2_vectors=5)
        await bench.msi_mask(ALL_ONES)
        for vector in (0, 3, 4, 15, 16, 31):
            await bench.event(vector)
            await bench.step(8)
        assert await bench.msi_pending() == 1 << 31 | 1 << 16 | 1 << 15 | 0b11001
        await bench.msi_flags(True, 4)
        assert await bench.msi_pending() == 1 << 15 | 0b11001
        await bench.msi_flags(True, 2)
        assert await bench.msi_pending() == 0b1001
        await bench.msi_flags(True, 5)
        assert await bench.msi_pending() == 0b1001, "what was dropped stays dropped"
        assert bench.messages == []

    bench.run(scenario)


def test_pending_survives_disabling_and_is_not_made_by_it():
    bench = FunctionBench(EndpointConfig(maskable=True, intx=False))

    async def scenario(bench):
        await bench.start_msi(A0, D0)
        await bench.msi_mask(1)
        await bench.event()
        await bench.step(8)
        await bench.msi_flags(False)
        await bench.msi_mask(0)
        await bench.step(10)
        assert bench.messages == [], "disabled: nothing leaves"
        assert await bench.msi_pending() == 1
        await bench.msi_flags(True)
        await bench.step(10)
        assert bench.messages == [(A0, D0)]
        await bench.msi_flags(False)
        await bench.msi_mask(1)
        await bench.event()
        await bench.step(8)
        assert await bench.msi_pending() == 0, "an event while disabled records nothing"
        await bench.msi_flags(True)
        await bench.msi_mask(0)
        await bench.step(10)
        assert len(bench.messages) == 1

    bench.run(scenario)


def test_byte_lanes_reach_only_their_register_bytes():
    bench = FunctionBench(EndpointConfig(maskable=True, msi_vectors=32))

    async def scenario(bench):
        data = bench.msi + pci.msi_data(True)
        await bench.config_write(data, 0x1234, size=2)
        await bench.config_write(data + 2, 0xFFFF, size=2)
        assert await bench.config_read(data) == 0x1234
        await bench.config_write(data + 1, 0xAB, size=1)
        assert await bench.config_read(data) == 0xAB34
        address = bench.msi + pci.MSI_ADDRESS_LO
        await bench.config_write(address, 0x1122_3344)
        await bench.config_write(address + 3, 0xFE, size=1)
        await bench.config_write(address, 0xFF, size=1)
        assert await bench.config_read(address) == 0xFE22_33FC
        mask = bench.msi + pci.msi_mask(True)
        await bench.config_write(mask + 2, 0x55AA, size=2)
        assert await bench.config_read(mask) == 0x55AA_0000

    bench.run(scenario)


# --- What can be torn, clock by clock -----------------------------------------------------------
#
# One sweep rewrites the message over and over, with an event one clock later each time, and holds
# every message against the history of the registers: what a clock's reads would have returned.


class Rewriting:
    """Writes of one rewriting, ``spacing`` idle clocks apart, and the event that meets it."""

    LEAD = 8  # clocks from the first event offset, moderation aside, to the first write

    def __init__(self, config, spacing, *, mask=False, **quirks):
        self.bench = FunctionBench(config, **quirks)
        self.spacing = spacing
        self.mask = mask
        self.moderation = quirks.get("moderation", 0)
        self.strike_at = None
        #: for each round: the event's offset, the messages, and [(clock, register values)]
        self.rounds = []
        self.bench.run(self._scenario, self._strike)

    async def _strike(self, ctx):
        event = self.bench.dut.stimulus.event
        while True:
            ctx.set(event, self.bench.clock == self.strike_at)
            await ctx.tick()

    async def _scenario(self, bench):
        # each write, and the pair that it leaves
        old, half, new = low(A0, bench), A0 & ~ALL_ONES | A1 & ALL_ONES, low(A1, bench)
        registers = [(pci.MSI_ADDRESS_LO, A1 & ALL_ONES, 4, (low(half, bench), D0))]
        if bench.wide:
            registers.append((pci.MSI_ADDRESS_HI, A1 >> 32, 4, (new, D0)))
        registers.append((pci.msi_data(bench.wide), D1, 2, (new, D1)))
        if self.mask:
            mask = pci.msi_mask(bench.wide)
            registers = [(mask, 1, 4, (old, D0)), *registers, (mask, 0, 4, (new, D1))]
        lead = self.LEAD + self.moderation
        length = lead + len(registers) * (2 + self.spacing) + 8
        for offset in range(length):
            await bench.replug()
            await bench.start_msi(A0, D0)
            await bench.step(4)
            bench.writes.clear()
            began = bench.clock
            self.strike_at = began + offset + 1
            await bench.step(lead)
            history = [(0, (old, D0))]
            for register, value, size, pair in registers:
                await bench.config_write(bench.msi + register, value, size)
                # answered in the clock before this one, and in force from then on
                history.append((bench.clock - 1, pair))
                await bench.step(self.spacing)
            await bench.until(lambda: bench.clock > self.strike_at + 8 + self.moderation, "rest")
            await bench.step(12)
            self.rounds.append((offset, bench.writes[:], history, self.strike_at))


def held(history, clock):
    """The pair that the registers held at ``clock``."""
    return [pair for since, pair in history if since <= clock][-1]


QUIRKS = [
    # quirks, and the clocks from the event to the one whose registers the message shows
    pytest.param({}, 3, id="plain"),
    pytest.param({"moderation": 17}, 20, id="moderated"),
    pytest.param({"moderation": 17, "latch_at_event": 1}, 2, id="latched"),
]


@pytest.mark.parametrize(("msi", "maskable"), FORMS)
@pytest.mark.parametrize(("quirks", "asked_after"), QUIRKS)
def test_every_message_is_what_the_registers_held(msi, maskable, quirks, asked_after):
    """Exactly what they held in one clock, so never a value that was never written."""
    run = Rewriting(EndpointConfig(msi=msi, maskable=maskable), spacing=3, **quirks)
    old, new = (low(A0, run.bench), D0), (low(A1, run.bench), D1)
    seen = set()
    for offset, writes, history, strike in run.rounds:
        (message,) = writes
        # a latched message takes two clocks longer: it was asked for before the wait
        sent_after = 5 + quirks.get("moderation", 0) + 2 * quirks.get("latch_at_event", 0)
        assert message.clock == strike + sent_after
        pair = (message.address, message.data)
        assert pair == held(history, strike + asked_after), offset
        seen.add(pair)
    halves = {(address, data) for address, _ in seen for _, data in seen}
    torn = {(new[0], D0)}
    if run.bench.wide:
        torn.add((A0 & ~ALL_ONES | A1 & ALL_ONES, D0))
    assert seen == {old, new} | torn, "an update without a mask has these windows, no others"
    assert (old[0], D1) in halves - seen, "data is written last"


@pytest.mark.parametrize("msi", ["32", "64"])
@pytest.mark.parametrize(("quirks", "asked_after"), QUIRKS)
@pytest.mark.parametrize("spacing", [0, 3])
def test_under_a_mask_nothing_is_torn(msi, quirks, asked_after, spacing):
    """Mask, rewrite, unmask: every event sends one message, the old pair or the new."""
    run = Rewriting(EndpointConfig(msi=msi, maskable=True), spacing, mask=True, **quirks)
    old, new = (low(A0, run.bench), D0), (low(A1, run.bench), D1)
    seen = []
    for _, writes, history, strike in run.rounds:
        (message,) = writes
        pair = (message.address, message.data)
        seen.append(pair)
        if pair == old:
            assert strike + asked_after <= history[1][0], "old only if asked before the mask"
    assert set(seen) == {old, new}
    if not quirks.get("latch_at_event"):  # a latched one can be overtaken by the mask
        assert seen == sorted(seen, key=lambda pair: pair == new), "first old, then new"


@pytest.mark.parametrize("seed", [1, 2])
def test_random_writes_and_events_against_the_register_history(seed):
    """Whatever software writes and whenever events come, each message is what the registers held
    when the keeper was asked, 2 clocks before, and they allowed it."""
    bench = FunctionBench(EndpointConfig(maskable=True))
    generator = random.Random(seed)
    registers = {
        # offset from the capability: name, bytes, writable bits that matter here
        pci.MSI_ADDRESS_LO: ("low", 4, 0xFFFF_FFFC),
        pci.MSI_ADDRESS_HI: ("high", 4, ALL_ONES),
        pci.msi_data(True): ("data", 2, 0xFFFF),
        pci.MSI_FLAGS: ("enable", 2, 1),
        pci.msi_mask(True): ("mask", 4, 1),
        Header.COMMAND - 0x40: ("master", 2, pci.COMMAND_MASTER),
    }
    state = {"low": 0, "high": 0, "data": 0, "enable": 0, "mask": 0, "master": 0}
    history = [(0, dict(state))]

    async def strike(ctx):
        while True:
            ctx.set(bench.dut.stimulus.event, generator.random() < 0.2)
            await ctx.tick()

    async def scenario(bench):
        for _ in range(400):
            offset = generator.choice(list(registers))
            name, size, writable = registers[offset]
            value = generator.getrandbits(8 * size)
            if name in ("enable", "master") and generator.random() < 0.6:
                value |= writable
            elif name == "mask":
                value &= generator.choice([0, 0, 1])
            await bench.config_write(bench.msi + offset, value, size)
            state[name] = value & writable
            history.append((bench.clock - 1, dict(state)))
            await bench.step(generator.choice([0, 0, 1, 5]))
        for write in bench.writes:
            then = held(history, write.clock - 2)
            assert (write.address, write.data) == (then["high"] << 32 | then["low"], then["data"])
            assert then["enable"]
            assert not then["mask"]
            assert held(history, write.clock - 1)["master"]
        assert len(bench.writes) > 40
        assert len({(write.address, write.data) for write in bench.writes}) > 30

    bench.run(scenario, strike)
