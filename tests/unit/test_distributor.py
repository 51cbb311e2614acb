"""Distributor: registers, the SPI state machine, routing, withdrawal and deactivation in flight."""

import random
import re

import pytest

from hdl.gic.bank import InterruptBank
from hdl.gic.distributor import DISTRIBUTOR_UNIT, Distributor
from hdl.gic.flight import Flight
from hdl.gic.interfaces import Deactivate
from hdl.registers.gicd import GicdCtlr, GicdTyper
from hdl.registers.gicd import GicdRegister as Gicd
from hdl.tap import EventKind
from sim.reference.gicd import Distributor as ReferenceDistributor
from sim.reference.implementation import Implementation
from sim.reference.shape import Shape
from tests.unit.gic_drivers import Frame, run, until

SETTLED = 80  # clocks after which nothing is under way in a distributor of 64 SPIs
ENABLED = 2  # GICD_CTLR.EnableGrp1


class Actor:
    """A distributor and those who talk to it: software, wires and two CPU interfaces."""

    def __init__(self, ctx, dut):
        self.ctx = ctx
        self.dut = dut
        self.frame = Frame(ctx, dut.bus, requester=0x18)
        self.read, self.write = self.frame.read, self.frame.write

    async def start(self, intids=range(32, 64)):
        """Group 1, enabled, every CPU awake."""
        self.ctx.set(self.dut.awake, -1)
        await self.write(Gicd.CTLR, ENABLED)
        for intid in intids:
            word = 4 * (intid // 32)
            bit = 1 << intid % 32
            await self.write(Gicd.IGROUPR + word, await self.read(Gicd.IGROUPR + word) | bit)
            await self.write(Gicd.ISENABLER + word, bit)

    async def edge(self, intid):
        address = Gicd.ICFGR + intid // 16 * 4
        await self.write(address, await self.read(address) | 2 << intid % 16 * 2)

    async def route(self, intid, cpu):
        await self.frame.write64(Gicd.IROUTER + 8 * intid, cpu)

    async def priority(self, intid, value):
        await self.frame.write8(Gicd.IPRIORITYR + intid, value)

    async def bit(self, register, intid, value=None):
        """Reads or writes one interrupt's bit in an array."""
        address = register + 4 * (intid // 32)
        if value is None:
            return await self.read(address) >> intid % 32 & 1
        return await self.write(address, value << intid % 32)

    def wire(self, intid, level):
        wires = self.ctx.get(self.dut.wires) & ~(1 << intid - 32)
        self.ctx.set(self.dut.wires, wires | level << intid - 32)

    async def settle(self, clocks=SETTLED):
        await self.ctx.tick().repeat(clocks)

    def best(self, cpu=0):
        """INTID of the candidate, or None."""
        candidate = self.ctx.get(self.dut.candidate[cpu])
        return candidate.intid if candidate.valid else None

    async def acknowledge(self, intid, cpu=0):
        assert self.best(cpu) == intid
        self.ctx.set(self.dut.acknowledge[cpu].intid, intid)
        self.ctx.set(self.dut.acknowledge[cpu].valid, 1)
        await self.ctx.tick()
        self.ctx.set(self.dut.acknowledge[cpu].valid, 0)
        assert self.best(cpu) is None, "the clock after its acknowledgement"

    async def deactivate(self, intid, cpu=0):
        port = self.dut.deactivate[cpu]
        self.ctx.set(port.p.intid, intid)
        self.ctx.set(port.valid, 1)
        waited = await until(self.ctx, port.ready, "the deactivation to be taken", bound=300)
        await self.ctx.tick()
        self.ctx.set(port.valid, 0)
        return waited

    async def state(self, intid):
        """(pending, active)"""
        pending = await self.bit(Gicd.ISPENDR, intid)
        return pending, await self.bit(Gicd.ISACTIVER, intid)


def scenario(body, *, cpus=2, spis=64, lpis=0):
    """Runs ``body(actor)`` on a distributor; returns what its taps told."""
    dut = Distributor(cpus=cpus, spis=spis, lpis=lpis)

    async def testbench(ctx):
        await body(Actor(ctx, dut))

    return run(dut, testbench, taps=dut.taps)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"cpus": 0, "spis": 32}, ValueError, "cpus must be between 1 and 16, not 0"),
        ({"cpus": 17, "spis": 32}, ValueError, "cpus must be between 1 and 16, not 17"),
        ({"cpus": True, "spis": 32}, TypeError, "cpus must be an integer, not True"),
        (
            {"cpus": 1, "spis": 48},
            ValueError,
            "spis must be a multiple of 32 between 32 and 960, not 48",
        ),
        (
            {"cpus": 1, "spis": 992},
            ValueError,
            "spis must be a multiple of 32 between 32 and 960, not 992",
        ),
        ({"cpus": 1, "spis": "64"}, TypeError, "spis must be an integer, not '64'"),
        (
            {"cpus": 1, "spis": 32, "lpis": 57345},
            ValueError,
            "lpis must be between 0 and 57344, not 57345",
        ),
    ],
)
def test_parameters(arguments, error, text):
    with pytest.raises(error, match=f"^Distributor: {re.escape(text)}$"):
        Distributor(**arguments)


def test_a_flight_needs_room():
    text = "A flight needs room for at least one message, not 0"
    with pytest.raises(ValueError, match=f"^{text}$"):
        Flight(Deactivate, 0)


@pytest.mark.parametrize(("lpis", "counted"), [(0, 0), (1024, 9), (1000, 0), (32768, 14)])
def test_identification(lpis, counted):
    async def body(d):
        typer = GicdTyper.from_bits(await d.read(Gicd.TYPER))
        assert (typer.it_lines_number, typer.mbis, typer.no1n, typer.id_bits) == (2, 1, 1, 15)
        assert (typer.lpis, typer.num_lpis) == (lpis > 0, counted)
        assert await d.read(Gicd.IIDR) == 0x43B
        assert await d.read(Gicd.PIDR2) >> 4 & 0xF == 3
        assert [await d.read(0xFFF0 + 4 * i) for i in range(4)] == [0x0D, 0xF0, 0x05, 0xB1]

    scenario(body, lpis=lpis)


def test_control_has_one_security_state_and_affinity_routing():
    async def body(d):
        assert await d.read(Gicd.CTLR) == 0x50
        await d.write(Gicd.CTLR, 0x13)  # as Linux writes it; QEMU reads back the same
        assert await d.read(Gicd.CTLR) == 0x53
        await d.write(Gicd.CTLR, 0, select=0b1110)
        assert await d.read(Gicd.CTLR) == 0x53
        await d.write(Gicd.CTLR, 0xFFFF_FF00)
        assert await d.read(Gicd.CTLR) == 0x50

    scenario(body)


def test_arrays_hold_what_spis_need_and_nothing_else():
    """Every array is written full; INTIDs 0-31 and those beyond the last SPI stay zero."""

    async def body(d):
        for register in (Gicd.IGROUPR, Gicd.ISENABLER, Gicd.ISPENDR, Gicd.ISACTIVER):
            for word in range(5):
                await d.write(register + 4 * word, 0xFFFF_FFFF)
            values = [await d.read(register + 4 * word) for word in range(5)]
            assert values == [0, 0xFFFF_FFFF, 0xFFFF_FFFF, 0, 0], register.name
        for set_, clear in (
            (Gicd.ISENABLER, Gicd.ICENABLER),
            (Gicd.ISPENDR, Gicd.ICPENDR),
            (Gicd.ISACTIVER, Gicd.ICACTIVER),
        ):
            await d.write(clear + 4, 0x0000_00F0)
            await d.write(clear + 8, 0x8000_0001)
            for view in (set_, clear):
                assert await d.read(view + 4) == 0xFFFF_FF0F
                assert await d.read(view + 8) == 0x7FFF_FFFE
            # Only selected lanes count.
            await d.write(set_ + 4, 0xFFFF_FFFF, select=0b0010)
            assert await d.read(set_ + 4) == 0xFFFF_FF0F
            await d.write(set_ + 4, 0xFFFF_FFFF, select=0b0001)
            assert await d.read(set_ + 4) == 0xFFFF_FFFF

    scenario(body)


def test_priorities_are_bytes_of_five_bits():
    async def body(d):
        for intid in (32, 33, 63, 64, 95):
            await d.priority(intid, 0xFF)
        assert await d.read(Gicd.IPRIORITYR + 32) == 0x0000_F8F8
        assert await d.read(Gicd.IPRIORITYR + 60) == 0xF800_0000
        assert await d.read(Gicd.IPRIORITYR + 64) == 0x0000_00F8
        assert await d.read(Gicd.IPRIORITYR + 92) == 0xF800_0000
        await d.priority(33, 0xA3)
        assert await d.read(Gicd.IPRIORITYR + 32) == 0x0000_A0F8
        for absent in (0, 28, 96, 1020):
            await d.write(Gicd.IPRIORITYR + absent, 0xFFFF_FFFF)
            assert await d.read(Gicd.IPRIORITYR + absent) == 0

    scenario(body)


def test_configuration_keeps_the_upper_bit_of_each_pair():
    async def body(d):
        await d.write(Gicd.ICFGR + 8, 0xFFFF_FFFF)
        assert await d.read(Gicd.ICFGR + 8) == 0xAAAA_AAAA
        await d.write(Gicd.ICFGR + 8, 0, select=0b0100)
        assert await d.read(Gicd.ICFGR + 8) == 0xAA00_AAAA
        assert await d.read(Gicd.ICFGR + 12) == 0
        for absent in (0, 4, 24):
            await d.write(Gicd.ICFGR + absent, 0xFFFF_FFFF)
            assert await d.read(Gicd.ICFGR + absent) == 0

    scenario(body)


def test_routes_have_two_halves():
    async def body(d):
        await d.frame.write64(Gicd.IROUTER + 8 * 35, 0xFFFF_FFFF_FFFF_FFFF)
        assert await d.read(Gicd.IROUTER + 8 * 35) == 0x00FF_FFFF
        assert await d.read(Gicd.IROUTER + 8 * 35 + 4) == 0xFF
        await d.write(Gicd.IROUTER + 8 * 35, 0, select=0b0010)
        assert await d.read(Gicd.IROUTER + 8 * 35) == 0x00FF_00FF
        assert await d.read(Gicd.IROUTER + 8 * 36) == 0
        for absent in (31, 96, 1023):
            await d.frame.write64(Gicd.IROUTER + 8 * absent, 0xFFFF_FFFF_FFFF_FFFF)
            assert await d.read(Gicd.IROUTER + 8 * absent) == 0

    scenario(body)


def test_life_of_a_level_interrupt():
    async def body(d):
        await d.start()
        d.wire(40, 1)
        await d.settle()
        assert (d.best(), await d.state(40)) == (40, (1, 0))
        await d.acknowledge(40)
        assert await d.state(40) == (1, 1), "active and pending while the line is high"
        await d.settle()
        assert d.best() is None
        await d.deactivate(40)
        await d.settle()
        assert d.best() == 40, "pending again at once, the line being high"
        await d.acknowledge(40)
        d.wire(40, 0)
        await d.settle()
        assert await d.state(40) == (0, 1)
        await d.deactivate(40)
        await d.settle()
        assert (d.best(), await d.state(40)) == (None, (0, 0))

    events = scenario(body)
    kinds = [(kind, intid) for _, kind, unit, intid, _ in events if unit == DISTRIBUTOR_UNIT]
    assert kinds.count((EventKind.WIRE, 40)) == 2
    assert kinds.count((EventKind.PENDING_SET, 40)) == 1
    assert kinds.count((EventKind.PENDING_CLEARED, 40)) == 1


def test_a_level_that_falls_before_the_acknowledgement_is_gone():
    async def body(d):
        await d.start()
        d.wire(40, 1)
        await d.settle()
        d.wire(40, 0)
        await d.settle()
        assert (d.best(), await d.state(40)) == (None, (0, 0))

    scenario(body)


def test_life_of_an_edge_interrupt():
    """Edges while active are one more delivery, however many; a falling edge is none."""

    async def body(d):
        await d.start()
        await d.edge(40)

        async def pulse():
            d.wire(40, 1)
            await d.ctx.tick()
            d.wire(40, 0)
            await d.ctx.tick()

        await pulse()
        await d.settle()
        assert (d.best(), await d.state(40)) == (40, (1, 0))
        await d.acknowledge(40)
        assert await d.state(40) == (0, 1)
        await pulse()
        await pulse()
        await pulse()
        await d.settle()
        assert (d.best(), await d.state(40)) == (None, (1, 1))
        await d.deactivate(40)
        await d.settle()
        await d.acknowledge(40)
        await d.deactivate(40)
        await d.settle()
        assert (d.best(), await d.state(40)) == (None, (0, 0))

    events = scenario(body)
    assert [kind for _, kind, *_ in events].count(EventKind.PENDING_SET) == 2


@pytest.mark.parametrize("clock", range(-6, 7))
def test_an_edge_near_the_acknowledgement_is_never_lost(clock):
    """A one-clock pulse in any clock around the acknowledgement, early ones merge or repeat."""

    async def body(d):
        await d.start()
        await d.edge(40)
        d.wire(40, 1)
        await d.settle()
        d.wire(40, 0)
        await d.settle()

        for now in range(-6, 8):
            d.wire(40, int(now == clock))
            if now == 0:
                await d.acknowledge(40)
            else:
                await d.ctx.tick()
        await d.settle()
        pending, active = await d.state(40)
        assert active
        assert pending or clock < 0, "an edge in the clock of the acknowledgement, or later"
        if clock <= -3:
            assert not pending, "merged with the first: both were there before"

    scenario(body)


@pytest.mark.parametrize("clock", range(5))
def test_an_edge_outlives_the_acknowledgements_of_two_cpus(clock):
    """Both acknowledge in one clock. What one's write-back takes in, the other's must not clear."""

    async def body(d):
        await d.start()
        for cpu, intid in enumerate((40, 41)):
            await d.edge(intid)
            await d.route(intid, cpu)
            d.wire(intid, 1)
        await d.settle()
        for cpu, intid in enumerate((40, 41)):
            d.wire(intid, 0)
            assert d.best(cpu) == intid
            d.ctx.set(d.dut.acknowledge[cpu].intid, intid)
        await d.settle()

        for now in range(8):
            d.wire(41, int(now == clock))
            for cpu in range(2):
                d.ctx.set(d.dut.acknowledge[cpu].valid, int(now == 0))
            await d.ctx.tick()
        await d.settle()
        assert await d.state(40) == (0, 1)
        assert await d.state(41) == (1, 1)

    scenario(body)


def test_software_pending_of_a_level_interrupt_is_a_latch_beside_the_line():
    async def body(d):
        await d.start()
        await d.bit(Gicd.ISPENDR, 40, 1)
        await d.settle()
        assert d.best() == 40
        d.wire(40, 1)
        await d.bit(Gicd.ICPENDR, 40, 1)
        await d.settle()
        assert (d.best(), await d.state(40)) == (40, (1, 0)), "the line is still high"
        d.wire(40, 0)
        await d.settle()
        assert (d.best(), await d.state(40)) == (None, (0, 0))
        await d.bit(Gicd.ISPENDR, 40, 1)
        await d.settle()
        await d.acknowledge(40)
        assert await d.state(40) == (0, 1), "the acknowledgement takes the latch"

    scenario(body)


def test_disabled_or_group_0_interrupts_become_pending_and_wait():
    async def body(d):
        await d.start(intids=[])
        d.wire(40, 1)
        await d.settle()
        assert (d.best(), await d.state(40)) == (None, (1, 0))
        await d.bit(Gicd.ISENABLER, 40, 1)
        await d.settle()
        assert d.best() is None, "group 0 is never signalled"
        await d.write(Gicd.IGROUPR + 4, 1 << 8)
        await d.settle()
        assert d.best() == 40
        await d.bit(Gicd.ISACTIVER, 40, 1)
        assert d.best() is None, "active"
        await d.bit(Gicd.ICACTIVER, 40, 1)
        await d.settle()
        assert d.best() == 40
        await d.write(Gicd.IGROUPR + 4, 0)
        assert d.best() is None

    scenario(body)


def test_message_spis():
    async def body(d):
        await d.start()
        await d.edge(33)
        await d.write(Gicd.SETSPI_NSR, 33)
        assert await d.bit(Gicd.ISPENDR, 33) == 1
        await d.write(Gicd.CLRSPI_NSR, 33, select=0b0011)
        assert await d.bit(Gicd.ISPENDR, 33) == 0
        await d.write(Gicd.SETSPI_NSR, 0xFFFF_0000 | 95, select=0b0011)
        assert await d.read(Gicd.ISPENDR + 8) == 1 << 31
        await d.write(Gicd.SETSPI_NSR, 1024 + 34)  # only ten bits are looked at
        assert await d.bit(Gicd.ISPENDR, 34) == 1
        assert await d.read(Gicd.SETSPI_NSR) == 0
        before = [await d.read(Gicd.ISPENDR + 4 * word) for word in range(32)]
        for intid in (0, 31, 96, 1020, 1023):
            await d.write(Gicd.SETSPI_NSR, intid)
        await d.write(Gicd.SETSPI_NSR, 40 << 16, select=0b1100)
        await d.write(Gicd.SETSPI_NSR, 40, select=0b0001)
        await d.write(Gicd.SETSPI_NSR, 40, select=0)
        assert [await d.read(Gicd.ISPENDR + 4 * word) for word in range(32)] == before

    events = scenario(body)
    bad = [(intid, data) for _, kind, _, intid, data in events if kind is EventKind.MESSAGE_BAD]
    assert bad == [
        *((0x18, intid) for intid in (0, 31, 96, 1020, 1023)),
        (0x18, 40 << 16),
        (0x18, 40),
        (0x18, 40),
    ]


def test_the_lowest_priority_value_wins_and_then_the_lowest_intid():
    async def body(d):
        await d.start(range(32, 96))
        for intid, priority in ((70, 0x80), (40, 0x80), (41, 0x80), (90, 0x40)):
            await d.priority(intid, priority)
            await d.bit(Gicd.ISPENDR, intid, 1)
        await d.settle()
        order = []
        while d.best() is not None:
            order.append(d.best())
            await d.acknowledge(d.best())
            await d.settle()
        assert order == [90, 40, 41, 70]
        # A change of priority counts for what is pending already, both ways.
        for intid in order:
            await d.deactivate(intid)
            await d.bit(Gicd.ISPENDR, intid, 1)
        await d.priority(70, 0x08)
        await d.settle()
        assert d.best() == 70
        await d.priority(70, 0xF8)
        await d.settle()
        assert d.best() == 90

    scenario(body)


def test_a_pending_interrupt_follows_its_route_and_is_never_at_two_cpus():
    async def body(d):
        await d.start()
        await d.bit(Gicd.ISPENDR, 40, 1)
        await d.settle()
        assert (d.best(0), d.best(1)) == (40, None)
        port = d.dut.bus
        for cpu in (1, 0, 1):
            ctx = d.ctx
            address = Gicd.IROUTER + 8 * 40
            request = {"address": address, "write": 1, "data": cpu, "select": 0xF}
            ctx.set(port.request.payload, request)
            ctx.set(port.request.valid, 1)
            ctx.set(port.response.ready, 1)
            for clock in range(30):
                assert d.best(0) is None or d.best(1) is None, f"at two CPUs in clock {clock}"
                await ctx.tick()
                ctx.set(port.request.valid, 0)
            assert (d.best(cpu), d.best(1 - cpu)) == (40, None)
        for nowhere in (2, 0x100, 0x1_0000, 1 << 32):
            await d.route(40, nowhere)
            await d.settle()
            assert (d.best(0), d.best(1)) == (None, None)
            assert await d.state(40) == (1, 0)
        await d.route(40, 0)
        await d.settle()
        assert d.best(0) == 40
        d.ctx.set(d.dut.awake, 0b10)
        assert d.best(0) is None
        assert await d.state(40) == (1, 0), "a CPU that sleeps leaves it pending"
        d.ctx.set(d.dut.awake, 0b11)
        assert d.best(0) == 40

    scenario(body)


def test_an_active_interrupt_is_signalled_to_no_cpu_wherever_it_is_routed():
    async def body(d):
        await d.start()
        d.wire(40, 1)
        await d.settle()
        await d.acknowledge(40, cpu=0)
        for cpu in (1, 0, 1):
            await d.route(40, cpu)
            await d.settle()
            assert (d.best(0), d.best(1)) == (None, None)
        await d.deactivate(40, cpu=0)  # by the CPU it is no longer routed to: window W11
        await d.settle()
        assert (d.best(0), d.best(1)) == (None, 40)

    scenario(body)


@pytest.mark.parametrize("erratum", [0, 1])
def test_w11_erratum_loses_the_deactivation_of_a_moved_interrupt(erratum):
    async def body(d):
        d.ctx.set(d.dut.lose_foreign_deactivate, erratum)
        await d.start()
        d.wire(40, 1)
        await d.settle()
        await d.acknowledge(40, cpu=0)
        await d.route(40, 1)
        await d.deactivate(40, cpu=0)
        await d.settle()
        assert await d.state(40) == (1, erratum)
        # What Linux does about it: clear the active bit in the distributor.
        await d.bit(Gicd.ICACTIVER, 40, 1)
        await d.settle()
        assert d.best(1) == 40
        await d.acknowledge(40, cpu=1)
        await d.deactivate(40, cpu=1)
        await d.settle()
        assert d.best(1) == 40, "a deactivation by the CPU it is routed to always counts"

    scenario(body)


@pytest.mark.parametrize("distance", [0, 1, 20, 255])
def test_a_deactivation_is_a_message_in_flight(distance):
    async def body(d):
        d.ctx.set(d.dut.deactivate_distance, distance)
        await d.start()
        d.wire(40, 1)
        await d.settle()
        await d.acknowledge(40)
        await d.settle()
        await d.deactivate(40)
        clocks = await until(d.ctx, d.dut.candidate[0].valid, "40 again", bound=300)
        # flight 1 + distance, row 2, visit 4: candidate in the clock after
        assert clocks == distance + 6

    scenario(body)


def test_a_fifth_deactivation_in_flight_waits():
    async def body(d):
        d.ctx.set(d.dut.deactivate_distance, 100)
        await d.start()
        waits = [await d.deactivate(intid) for intid in range(32, 38)]
        assert waits[:4] == [0, 0, 0, 0]
        assert 90 <= waits[4] <= 101
        assert waits[5] <= 10, "the others land right behind it"

    scenario(body)


def test_deactivation_of_what_is_not_an_spi_does_nothing():
    async def body(d):
        await d.write(Gicd.ISACTIVER + 4, 0xFFFF_FFFF)
        await d.write(Gicd.ISACTIVER + 8, 0xFFFF_FFFF)
        for intid in (0, 31, 96, 1019):
            await d.deactivate(intid)
        await d.settle()
        assert await d.read(Gicd.ISACTIVER + 4) == await d.read(Gicd.ISACTIVER + 8) == 0xFFFF_FFFF
        await d.deactivate(95)
        await d.settle()
        assert await d.read(Gicd.ISACTIVER + 8) == 0x7FFF_FFFF

    scenario(body)


@pytest.mark.parametrize("distance", [0, 40])
def test_rwp_says_until_when_a_disabled_interrupt_can_still_be_taken(distance):
    async def body(d):
        d.ctx.set(d.dut.withdraw_distance, distance)
        await d.start()
        d.wire(40, 1)
        await d.settle()
        await d.bit(Gicd.ICENABLER, 40, 1)
        assert await d.bit(Gicd.ISENABLER, 40) == 0, "the register shows it at once"
        assert (d.best() == 40) == (distance > 0)
        waited = 0
        while GicdCtlr.from_bits(await d.read(Gicd.CTLR)).rwp:
            waited += d.frame.clocks
            assert waited < distance + 20
        assert d.best() is None, "after RWP it cannot be taken"
        if distance:
            assert waited > 10
        # Taken while on its way out: it becomes active like any other.
        await d.bit(Gicd.ISENABLER, 40, 1)
        await d.settle()
        await d.bit(Gicd.ICENABLER, 40, 1)
        if distance:
            await d.acknowledge(40)
            assert await d.state(40) == (1, 1)
            assert not GicdCtlr.from_bits(await d.read(Gicd.CTLR)).rwp

    scenario(body)


def test_enabling_again_calls_the_withdrawal_off():
    async def body(d):
        d.ctx.set(d.dut.withdraw_distance, 40)
        await d.start()
        d.wire(40, 1)
        await d.settle()
        await d.bit(Gicd.ICENABLER, 40, 1)
        await d.bit(Gicd.ISENABLER, 40, 1)
        assert not GicdCtlr.from_bits(await d.read(Gicd.CTLR)).rwp
        for _ in range(60):
            assert d.best() == 40
            await d.ctx.tick()

    scenario(body)


def test_losing_its_reason_beats_a_slow_withdrawal():
    async def body(d):
        d.ctx.set(d.dut.withdraw_distance, 200)
        await d.start()
        d.wire(40, 1)
        await d.settle()
        await d.bit(Gicd.ICENABLER, 40, 1)
        assert d.best() == 40
        d.wire(40, 0)
        await d.settle(20)
        assert d.best() is None, "no longer pending"
        d.wire(40, 1)
        await d.bit(Gicd.ISENABLER, 40, 1)
        await d.settle()
        await d.bit(Gicd.ICENABLER, 40, 1)
        assert d.best() == 40
        await d.route(40, 1)
        assert (d.best(0), d.best(1)) == (None, None), "moved while disabled"

    scenario(body)


def test_disabling_the_group_is_a_withdrawal_too():
    async def body(d):
        d.ctx.set(d.dut.withdraw_distance, 30)
        await d.start()
        d.wire(40, 1)
        await d.settle()
        await d.write(Gicd.CTLR, 0)
        control = GicdCtlr.from_bits(await d.read(Gicd.CTLR))
        assert (control.rwp, control.enable_group1, d.best()) == (1, 0, 40)
        await d.settle(40)
        assert GicdCtlr.from_bits(await d.read(Gicd.CTLR)).rwp == 0
        assert d.best() is None
        await d.write(Gicd.CTLR, ENABLED)
        await d.settle(2)
        assert d.best() == 40

    scenario(body)


def test_latencies_in_an_idle_system():
    """The figures of the docstrings."""

    async def body(d):
        await d.start(range(32, 96))
        await d.settle()
        d.wire(40, 1)
        assert await until(d.ctx, d.dut.candidate[0].valid, "wire to candidate") == 5
        await d.settle()
        d.wire(41, 1)
        d.wire(80, 1)
        await d.settle()
        await d.acknowledge(40)
        # Two rows with one signalable interrupt each.
        clocks = 1 + await until(d.ctx, d.dut.candidate[0].valid, "the next candidate")
        assert clocks == 4 + 2 * (3 + 1)
        await d.read(Gicd.CTLR)
        assert d.frame.clocks == 2
        await d.settle()
        await d.read(Gicd.ISENABLER + 4)
        assert d.frame.clocks == 4

    scenario(body)


def test_960_spis_are_as_quick_when_idle_and_bounded_when_not():
    async def body(d):
        for word in range(1, 31):
            await d.write(Gicd.IGROUPR + 4 * word, 0xFFFF_FFFF)
            await d.write(Gicd.ISENABLER + 4 * word, 0xFFFF_FFFF)
        await d.start([])
        await d.settle(200)
        d.wire(991, 1)
        assert await until(d.ctx, d.dut.candidate[0].valid, "wire to candidate") == 5
        assert d.best() == 991
        # Everything at once: each row is visited once, at 35 clocks a visit.
        d.ctx.set(d.dut.wires, (1 << 960) - 1)
        await until(d.ctx, d.dut.candidate[0].intid, "32 to be best", bound=30 * 40, level=32)
        for _ in range(30 * 40):
            await d.ctx.tick()
        await d.acknowledge(32)
        clocks = await until(d.ctx, d.dut.candidate[0].valid, "the next best", bound=30 * 40)
        assert d.best() == 33
        assert clocks > 960, "looked at all of them"

    scenario(body, cpus=1, spis=960)


def test_a_wire_is_noticed_in_bounded_time_whatever_else_goes_on():
    """Software reads and deactivates without pause while other wires toggle in every clock."""
    dut = Distributor(cpus=2, spis=64)
    started, waits = [], []
    others = 0x0000_0000_FFFF_FF00

    async def software(ctx):
        d = Actor(ctx, dut)
        await d.start([])
        await d.write(Gicd.IGROUPR + 8, 0xFFFF_FFFF)
        await d.write(Gicd.ISENABLER + 8, 0xFFFF_FFFF)
        started.append(True)
        while len(waits) < 8:
            await d.read(Gicd.ISPENDR + 4)
            assert d.frame.clocks <= 2 * 32 + 14

    async def deactivator(ctx):
        while len(waits) < 8:
            await Actor(ctx, dut).deactivate(33, cpu=1)

    async def wires(ctx):
        d = Actor(ctx, dut)
        while not started:
            await ctx.tick()
        while len(waits) < 8:
            for level in (1, 0):
                d.wire(95, level)
                clocks = 0
                while (d.best(0) == 95) != level:
                    ctx.set(dut.wires, ctx.get(dut.wires) ^ others)
                    await ctx.tick()
                    clocks += 1
                    assert clocks <= (2 + 1) * (32 + 7)
                waits.append(clocks)

    run(dut, software, deactivator, wires)
    assert max(waits) > 20, "there was something to wait for"


def test_a_neighbour_that_never_rests_cannot_hide_an_interrupt_for_ever():
    """Another CPU loses its candidate 70 again and again while the next after 50 is searched.

    Every row has something signalable, for a CPU that does not exist, so that a search takes
    long: 30 visits of 4 clocks. After 60 visits it must have ended, whatever the other's rhythm.
    """
    waits = []

    async def body(d):
        for row in range(1, 31):
            await d.write(Gicd.IGROUPR + 4 * row, 0xFFFF_FFFF)
            await d.write(Gicd.ISENABLER + 4 * row, 0xFFFF_FFFF)
            await d.route(32 * row, 5)
            await d.bit(Gicd.ISPENDR, 32 * row, 1)
        await d.start([])
        await d.route(70, 1)
        await d.bit(Gicd.ISPENDR, 90, 1)

        async def disturb(rhythm):
            """70 stops being pending and is again, before its row can be visited in between."""
            clocks = rhythm
            for register in (Gicd.ICPENDR, Gicd.ISPENDR):
                await d.bit(register, 70, 1)
                clocks += d.frame.clocks + 1
            await d.settle(rhythm)
            return clocks

        for rhythm in range(20, 60, 4):
            await d.bit(Gicd.ISPENDR, 50, 1)
            await d.settle(400)
            for _ in range(8):
                await disturb(rhythm)
            await d.acknowledge(50)
            await d.bit(Gicd.ICACTIVER, 50, 1)
            clocks = 0
            while d.best(0) is None and clocks < 2000:
                clocks += await disturb(rhythm)
            waits.append(clocks)

    scenario(body, spis=960)
    assert max(waits) < 60 * 5 + 80


@pytest.mark.parametrize("clock", range(-8, 3))
def test_the_interrupt_acknowledged_is_the_one_that_becomes_active(clock):
    """A better one comes in any clock around the acknowledgement, and takes its place or waits."""

    async def body(d):
        await d.start()
        await d.priority(50, 0x80)
        await d.priority(40, 0x40)
        d.wire(50, 1)
        await d.settle()
        taken = None
        for now in range(-8, 4):
            if now == clock:
                d.wire(40, 1)
            if now == 0:
                taken = d.best()
                assert taken == (40 if clock <= -5 else 50)
                await d.acknowledge(taken)
            else:
                await d.ctx.tick()
        await d.settle()
        other = {40: 50, 50: 40}[taken]
        assert (await d.state(taken), await d.state(other)) == ((1, 1), (1, 0))
        assert d.best() == other

    scenario(body)


def test_any_access_is_answered():
    """Random offsets, lanes and values: an answer in bounded time, no error, and still working."""
    rng = random.Random(8)

    async def body(d):
        for _ in range(400):
            address = rng.choice((rng.randrange(0, 0x1000, 4), rng.randrange(0, 0x10000, 4)))
            d.wire(rng.randrange(32, 96), rng.randrange(2))
            if rng.randrange(2):
                await d.write(address, rng.getrandbits(32), rng.randrange(16))
            else:
                await d.read(address)
            assert d.frame.clocks <= 2 * 32 + 14
        d.ctx.set(d.dut.wires, 0)
        for word in (4, 8):
            await d.write(Gicd.ICENABLER + word, 0xFFFF_FFFF)
            await d.write(Gicd.ICACTIVER + word, 0xFFFF_FFFF)
            await d.write(Gicd.ICPENDR + word, 0xFFFF_FFFF)
            await d.write(Gicd.IGROUPR + word, 0xFFFF_FFFF)
        await d.start()
        await d.route(40, 0)
        await d.bit(Gicd.ISPENDR, 40, 1)
        await d.settle()
        assert d.best() == 40

    scenario(body)


@pytest.mark.parametrize("seed", range(3))
def test_against_the_reference_model(seed):
    """Random registers, wires, acknowledgements and deactivations; equal after every step."""
    rng = random.Random(seed)
    shape = Shape(cpus=2, spis=64, lpis=0, its=False)
    reference = ReferenceDistributor(shape, Implementation())
    intids = [32, 33, 40, 63, 64, 70, 95]

    async def body(d):
        d.ctx.set(d.dut.awake, 3)

        async def write(address, value, lanes=0xF):
            await d.write(address, value, lanes)
            mask = sum(0xFF << 8 * lane for lane in range(4) if lanes >> lane & 1)
            reference.write(int(address), value & mask, mask)

        await write(Gicd.CTLR, ENABLED)
        for word in (4, 8):
            await write(Gicd.IGROUPR + word, 0xFFFF_FFFF)
            await write(Gicd.ISENABLER + word, 0xFFFF_FFFF)
        for _ in range(150):
            intid = rng.choice(intids)
            word, bit = 4 * (intid // 32), 1 << intid % 32
            match rng.randrange(8):
                case 0 | 1:
                    level = rng.randrange(2)
                    d.wire(intid, level)
                    reference.spis.set_line(intid, bool(level))
                case 2:
                    array = Gicd.IGROUPR + 0x80 * rng.randrange(1, 7)
                    await write(array + word, bit)
                case 3:
                    group = await d.read(Gicd.IGROUPR + word)
                    choice = rng.choice((group | bit, group & ~bit, 0xFFFF_FFFF))
                    await write(Gicd.IGROUPR + word, choice)
                case 4:
                    match rng.randrange(3):
                        case 0:
                            lane = intid & 3
                            address = Gicd.IPRIORITYR + (intid & ~3)
                            await write(address, rng.getrandbits(8) << 8 * lane, 1 << lane)
                        case 1:
                            await write(Gicd.IROUTER + 8 * intid, rng.choice((0, 0, 1, 1, 2, 256)))
                        case 2:
                            await write(Gicd.ICFGR + intid // 16 * 4, rng.getrandbits(32))
                case 5:
                    register = rng.choice((Gicd.SETSPI_NSR, Gicd.CLRSPI_NSR))
                    await write(register, intid)
                case 6:
                    await d.deactivate(intid, rng.randrange(2))
                    reference.spis.deactivate(intid)
                case 7:
                    cpu = rng.randrange(2)
                    if d.best(cpu) is not None:
                        reference.spis.acknowledge(d.best(cpu))
                        await d.acknowledge(d.best(cpu), cpu)
            await d.settle(60)
            for cpu in range(2):
                found = d.ctx.get(d.dut.candidate[cpu])
                expected = reference.candidate(cpu)
                assert ((found.priority, found.intid) if found.valid else None) == expected, (
                    f"candidate of CPU {cpu}"
                )
            row = rng.choice((4, 8))
            for register in (Gicd.ISENABLER, Gicd.ISPENDR, Gicd.ISACTIVER, Gicd.IGROUPR):
                assert await d.read(register + row) == reference.read(int(register) + row)

    scenario(body)


def test_a_bank_of_one_row_has_no_routes():
    """The redistributor's shape of the bank: every interrupt goes to the one CPU there is."""
    dut = InterruptBank(first=0, rows=1, cpus=1, routed=False, unit=0, software=16)
    assert len(dut.wires) == 32
    assert len(dut.searching) == 1
