"""Redistributor: SGIs and PPIs, WAKER, and the registers of the LPIs."""

import random
import re

import pytest

from hdl.gic.interfaces import LpiOperation
from hdl.gic.redistributor import WAKE_CLOCKS, Redistributor
from hdl.registers.gicr import GicrCtlr, GicrTyper
from hdl.registers.gicr import GicrRegister as Gicr
from hdl.tap import EventKind
from tests.unit.gic_drivers import Frame, run, until

SETTLED = 60
AWAKE = 0


class Actor:
    """A redistributor, the software that owns it, and a CPU interface."""

    def __init__(self, ctx, dut):
        self.ctx = ctx
        self.dut = dut
        self.frame = Frame(ctx, dut.bus, requester=3)
        self.read, self.write = self.frame.read, self.frame.write

    async def start(self):
        self.ctx.set(self.dut.forwarding, 1)
        await self.write(Gicr.WAKER, AWAKE)
        await self.write(Gicr.IGROUPR0, 0xFFFF_FFFF)
        await self.write(Gicr.ISENABLER0, 0xFFFF_FFFF)
        await self.settle()

    async def settle(self, clocks=SETTLED):
        await self.ctx.tick().repeat(clocks)

    async def send(self, sgi):
        self.ctx.set(self.dut.sgi, 1 << sgi)
        await self.ctx.tick()
        self.ctx.set(self.dut.sgi, 0)

    def best(self):
        candidate = self.ctx.get(self.dut.candidate)
        return candidate.intid if candidate.valid else None

    async def acknowledge(self, intid):
        assert self.best() == intid
        self.ctx.set(self.dut.acknowledge.intid, intid)
        self.ctx.set(self.dut.acknowledge.valid, 1)
        await self.ctx.tick()
        self.ctx.set(self.dut.acknowledge.valid, 0)
        assert self.best() is None

    async def deactivate(self, intid):
        self.ctx.set(self.dut.deactivate.p.intid, intid)
        self.ctx.set(self.dut.deactivate.valid, 1)
        await until(self.ctx, self.dut.deactivate.ready, "the deactivation to be taken")
        await self.ctx.tick()
        self.ctx.set(self.dut.deactivate.valid, 0)


def scenario(body, *others, index=1, cpus=2, **options):
    dut = Redistributor(index, cpus=cpus, **options)

    def actor(role):
        async def testbench(ctx):
            await role(Actor(ctx, dut))

        return testbench

    return run(dut, *(actor(role) for role in (body, *others)), taps=dut.taps)


@pytest.mark.parametrize(
    ("index", "options", "error", "text"),
    [
        (0, {"cpus": 17}, ValueError, "cpus must be between 1 and 16, not 17"),
        (2, {"cpus": 2}, ValueError, "index must be between 0 and 1, not 2"),
        ("0", {"cpus": 2}, TypeError, "index must be an integer, not '0'"),
        (0, {"cpus": 1, "direct_lpi": True}, ValueError, "direct_lpi needs lpis"),
    ],
)
def test_parameters(index, options, error, text):
    with pytest.raises(error, match=f"^Redistributor: {re.escape(text)}$"):
        Redistributor(index, **options)


@pytest.mark.parametrize("index", [0, 1])
def test_identification(index):
    async def body(r):
        low, high = await r.read(Gicr.TYPER), await r.read(Gicr.TYPER + 4)
        typer = GicrTyper.from_bits(high << 32 | low)
        assert (typer.affinity, typer.processor_number, typer.last) == (index, index, index == 1)
        assert (typer.plpis, typer.direct_lpi, typer.common_lpi_aff) == (1, 0, 1)
        assert await r.read(Gicr.PIDR2) >> 4 & 0xF == 3
        assert await r.read(Gicr.IIDR) == 0x43B
        assert await r.read(Gicr.CTLR) == GicrCtlr.const({"ces": 1, "ir": 1}).as_bits()

    scenario(body, index=index, lpis=True, invalidation=True)


def test_wake_up_handshake():
    async def body(r):
        r.ctx.set(r.dut.forwarding, 1)
        assert await r.read(Gicr.WAKER) == 0b110
        await r.write(Gicr.WAKER, 0xFFFF_FFFF & ~0b010)
        await r.settle(WAKE_CLOCKS)
        assert await r.read(Gicr.WAKER) == 0
        assert r.ctx.get(r.dut.awake)
        await r.write(Gicr.WAKER, 0b010)
        assert not r.ctx.get(r.dut.awake)
        await r.settle(WAKE_CLOCKS)
        assert await r.read(Gicr.WAKER) == 0b110
        await r.write(Gicr.WAKER, 0, select=0b1110)
        assert await r.read(Gicr.WAKER) == 0b110

    scenario(body)


def test_children_stay_asleep_for_a_while():
    async def body(r):
        await r.write(Gicr.WAKER, 0)
        assert not r.ctx.get(r.dut.awake)
        assert await until(r.ctx, r.dut.awake, "the CPU to be awake") <= WAKE_CLOCKS

    scenario(body)


def test_no_candidate_while_asleep_or_while_the_group_is_off():
    async def body(r):
        await r.start()
        await r.send(3)
        await r.settle()
        assert r.best() == 3
        r.ctx.set(r.dut.forwarding, 0)
        assert r.best() is None
        r.ctx.set(r.dut.forwarding, 1)
        await r.write(Gicr.WAKER, 0b010)
        assert r.best() is None
        assert await r.read(Gicr.ISPENDR0) == 1 << 3
        await r.write(Gicr.WAKER, 0)
        await r.settle()
        assert r.best() == 3

    scenario(body)


def test_life_of_an_sgi():
    async def body(r):
        await r.start()
        r.ctx.set(r.dut.sgi, 1 << 7)
        await r.ctx.tick()
        r.ctx.set(r.dut.sgi, 0)
        assert 1 + await until(r.ctx, r.dut.candidate.valid, "the candidate") == 5
        await r.acknowledge(7)
        assert await r.read(Gicr.ISACTIVER0) == 1 << 7
        await r.send(7)
        await r.send(7)
        await r.settle()
        assert r.best() is None
        await r.deactivate(7)
        await r.settle()
        await r.acknowledge(7)
        await r.deactivate(7)
        await r.settle()
        assert (r.best(), await r.read(Gicr.ISACTIVER0)) == (None, 0)

    events = scenario(body)
    assert [e[1] for e in events] == [EventKind.PENDING_SET] * 2, "SGIs are no wires"


def test_an_sgi_in_group_0_is_not_raised():
    """SGI1R asks for group 1; at a CPU that keeps the SGI in group 0 nothing becomes pending."""

    async def body(r):
        await r.start()
        await r.write(Gicr.IGROUPR0, 0xFFFF_FFFF & ~(1 << 4))
        await r.send(4)
        await r.send(5)
        await r.settle()
        assert await r.read(Gicr.ISPENDR0) == 1 << 5
        await r.write(Gicr.IGROUPR0, 0xFFFF_FFFF)
        await r.settle()
        assert await r.read(Gicr.ISPENDR0) == 1 << 5

    scenario(body)


@pytest.mark.parametrize("edge", [0, 1])
def test_ppis_are_level_or_edge(edge):
    async def body(r):
        await r.start()
        await r.write(Gicr.ICFGR1, 0xFFFF_FFFF * edge)
        assert await r.read(Gicr.ICFGR1) == 0xAAAA_AAAA * edge
        r.ctx.set(r.dut.ppi, 1 << 11)  # PPI 27
        await r.settle()
        await r.acknowledge(27)
        await r.settle()
        assert await r.read(Gicr.ISPENDR0) == (0 if edge else 1 << 27)
        await r.deactivate(27)
        await r.settle()
        assert r.best() == (None if edge else 27)
        r.ctx.set(r.dut.ppi, 0)
        await r.settle()
        assert r.best() is None

    events = scenario(body)
    assert [(e[3], e[4]) for e in events if e[1] is EventKind.WIRE] == [(27, 1), (27, 0)]


def test_sgis_are_edge_triggered_for_good():
    async def body(r):
        assert await r.read(Gicr.ICFGR0) == 0xAAAA_AAAA
        await r.write(Gicr.ICFGR0, 0)
        assert await r.read(Gicr.ICFGR0) == 0xAAAA_AAAA

    scenario(body)


def test_sgi_frame_arrays():
    async def body(r):
        for register in (Gicr.IGROUPR0, Gicr.ISENABLER0, Gicr.ISPENDR0, Gicr.ISACTIVER0):
            await r.write(register, 0x8001_8001)
            assert await r.read(register) == 0x8001_8001
            await r.write(register + 4, 0xFFFF_FFFF)
            assert await r.read(register + 4) == 0
        for register in (Gicr.ISENABLER0, Gicr.ISPENDR0, Gicr.ISACTIVER0):
            await r.write(register + 0x80, 0x8000_8001)
            assert await r.read(register) == await r.read(register + 0x80) == 0x0001_0000
        for intid in (0, 31):
            await r.frame.write8(Gicr.IPRIORITYR + intid, 0xFF)
        assert await r.read(Gicr.IPRIORITYR) == 0xF8
        assert await r.read(Gicr.IPRIORITYR + 28) == 0xF800_0000
        for absent in (Gicr.IPRIORITYR + 32, Gicr.ICFGR1 + 4, Gicr.IGRPMODR0, Gicr.NSACR, 0x16000):
            await r.write(absent, 0xFFFF_FFFF)
            assert await r.read(absent) == 0, hex(absent)

    scenario(body)


def test_rwp_is_bit_3_and_covers_disabling_of_ppis():
    async def body(r):
        r.ctx.set(r.dut.withdraw_distance, 60)
        await r.start()
        r.ctx.set(r.dut.ppi, 1)
        await r.settle()
        await r.write(Gicr.ICENABLER0, 1 << 16)
        assert await r.read(Gicr.CTLR) == 1 << 3
        assert r.best() == 16
        await r.settle(60)
        assert await r.read(Gicr.CTLR) == 0
        assert r.best() is None

    scenario(body)


PROPBASER = 0x0700_00FF_FFFF_FF9F
PENDBASER = 0x0700_00FF_FFFF_0F80


def test_lpi_tables_are_locked_while_lpis_are_on():
    async def body(r):
        ones = 0xFFFF_FFFF_FFFF_FFFF

        async def both():
            values = []
            for register in (Gicr.PROPBASER, Gicr.PENDBASER):
                values.append(await r.read(register) | await r.read(register + 4) << 32)
            return tuple(values)

        await r.frame.write64(Gicr.PROPBASER, ones)
        await r.frame.write64(Gicr.PENDBASER, ones)
        assert await both() == (PROPBASER, PENDBASER), "PTZ reads zero"
        assert r.ctx.get(r.dut.lpi_property_base) == 0xFF_FFFF_F000
        assert r.ctx.get(r.dut.lpi_pending_base) == 0xFF_FFFF_0000
        assert r.ctx.get(r.dut.lpi_id_bits) == 31
        assert r.ctx.get(r.dut.lpi_pending_zero) == 1
        await r.write(Gicr.CTLR, 1)
        assert r.ctx.get(r.dut.lpi_enable) == 1
        await r.frame.write64(Gicr.PROPBASER, 0)
        await r.frame.write64(Gicr.PENDBASER, 0)
        assert await both() == (PROPBASER, PENDBASER)
        await r.write(Gicr.CTLR, 0)
        await r.write(Gicr.PROPBASER, 0x425B_078F)  # Linux's, in QEMU
        await r.write(Gicr.PROPBASER, 0, select=0b1000)
        await r.write(Gicr.PENDBASER + 4, 0)
        assert await r.read(Gicr.PROPBASER) == 0x005B_078F
        assert r.ctx.get(r.dut.lpi_pending_zero) == 0

    scenario(body, lpis=True)


@pytest.mark.parametrize("ces", [False, True])
def test_enable_lpis_can_be_cleared_only_with_ces(ces):
    async def body(r):
        await r.write(Gicr.CTLR, 1)
        assert await r.read(Gicr.CTLR) == 1 | ces << 1
        await r.write(Gicr.CTLR, 0, select=0b1110)
        assert r.ctx.get(r.dut.lpi_enable) == 1
        await r.write(Gicr.CTLR, 0)
        assert r.ctx.get(r.dut.lpi_enable) == (not ces)
        if ces:
            assert await r.read(Gicr.CTLR) == 1 << 3 | 1 << 1, "RWP although nothing is seen yet"
            r.ctx.set(r.dut.lpi_settling, 1)
            await r.settle()
            assert await r.read(Gicr.CTLR) == 1 << 3 | 1 << 1
            r.ctx.set(r.dut.lpi_settling, 0)
            assert await r.read(Gicr.CTLR) == 1 << 1
        # Switching on is not covered by RWP.
        await r.write(Gicr.CTLR, 1)
        r.ctx.set(r.dut.lpi_settling, 1)
        assert await r.read(Gicr.CTLR) == 1 | ces << 1

    scenario(body, lpis=True, ces=ces)


def test_without_lpis_their_registers_are_not_there():
    async def body(r):
        for register in (Gicr.CTLR, Gicr.PROPBASER, Gicr.PENDBASER, Gicr.SETLPIR, Gicr.INVLPIR):
            await r.write(register, 0xFFFF_FFFF)
            assert await r.read(register) == 0
        r.ctx.set(r.dut.lpi_busy, 1)
        assert await r.read(Gicr.SYNCR) == 0
        assert await r.read(Gicr.TYPER) & 1 == 0

    scenario(body)


@pytest.mark.parametrize("direct", [False, True])
def test_direct_lpi_registers_become_commands(direct):
    """What reaches the engine, and that an access waits until the engine takes it."""
    taken = []

    async def engine(r):
        link = r.dut.lpi.command
        while len(taken) < (5 if direct else 2):
            await until(r.ctx, link.valid, "a command", bound=2000)
            await r.settle(5)
            taken.append((r.ctx.get(link.p.operation), r.ctx.get(link.p.intid)))
            assert r.ctx.get(link.p.target) == 1
            r.ctx.set(link.ready, 1)
            await r.ctx.tick()
            r.ctx.set(link.ready, 0)

    async def body(r):
        await r.frame.write64(Gicr.SETLPIR, 8192)
        assert r.frame.clocks == 2, "the high word has no effect"
        await r.write(Gicr.SETLPIR, 0xFFFF)
        await r.write(Gicr.CLRLPIR, 8200)
        for bad in (8191, 0x1_0000 | 8192, 0):
            await r.write(Gicr.SETLPIR, bad)
        await r.write(Gicr.SETLPIR, 8192, select=0b0011)
        await r.write(Gicr.INVLPIR, 8191)
        await r.write(Gicr.INVALLR, 0, select=0b0111)
        await r.write(Gicr.INVLPIR, 8201)
        assert r.frame.clocks >= 6
        await r.write(Gicr.INVALLR, 0xFFFF_FFFF)
        assert await r.read(Gicr.SETLPIR) == 0
        assert await r.read(Gicr.SYNCR) == 0
        r.ctx.set(r.dut.lpi_busy, 1)
        assert await r.read(Gicr.SYNCR) == 1
        assert await r.read(Gicr.TYPER) & 0b1000 == direct << 3

    events = scenario(body, engine, lpis=True, direct_lpi=direct, invalidation=True)
    direct_ones = [
        (LpiOperation.SET, 8192),
        (LpiOperation.SET, 0xFFFF),
        (LpiOperation.CLEAR, 8200),
    ]
    common = [(LpiOperation.INVALIDATE, 8201), (LpiOperation.INVALIDATE_ALL, 0xFFFF)]
    expected = (direct_ones if direct else []) + common
    assert [(op, i) for op, i in taken if op is not LpiOperation.INVALIDATE_ALL] == expected[:-1]
    assert taken[-1][0] is LpiOperation.INVALIDATE_ALL
    bad = [(e[3], e[4]) for e in events if e[1] is EventKind.MESSAGE_BAD]
    messages = [(3, 8191), (3, 0x1_0000 | 8192), (3, 0), (3, 8192)]
    assert bad == (messages if direct else [])


def test_any_access_is_answered():
    rng = random.Random(9)

    async def engine(r):
        r.ctx.set(r.dut.lpi.command.ready, 1)

    async def body(r):
        for _ in range(400):
            address = rng.choice((0, 0x10000)) + rng.choice(
                (rng.randrange(0, 0x1000, 4), rng.randrange(0, 0x10000, 4))
            )
            r.ctx.set(r.dut.ppi, rng.getrandbits(16))
            if rng.randrange(2):
                await r.write(address, rng.getrandbits(32), rng.randrange(16))
            else:
                await r.read(address)
            assert r.frame.clocks <= 2 * 32 + 14
        r.ctx.set(r.dut.ppi, 0)
        await r.start()
        for register in (Gicr.ICENABLER0, Gicr.ICACTIVER0, Gicr.ICPENDR0):
            await r.write(register, 0xFFFF_FFFF)
        await r.start()
        await r.send(9)
        await r.settle()
        assert r.best() == 9

    scenario(body, engine, lpis=True, direct_lpi=True)
