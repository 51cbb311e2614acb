"""ITS: registers, commands, translations, and the ways they can cross."""

import random

import pytest
from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.sim import Simulator

from hdl.bus import Region, RequesterKind
from hdl.gic.interfaces import FIRST_LPI
from hdl.gic.its import Its
from hdl.gic.its_cache import TranslationCache
from hdl.gic.lpi import LpiEngine
from hdl.gic.lpi_links import HandoverNetwork
from hdl.registers.gits import (
    GitsRegister,
    Opcode,
    Reason,
    command_bytes,
    encode_clear,
    encode_discard,
    encode_int,
    encode_inv,
    encode_invall,
    encode_mapc,
    encode_mapd,
    encode_mapi,
    encode_mapti,
    encode_movall,
    encode_movi,
    encode_sync,
    error_code,
)
from hdl.tap import EventKind, TapRecord

from .memory_target import MemoryTarget, random_wait

QUEUE = 0x4000_0000
DEVICES = 0x4010_0000
COLLECTIONS = 0x4020_0000
ITTS = 0x4030_0000
PROPERTY = 0x4100_0000
PENDING = 0x4200_0000
RAM = range(0x4000_0000, 0x5000_0000)
FRAMES = Region("its", 0x0808_0000, 0x2_0000)

VALID = 1 << 63


class System(wiring.Component):
    """An ITS, an LPI engine per CPU, and the network for hand-overs."""

    def __init__(self, cpus, lpis, **its):
        self.its = Its(cpus=cpus, lpis=lpis, forbidden=(FRAMES,), **its)
        self.engine = [LpiEngine(i, lpis=lpis, cpus=cpus, forbidden=(FRAMES,)) for i in range(cpus)]
        self.network = HandoverNetwork(cpus)
        self.busy = Signal()
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules.its = self.its
        m.submodules.network = self.network
        for i, engine in enumerate(self.engine):
            m.submodules[f"engine_{i}"] = engine
            wiring.connect(m, self.its.links[i], engine.its)
            wiring.connect(m, engine.handover, self.network.senders[i])
            wiring.connect(m, self.network.targets[i], engine.arrival)
            for j, other in enumerate(self.engine):
                m.d.comb += engine.cpu_enabled[j].eq(other.lpi_enable)
        m.d.comb += self.busy.eq(
            Cat(engine.busy for engine in self.engine).any()
            | self.network.busy
            | ~self.its._translations.idle
            | ~self.its._commands.idle
        )
        return m


class Bench:
    """A system with its memory; commands go through the queue as a driver writes them.

    ``events``: (clock, kind, record) of every tap in the order it happened.
    """

    def __init__(self, cpus=2, lpis=64, *, wait=0, bad=None, **its):
        self.dut = System(cpus, lpis, **its)
        self.its = self.dut.its
        self.engine = self.dut.engine
        self.cpus = cpus
        self.lpis = lpis
        self.bad = bad or (lambda address: address not in RAM)
        buses = [self.its.bus, *(engine.bus for engine in self.engine)]
        self.memories = [
            MemoryTarget(bus, wait=wait, bad=lambda address: self.bad(address)) for bus in buses
        ]
        self.memory = self.memories[0]
        for memory in self.memories:
            memory.words = self.memory.words
        self.events = []
        self.clock = 0
        self.occupied = False
        self.tail = 0
        self.queue_bytes = 0x1000

    def run(self, *testbenches):
        sim = Simulator(self.dut)
        sim.add_clock(1e-6)
        for memory in self.memories:
            sim.add_testbench(memory.run, background=True)
        sim.add_testbench(self._watch, background=True)
        for testbench in testbenches:
            sim.add_testbench(testbench)
        sim.run()

    async def _watch(self, ctx):
        taps = [self.its.tap, self.its.command_tap, *(engine.tap for engine in self.engine)]
        valids = Cat(tap.valid for tap in taps)
        records = Cat(tap.record for tap in taps)
        width = len(records) // len(taps)
        while True:
            _, _, valid, record = await ctx.tick().sample(valids, records)
            for i in range(len(taps)):
                if valid >> i & 1:
                    bits = record >> width * i & (1 << width) - 1
                    view = TapRecord.from_bits(bits)
                    self.events.append((self.clock, EventKind(view.kind), view))
            self.clock += 1

    def seen(self, *kinds):
        return [record for _, kind, record in self.events if kind in kinds]

    def errors(self):
        return [record.data for record in self.seen(EventKind.COMMAND_ERROR)]

    def reasons(self):
        return [Reason(record.data) for record in self.seen(EventKind.TRANSLATION_DROPPED)]

    # Bus accesses to the frames

    async def access(
        self, ctx, offset, value=None, *, select=0b1111, kind=RequesterKind.CPU, requester=0
    ):
        """One access; the answer's data, and in ``self.took`` the clocks from taken to answered."""
        request, response = self.its.frames.request, self.its.frames.response
        while self.occupied:  # by another testbench
            await ctx.tick()
        self.occupied = True
        ctx.set(
            request.payload,
            {
                "address": FRAMES.base + offset,
                "write": value is not None,
                "data": value or 0,
                "select": select,
                "requester": {"id": requester, "kind": kind},
            },
        )
        ctx.set(request.valid, 1)
        await self.until(ctx, request.ready, "request taken")
        await ctx.tick()
        ctx.set(request.valid, 0)
        ctx.set(response.ready, 1)
        self.took = 1 + await self.until(ctx, response.valid, "response")
        payload = ctx.get(response.payload)
        assert not payload.error
        await ctx.tick()
        ctx.set(response.ready, 0)
        self.occupied = False
        return payload.data

    async def write64(self, ctx, offset, value):
        await self.access(ctx, offset, value & 0xFFFF_FFFF)
        await self.access(ctx, offset + 4, value >> 32)

    async def read64(self, ctx, offset):
        low = await self.access(ctx, offset)
        return low | await self.access(ctx, offset + 4) << 32

    async def message(self, ctx, device, event, *, select=0b1111):
        await self.access(
            ctx,
            GitsRegister.TRANSLATER,
            event,
            select=select,
            kind=RequesterKind.DEVICE,
            requester=device,
        )

    async def until(self, ctx, value, what, limit=5000):
        for clock in range(limit):
            if ctx.get(value):
                return clock
            await ctx.tick()
        raise AssertionError(f"{what}: not within {limit} clocks")

    # Set-up

    def set_property(self, lpi, priority=0xA0, enable=True):
        self.memory.write(PROPERTY + lpi, bytes([priority & 0xFC | 2 | enable]))

    async def start(self, ctx, *, enable=True, lpis=True, device_pages=8, page_size=2):
        """Queue of one page, device table, collection table of one page, all LPIs enabled."""
        for lpi in range(self.lpis):
            self.set_property(lpi)
        for cpu, engine in enumerate(self.engine):
            ctx.set(engine.lpi_property_base, PROPERTY)
            ctx.set(engine.lpi_pending_base, PENDING + cpu * 0x1_0000)
            ctx.set(engine.lpi_id_bits, 15)
            ctx.set(engine.lpi_pending_zero, 1)
            ctx.set(engine.lpi_enable, lpis)
        size = device_pages - 1
        await self.write64(ctx, GitsRegister.BASER0, VALID | DEVICES | page_size << 8 | size)
        await self.write64(ctx, GitsRegister.BASER1, VALID | COLLECTIONS)
        await self.write64(ctx, GitsRegister.CBASER, VALID | QUEUE)
        await self.access(ctx, GitsRegister.CWRITER, 0)
        await self.access(ctx, GitsRegister.CTLR, enable)
        for engine in self.engine:
            await self.until(ctx, ~engine.settling, "LPIs on", 20_000)

    def put(self, *commands):
        """Write commands into the queue's memory; CWRITER's new value."""
        for words in commands:
            self.memory.write(QUEUE + self.tail, command_bytes(words))
            self.tail = (self.tail + 32) % self.queue_bytes
        return self.tail

    async def consumed(self, ctx, limit=20_000):
        """Wait until CREADR has reached CWRITER, or the queue has stalled."""
        commands = self.its._commands
        for clock in range(limit):
            if ctx.get(commands.idle) and (
                ctx.get(commands.read_offset) == self.tail // 32 or ctx.get(commands.stalled)
            ):
                return clock
            await ctx.tick()
        raise AssertionError(f"commands: not consumed within {limit} clocks")

    async def commands(self, ctx, *commands):
        """Put commands into the queue and wait; clocks from CWRITER's answer on."""
        await self.access(ctx, GitsRegister.CWRITER, self.put(*commands))
        return await self.consumed(ctx)

    async def map_all(self, ctx, device=8, events=8, *, first=0):
        """One device, event k is LPI ``first + k``, collection c is CPU c."""
        before = self.errors()
        await self.commands(
            ctx,
            *(encode_mapc(cpu, cpu) for cpu in range(self.cpus)),
            encode_mapd(device, 5, ITTS + device * 0x100),
            *(encode_mapti(device, k, FIRST_LPI + first + k, 0) for k in range(events)),
        )
        assert self.errors() == before

    async def quiet(self, ctx):
        """Wait until nothing is under way anywhere."""
        calm = 0
        for _ in range(50_000):
            busy = ctx.get(self.dut.busy)
            calm = 0 if busy else calm + 1
            if calm == 12:
                return
            await ctx.tick()
        raise AssertionError("never quiet")

    async def pending(self, ctx):
        """Acknowledge everything: the set of LPI numbers that were pending, for each CPU."""
        await self.quiet(ctx)
        found = []
        for engine in self.engine:
            mine = set()
            while ctx.get(engine.candidate.valid):
                intid = ctx.get(engine.candidate.intid)
                ctx.set(engine.acknowledge.valid, 1)
                ctx.set(engine.acknowledge.intid, intid)
                await ctx.tick()
                ctx.set(engine.acknowledge.valid, 0)
                mine.add(intid - FIRST_LPI)
                await ctx.tick()
                await self.until(ctx, ~engine.busy, "engine idle")
            found.append(mine)
        return found


# Parameters


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cpus": 0}, r"^Number of CPUs must be between 1 and 256, not 0$"),
        ({"cpus": 257}, r"^Number of CPUs must be between 1 and 256, not 257$"),
        ({"lpis": 31}, r"^Number of LPIs must be between 32 and 57344, not 31$"),
        ({"device_id_bits": 0}, r"^device_id_bits must be between 1 and 16, not 0$"),
        ({"event_id_bits": 17}, r"^event_id_bits must be between 1 and 16, not 17$"),
        ({"on_error": "ignore"}, r"^on_error must be 'skip' or 'stall', not 'ignore'$"),
    ],
)
def test_bad_parameters(arguments, message):
    with pytest.raises(ValueError, match=message):
        Its(**{"cpus": 2, "lpis": 64, **arguments})


@pytest.mark.parametrize("entries", [0, 1, 3, 2048])
def test_bad_cache_size(entries):
    message = rf"^Translation cache size must be a power of two between 2 and 1024, not {entries}$"
    with pytest.raises(ValueError, match=message):
        TranslationCache(entries, device_id_bits=16, event_id_bits=16, cpus=2)


def test_cache_size_of_the_wrong_kind():
    message = r"^Translation cache size must be an integer, not '4'$"
    with pytest.raises(TypeError, match=message):
        TranslationCache("4", device_id_bits=16, event_id_bits=16, cpus=2)


def test_operands_that_do_not_fit_a_command():
    for bits in (0, 33):
        with pytest.raises(
            ValueError, match=f"^MAPD: EventID bits must be between 1 and 32, not {bits}$"
        ):
            encode_mapd(8, bits, 0)
    with pytest.raises(ValueError, match=r"multiple of 256 below 2\*\*52, not 0x80$"):
        encode_mapd(8, 5, 0x80)
    with pytest.raises(ValueError, match=r"^An operand of INT does not fit its field: word 0x1"):
        encode_int(1 << 32, 0)


# Registers


def test_reset_values():
    bench = Bench(device_id_bits=12, event_id_bits=9)

    async def testbench(ctx):
        assert await bench.access(ctx, GitsRegister.CTLR) == 1 << 31
        assert await bench.access(ctx, GitsRegister.IIDR) == 0x43B
        assert await bench.read64(ctx, GitsRegister.TYPER) == (
            1 | 7 << 4 | 8 << 8 | 11 << 13 | 15 << 32 | 1 << 36
        )
        assert await bench.read64(ctx, GitsRegister.BASER0) == 1 << 56 | 7 << 48
        assert await bench.read64(ctx, GitsRegister.BASER1) == 4 << 56 | 7 << 48
        for offset in (GitsRegister.CBASER, GitsRegister.CWRITER, GitsRegister.CREADR):
            assert await bench.read64(ctx, offset) == 0
        assert await bench.access(ctx, GitsRegister.PIDR2) == 0x3B

    bench.run(testbench)


READ_BACK = [
    # What Linux writes while it looks for page size, attributes and levels.
    (GitsRegister.BASER0, 0x0107_0000_0000_0200, 0x0107_0000_0000_0200),
    (GitsRegister.BASER0, 0x7800_0000_0000_0400, 0x3907_0000_0000_0400),
    (GitsRegister.BASER0, 0xF907_0000_4259_0600, 0xB907_0000_4259_0600),
    (GitsRegister.BASER1, 0xBC07_0000_425A_0600, 0xBC07_0000_425A_0600),
    (GitsRegister.BASER0, 0, 0x0107_0000_0000_0000),
    (GitsRegister.BASER1, (1 << 64) - 1, 0xBCE7_FFFF_FFFF_FFFF),
    (GitsRegister.CBASER, 0xB800_0000_4258_040F, 0xB800_0000_4258_040F),
    (GitsRegister.CBASER, (1 << 64) - 1, 0xB8EF_FFFF_FFFF_FCFF),
    (GitsRegister.CREADR, (1 << 64) - 1, 0),
    (GitsRegister.TYPER, 0, 0x1F_0001_EF71),
    (GitsRegister.BASER0 + 16, (1 << 64) - 1, 0),
    (GitsRegister.CTLR, 0xFFFF_FFFE, 0x0000_043B_8000_0000),
    (GitsRegister.TRANSLATER, 5, 0),
]


def test_what_reads_back():
    bench = Bench()

    async def testbench(ctx):
        for register, written, read in READ_BACK:
            await bench.write64(ctx, register, written)
            assert await bench.read64(ctx, register) == read, (register, hex(written))

    bench.run(testbench)


def test_bytes_that_are_not_selected_stay():
    bench = Bench()

    async def testbench(ctx):
        await bench.write64(ctx, GitsRegister.CBASER, 0xB811_2233_4455_60FF)
        before = await bench.read64(ctx, GitsRegister.CBASER)
        await bench.access(ctx, GitsRegister.CBASER, 0xAAAA_AA12, select=0b0001)
        await bench.access(ctx, GitsRegister.CBASER + 4, 0x0066_AAAA, select=0b0100)
        after = before & ~(0xFF << 48 | 0xFF) | 0x12 | (0x66 & 0xEF) << 48
        assert await bench.read64(ctx, GitsRegister.CBASER) == after
        await bench.access(ctx, GitsRegister.CTLR, 0x0101, select=0b1110)
        assert await bench.access(ctx, GitsRegister.CTLR) == 1 << 31

    bench.run(testbench)


def test_locked_while_enabled():
    bench = Bench()

    async def testbench(ctx):
        await bench.start(ctx)
        registers = (GitsRegister.CBASER, GitsRegister.BASER0, GitsRegister.BASER1)
        before = [await bench.read64(ctx, register) for register in registers]
        for register in registers:
            await bench.write64(ctx, register, 0x0000_0000_7777_7000)
        assert [await bench.read64(ctx, register) for register in registers] == before
        await bench.access(ctx, GitsRegister.CTLR, 0)
        for register in registers:
            await bench.write64(ctx, register, 0)
        after = [await bench.read64(ctx, register) for register in registers]
        assert after == [0, 0x0107 << 48, 0x0407 << 48]

    bench.run(testbench)


def test_write_offset_outside_the_queue_is_ignored():
    bench = Bench()

    async def testbench(ctx):
        await bench.start(ctx)
        bench.put(encode_mapc(0, 0))
        await bench.access(ctx, GitsRegister.CWRITER, 0x1000)
        assert await bench.access(ctx, GitsRegister.CWRITER) == 0
        await ctx.tick().repeat(100)
        assert bench.seen(EventKind.COMMAND) == []
        await bench.access(ctx, GitsRegister.CWRITER, 0x20)
        await bench.consumed(ctx)
        assert await bench.access(ctx, GitsRegister.CREADR) == 0x20

    bench.run(testbench)


def test_write_offset_left_outside_by_a_smaller_queue_stops_it():
    bench = Bench()

    async def testbench(ctx):
        await bench.write64(ctx, GitsRegister.CBASER, VALID | QUEUE | 1)
        await bench.access(ctx, GitsRegister.CWRITER, 0x1FE0)
        await bench.write64(ctx, GitsRegister.CBASER, VALID | QUEUE)
        await bench.access(ctx, GitsRegister.CTLR, 1)
        await ctx.tick().repeat(200)
        assert bench.memory.log == []
        assert ctx.get(bench.its._commands.idle)

    bench.run(testbench)


def test_queue_wraps():
    bench = Bench(cpus=1)

    async def testbench(ctx):
        await bench.start(ctx)
        for _ in range(3):
            await bench.commands(ctx, *[encode_sync(0)] * 50)
            assert await bench.access(ctx, GitsRegister.CREADR) == bench.tail
        assert bench.tail == 150 * 32 - 0x1000
        assert bench.errors() == []
        assert len(bench.seen(EventKind.COMMAND)) == 150

    bench.run(testbench)


def test_a_new_queue_starts_at_its_beginning():
    bench = Bench()

    async def testbench(ctx):
        await bench.start(ctx)
        await bench.commands(ctx, encode_sync(0), encode_sync(1))
        await bench.access(ctx, GitsRegister.CTLR, 0)
        assert await bench.access(ctx, GitsRegister.CREADR) == 0x40
        await bench.write64(ctx, GitsRegister.CBASER, VALID | QUEUE)
        assert await bench.access(ctx, GitsRegister.CREADR) == 0
        assert await bench.access(ctx, GitsRegister.CWRITER) == 0x40
        await bench.access(ctx, GitsRegister.CTLR, 1)
        bench.tail = 0x40
        await bench.consumed(ctx)
        assert len(bench.seen(EventKind.COMMAND)) == 4

    bench.run(testbench)


def test_quiescent_only_when_nothing_is_under_way():
    bench = Bench()

    async def testbench(ctx):
        ctx.set(bench.its.translation_distance, 40)
        ctx.set(bench.its.link_distance, 40)
        await bench.start(ctx)
        await bench.map_all(ctx)
        assert await bench.access(ctx, GitsRegister.CTLR) == 1
        await bench.message(ctx, 8, 1)
        await ctx.tick().repeat(30)
        await bench.access(ctx, GitsRegister.CTLR, 0)
        clocks = 0
        await bench.access(ctx, GitsRegister.CBASER + 4, 0)  # not yet writable
        while not await bench.access(ctx, GitsRegister.CTLR) >> 31:
            assert bench.seen(EventKind.PENDING_SET) == []
            clocks += 1
            assert clocks < 100
        assert clocks > 5
        assert await bench.access(ctx, GitsRegister.CBASER + 4) == 1 << 31
        assert await bench.pending(ctx) == [{1}, set()]

    bench.run(testbench)


def test_every_access_anywhere_is_answered_in_two_clocks():
    """Random offsets, lanes and values; the ITS still works afterwards."""
    bench = Bench(wait=random_wait(9, 3))
    rng = random.Random(9)

    async def testbench(ctx):
        registers = list(GitsRegister)
        for _ in range(600):
            offset = rng.choice(
                [rng.choice(registers) + rng.choice([0, 4]), rng.randrange(1 << 17)]
            )
            value = rng.choice([None, 0, 0xFFFF_FFFF, rng.getrandbits(32)])
            kind = rng.choice(list(RequesterKind))
            await bench.access(
                ctx,
                offset & ~3,
                value,
                select=rng.randrange(16),
                kind=kind,
                requester=rng.getrandbits(16),
            )
            assert bench.took == 2 or offset & ~3 == GitsRegister.TRANSLATER
        await bench.access(ctx, GitsRegister.CTLR, 0)
        await bench.quiet(ctx)
        bench.tail = 0
        await bench.start(ctx, enable=False)
        await bench.access(ctx, GitsRegister.CTLR, 1)
        await bench.map_all(ctx)
        await bench.message(ctx, 8, 1)
        assert await bench.pending(ctx) == [{1}, set()]

    bench.run(testbench)


# Messages


def test_which_writes_are_messages():
    bench = Bench()

    async def testbench(ctx):
        await bench.start(ctx)
        await bench.map_all(ctx)
        for select in range(16):
            taken = select in (0b1111, 0b0011)
            value = 3 if select == 0b1111 else 0xFFFF_0003
            await bench.message(ctx, 8, value, select=select)
            assert await bench.pending(ctx) == [{3} if taken else set(), set()]
        assert bench.reasons() == [Reason.BAD_ACCESS] * 14

    bench.run(testbench)


@pytest.mark.parametrize("kind", [RequesterKind.CPU, RequesterKind.CONTROLLER])
def test_only_devices_send_messages(kind):
    bench = Bench()

    async def testbench(ctx):
        await bench.start(ctx)
        await bench.map_all(ctx, device=1)
        await bench.access(ctx, GitsRegister.TRANSLATER, 3, kind=kind, requester=1)
        assert await bench.pending(ctx) == [set(), set()]
        assert bench.reasons() == [Reason.NOT_A_DEVICE] * (kind == RequesterKind.CPU)

    bench.run(testbench)


UNTRANSLATABLE = [
    (9, 0, Reason.UNMAPPED_DEVICE),
    (0xFFFF, 0, Reason.UNMAPPED_DEVICE),
    (8, 8, Reason.UNMAPPED_INTERRUPT),
    (8, 31, Reason.UNMAPPED_INTERRUPT),
    (8, 32, Reason.ID_OOR),
    (8, 0x1_0003, Reason.ID_OOR),
    (8, 0x8000_0003, Reason.ID_OOR),
    (8, 7, Reason.UNMAPPED_COLLECTION),
    (0x8008, 0, None),
]


def test_what_cannot_be_translated_is_dropped():
    """... and the neighbours are not disturbed."""
    bench = Bench(lpis=64)

    async def testbench(ctx):
        await bench.start(ctx)
        await bench.map_all(ctx)
        await bench.commands(
            ctx,
            encode_mapti(8, 7, FIRST_LPI + 7, 77),
            encode_mapd(0x8008, 1, ITTS),
            encode_mapti(0x8008, 0, FIRST_LPI + 40, 1),
        )
        expected = []
        for device, event, reason in UNTRANSLATABLE:
            await bench.message(ctx, device, event)
            await bench.message(ctx, 8, 2)
            assert await bench.pending(ctx) == [{2}, set() if reason else {40}]
            expected += [reason] if reason else []
            assert bench.reasons() == expected
        assert ctx.get(bench.its.dropped) == len(expected)

    bench.run(testbench)


def test_ids_beyond_the_configured_bits():
    bench = Bench(device_id_bits=8, event_id_bits=3)

    async def testbench(ctx):
        await bench.start(ctx)
        await bench.commands(
            ctx,
            encode_mapc(0, 0),
            encode_mapd(8, 4, ITTS),
            encode_mapd(8, 3, ITTS),
            encode_mapti(8, 3, FIRST_LPI + 3, 0),
            encode_mapd(0x108, 3, ITTS),
        )
        assert bench.errors() == [0x10802, 0x10801]
        for device, event in ((8, 3), (0x108, 3), (8, 8), (8, 11)):
            await bench.message(ctx, device, event)
        assert await bench.pending(ctx) == [{3}, set()]
        assert bench.reasons() == [Reason.DEVICE_OOR, Reason.ID_OOR, Reason.ID_OOR]

    bench.run(testbench)


def test_messages_while_disabled_are_dropped():
    bench = Bench()

    async def testbench(ctx):
        await bench.start(ctx)
        await bench.map_all(ctx)
        await bench.access(ctx, GitsRegister.CTLR, 0)
        await bench.message(ctx, 8, 3)
        await bench.access(ctx, GitsRegister.CTLR, 1)
        await bench.message(ctx, 8, 4)
        assert await bench.pending(ctx) == [{4}, set()]
        assert bench.reasons() == [Reason.DISABLED]

    bench.run(testbench)


def test_messages_wait_when_the_redistributor_is_far_and_none_is_lost():
    bench = Bench(lpis=64)

    async def testbench(ctx):
        ctx.set(bench.its.link_distance, 50)
        ctx.set(bench.its.translation_distance, 50)
        await bench.start(ctx)
        await bench.map_all(ctx, events=20)
        for k in range(20):
            await bench.message(ctx, 8, k)
            assert bench.took < 150
        assert await bench.pending(ctx) == [set(range(20)), set()]

    bench.run(testbench)


# Commands that go well


def test_mapi_takes_the_event_as_the_lpi():
    bench = Bench()

    async def testbench(ctx):
        await bench.start(ctx)
        await bench.commands(
            ctx, encode_mapc(3, 1), encode_mapd(8, 14, ITTS), encode_mapi(8, FIRST_LPI + 5, 3)
        )
        assert bench.errors() == []
        await bench.message(ctx, 8, FIRST_LPI + 5)
        assert await bench.pending(ctx) == [set(), {5}]

    bench.run(testbench)


def test_int_and_clear():
    bench = Bench()

    async def testbench(ctx):
        await bench.start(ctx)
        await bench.map_all(ctx)
        await bench.commands(
            ctx, encode_int(8, 1), encode_int(8, 2), encode_clear(8, 1), encode_clear(8, 3)
        )
        assert await bench.pending(ctx) == [{2}, set()]
        assert bench.errors() == []

    bench.run(testbench)


def test_inv_and_invall_make_a_changed_property_count():
    bench = Bench()

    async def testbench(ctx):
        await bench.start(ctx)
        await bench.map_all(ctx)
        await bench.commands(ctx, *(encode_int(8, k) for k in range(3)), encode_sync(0))
        for lpi in range(3):
            bench.set_property(lpi, enable=False)
        await ctx.tick().repeat(20)
        assert ctx.get(bench.engine[0].candidate.intid) == FIRST_LPI
        await bench.commands(ctx, encode_inv(8, 0), encode_sync(0))
        assert ctx.get(bench.engine[0].candidate.intid) == FIRST_LPI + 1
        await bench.commands(ctx, encode_invall(0), encode_sync(0))
        assert not ctx.get(bench.engine[0].candidate.valid)
        for lpi in range(3):
            bench.set_property(lpi)
        await bench.commands(ctx, encode_invall(0), encode_sync(0))
        assert await bench.pending(ctx) == [{0, 1, 2}, set()]

    bench.run(testbench)


def test_movi_takes_what_is_pending_along_and_later_messages():
    bench = Bench()

    async def testbench(ctx):
        await bench.start(ctx)
        await bench.map_all(ctx)
        await bench.message(ctx, 8, 1)
        await bench.message(ctx, 8, 2)
        await bench.quiet(ctx)
        await bench.commands(ctx, encode_movi(8, 1, 1), encode_movi(8, 3, 1), encode_sync(0))
        await bench.message(ctx, 8, 3)
        assert await bench.pending(ctx) == [{2}, {1, 3}]
        await bench.message(ctx, 8, 1)
        assert await bench.pending(ctx) == [set(), {1}]
        assert bench.errors() == []

    bench.run(testbench)


def test_movall_moves_what_is_pending_and_nothing_else():
    bench = Bench()

    async def testbench(ctx):
        await bench.start(ctx)
        await bench.map_all(ctx)
        await bench.commands(ctx, encode_movi(8, 5, 1), encode_int(8, 5))
        for k in (0, 1, 7):
            await bench.message(ctx, 8, k)
        await bench.quiet(ctx)
        await bench.commands(ctx, encode_movall(0, 0), encode_movall(0, 1), encode_sync(0))
        await bench.message(ctx, 8, 1)
        assert await bench.pending(ctx) == [{1}, {0, 1, 5, 7}]

    bench.run(testbench)


def test_mapc_moves_what_comes_and_leaves_what_is_pending():
    bench = Bench()

    async def testbench(ctx):
        await bench.start(ctx)
        await bench.map_all(ctx)
        await bench.message(ctx, 8, 1)
        await bench.quiet(ctx)
        await bench.commands(ctx, encode_mapc(0, 1), encode_sync(0))
        await bench.message(ctx, 8, 1)
        assert await bench.pending(ctx) == [{1}, {1}]
        await bench.commands(ctx, encode_mapc(0, 0, valid=False))
        await bench.message(ctx, 8, 1)
        assert await bench.pending(ctx) == [set(), set()]
        assert bench.reasons() == [Reason.UNMAPPED_COLLECTION]

    bench.run(testbench)


def test_discard_clears_and_removes():
    bench = Bench()

    async def testbench(ctx):
        await bench.start(ctx)
        await bench.map_all(ctx)
        for k in (1, 2):
            await bench.message(ctx, 8, k)
        await bench.quiet(ctx)
        await bench.commands(ctx, encode_discard(8, 1), encode_sync(0))
        await bench.message(ctx, 8, 1)
        assert await bench.pending(ctx) == [{2}, set()]
        assert bench.reasons() == [Reason.UNMAPPED_INTERRUPT]
        await bench.commands(ctx, encode_discard(8, 1))
        assert bench.errors() == [error_code(Opcode.DISCARD, Reason.UNMAPPED_INTERRUPT)]

    bench.run(testbench)


def test_discard_without_a_collection_still_removes():
    bench = Bench()

    async def testbench(ctx):
        await bench.start(ctx)
        await bench.map_all(ctx)
        await bench.commands(
            ctx,
            encode_mapc(0, 0, valid=False),
            encode_discard(8, 1),
            encode_mapc(0, 0),
            encode_sync(0),
        )
        assert bench.errors() == []
        await bench.message(ctx, 8, 1)
        await bench.message(ctx, 8, 2)
        assert await bench.pending(ctx) == [{2}, set()]

    bench.run(testbench)


CHANGES = [
    ([encode_mapti(8, 1, FIRST_LPI + 30, 1)], [set(), {30}]),
    ([encode_movi(8, 1, 1)], [set(), {1}]),
    ([encode_mapc(0, 1)], [set(), {1}]),
    ([encode_discard(8, 1)], [set(), set()]),
    ([encode_mapd(8, 5, ITTS, valid=False)], [set(), set()]),
    ([encode_mapd(8, 5, ITTS + 0x8_0000)], [set(), set()]),
    ([encode_mapc(0, 0, valid=False)], [set(), set()]),
    ([encode_movi(8, 2, 1)], [{1}, set()]),
    ([encode_discard(8, 2)], [{1}, set()]),
]


def test_cached_translation_is_forgotten_when_it_changes():
    bench = Bench(translation_cache=2)

    async def testbench(ctx):
        await bench.start(ctx)
        for commands, expected in CHANGES:
            await bench.map_all(ctx)
            await bench.message(ctx, 8, 1)
            assert await bench.pending(ctx) == [{1}, set()]
            reads = len(bench.memory.log)
            await bench.message(ctx, 8, 1)
            assert await bench.pending(ctx) == [{1}, set()]
            assert len(bench.memory.log) == reads  # it was cached
            await bench.commands(ctx, *commands, encode_sync(0), encode_sync(1))
            await bench.message(ctx, 8, 1)
            assert await bench.pending(ctx) == expected, commands
        assert bench.errors() == []

    bench.run(testbench)


def test_nothing_hits_while_the_cache_is_being_emptied():
    """A large cache takes longer to empty than the command that did it; its last entry counts."""
    device = 0x3FF << 3
    bench = Bench(translation_cache=1024)

    async def testbench(ctx):
        await bench.start(ctx)
        await ctx.tick().repeat(1024)  # emptied after it was enabled
        await bench.map_all(ctx, device, events=1)
        await ctx.tick().repeat(1024)
        await bench.message(ctx, device, 0)
        await bench.message(ctx, device, 0)
        assert await bench.pending(ctx) == [{0}, set()]
        reads = len(bench.memory.log)
        await bench.message(ctx, device, 0)
        assert await bench.pending(ctx) == [{0}, set()]
        assert len(bench.memory.log) == reads  # it was cached
        await bench.commands(ctx, encode_mapc(0, 1))
        await bench.message(ctx, device, 0)
        assert await bench.pending(ctx) == [set(), {0}]

    bench.run(testbench)


def test_tables_changed_while_disabled_are_read_again():
    bench = Bench()

    async def testbench(ctx):
        await bench.start(ctx)
        await bench.map_all(ctx)
        await bench.message(ctx, 8, 1)
        assert await bench.pending(ctx) == [{1}, set()]
        await bench.access(ctx, GitsRegister.CTLR, 0)
        await bench.write64(ctx, GitsRegister.BASER0, VALID | (DEVICES + 0x8_0000))
        await bench.access(ctx, GitsRegister.CTLR, 1)
        await bench.message(ctx, 8, 1)
        assert await bench.pending(ctx) == [set(), set()]
        assert bench.reasons() == [Reason.UNMAPPED_DEVICE]

    bench.run(testbench)


def test_sparse_device_ids():
    devices = [0, 1, 7, 8, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF]
    bench = Bench(lpis=64)

    async def testbench(ctx):
        await bench.start(ctx)
        await bench.commands(ctx, encode_mapc(0, 0), encode_mapc(511, 1))
        for n, device in enumerate(devices):
            await bench.commands(
                ctx,
                encode_mapd(device, 1, ITTS + n * 0x100),
                encode_mapti(device, 1, FIRST_LPI + n, 511 if n % 2 else 0),
            )
        assert bench.errors() == []
        for n, device in enumerate(devices):
            await bench.message(ctx, device, 1)
            await bench.message(ctx, device, 0)
            expected = [set(), {n}] if n % 2 else [{n}, set()]
            assert await bench.pending(ctx) == expected
        assert bench.reasons() == [Reason.UNMAPPED_INTERRUPT] * len(devices)

    bench.run(testbench)


@pytest.mark.parametrize("page_size", range(4))
def test_page_sizes_bound_the_device_table(page_size):
    entries = 3 * (0x1000, 0x4000, 0x1_0000, 0x1_0000)[page_size] // 8
    bench = Bench()

    async def testbench(ctx):
        await bench.start(ctx, device_pages=3, page_size=page_size)
        await bench.commands(ctx, encode_mapd(entries - 1, 1, ITTS), encode_mapd(entries, 1, ITTS))
        assert bench.errors() == [error_code(Opcode.MAPD, Reason.DEVICE_OOR)]
        assert bench.memory.read64(DEVICES + 8 * (entries - 1)) >> 63
        assert not bench.memory.read64(DEVICES + 8 * entries)

    bench.run(testbench)


# Commands that go wrong

NOWHERE = 0x9000_0000

ERRORS = [
    (encode_mapd(0x1_0000, 5, ITTS), 0x10801),
    (encode_mapd(8, 17, ITTS), 0x10802),
    (encode_mapd(0x1_0000, 5, ITTS, valid=False), 0x10801),
    (encode_mapc(512, 0), 0x10903),
    (encode_mapc(1, 2), 0x10902),
    (encode_mapc(1, 1 << 35), 0x10902),
    (encode_mapti(9, 0, FIRST_LPI, 0), 0x10A04),
    (encode_mapti(0x1_0008, 0, FIRST_LPI, 0), 0x10A01),
    (encode_mapti(8, 32, FIRST_LPI, 0), 0x10A05),
    (encode_mapti(8, 1 << 31, FIRST_LPI, 0), 0x10A05),
    (encode_mapti(8, 0, 8191, 0), 0x10A06),
    (encode_mapti(8, 0, FIRST_LPI + 64, 0), 0x10A06),
    (encode_mapti(8, 0, 1 << 31 | FIRST_LPI, 0), 0x10A06),
    (encode_mapti(8, 0, FIRST_LPI, 512), 0x10A03),
    (encode_mapi(8, 0, 0), 0x10B06),
    (encode_movi(9, 0, 1), 0x10104),
    (encode_movi(8, 32, 1), 0x10105),
    (encode_movi(8, 20, 1), 0x10107),
    (encode_movi(8, 7, 1), 0x10109),
    (encode_movi(8, 0, 77), 0x10109),
    (encode_movi(8, 0, 512), 0x10103),
    (encode_movall(2, 0), 0x10E01),
    (encode_movall(0, 2), 0x10E01),
    (encode_discard(9, 0), 0x10F04),
    (encode_discard(8, 32), 0x10F05),
    (encode_discard(8, 20), 0x10F07),
    (encode_int(0x1_0008, 0), 0x10301),
    (encode_int(9, 0), 0x10304),
    (encode_int(8, 32), 0x10305),
    (encode_int(8, 20), 0x10307),
    (encode_int(8, 7), 0x10309),
    (encode_clear(8, 20), 0x10507),
    (encode_clear(8, 7), 0x10509),
    (encode_inv(8, 20), 0x10C07),
    (encode_inv(8, 7), 0x10C09),
    (encode_invall(77), 0x10D09),
    (encode_invall(512), 0x10D03),
    (encode_sync(2), 0x10520),
    (encode_sync(1 << 20), 0x10520),
    ((0x29, 0, 0, 0), 0x12941),
    ((0x00, 0, 0, 0), 0x10041),
    ((0xFF, 0, 0, 0), 0x1FF41),
    (encode_mapti(0x10, 0, FIRST_LPI, 0), 0x10A40),
    (encode_int(0x10, 0), 0x10340),
    (encode_int(0x18, 0), 0x10340),
    (encode_discard(0x20, 0), 0x10F40),
]


async def with_bad_neighbours(bench, ctx):
    """Device 8 as usual, its event 7 in a collection that is not mapped; devices 0x10, 0x18 and
    0x20 with translation tables where there is no memory."""
    await bench.start(ctx)
    await bench.map_all(ctx)
    await bench.commands(
        ctx,
        encode_mapti(8, 7, FIRST_LPI + 7, 77),
        encode_mapd(0x10, 5, NOWHERE),
        encode_mapd(0x18, 5, 1 << 45),
        encode_mapd(0x20, 5, FRAMES.base),
    )
    assert bench.errors() == []


async def unharmed(bench, ctx):
    """Nothing is pending that should not be, and every translation of device 8 is intact."""
    assert await bench.pending(ctx) == [set(), set()]
    for k in range(7):
        await bench.message(ctx, 8, k)
    assert await bench.pending(ctx) == [set(range(7)), set()]


@pytest.mark.parametrize("on_error", ["skip", "stall"])
def test_commands_with_an_error(on_error):
    """Each is reported with its code, changes nothing, and is skipped or stalls the queue."""
    bench = Bench(on_error=on_error)

    async def testbench(ctx):
        await with_bad_neighbours(bench, ctx)
        words = dict(bench.memory.words)
        expected = []
        for command, code in ERRORS:
            at = bench.tail
            await bench.commands(ctx, command)
            expected.append(code)
            assert bench.errors() == expected, f"{Opcode(command[0] & 0xFF)!r}"
            for i in range(at, at + 32, 4):
                words[QUEUE + i] = bench.memory.words[QUEUE + i]
            assert bench.memory.words == words
            creadr = await bench.access(ctx, GitsRegister.CREADR)
            if on_error == "skip":
                assert creadr == bench.tail
            else:
                assert creadr == at | 1
                # Moving CWRITER alone does not help; repairing the command and Retry does.
                await bench.access(ctx, GitsRegister.CWRITER, bench.put(encode_sync(1)))
                await ctx.tick().repeat(60)
                assert await bench.access(ctx, GitsRegister.CREADR) == at | 1
                # Retry of the same command stalls again.
                await bench.access(ctx, GitsRegister.CWRITER, bench.tail | 1)
                await bench.consumed(ctx)
                expected.append(code)
                assert bench.errors() == expected
                bench.memory.write(QUEUE + at, command_bytes(encode_sync(0)))
                await bench.access(ctx, GitsRegister.CWRITER, bench.tail | 1)
                await bench.consumed(ctx)
                assert await bench.access(ctx, GitsRegister.CREADR) == bench.tail
                for i in range(at, at + 64, 4):
                    words[QUEUE + i] = bench.memory.words[QUEUE + i]
        await unharmed(bench, ctx)

    bench.run(testbench)


def opcode_name(value):
    try:
        return Opcode(value).name
    except ValueError:
        return hex(value)


def test_retry_without_a_stall_does_nothing():
    bench = Bench(on_error="stall")

    async def testbench(ctx):
        await bench.start(ctx)
        await bench.commands(ctx, encode_sync(0))
        await bench.access(ctx, GitsRegister.CWRITER, bench.tail | 1)
        assert await bench.access(ctx, GitsRegister.CWRITER) == bench.tail
        await ctx.tick().repeat(60)
        assert len(bench.seen(EventKind.COMMAND)) == 1

    bench.run(testbench)


@pytest.mark.parametrize("on_error", ["skip", "stall"])
def test_stall_between_movi_and_sync(on_error):
    """Window W9: the queue stops at a bad MOVI; software that does not look believes it moved."""
    bench = Bench(on_error=on_error)

    async def testbench(ctx):
        await bench.start(ctx)
        await bench.map_all(ctx)
        await bench.commands(ctx, encode_movi(8, 30, 1), encode_movi(8, 1, 1), encode_sync(0))
        await bench.message(ctx, 8, 1)
        moved = on_error == "skip"
        assert await bench.pending(ctx) == [set() if moved else {1}, {1} if moved else set()]

    bench.run(testbench)


@pytest.mark.parametrize("on_error", ["skip", "stall"])
@pytest.mark.parametrize("where", [NOWHERE, FRAMES.base, 1 << 45])
def test_queue_without_memory(where, on_error):
    bench = Bench(on_error=on_error)

    async def testbench(ctx):
        await bench.start(ctx, enable=False)
        await bench.write64(ctx, GitsRegister.CBASER, VALID | where)
        await bench.access(ctx, GitsRegister.CTLR, 1)
        await bench.access(ctx, GitsRegister.CWRITER, 0x40)
        bench.tail = 0x40
        await bench.consumed(ctx)
        stalls = on_error == "stall"
        assert await bench.access(ctx, GitsRegister.CREADR) == (1 if stalls else 0x40)
        assert bench.errors() == [0x10040] * (1 if stalls else 2)
        # A new queue gets it out of there.
        await bench.access(ctx, GitsRegister.CTLR, 0)
        await bench.write64(ctx, GitsRegister.CBASER, VALID | QUEUE)
        assert await bench.access(ctx, GitsRegister.CREADR) == 0
        bench.tail = 0
        await bench.access(ctx, GitsRegister.CWRITER, 0)
        await bench.access(ctx, GitsRegister.CTLR, 1)
        await bench.map_all(ctx)
        await unharmed(bench, ctx)

    bench.run(testbench)


def test_tables_without_memory():
    bench = Bench()

    async def testbench(ctx):
        await bench.start(ctx, enable=False)
        await bench.write64(ctx, GitsRegister.BASER0, VALID | NOWHERE)
        await bench.write64(ctx, GitsRegister.BASER1, VALID | FRAMES.base)
        await bench.access(ctx, GitsRegister.CTLR, 1)
        await bench.commands(
            ctx, encode_mapd(8, 5, ITTS), encode_mapc(8, 0), encode_int(8, 0), encode_invall(8)
        )
        assert bench.errors() == [0x10840, 0x10940, 0x10340, 0x10D40]
        await bench.message(ctx, 8, 0)
        await bench.quiet(ctx)
        assert bench.reasons() == [Reason.MEMORY_FAULT]

    bench.run(testbench)


def test_no_tables_at_all():
    bench = Bench()

    async def testbench(ctx):
        await bench.write64(ctx, GitsRegister.CBASER, VALID | QUEUE)
        await bench.access(ctx, GitsRegister.CTLR, 1)
        await bench.commands(ctx, encode_mapd(0, 5, ITTS), encode_mapc(0, 0))
        assert bench.errors() == [0x10801, 0x10903]
        await bench.message(ctx, 0, 0)
        await bench.quiet(ctx)
        assert bench.reasons() == [Reason.DEVICE_OOR]

    bench.run(testbench)


@pytest.mark.parametrize("seed", range(2))
def test_random_commands_and_random_tables_never_hang_and_stay_inside_the_tables(seed):
    rng = random.Random(seed)
    bench = Bench(wait=random_wait(seed, 3))

    def word():
        return rng.choice([0, rng.getrandbits(64), rng.getrandbits(8), VALID | rng.getrandbits(20)])

    async def testbench(ctx):
        await bench.start(ctx, device_pages=1)
        await bench.map_all(ctx)
        tables = [range(DEVICES, DEVICES + 0x1_0000), range(COLLECTIONS, COLLECTIONS + 0x1000)]
        itts = range(ITTS, ITTS + 0x10_0000)
        for _ in range(80):
            opcode = rng.choice([*Opcode, rng.randrange(256)])
            device = rng.choice([8, 8, rng.randrange(16), rng.getrandbits(32)])
            event = rng.choice([rng.randrange(10), rng.randrange(64), rng.getrandbits(32)])
            if opcode == Opcode.MAPD and rng.random() < 0.9:
                command = encode_mapd(device, rng.randint(1, 6), ITTS + 0x100 * rng.randrange(64))
            else:
                command = (
                    opcode | device << 32,
                    event | rng.choice([FIRST_LPI + rng.randrange(70), 5]) << 32,
                    rng.choice([rng.randrange(4), word()]) | rng.randrange(3) << 16,
                    word(),
                )
            if rng.random() < 0.1:
                table = rng.choice([DEVICES + 64, COLLECTIONS, ITTS + 0x800])
                bench.memory.write64(table + 8 * rng.randrange(8), word())
            for memory in bench.memories:
                memory.log.clear()
            await bench.commands(ctx, tuple(w & (1 << 64) - 1 for w in command))
            await bench.message(ctx, device & 0xFFFF, event)
            await bench.quiet(ctx)
            for write, address in bench.memory.log:
                inside = any(address in table for table in tables) or address in itts
                # An ITT's place is the software's choice, so random ones may be anywhere in RAM.
                assert (
                    not write
                    or inside
                    or opcode
                    in (
                        Opcode.MAPTI,
                        Opcode.MAPI,
                        Opcode.MOVI,
                        Opcode.DISCARD,
                    )
                ), (hex(address), opcode_name(opcode))
        assert len(bench.seen(EventKind.COMMAND)) >= 80

    bench.run(testbench)


# Races


def test_w1_message_in_flight_lands_at_the_old_cpu_after_movi():
    bench = Bench()

    async def testbench(ctx):
        ctx.set(bench.its.translation_distance, 200)
        await bench.start(ctx)
        await bench.map_all(ctx)
        await bench.message(ctx, 8, 1)
        await ctx.tick().repeat(30)  # translated, and on its way
        await bench.commands(ctx, encode_movi(8, 1, 1))
        assert bench.seen(EventKind.PENDING_SET) == []
        assert await bench.access(ctx, GitsRegister.CREADR) == bench.tail  # the move is over
        assert await bench.pending(ctx) == [{1}, set()]

    bench.run(testbench)


def test_w1_is_closed_by_sync():
    bench = Bench()

    async def testbench(ctx):
        ctx.set(bench.its.translation_distance, 200)
        await bench.start(ctx)
        await bench.map_all(ctx)
        await bench.message(ctx, 8, 1)
        await ctx.tick().repeat(30)
        await bench.commands(ctx, encode_movi(8, 1, 1), encode_sync(0))
        # It has landed: nothing can come after SYNC any more.
        assert [r.unit for r in bench.seen(EventKind.PENDING_SET)] == [0]
        await bench.message(ctx, 8, 1)
        assert await bench.pending(ctx) == [{1}, {1}]
        assert [r.unit for r in bench.seen(EventKind.PENDING_SET)] == [0, 1]

    bench.run(testbench)


def test_sync_does_not_wait_for_messages_that_come_later():
    bench = Bench()
    stop = []

    async def software(ctx):
        ctx.set(bench.its.translation_distance, 20)
        await bench.start(ctx)
        await bench.map_all(ctx)
        bench.put(*(encode_sync(k % 2) for k in range(10)))
        await bench.access(ctx, GitsRegister.CWRITER, bench.tail)
        for _ in range(400):
            if ctx.get(bench.its._commands.read_offset) == bench.tail // 32:
                break
            await bench.message(ctx, 8, 1)
        else:
            raise AssertionError("SYNC starved")
        stop.append(True)

    bench.run(software)
    assert stop


@pytest.mark.parametrize("seed", range(3))
def test_after_sync_no_event_reaches_the_old_cpu(seed):
    """Messages all the time, LPIs moved to and fro with MOVI and SYNC, random distances."""
    rng = random.Random(seed)
    bench = Bench(wait=random_wait(seed, 3))
    ready, over = [], []
    checked = []

    async def devices(ctx):
        ctx.set(bench.its.translation_distance, [0, 3, 17][seed])
        ctx.set(bench.its.link_distance, [5, 0, 1][seed])
        ctx.set(bench.dut.network.distance, [9, 0, 2][seed])
        await bench.start(ctx)
        await bench.map_all(ctx, events=3)
        ready.append(True)
        while not over:
            await bench.message(ctx, 8, rng.randrange(3))
            await ctx.tick().repeat(rng.randint(1, 12))

    async def mover(ctx):
        while not ready:
            await ctx.tick()
        home = [0] * 3
        for _ in range(14):
            event = rng.randrange(3)
            old, new = home[event], 1 - home[event]
            home[event] = new
            await bench.commands(ctx, encode_movi(8, event, new), encode_sync(old))
            mark = len(bench.events)
            await ctx.tick().repeat(rng.randint(1, 60))
            for _, kind, record in bench.events[mark:]:
                if kind == EventKind.PENDING_SET and record.id == FIRST_LPI + event:
                    assert record.unit == new
                    checked.append(record)
        over.append(True)

    async def cpu(ctx, number):
        engine = bench.engine[number]
        while not over:
            await ctx.tick()
            acknowledge = ctx.get(engine.candidate.valid) and rng.random() < 0.5
            ctx.set(engine.acknowledge.intid, ctx.get(engine.candidate.intid))
            ctx.set(engine.acknowledge.valid, acknowledge)

    async def cpu0(ctx):
        await cpu(ctx, 0)

    async def cpu1(ctx):
        await cpu(ctx, 1)

    bench.run(devices, mover, cpu0, cpu1)
    assert len(checked) > 5
    assert bench.errors() == []


def test_w3_two_messages_around_a_move_are_seen_once_or_twice_but_never_not_at_all():
    """Every offset of the second message against MOVI; both CPUs are counted."""
    outcomes = set()
    bench = Bench()

    async def testbench(ctx):
        await bench.start(ctx)
        for offset in range(0, 90, 9):
            ctx.set(bench.its.translation_distance, 0)
            await bench.map_all(ctx, events=2)
            await bench.message(ctx, 8, 1)
            await bench.quiet(ctx)
            ctx.set(bench.its.translation_distance, 12)
            await bench.access(
                ctx, GitsRegister.CWRITER, bench.put(encode_movi(8, 1, 1), encode_sync(0))
            )
            await ctx.tick().repeat(offset + 1)
            await bench.message(ctx, 8, 1)
            pending = await bench.pending(ctx)
            assert pending in ([set(), {1}], [{1}, {1}])
            outcomes.add(len(pending[0]))

    bench.run(testbench)
    assert outcomes == {0, 1}


def test_w7_message_in_flight_lands_behind_movall():
    bench = Bench()

    async def testbench(ctx):
        ctx.set(bench.its.translation_distance, 200)
        await bench.start(ctx)
        await bench.map_all(ctx)
        await bench.message(ctx, 8, 1)
        await ctx.tick().repeat(30)
        await bench.commands(ctx, encode_movall(0, 1), encode_mapc(0, 1))
        assert await bench.pending(ctx) == [{1}, set()]
        # The order that closes it: remap, SYNC, then move what has landed.
        await bench.commands(ctx, encode_mapc(0, 0), encode_sync(0))
        await bench.message(ctx, 8, 1)
        await ctx.tick().repeat(30)
        await bench.commands(
            ctx, encode_mapc(0, 1), encode_sync(0), encode_movall(0, 1), encode_sync(0)
        )
        assert await bench.pending(ctx) == [set(), {1}]

    bench.run(testbench)


@pytest.mark.parametrize("command", [encode_discard(8, 1), encode_mapd(8, 5, ITTS, valid=False)])
def test_w8_message_against_removal_is_delivered_or_dropped(command):
    outcomes = set()
    bench = Bench()

    async def testbench(ctx):
        await bench.start(ctx)
        for offset in range(0, 100, 11):
            await bench.map_all(ctx, events=3)
            bench.events.clear()
            await bench.access(ctx, GitsRegister.CWRITER, bench.put(command, encode_sync(0)))
            await ctx.tick().repeat(offset + 1)
            await bench.message(ctx, 8, 1)
            pending = await bench.pending(ctx)
            assert pending in ([set(), set()], [{1}, set()])
            assert pending[0] or bench.reasons() or bench.seen(EventKind.PENDING_CLEARED)
            outcomes.add((bool(pending[0]), bool(bench.reasons())))
            await bench.message(ctx, 8, 1)
            assert await bench.pending(ctx) == [set(), set()]
            await bench.commands(
                ctx, encode_mapd(8, 5, ITTS + 0x8_0000), encode_mapti(8, 1, FIRST_LPI + 9, 1)
            )
            await bench.message(ctx, 8, 1)
            assert await bench.pending(ctx) == [set(), {9}]

    bench.run(testbench)
    assert (False, True) in outcomes
    assert len(outcomes) > 1


@pytest.mark.parametrize("keep", [0, 1])
def test_w10_movi_to_a_redistributor_with_lpis_off(keep):
    bench = Bench()

    async def testbench(ctx):
        ctx.set(bench.engine[0].keep_if_disabled, keep)
        await bench.start(ctx)
        await bench.map_all(ctx)
        await bench.message(ctx, 8, 1)
        await bench.quiet(ctx)
        ctx.set(bench.engine[1].lpi_enable, 0)
        await bench.commands(ctx, encode_movi(8, 1, 1), encode_sync(0))
        await bench.message(ctx, 8, 1)
        assert await bench.pending(ctx) == [{1} if keep else set(), set()]
        assert ctx.get(bench.engine[1].dropped) == 1 + (not keep)

    bench.run(testbench)


# Against a model


class Model:
    """What commands and messages mean when each is over before the next begins."""

    def __init__(self, cpus, lpis):
        self.cpus, self.lpis = cpus, lpis
        self.devices: dict[int, tuple[int, int]] = {}
        self.events: dict[int, tuple[int, int]] = {}  # by address
        self.collections: dict[int, int] = {}
        self.pending = [set() for _ in range(cpus)]

    def translate(self, device, event):
        if device not in self.devices:
            return None
        size, itt = self.devices[device]
        entry = self.events.get(itt + 8 * event) if event < 1 << size else None
        if entry is None:
            return None
        lpi, collection = entry
        return itt + 8 * event, lpi, self.collections.get(collection)

    def message(self, device, event):
        found = self.translate(device, event)
        if found and found[2] is not None:
            self.pending[found[2]].add(found[1])

    def mapd(self, device, size, itt, valid):
        self.devices.pop(device, None)
        if valid:
            self.devices[device] = size, itt

    def mapc(self, collection, target, valid):
        if not valid:
            self.collections.pop(collection, None)
        elif target < self.cpus:
            self.collections[collection] = target

    def mapti(self, device, event, lpi, collection):
        if device in self.devices and lpi < self.lpis and collection < 512:
            size, itt = self.devices[device]
            if event < 1 << size:
                self.events[itt + 8 * event] = lpi, collection

    def movi(self, device, event, collection):
        found = self.translate(device, event)
        new = self.collections.get(collection)
        if found and found[2] is not None and new is not None:
            address, lpi, old = found
            self.events[address] = lpi, collection
            if lpi in self.pending[old]:
                self.pending[old].remove(lpi)
                self.pending[new].add(lpi)

    def movall(self, old, new):
        if old < self.cpus and new < self.cpus and old != new:
            self.pending[new] |= self.pending[old]
            self.pending[old] = set()

    def clear(self, device, event):
        found = self.translate(device, event)
        if found and found[2] is not None:
            self.pending[found[2]].discard(found[1])

    def discard(self, device, event):
        self.clear(device, event)
        found = self.translate(device, event)
        if found:
            del self.events[found[0]]


@pytest.mark.parametrize("seed", range(3))
def test_random_commands_and_messages_against_a_model(seed):
    rng = random.Random(seed)
    bench = Bench(3, 40, wait=random_wait(seed, 2), translation_cache=4)
    model = Model(3, 40)
    devices = [8, 9, 0x1008, 0xFFFF]

    def event():
        return rng.choice([rng.randrange(4), rng.randrange(20)])

    def collection():
        return rng.choice([0, 1, 2, 2, 511, 512])

    def command():
        device = rng.choice(devices)
        match rng.randrange(16):
            case 0:
                arguments = device, rng.randint(1, 5), ITTS + 0x100 * rng.randrange(6)
                valid = rng.random() < 0.8
                model.mapd(*arguments, valid)
                return encode_mapd(*arguments, valid)
            case 1:
                arguments = collection(), rng.randrange(4), rng.random() < 0.8
                if arguments[0] < 512:
                    model.mapc(*arguments)
                return encode_mapc(*arguments)
            case 2 | 3 | 4 | 5:
                arguments = device, event(), rng.randrange(42), collection()
                model.mapti(*arguments)
                return encode_mapti(*arguments[:2], FIRST_LPI + arguments[2], arguments[3])
            case 6 | 7 | 8:
                arguments = device, event(), collection()
                model.movi(*arguments)
                return encode_movi(*arguments)
            case 9:
                arguments = rng.randrange(4), rng.randrange(3)
                model.movall(*arguments)
                return encode_movall(*arguments)
            case 10:
                arguments = device, event()
                model.discard(*arguments)
                return encode_discard(*arguments)
            case 11:
                arguments = device, event()
                model.clear(*arguments)
                return encode_clear(*arguments)
            case 12 | 13:
                arguments = device, event()
                model.message(*arguments)
                return encode_int(*arguments)
            case 14:
                return encode_invall(collection())
            case _:
                return encode_inv(device, event())

    async def testbench(ctx):
        await bench.start(ctx)
        for cpu in range(3):
            model.mapc(cpu, cpu, True)
            await bench.commands(ctx, encode_mapc(cpu, cpu))
        for device in devices[:3]:
            model.mapd(device, 4, ITTS + device * 0x100, True)
            await bench.commands(ctx, encode_mapd(device, 4, ITTS + device * 0x100))
        for _ in range(40):
            for _ in range(rng.randint(1, 4)):
                await bench.commands(ctx, command())
                await bench.quiet(ctx)  # one after the other: the model knows no time
            for _ in range(rng.randrange(4)):
                device, number = rng.choice(devices), event()
                model.message(device, number)
                await bench.message(ctx, device, number)
            if rng.random() < 0.4:
                assert await bench.pending(ctx) == model.pending
                model.pending = [set() for _ in range(3)]
            else:
                await bench.quiet(ctx)
        assert await bench.pending(ctx) == model.pending

    bench.run(testbench)


# Time


@pytest.mark.parametrize(
    ("lpis", "cached", "expected"), [(64, True, 7), (1024, True, 7), (64, False, 11 + 4 * 2 + 2)]
)
def test_message_to_candidate(lpis, cached, expected):
    """Accepted write to the candidate of the CPU interface: 7 clocks, of the 12 to the line."""
    bench = Bench(lpis=lpis)
    device = 8

    async def testbench(ctx):
        await bench.start(ctx)
        await bench.map_all(ctx, events=2)
        await bench.message(ctx, device, 1)
        assert await bench.pending(ctx) == [{1}, set()]
        if not cached:
            await bench.commands(ctx, encode_mapc(0, 0))  # which empties the cache
            await ctx.tick().repeat(100)
        request = bench.its.frames.request
        ctx.set(
            request.payload,
            {
                "address": GitsRegister.TRANSLATER,
                "write": 1,
                "data": 1,
                "select": 15,
                "requester": {"id": device, "kind": RequesterKind.DEVICE},
            },
        )
        ctx.set(request.valid, 1)
        assert ctx.get(request.ready)
        clocks = 0
        while not ctx.get(bench.engine[0].candidate.valid):
            await ctx.tick()
            ctx.set(request.valid, 0)
            clocks += 1
            assert clocks < 50
        assert clocks == expected

    bench.run(testbench)


def test_throughput():
    """Messages back to back, cached, to two CPUs that acknowledge: one event in 8 clocks."""
    bench = Bench(lpis=1024)
    state = {"counting": False, "over": False, "acknowledged": 0}

    async def devices(ctx):
        await bench.start(ctx)
        await bench.map_all(ctx, events=8)
        await bench.commands(ctx, *(encode_movi(8, k, 1) for k in range(1, 8, 2)))
        for k in range(8):
            await bench.message(ctx, 8, k)
        await bench.pending(ctx)
        bench.events.clear()
        state["counting"] = True
        start = bench.clock
        for k in range(120):
            await bench.message(ctx, 8, k % 8)
        clocks = bench.clock - start
        await ctx.tick().repeat(100)
        state["over"] = True
        assert clocks <= 120 * 8
        assert len(bench.seen(EventKind.TRANSLATION)) == 120

    async def cpu(ctx, engine):
        """An interrupt is acknowledged at most every 24 clocks."""
        while not state["over"]:
            await ctx.tick()
            if state["counting"] and ctx.get(engine.candidate.valid):
                ctx.set(engine.acknowledge.intid, ctx.get(engine.candidate.intid))
                ctx.set(engine.acknowledge.valid, 1)
                await ctx.tick()
                ctx.set(engine.acknowledge.valid, 0)
                state["acknowledged"] += 1
                await ctx.tick().repeat(22)

    async def cpu0(ctx):
        await cpu(ctx, bench.engine[0])

    async def cpu1(ctx):
        await cpu(ctx, bench.engine[1])

    bench.run(devices, cpu0, cpu1)
    assert state["acknowledged"] > 30


CLOCKS = {
    "MAPD": 38,
    "MAPD V=0": 36,
    "MAPC": 36,
    "MAPTI": 41,
    "INT": 45,
    "CLEAR": 45,
    "INV": 45,
    "INVALL": 37,
    "MOVI": 62,
    "MOVALL": 31,
    "DISCARD": 56,
    "SYNC": 35,
}


def test_clocks_of_each_command():
    """With a memory that answers in the second clock, as the table in the docstring says."""
    bench = Bench()
    measured = {}

    async def testbench(ctx):
        await bench.start(ctx)
        await bench.map_all(ctx)
        for name, command in {
            "MAPD": encode_mapd(16, 5, ITTS),
            "MAPD V=0": encode_mapd(16, 5, ITTS, valid=False),
            "MAPC": encode_mapc(5, 1),
            "MAPTI": encode_mapti(8, 9, FIRST_LPI + 9, 0),
            "INT": encode_int(8, 1),
            "CLEAR": encode_clear(8, 1),
            "INV": encode_inv(8, 1),
            "INVALL": encode_invall(1),
            "MOVI": encode_movi(8, 1, 1),
            "MOVALL": encode_movall(0, 1),
            "DISCARD": encode_discard(8, 1),
            "SYNC": encode_sync(0),
        }.items():
            await bench.quiet(ctx)
            await ctx.tick().repeat(100)
            bench.put(command)
            await bench.access(ctx, GitsRegister.CWRITER, bench.tail)
            before = bench.clock
            await bench.consumed(ctx)
            measured[name] = bench.clock - before
        await bench.quiet(ctx)
        assert bench.errors() == []

    bench.run(testbench)
    assert measured == CLOCKS
