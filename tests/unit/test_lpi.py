"""LPI engine: pending bits, cached properties, the search for the best, hand-overs."""

import random

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.sim import Simulator

from hdl.bus import Region
from hdl.gic.interfaces import FIRST_LPI, LpiOperation
from hdl.gic.lpi import LpiEngine, check_lpis
from hdl.gic.lpi_links import HandoverNetwork
from hdl.gic.lpi_tree import PriorityTree, level_rows
from hdl.tap import EventKind

from .memory_target import MemoryTarget, random_wait

PROPERTY = 0x1000_0000
PENDING = 0x2000_0000
PENDING_STRIDE = 0x10_0000


class Engines(wiring.Component):
    """A few engines and the network between them."""

    def __init__(self, cpus: int, lpis: int, forbidden=()):
        self.engine = [LpiEngine(i, lpis=lpis, cpus=cpus, forbidden=forbidden) for i in range(cpus)]
        self.network = HandoverNetwork(cpus)
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules.network = self.network
        for i, engine in enumerate(self.engine):
            m.submodules[f"engine_{i}"] = engine
            wiring.connect(m, engine.handover, self.network.senders[i])
            wiring.connect(m, self.network.targets[i], engine.arrival)
            for j, other in enumerate(self.engine):
                m.d.comb += engine.cpu_enabled[j].eq(other.lpi_enable)
        return m


class Bench:
    """Engines with a memory each, and everything that happened.

    ``events[cpu]``: (clock, kind, INTID, data) from the tap; ACKNOWLEDGE is added by the bench.
    """

    def __init__(self, cpus=1, lpis=64, *, wait=0, bad=lambda address: False, forbidden=()):
        self.dut = Engines(cpus, lpis, forbidden)
        self.engine = self.dut.engine
        self.lpis = lpis
        self.memory = [MemoryTarget(e.bus, wait=wait, bad=bad) for e in self.engine]
        for memory in self.memory:
            memory.words = self.memory[0].words
        self.events = [[] for _ in self.engine]
        self.clock = 0

    def run(self, *testbenches):
        sim = Simulator(self.dut)
        sim.add_clock(1e-6)
        for memory in self.memory:
            sim.add_testbench(memory.run, background=True)
        sim.add_testbench(self._watch, background=True)
        for testbench in testbenches:
            sim.add_testbench(testbench)
        sim.run()

    async def _watch(self, ctx):
        values = [
            v
            for e in self.engine
            for v in (e.tap.valid, e.tap.record, e.acknowledge.valid, e.candidate)
        ]
        while True:
            _, _, *sampled = await ctx.tick().sample(*values)
            for cpu in range(len(self.engine)):
                valid, record, acknowledge, candidate = sampled[4 * cpu : 4 * cpu + 4]
                if acknowledge:
                    assert candidate.valid
                    self.events[cpu].append((self.clock, "ACK", candidate.intid, 0))
                if valid:
                    assert record.unit == cpu
                    self.events[cpu].append(
                        (self.clock, EventKind(record.kind).name, record.id, record.data)
                    )
            self.clock += 1

    def set_property(self, lpi: int, priority: int, enable: bool):
        self.memory[0].write(PROPERTY + lpi, bytes([priority & 0xFC | 2 | enable]))

    def pending_bits(self, cpu: int) -> set[int]:
        """LPI numbers that the pending table in memory holds for ``cpu``."""
        base = PENDING + cpu * PENDING_STRIDE + FIRST_LPI // 8
        table = int.from_bytes(self.memory[0].read(base, (self.lpis + 7) // 8), "little")
        return {i for i in range(self.lpis) if table >> i & 1}

    async def until(self, ctx, value, what: str, limit: int = 5000):
        for clock in range(limit):
            if ctx.get(value):
                return clock
            await ctx.tick()
        raise AssertionError(f"{what}: not within {limit} clocks")

    async def enable(self, ctx, *, cpu=0, id_bits=15, zero=True):
        e = self.engine[cpu]
        ctx.set(e.lpi_property_base, PROPERTY)
        ctx.set(e.lpi_pending_base, PENDING + cpu * PENDING_STRIDE)
        ctx.set(e.lpi_id_bits, id_bits)
        ctx.set(e.lpi_pending_zero, zero)
        ctx.set(e.lpi_enable, 1)
        await ctx.tick()
        return await self.until(ctx, ~e.settling, "enabled", 200_000)

    async def disable(self, ctx, *, cpu=0):
        e = self.engine[cpu]
        ctx.set(e.lpi_enable, 0)
        await ctx.tick()
        return await self.until(ctx, ~e.settling, "disabled", 200_000)

    async def command(self, ctx, operation, lpi=0, *, target=0, cpu=0, link="its", intid=None):
        e = self.engine[cpu]
        port = getattr(e, link).command
        intid = FIRST_LPI + lpi if intid is None else intid
        ctx.set(port.payload, {"operation": operation, "intid": intid, "target": target})
        ctx.set(port.valid, 1)
        await self.until(ctx, port.ready, f"{operation} taken", 200_000)
        await ctx.tick()
        ctx.set(port.valid, 0)

    async def sync(self, ctx, *, cpu=0, link="its"):
        """SYNC, which must be answered in the clock in which it is taken."""
        e = self.engine[cpu]
        port = getattr(e, link)
        ctx.set(port.command.payload, {"operation": LpiOperation.SYNC})
        ctx.set(port.command.valid, 1)
        clocks = await self.until(ctx, port.command.ready, "SYNC taken", 200_000)
        assert ctx.get(port.synced)
        await ctx.tick()
        ctx.set(port.command.valid, 0)
        return clocks

    def shown(self, ctx, cpu=0):
        """The candidate as (LPI number, priority), or None."""
        candidate = ctx.get(self.engine[cpu].candidate)
        return (candidate.intid - FIRST_LPI, candidate.priority) if candidate.valid else None

    async def acknowledge(self, ctx, *, cpu=0):
        e = self.engine[cpu]
        intid = ctx.get(e.candidate.intid)
        assert ctx.get(e.candidate.valid)
        ctx.set(e.acknowledge.valid, 1)
        ctx.set(e.acknowledge.intid, intid)
        await ctx.tick()
        ctx.set(e.acknowledge.valid, 0)
        return intid - FIRST_LPI

    async def drain(self, ctx, *, cpu=0):
        """Acknowledge until nothing is shown any more; the LPIs in that order."""
        order = []
        while True:
            await self.until(ctx, ~self.engine[cpu].busy, "idle")
            if self.shown(ctx, cpu) is None:
                return order
            order.append(await self.acknowledge(ctx, cpu=cpu))
            await ctx.tick()


SET, CLEAR, MOVE = LpiOperation.SET, LpiOperation.CLEAR, LpiOperation.MOVE
INVALIDATE, INVALIDATE_ALL = LpiOperation.INVALIDATE, LpiOperation.INVALIDATE_ALL
MOVE_ALL = LpiOperation.MOVE_ALL


# Parameters


@pytest.mark.parametrize("lpis", [31, 57345, 0, -1])
def test_number_of_lpis_out_of_range(lpis):
    message = rf"^Number of LPIs must be between 32 and 57344, not {lpis}$"
    with pytest.raises(ValueError, match=message):
        LpiEngine(0, lpis=lpis, cpus=1)


@pytest.mark.parametrize("lpis", ["64", 64.0, True])
def test_number_of_lpis_of_the_wrong_kind(lpis):
    with pytest.raises(TypeError, match=rf"^Number of LPIs must be an integer, not {lpis!r}$"):
        check_lpis(lpis)


def test_bad_cpu_numbers():
    with pytest.raises(ValueError, match=r"^Number of CPUs must be between 1 and 256, not 257$"):
        LpiEngine(0, lpis=64, cpus=257)
    with pytest.raises(ValueError, match=r"^CPU number must be between 0 and 1, not 2$"):
        LpiEngine(2, lpis=64, cpus=2)


# The tree alone


@pytest.mark.parametrize("leaves", [32, 65, 1024, 57344])
def test_tree_finds_the_best(leaves):
    """Random stores, some with the same priority, searches in between, against a dictionary."""
    dut = PriorityTree(leaves)
    rng = random.Random(leaves)
    eligible: dict[int, int] = {}

    async def until(ctx, value, limit):
        for _ in range(limit):
            if ctx.get(value):
                return
            await ctx.tick()
        raise AssertionError(f"not within {limit} clocks")

    async def testbench(ctx):
        for _ in range(150):
            index = rng.randrange(leaves)
            if eligible and rng.random() < 0.4:
                index = rng.choice(list(eligible))
            ctx.set(dut.row, index >> 3)
            ctx.set(dut.fetch, 1)
            await ctx.tick()
            ctx.set(dut.fetch, 0)
            await until(ctx, dut.ready, dut.levels)
            pending, enable = rng.random() < 0.5, rng.random() < 0.8
            priority = rng.choice([3, 5, rng.randrange(32)])
            ctx.set(dut.index, index)
            ctx.set(dut.leaf, {"pending": pending, "enable": enable, "priority": priority})
            ctx.set(dut.store, 1)
            await ctx.tick()
            ctx.set(dut.store, 0)
            eligible.pop(index, None)
            if pending and enable:
                eligible[index] = priority
            if rng.random() < 0.5:
                await until(ctx, dut.ready, dut.levels)
                ctx.set(dut.search, 1)
                await ctx.tick()
                ctx.set(dut.search, 0)
                await until(ctx, dut.done, dut.levels)
                found = (ctx.get(dut.best), ctx.get(dut.index_found))
                best = min(((p, i) for i, p in eligible.items()), default=None)
                assert (found if ctx.get(dut.found) else None) == best
                await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(testbench)
    sim.run()


# One LPI at a time


@pytest.mark.parametrize("lpis", [32, 64, 1024, 5000])
def test_set_to_candidate_takes_two_clocks_when_the_property_is_known(lpis):
    bench = Bench(lpis=lpis)

    async def testbench(ctx):
        e = bench.engine[0]
        await bench.enable(ctx)
        bench.set_property(lpis - 1, 0xA0, True)
        await bench.command(ctx, INVALIDATE, lpis - 1)
        await bench.sync(ctx)
        await bench.until(ctx, ~e.busy, "idle")
        for _ in range(3):
            await bench.command(ctx, SET, lpis - 1)
            assert bench.shown(ctx) is None
            await ctx.tick()
            assert bench.shown(ctx) == (lpis - 1, 0xA0)
            await bench.acknowledge(ctx)
            assert bench.shown(ctx) is None
            await bench.until(ctx, ~e.busy, "idle")
            assert bench.shown(ctx) is None

    bench.run(testbench)


def test_acknowledge_to_next_candidate_is_logarithmic():
    for lpis in (64, 512, 1024, 4096):
        bench = Bench(lpis=lpis)
        levels = len(level_rows(lpis))

        async def testbench(ctx, bench=bench, lpis=lpis, levels=levels):
            await bench.enable(ctx)
            for lpi in (0, lpis - 1):
                bench.set_property(lpi, 0x80, True)
                await bench.command(ctx, SET, lpi)
            await bench.sync(ctx)
            await bench.until(ctx, ~bench.engine[0].busy, "idle")
            assert await bench.acknowledge(ctx) == 0
            clocks = 1 + await bench.until(ctx, bench.engine[0].candidate.valid, "next")
            assert clocks <= 2 * levels + 3
            assert bench.shown(ctx) == (lpis - 1, 0x80)

        bench.run(testbench)


def test_most_urgent_first_lowest_intid_among_equals():
    bench = Bench(lpis=1024)
    priorities = {5: 0x80, 900: 0x10, 64: 0x10, 63: 0xF8, 1023: 0x80, 512: 0x00}

    async def testbench(ctx):
        await bench.enable(ctx)
        for lpi, priority in priorities.items():
            bench.set_property(lpi, priority, True)
            await bench.command(ctx, SET, lpi)
        await bench.sync(ctx)
        assert await bench.drain(ctx) == sorted(priorities, key=lambda i: (priorities[i], i))

    bench.run(testbench)


def test_priority_keeps_its_implemented_bits_only():
    bench = Bench()

    async def testbench(ctx):
        await bench.enable(ctx)
        bench.set_property(3, 0xFC, True)
        await bench.command(ctx, SET, 3)
        await bench.sync(ctx)
        assert bench.shown(ctx) == (3, 0xF8)

    bench.run(testbench)


def test_disabled_lpi_stays_pending_and_shows_after_invalidate():
    """Window W6: pending while disabled, enabled in the table, then made known."""
    bench = Bench()

    async def testbench(ctx):
        await bench.enable(ctx)
        bench.set_property(7, 0xA0, False)
        await bench.command(ctx, SET, 7)
        await bench.sync(ctx)
        assert bench.shown(ctx) is None
        bench.set_property(7, 0xA0, True)
        await ctx.tick().repeat(50)
        assert bench.shown(ctx) is None  # cached
        await bench.command(ctx, INVALIDATE, 7)
        await bench.sync(ctx)
        assert bench.shown(ctx) == (7, 0xA0)

    bench.run(testbench)


@pytest.mark.parametrize("how", [INVALIDATE, INVALIDATE_ALL])
def test_property_counts_as_cached_until_invalidated(how):
    """Window W5: disabled in the table only; the LPI is still delivered until INVALIDATE."""
    bench = Bench(lpis=128)

    async def testbench(ctx):
        await bench.enable(ctx)
        for lpi in (9, 100):
            bench.set_property(lpi, 0xA0, True)
            await bench.command(ctx, SET, lpi)
        await bench.sync(ctx)
        bench.set_property(9, 0xA0, False)
        bench.set_property(100, 0x20, True)
        assert bench.shown(ctx) == (9, 0xA0)
        await bench.acknowledge(ctx)
        await bench.command(ctx, SET, 9)
        await bench.sync(ctx)
        assert bench.shown(ctx) == (9, 0xA0)
        for lpi in (9, 100) if how == INVALIDATE else (0,):
            await bench.command(ctx, how, lpi)
        await bench.sync(ctx)
        assert bench.shown(ctx) == (100, 0x20)
        assert await bench.drain(ctx) == [100]
        bench.set_property(9, 0xA0, True)
        await bench.command(ctx, INVALIDATE, 9)
        assert await bench.drain(ctx) == [9]

    bench.run(testbench)


def test_invalidate_all_forgets_what_is_not_pending():
    bench = Bench(lpis=128)

    async def testbench(ctx):
        await bench.enable(ctx)
        bench.set_property(77, 0xA0, True)
        await bench.command(ctx, SET, 77)
        assert await bench.drain(ctx) == [77]
        bench.set_property(77, 0x40, True)
        await bench.command(ctx, INVALIDATE_ALL)
        await bench.command(ctx, SET, 77)
        await bench.sync(ctx)
        assert bench.shown(ctx) == (77, 0x40)

    bench.run(testbench)


def test_clear():
    bench = Bench()

    async def testbench(ctx):
        await bench.enable(ctx)
        for lpi in (1, 2):
            bench.set_property(lpi, 0xA0, True)
            await bench.command(ctx, SET, lpi)
        await bench.command(ctx, CLEAR, 1)
        await bench.command(ctx, CLEAR, 30)
        await bench.sync(ctx)
        assert await bench.drain(ctx) == [2]
        assert [e[1:3] for e in bench.events[0]] == [
            ("PENDING_SET", FIRST_LPI + 1),
            ("PENDING_SET", FIRST_LPI + 2),
            ("PENDING_CLEARED", FIRST_LPI + 1),
            ("ACK", FIRST_LPI + 2),
        ]

    bench.run(testbench)


@pytest.mark.parametrize("duplicate", [0, 1])
def test_a_second_pend_merges_or_repeats(duplicate):
    bench = Bench()

    async def testbench(ctx):
        ctx.set(bench.engine[0].duplicate, duplicate)
        await bench.enable(ctx)
        bench.set_property(4, 0xA0, True)
        for _ in range(3):
            await bench.command(ctx, SET, 4)
        await bench.sync(ctx)
        assert await bench.drain(ctx) == [4] * (1 + duplicate)
        for _ in range(3):
            await bench.command(ctx, SET, 4)
        await bench.command(ctx, CLEAR, 4)
        await bench.sync(ctx)
        assert await bench.drain(ctx) == []

    bench.run(testbench)


@pytest.mark.parametrize(
    ("lpis", "id_bits", "intid", "taken"),
    [
        (64, 15, 8191, False),
        (64, 15, 0, False),
        (64, 15, 8192, True),
        (64, 15, 8255, True),
        (64, 15, 8256, False),
        (64, 15, 65535, False),
        (20000, 13, 16383, True),
        (20000, 13, 16384, False),
        (57344, 14, 32767, True),
        (57344, 14, 32768, False),
        (57344, 15, 65535, True),
        (57344, 31, 65535, True),
        (64, 12, 8192, False),
        (64, 0, 8192, False),
    ],
)
def test_which_intids_exist(lpis, id_bits, intid, taken):
    bench = Bench(lpis=lpis)

    async def testbench(ctx):
        await bench.enable(ctx, id_bits=id_bits)
        bench.set_property((intid - FIRST_LPI) % (1 << 16), 0xA0, True)
        await bench.command(ctx, SET, intid=intid)
        await bench.sync(ctx)
        candidate = ctx.get(bench.engine[0].candidate)
        assert bool(candidate.valid) == taken
        assert not taken or candidate.intid == intid
        assert ctx.get(bench.engine[0].dropped) == (not taken)
        for operation in (CLEAR, MOVE, INVALIDATE):
            await bench.command(ctx, operation, intid=intid)
        await bench.sync(ctx)
        assert await bench.drain(ctx) == []
        assert [e[1] for e in bench.events[0]] == (
            ["PENDING_SET", "PENDING_CLEARED"] if taken else ["PENDING_DROPPED"]
        )

    bench.run(testbench)


# On and off


def test_nothing_becomes_pending_while_off():
    bench = Bench()

    async def testbench(ctx):
        bench.set_property(4, 0xA0, True)
        await bench.command(ctx, SET, 4)
        await bench.command(ctx, SET, 4, link="direct")
        for operation in (CLEAR, MOVE, INVALIDATE, INVALIDATE_ALL, MOVE_ALL):
            await bench.command(ctx, operation, 4)
        assert await bench.sync(ctx) == 0
        assert ctx.get(bench.engine[0].dropped) == 2
        await bench.enable(ctx)
        assert bench.shown(ctx) is None
        assert await bench.drain(ctx) == []

    bench.run(testbench)


def test_pending_table_is_read_when_switched_on_and_written_when_switched_off():
    bench = Bench(lpis=200, wait=2)
    before = {0, 5, 31, 32, 63, 100, 199}

    async def testbench(ctx):
        memory = bench.memory[0]
        memory.write(PENDING, b"\xff" * (FIRST_LPI // 8))  # not ours to look at
        table = sum(1 << i for i in before) | 1 << 201  # and one that does not exist
        memory.write(PENDING + FIRST_LPI // 8, table.to_bytes(28, "little"))
        for lpi in range(200):
            bench.set_property(lpi, 0xA0, lpi != 31)
        await bench.enable(ctx, zero=False)
        for lpi in (0, 5):
            assert await bench.acknowledge(ctx) == lpi
            await bench.until(ctx, bench.engine[0].candidate.valid, "next candidate")
        await bench.command(ctx, SET, 198)
        ctx.set(bench.engine[0].lpi_enable, 0)
        assert bench.shown(ctx) is None
        await bench.disable(ctx)
        assert bench.pending_bits(0) == before - {0, 5} | {198}
        # The byte behind those of the 200 LPIs is not ours either.
        assert memory.read(PENDING + FIRST_LPI // 8 + 25, 1) == b"\x02"
        assert memory.read(PENDING, FIRST_LPI // 8) == b"\xff" * (FIRST_LPI // 8)
        await bench.enable(ctx, zero=False)
        assert await bench.drain(ctx) == sorted(before - {0, 5, 31} | {198})
        await bench.disable(ctx)
        assert bench.pending_bits(0) == {31}
        await bench.enable(ctx, zero=True)
        bench.set_property(31, 0xA0, True)
        await bench.command(ctx, INVALIDATE_ALL)
        assert await bench.drain(ctx) == []

    bench.run(testbench)


@pytest.mark.parametrize(("id_bits", "table"), [(13, 0x800), (12, 0)])
def test_pending_table_ends_with_the_id_bits(id_bits, table):
    """Memory behind a table for 2 ** (id_bits + 1) INTIDs is neither read nor written."""
    bench = Bench(lpis=8192 + 64)

    async def testbench(ctx):
        await bench.enable(ctx, id_bits=id_bits, zero=False)
        await bench.disable(ctx)
        addresses = {address for _, address in bench.memory[0].log}
        assert addresses == set(range(PENDING + FIRST_LPI // 8, PENDING + table, 4))

    bench.run(testbench)


def test_commands_wait_while_the_pending_table_is_read():
    bench = Bench(lpis=64)

    async def testbench(ctx):
        bench.memory[0].write(PENDING + FIRST_LPI // 8, b"\x01")
        bench.set_property(0, 0xA0, True)
        ctx.set(bench.engine[0].lpi_property_base, PROPERTY)
        ctx.set(bench.engine[0].lpi_pending_base, PENDING)
        ctx.set(bench.engine[0].lpi_id_bits, 15)
        ctx.set(bench.engine[0].lpi_enable, 1)
        await ctx.tick()
        await bench.command(ctx, CLEAR, 0)
        await bench.sync(ctx)
        assert await bench.drain(ctx) == []
        assert [e[1] for e in bench.events[0]] == ["PENDING_SET", "PENDING_CLEARED"]

    bench.run(testbench)


@pytest.mark.parametrize("when", range(1, 10))
def test_switched_off_and_on_again_in_the_middle_of_things(when):
    bench = Bench(lpis=64, wait=1)

    async def testbench(ctx):
        e = bench.engine[0]
        for lpi in (1, 2):
            bench.set_property(lpi, 0xA0, True)
        await bench.enable(ctx)
        await bench.command(ctx, SET, 1)
        await ctx.tick().repeat(when)
        ctx.set(e.lpi_enable, 0)
        await ctx.tick()
        ctx.set(e.lpi_enable, 1)
        ctx.set(e.lpi_pending_zero, 0)
        assert bench.shown(ctx) is None
        await bench.until(ctx, ~e.settling, "on again")
        await bench.command(ctx, SET, 2)
        assert await bench.drain(ctx) == [1, 2]

    bench.run(testbench)


# Memory that does not answer well


def test_bus_error_reads_as_disabled_and_is_tried_again():
    broken = [True]
    bench = Bench(bad=lambda address: broken[0])

    async def testbench(ctx):
        bench.set_property(4, 0xA0, True)
        await bench.enable(ctx, zero=False)
        await bench.command(ctx, SET, 4)
        await bench.sync(ctx)
        assert bench.shown(ctx) is None
        broken[0] = False
        await bench.command(ctx, SET, 4)
        await bench.sync(ctx)
        assert bench.shown(ctx) == (4, 0xA0)
        broken[0] = True
        await bench.command(ctx, INVALIDATE, 4)
        await bench.sync(ctx)
        assert bench.shown(ctx) is None
        await bench.disable(ctx)

    bench.run(testbench)


def test_tables_in_forbidden_places_are_never_asked_for():
    bench = Bench(
        forbidden=(Region("property", PROPERTY, 0x1_0000), Region("pending", PENDING, 0x1_0000))
    )

    async def testbench(ctx):
        bench.set_property(4, 0xA0, True)
        await bench.enable(ctx, zero=False)
        await bench.command(ctx, SET, 4)
        await bench.command(ctx, INVALIDATE_ALL)
        await bench.sync(ctx)
        assert bench.shown(ctx) is None
        await bench.disable(ctx)
        assert bench.memory[0].log == []

    bench.run(testbench)


def test_table_that_would_reach_beyond_the_address_space():
    bench = Bench(lpis=8192)

    async def testbench(ctx):
        await bench.enable(ctx)
        ctx.set(bench.engine[0].lpi_enable, 0)
        await bench.until(ctx, ~bench.engine[0].settling, "off", 20_000)
        await ctx.tick()
        await bench.until(ctx, ~bench.engine[0].settling, "off", 20_000)
        bench.memory[0].log.clear()
        ctx.set(bench.engine[0].lpi_property_base, (1 << 40) - 0x1000)
        ctx.set(bench.engine[0].lpi_pending_base, (1 << 40) - 0x1_0000)
        ctx.set(bench.engine[0].lpi_pending_zero, 1)
        ctx.set(bench.engine[0].lpi_enable, 1)
        await ctx.tick()
        await bench.until(ctx, ~bench.engine[0].settling, "on", 20_000)
        await bench.command(ctx, SET, 0x1000)
        await bench.command(ctx, SET, 0xFFF)
        await bench.sync(ctx)
        assert [address for _, address in bench.memory[0].log] == [(1 << 40) - 4]

    bench.run(testbench)


# Hand-overs


def test_move_hands_over_only_what_is_pending():
    bench = Bench(2, 64)

    async def testbench(ctx):
        for cpu in (0, 1):
            await bench.enable(ctx, cpu=cpu)
        for lpi in range(64):
            bench.set_property(lpi, 0xA0, True)
        await bench.command(ctx, SET, 4)
        await bench.command(ctx, SET, 5)
        await bench.command(ctx, MOVE, 4, target=1)
        await bench.command(ctx, MOVE, 6, target=1)
        await bench.sync(ctx)
        # Synced means carried out at the target as well.
        assert [e[1:] for e in bench.events[1]] == [("PENDING_SET", FIRST_LPI + 4, 0)]
        assert ("PENDING_MOVED", FIRST_LPI + 4, 1) in [e[1:] for e in bench.events[0]]
        assert await bench.drain(ctx, cpu=0) == [5]
        assert await bench.drain(ctx, cpu=1) == [4]

    bench.run(testbench)


@pytest.mark.parametrize("distance", [0, 1, 40])
def test_sync_waits_for_the_hand_over_to_land(distance):
    bench = Bench(2, 64)

    async def testbench(ctx):
        ctx.set(bench.dut.network.distance, distance)
        for cpu in (0, 1):
            await bench.enable(ctx, cpu=cpu)
        bench.set_property(4, 0xA0, True)
        await bench.command(ctx, SET, 4)
        await bench.command(ctx, MOVE, 4, target=1)
        assert await bench.sync(ctx) >= distance
        assert [e[1] for e in bench.events[1]] == ["PENDING_SET"]

    bench.run(testbench)


def test_hand_over_with_a_long_way_can_arrive_after_the_next_move():
    """A to B to C without a SYNC in between: the LPI arrives at B after B was emptied."""
    bench = Bench(3, 64)

    async def testbench(ctx):
        ctx.set(bench.dut.network.distance, 30)
        for cpu in range(3):
            await bench.enable(ctx, cpu=cpu)
        bench.set_property(4, 0xA0, True)
        await bench.command(ctx, SET, 4)
        await bench.command(ctx, MOVE, 4, target=1, cpu=0)
        await bench.command(ctx, MOVE, 4, target=2, cpu=1)
        await bench.sync(ctx, cpu=1)
        await bench.sync(ctx, cpu=0)
        assert bench.shown(ctx, 1) == (4, 0xA0)
        assert bench.shown(ctx, 2) is None

    bench.run(testbench)


@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("all_of_them", [False, True])
def test_move_to_a_cpu_whose_lpis_are_off(keep, all_of_them):
    """Window W10, both ways."""
    bench = Bench(2, 64)

    async def testbench(ctx):
        ctx.set(bench.engine[0].keep_if_disabled, keep)
        await bench.enable(ctx)
        bench.set_property(4, 0xA0, True)
        await bench.command(ctx, SET, 4)
        await bench.command(ctx, MOVE_ALL if all_of_them else MOVE, 4, target=1)
        await bench.sync(ctx)
        assert ctx.get(bench.engine[1].dropped) == (not keep)
        assert [e[1] for e in bench.events[1]] == [] if keep else ["PENDING_DROPPED"]
        assert await bench.drain(ctx) == ([4] if keep else [])

    bench.run(testbench)


@pytest.mark.parametrize("pending", [False, True])
def test_a_property_is_not_remembered_from_before_the_lpi_moved_away(pending):
    """Disabled while it belongs to the other CPU, which alone is told, and moved back."""
    bench = Bench(2, 64)

    async def testbench(ctx):
        for cpu in (0, 1):
            await bench.enable(ctx, cpu=cpu)
        bench.set_property(4, 0xA0, True)
        await bench.command(ctx, SET, 4)
        await bench.sync(ctx)
        if not pending:
            assert await bench.drain(ctx) == [4]
        await bench.command(ctx, MOVE, 4, target=1)
        await bench.sync(ctx)
        bench.set_property(4, 0xA0, False)
        await bench.command(ctx, INVALIDATE, 4, cpu=1)
        await bench.sync(ctx, cpu=1)
        await bench.command(ctx, MOVE, 4, target=0, cpu=1)
        await bench.sync(ctx, cpu=1)
        await bench.command(ctx, SET, 4)
        await bench.sync(ctx)
        assert bench.shown(ctx) is None

    bench.run(testbench)


@pytest.mark.parametrize("target", [0, 2, 255])
def test_move_to_itself_or_to_nowhere_does_nothing(target):
    bench = Bench(2, 64)

    async def testbench(ctx):
        await bench.enable(ctx)
        bench.set_property(4, 0xA0, True)
        await bench.command(ctx, SET, 4)
        await bench.command(ctx, MOVE, 4, target=target)
        await bench.command(ctx, MOVE_ALL, target=target)
        await bench.sync(ctx)
        assert await bench.drain(ctx) == [4]

    bench.run(testbench)


def test_engines_that_empty_into_each_other_at_once_do_not_wait_for_ever():
    """MOVE_ALL both ways at the same time: every LPI ends in exactly one place."""
    bench = Bench(2, 128, wait=1)

    async def testbench(ctx):
        for lpi in range(128):
            bench.set_property(lpi, 0xA0, True)
        for cpu in (0, 1):
            await bench.enable(ctx, cpu=cpu)
            for lpi in range(cpu, 128, 2):
                await bench.command(ctx, SET, lpi, cpu=cpu)
        for cpu in (0, 1):
            port = bench.engine[cpu].its.command
            ctx.set(port.payload, {"operation": MOVE_ALL, "target": 1 - cpu})
            ctx.set(port.valid, 1)
        await ctx.tick().until(bench.engine[0].its.command.ready)
        for cpu in (0, 1):
            ctx.set(bench.engine[cpu].its.command.valid, 0)
        for cpu in (0, 1):
            await bench.sync(ctx, cpu=cpu)
        got = [await bench.drain(ctx, cpu=cpu) for cpu in (0, 1)]
        assert sorted(got[0] + got[1]) == list(range(128))

    bench.run(testbench)


def test_a_hand_over_to_nowhere_is_swallowed():
    dut = HandoverNetwork(2)

    async def testbench(ctx):
        sender = dut.senders[1]
        ctx.set(sender.payload, {"operation": SET, "intid": FIRST_LPI, "target": 2})
        ctx.set(sender.valid, 1)
        readiness = []
        for _ in range(4):
            assert not ctx.get(dut.targets[0].valid)
            assert not ctx.get(dut.targets[1].valid)
            readiness.append(ctx.get(sender.ready))
            await ctx.tick()
            ctx.set(sender.valid, not any(readiness))
        assert readiness == [0, 1, 0, 0]

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(testbench)
    sim.run()


def test_both_links_get_their_turn():
    bench = Bench()

    async def testbench(ctx):
        await bench.enable(ctx)
        e = bench.engine[0]
        for lpi in range(2):
            await bench.command(ctx, INVALIDATE, lpi)
        ctx.set(e.its.command.payload, {"operation": SET, "intid": FIRST_LPI})
        ctx.set(e.its.command.valid, 1)
        ctx.set(e.direct.command.payload, {"operation": SET, "intid": FIRST_LPI + 1})
        ctx.set(e.direct.command.valid, 1)
        taken = []
        while len(taken) < 10:
            if ctx.get(e.its.command.ready):
                taken.append("its")
            if ctx.get(e.direct.command.ready):
                taken.append("direct")
            await ctx.tick()
        assert taken in (["its", "direct"] * 5, ["direct", "its"] * 5)

    bench.run(testbench)


def test_move_all_scan_time():
    bench = Bench(2, 1024)

    async def testbench(ctx):
        for cpu in (0, 1):
            await bench.enable(ctx, cpu=cpu)
        await bench.command(ctx, MOVE_ALL, target=1)
        assert await bench.sync(ctx) <= 1024 // 4 + 4

    bench.run(testbench)


# Against a model


@pytest.mark.parametrize(("lpis", "seed"), [(32, 1), (100, 2), (1024, 3)])
def test_random_commands_against_a_model(lpis, seed):
    bench = Bench(lpis=lpis, wait=random_wait(seed, 5))
    rng = random.Random(seed)
    table = dict.fromkeys(range(lpis), (160, True))
    known: dict[int, tuple[int, bool]] = {}
    pending: set[int] = set()

    def best():
        shown = [(known[i][0] & 0xF8, i) for i in pending if known[i][1]]
        return min(shown)[::-1] if shown else None

    async def testbench(ctx):
        for i, (priority, enable) in table.items():
            bench.set_property(i, priority, enable)
        await bench.enable(ctx)
        for _ in range(250):
            operation = rng.choice(
                [SET] * 5 + [CLEAR, INVALIDATE, INVALIDATE_ALL, "table", "table", "ack", "ack"]
            )
            lpi = rng.choice([rng.randrange(lpis), rng.randrange(8), lpis - 1])
            if operation == "table":
                table[lpi] = (rng.choice([0x00, 0x08, 0xA0, 0xFC]), rng.random() < 0.7)
                bench.set_property(lpi, *table[lpi])
            elif operation == "ack":
                if bench.shown(ctx):
                    pending.remove(await bench.acknowledge(ctx))
            else:
                link = rng.choice(["its", "direct"])
                await bench.command(ctx, operation, lpi, link=link)
                if operation == SET:
                    known.setdefault(lpi, table[lpi])
                    pending.add(lpi)
                elif operation == CLEAR:
                    pending.discard(lpi)
                    known.pop(lpi, None)
                elif operation == INVALIDATE:
                    known[lpi] = table[lpi]
                else:
                    for i in list(known):
                        if i in pending:
                            known[i] = table[i]
                        else:
                            del known[i]
            await bench.sync(ctx, link=rng.choice(["its", "direct"]))
            assert bench.shown(ctx) == best()

    bench.run(testbench)


@pytest.mark.parametrize("seed", range(3))
def test_no_event_is_lost_under_random_traffic_and_acknowledges(seed):
    """Two engines, commands and acknowledges in any clock, LPIs moved to and fro.

    The tap keeps the books: an LPI is acknowledged only while pending, shown only while pending,
    and every SET is followed by an acknowledge, in whichever engine the LPI ended.
    """
    lpis = 48
    bench = Bench(2, lpis, wait=random_wait(seed, 4))
    rng = random.Random(seed)
    sets: list[tuple[int, int]] = []
    running = [2]

    async def commander(ctx, cpu):
        for _ in range(350):
            if rng.random() < 0.3:
                await ctx.tick().repeat(rng.randint(1, 12))
            lpi = rng.randrange(lpis) if rng.random() < 0.3 else rng.randrange(4)
            operation = rng.choice([SET] * 6 + [MOVE] * 3 + [INVALIDATE, INVALIDATE_ALL, MOVE_ALL])
            if operation in (INVALIDATE_ALL, MOVE_ALL) and rng.random() < 0.8:
                operation = SET
            await bench.command(ctx, operation, lpi, target=1 - cpu, cpu=cpu)
            if operation == SET:
                sets.append((bench.clock - 1, FIRST_LPI + lpi))
        await bench.sync(ctx, cpu=cpu)
        running[0] -= 1

    async def acknowledger(ctx, cpu):
        idle = 0
        while running[0] or idle < 60:
            if bench.shown(ctx, cpu) and (not running[0] or rng.random() < 0.4):
                await bench.acknowledge(ctx, cpu=cpu)
                idle = 0
            else:
                await ctx.tick()
                idle += 1

    async def books(ctx):
        pending = [set(), set()]
        done = [0, 0]
        while running[0]:
            await ctx.tick()
            for cpu in (0, 1):
                for _, kind, intid, _ in bench.events[cpu][done[cpu] :]:
                    if kind == "PENDING_SET":
                        assert intid not in pending[cpu]
                        pending[cpu].add(intid)
                    else:
                        assert kind in ("ACK", "PENDING_MOVED")
                        assert intid in pending[cpu], (kind, intid)
                        pending[cpu].remove(intid)
                done[cpu] = len(bench.events[cpu])

    async def setup(ctx):
        for lpi in range(lpis):
            bench.set_property(lpi, rng.choice([0x20, 0xA0, 0xA0]), True)
        for cpu in (0, 1):
            await bench.enable(ctx, cpu=cpu)
        ready.append(True)

    ready: list[bool] = []

    def after_setup(behaviour, *args):
        async def testbench(ctx):
            while not ready:
                await ctx.tick()
            await behaviour(ctx, *args)

        return testbench

    bench.run(
        setup,
        *(after_setup(commander, cpu) for cpu in (0, 1)),
        *(after_setup(acknowledger, cpu) for cpu in (0, 1)),
        after_setup(books),
    )
    acknowledged: dict[int, list[int]] = {}
    for events in bench.events:
        for clock, kind, intid, _ in events:
            if kind == "ACK":
                acknowledged.setdefault(intid, []).append(clock)
    assert len(sets) > 200
    for clock, intid in sets:
        assert any(t >= clock for t in acknowledged[intid]), (clock, intid)
    assert sum(map(len, acknowledged.values())) <= len(sets)
