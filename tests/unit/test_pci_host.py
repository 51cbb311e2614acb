"""Host bridge: routing, ordering, latencies, INTx wires, unplugging, and bounded answers."""

import random

import pytest

from hdl.pci.endpoint import EndpointConfig
from hdl.pci.host import PciHost
from hdl.pci.intx import swizzle
from hdl.registers import pci
from hdl.registers.pci import Device, Header
from hdl.tap import EventKind

from .pci_bench import ALL_ONES, HostBench

BAR = (pci.MMIO_BASE, pci.MMIO_BASE + 0x10_0000, pci.MMIO_BASE + 0xFFF_E000)
RAM = 0x4000_0100
MESSAGE = (0x0000_00FE_1234_5678, 0x4321)
ENABLE = pci.COMMAND_MEMORY | pci.COMMAND_MASTER

PLAIN = EndpointConfig()
TABLE = EndpointConfig(msi="none", msix_vectors=4, pin="B", bar_bits=64)


def test_parameters_are_checked():
    with pytest.raises(ValueError, match=r"^A host bridge has 1 to 16 endpoints, not 0$"):
        PciHost(())
    with pytest.raises(ValueError, match=r"^A host bridge has 1 to 16 endpoints, not 17$"):
        PciHost((PLAIN,) * 17)
    with pytest.raises(TypeError, match=r"^An endpoint must be an EndpointConfig, not 'nic'$"):
        PciHost(("nic",))


def test_addresses():
    assert pci.ecam_address(0, 1, 0) == pci.ECAM_BASE + 0x8000
    assert pci.ecam_address(15, 31, 7, 4095) == pci.ECAM_BASE + pci.ECAM_SIZE - 1
    assert [pci.requester_id(i) for i in (0, 1, 30)] == [8, 16, 248]
    for bad, message in [
        ((16, 0, 0), r"^bus must be between 0 and 15, not 16$"),
        ((0, 32, 0), r"^device must be between 0 and 31, not 32$"),
        ((0, 0, 8), r"^function must be between 0 and 7, not 8$"),
        ((0, 0, 0, 4096), r"^offset must be between 0 and 4095, not 4096$"),
        ((-1, 0, 0), r"^bus must be between 0 and 15, not -1$"),
    ]:
        with pytest.raises(ValueError, match=message):
            pci.ecam_address(*bad)
    with pytest.raises(ValueError, match=r"^endpoint must be between 0 and 30, not 31$"):
        pci.requester_id(31)
    assert [swizzle(0, device) for device in range(5)] == [0, 1, 2, 3, 0]
    assert swizzle(3, 1) == 0


def test_configuration_reaches_one_function():
    bench = HostBench((PLAIN, EndpointConfig(device_id=0x1234), TABLE))

    async def scenario(bench):
        ids = [await bench.config_read(i, Header.DEVICE, size=2) for i in range(3)]
        assert ids == [pci.DEVICE_ID, 0x1234, pci.DEVICE_ID]
        await bench.config_write(1, Header.INTERRUPT_LINE, 0x5A, size=1)
        lines = [await bench.config_read(i, Header.INTERRUPT_LINE, size=1) for i in range(3)]
        assert lines == [0, 0x5A, 0]
        assert bench.took == 4

        (write,) = bench.kinds(EventKind.CONFIG_WRITE)
        assert (write.id, write.address, write.data) == (pci.requester_id(1), 0x3C, 0x5A)
        reads = bench.kinds(EventKind.CONFIG_READ)
        assert [(r.id, r.address, r.data) for r in reads[3:]] == [
            (pci.requester_id(0), 0x3C, 0x0100),
            (pci.requester_id(1), 0x3C, 0x015A),
            (pci.requester_id(2), 0x3C, 0x0200),
        ]

    bench.run(scenario)


def test_absent_functions_answer_all_ones():
    bench = HostBench((PLAIN,))

    async def scenario(bench):
        for place in [(0, 0, 0), (0, 2, 0), (0, 1, 1), (1, 1, 0), (15, 31, 7)]:
            address = pci.ecam_address(*place)
            assert await bench.access(bench.dut.ecam, address) == ALL_ONES
            assert await bench.access(bench.dut.ecam, address, value=0) == 0
        assert await bench.read(BAR[0]) == ALL_ONES, "memory space is disabled"
        await bench.start(0, BAR[0])
        assert await bench.read(BAR[0]) == pci.IDENTITY
        assert await bench.read(BAR[0] + pci.BAR_SIZE) == ALL_ONES
        await bench.write(BAR[0] + pci.BAR_SIZE, 0)
        assert not bench.kinds(EventKind.BUS_ERROR)

    bench.run(scenario)


def test_bar_routing_of_32_and_64_bits():
    bench = HostBench((PLAIN, TABLE, PLAIN))

    async def scenario(bench):
        for i, bar in enumerate(BAR):
            await bench.start(i, bar)
            await bench.write(bar + Device.ACKNOWLEDGE, i + 1)
        for i, bar in enumerate(BAR):
            assert await bench.read(bar + Device.ACKNOWLEDGE) == i + 1
        await bench.config_write(1, Header.BAR1, 1)
        assert await bench.read(BAR[1]) == ALL_ONES, "above 4 GiB now"
        await bench.config_write(1, Header.BAR1, 0)
        await bench.config_write(2, Header.BAR0, BAR[1])
        await bench.write(BAR[1] + Device.ACKNOWLEDGE, 9)
        await bench.config_write(2, Header.BAR0, BAR[2])
        values = [await bench.read(bar + Device.ACKNOWLEDGE) for bar in BAR]
        assert values == [1, 9, 3], "of two that claim it, the first has it"

    bench.run(scenario)


def test_posted_latency():
    bench = HostBench((PLAIN,))

    async def scenario(bench):
        await bench.start(0, BAR[0])
        await bench.start_msi(0, *MESSAGE)
        for latency in (0, 1, 2, 3, 50, 4095):
            bench.events.clear()
            bench.writes.clear()
            bench.knob("posted_latency", latency)
            await bench.event()
            await bench.step(latency + 20)
            (event,) = bench.kinds(EventKind.DEVICE_EVENT)
            (message,) = bench.kinds(EventKind.MESSAGE)
            assert message.clock - event.clock == 5 + max(latency, 2)
            assert (message.address, message.data) == MESSAGE
            assert message.id == pci.requester_id(0)
            (write,) = bench.writes
            assert write == (message.clock, *MESSAGE, pci.requester_id(0))

    bench.run(scenario)


def test_completion_latency():
    bench = HostBench((PLAIN,))

    async def scenario(bench):
        for latency in (0, 1, 40):
            bench.knob("completion_latency", latency)
            await bench.start(0, BAR[0])
            assert bench.took == 4 + latency, "a configuration write has a completion"
            await bench.config_read(0, 0)
            assert bench.took == 4 + latency
            await bench.read(BAR[0])
            assert bench.took == 4 + latency
            await bench.write(BAR[0] + Device.ACKNOWLEDGE, 0)
            assert bench.took == 4, "a memory write has none"

    bench.run(scenario)


def test_reads_push_posted_writes_or_not():
    """Linux reads a register back after a message update and relies on the push."""
    bench = HostBench((PLAIN, PLAIN), posted_latency=100)

    async def scenario(bench):
        await bench.start(0, BAR[0])
        await bench.start(1, BAR[1])
        await bench.start_msi(0, *MESSAGE)
        for push in (0, 1):
            for port in ("config", "memory"):
                bench.writes.clear()
                bench.knob("completions_pass_posted", not push)
                await bench.event()
                await bench.step(10)
                await bench.config_read(1, 0)
                assert not bench.writes, "another function's read does not push"
                assert bench.took == 4 + push
                await bench.config_write(0, Header.INTERRUPT_LINE, 1, size=1)
                assert not bench.writes, "nor does a write's completion"
                if port == "config":
                    await bench.config_read(0, bench.dut.endpoints[0].capability("msi"))
                else:
                    await bench.read(BAR[0])
                assert len(bench.writes) == push, (push, port)
                await bench.step(100)
                assert len(bench.writes) == 1

    bench.run(scenario)


def test_a_read_pushes_what_was_offered_when_it_was_answered():
    """Sweep the event over every clock around a read: a message that carries the register value
    of before the read's answer is never delivered after the read."""
    bench = HostBench((PLAIN,), completions_pass_posted=0, posted_latency=60, bus_delay=9)
    strike_at = [None]

    async def strike(ctx):
        while True:
            ctx.set(bench.dut.stimulus[0].event, bench.clock == strike_at[0])
            await ctx.tick()

    async def scenario(bench):
        before = after = 0
        await bench.start(0, BAR[0])
        for offset in range(1, 24):
            bench.writes.clear()
            await bench.start_msi(0, MESSAGE[0], 1)
            strike_at[0] = bench.clock + offset
            await bench.step(8)
            await bench.config_write(0, 0x40 + pci.msi_data(True), 2, size=2)
            await bench.config_read(0, 0x40)
            answered = bench.clock
            await bench.until(lambda: bench.writes, "the message")
            await bench.step(15)
            (message,) = bench.writes
            if message.data == 1:
                before += 1
                assert message.clock < answered, offset
            else:
                after += 1
        assert before > 3
        assert after > 3

    bench.run(scenario, strike)


def test_a_read_pushes_what_found_no_room_in_the_queue():
    """The queue is full of another function's writes when a message is offered and read past."""
    bench = HostBench((PLAIN, PLAIN), completions_pass_posted=0, posted_latency=300)

    async def scenario(bench):
        for i in (0, 1):
            await bench.start(i, BAR[i])
        await bench.start_msi(1, 0x1000, 0)
        await bench.start_msi(0, *MESSAGE)
        await bench.write(BAR[1] + Device.GENERATOR_PERIOD, 8)
        await bench.write(BAR[1] + Device.GENERATOR_CONTROL, pci.GENERATOR_RUN)
        await bench.step(200)
        assert len(bench.kinds(EventKind.DEVICE_EVENT)) > 20
        assert not bench.writes
        await bench.event(0)
        await bench.step(8)
        await bench.config_read(0, Header.VENDOR, size=2)
        assert bench.writes[-1][1:] == (*MESSAGE, pci.requester_id(0))

    bench.run(scenario)


def test_reads_around_a_delivery_are_answered():
    """A read at every clock around the delivery of the last posted write waits for nothing more."""
    bench = HostBench((PLAIN,), completions_pass_posted=0, posted_latency=3)

    async def scenario(bench):
        await bench.start(0, BAR[0])
        await bench.start_msi(0, *MESSAGE)
        waits = []
        for offset in range(16):
            await bench.event()
            await bench.step(offset)
            await bench.config_read(0, Header.VENDOR, size=2)
            waits.append(bench.took)
            await bench.step(20)
        assert min(waits) == 5
        assert 5 < max(waits) <= 12

    bench.run(scenario)


def test_an_intx_change_and_a_write_in_one_clock():
    """INTx disable toggles at every clock around a data write: both arrive, once."""
    bench = HostBench((PLAIN,))
    strike_at = [None]

    async def strike(ctx):
        while True:
            ctx.set(bench.dut.stimulus[0].event, bench.clock == strike_at[0])
            await ctx.tick()

    async def scenario(bench):
        await bench.start(0, BAR[0])
        await bench.write(BAR[0] + Device.DMA_ADDRESS_LO, RAM)
        await bench.write(BAR[0] + Device.DMA_CONTROL, pci.DMA_CONTROL_ENABLE)
        strike_at[0] = bench.clock + 2
        await bench.step(20)
        for offset in range(10):
            bench.writes.clear()
            bench.events.clear()
            strike_at[0] = bench.clock + offset + 1
            await bench.step(8)
            disable = ENABLE | pci.COMMAND_INTX_DISABLE
            await bench.config_write(0, Header.COMMAND, disable, size=2)
            await bench.step(30)
            assert [write.data for write in bench.writes] == [offset + 2]
            assert [event.data for event in bench.kinds(EventKind.INTX)] == [0]
            await bench.config_write(0, Header.COMMAND, ENABLE, size=2)
            await bench.step(20)
            assert [event.data for event in bench.kinds(EventKind.INTX)] == [0, 1]

    bench.run(scenario, strike)


def test_data_arrives_before_its_message_and_before_intx():
    bench = HostBench((PLAIN,), posted_latency=20, completions_pass_posted=0)

    async def scenario(bench):
        await bench.start(0, BAR[0])
        await bench.write(BAR[0] + Device.DMA_ADDRESS_LO, RAM)
        await bench.write(BAR[0] + Device.DMA_CONTROL, pci.DMA_CONTROL_ENABLE)
        await bench.event()
        await bench.until(lambda: bench.ctx.get(bench.dut.wires), "INTx")
        (write,) = bench.writes
        (intx,) = bench.kinds(EventKind.INTX)
        assert write[1:] == (RAM, 1, pci.requester_id(0))
        assert write.clock < intx.clock
        assert (intx.unit, intx.id, intx.data) == (0, 0, 1)

        # an acknowledgement and a read that pushes the deassertion ahead of its completion
        await bench.write(BAR[0] + Device.ACKNOWLEDGE, 1)
        assert bench.ctx.get(bench.dut.wires) == 1 << 1
        await bench.read(BAR[0] + Device.STATUS)
        assert bench.ctx.get(bench.dut.wires) == 0

        await bench.start_msi(0, *MESSAGE)
        for _ in range(3):
            await bench.event()
            await bench.step(15)
        await bench.step(40)
        expected = [MESSAGE if i % 2 else (RAM, 2 + i // 2) for i in range(6)]
        assert [(w.address, w.data) for w in bench.writes[1:]] == expected
        messages = bench.kinds(EventKind.MESSAGE)
        assert [(e.address, e.data) for e in messages[1:]] == expected, "data writes show too"

    bench.run(scenario)


def test_wires_are_swizzled_and_shared():
    pins = "ABCDA"
    bench = HostBench(tuple(EndpointConfig(pin=pin) for pin in pins))

    async def scenario(bench):
        wires = [(("ABCD".index(pin)) + i + 1) % 4 for i, pin in enumerate(pins)]
        assert wires == [1, 3, 1, 3, 1]
        for i in range(5):
            await bench.start(i, BAR[0] + i * pci.BAR_SIZE)
        level = 0
        for i in (0, 1, 2):
            await bench.event(i)
            await bench.step(12)
            level |= 1 << wires[i]
            assert bench.ctx.get(bench.dut.wires) == level
        await bench.write(BAR[0] + Device.ACKNOWLEDGE, 1)
        await bench.step(12)
        assert bench.ctx.get(bench.dut.wires) == level, "device 2 still holds the wire"
        await bench.write(BAR[0] + 2 * pci.BAR_SIZE + Device.ACKNOWLEDGE, 1)
        await bench.step(12)
        assert bench.ctx.get(bench.dut.wires) == 1 << wires[1]
        shown = [(e.unit, e.id, e.data) for e in bench.kinds(EventKind.INTX)]
        assert shown == [(0, 0, 1), (1, 1, 1), (2, 2, 1), (0, 0, 0), (2, 2, 0)]

    bench.run(scenario)


def test_writes_that_go_nowhere():
    bench = HostBench((PLAIN,), completions_pass_posted=0)
    addresses = [
        1 << 40 | 0xFEE0_1000,
        1 << 63,
        pci.ECAM_BASE,
        pci.ECAM_BASE + pci.ECAM_SIZE - 4,
        pci.MMIO_BASE,
        pci.MMIO_BASE + pci.MMIO_SIZE - 4,
    ]

    async def scenario(bench):
        await bench.start(0, BAR[0])
        for address in addresses:
            bench.events.clear()
            await bench.start_msi(0, address, 7)
            await bench.event()
            await bench.step(15)
            assert not bench.writes
            assert not bench.kinds(EventKind.MESSAGE)
            (bad,) = bench.kinds(EventKind.MESSAGE_BAD)
            assert (bad.address, bad.data, bad.id) == (address, 7, pci.requester_id(0))
            assert await bench.config_read(0, Header.VENDOR, size=2) == pci.VENDOR_ID

    bench.run(scenario)


def test_neighbours_of_the_windows_are_reached():
    around = [
        pci.ECAM_BASE - 4,
        pci.ECAM_BASE + pci.ECAM_SIZE,
        pci.MMIO_BASE - 4,
        pci.MMIO_BASE + pci.MMIO_SIZE,
        (1 << 40) - 4,
    ]
    bench = HostBench((PLAIN,))

    async def scenario(bench):
        await bench.start(0, BAR[0])
        for address in around:
            await bench.start_msi(0, address, 0)
            await bench.event()
            await bench.step(12)
        assert [write.address for write in bench.writes] == around

    bench.run(scenario)


def test_a_bus_error_of_a_posted_write_shows():
    bench = HostBench((PLAIN, PLAIN), errors=(0x1000,))

    async def scenario(bench):
        await bench.start(1, BAR[1])
        await bench.start_msi(1, 0x1000, 1)
        await bench.event(1)
        await bench.step(15)
        (error,) = bench.kinds(EventKind.BUS_ERROR)
        assert (error.unit, error.address, error.data) == (0x81, 0x1000, 1)
        assert len(bench.kinds(EventKind.MESSAGE)) == 1

    bench.run(scenario)


def test_unplugging_one_function():
    bench = HostBench((PLAIN, PLAIN), posted_latency=50)

    async def scenario(bench):
        for i in (0, 1):
            await bench.start(i, BAR[i])
        await bench.event(0)  # INTx
        await bench.step(60)
        await bench.start_msi(1, *MESSAGE)
        await bench.event(1)
        await bench.step(10)
        bench.stimulate(0, unplug=1)
        bench.stimulate(1, unplug=1)
        assert bench.ctx.get(bench.dut.wires) == 1 << 1
        assert await bench.config_read(0, 0) == ALL_ONES
        assert await bench.config_read(1, Header.COMMAND, size=2) == 0xFFFF
        assert await bench.read(BAR[1]) == ALL_ONES
        await bench.config_write(0, Header.COMMAND, ENABLE, size=2)
        await bench.event(0)
        await bench.step(60)
        assert [(w.address, w.data) for w in bench.writes] == [MESSAGE], "drained"
        assert bench.ctx.get(bench.dut.wires) == 0, "its INTx is deasserted for it"
        assert len(bench.kinds(EventKind.DEVICE_EVENT)) == 2, "a gone device has no events"

        bench.stimulate(1, unplug=0)
        assert await bench.config_read(0, 0) == ALL_ONES
        assert await bench.config_read(1, Header.DEVICE, size=2) == pci.DEVICE_ID
        assert await bench.config_read(1, Header.COMMAND, size=2) == 0, "back, and reset"
        assert await bench.config_read(1, 0x40 + pci.MSI_ADDRESS_LO) == 0

    bench.run(scenario)


def test_unplugging_during_an_access():
    """At every clock of a read: it is answered, with the value or with all ones."""
    bench = HostBench((TABLE,))
    pull_at = [None]

    async def pull(ctx):
        while True:
            ctx.set(bench.dut.stimulus[0].unplug, bench.clock == pull_at[0])
            await ctx.tick()

    async def scenario(bench):
        seen = set()
        await bench.step(16)
        for offset in range(1, 14):
            await bench.start(0, BAR[0])
            pull_at[0] = bench.clock + offset
            value = await bench.read(BAR[0] + pci.BAR_MSIX_TABLE + pci.MSIX_ENTRY_CONTROL)
            assert value in (pci.MSIX_ENTRY_MASKED, ALL_ONES)
            seen.add(value)
            await bench.until(lambda: bench.clock > pull_at[0] + 20, "the function to be back")
            pull_at[0] = bench.clock + offset
            value = await bench.config_read(0, Header.VENDOR, size=2)
            assert value in (pci.VENDOR_ID, 0xFFFF)
            await bench.until(lambda: bench.clock > pull_at[0] + 20, "the function to be back")
        assert len(seen) == 2

    bench.run(scenario, pull)


def test_everything_is_answered_under_load():
    """Three functions with events all the time, a slow bus, random accesses on both ports:
    nothing is lost, nothing out of order, everything answered in the stated bound."""
    delay, latency = 6, 30
    bench = HostBench(
        (PLAIN, EndpointConfig(msi="none", msix_vectors=8), EndpointConfig(maskable=True)),
        bus_delay=delay,
        posted_latency=latency,
        completions_pass_posted=0,
        completion_latency=3,
    )
    delivery = 16 * (delay + 2 + 3) + latency
    bound = 50 + 2 * delivery
    generator = random.Random(4)

    async def scenario(bench):
        for i, bar in enumerate(BAR):
            await bench.start(i, bar)
            await bench.write(bar + Device.DMA_ADDRESS_LO, RAM + 4 * i)
            await bench.write(bar + Device.DMA_CONTROL, pci.DMA_CONTROL_ENABLE)
            await bench.write(bar + Device.GENERATOR_PERIOD, 5 + i)
        for i in (0, 2):
            await bench.start_msi(i, 0x1000 + i * 0x100, 0x10 * i)
        for vector in range(8):
            entry = BAR[1] + pci.BAR_MSIX_TABLE + 16 * vector
            await bench.write(entry, 0x1100)
            await bench.write(entry + pci.MSIX_ENTRY_DATA, vector)
            await bench.write(entry + pci.MSIX_ENTRY_CONTROL, 0)
        await bench.config_write(1, 0x40 + pci.MSIX_FLAGS, pci.MSIX_FLAGS_ENABLE, size=2)
        for bar in BAR:
            control = pci.GENERATOR_RUN | pci.GENERATOR_ROTATE
            await bench.write(bar + Device.GENERATOR_CONTROL, control)
        for _ in range(60):
            i = generator.randrange(3)
            match generator.randrange(4):
                case 0:
                    await bench.config_read(i, 4 * generator.randrange(64))
                case 1:
                    await bench.read(BAR[i] + Device.COUNT)
                case 2:
                    await bench.read(BAR[1] + pci.BAR_MSIX_PENDING)
                case 3:
                    await bench.config_write(i, Header.INTERRUPT_LINE, i, size=1)
            assert bench.took <= bound
        for bar in BAR:
            await bench.write(bar + Device.GENERATOR_CONTROL, 0)
        await bench.step(delivery + 200)
        for i, bar in enumerate(BAR):
            mine = [w for w in bench.writes if w.extra == pci.requester_id(i)]
            assert len(mine) > 30
            counts = [w.data for w in mine if w.address == RAM + 4 * i]
            assert counts == sorted(counts)
            assert counts[-1] == await bench.read(bar + Device.COUNT), "the last event shows"
            kinds = [w.address == RAM + 4 * i for w in mine]
            assert kinds == [True, False] * (len(mine) // 2), "data, message, data, message ..."
        shown = [(e.address, e.data, e.id) for e in bench.kinds(EventKind.MESSAGE)]
        assert shown == [tuple(write[1:]) for write in bench.writes]

    bench.run(scenario)
