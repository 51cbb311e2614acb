"""Local APIC and message bus, against the rules their docstrings state."""

import random

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.sim import Simulator

from hdl.apic.local_apic import LocalApic
from hdl.apic.message_bus import ApicMessageBus
from hdl.bus import RequesterKind
from hdl.registers.lapic import (
    REGISTER_BASE,
    DeliveryMode,
    LapicRegister,
    MessageFault,
    Shorthand,
    interrupt_command,
    message_address,
    message_data,
)
from hdl.registers.sysreg import SystemRegister
from hdl.tap import EventKind, LineKind

BOUND = 300
RESET_CLOCKS = 33
ENABLED = 0x1FF
SPURIOUS = 0xFF


async def offer(ctx, stream, payload, what):
    """Hold ``payload`` until it is taken; the number of clocks it was held back."""
    ctx.set(stream.payload, payload)
    ctx.set(stream.valid, 1)
    for held in range(BOUND):
        _, _, ready = await ctx.tick().sample(stream.ready)
        if ready:
            ctx.set(stream.valid, 0)
            return held
    raise AssertionError(f"{what} was not taken within {BOUND} clocks")


async def transact(ctx, port, payload, what):
    """One request and its answer; the answer and the clocks between them."""
    await offer(ctx, port.request, payload, what)
    ctx.set(port.response.ready, 1)
    for waited in range(1, BOUND):
        response = port.response
        _, _, valid, answer = await ctx.tick().sample(response.valid, response.payload)
        if valid:
            ctx.set(response.ready, 0)
            return answer, waited
    raise AssertionError(f"{what} was not answered within {BOUND} clocks")


class Cpu:
    """What a CPU can do to its local APIC."""

    def __init__(self, ctx, apic):
        self.ctx, self.apic = ctx, apic
        self.waited = None

    async def access(self, offset, *, value=None, select=0xF):
        request = {
            "address": REGISTER_BASE + offset,
            "write": value is not None,
            "data": value or 0,
            "select": select,
        }
        answer, self.waited = await transact(
            self.ctx, self.apic.private, request, f"access to {offset:#x}"
        )
        return answer

    async def read(self, offset):
        answer = await self.access(offset)
        assert not answer.error
        return answer.data

    async def write(self, offset, value):
        answer = await self.access(offset, value=value)
        assert not answer.error
        assert answer.data == 0

    async def sysreg(self, register, write=0):
        request = {"register": register, "write": write, "data": 0}
        answer, self.waited = await transact(self.ctx, self.apic.inta, request, "acknowledge")
        return answer

    async def acknowledge(self):
        answer = await self.sysreg(SystemRegister.LAPIC_INTA)
        assert not answer.error
        return answer.data

    async def read_set(self, first):
        words = [await self.read(first + 0x10 * i) for i in range(8)]
        return sum(word << 32 * i for i, word in enumerate(words))

    async def send(self, *args, **fields):
        high, low = interrupt_command(*args, **fields)
        await self.write(LapicRegister.ICR_HIGH, high)
        await self.write(LapicRegister.ICR_LOW, low)

    async def sent(self):
        """Wait until the interrupt sent last is delivered."""
        for _ in range(BOUND):
            if not await self.read(LapicRegister.ICR_LOW) & 1 << 12:
                return
        raise AssertionError(f"the IPI was not delivered within {BOUND} reads of ICR_LOW")


class Log:
    """Everything on the tap, with the clock it was seen in, and the levels of some signals."""

    def __init__(self, taps, **signals):
        self.taps, self.signals = taps, signals
        self.clock = -1
        self.events = []
        self.levels = {name: [] for name in signals}

    async def watch(self, ctx):
        wanted = [*self.signals.values()]
        for tap in self.taps:
            wanted += [tap.valid, tap.record]
        async for _, _, *values in ctx.tick().sample(*wanted):
            self.clock += 1
            for name in self.signals:
                self.levels[name].append(values.pop(0))
            for valid, record in zip(values[::2], values[1::2], strict=True):
                if valid:
                    self.events.append((self.clock, record))

    def last(self, name, level):
        """The clock in which the signal last took on this level."""
        levels = self.levels[name]
        return max(
            i for i, now in enumerate(levels) if now == level and (i == 0 or levels[i - 1] != level)
        )

    def of(self, *kinds):
        return [record for _, record in self.events if record.kind in kinds]

    def clear(self):
        self.events.clear()


def simulate(top, log, testbench):
    sim = Simulator(top)
    sim.add_clock(1e-6)
    sim.add_testbench(log.watch, background=True)
    sim.add_testbench(testbench)
    sim.run()


def alone(scenario, *, index=0, enable=True):
    """Run ``scenario(cpu, apic, log, message)`` on one APIC whose messages the test sends."""
    apic = LocalApic(index)
    link = apic.link
    log = Log(
        apic.tap,
        intr=apic.intr,
        message=link.message.valid & link.message.ready,
        access=apic.private.request.valid & apic.private.request.ready,
        inta=apic.inta.request.valid & apic.inta.request.ready,
    )

    async def testbench(ctx):
        cpu = Cpu(ctx, apic)

        async def message(vector, level=0):
            payload = {"vector": vector, "level": level}
            held = await offer(ctx, link.message, payload, f"message {vector:#x}")
            await ctx.tick().repeat(2)
            return held

        if enable:
            await cpu.write(LapicRegister.SVR, ENABLED)
        log.clear()
        await scenario(cpu, apic, log, message)

    simulate(apic, log, testbench)
    return log


class Machine:
    """Some APICs behind the message bus."""

    def __init__(self, cpus):
        self.apics = [LocalApic(i) for i in range(cpus)]
        self.bus = ApicMessageBus(cpus)
        self.top = Module()
        self.top.submodules.bus = self.bus
        for i, apic in enumerate(self.apics):
            self.top.submodules[f"apic{i}"] = apic
            wiring.connect(self.top, apic.link, self.bus.link[i])
        self.log = Log(
            [self.bus.tap, *(tap for apic in self.apics for tap in apic.tap)],
            taken=self.bus.bus.request.valid & self.bus.bus.request.ready,
            **{f"intr{i}": apic.intr for i, apic in enumerate(self.apics)},
            **{f"ipi{i}": apic.link.ipi.valid for i, apic in enumerate(self.apics)},
        )

    def run(self, scenario, *, enable=True):
        async def testbench(ctx):
            self.ctx = ctx
            self.cpus = [Cpu(ctx, apic) for apic in self.apics]
            for i, cpu in enumerate(self.cpus):
                await cpu.write(LapicRegister.LDR, 1 << 24 + i)
                if enable:
                    await cpu.write(LapicRegister.SVR, ENABLED)
            self.log.clear()
            await scenario(self)

        simulate(self.top, self.log, testbench)

    async def write(
        self, address, value, *, select=0xF, write=1, kind=RequesterKind.DEVICE, requester=0x18
    ):
        request = {
            "address": address,
            "write": write,
            "data": value,
            "select": select,
            "requester": {"id": requester, "kind": kind},
        }
        answer, self.waited = await transact(
            self.ctx, self.bus.bus, request, f"message {address:#x} {value:#x}"
        )
        await self.ctx.tick().repeat(2)
        return answer

    async def message(self, address, value, **fields):
        answer = await self.write(address, value, **fields)
        assert not answer.error
        assert answer.data == 0

    def accepted(self):
        """(CPU, vector) of every interrupt that became pending since last asked."""
        pending = [(r.unit, r.id) for r in self.log.of(EventKind.PENDING_SET)]
        self.log.clear()
        return sorted(pending)

    def bad(self):
        return self.ctx.get(self.bus.bad)


# --- registers ------------------------------------------------------------------------------


RESET_VALUES = {
    LapicRegister.ID: 5 << 24,
    LapicRegister.VERSION: 0x0005_0014,
    LapicRegister.TPR: 0,
    LapicRegister.APR: 0,
    LapicRegister.PPR: 0,
    LapicRegister.EOI: 0,
    LapicRegister.LDR: 0,
    LapicRegister.DFR: 0xFFFF_FFFF,
    LapicRegister.SVR: 0xFF,
    LapicRegister.ESR: 0,
    LapicRegister.ICR_LOW: 0,
    LapicRegister.ICR_HIGH: 0,
    **{0x320 + 0x10 * i: 0x1_0000 for i in range(6)},
    LapicRegister.TIMER_INITIAL: 0,
    LapicRegister.TIMER_CURRENT: 0,
    LapicRegister.TIMER_DIVIDE: 0,
    **{0x100 + 0x10 * i: 0 for i in range(24)},
}
WRITABLE = {
    LapicRegister.TPR: 0xFF,
    LapicRegister.LDR: 0xFF00_0000,
    LapicRegister.DFR: 0xF000_0000,
    LapicRegister.SVR: 0x1FF,
    LapicRegister.ICR_HIGH: 0xFF00_0000,
    **{0x320 + 0x10 * i: 0xFFFF_FFFF for i in range(6)},
    LapicRegister.TIMER_INITIAL: 0xFFFF_FFFF,
    LapicRegister.TIMER_DIVIDE: 0xFFFF_FFFF,
}


def test_reset_values_and_writable_bits():
    async def scenario(cpu, apic, log, message):
        for offset, value in RESET_VALUES.items():
            assert (offset, await cpu.read(offset)) == (offset, value)
        for pattern in (0xFFFF_FFFF, 0xA5A5_5A5A, 0):
            skip = (LapicRegister.ICR_LOW, LapicRegister.ESR)
            for offset in RESET_VALUES.keys() - skip:
                await cpu.write(offset, pattern)
            for offset, reset in RESET_VALUES.items():
                mask = WRITABLE.get(offset, 0)
                expected = reset & ~mask | pattern & mask
                if offset == LapicRegister.PPR:
                    expected = pattern & 0xFF  # nothing is in service
                assert (offset, await cpu.read(offset)) == (offset, expected)

    alone(scenario, index=5, enable=False)


def test_reserved_offsets_read_zero_and_set_an_error():
    reserved = [0x000, 0x010, 0x040, 0x0C0, 0x290, 0x2F0, 0x3A0, 0x3D0, 0x3F0, 0x400, 0xFF0]
    within = [0x024, 0x084, 0x0B8, 0x20C, 0x304, 0x324]

    async def scenario(cpu, apic, log, message):
        await message(0x40)
        before = [await cpu.read(offset) for offset in RESET_VALUES]
        for offset in reserved + within:
            for value in (None, 0xFFFF_FFFF):
                answer = await cpu.access(offset, value=value)
                assert (answer.error, answer.data) == (0, 0)
                await cpu.write(LapicRegister.ESR, 0)
                assert await cpu.read(LapicRegister.ESR) == 1 << 7, f"{offset:#x}"
                await cpu.write(LapicRegister.ESR, 0)
                assert await cpu.read(LapicRegister.ESR) == 0
        assert [await cpu.read(offset) for offset in RESET_VALUES] == before

    alone(scenario)


@pytest.mark.parametrize("select", [0b0000, 0b0001, 0b0011, 0b1100, 0b0111, 0b1110])
def test_anything_but_a_whole_word_is_an_error_and_does_nothing(select):
    async def scenario(cpu, apic, log, message):
        await message(0x40)
        await cpu.acknowledge()
        for offset in (LapicRegister.EOI, LapicRegister.TPR, LapicRegister.ICR_LOW, 0x010):
            for value in (None, 0xFFFF_FFFF):
                answer = await cpu.access(offset, value=value, select=select)
                assert (answer.error, answer.data) == (1, 0)
        assert await cpu.read(LapicRegister.TPR) == 0
        assert await cpu.read(LapicRegister.ISR + 0x20) == 1
        assert not log.of(EventKind.EOI)
        await cpu.write(LapicRegister.ESR, 0)
        assert await cpu.read(LapicRegister.ESR) == 0

    alone(scenario)


def test_only_reading_lapic_inta_is_answered_without_error():
    async def scenario(cpu, apic, log, message):
        await message(0x40)
        for register, write in ((SystemRegister.LAPIC_INTA, 1), (0, 0), (0x3E, 0)):
            answer = await cpu.sysreg(register, write)
            assert (answer.error, answer.data) == (1, 0)
        assert not log.of(EventKind.ACKNOWLEDGE)
        assert await cpu.acknowledge() == 0x40

    alone(scenario)


# --- pending, in service, priority ----------------------------------------------------------


@pytest.mark.parametrize("vector", [16, 31, 32, 63, 64, 127, 128, 239, 240, 255])
def test_one_interrupt_from_message_to_eoi(vector):
    async def scenario(cpu, apic, log, message):
        await message(vector)
        assert await cpu.read_set(LapicRegister.IRR) == 1 << vector
        assert await cpu.read_set(LapicRegister.ISR) == 0
        assert await cpu.acknowledge() == vector
        assert await cpu.read_set(LapicRegister.IRR) == 0
        assert await cpu.read_set(LapicRegister.ISR) == 1 << vector
        assert await cpu.read(LapicRegister.PPR) == vector & 0xF0
        await cpu.write(LapicRegister.EOI, 0)
        assert await cpu.read_set(LapicRegister.ISR) == 0
        assert await cpu.read(LapicRegister.PPR) == 0
        story = [(r.kind, r.unit, r.id, r.data) for r in log.of(*EventKind)]
        assert story == [
            (EventKind.PENDING_SET, 3, vector, 0),
            (EventKind.LINE, 3, LineKind.INTR.value, 1),
            (EventKind.ACKNOWLEDGE, 3, vector, 0),
            (EventKind.LINE, 3, LineKind.INTR.value, 0),
            (EventKind.EOI, 3, vector, 0),
        ]

    alone(scenario, index=3)


def test_messages_merge_in_irr_but_not_with_the_one_in_service():
    async def scenario(cpu, apic, log, message):
        for _ in range(3):
            await message(0x41)
        assert [r.data for r in log.of(EventKind.PENDING_SET)] == [0, 1, 1]
        assert await cpu.acknowledge() == 0x41
        await message(0x41)
        await message(0x41)
        assert [r.data for r in log.of(EventKind.PENDING_SET)] == [0, 1, 1, 0, 1]
        bit = 1 << 0x41
        assert await cpu.read_set(LapicRegister.IRR) == bit
        assert await cpu.read_set(LapicRegister.ISR) == bit
        assert not cpu.ctx.get(apic.intr), "its own class is in service"
        await cpu.write(LapicRegister.EOI, 0)
        assert await cpu.acknowledge() == 0x41
        await cpu.write(LapicRegister.EOI, 0)
        assert await cpu.acknowledge() == SPURIOUS

    alone(scenario)


def test_trigger_mode_is_kept_per_vector():
    async def scenario(cpu, apic, log, message):
        await message(0x52, level=1)
        await message(0x53, level=0)
        assert await cpu.read_set(LapicRegister.TMR) == 1 << 0x52
        await cpu.acknowledge()
        assert await cpu.read_set(LapicRegister.TMR) == 1 << 0x52
        await message(0x52, level=0)
        assert await cpu.read_set(LapicRegister.TMR) == 0

    alone(scenario)


def test_higher_classes_nest_and_equal_ones_wait():
    async def scenario(cpu, apic, log, message):
        await message(0x31)
        assert await cpu.acknowledge() == 0x31
        await message(0x3F)
        assert not cpu.ctx.get(apic.intr)
        await message(0x40)
        await message(0x4A)
        assert await cpu.acknowledge() == 0x4A
        assert not cpu.ctx.get(apic.intr)
        assert await cpu.read(LapicRegister.PPR) == 0x40
        for expected in (0x40, 0x3F):
            await cpu.write(LapicRegister.EOI, 0)
            if expected == 0x3F:  # 0x31 is still in service, below it
                assert not cpu.ctx.get(apic.intr)
                await cpu.write(LapicRegister.EOI, 0)
            assert await cpu.acknowledge() == expected
        assert [r.id for r in log.of(EventKind.EOI)] == [0x4A, 0x40, 0x31]

    alone(scenario)


@pytest.mark.parametrize(
    ("tpr", "vector", "delivered"),
    [
        (0x00, 0x10, True),
        (0x0F, 0x10, True),
        (0x10, 0x1F, False),
        (0x1F, 0x20, True),
        (0x2F, 0x30, True),
        (0x30, 0x3F, False),
        (0xE0, 0xEF, False),
        (0xEF, 0xF0, True),
        (0xF0, 0xFF, False),
    ],
)
def test_task_priority_holds_back_its_class_and_those_below(tpr, vector, delivered):
    async def scenario(cpu, apic, log, message):
        await cpu.write(LapicRegister.TPR, tpr)
        assert await cpu.read(LapicRegister.PPR) == tpr
        await message(vector)
        assert cpu.ctx.get(apic.intr) == delivered
        if not delivered:
            assert await cpu.acknowledge() == SPURIOUS
            assert await cpu.read_set(LapicRegister.IRR) == 1 << vector
            assert await cpu.read_set(LapicRegister.ISR) == 0
            await cpu.write(LapicRegister.TPR, 0)
        assert await cpu.acknowledge() == vector

    alone(scenario)


def test_processor_priority_is_the_greater_of_task_and_service():
    async def scenario(cpu, apic, log, message):
        await message(0x57)
        await cpu.acknowledge()
        for tpr, ppr in ((0x00, 0x50), (0x4F, 0x50), (0x50, 0x50), (0x5F, 0x5F), (0x60, 0x60)):
            await cpu.write(LapicRegister.TPR, tpr)
            assert await cpu.read(LapicRegister.PPR) == ppr

    alone(scenario)


def test_spurious_vector_and_unpaired_eoi_change_nothing():
    async def scenario(cpu, apic, log, message):
        await cpu.write(LapicRegister.SVR, 0x1E7)
        assert await cpu.acknowledge() == 0xE7
        await cpu.write(LapicRegister.EOI, 0)
        assert await cpu.read_set(LapicRegister.ISR) == 0
        story = [(r.kind, r.id, r.data) for r in log.of(*EventKind)]
        assert story == [(EventKind.ACKNOWLEDGE, 0xE7, 1), (EventKind.EOI, 0, 0)]

    alone(scenario)


@pytest.mark.parametrize("value", [0, 1, 0xFFFF_FFFF])
def test_eoi_takes_any_value(value):
    async def scenario(cpu, apic, log, message):
        await message(0x40)
        await cpu.acknowledge()
        await cpu.write(LapicRegister.EOI, value)
        assert await cpu.read_set(LapicRegister.ISR) == 0

    alone(scenario)


def test_software_disable_keeps_what_is_there_and_drops_what_comes():
    async def scenario(cpu, apic, log, message):
        await message(0x40)
        await cpu.acknowledge()
        await message(0x51)
        await cpu.write(LapicRegister.SVR, 0xFF)
        assert not cpu.ctx.get(apic.intr)
        await message(0x62)
        await message(0x03)
        assert await cpu.acknowledge() == SPURIOUS
        assert await cpu.read_set(LapicRegister.IRR) == 1 << 0x51
        assert await cpu.read_set(LapicRegister.ISR) == 1 << 0x40
        assert [r.id for r in log.of(EventKind.PENDING_SET)] == [0x40, 0x51]
        await cpu.write(LapicRegister.SVR, ENABLED)
        assert await cpu.acknowledge() == 0x51
        await cpu.write(LapicRegister.ESR, 0)
        assert await cpu.read(LapicRegister.ESR) == 0

    alone(scenario)


@pytest.mark.parametrize("vector", [0, 1, 15])
def test_an_illegal_vector_sets_an_error_and_nothing_else(vector):
    async def scenario(cpu, apic, log, message):
        await message(vector)
        assert await cpu.read_set(LapicRegister.IRR) == 0
        assert await cpu.read(LapicRegister.ESR) == 0, "not before the next write"
        await cpu.write(LapicRegister.ESR, 0)
        assert await cpu.read(LapicRegister.ESR) == 1 << 6
        assert not log.events

    alone(scenario)


# --- inter-processor interrupts as one APIC sees them ---------------------------------------


def test_a_command_is_pending_until_taken_and_the_next_one_waits():
    async def scenario(cpu, apic, log, message):
        ctx, ipi = cpu.ctx, apic.link.ipi
        await cpu.send(0x45, 7, logical=True)
        for _ in range(20):
            assert ctx.get(ipi.valid)
            assert ctx.get(ipi.p.command.vector) == 0x45
            assert ctx.get(ipi.p.destination) == 7
            await ctx.tick()
        assert await cpu.read(LapicRegister.ICR_LOW) == 0x1845
        request = {"address": REGISTER_BASE + 0x300, "write": 1, "data": 0x46, "select": 0xF}
        await offer(ctx, apic.private.request, request, "second command")
        for _ in range(20):
            assert not ctx.get(apic.private.response.valid)
            assert ctx.get(ipi.p.command.vector) == 0x45
            await ctx.tick()
        await message(0x99)  # the APIC itself is not blocked
        assert await cpu.acknowledge() == 0x99
        ctx.set(ipi.ready, 1)
        await ctx.tick()
        ctx.set(ipi.ready, 0)
        ctx.set(apic.private.response.ready, 1)
        await ctx.tick().repeat(5)
        assert ctx.get(ipi.valid)
        assert ctx.get(ipi.p.command.vector) == 0x46

    alone(scenario)


def test_a_command_can_be_read_back():
    async def scenario(cpu, apic, log, message):
        cpu.ctx.set(apic.link.ipi.ready, 1)
        await cpu.send(0xFD, 2, logical=True)
        assert await cpu.read(LapicRegister.ICR_LOW) == 0x08FD
        assert await cpu.read(LapicRegister.ICR_HIGH) == 0x0200_0000

    alone(scenario)


@pytest.mark.parametrize("delivery", [DeliveryMode.FIXED, DeliveryMode.LOWEST_PRIORITY])
def test_a_command_with_an_illegal_vector_is_not_sent(delivery):
    async def scenario(cpu, apic, log, message):
        await cpu.send(15, 0, delivery=delivery)
        assert not cpu.ctx.get(apic.link.ipi.valid)
        await cpu.write(LapicRegister.ESR, 0)
        assert await cpu.read(LapicRegister.ESR) == 1 << 5
        (bad,) = log.of(EventKind.MESSAGE_BAD)
        assert (bad.address, bad.data) == (0xFEE0_0300, delivery << 8 | 15)
        assert (bad.id, bad.unit) == (4, MessageFault.ILLEGAL_VECTOR)

    alone(scenario, index=4)


# --- latencies and bounds -------------------------------------------------------------------


def test_latencies_of_one_apic():
    async def scenario(cpu, apic, log, message):
        await cpu.ctx.tick().repeat(RESET_CLOCKS)
        await message(0x40)
        assert log.last("intr", 1) - log.last("message", 1) == 2
        assert await cpu.acknowledge() == 0x40
        assert cpu.waited == 3
        assert log.last("intr", 0) - log.last("inta", 1) == 3
        await message(0x41)
        await cpu.write(LapicRegister.EOI, 0)
        assert cpu.waited == 3
        assert log.last("intr", 1) - log.last("access", 1) == 3
        await cpu.write(LapicRegister.TPR, 0x40)
        assert cpu.waited == 3
        assert log.last("intr", 0) - log.last("access", 1) == 3
        await cpu.acknowledge()
        assert cpu.waited == 2
        await cpu.write(LapicRegister.TPR, 0)
        assert log.last("intr", 1) - log.last("access", 1) == 3
        await cpu.read(LapicRegister.IRR)
        assert cpu.waited == 4
        await cpu.read(LapicRegister.LVT_LINT0)
        assert cpu.waited == 3
        assert await cpu.acknowledge() == 0x41

    alone(scenario)


def test_nobody_waits_longer_than_stated():
    apic = LocalApic(0)
    rng = random.Random(1)
    longest = {"message": 0, "access": 0, "inta": 0}
    rounds = 300

    async def pause(ctx):
        for _ in range(rng.randrange(4)):
            await ctx.tick()

    async def reads(ctx):
        cpu = Cpu(ctx, apic)
        await cpu.write(LapicRegister.SVR, ENABLED)
        for _ in range(rounds):
            await cpu.read(LapicRegister.IRR + 0x20)
            longest["access"] = max(longest["access"], cpu.waited)
            await pause(ctx)

    async def acknowledges(ctx):
        cpu = Cpu(ctx, apic)
        await ctx.tick().repeat(RESET_CLOCKS)
        for _ in range(rounds):
            await cpu.acknowledge()
            longest["inta"] = max(longest["inta"], cpu.waited)
            await pause(ctx)

    async def messages(ctx):
        await ctx.tick().repeat(RESET_CLOCKS)
        for i in range(rounds):
            payload = {"vector": 0x20 + i % 0xE0, "level": 0}
            held = await offer(ctx, apic.link.message, payload, f"message {i}")
            longest["message"] = max(longest["message"], held)
            await pause(ctx)

    sim = Simulator(apic)
    sim.add_clock(1e-6)
    for testbench in (reads, acknowledges, messages):
        sim.add_testbench(testbench)
    sim.run()
    assert 4 < longest["access"] <= 7
    assert 3 < longest["inta"] <= 7
    assert 1 < longest["message"] <= 6


def test_latencies_through_the_bus():
    machine = Machine(2)

    async def scenario(machine):
        await machine.ctx.tick().repeat(RESET_CLOCKS)
        await machine.message(message_address(1), message_data(0x40))
        assert machine.waited == 5
        assert machine.log.last("intr1", 1) - machine.log.last("taken", 1) == 5
        await machine.cpus[1].send(0x41, 0)
        await machine.cpus[1].sent()
        assert machine.log.last("intr0", 1) - machine.log.last("ipi1", 1) == 4

    machine.run(scenario)


# --- destinations ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (message_address(0), {0}),
        (message_address(2), {2}),
        (message_address(0xFF), {0, 1, 2}),
        (message_address(0b001, logical=True), {0}),
        (message_address(0b010, logical=True), {1}),
        (message_address(0b110, logical=True), {1, 2}),
        (message_address(0xFF, logical=True), {0, 1, 2}),
        (message_address(0b110, logical=True, redirection=True), {1}),
        (message_address(0xFF, redirection=True), {0}),
        (message_address(2, redirection=True), {2}),
        (message_address(1) | 0xFF0, {1}),
    ],
)
@pytest.mark.parametrize("vector", [0x22, 0xEF])
def test_devices_reach_exactly_the_addressed_cpus(address, expected, vector):
    async def scenario(machine):
        await machine.message(address, message_data(vector))
        assert machine.accepted() == [(cpu, vector) for cpu in sorted(expected)]
        for i, cpu in enumerate(machine.cpus):
            wanted = 1 << vector if i in expected else 0
            assert await cpu.read_set(LapicRegister.IRR) == wanted
        assert machine.bad() == 0

    Machine(3).run(scenario)


def test_cluster_model():
    ldr = {0: 0x11, 1: 0x12, 2: 0x21}
    cases = {0x11: {0}, 0x12: {1}, 0x13: {0, 1}, 0x1F: {0, 1}, 0x21: {2}}

    async def scenario(machine):
        for i, cpu in enumerate(machine.cpus):
            await cpu.write(LapicRegister.DFR, 0x0FFF_FFFF)
            await cpu.write(LapicRegister.LDR, ldr[i] << 24)
        for destination, expected in cases.items():
            await machine.message(message_address(destination, logical=True), 0x40)
            assert machine.accepted() == [(cpu, 0x40) for cpu in sorted(expected)]
        for destination in (0x14, 0x31, 0x20, 0xFF):
            await machine.message(message_address(destination, logical=True), 0x40)
            assert machine.accepted() == []
        assert machine.bad() == 4
        await machine.cpus[0].write(LapicRegister.DFR, 0x7FFF_FFFF)
        await machine.message(message_address(0x13, logical=True), 0x40)
        assert machine.accepted() == [(1, 0x40)]

    Machine(3).run(scenario)


def test_lowest_priority_goes_to_the_lowest_enabled():
    data = message_data(0x40, delivery=DeliveryMode.LOWEST_PRIORITY)

    async def scenario(machine):
        for disabled, expected in ((None, 0), (0, 1), (1, 2)):
            if disabled is not None:
                await machine.cpus[disabled].write(LapicRegister.SVR, 0xFF)
            await machine.message(message_address(0b111, logical=True), data)
            assert machine.accepted() == [(expected, 0x40)]
            await machine.message(message_address(0xFF), data)
            assert machine.accepted() == [(expected, 0x40)]
        assert machine.bad() == 0
        await machine.message(message_address(0b011, logical=True), data)
        assert machine.bad() == 1
        (bad,) = machine.log.of(EventKind.MESSAGE_BAD)
        assert bad.unit == MessageFault.DISABLED

    Machine(3).run(scenario)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"destination": 2}, {2}),
        ({"destination": 0b101, "logical": True}, {0, 2}),
        ({"destination": 0xFF}, {0, 1, 2}),
        ({"shorthand": Shorthand.SELF, "destination": 2}, {1}),
        ({"shorthand": Shorthand.ALL}, {0, 1, 2}),
        ({"shorthand": Shorthand.OTHERS}, {0, 2}),
        ({"destination": 0b110, "logical": True, "delivery": DeliveryMode.LOWEST_PRIORITY}, {1}),
    ],
)
def test_ipis_reach_exactly_the_addressed_cpus(fields, expected):
    async def scenario(machine):
        await machine.cpus[1].send(0xFB, **fields)
        await machine.cpus[1].sent()
        assert machine.accepted() == [(cpu, 0xFB) for cpu in sorted(expected)]
        assert machine.bad() == 0

    Machine(3).run(scenario)


@pytest.mark.parametrize(
    ("bits", "accepted", "trigger"),
    [(0x0000, True, 0), (0x4000, True, 0), (0x8000, False, 0), (0xC000, True, 1)],
)
def test_trigger_mode_and_level_of_an_ipi(bits, accepted, trigger):
    async def scenario(machine):
        await machine.cpus[0].write(LapicRegister.ICR_HIGH, 1 << 24)
        await machine.cpus[0].write(LapicRegister.ICR_LOW, bits | 0x55)
        await machine.cpus[0].sent()
        assert machine.accepted() == ([(1, 0x55)] if accepted else [])
        assert await machine.cpus[1].read_set(LapicRegister.TMR) == trigger << 0x55
        assert machine.bad() == 0

    Machine(2).run(scenario)


def test_reserved_bits_of_a_command_are_not_kept():
    async def scenario(cpu, apic, log, message):
        cpu.ctx.set(apic.link.ipi.ready, 1)
        await cpu.write(LapicRegister.ICR_LOW, 0xFFFF_FFFF)
        assert await cpu.read(LapicRegister.ICR_LOW) == 0x000C_CFFF

    alone(scenario)


def test_a_disabled_apic_still_sends():
    async def scenario(machine):
        await machine.cpus[0].write(LapicRegister.SVR, 0xFF)
        await machine.cpus[0].send(0x55, 1)
        await machine.cpus[0].sent()
        assert machine.accepted() == [(1, 0x55)]

    Machine(2).run(scenario)


def test_level_triggered_messages():
    async def scenario(machine):
        await machine.message(message_address(0), message_data(0x40, level=True))
        assert machine.accepted() == []
        assert machine.bad() == 0, "a deassert message is ignored, not bad"
        await machine.message(message_address(0), message_data(0x40, level=True, asserted=True))
        assert machine.accepted() == [(0, 0x40)]
        assert await machine.cpus[0].read_set(LapicRegister.TMR) == 1 << 0x40
        await machine.message(message_address(0), message_data(0x41, asserted=True))
        assert machine.accepted() == [(0, 0x41)]

    Machine(1).run(scenario)


# --- bad messages ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "data", "select", "fault"),
    [
        (message_address(2), 0x40, 0xF, MessageFault.NO_DESTINATION),
        (message_address(0x80, logical=True), 0x40, 0xF, MessageFault.NO_DESTINATION),
        (message_address(0, logical=True), 0x40, 0xF, MessageFault.NO_DESTINATION),
        *(
            (message_address(0), message_data(0x40, delivery=mode), 0xF, fault)
            for fault in [MessageFault.UNSUPPORTED_MODE]
            for mode in DeliveryMode
            if mode > DeliveryMode.LOWEST_PRIORITY
        ),
        (message_address(1), 0x0F, 0xF, MessageFault.ILLEGAL_VECTOR),
        (message_address(1), 0x00, 0xF, MessageFault.ILLEGAL_VECTOR),
        (message_address(0), 0x40, 0b0011, MessageFault.PARTIAL_WRITE),
        (message_address(0), 0x40, 0b0000, MessageFault.PARTIAL_WRITE),
        (message_address(1), 0x40, 0xF, MessageFault.DISABLED),
    ],
)
def test_a_bad_message_is_answered_counted_and_reported(address, data, select, fault):
    async def scenario(machine):
        if fault == MessageFault.DISABLED:
            await machine.cpus[1].write(LapicRegister.SVR, 0xFF)
        await machine.message(address, data, select=select, requester=0x1234)
        (bad,) = machine.log.of(EventKind.MESSAGE_BAD)
        assert (bad.address, bad.data, bad.id, bad.unit) == (address, data, 0x1234, fault)
        assert machine.bad() == 1
        assert machine.accepted() == []
        for i, cpu in enumerate(machine.cpus):
            assert await cpu.read_set(LapicRegister.IRR) == 0
            await cpu.write(LapicRegister.ESR, 0)
            told = fault == MessageFault.ILLEGAL_VECTOR and i == 1
            assert await cpu.read(LapicRegister.ESR) == told << 6
        await machine.message(message_address(0), 0x50)
        assert machine.accepted() == [(0, 0x50)]
        assert machine.bad() == 1

    Machine(2).run(scenario)


def test_one_destination_of_several_is_enough():
    async def scenario(machine):
        await machine.cpus[0].write(LapicRegister.SVR, 0xFF)
        await machine.message(message_address(0xFF), 0x40)
        assert machine.accepted() == [(1, 0x40)]
        assert machine.bad() == 0

    Machine(2).run(scenario)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"destination": 9}, MessageFault.NO_DESTINATION),
        ({"destination": 1, "delivery": DeliveryMode.INIT}, MessageFault.UNSUPPORTED_MODE),
        ({"destination": 1, "delivery": DeliveryMode.STARTUP}, MessageFault.UNSUPPORTED_MODE),
    ],
)
def test_a_bad_ipi_is_counted_and_reported(fields, fault):
    async def scenario(machine):
        await machine.cpus[1].send(0x99, **fields)
        await machine.cpus[1].sent()
        (bad,) = machine.log.of(EventKind.MESSAGE_BAD)
        _, low = interrupt_command(0x99, **fields)
        assert (bad.address, bad.data, bad.id, bad.unit) == (0xFEE0_0300, low, 1, fault)
        assert machine.bad() == 1
        assert machine.accepted() == []

    Machine(2).run(scenario)


@pytest.mark.parametrize(
    "fields",
    [
        {"write": 0},
        {"write": 0, "kind": RequesterKind.CPU},
        {"kind": RequesterKind.CPU, "requester": 1},
    ],
)
def test_reads_and_cpus_are_refused(fields):
    async def scenario(machine):
        answer = await machine.write(message_address(0), 0x40, **fields)
        assert (answer.error, answer.data) == (1, 0)
        assert machine.bad() == 0
        assert not machine.log.events
        await machine.message(message_address(0), 0x40, kind=RequesterKind.CONTROLLER)
        assert machine.accepted() == [(0, 0x40)]

    Machine(1).run(scenario)


def test_everyone_gets_through_within_the_bound():
    machine = Machine(2)
    bound = 10 * (2 + 1)
    longest = {"device": 0, "ipi": 0}
    finished = []

    async def device(ctx):
        machine.ctx = ctx
        for i in range(60):
            await machine.message(message_address(0xFF), 0x40 + i)
            longest["device"] = max(longest["device"], machine.waited)
        finished.append("device")

    async def prepare(ctx):
        for i, apic in enumerate(machine.apics):
            await Cpu(ctx, apic).write(LapicRegister.SVR, ENABLED)
            ctx.set(apic.private.response.ready, 0)
            finished.append(i)

    def sender(i):
        async def testbench(ctx):
            await ctx.tick().repeat(2 * RESET_CLOCKS)
            cpu = Cpu(ctx, machine.apics[i])
            for vector in range(0x80, 0xB0):
                await cpu.send(vector, shorthand=Shorthand.ALL)
            await cpu.sent()
            finished.append(f"sender {i}")

        return testbench

    async def stopwatch(ctx):
        since = [0, 0]
        valids = [apic.link.ipi.valid for apic in machine.apics]
        async for _, _, *valid in ctx.tick().sample(*valids):
            for i in range(2):
                since[i] = since[i] + 1 if valid[i] else 0
                longest["ipi"] = max(longest["ipi"], since[i])

    async def all_of_them(ctx):
        await prepare(ctx)

    sim = Simulator(machine.top)
    sim.add_clock(1e-6)
    sim.add_testbench(all_of_them)
    sim.add_testbench(device)
    sim.add_testbench(sender(0))
    sim.add_testbench(sender(1))
    sim.add_testbench(stopwatch, background=True)
    sim.run()
    assert {"device", "sender 0", "sender 1"} <= set(finished)
    assert 5 < longest["ipi"] <= bound
    assert 5 < longest["device"] <= bound + RESET_CLOCKS


# --- against a second implementation --------------------------------------------------------


class Model:
    """The rules of a local APIC on three 256-bit integers."""

    def __init__(self):
        self.irr = self.isr = self.tmr = 0
        self.tpr, self.svr = 0, 0xFF
        self.errors = self.esr = 0

    @staticmethod
    def top(bits):
        return max(bits.bit_length() - 1, 0)

    @property
    def ppr(self):
        service = self.top(self.isr) & 0xF0
        return self.tpr if self.tpr & 0xF0 >= service else service

    @property
    def intr(self):
        return bool(self.svr & 0x100) and self.top(self.irr) & 0xF0 > self.ppr & 0xF0

    def message(self, vector, level):
        if not self.svr & 0x100:
            return
        if vector < 16:
            self.errors |= 1 << 6
            return
        bit = 1 << vector
        self.irr |= bit
        self.tmr = self.tmr | bit if level else self.tmr & ~bit

    def acknowledge(self):
        if not self.intr:
            return self.svr & 0xFF
        vector = self.top(self.irr)
        self.irr &= ~(1 << vector)
        self.isr |= 1 << vector
        return vector

    def write(self, offset, value):
        if offset == LapicRegister.EOI:
            self.isr &= ~(1 << self.top(self.isr))
        elif offset == LapicRegister.TPR:
            self.tpr = value & 0xFF
        elif offset == LapicRegister.SVR:
            self.svr = value & 0x1FF
        elif offset == LapicRegister.ESR:
            self.esr, self.errors = self.errors, 0

    def read(self, offset):
        simple = {
            LapicRegister.TPR: self.tpr,
            LapicRegister.PPR: self.ppr,
            LapicRegister.SVR: self.svr,
            LapicRegister.ESR: self.esr,
        }
        if offset in simple:
            return simple[offset]
        chosen = {0x100: self.isr, 0x180: self.tmr, 0x200: self.irr}[offset & ~0x7F]
        return chosen >> 2 * (offset & 0x70) & 0xFFFF_FFFF


@pytest.mark.parametrize("seed", range(4))
def test_random_operations_as_the_model_has_them(seed):
    rng = random.Random(seed)
    readable = [LapicRegister.TPR, LapicRegister.PPR, LapicRegister.SVR, LapicRegister.ESR]
    readable += [first + 0x10 * i for first in (0x100, 0x180, 0x200) for i in range(8)]
    # Few vectors merge and nest, all vectors reach every corner.
    vectors = range(256) if seed % 2 else (0x0F, 0x10, 0x2F, 0x30, 0x31, 0x7F, 0x80, 0xFE, 0xFF)
    seen = set()

    async def scenario(cpu, apic, log, message):
        model = Model()
        model.write(LapicRegister.SVR, ENABLED)
        for step in range(400):
            action = rng.choice(("message", "message", "acknowledge", "eoi", "write", "read"))
            if action == "message":
                vector, level = rng.choice(vectors), rng.getrandbits(1)
                await message(vector, level)
                model.message(vector, level)
            elif action == "acknowledge":
                seen.add("intr" if model.intr else "spurious")
                assert await cpu.acknowledge() == model.acknowledge(), f"step {step}"
            elif action == "eoi":
                await cpu.write(LapicRegister.EOI, 0)
                model.write(LapicRegister.EOI, 0)
            elif action == "write":
                offset = rng.choice((LapicRegister.TPR, LapicRegister.SVR, LapicRegister.ESR))
                value = rng.getrandbits(8) & rng.getrandbits(8) | (rng.random() < 0.8) << 8
                await cpu.write(offset, value)
                model.write(offset, value)
            else:
                offset = rng.choice(readable)
                assert await cpu.read(offset) == model.read(offset), f"step {step}: {offset:#x}"
            assert cpu.ctx.get(apic.intr) == model.intr, f"step {step}: {action}"
            seen.add(bin(model.isr).count("1"))
        for offset in readable:
            assert await cpu.read(offset) == model.read(offset), f"at the end: {offset:#x}"

    alone(scenario)
    assert {"intr", "spurious", 0, 1, 2} <= seen, "the operations did not cover enough"


@pytest.mark.parametrize("seed", range(3))
def test_operations_at_the_same_time_happen_in_the_order_the_tap_tells(seed):
    apic = LocalApic(0)
    log = Log(apic.tap)
    rng = random.Random(seed)
    vectors = (0x20, 0x21, 0x2F, 0x30, 0x7F, 0xF0, 0xFF)

    async def messages(ctx):
        await ctx.tick().repeat(2 * RESET_CLOCKS)
        for _ in range(300):
            payload = {"vector": rng.choice(vectors), "level": 0}
            await offer(ctx, apic.link.message, payload, "message")
            await ctx.tick().repeat(rng.randrange(1, 12))

    async def cpu_side(ctx):
        cpu = Cpu(ctx, apic)
        await cpu.write(LapicRegister.SVR, ENABLED)
        await ctx.tick().repeat(2 * RESET_CLOCKS)
        for _ in range(400):
            if rng.random() < 0.5:
                await cpu.acknowledge()
            else:
                await cpu.write(LapicRegister.EOI, 0)
            await ctx.tick().repeat(rng.randrange(1, 4))

    sim = Simulator(apic)
    sim.add_clock(1e-6)
    sim.add_testbench(log.watch, background=True)
    sim.add_testbench(messages)
    sim.add_testbench(cpu_side)
    sim.run()

    model = Model()
    model.svr = ENABLED
    level = 0
    story = iter([*log.events, (log.clock + 9, None)])
    clock, record = next(story)
    while record is not None:
        # A change of the line is reported in the clock after what caused it.
        if record.kind == EventKind.LINE:
            level = record.data
        elif record.kind == EventKind.PENDING_SET:
            assert record.data == model.irr >> record.id & 1, f"clock {clock}"
            model.message(record.id, 0)
        elif record.kind == EventKind.ACKNOWLEDGE:
            assert record.data == (not model.intr), f"clock {clock}"
            assert record.id == model.acknowledge(), f"clock {clock}"
        elif record.kind == EventKind.EOI:
            assert record.id == model.top(model.isr), f"clock {clock}"
            model.write(LapicRegister.EOI, 0)
        before, (clock, record) = clock, next(story)
        if clock > before + 1:
            assert level == model.intr, f"clock {before}"
    assert len(log.of(EventKind.PENDING_SET)) == 300
    assert len(log.of(EventKind.ACKNOWLEDGE)) > 150


# --- encoders and parameters ----------------------------------------------------------------


def test_messages_are_encoded_as_kernels_write_them():
    assert message_address(0x01, logical=True) == 0xFEE0_1004
    assert message_address(0x02, logical=True) == 0xFEE0_2004
    assert message_address(0x03) == 0xFEE0_3000
    assert message_address(0xFF, redirection=True) == 0xFEEF_F008
    assert message_data(0x35) == 0x0035
    assert message_data(0x35, asserted=True) == 0x4035
    assert message_data(0x2A, level=True) == 0x802A
    assert message_data(0xFF, delivery=DeliveryMode.EXTINT, level=True, asserted=True) == 0xC7FF
    assert interrupt_command(0xFB, 1, logical=True) == (0x0100_0000, 0x08FB)
    assert interrupt_command(0x10, delivery=5, shorthand=Shorthand.OTHERS) == (0, 0xC0510)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda: message_address(256),
            ValueError,
            "Destination must be between 0 and 255, not 256",
        ),
        (lambda: message_address("a"), TypeError, "Destination must be an integer, not 'a'"),
        (lambda: message_data(-1), ValueError, "Vector must be between 0 and 255, not -1"),
        (lambda: message_data(True), TypeError, "Vector must be an integer, not True"),
        (
            lambda: interrupt_command(1, 300),
            ValueError,
            "Destination must be between 0 and 255, not 300",
        ),
        (lambda: LocalApic(255), ValueError, "Local APIC index must be between 0 and 254, not 255"),
        (lambda: LocalApic(1.0), TypeError, "Local APIC index must be an integer, not 1.0"),
        (
            lambda: ApicMessageBus(0),
            ValueError,
            "Number of local APICs must be between 1 and 255, not 0",
        ),
        (
            lambda: ApicMessageBus(None),
            TypeError,
            "Number of local APICs must be an integer, not None",
        ),
    ],
)
def test_bad_parameters_are_named(call, error, text):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == text
