"""The assembled interrupt controller: whole stories from wire to deactivation."""

import random
import re
from collections import Counter

import pytest

from hdl.bus import RequesterKind
from hdl.gic.gic import Gic
from hdl.registers import gits
from hdl.registers.gicd import GicdRegister as Gicd
from hdl.registers.gicr import GicrRegister as Gicr
from hdl.registers.gits import GitsRegister
from hdl.registers.ich import IchHcr, IchLr, IchVmcr, ListState
from hdl.registers.sysreg import SystemRegister
from hdl.tap import EventKind
from sim.reference import Implementation, ReferenceMachine, Shape
from tests.unit.gic_drivers import Frame, Sysregs, run, until
from tests.unit.memory_target import MemoryTarget

SETTLED = 60


class Cpu:
    """One CPU's system registers and its redistributor."""

    def __init__(self, ctx, gic, index):
        self.ctx = ctx
        self.index = index
        self.sysregs = Sysregs(ctx, gic.sysreg[index])
        self.frame = Frame(ctx, gic.redistributors[index], requester=index)
        self.read, self.write = self.sysregs.read, self.sysregs.write

    async def start(self, *, mode=0):
        await self.frame.write(Gicr.WAKER, 0)
        await self.frame.write(Gicr.IGROUPR0, 0xFFFF_FFFF)
        await self.frame.write(Gicr.ISENABLER0, 0xFFFF_FFFF)
        await self.write("ICC_PMR_EL1", 0xFF)
        await self.write("ICC_CTLR_EL1", mode << 1)
        await self.write("ICC_IGRPEN1_EL1", 1)

    async def take(self):
        return await self.read("ICC_IAR1_EL1")

    async def eoi(self, intid):
        await self.write("ICC_EOIR1_EL1", intid)

    async def dir(self, intid):
        await self.write("ICC_DIR_EL1", intid)

    async def send(self, sgi, targets):
        await self.write("ICC_SGI1R_EL1", sgi << 24 | targets)


class Machine:
    """A GIC and everybody around it."""

    def __init__(self, ctx, gic):
        self.ctx = ctx
        self.gic = gic
        self.gicd = Frame(ctx, gic.distributor)
        self.cpus = [Cpu(ctx, gic, i) for i in range(len(gic.irq))]

    async def start(self, *, mode=0):
        await self.gicd.write(Gicd.CTLR, 2)
        for word in (4, 8):
            await self.gicd.write(Gicd.IGROUPR + word, 0xFFFF_FFFF)
            await self.gicd.write(Gicd.ISENABLER + word, 0xFFFF_FFFF)
        for cpu in self.cpus:
            await cpu.start(mode=mode)

    def wire(self, intid, level):
        wires = self.ctx.get(self.gic.wires) & ~(1 << intid - 32)
        self.ctx.set(self.gic.wires, wires | level << intid - 32)

    async def settle(self, clocks=SETTLED):
        await self.ctx.tick().repeat(clocks)

    def irq(self, cpu):
        return self.ctx.get(self.gic.irq[cpu])


def story(body, *others, memory=None, **options):
    """Runs ``body(machine)`` and ``others``; the records as ``(channel, kind, unit, id, data)``."""
    gic = Gic(**options)

    def actor(role):
        async def testbench(ctx):
            await role(Machine(ctx, gic))

        return testbench

    targets = [MemoryTarget(bus) for bus in gic.table_buses]
    for target in targets:
        target.words = memory if memory is not None else {}
    events = run(
        gic,
        *(actor(role) for role in (body, *others)),
        taps=gic.taps,
        background=[target.run for target in targets],
    )
    return [(gic.channels[number], *rest) for number, *rest in events]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"cpus": 17}, "Gic: cpus must be between 1 and 16, not 17"),
        ({"spis": 33}, "Distributor: spis must be a multiple of 32 between 32 and 960, not 33"),
        ({"its": True}, "Gic: an ITS needs LPIs, not lpis=0"),
        ({"lpis": 16}, "Number of LPIs must be between 32 and 57344, not 16"),
    ],
)
def test_parameters(options, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        Gic(**options)


def test_channels_are_named_once():
    gic = Gic(cpus=3, lpis=32)
    assert len(set(gic.channels)) == len(gic.channels) == len(gic.taps)
    assert gic.tables == ("lpi0", "lpi1", "lpi2")


def test_latencies_in_an_idle_system():
    async def body(m):
        await m.start()
        await m.settle()
        m.wire(40, 1)
        assert await until(m.ctx, m.gic.irq[0], "irq from a wire") == 6
        await m.settle()
        assert await m.cpus[0].take() == 40
        m.wire(40, 0)
        await m.settle()
        await m.cpus[0].eoi(40)
        await m.settle()
        port = m.gic.sysreg[0].request
        m.ctx.set(
            port.payload,
            {"register": SystemRegister.ICC_SGI1R_EL1, "write": 1, "data": 3 << 24 | 0b10},
        )
        m.ctx.set(port.valid, 1)
        await m.ctx.tick()
        m.ctx.set(port.valid, 0)
        assert 1 + await until(m.ctx, m.gic.irq[1], "irq from an SGI") == 7
        assert not m.irq(0)

    story(body)


def test_life_of_an_spi_in_both_eoi_modes():
    async def body(m):
        for mode in (0, 1):
            await m.start(mode=mode)
            m.wire(40, 1)
            await m.settle()
            assert await m.cpus[0].take() == 40
            assert not m.irq(0)
            m.wire(40, 0)
            await m.cpus[0].eoi(40)
            await m.settle()
            active = await m.gicd.read(Gicd.ISACTIVER + 4)
            assert active == (0 if mode == 0 else 1 << 8)
            await m.cpus[1].dir(40)  # any CPU may deactivate an SPI
            await m.settle()
            assert await m.gicd.read(Gicd.ISACTIVER + 4) == 0

    events = story(body)
    acts = [(kind, unit) for _, kind, unit, intid, _ in events if intid == 40 and unit < 2]
    assert acts == [
        (EventKind.ACKNOWLEDGE, 0),
        (EventKind.EOI, 0),
        (EventKind.DEACTIVATE, 0),
        (EventKind.ACKNOWLEDGE, 0),
        (EventKind.EOI, 0),
        (EventKind.DEACTIVATE, 1),
    ]


def test_an_acknowledge_right_after_another_finds_the_next_best():
    """The second IAR1 waits for the search instead of missing what has been pending for long."""

    async def body(m):
        await m.start(mode=1)
        for intid, priority in ((40, 0xA0), (70, 0x90), (41, 0x80)):
            await m.gicd.write8(Gicd.IPRIORITYR + intid, priority)
            m.wire(intid, 1)
        await m.settle()
        for expected in (41, 70, 40, 1023):
            assert await m.cpus[0].take() == expected
            assert m.cpus[0].sysregs.clocks <= 20
            if expected != 1023:
                await m.cpus[0].eoi(expected)

    story(body)


def test_sgis_reach_exactly_their_targets():
    async def body(m):
        await m.start()
        await m.cpus[0].send(2, 0b101)
        await m.cpus[1].write("ICC_SGI1R_EL1", 9 << 24 | 1 << 40)
        await m.settle()
        expected = ([2, 9], [], [2, 9])
        for cpu, sgis in zip(m.cpus, expected, strict=True):
            for sgi in sgis:
                assert await cpu.take() == sgi
                await cpu.eoi(sgi)
            assert await cpu.take() == 1023

    story(body, cpus=3)


@pytest.mark.parametrize("distance", [0, 60])
@pytest.mark.parametrize("erratum", [0, 1])
def test_w11_deactivation_after_the_interrupt_moved(distance, erratum):
    """Active at CPU 0, moved to CPU 1 meanwhile: the message in flight counts, or is lost."""

    async def body(m):
        m.ctx.set(m.gic.deactivate_distance, distance)
        m.ctx.set(m.gic.lose_foreign_deactivate, erratum)
        await m.start()
        m.wire(40, 1)
        await m.settle()
        assert await m.cpus[0].take() == 40
        if distance:
            await m.cpus[0].eoi(40)
            await m.gicd.write(Gicd.IROUTER + 8 * 40, 1)  # overtakes the message
            assert await m.gicd.read(Gicd.ISACTIVER + 4) == 1 << 8, "still in flight"
        else:
            await m.gicd.write(Gicd.IROUTER + 8 * 40, 1)
            await m.cpus[0].eoi(40)
        await m.settle(2 * SETTLED)
        assert (m.irq(0), m.irq(1)) == (0, 1 - erratum)
        await m.gicd.write(Gicd.ICACTIVER + 4, 1 << 8)  # Linux's workaround closes the window
        await m.settle()
        assert (m.irq(0), m.irq(1)) == (0, 1)

    story(body)


@pytest.mark.parametrize("wait_for_rwp", [False, True])
def test_moving_without_waiting_for_rwp_can_still_interrupt_the_old_cpu(wait_for_rwp):
    async def body(m):
        m.ctx.set(m.gic.withdraw_distance, 50)
        await m.start()
        m.wire(40, 1)
        await m.settle()
        await m.gicd.write(Gicd.ICENABLER + 4, 1 << 8)
        if wait_for_rwp:
            for _ in range(40):
                if not await m.gicd.read(Gicd.CTLR) >> 31:
                    break
            else:
                raise AssertionError("RWP stayed high")
        assert await m.cpus[0].take() == (1023 if wait_for_rwp else 40)

    story(body)


@pytest.mark.parametrize("seed", range(3))
def test_no_interrupt_is_at_two_cpus_however_it_is_moved(seed):
    """Two CPUs acknowledge as fast as they can while the SPIs are rerouted, masked, repended.

    Between two acknowledgements of an SPI there is a deactivation, and nothing is made up: no
    SPI is acknowledged more often than it became pending.
    """
    rng = random.Random(seed)
    intids = (40, 41, 70)
    rounds = 60
    busy = [True]

    async def body(m):
        m.ctx.set(m.gic.deactivate_distance, rng.choice((0, 3, 17)))
        m.ctx.set(m.gic.withdraw_distance, rng.choice((0, 9)))
        await m.gicd.write(Gicd.ICFGR + 8, 0xAAAA_AAAA)
        await m.gicd.write(Gicd.ICFGR + 16, 0xAAAA_AAAA)
        await m.start()
        for _ in range(rounds):
            intid = rng.choice(intids)
            word, bit = 4 * (intid // 32), 1 << intid % 32
            match rng.randrange(5):
                case 0 | 1:
                    m.wire(intid, 1)
                    await m.settle(rng.randrange(1, 4))
                    m.wire(intid, 0)
                case 2:
                    await m.gicd.write(Gicd.IROUTER + 8 * intid, rng.randrange(2))
                case 3:
                    await m.gicd.write(Gicd.ICENABLER + word, bit)
                    await m.gicd.write(Gicd.IROUTER + 8 * intid, rng.randrange(2))
                    await m.gicd.write(Gicd.ISENABLER + word, bit)
                case 4:
                    await m.gicd.write(Gicd.ISPENDR + word, bit)
            await m.settle(rng.randrange(1, 12))
        await m.settle(400)
        busy[0] = False

    def taker(index):
        async def role(m):
            await m.settle(250)
            cpu = m.cpus[index]
            while busy[0]:
                intid = await cpu.take()
                if intid != 1023:
                    await m.settle(rng.randrange(1, 20))
                    await cpu.eoi(intid)

        return role

    events = story(body, taker(0), taker(1))
    active, counts = set(), Counter()
    for _, kind, _, intid, _ in events:
        if intid not in intids:
            continue
        if kind is EventKind.ACKNOWLEDGE:
            assert intid not in active, f"{intid} acknowledged twice"
            active.add(intid)
            counts["taken", intid] += 1
        elif kind is EventKind.DEACTIVATE:
            active.discard(intid)
        elif kind is EventKind.PENDING_SET:
            counts["pended", intid] += 1
    assert not active
    for intid in intids:
        assert counts["taken", intid] == counts["pended", intid] > 0


def list_register(**fields):
    return IchLr.const({"group": 1, "priority": 0xA0, **fields}).as_bits()


async def start_guest(cpu):
    await cpu.write("ICH_HCR_EL2", IchHcr.const({"en": 1}).as_bits())
    await cpu.write("ICH_VMCR_EL2", IchVmcr.const({"veng1": 1, "vpmr": 0xFF}).as_bits())


def test_a_guest_ends_a_physical_interrupt_without_its_host():
    """The VFIO story: EOImode 1, forwarded by list register; the level line fires again."""

    async def body(m):
        await m.start(mode=1)
        cpu = m.cpus[1]
        await m.gicd.write(Gicd.IROUTER + 8 * 40, 1)
        m.wire(40, 1)
        await m.settle()
        assert await cpu.take() == 40
        await cpu.eoi(40)
        await start_guest(cpu)
        lr = list_register(vintid=51, pintid=40, hw=1, state=ListState.PENDING)
        await cpu.write("ICH_LR0_EL2", lr)
        await m.settle()
        assert m.ctx.get(m.gic.virq) == 0b10
        assert not m.irq(1), "active, so it cannot fire again"
        assert await cpu.read("ICV_IAR1_EL1") == 51
        await cpu.write("ICV_EOIR1_EL1", 51)
        await m.settle()
        assert (await m.gicd.read(Gicd.ISACTIVER + 4), m.irq(1)) == (0, 1)

    events = story(body)
    assert ("deactivate1", EventKind.DEACTIVATE, 1, 40, 0) in events


def test_a_guest_can_hold_a_ppi_too():
    async def body(m):
        await m.start(mode=1)
        cpu = m.cpus[0]
        m.ctx.set(m.gic.ppis[0], 1 << 11)  # 27: the virtual timer
        await m.settle()
        assert await cpu.take() == 27
        await cpu.eoi(27)
        await start_guest(cpu)
        lr = list_register(vintid=27, pintid=27, hw=1, state=ListState.ACTIVE)
        await cpu.write("ICH_LR3_EL2", lr)
        m.ctx.set(m.gic.ppis[0], 0)
        await cpu.write("ICV_EOIR1_EL1", 27)
        await m.settle()
        assert await cpu.frame.read(Gicr.ISACTIVER0) == 0

    story(body)


def test_maintenance_is_ppi_25_as_a_level():
    async def body(m):
        await m.start()
        cpu = m.cpus[1]
        await start_guest(cpu)
        lr = list_register(vintid=40, pintid=1 << 9, state=ListState.ACTIVE)
        await cpu.write("ICH_LR0_EL2", lr)
        await m.settle()
        assert not m.irq(1)
        await cpu.write("ICV_EOIR1_EL1", 40)
        await m.settle()
        assert (m.irq(0), m.irq(1)) == (0, 1)
        assert await cpu.take() == 25
        await cpu.eoi(25)
        await m.settle()
        assert m.irq(1), "a level: again until the list register is cleared"
        await cpu.write("ICH_LR0_EL2", 0)
        await m.settle()
        assert not m.irq(1)

    story(body)


def test_system_registers_that_belong_to_nobody():
    async def body(m):
        cpu = m.cpus[0]
        known = {register.value for register in SystemRegister} - {SystemRegister.LAPIC_INTA}
        for number in set(range(64)) - known:
            for write in (0, 1):
                response = await cpu.sysregs.access(number, write)
                assert (response.error, response.data) == (1, 0), hex(number)

    story(body, cpus=1, spis=32)


PROPERTIES = 0x4000_0000


def test_direct_lpis_from_register_to_deactivation():
    """SETLPIR to IAR1, in order of the table's priorities; no active state, no deactivation."""
    words = {PROPERTIES: 0xA3 | 0x83 << 8 | 0xA2 << 16}

    async def body(m):
        await m.start(mode=1)
        cpu = m.cpus[0]
        await cpu.frame.write64(Gicr.PROPBASER, PROPERTIES | 13)
        await cpu.frame.write64(Gicr.PENDBASER, 1 << 62)
        await cpu.frame.write(Gicr.CTLR, 1)
        for intid in (8192, 8193, 8194):
            await cpu.frame.write(Gicr.SETLPIR, intid)
        for _ in range(40):
            if not await cpu.frame.read(Gicr.SYNCR):
                break
        else:
            raise AssertionError("SYNCR.Busy stayed high")
        await m.settle()
        assert m.irq(0)
        await cpu.send(1, 0b1)
        await m.settle()
        for expected in (1, 8193, 8192, 1023):
            assert await cpu.take() == expected
            if expected != 1023:
                await cpu.eoi(expected)
                await cpu.dir(expected)
            await m.settle()
        # 8194 is disabled and waits; the group gates LPIs too.
        await cpu.frame.write(Gicr.SETLPIR, 8192)
        await m.settle()
        assert m.irq(0)
        await m.gicd.write(Gicd.CTLR, 0)
        await m.settle()
        assert (m.irq(0), await cpu.take()) == (0, 1023)
        await m.gicd.write(Gicd.CTLR, 2)
        words[PROPERTIES] |= 1 << 16
        await cpu.frame.write(Gicr.INVLPIR, 8194)
        await m.settle()
        taken = {await cpu.take()}
        await cpu.eoi(0)
        await m.settle()
        taken.add(await cpu.take())
        assert taken == {8192, 8194}

    events = story(body, cpus=1, spis=32, lpis=32, memory=words)
    ended = [intid for channel, *_, intid, _ in events if channel == "deactivate0"]
    assert ended == [1]


QUEUE, DEVICES, COLLECTIONS, EVENTS = (0x4001_0000 + 0x1_0000 * i for i in range(4))
VALID = 1 << 63


def test_a_message_becomes_an_lpi_at_the_cpu_of_its_collection():
    """Through the ITS: mapped, translated, taken at CPU 1; then moved while pending to CPU 0."""
    words = {PROPERTIES: 0xA3A3_A3A3}

    def queue(position, *commands):
        for n, command in enumerate(commands, position):
            data = gits.command_bytes(command)
            for i in range(0, len(data), 4):
                word = int.from_bytes(data[i : i + 4], "little")
                words[QUEUE + gits.COMMAND_BYTES * n + i] = word
        return gits.COMMAND_BYTES * (position + len(commands))

    async def body(m):
        await m.start()
        its = Frame(m.ctx, m.gic.its, requester=0)
        device = Frame(m.ctx, m.gic.its, requester=0x18, kind=RequesterKind.DEVICE)

        async def consume(end):
            await its.write(GitsRegister.CWRITER, end)
            for _ in range(400):
                if await its.read(GitsRegister.CREADR) == end:
                    return
            raise AssertionError("the commands were not consumed")

        for cpu in m.cpus:
            assert not await cpu.frame.read(Gicr.TYPER) & 1 << 3, "no direct LPIs beside an ITS"
            await cpu.frame.write64(Gicr.PROPBASER, PROPERTIES | 13)
            await cpu.frame.write64(Gicr.PENDBASER, 1 << 62)
            await cpu.frame.write(Gicr.CTLR, 1)
        await its.write64(GitsRegister.BASER0, VALID | DEVICES)
        await its.write64(GitsRegister.BASER1, VALID | COLLECTIONS)
        await its.write64(GitsRegister.CBASER, VALID | QUEUE)
        await its.write(GitsRegister.CTLR, 1)
        end = queue(
            0,
            gits.encode_mapd(0x18, 5, EVENTS),
            gits.encode_mapc(0, 0),
            gits.encode_mapc(1, 1),
            gits.encode_mapti(0x18, 3, 8195, 1),
            gits.encode_sync(1),
        )
        await consume(end)
        await device.write(gits.TRANSLATION_FRAME + 0x40, 3)
        await until(m.ctx, m.gic.irq[1], "the LPI at CPU 1")
        assert await m.cpus[1].take() == 8195
        await m.cpus[1].eoi(8195)
        await device.write(gits.TRANSLATION_FRAME + 0x40, 3)
        # Cached now, of a link that is 6 clocks away, 2 to a candidate, 1 to the line.
        await until(m.ctx, m.gic.irq[1], "the LPI at CPU 1 again", bound=12)
        await consume(queue(5, gits.encode_movi(0x18, 3, 0), gits.encode_sync(1)))
        await m.settle()
        assert (m.irq(0), m.irq(1)) == (1, 0)
        assert await m.cpus[1].take() == 1023
        assert await m.cpus[0].take() == 8195

    events = story(body, lpis=32, its=True, memory=words)
    moved = [e for e in events if e[1] is EventKind.PENDING_MOVED]
    assert [(e[2], e[3], e[4]) for e in moved] == [(1, 8195, 0)]


@pytest.mark.parametrize("seed", range(2))
def test_against_the_reference_machine(seed):
    """Random software on two CPUs: every value read and every line agree at quiescence."""
    rng = random.Random(seed)
    shape = Shape(cpus=2, spis=64, lpis=0, its=False, local_apics=False, endpoints=(), ram_bytes=8)
    choices = Implementation(
        lr_mask=0xF0FF_1FFF_0000_FFFF,
        common_lpi_affinity=1,
    )
    model = ReferenceMachine(shape, choices)
    gicd, gicr = model.addresses.gicd, model.addresses.redistributor
    spis, private = (33, 40, 64, 95), (0, 9, 16, 25, 31)

    def array(base, intid):
        """One random access around ``intid``: offset, value, bytes."""
        word, bit = 4 * (intid // 32), 1 << intid % 32
        match rng.randrange(10):
            case 0:
                return base + Gicd.IPRIORITYR + intid, rng.getrandbits(8), 1
            case 1:
                return base + Gicd.ICFGR + 4 * (intid // 16), rng.getrandbits(32), 4
            case 2:
                return base + Gicd.IGROUPR + word, rng.getrandbits(32) | bit, 4
            case n if n < 8:
                offset = Gicd.IGROUPR + 0x80 * rng.randrange(1, 7)
                return base + offset + word, bit, 4
            case _:
                return base + Gicd.ISENABLER + word, rng.getrandbits(32) | bit, 4

    async def body(m):
        async def store(cpu, address, value, size=4):
            frame, offset = m.gicd, address - gicd
            if address >= gicr(0):
                index = (address - gicr(0)) // 0x2_0000
                frame, offset = m.cpus[index].frame, address - gicr(index)
            lane = offset & 3
            select = ((1 << size) - 1) << lane
            await frame.write(offset & ~3, value << 8 * lane, select)
            model.store(cpu, address, value, size)

        async def load(cpu, address):
            frame, offset = m.gicd, address - gicd
            if address >= gicr(0):
                index = (address - gicr(0)) // 0x2_0000
                frame, offset = m.cpus[index].frame, address - gicr(index)
            assert await frame.read(offset) == model.load(cpu, address), hex(address)

        async def write_sysreg(cpu, name, value):
            await m.cpus[cpu].write(name, value)
            model.write_sysreg(cpu, name, value)

        async def read_sysreg(cpu, name):
            value = await m.cpus[cpu].read(name)
            assert value == model.read_sysreg(cpu, name), name
            return value

        await store(0, gicd, 2)
        for word in (4, 8):
            await store(0, gicd + Gicd.IGROUPR + word, 0xFFFF_FFFF)
            await store(0, gicd + Gicd.ISENABLER + word, 0xFFFF_FFFF)
        for cpu in range(2):
            await store(cpu, gicr(cpu) + Gicr.WAKER, 0)
            await store(cpu, gicr(cpu) + Gicr.IGROUPR0, 0xFFFF_FFFF)
            await store(cpu, gicr(cpu) + Gicr.ISENABLER0, 0xFFFF_FFFF)
            await write_sysreg(cpu, "ICC_PMR_EL1", 0xFF)
            await write_sysreg(cpu, "ICC_IGRPEN1_EL1", 1)

        running = [[], []]
        for _ in range(180):
            cpu = rng.randrange(2)
            match rng.randrange(12):
                case 0 | 1:
                    intid, level = rng.choice(spis), rng.randrange(2)
                    m.wire(intid, level)
                    model.set_wire(intid, bool(level))
                case 2:
                    intid, level = rng.choice((16, 31)), rng.randrange(2)
                    ppis = m.ctx.get(m.gic.ppis[cpu]) & ~(1 << intid - 16)
                    m.ctx.set(m.gic.ppis[cpu], ppis | level << intid - 16)
                    model.set_ppi(cpu, intid, bool(level))
                case 3 | 4:
                    await store(cpu, *array(gicd, rng.choice(spis)))
                case 5:
                    base = gicr(rng.randrange(2)) + 0x1_0000
                    await store(cpu, *array(base, rng.choice(private)))
                case 6:
                    route = gicd + Gicd.IROUTER + 8 * rng.choice(spis)
                    await store(cpu, route, rng.randrange(2))
                case 7:
                    targets = rng.choice((1, 2, 3, 1 << 40, 1 << 16 | 3))
                    await write_sysreg(cpu, "ICC_SGI1R_EL1", rng.choice((0, 9)) << 24 | targets)
                case 8:
                    name, value = rng.choice(
                        (
                            ("ICC_PMR_EL1", rng.choice((0x80, 0xFF, 0xFF))),
                            ("ICC_BPR1_EL1", rng.randrange(8)),
                            ("ICC_CTLR_EL1", rng.choice((0, 2))),
                            ("ICC_DIR_EL1", rng.choice(spis + private)),
                        )
                    )
                    await write_sysreg(cpu, name, value)
                case 9 | 10:
                    intid = await read_sysreg(cpu, "ICC_IAR1_EL1")
                    if intid != 1023:
                        running[cpu].append(intid)
                case 11:
                    if running[cpu]:
                        await write_sysreg(cpu, "ICC_EOIR1_EL1", running[cpu].pop())
            await m.settle(45)
            for index in range(2):
                assert m.irq(index) == model.irq(index), f"line of CPU {index}"
            await read_sysreg(cpu, "ICC_HPPIR1_EL1")
            await read_sysreg(cpu, "ICC_RPR_EL1")
            word = rng.choice((4, 8))
            for register in (Gicd.ISPENDR, Gicd.ISACTIVER):
                await load(cpu, gicd + register + word)
                await load(cpu, gicr(cpu) + 0x1_0000 + register)

    story(body)
