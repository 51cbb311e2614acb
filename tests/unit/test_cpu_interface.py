"""CPU interface: priorities, preemption, acknowledgement, priority drop, deactivation, SGIs."""

import re

import pytest

from hdl.gic.cpu_interface import PATIENCE, CpuInterface, DeactivateSplit
from hdl.registers.sysreg import SystemRegister
from hdl.tap import EventKind, LineKind
from tests.unit.gic_drivers import Sysregs, run, until

SOURCES = {"private": 16, "spi": 40, "lpi": 8192}


class Actor:
    """A CPU interface, the software that uses it, and sources of candidates."""

    def __init__(self, ctx, dut):
        self.ctx = ctx
        self.dut = dut
        self.sysregs = Sysregs(ctx, dut.sysreg)

    async def read(self, name):
        return await self.sysregs.read(f"ICC_{name}_EL1")

    async def write(self, name, value):
        await self.sysregs.write(f"ICC_{name}_EL1", value)

    async def start(self, *, mode=0):
        self.ctx.set(self.dut.deactivate.ready, 1)
        await self.write("PMR", 0xFF)
        await self.write("CTLR", mode << 1)
        await self.write("IGRPEN1", 1)

    def offer(self, source, priority=0xA0, intid=None):
        intid = SOURCES[source] if intid is None else intid
        self.ctx.set(getattr(self.dut, source), {"valid": 1, "intid": intid, "priority": priority})

    def withdraw(self, *sources):
        for source in sources or SOURCES:
            self.ctx.set(getattr(self.dut, source).valid, 0)

    async def irq(self):
        await self.ctx.tick().repeat(2)
        return self.ctx.get(self.dut.irq)

    async def take(self, source, priority, intid=None):
        """One interrupt offered and acknowledged, and gone from its source."""
        self.offer(source, priority, intid)
        taken = await self.read("IAR1")
        self.withdraw()
        return taken


def scenario(body, *others, index=0, cpus=4):
    dut = CpuInterface(index, cpus=cpus)

    def actor(role):
        async def testbench(ctx):
            await role(Actor(ctx, dut))

        return testbench

    return run(dut, *(actor(role) for role in (body, *others)), taps=dut.taps)


@pytest.mark.parametrize(
    ("index", "cpus", "error", "text"),
    [
        (0, 0, ValueError, "cpus must be between 1 and 16, not 0"),
        (4, 4, ValueError, "index must be between 0 and 3, not 4"),
        (None, 4, TypeError, "index must be an integer, not None"),
    ],
)
def test_parameters(index, cpus, error, text):
    with pytest.raises(error, match=f"^CpuInterface: {re.escape(text)}$"):
        CpuInterface(index, cpus=cpus)


def test_reset_values_and_fixed_fields():
    async def body(c):
        assert await c.read("PMR") == 0, "nothing passes"
        assert await c.read("BPR1") == 3
        assert await c.read("RPR") == 0xFF
        assert await c.read("CTLR") == 4 << 8 | 1 << 15
        assert await c.read("IGRPEN1") == 0
        assert await c.read("AP1R0") == 0
        assert await c.read("SRE") == 7
        assert await c.read("IAR1") == await c.read("HPPIR1") == 1023
        await c.write("SRE", 0)
        assert await c.read("SRE") == 7
        await c.write("PMR", 0xFF)
        assert await c.read("PMR") == 0xF8, "five bits, as Linux finds out"
        for value, kept in ((0, 3), (2, 3), (3, 3), (7, 7), (8, 3)):
            await c.write("BPR1", value)
            assert await c.read("BPR1") == kept
        await c.write("CTLR", 0xFFFF_FFFF_FFFF_FFFF)
        assert await c.read("CTLR") == 2 | 4 << 8 | 1 << 15

    scenario(body)


READ_ONLY = ("IAR1", "HPPIR1", "RPR")
WRITE_ONLY = ("EOIR1", "DIR", "SGI1R")


def test_what_is_not_there_is_answered_with_an_error():
    async def body(c):
        await c.start()
        known = {r.value for r in SystemRegister if r.name.startswith("ICC_")}
        for number in set(range(32)) - known:
            for write in (0, 1):
                response = await c.sysregs.access(number, write, 0xFFFF_FFFF_FFFF_FFFF)
                assert (response.error, response.data) == (1, 0)
                assert c.sysregs.clocks == 2
        c.offer("spi")
        for names, write in ((READ_ONLY, 1), (WRITE_ONLY, 0)):
            for name in names:
                response = await c.sysregs.access(SystemRegister[f"ICC_{name}_EL1"], write, 40)
                assert (response.error, response.data) == (1, 0), name
        assert await c.read("AP1R0") == 0
        assert await c.irq()

    scenario(body)


@pytest.mark.parametrize("source", SOURCES)
def test_acknowledge_reaches_the_source_in_the_clock_it_looks(source):
    async def watcher(c):
        acknowledge = getattr(c.dut, f"acknowledge_{source}")
        await until(c.ctx, acknowledge.valid, "the acknowledgement")
        assert c.ctx.get(acknowledge.intid) == SOURCES[source]
        others = [getattr(c.dut, f"acknowledge_{name}") for name in SOURCES if name != source]
        assert not any(c.ctx.get(other.valid) for other in others)
        await c.ctx.tick()
        c.withdraw(source)
        for _ in range(10):
            assert not c.ctx.get(acknowledge.valid), "once"
            await c.ctx.tick()

    async def body(c):
        await c.start()
        c.offer(source)
        assert await c.read("IAR1") == SOURCES[source]
        assert c.sysregs.clocks == 2
        assert await c.read("IAR1") == 1023

    events = scenario(body, watcher)
    assert [(kind, intid) for _, kind, _, intid, _ in events if kind is EventKind.ACKNOWLEDGE] == [
        (EventKind.ACKNOWLEDGE, SOURCES[source])
    ]


def test_line_follows_the_candidate_after_one_clock():
    async def body(c):
        await c.start()
        c.offer("spi")
        assert await until(c.ctx, c.dut.irq, "irq") == 1
        c.withdraw()
        assert await until(c.ctx, c.dut.irq, "irq to fall", level=0) == 1

    events = scenario(body)
    assert [e[1:] for e in events] == [
        (EventKind.LINE, 0, LineKind.IRQ.value, 1),
        (EventKind.LINE, 0, LineKind.IRQ.value, 0),
    ]


def test_line_does_not_rise_for_what_is_acknowledged_as_it_appears():
    async def body(c):
        await c.start()
        assert await c.read("IAR1") == 40

    async def source(c):
        request = c.dut.sysreg.request
        while not (c.ctx.get(request.valid) and c.ctx.get(request.p.register) == 0):
            await c.ctx.tick()
        await c.ctx.tick()
        c.offer("spi")
        await c.ctx.tick()
        c.withdraw()

    events = scenario(body, source)
    assert [kind for _, kind, *_ in events] == [EventKind.ACKNOWLEDGE]


def test_the_most_urgent_source_wins_and_then_the_lowest_intid():
    async def body(c):
        await c.start()
        for priorities, winner in (
            ({"private": 0x80, "spi": 0x80, "lpi": 0x80}, "private"),
            ({"private": 0x88, "spi": 0x80, "lpi": 0x80}, "spi"),
            ({"private": 0x88, "spi": 0x88, "lpi": 0x80}, "lpi"),
            ({"private": 0x88, "lpi": 0x88}, "private"),
            ({"spi": 0x88, "lpi": 0x88}, "spi"),
            ({"lpi": 0xF0}, "lpi"),
        ):
            c.withdraw()
            for source, priority in priorities.items():
                c.offer(source, priority)
            assert await c.read("HPPIR1") == SOURCES[winner]

    scenario(body)


def test_only_strictly_lower_values_pass_the_mask():
    async def body(c):
        await c.start()
        c.offer("spi", 0xA0)
        for mask, passes in ((0x00, 0), (0x98, 0), (0xA0, 0), (0xA8, 1), (0xFF, 1)):
            await c.write("PMR", mask)
            assert await c.irq() == passes
        await c.write("PMR", 0xA0)
        assert await c.read("IAR1") == 1023
        assert await c.read("HPPIR1") == 40, "whatever the mask"
        await c.write("PMR", 0xFF)
        await c.write("IGRPEN1", 0)
        assert await c.irq() == 0
        assert await c.read("IAR1") == await c.read("HPPIR1") == 1023
        c.offer("spi", 0xF8)
        await c.write("IGRPEN1", 1)
        assert await c.irq() == 0, "the lowest priority of five bits passes no mask"

    scenario(body)


def test_preemption_nests_and_priority_drops_unwind():
    async def body(c):
        await c.start(mode=1)
        stack = []
        for priority in (0xF0, 0xA0, 0x98, 0x00):
            assert await c.take("spi", priority, 40 + len(stack)) == 40 + len(stack)
            stack.append(priority)
            assert await c.read("RPR") == priority
            assert (await c.read("AP1R0")).bit_count() == len(stack)
            c.offer("spi", priority, 99)
            assert await c.irq() == 0, "equal priority does not preempt"
            assert await c.read("HPPIR1") == 99
            c.withdraw()
        while stack:
            stack.pop()
            await c.write("EOIR1", 1)  # whatever INTID
            assert await c.read("RPR") == (stack[-1] if stack else 0xFF)
        assert await c.read("AP1R0") == 0
        await c.write("EOIR1", 1)
        assert await c.read("AP1R0") == 0

    scenario(body)


@pytest.mark.parametrize("point", range(3, 8))
def test_binary_point_splits_group_and_subpriority(point):
    async def body(c):
        await c.start(mode=1)
        await c.write("BPR1", point)
        step = 1 << point
        assert await c.take("spi", 0x80) == 40
        assert await c.read("RPR") == 0x80
        assert await c.read("AP1R0") == 1 << (0x80 >> 3)
        c.offer("spi", (0x80 + step - 1) & 0xF0)
        assert await c.irq() == 0
        c.offer("spi", (0x80 - 1) & 0xF8)
        assert await c.irq() == 1
        c.withdraw()
        await c.write("EOIR1", 40)
        # The subpriority still decides who goes first, and the group priority what runs.
        assert await c.take("spi", (0x80 + step - 1) & 0xF0) == 40
        assert await c.read("RPR") == 0x80

    scenario(body)


def test_active_priorities_can_be_restored():
    async def body(c):
        await c.start()
        await c.write("AP1R0", 1 << 31 | 1 << 20)
        assert await c.read("RPR") == 20 << 3
        c.offer("spi", 20 << 3)
        assert await c.irq() == 0
        c.offer("spi", 19 << 3)
        assert await c.irq() == 1
        await c.write("AP1R0", 0)
        assert await c.read("RPR") == 0xFF

    scenario(body)


@pytest.mark.parametrize("mode", [0, 1])
@pytest.mark.parametrize("intid", [3, 16, 40, 1019, 1020, 1023, 1024, 8192, 0x1_0028])
def test_who_deactivates_what(mode, intid):
    """EOImode 0: EOIR1 does both. EOImode 1: EOIR1 drops, DIR deactivates. Never 1020 and up."""
    deactivated = []

    async def target(c):
        for _ in range(60):
            await c.ctx.tick()
            if c.ctx.get(c.dut.deactivate.valid):
                deactivated.append(c.ctx.get(c.dut.deactivate.p.intid))

    async def body(c):
        await c.start(mode=mode)
        await c.take("spi", 0xA0)
        await c.write("EOIR1", intid)
        special = 1020 <= intid <= 1023
        assert await c.read("RPR") == (0xA0 if special else 0xFF)
        assert deactivated == ([intid] if mode == 0 and intid < 1020 else [])
        deactivated.clear()
        await c.write("DIR", intid)
        assert deactivated == ([intid] if mode == 1 and intid < 1020 else [])

    events = scenario(body, target)
    eois = [e[3] for e in events if e[1] is EventKind.EOI]
    assert eois == ([] if 1020 <= intid <= 1023 else [intid & 0xFFFF])


@pytest.mark.parametrize(("mode", "register"), [(0, "EOIR1"), (1, "DIR")])
def test_deactivation_waits_until_it_is_taken_and_happens_once(mode, register):
    taken = []

    async def target(c):
        await until(c.ctx, c.dut.deactivate.valid, "the deactivation")
        await c.ctx.tick().repeat(20)
        assert c.ctx.get(c.dut.deactivate.valid), "held until it is taken"
        c.ctx.set(c.dut.deactivate.ready, 1)
        for _ in range(20):
            if c.ctx.get(c.dut.deactivate.valid):
                taken.append(c.ctx.get(c.dut.deactivate.p.intid))
            await c.ctx.tick()

    async def body(c):
        await c.start(mode=mode)
        c.ctx.set(c.dut.deactivate.ready, 0)
        await c.write("AP1R0", 0b110)
        await c.write(register, 40)
        assert c.sysregs.clocks >= 20
        assert await c.read("AP1R0") == (0b100 if register == "EOIR1" else 0b110)

    scenario(body, target)
    assert taken == [40]


@pytest.mark.parametrize("register", ["IAR1", "HPPIR1"])
def test_reads_wait_for_a_search_but_not_for_ever(register):
    async def body(c):
        await c.start()
        c.ctx.set(c.dut.searching, 1)
        assert await c.read(register) == 1023
        assert c.sysregs.clocks == PATIENCE + 2
        await c.read("RPR")
        assert c.sysregs.clocks == 2, "others do not wait"

    scenario(body)


def test_a_found_candidate_ends_the_wait():
    async def source(c):
        await c.ctx.tick().repeat(40)
        c.ctx.set(c.dut.searching, 0)
        c.offer("spi")

    async def body(c):
        c.ctx.set(c.dut.searching, 1)
        await c.start()
        assert await c.read("IAR1") == 40

    scenario(body, source)


@pytest.mark.parametrize("clock", range(6))
def test_a_candidate_that_vanishes_is_not_acknowledged(clock):
    """Withdrawn in any clock of the access: then IAR1 says 1023 and nothing is acknowledged."""
    outcome = []

    async def source(c):
        request = c.dut.sysreg.request
        while not (c.ctx.get(request.valid) and c.ctx.get(request.p.register) == 0):
            await c.ctx.tick()
        for now in range(10):
            if now == clock:
                c.withdraw()
            acknowledged = c.ctx.get(c.dut.acknowledge_spi.valid)
            await c.ctx.tick()
            if acknowledged:
                outcome.append(now)
                c.withdraw()

    async def body(c):
        await c.start()
        c.offer("spi")
        taken = await c.read("IAR1")
        assert taken == (40 if clock > 1 else 1023), "decided in the clock after it was taken"
        assert await c.read("RPR") == (0xA0 if clock > 1 else 0xFF)

    scenario(body, source)
    assert outcome == ([1] if clock > 1 else [])


@pytest.mark.parametrize(
    ("value", "targets"),
    [
        (0b0101, 0b0101),
        (0xFFFF, 0b1111),
        (1 << 40, 0b1101),
        (1 << 40 | 0xFFFF | 1 << 16, 0b1101),
        (0xFFFF | 1 << 16, 0),
        (0xFFFF | 1 << 32, 0),
        (0xFFFF | 1 << 48, 0),
        (0b0010 | 0xF << 44, 0b0010),
    ],
)
def test_sgi_targets(value, targets):
    """CPU 1 of 4 sends SGI 11: by list, to all others, and to clusters that do not exist."""
    sent = []

    async def watcher(c):
        for _ in range(10):
            if c.ctx.get(c.dut.sgi_targets):
                sent.append((c.ctx.get(c.dut.sgi), c.ctx.get(c.dut.sgi_targets)))
            await c.ctx.tick()

    async def body(c):
        await c.write("SGI1R", value | 11 << 24)

    scenario(body, watcher, index=1)
    assert sent == ([(11, targets)] if targets else [])


@pytest.mark.parametrize("side", ["physical", "virtual"])
@pytest.mark.parametrize(("intid", "way"), [(0, "redistributor"), (31, "redistributor")])
@pytest.mark.parametrize("distance", [0, 32])
def test_deactivations_go_where_the_interrupt_lives(side, intid, way, distance):
    intid, way = (intid, way) if distance == 0 else (intid + 32, "distributor")
    dut = DeactivateSplit(2)

    async def body(ctx):
        port, out = getattr(dut, side), getattr(dut, way)
        ctx.set(port.p.intid, intid)
        ctx.set(port.valid, 1)
        other = dut.distributor if way == "redistributor" else dut.redistributor
        assert (ctx.get(out.valid), ctx.get(out.p.intid), ctx.get(other.valid)) == (1, intid, 0)
        assert not ctx.get(port.ready)
        ctx.set(other.ready, 1)
        assert not ctx.get(port.ready)
        await ctx.tick()
        ctx.set(out.ready, 1)
        assert ctx.get(port.ready)
        await ctx.tick()
        ctx.set(port.valid, 0)
        await ctx.tick()

    events = run(dut, body, taps=[dut.tap])
    assert events == [(0, EventKind.DEACTIVATE, 2, intid, 0)]
