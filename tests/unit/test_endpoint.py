"""The function as a whole: header, BAR, event device, sending, INTx, quirks, unplugging."""

import itertools

import pytest

from hdl.pci.endpoint import Endpoint, EndpointConfig
from hdl.registers import pci
from hdl.registers.pci import CapabilityId, Device, Header
from hdl.tap import EventKind

from .pci_bench import ALL_ONES, FunctionBench

MESSAGE = (0x0000_0001_FEE0_1004, 0x4035)
RAM = 0x0000_0002_4000_0100
MASTER = pci.COMMAND_MEMORY | pci.COMMAND_MASTER


# --- Configuration --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "arguments", "message"),
    [
        (ValueError, {"msi": "16"}, r'^EndpointConfig.msi must be "none", "32" or "64", not .16.$'),
        (TypeError, {"msi": 64}, r'^EndpointConfig.msi must be "none", "32" or "64", not 64$'),
        (TypeError, {"maskable": 1}, r"^EndpointConfig.maskable must be True or False, not 1$"),
        (
            ValueError,
            {"msi_vectors": 3},
            r"^EndpointConfig.msi_vectors must be 1, 2, 4, 8, 16 or 32, not 3$",
        ),
        (
            TypeError,
            {"msi_vectors": True},
            r"^EndpointConfig.msi_vectors must be 1, 2, 4, 8, 16 or 32, not True$",
        ),
        (
            ValueError,
            {"msix_vectors": 65},
            r"^EndpointConfig.msix_vectors must be an integer from 0 to 64, not 65$",
        ),
        (TypeError, {"intx": "A"}, r"^EndpointConfig.intx must be True or False, not 'A'$"),
        (ValueError, {"pin": "E"}, r'^EndpointConfig.pin must be "A", "B", "C" or "D", not .E.$'),
        (ValueError, {"bar_bits": 16}, r"^EndpointConfig.bar_bits must be 32 or 64, not 16$"),
        (
            ValueError,
            {"device_id": 0x1_0000},
            r"^EndpointConfig.device_id must be an integer from 0 to 65535, not 65536$",
        ),
        (
            ValueError,
            {"msi": "none", "maskable": True},
            r"^EndpointConfig.maskable and msi_vectors need MSI: set msi to .* "
            r"\(maskable=True, msi_vectors=1\)$",
        ),
        (
            ValueError,
            {"msi": "none", "intx": False},
            r"^EndpointConfig has no interrupt at all: set msi, msix_vectors or intx$",
        ),
    ],
)
def test_configuration_is_checked(error, arguments, message):
    with pytest.raises(error, match=message):
        EndpointConfig(**arguments)


def test_configuration_says_what_there_is():
    everything = EndpointConfig(msi_vectors=32, msix_vectors=64, pin="D")
    assert everything.vectors == 64
    assert everything.pin_number == 4
    assert everything.capabilities == ("msi", "msix", "express")
    assert [everything.capability(n) for n in everything.capabilities] == [0x40, 0x80, 0xC0]
    bare = EndpointConfig(msi="none", intx=True)
    assert (bare.vectors, bare.pin_number) == (1, 1)
    assert EndpointConfig(intx=False).pin_number == 0
    with pytest.raises(ValueError, match=r"^This endpoint has express, but no 'msi'$"):
        bare.capability("msi")


def test_header_and_capability_chain():
    config = EndpointConfig(msix_vectors=2, pin="C", device_id=0xABCD)
    bench = FunctionBench(config)

    async def scenario(bench):
        read = bench.config_read
        assert await read(Header.VENDOR, size=2) == pci.VENDOR_ID
        assert await read(Header.DEVICE, size=2) == 0xABCD
        assert await read(Header.COMMAND, size=2) == 0
        assert await read(Header.STATUS, size=2) == pci.STATUS_CAPABILITIES
        assert await read(Header.HEADER_TYPE, size=1) == 0
        assert await read(Header.INTERRUPT_PIN, size=1) == 3
        assert await read(Header.ROM) == 0
        found, pointer = [], await read(Header.CAPABILITIES, size=1)
        while pointer:
            found.append((CapabilityId(await read(pointer, size=1)), pointer))
            pointer = await read(pointer + 1, size=1)
        assert found == [
            (CapabilityId.MSI, config.capability("msi")),
            (CapabilityId.MSIX, config.capability("msix")),
            (CapabilityId.EXPRESS, config.capability("express")),
        ]
        assert await read(0x100) == 0, "no extended capabilities"

    bench.run(scenario)


@pytest.mark.parametrize("bits", [32, 64])
def test_bar_sizes_and_moves(bits):
    bench = FunctionBench(EndpointConfig(bar_bits=bits))

    async def scenario(bench):
        wide = bits == 64
        low_bits = pci.BAR_TYPE_64 if wide else 0
        await bench.config_write(Header.BAR0, ALL_ONES)
        await bench.config_write(Header.BAR1, ALL_ONES)
        size = ALL_ONES - pci.BAR_SIZE + 1 | low_bits
        assert await bench.config_read(Header.BAR0) == size
        assert await bench.config_read(Header.BAR1) == (ALL_ONES if wide else 0)
        await bench.config_write(Header.BAR0, 0x1234_5678)
        await bench.config_write(Header.BAR1, 0x9A)
        base = 0x1234_4000 | (0x9A << 32 if wide else 0)
        bar = bench.ctx.get(bench.dut.bar)
        assert (bar.enable, bar.base) == (0, base)
        await bench.command(pci.COMMAND_MEMORY)
        assert bench.ctx.get(bench.dut.bar).enable
        for offset in range(0x18, 0x28, 4):
            await bench.config_write(offset, ALL_ONES)
            assert await bench.config_read(offset) == 0

    bench.run(scenario)


# --- The event device -----------------------------------------------------------------------------


def test_device_registers():
    """Writable bits, lanes, and zeros where there is nothing, in both halves of the BAR."""
    bench = FunctionBench(EndpointConfig())
    writable = {
        Device.ACKNOWLEDGE: ALL_ONES,
        Device.DMA_ADDRESS_LO: 0xFFFF_FFFC,
        Device.DMA_ADDRESS_HI: ALL_ONES,
        Device.DMA_CONTROL: 1,
        Device.GENERATOR_PERIOD: 0xFFFF,
        Device.GENERATOR_BURST: 0xFF,
        Device.GENERATOR_COUNT: 0xFFFF,
        Device.GENERATOR_CONTROL: 0x3F02,
    }

    async def scenario(bench):
        assert await bench.device_read(Device.IDENTITY) == pci.IDENTITY
        for register in Device:
            if register in (Device.IDENTITY, Device.STATUS, Device.TRIGGER):
                continue
            await bench.device_write(register, 0xFFFF_FFFE if register == 0x2C else ALL_ONES)
            assert await bench.device_read(register) == writable.get(register, 0), register.name
            await bench.device_write(register, 0)
            await bench.write(register + 1, 0xA5, size=1)
            expected = writable.get(register, 0) & 0xA500
            assert await bench.device_read(register) == expected, register.name
            await bench.device_write(register, 0)
        for offset in (0x30, 0xFFC, 0x1000, 0x1004, 0x1008, 0x1800, 0x1FFC):
            await bench.write(offset, ALL_ONES)
            assert await bench.read(offset) == 0
        assert await bench.device_read(Device.IDENTITY) == pci.IDENTITY
        assert not bench.kinds(EventKind.DEVICE_EVENT)

    bench.run(scenario)


def test_count_and_acknowledge():
    bench = FunctionBench()

    async def scenario(bench):
        for expected in (1, 2, 3):
            await bench.event()
            assert await bench.device_read(Device.COUNT) == expected
        assert await bench.device_read(Device.STATUS) & pci.DEVICE_STATUS_CAUSE
        await bench.device_write(Device.ACKNOWLEDGE, 2)
        assert await bench.device_read(Device.STATUS) & pci.DEVICE_STATUS_CAUSE
        await bench.device_write(Device.ACKNOWLEDGE, 3)
        assert not await bench.device_read(Device.STATUS) & pci.DEVICE_STATUS_CAUSE
        assert len(bench.kinds(EventKind.DEVICE_EVENT)) == 3

    bench.run(scenario)


def test_an_event_in_the_clock_of_its_acknowledgement_is_kept():
    bench = FunctionBench()
    strike_at = [None]

    async def strike(ctx):
        while True:
            ctx.set(bench.dut.stimulus.event, bench.clock == strike_at[0])
            await ctx.tick()

    async def scenario(bench):
        for offset in range(-1, 4):
            await bench.step(4)
            count = await bench.device_read(Device.COUNT)
            strike_at[0] = bench.clock + 2 + offset
            await bench.step(2)
            await bench.device_write(Device.ACKNOWLEDGE, count)
            await bench.step(8)
            assert await bench.device_read(Device.COUNT) == count + 1
            assert await bench.device_read(Device.STATUS) & pci.DEVICE_STATUS_CAUSE, offset
            assert bench.ctx.get(bench.dut.intx)
            await bench.device_write(Device.ACKNOWLEDGE, count + 1)

    bench.run(scenario, strike)


def test_vectors_the_function_does_not_have_count_as_vector_0():
    bench = FunctionBench(EndpointConfig(msi_vectors=4))

    async def scenario(bench):
        await bench.start_msi(*MESSAGE, log2_vectors=2)
        for vector in (3, 4, 63):
            await bench.event(vector)
            await bench.step(10)
        assert [event.id for event in bench.kinds(EventKind.DEVICE_EVENT)] == [3, 0, 0]
        assert [data & 3 for _, data in bench.messages] == [3, 0, 0]

    bench.run(scenario)


def test_trigger_and_generator_and_stimulus_share_the_clock():
    bench = FunctionBench(EndpointConfig(msix_vectors=8))

    async def scenario(bench):
        await bench.device_write(Device.TRIGGER, 5)
        await bench.step()
        assert [event.id for event in bench.events] == [5]
        bench.events.clear()

        await bench.device_write(Device.GENERATOR_PERIOD, 10)
        await bench.device_write(Device.GENERATOR_BURST, 3)
        await bench.device_write(Device.GENERATOR_COUNT, 2)
        control = pci.GENERATOR_RUN | pci.GENERATOR_ROTATE | 6 << pci.GENERATOR_VECTOR_SHIFT
        await bench.device_write(Device.GENERATOR_CONTROL, control)
        assert await bench.device_read(Device.STATUS) & pci.DEVICE_STATUS_RUNNING
        await bench.step(30)
        start = bench.events[0].clock
        shown = [(event.clock - start, event.id) for event in bench.events]
        assert shown == [(0, 6), (1, 7), (2, 0), (10, 1), (11, 2), (12, 3)]
        assert not await bench.device_read(Device.STATUS) & pci.DEVICE_STATUS_RUNNING
        assert await bench.device_read(Device.GENERATOR_COUNT) == 0

        # the stimulus holds up both others; nothing is lost
        bench.events.clear()
        await bench.device_write(Device.GENERATOR_COUNT, 1)
        control = pci.GENERATOR_RUN | 2 << pci.GENERATOR_VECTOR_SHIFT
        bench.ctx.set(bench.dut.stimulus.vector, 4)
        bench.ctx.set(bench.dut.stimulus.event, 1)
        await bench.device_write(Device.GENERATOR_CONTROL, control)
        await bench.device_write(Device.TRIGGER, 3)
        await bench.step(3)
        bench.ctx.set(bench.dut.stimulus.event, 0)
        await bench.step(8)
        ids = [event.id for event in bench.events]
        assert ids[-4:] == [3, 2, 2, 2]
        assert set(ids[:-4]) == {4}
        clocks = [event.clock for event in bench.events]
        assert clocks == list(range(clocks[0], clocks[0] + len(clocks)))

    bench.run(scenario)


def test_generator_runs_until_stopped():
    bench = FunctionBench()

    async def scenario(bench):
        await bench.device_write(Device.GENERATOR_PERIOD, 4)
        await bench.device_write(Device.GENERATOR_CONTROL, pci.GENERATOR_RUN)
        await bench.step(41)
        await bench.device_write(Device.GENERATOR_CONTROL, 0)
        await bench.step(6)
        count = await bench.device_read(Device.COUNT)
        assert count in (10, 11)
        await bench.step(30)
        assert await bench.device_read(Device.COUNT) == count
        clocks = [event.clock for event in bench.events]
        assert {b - a for a, b in itertools.pairwise(clocks)} == {4}

    bench.run(scenario)


# --- Data, then the message -----------------------------------------------------------------------


async def start_dma(bench):
    await bench.device_write(Device.DMA_ADDRESS_LO, RAM & ALL_ONES)
    await bench.device_write(Device.DMA_ADDRESS_HI, RAM >> 32)
    await bench.device_write(Device.DMA_CONTROL, pci.DMA_CONTROL_ENABLE)


def test_the_count_is_written_before_the_message():
    bench = FunctionBench()

    async def scenario(bench):
        await bench.start_msi(*MESSAGE)
        await start_dma(bench)
        for _ in range(2):
            await bench.event()
            await bench.step(12)
        shown = [write[1:] for write in bench.writes]
        assert shown == [(RAM, 1, 0), (*MESSAGE, 1), (RAM, 2, 0), (*MESSAGE, 1)]

    bench.run(scenario)


def test_events_coalesce_while_they_wait_and_none_is_lost():
    """A second event at every clock after the first: one message or two, and the last data always
    includes both."""
    bench = FunctionBench(moderation=6)
    strike_at = [()]

    async def strike(ctx):
        while True:
            ctx.set(bench.dut.stimulus.event, bench.clock in strike_at[0])
            await ctx.tick()

    async def scenario(bench):
        numbers = []
        await bench.start_msi(*MESSAGE)
        await start_dma(bench)
        for gap in range(1, 24):
            bench.writes.clear()
            strike_at[0] = (bench.clock + 2, bench.clock + 2 + gap)
            await bench.step(60)
            count = await bench.device_read(Device.COUNT)
            assert count == 2 * gap
            data = [write.data for write in bench.writes if not write.extra]
            assert data[-1] == count
            assert len(bench.messages) == len(data)
            numbers.append(len(data))
        # the count is read 2 + 6 clocks after the event; an event in that clock comes after it
        assert numbers == [1] * 7 + [2] * 16

    bench.run(scenario, strike)


def test_vectors_take_turns():
    bench = FunctionBench(EndpointConfig(msi_vectors=8))

    async def scenario(bench):
        await bench.start_msi(MESSAGE[0], 0, log2_vectors=3)
        for vector in (6, 5, 1, 7, 0):
            await bench.event(vector)
        await bench.step(40)
        order = [data for _, data in bench.messages]
        assert order[0] == 6
        assert order == [6, 7, 0, 1, 5]

    bench.run(scenario)


def test_bus_master_off_drops_by_default():
    bench = FunctionBench(EndpointConfig(maskable=True))

    async def scenario(bench):
        await bench.start_msi(*MESSAGE)
        await start_dma(bench)
        await bench.command(pci.COMMAND_MEMORY)
        await bench.event()
        await bench.step(12)
        await bench.msi_mask(1)
        await bench.event()
        await bench.step(12)
        assert await bench.msi_pending() == 1, "masked comes first"
        await bench.msi_mask(0)
        await bench.step(12)
        assert await bench.msi_pending() == 0
        await bench.command(MASTER)
        await bench.step(20)
        assert bench.writes == []
        blocked = bench.kinds(EventKind.MESSAGE_BLOCKED)
        assert [(record.unit, record.id) for record in blocked] == [(0, 0)] * 2

    bench.run(scenario)


@pytest.mark.parametrize("dma", [False, True])
def test_bus_master_off_can_hold(dma):
    bench = FunctionBench(EndpointConfig(maskable=True), hold_when_no_master=1)

    async def scenario(bench):
        await bench.start_msi(*MESSAGE)
        if dma:
            await start_dma(bench)
        await bench.command(pci.COMMAND_MEMORY)
        await bench.event()
        await bench.step(30)
        assert bench.writes == []
        assert len(bench.kinds(EventKind.MESSAGE_BLOCKED)) == 1
        await bench.msi_message(0x1000, 0x22)
        await bench.command(MASTER)
        await bench.step(10)
        assert bench.messages == [(0x1000, 0x22)], "the message of the moment it leaves"
        assert len(bench.writes) == 1 + dma

        # held, then masked: it becomes pending
        await bench.command(pci.COMMAND_MEMORY)
        await bench.device_write(Device.DMA_CONTROL, 0)
        await bench.event()
        await bench.step(10)
        await bench.msi_mask(1)
        await bench.command(MASTER)
        await bench.step(10)
        assert len(bench.messages) == 1
        assert await bench.msi_pending() == 1
        # unmasked without a master: held again
        await bench.command(pci.COMMAND_MEMORY)
        await bench.msi_mask(0)
        await bench.step(10)
        assert len(bench.messages) == 1
        await bench.command(MASTER)
        await bench.step(10)
        assert len(bench.messages) == 2

    bench.run(scenario)


def test_bus_master_off_at_every_clock():
    """Bus mastering goes off around an event: the message leaves once, or is reported once."""
    bench = FunctionBench()
    strike_at = [None]

    async def strike(ctx):
        while True:
            ctx.set(bench.dut.stimulus.event, bench.clock == strike_at[0])
            await ctx.tick()

    async def scenario(bench):
        seen = set()
        await bench.start_msi(*MESSAGE)
        for hold in (0, 1):
            bench.quirk("hold_when_no_master", hold)
            for offset in range(16):
                bench.writes.clear()
                bench.events.clear()
                strike_at[0] = bench.clock + offset + 1
                await bench.step(8)
                await bench.command(pci.COMMAND_MEMORY)
                await bench.step(12)
                sent = len(bench.writes)
                blocked = len(bench.kinds(EventKind.MESSAGE_BLOCKED))
                assert sent + blocked == 1, (hold, offset)
                await bench.command(MASTER)
                await bench.step(8)
                assert len(bench.writes) == (1 if hold else sent)
                seen.add((hold, sent))
        assert len(seen) == 4

    bench.run(scenario, strike)


@pytest.mark.parametrize("hold", [0, 1])
def test_bus_master_off_right_after_an_unmasking(hold):
    """The pending bit is cleared and then there is no master: held means sent later, once."""
    bench = FunctionBench(EndpointConfig(maskable=True), hold_when_no_master=hold)

    async def scenario(bench):
        seen = set()
        for spacing in range(6):
            await bench.start_msi(*MESSAGE)
            await bench.msi_mask(1)
            await bench.event()
            await bench.step(8)
            assert await bench.msi_pending() == 1
            bench.writes.clear()
            bench.events.clear()
            await bench.msi_mask(0)
            await bench.step(spacing)
            await bench.command(pci.COMMAND_MEMORY)
            await bench.step(10)
            sent = len(bench.writes)
            assert sent + len(bench.kinds(EventKind.MESSAGE_BLOCKED)) == 1, spacing
            await bench.command(MASTER)
            await bench.step(10)
            assert len(bench.writes) == (1 if hold else sent), spacing
            seen.add(sent)
        assert seen == {0, 1}

    bench.run(scenario)


def test_backpressure_holds_the_offer():
    bench = FunctionBench()

    async def scenario(bench):
        posted = bench.dut.posted
        await bench.start_msi(*MESSAGE)
        bench.ctx.set(posted.ready, 0)
        await bench.event()
        await bench.until(lambda: bench.ctx.get(posted.valid), "the message")
        await bench.msi_message(0x1000, 1)
        await bench.step(20)
        assert bench.ctx.get(posted.valid)
        payload = bench.ctx.get(posted.payload)
        assert (payload.address, payload.data) == MESSAGE, "an offer holds until it is taken"
        bench.ctx.set(posted.ready, 1)
        await bench.step(5)
        assert bench.messages == [MESSAGE]

    bench.run(scenario)


# --- INTx -----------------------------------------------------------------------------------------


def test_intx_follows_cause_disable_and_messages():
    bench = FunctionBench(EndpointConfig(msix_vectors=2))

    async def scenario(bench):
        async def check(level, status):
            await bench.step(2)
            assert bench.ctx.get(bench.dut.intx) == level
            read = await bench.config_read(Header.STATUS, size=2)
            assert bool(read & pci.STATUS_INTERRUPT) == status

        await check(0, False)
        await bench.event()
        await bench.step(5)
        await check(1, True)
        await bench.command(pci.COMMAND_INTX_DISABLE)
        await check(0, True)
        await bench.command(0)
        await check(1, True)
        await bench.msi_flags(True)
        await check(0, False)
        await bench.msi_flags(False)
        await check(1, True)
        await bench.msix_flags(True)
        await check(0, False)
        await bench.msix_flags(False)
        await check(1, True)
        await bench.device_write(Device.ACKNOWLEDGE, 1)
        await check(0, False)
        assert bench.writes == [], "INTx needs no bus mastering, and writes nothing"
        assert not bench.kinds(EventKind.MESSAGE_BLOCKED)

    bench.run(scenario)


def test_an_event_while_msi_is_disabled_becomes_intx_or_is_dropped():
    """Disabling MSI around an update (variant V1) trades a torn message for this."""
    bench = FunctionBench()

    async def scenario(bench):
        for drop in (0, 1):
            bench.quirk("drop_when_disabled", drop)
            await bench.start_msi(*MESSAGE)
            await bench.msi_flags(False)
            await bench.event()
            await bench.step(12)
            assert bench.ctx.get(bench.dut.intx) == (not drop)
            await bench.msi_flags(True)
            await bench.step(12)
            assert not bench.ctx.get(bench.dut.intx)
            assert bench.messages == [], "the event itself does not come back"
            await bench.msi_flags(False)
            count = await bench.device_read(Device.COUNT)
            await bench.device_write(Device.ACKNOWLEDGE, count)

    bench.run(scenario)


def test_intx_waits_for_moderation_and_data():
    bench = FunctionBench(moderation=20)

    async def scenario(bench):
        await bench.command(MASTER)
        await start_dma(bench)
        bench.ctx.set(bench.dut.posted.ready, 0)
        await bench.event()
        await bench.step(40)
        assert not bench.ctx.get(bench.dut.intx), "the data has not left"
        bench.ctx.set(bench.dut.posted.ready, 1)
        await bench.step(2)
        assert bench.ctx.get(bench.dut.intx)
        assert [write.data for write in bench.writes] == [1]

    bench.run(scenario)


def test_a_function_without_a_pin_shows_nothing():
    bench = FunctionBench(EndpointConfig(intx=False))

    async def scenario(bench):
        await bench.event()
        await bench.step(10)
        assert not bench.ctx.get(bench.dut.intx)
        await bench.command(pci.COMMAND_INTX_DISABLE)
        assert await bench.config_read(Header.COMMAND, size=2) == 0

    bench.run(scenario)


# --- Unplugging -----------------------------------------------------------------------------------


def test_unplugging_at_every_clock():
    """Nothing leaves from the first clock of it, an interrupt under way is reported once, and the
    function comes back in its reset state."""
    bench = FunctionBench(EndpointConfig(maskable=True))
    actions = {}

    async def act(ctx):
        stimulus = bench.dut.stimulus
        while True:
            ctx.set(stimulus.event, bench.clock == actions.get("event"))
            ctx.set(stimulus.unplug, bench.clock in actions.get("gone", ()))
            await ctx.tick()

    async def scenario(bench):
        outcomes = set()
        for offset in range(-2, 12):
            await bench.start_msi(*MESSAGE)
            bench.writes.clear()
            bench.events.clear()
            strike = bench.clock + 4
            actions.update(event=strike, gone=range(strike + offset, strike + offset + 3))
            await bench.step(30)
            raised = len(bench.kinds(EventKind.DEVICE_EVENT))
            blocked = len(bench.kinds(EventKind.MESSAGE_BLOCKED))
            sent = len(bench.writes)
            outcomes.add((raised, blocked, sent))
            assert not (raised and not blocked and not sent), offset
            for write in bench.writes:
                assert write.clock < strike + offset
            assert await bench.config_read(Header.COMMAND, size=2) == 0
            assert await bench.config_read(bench.msi) & ALL_ONES == (
                (pci.MSI_FLAGS_64BIT | pci.MSI_FLAGS_MASKABLE) << 16
                | bench.config.capability("express") << 8
                | CapabilityId.MSI
            )
            assert await bench.config_read(bench.msi + pci.MSI_ADDRESS_LO) == 0
            assert await bench.device_read(Device.COUNT) == 0
        assert outcomes == {(0, 0, 0), (1, 1, 0), (1, 0, 1)}

    bench.run(scenario, act)


def test_the_default_configuration_is_a_64_bit_msi_function():
    assert Endpoint().config == EndpointConfig(
        msi="64", maskable=False, msi_vectors=1, msix_vectors=0, intx=True, pin="A", bar_bits=32
    )


@pytest.mark.parametrize("latch", [0, 1])
@pytest.mark.parametrize("after", range(6))
def test_msix_turned_off_in_any_clock_of_an_event_leaves_it_to_the_pin(latch, after):
    """A function that latches waited for ever for a table that was just switched off."""
    config = EndpointConfig(msi="none", msix_vectors=3)
    bench = FunctionBench(config, latch_at_event=latch)

    async def scenario(bench):
        await bench.step(20)
        await bench.command(MASTER)
        await bench.msix_flags()
        await bench.event()
        await bench.step(after)
        await bench.msix_flags(enable=False)
        await bench.step(60)
        assert bench.ctx.get(bench.dut.intx), "the pin takes over"
        await bench.device_write(Device.ACKNOWLEDGE, 1)
        await bench.step(10)
        assert not bench.ctx.get(bench.dut.intx)
        await bench.event()
        await bench.step(60)
        assert bench.ctx.get(bench.dut.intx), "and for the next event too"

    bench.run(scenario)
