"""The system bus: regions, the fair arbiter, and the interconnect under traffic and delay."""

import itertools
import random

import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from hdl.bus import (
    ADDRESS_BITS,
    BusRequest,
    FairArbiter,
    Interconnect,
    Region,
    RequesterKind,
)

REGIONS = (
    Region("low", 0x0, 0x1000),
    Region("gap above", 0x2000, 0x1000),
    Region("top", (1 << ADDRESS_BITS) - 0x1_0000, 0x1_0000),
)
LIMIT = 20_000
"""Clocks after which a simulation has hung."""


def simulate(dut, testbench):
    top = Module()
    top.submodules.dut = dut
    top.d.sync += Signal().eq(1)  # an arbiter of one has no clock of its own
    sim = Simulator(top)
    sim.add_clock(1e-6)
    sim.add_testbench(testbench)
    sim.run()


# Regions


@pytest.mark.parametrize(
    ("base", "size", "message"),
    [
        (0, 2, r"^Region 'r': size must be a power of two of at least 4, not 0x2$"),
        (0, 0, r"^Region 'r': size must be a power of two of at least 4, not 0x0$"),
        (0, -4, r"^Region 'r': size must be a power of two of at least 4, not -0x4$"),
        (0, 12, r"^Region 'r': size must be a power of two of at least 4, not 0xc$"),
        (0x1004, 8, r"^Region 'r': base 0x1004 must be a multiple of its size 0x8$"),
        (1 << 40, 4, r"^Region 'r': 0x10000000000 \+ 0x4 does not fit in 40 address bits$"),
        (0, 1 << 41, r"^Region 'r': 0x0 \+ 0x20000000000 does not fit in 40 address bits$"),
        (-8, 8, r"^Region 'r': -0x8 \+ 0x8 does not fit in 40 address bits$"),
    ],
)
def test_region_rejects(base, size, message):
    with pytest.raises(ValueError, match=message):
        Region("r", base, size)


@pytest.mark.parametrize(
    ("a", "b", "overlap"),
    [
        ((0, 0x1000), (0x1000, 0x1000), False),
        ((0, 0x1000), (0xFFC, 4), True),
        ((0x1000, 4), (0, 0x2000), True),
        ((0x1000, 4), (0x1000, 4), True),
        ((0, 1 << 40), ((1 << 40) - 4, 4), True),
    ],
)
def test_overlap(a, b, overlap):
    one, other = Region("a", *a), Region("b", *b)
    assert one.overlaps(other) == overlap
    assert other.overlaps(one) == overlap


@pytest.mark.parametrize(
    "region", [*REGIONS, Region("word", 0x10, 4), Region("all", 0, 1 << ADDRESS_BITS)]
)
def test_covers_exactly_its_addresses(region):
    address = Signal(ADDRESS_BITS)
    inside = Signal()
    top = Module()
    top.d.comb += inside.eq(region.covers(address))
    last = (1 << ADDRESS_BITS) - 1

    async def look(ctx):
        edges = [region.base, region.base + region.size // 2, region.base + region.size - 1]
        edges += [region.base - 1, region.base + region.size, 0, last]
        for value in edges:
            if 0 <= value <= last:
                ctx.set(address, value)
                await ctx.delay(1e-9)
                assert ctx.get(inside) == (region.base <= value < region.base + region.size)

    sim = Simulator(top)
    sim.add_testbench(look)
    sim.run()


# Arbiter


@pytest.mark.parametrize("count", [0, -1])
def test_arbiter_rejects(count):
    message = rf"^An arbiter needs at least one requester, not {count}$"
    with pytest.raises(ValueError, match=message):
        FairArbiter(count)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
def test_arbiter_grants_the_one_granted_longest_ago(count):
    """Against a list kept in order; and nobody is overtaken more than ``count - 1`` times,
    however irregularly it asks and however often a grant is not taken."""
    dut = FairArbiter(count)
    dice = random.Random(count)
    most = [0] * count

    async def play(ctx):
        line = list(range(count))
        overtaken = [0] * count
        density = 0.5
        for clock in range(1500):
            if clock % 50 == 0:
                density = dice.choice([0.1, 0.5, 0.9, 1.0])
            asking = [dice.random() < density for _ in range(count)]
            taken = dice.random() < 0.8
            ctx.set(dut.requests, sum(ask << i for i, ask in enumerate(asking)))
            ctx.set(dut.taken, taken)
            await ctx.delay(1e-9)
            first = next((i for i in line if asking[i]), None)
            assert ctx.get(dut.grant) == (0 if first is None else 1 << first), f"clock {clock}"
            await ctx.tick()
            if taken and first is not None:
                line.remove(first)
                line.append(first)
                for i in range(count):
                    if i == first:
                        overtaken[i] = 0
                    elif asking[i]:
                        overtaken[i] += 1
                        most[i] = max(most[i], overtaken[i])

    simulate(dut, play)
    assert max(most) == count - 1, "the bound is sharp"


def test_one_that_asks_now_and_then_is_not_starved():
    """Two that always ask and one that asks every third clock, in step with them: a rotating
    pointer would pass it by for ever."""
    dut = FairArbiter(3)

    async def play(ctx):
        ctx.set(dut.taken, 1)
        lost = 0
        grants = 0
        for clock in range(300):
            asks = clock % 3 == 0
            ctx.set(dut.requests, 0b011 | asks << 2)
            await ctx.delay(1e-9)
            granted = ctx.get(dut.grant) == 0b100
            grants += granted
            lost = 0 if granted else lost + asks
            assert lost <= 2
            await ctx.tick()
        assert grants >= 30

    simulate(dut, play)


# Interconnect


class Asker:
    """An initiator. ``plan`` yields (clocks of rest, address, write) and is cut off at the end.

    ``waits`` has for each request the clocks until it was taken, ``times`` from there to the
    answer.
    """

    def __init__(self, number, plan, dice):
        self.number = number
        self.plan = plan
        self.dice = dice
        self.rest = 0
        self.request = None
        self.offered = False
        self.taken_by_target = False
        self.expects = None
        self.waits = []
        self.times = []

    @property
    def waiting(self):
        return self.request is not None

    def choose(self, ctx, clock, port, regions):
        """Before clock ``clock``: offer the next request when it is time."""
        if self.rest:
            self.rest -= 1
            return
        self.rest, address, write = next(self.plan)
        self.request = BusRequest.const(
            {
                "address": address,
                "write": write,
                "data": self.dice.getrandbits(32),
                "select": self.dice.getrandbits(4),
                "requester": {"id": 0xA500 | self.number, "kind": RequesterKind.DEVICE},
            }
        )
        self.offered, self.since = True, clock
        self.taken_by_target = False
        hit = any(r.base <= address < r.base + r.size for r in regions)
        self.expects = None if hit else (0, 1)
        ctx.set(port.request.payload, self.request)
        ctx.set(port.request.valid, 1)

    def see(self, ctx, clock, port, ready, valid, payload):
        """What its port showed in clock ``clock``."""
        if valid:
            what = f"clock {clock}: initiator {self.number}"
            assert self.waiting, f"{what} got an answer it is not owed"
            assert not self.offered, f"{what} got an answer to a request not yet taken"
            assert self.expects is not None, f"{what} got an answer no target gave"
            assert (payload.data, payload.error) == self.expects, what
            self.times.append(clock - self.since)
            self.request = None
        elif self.offered and ready:
            self.waits.append(clock - self.since)
            self.offered, self.since = False, clock
            ctx.set(port.request.valid, 0)


class Target:
    """A target that answers the clocks after a request that ``latency()`` gives, at least one."""

    def __init__(self, region, latency, dice, failing=0.0):
        self.region = region
        self.latency = latency
        self.dice = dice
        self.failing = failing
        self.due = None
        self.served = 0

    def see(self, ctx, clock, port, askers, valid, payload, ready):
        """What its port showed in clock ``clock``."""
        if self.due is not None:
            assert not valid, f"clock {clock}: {self.region.name} is asked before it has answered"
            if clock >= self.due and ready:
                self.due = None
                ctx.set(port.response.valid, 0)
                # Not an answer any more, and nobody may take it for one:
                ctx.set(port.response.payload, {"data": self.dice.getrandbits(32), "error": 1})
                ctx.set(port.request.ready, 1)
        elif valid:
            asker = askers[payload.requester.id & 0xFF]
            what = f"clock {clock}: {self.region.name}"
            assert payload == asker.request, f"{what} got what {asker.number} did not ask"
            assert not asker.offered, f"{what} got a request not yet taken"
            assert not asker.taken_by_target, f"{what} got the request of {asker.number} twice"
            assert self.region.base <= payload.address < self.region.base + self.region.size
            asker.taken_by_target = True
            error = int(self.dice.random() < self.failing)
            self.answer = {"data": self.dice.getrandbits(32), "error": error}
            asker.expects = (0 if error else self.answer["data"], error)
            self.due = clock + self.latency()
            self.served += 1
            ctx.set(port.request.ready, 0)
        if self.due == clock + 1:
            ctx.set(port.response.payload, self.answer)
            ctx.set(port.response.valid, 1)


def traffic(plans, latencies, clocks, *, seed=0, failing=0.0):
    """Run ``plans`` (one per initiator) against targets of ``latencies``; every rule of the bus is
    checked in every clock. Returns the askers and the targets."""
    dice = random.Random(f"traffic {seed}")
    askers = [Asker(i, iter(plan), dice) for i, plan in enumerate(plans)]
    regions = REGIONS[: len(latencies)]
    targets = [Target(*pair, dice, failing) for pair in zip(regions, latencies, strict=True)]
    dut = Interconnect(len(askers), regions)

    async def play(ctx):
        signals = []
        for port in dut.initiators:
            signals += [port.request.ready, port.response.valid, port.response.payload]
            ctx.set(port.response.ready, 1)
        for port in dut.targets:
            signals += [port.request.valid, port.request.payload, port.response.ready]
            ctx.set(port.request.ready, 1)
        for clock in range(clocks + LIMIT):
            for asker, port in zip(askers, dut.initiators, strict=True):
                if not asker.waiting and clock < clocks:
                    asker.choose(ctx, clock, port, regions)
            if clock >= clocks and not any(asker.waiting for asker in askers):
                return
            _, _, *seen = await ctx.tick().sample(*signals)
            seen = [seen[i : i + 3] for i in range(0, len(seen), 3)]
            for asker, port in zip(askers, dut.initiators, strict=True):
                asker.see(ctx, clock, port, *seen[asker.number])
            for target, port, shown in zip(targets, dut.targets, seen[len(askers) :], strict=True):
                target.see(ctx, clock, port, askers, *shown)
        raise AssertionError(f"a request is unanswered after {clocks + LIMIT} clocks")

    simulate(dut, play)
    return askers, targets


def constant(clocks):
    return lambda: clocks


def one_address(address, rest=0):
    return itertools.repeat((rest, address, False))


def random_plan(seed, regions=REGIONS, misses=0.1):
    dice = random.Random(f"plan {seed}")
    edges = [r.base + offset for r in regions for offset in (0, 0x20, r.size - 4)]
    outside = [0x1000, 0x1FFC, 0x3000, 0x40_0000, REGIONS[2].base - 4]
    while True:
        eager = dice.random() < 0.5
        for _ in range(20):
            rest = 0 if eager else dice.randrange(12)
            address = dice.choice(outside if dice.random() < misses else edges)
            yield rest, address, dice.random() < 0.5


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("initiators", [1, 2, 5])
def test_random_traffic_is_answered_once_to_its_asker(initiators, seed):
    dice = random.Random(f"latencies {seed}")
    slowness = [1, dice.randrange(2, 8), dice.randrange(2, 40)]
    dice.shuffle(slowness)
    latencies = [lambda top=top: dice.randint(1, top) for top in slowness]
    plans = [random_plan(f"{seed} {i}") for i in range(initiators)]
    askers, targets = traffic(plans, latencies, 600, seed=seed, failing=0.2)
    assert all(len(asker.times) == len(asker.waits) >= 5 for asker in askers)
    assert all(target.served for target in targets)


def bounds(initiators, targets, t):
    """(clocks until taken, clocks from there to the answer), as the docstring promises."""
    return initiators * (t + targets + 2), t + targets + 2


@pytest.mark.parametrize("t", [1, 2, 7, 20])
@pytest.mark.parametrize(("initiators", "count"), [(1, 1), (3, 2), (5, 3)])
def test_bounds_hold(initiators, count, t, record_property):
    """The worst seen, with everyone after one target, with targets as slow as they may be, and
    with random traffic whose answers collide; the printed figures stand in the test's report."""
    base = REGIONS[0].base
    other = [region.base for region in REGIONS[:count]]
    dice = random.Random(t)
    shapes = {
        "one target": ([one_address(base)] * initiators, [constant(t)] * count),
        "a target each": (
            [one_address(other[i % count]) for i in range(initiators)],
            [constant(t)] * count,
        ),
        "misses": (
            [one_address(base if i % 2 else 0x1000) for i in range(initiators)],
            [constant(t)] * count,
        ),
        "random": (
            [random_plan(f"{t} {i}", REGIONS[:count]) for i in range(initiators)],
            [lambda: dice.randint(max(1, t - 1), t)] * count,
        ),
    }
    taken, answered = bounds(initiators, count, t)
    worst_taken = worst_answered = 0
    for plans, latencies in shapes.values():
        askers, _ = traffic(plans, latencies, 150 + 12 * t, seed=t)
        worst_taken = max(worst_taken, *(wait for a in askers for wait in a.waits))
        worst_answered = max(worst_answered, *(time for a in askers for time in a.times))
    print(
        f"{initiators} initiators, {count} targets of {t} clocks: "
        f"taken {worst_taken} of {taken}, answered {worst_answered} of {answered}"
    )
    assert worst_taken <= taken
    assert worst_answered <= answered


def test_latency_of_an_idle_interconnect():
    """Offered, taken at once, at the target one clock later; answered one clock after the target:
    two clocks plus the target's own time."""
    for t in (1, 5):
        askers, _ = traffic([one_address(0, rest=40)], [constant(t)], 400)
        assert set(askers[0].waits) == {0}
        assert set(askers[0].times) == {t + 2}
    askers, _ = traffic([one_address(0x1000, rest=40)], [constant(9)], 400)
    assert set(askers[0].times) == {3}, "what no region covers takes the error target's clock"


def test_a_slow_target_delays_only_those_who_wait_for_it():
    slow, fast = REGIONS[0].base, REGIONS[1].base

    def worst(plans):
        askers, _ = traffic(plans, [constant(200), constant(1)], 700)
        return [max(map(sum, zip(a.waits, a.times, strict=True)), default=0) for a in askers]

    alone = worst([itertools.repeat((5000, fast, False)), one_address(fast), one_address(fast, 3)])
    beside = worst([one_address(slow), one_address(fast), one_address(fast, 3)])
    print(f"worst access to the fast target: alone {alone[1:]}, beside a slow one {beside[1:]}")
    assert beside[0] >= 200
    for without, with_slow in zip(alone[1:], beside[1:], strict=True):
        assert with_slow <= without + 2, "one clock on each of the two shared paths"


def test_decoding_at_the_edges():
    """The first and the last word of each region reach it, their neighbours outside do not."""
    for t, region in enumerate(REGIONS):
        inside = [region.base, region.base + region.size - 4]
        outside = [region.base - 4, region.base + region.size]
        outside = [address for address in outside if 0 <= address < 1 << ADDRESS_BITS]
        steps = [(0, address, True) for address in inside + outside]
        plan = itertools.chain(steps, itertools.repeat((10_000, 0x40_0000, True)))
        _, targets = traffic([plan], [constant(1)] * len(REGIONS), 80)
        assert [target.served for target in targets] == [
            len(inside) if i == t else 0 for i in range(len(REGIONS))
        ]


def test_one_region_over_everything():
    everything = Region("all", 0, 1 << ADDRESS_BITS)
    dut = Interconnect(1, [everything])

    async def ask(ctx):
        asker, target = dut.initiators[0], dut.targets[0]
        ctx.set(target.request.ready, 1)
        for address in (0, (1 << ADDRESS_BITS) - 4):
            ctx.set(asker.request.payload, {"address": address})
            ctx.set(asker.request.valid, 1)
            await ctx.tick()
            ctx.set(asker.request.valid, 0)
            _, _, valid, seen = await ctx.tick().sample(
                target.request.valid, target.request.p.address
            )
            assert (valid, seen) == (1, address)
            ctx.set(target.response.valid, 1)
            await ctx.tick()
            ctx.set(target.response.valid, 0)
            assert ctx.get(asker.response.valid)
            assert not ctx.get(asker.response.p.error)

    simulate(dut, ask)


@pytest.mark.parametrize(
    ("initiators", "regions", "message"),
    [
        (0, REGIONS, r"^An interconnect needs at least one initiator, not 0$"),
        (-1, REGIONS, r"^An interconnect needs at least one initiator, not -1$"),
        (1, (), r"^An interconnect needs at least one region$"),
        (
            1,
            (*REGIONS, Region("again", 0x2800, 0x100)),
            r"^Regions 'gap above' and 'again' overlap$",
        ),
    ],
)
def test_interconnect_rejects(initiators, regions, message):
    with pytest.raises(ValueError, match=message):
        Interconnect(initiators, regions)
