"""PMU and bank of PMUs, against their docstrings and a cycle-by-cycle model."""

import random

import pytest
from amaranth.sim import Simulator

from hdl.pmu import FIRST_UNIT, Pmu, PmuBank
from hdl.registers.pmu import (
    EVENT_CYCLES,
    EVENT_EXTERNAL,
    FRAME_SIZE,
    PmuRegister,
    counter_control,
    counter_value,
    event_counter,
    event_type,
)
from hdl.tap import EventKind

BOUND = 50
WRAP = 1 << 32


class Driver:
    """What software can do to a PMU, and a log of its tap."""

    def __init__(self, dut, taps):
        self.dut, self.taps = dut, taps
        self.events = []

    async def watch(self, ctx):
        wanted = [signal for tap in self.taps for signal in (tap.valid, tap.record)]
        async for _, _, *values in ctx.tick().sample(*wanted):
            self.events += [r for v, r in zip(values[::2], values[1::2], strict=True) if v]

    async def access(self, offset, value=None, select=0xF, *, strobe=None):
        """One access; ``strobe`` (a signal and its mask) comes in the clock it is taken."""
        ctx, bus = self.ctx, self.dut.bus
        ctx.set(bus.request.p.address, 0x0B00_0000 + offset)
        ctx.set(bus.request.p.write, value is not None)
        ctx.set(bus.request.p.data, value or 0)
        ctx.set(bus.request.p.select, select)
        ctx.set(bus.request.valid, 1)
        ctx.set(bus.response.ready, 1)
        assert ctx.get(bus.request.ready), "owes no answer, so it must be ready"
        if strobe:
            ctx.set(*strobe)
        await ctx.tick()
        if strobe:
            ctx.set(strobe[0], 0)
        ctx.set(bus.request.valid, 0)
        _, _, valid, answer = await ctx.tick().sample(bus.response.valid, bus.response.payload)
        assert valid, f"access to {offset:#x} was not answered in the next clock"
        return answer

    async def read(self, offset):
        answer = await self.access(offset)
        assert not answer.error
        return answer.data

    async def write(self, offset, value):
        answer = await self.access(offset, value)
        assert not answer.error
        assert answer.data == 0

    async def pulse(self, signal, mask):
        self.ctx.set(signal, mask)
        await self.ctx.tick()
        self.ctx.set(signal, 0)

    async def start(self, counter, *, base=0, event=EVENT_EXTERNAL, preload=0):
        """As the SMMUv3 driver does."""
        await self.write(base + event_type(counter), event)
        await self.write(base + PmuRegister.INTENSET, 1 << counter)
        await self.write(base + event_counter(counter), preload)
        await self.write(base + PmuRegister.CNTENSET, 1 << counter)
        await self.write(base + PmuRegister.IRQ_CTRL, 1)
        await self.write(base + PmuRegister.CR, 1)


def run(dut, scenario):
    taps = dut.tap if isinstance(dut, PmuBank) else [dut.tap]
    driver = Driver(dut, taps)

    async def testbench(ctx):
        driver.ctx = ctx
        await scenario(driver)

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(driver.watch, background=True)
    sim.add_testbench(testbench)
    sim.run()


def test_reset_values_and_identification():
    async def scenario(pmu):
        for offset in range(0, FRAME_SIZE, 4):
            expected = {PmuRegister.CFGR: 31 << 8 | 2, PmuRegister.CEID: 3}.get(offset, 0)
            assert (hex(offset), await pmu.read(offset)) == (hex(offset), expected)

    run(Pmu(counters=3), scenario)


def test_unused_offsets_ignore_writes_and_nothing_leaks():
    used = {
        *(f(i) for f in (event_counter, event_type, counter_control, counter_value)
          for i in range(2)),
        PmuRegister.OVERFLOW_STATUS, PmuRegister.CNTENSET, PmuRegister.INTENSET,
        PmuRegister.OVSSET, PmuRegister.CR, PmuRegister.IRQ_CTRL,
    }  # fmt: skip

    async def scenario(pmu):
        before = [await pmu.read(offset) for offset in range(0, FRAME_SIZE, 4)]
        for offset in range(0, FRAME_SIZE, 4):
            if offset not in used:
                await pmu.write(offset, 0xFFFF_FFFF)
        assert [await pmu.read(offset) for offset in range(0, FRAME_SIZE, 4)] == before

    run(Pmu(counters=2), scenario)


@pytest.mark.parametrize("select", [0b0000, 0b0001, 0b0011, 0b1100, 0b0111, 0b1110])
def test_a_partial_write_is_an_error_and_does_nothing(select):
    async def scenario(pmu):
        for offset in (event_counter(0), PmuRegister.OVSSET, counter_control(0), 0xFFC):
            answer = await pmu.access(offset, 0xFFFF_FFFF, select)
            assert (answer.error, answer.data) == (1, 0)
            assert await pmu.read(offset) == 0
        assert not pmu.events

    run(Pmu(counters=1), scenario)


@pytest.mark.parametrize("period", [1, 2, 5, 40])
@pytest.mark.parametrize("counter", [0, 3])
def test_a_period_of_external_events(counter, period):
    async def scenario(pmu):
        await pmu.start(counter, preload=WRAP - period)
        for n in range(1, 2 * period + 1):
            assert await pmu.read(PmuRegister.OVSSET) == (n > period) << counter
            assert pmu.ctx.get(pmu.dut.irq) == (n > period)
            await pmu.pulse(pmu.dut.count, 1 << counter)
            assert await pmu.read(event_counter(counter)) == (WRAP - period + n) % WRAP
        (event,) = pmu.events
        assert (event.kind, event.unit, event.id, event.data) == (
            EventKind.DEVICE_EVENT,
            FIRST_UNIT + 9,
            counter,
            1 << counter,
        )

    run(Pmu(9, counters=4), scenario)


def test_cycles_are_counted_only_while_enabled():
    async def scenario(pmu):
        await pmu.start(1, event=EVENT_CYCLES)
        first = await pmu.read(event_counter(1))
        assert await pmu.read(event_counter(1)) == first + 2
        for gate, on, off in (
            (PmuRegister.CR, 1, 0),
            (PmuRegister.CNTENSET, 2, None),
        ):
            if off is None:
                await pmu.write(PmuRegister.CNTENCLR, 2)
            else:
                await pmu.write(gate, off)
            stopped = await pmu.read(event_counter(1))
            assert await pmu.read(event_counter(1)) == stopped
            await pmu.write(gate, on)
            assert await pmu.read(event_counter(1)) > stopped
        assert await pmu.read(event_counter(0)) == 0

    run(Pmu(counters=4), scenario)


@pytest.mark.parametrize(("event", "kept"), [(2, 2), (30, 30), (32, 31), (0x21, 31), (0xFFFF, 31)])
def test_other_event_types_count_nothing(event, kept):
    async def scenario(pmu):
        await pmu.start(0, event=event)
        assert await pmu.read(event_type(0)) == kept
        await pmu.pulse(pmu.dut.count, 1)
        assert await pmu.read(event_counter(0)) == 0
        await pmu.pulse(pmu.dut.overflow, 1)
        assert await pmu.read(PmuRegister.OVSSET) == 1

    run(Pmu(counters=4), scenario)


def test_smmuv3_handler():
    """Read OVSSET, write back to OVSCLR: only what was read is cleared."""

    async def scenario(pmu):
        ctx = pmu.ctx
        for counter in range(3):
            await pmu.start(counter, preload=100)
        await pmu.pulse(pmu.dut.overflow, 0b001)
        seen = await pmu.read(PmuRegister.OVSSET)
        assert seen == 0b001
        await pmu.pulse(pmu.dut.overflow, 0b100)
        await pmu.write(PmuRegister.OVSCLR, seen)
        assert await pmu.read(PmuRegister.OVSSET) == 0b100
        assert await pmu.read(PmuRegister.OVSCLR) == 0b100
        assert ctx.get(pmu.dut.irq), "the level stays: one counter is still to be served"
        await pmu.write(PmuRegister.OVSCLR, 0b100)
        assert not ctx.get(pmu.dut.irq)
        assert [e.data for e in pmu.events] == [0b001, 0b100]
        assert await pmu.read(event_counter(0)) == 0
        assert await pmu.read(event_counter(1)) == 100

    run(Pmu(counters=4), scenario)


def test_interrupt_needs_status_enable_and_control():
    async def scenario(pmu):
        ctx = pmu.ctx
        await pmu.write(PmuRegister.OVSSET, 0b10)
        (event,) = pmu.events
        assert (event.id, event.data) == (1, 0b10)
        assert not ctx.get(pmu.dut.irq)
        await pmu.write(PmuRegister.INTENSET, 0b10)
        assert not ctx.get(pmu.dut.irq)
        await pmu.write(PmuRegister.IRQ_CTRL, 1)
        assert ctx.get(pmu.dut.irq)
        await pmu.write(PmuRegister.INTENCLR, 0b10)
        assert not ctx.get(pmu.dut.irq)
        await pmu.write(PmuRegister.INTENSET, 0b01)
        assert not ctx.get(pmu.dut.irq), "another counter's enable"
        await pmu.write(PmuRegister.OVSSET, 0b10)
        assert len(pmu.events) == 1, "the bit was set already"

    run(Pmu(counters=4), scenario)


def test_dmc620_handler():
    """Stop the counters, read the status, write 0 to it, reload, start: without any common gate."""

    async def scenario(pmu):
        ctx = pmu.ctx
        enable_external = 1 | EVENT_EXTERNAL << 2
        for counter in range(2):
            await pmu.write(counter_value(counter), WRAP - 1)
            await pmu.write(counter_control(counter), enable_external)
        assert await pmu.read(counter_control(0)) == enable_external
        assert await pmu.read(event_type(0)) == EVENT_EXTERNAL
        await pmu.pulse(pmu.dut.count, 0b01)
        assert ctx.get(pmu.dut.irq)
        for counter in range(2):
            await pmu.write(counter_control(counter), 0)
        assert ctx.get(pmu.dut.irq), "stopping the counters does not serve the interrupt"
        await pmu.pulse(pmu.dut.count, 0b11)
        await pmu.pulse(pmu.dut.overflow, 0b11)
        assert await pmu.read(PmuRegister.OVERFLOW_STATUS) == 0b01
        assert await pmu.read(PmuRegister.OVERFLOW_STATUS_CLK) == 0
        await pmu.write(counter_value(0), WRAP - 1)
        await pmu.write(PmuRegister.OVERFLOW_STATUS, 0)
        assert not ctx.get(pmu.dut.irq)
        for counter in range(2):
            await pmu.write(counter_control(counter), enable_external)
        await pmu.pulse(pmu.dut.count, 0b11)
        assert await pmu.read(PmuRegister.OVERFLOW_STATUS) == 0b11
        assert [e.data for e in pmu.events] == [0b01, 0b11]
        assert pmu.events[1].id == 0

    run(Pmu(counters=2), scenario)


def test_the_views_do_not_gate_each_other():
    async def scenario(pmu):
        await pmu.write(counter_control(0), 1 | EVENT_EXTERNAL << 2)
        await pmu.pulse(pmu.dut.overflow, 1)
        assert pmu.ctx.get(pmu.dut.irq)
        await pmu.write(PmuRegister.CNTENSET, 1)
        assert not pmu.ctx.get(pmu.dut.irq), "CNTENSET takes the counter under the common gates"
        await pmu.pulse(pmu.dut.overflow, 1)
        assert len(pmu.events) == 1, "CR is off"

    run(Pmu(counters=4), scenario)


def test_who_wins_in_one_clock():
    async def scenario(pmu):
        count, overflow = (pmu.dut.count, 1), (pmu.dut.overflow, 1)
        await pmu.start(0, preload=WRAP - 1)
        await pmu.access(event_counter(0), 77, strobe=count)
        assert await pmu.read(event_counter(0)) == 77, "the write wins over the count"
        assert not pmu.events
        await pmu.access(event_counter(0), 88, strobe=overflow)
        assert await pmu.read(event_counter(0)) == 0, "the overflow strobe wins over the write"
        assert await pmu.read(PmuRegister.OVSSET) == 1
        for offset, value in ((PmuRegister.OVSCLR, 1), (PmuRegister.OVERFLOW_STATUS, 0)):
            await pmu.access(offset, value, strobe=overflow)
            assert await pmu.read(PmuRegister.OVSSET) == 1, "no overflow is lost"
        assert len(pmu.events) == 3
        await pmu.write(PmuRegister.OVSCLR, 1)
        await pmu.access(PmuRegister.CNTENCLR, 1, strobe=overflow)
        assert await pmu.read(PmuRegister.OVSSET) == 1, "enabled when the strobe came"
        await pmu.write(PmuRegister.OVSCLR, 1)
        await pmu.access(PmuRegister.CNTENSET, 1, strobe=overflow)
        assert await pmu.read(PmuRegister.OVSSET) == 0, "not yet enabled when the strobe came"

    run(Pmu(), scenario)


class Model:
    """One clock at a time; ``step`` returns what the tap, irq and the read data should be."""

    def __init__(self, n):
        self.n = n
        self.values, self.types = [0] * n, [0] * n
        self.enabled = self.direct = self.inten = self.status = 0
        self.running = self.signalling = 0

    @property
    def irq(self):
        gate = (self.inten if self.signalling else 0) | self.direct
        return bool(self.status & gate)

    def read(self, offset):
        for i in range(self.n):
            if offset in (event_counter(i), counter_value(i)):
                return self.values[i]
            if offset == event_type(i):
                return self.types[i]
            if offset == counter_control(i):
                return self.types[i] << 2 | self.enabled >> i & 1
        return {
            PmuRegister.OVERFLOW_STATUS: self.status,
            PmuRegister.OVSSET: self.status,
            PmuRegister.OVSCLR: self.status,
            PmuRegister.CNTENSET: self.enabled,
            PmuRegister.CNTENCLR: self.enabled,
            PmuRegister.INTENSET: self.inten,
            PmuRegister.INTENCLR: self.inten,
            PmuRegister.CR: self.running,
            PmuRegister.IRQ_CTRL: self.signalling,
        }[offset]

    def write(self, offset, value):
        bits = value & (1 << self.n) - 1
        for i in range(self.n):
            if offset in (event_counter(i), counter_value(i)):
                self.values[i] = value
            if offset == event_type(i):
                self.types[i] = min(value & 0xFFFF, 31)
            if offset == counter_control(i):
                self.types[i] = value >> 2 & 31
                self.enabled = self.enabled & ~(1 << i) | (value & 1) << i
                self.direct |= 1 << i
        if offset in (PmuRegister.CNTENSET, PmuRegister.CNTENCLR):
            self.direct &= ~bits
        match offset:
            case PmuRegister.OVERFLOW_STATUS:
                self.status = bits
            case PmuRegister.OVSSET:
                self.status |= bits
            case PmuRegister.OVSCLR:
                self.status &= ~bits
            case PmuRegister.CNTENSET:
                self.enabled |= bits
            case PmuRegister.CNTENCLR:
                self.enabled &= ~bits
            case PmuRegister.INTENSET:
                self.inten |= bits
            case PmuRegister.INTENCLR:
                self.inten &= ~bits
            case PmuRegister.CR:
                self.running = value & 1
            case PmuRegister.IRQ_CTRL:
                self.signalling = value & 1

    def step(self, count, overflow, access):
        """The mask of counters that have something to say."""
        before = self.status
        counting = self.enabled & (self.direct | -self.running) & (1 << self.n) - 1
        types = list(self.types)
        written = None
        if access and access[1] is not None:
            self.write(*access)
            written = access[0]
        by_write = self.status & ~before
        overflows = 0
        for i in range(self.n):
            if not counting >> i & 1:
                continue
            event = types[i] == EVENT_CYCLES or (types[i] == EVENT_EXTERNAL and count >> i & 1)
            if overflow >> i & 1:
                self.values[i] = 0
                overflows |= 1 << i
            elif written not in (event_counter(i), counter_value(i)) and event:
                self.values[i] = (self.values[i] + 1) % WRAP
                overflows |= (self.values[i] == 0) << i
        self.status |= overflows
        return by_write | overflows


@pytest.mark.parametrize("seed", range(4))
def test_random_clocks_as_the_model_has_them(seed):
    rng = random.Random(seed)
    n = 1 + seed % 4
    dut, model = Pmu(counters=n), Model(n)
    registers = [
        PmuRegister.OVERFLOW_STATUS,
        PmuRegister.CNTENSET,
        PmuRegister.CNTENCLR,
        PmuRegister.INTENSET,
        PmuRegister.INTENCLR,
        PmuRegister.OVSSET,
        PmuRegister.OVSCLR,
        PmuRegister.CR,
        PmuRegister.IRQ_CTRL,
    ]
    for i in range(n):
        registers += [event_counter(i), event_type(i), counter_control(i), counter_value(i)]
    totals = {"overflows": 0, "irq": 0}

    async def scenario(pmu):
        ctx, bus = pmu.ctx, dut.bus
        ctx.set(bus.response.ready, 1)
        expected = None
        for clock in range(3000):
            access = None
            if expected is None and rng.random() < 0.7:
                offset = rng.choice(registers)
                value = rng.choice((None, rng.getrandbits(7), WRAP - rng.randrange(1, 9)))
                if offset in (PmuRegister.CR, PmuRegister.CNTENSET) and value is not None:
                    value |= rng.getrandbits(1)
                access = (offset, value)
            count, overflow = rng.getrandbits(n), rng.getrandbits(n) * (rng.random() < 0.1)
            ctx.set(dut.count, count)
            ctx.set(dut.overflow, overflow)
            ctx.set(bus.request.valid, access is not None)
            if access:
                ctx.set(bus.request.p.address, access[0])
                ctx.set(bus.request.p.write, access[1] is not None)
                ctx.set(bus.request.p.data, access[1] or 0)
                ctx.set(bus.request.p.select, 0xF)
            answer = None
            if access:
                answer = model.read(access[0]) if access[1] is None else 0
            events = model.step(count, overflow, access)
            _, _, valid, record, answered, data = await ctx.tick().sample(
                dut.tap.valid, dut.tap.record, bus.response.valid, bus.response.p.data
            )
            assert valid == bool(events), f"clock {clock}"
            if events:
                lowest = (events & -events).bit_length() - 1
                assert (record.data, record.id) == (events, lowest), f"clock {clock}"
            assert answered == (expected is not None), f"clock {clock}"
            if answered:
                assert data == expected, f"clock {clock}"
            expected = answer
            assert ctx.get(dut.irq) == model.irq, f"clock {clock}"
            totals["overflows"] += bool(events)
            totals["irq"] += model.irq

    run(dut, scenario)
    assert totals["overflows"] > 50, "the stimulus did not cover enough"
    assert 100 < totals["irq"] < 2900, "the stimulus did not cover enough"


# --- the bank -------------------------------------------------------------------------------


@pytest.mark.parametrize("pmus", [1, 2, 3, 5])
def test_each_instance_has_its_frame_and_all_share_the_line(pmus):
    async def scenario(bank):
        ctx, dut = bank.ctx, bank.dut
        for i in range(pmus):
            await bank.start(0, base=i * FRAME_SIZE, preload=i + 1)
        for i in range(pmus):
            assert await bank.read(i * FRAME_SIZE + event_counter(0)) == i + 1
        for i in range(pmus):
            await bank.pulse(dut.overflow[i], 1)
            assert ctx.get(dut.line)
        for i in range(pmus):
            for j in range(pmus):
                status = await bank.read(j * FRAME_SIZE + PmuRegister.OVSSET)
                assert status == (j >= i)
            assert ctx.get(dut.line), "level: high until the last is served"
            await bank.write(i * FRAME_SIZE + PmuRegister.OVSCLR, 1)
        assert not ctx.get(dut.line)
        assert [e.unit for e in bank.events] == [FIRST_UNIT + i for i in range(pmus)]
        assert all(e.kind == EventKind.DEVICE_EVENT for e in bank.events)

    run(PmuBank(pmus, counters=1), scenario)


def test_external_events_go_to_their_instance():
    async def scenario(bank):
        for i in range(2):
            await bank.start(1, base=i * FRAME_SIZE)
        await bank.pulse(bank.dut.count[1], 0b10)
        assert await bank.read(event_counter(1)) == 0
        assert await bank.read(FRAME_SIZE + event_counter(1)) == 1

    run(PmuBank(2, counters=2), scenario)


@pytest.mark.parametrize(("pmus", "size"), [(1, 0x1000), (2, 0x2000), (3, 0x4000), (5, 0x8000)])
def test_an_access_beyond_the_last_instance_is_an_error(pmus, size):
    dut = PmuBank(pmus, counters=1)
    assert dut.size == size

    async def scenario(bank):
        for frame in range(pmus, size // FRAME_SIZE):
            for value in (None, 1):
                answer = await bank.access(frame * FRAME_SIZE + PmuRegister.OVSSET, value)
                assert (answer.error, answer.data) == (1, 0)
        for frame in range(pmus):
            assert await bank.read(frame * FRAME_SIZE + PmuRegister.OVSSET) == 0

    run(dut, scenario)


def test_an_answer_waits_for_its_asker():
    async def scenario(bank):
        ctx, bus = bank.ctx, bank.dut.bus
        ctx.set(bus.request.p.address, PmuRegister.CFGR)
        ctx.set(bus.request.valid, 1)
        await ctx.tick()
        ctx.set(bus.request.p.address, PmuRegister.CR)
        for _ in range(BOUND):
            assert not ctx.get(bus.request.ready)
            assert ctx.get(bus.response.valid)
            assert ctx.get(bus.response.p.data) == 31 << 8
            await ctx.tick()
        ctx.set(bus.request.valid, 0)
        ctx.set(bus.response.ready, 1)
        await ctx.tick()
        assert not ctx.get(bus.response.valid)
        assert ctx.get(bus.request.ready)

    run(PmuBank(2, counters=1), scenario)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: Pmu(128), ValueError, "PMU instance must be between 0 and 127, not 128"),
        (lambda: Pmu("0"), TypeError, "PMU instance must be an integer, not '0'"),
        (
            lambda: Pmu(counters=5),
            ValueError,
            "Number of PMU counters must be between 1 and 4, not 5",
        ),
        (lambda: PmuBank(0), ValueError, "Number of PMUs must be between 1 and 64, not 0"),
        (lambda: PmuBank(True), TypeError, "Number of PMUs must be an integer, not True"),
        (lambda: event_counter(4), ValueError, "Counter number must be between 0 and 3, not 4"),
        (
            lambda: counter_control(None),
            TypeError,
            "Counter number must be an integer, not None",
        ),
    ],
)
def test_bad_parameters_are_named(call, error, text):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == text
