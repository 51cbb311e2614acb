"""Benches for one PCI function and for the host bridge with functions behind it."""

from typing import NamedTuple

from amaranth.hdl import Cat, Value
from amaranth.sim import Simulator

from hdl.bus import BusRequest
from hdl.pci.endpoint import Endpoint, EndpointConfig
from hdl.pci.host import PciHost
from hdl.pci.interfaces import PostedWrite
from hdl.registers import pci
from hdl.registers.pci import Device, Header
from hdl.tap import EventKind, TapRecord

BOUND = 700
ALL_ONES = 0xFFFF_FFFF
DEFAULT = EndpointConfig()


class Write(NamedTuple):
    """A memory write that left a function or reached the bus."""

    clock: int
    address: int
    data: int
    extra: int  # posted: whether it is an interrupt; bus: the requester id


class Event(NamedTuple):
    """A record of the tap."""

    clock: int
    kind: EventKind
    unit: int
    id: int
    address: int
    data: int


async def transact(ctx, port, payload, what):
    """One request and its answer on any port with a request and a response stream."""
    for name, value in payload.items():
        ctx.set(getattr(port.request.p, name), value)
    ctx.set(port.request.valid, 1)
    ctx.set(port.response.ready, 1)
    for _ in range(BOUND):
        _, _, ready = await ctx.tick().sample(port.request.ready)
        if ready:
            break
    else:
        raise AssertionError(f"{what} was not taken within {BOUND} clocks")
    ctx.set(port.request.valid, 0)
    for _ in range(BOUND):
        response = port.response
        _, _, valid, answer = await ctx.tick().sample(response.valid, response.payload)
        if valid:
            ctx.set(port.response.ready, 0)
            return answer
    raise AssertionError(f"{what} was not answered within {BOUND} clocks")


def lanes_of(offset, size, value):
    """Word address, byte lanes and shifted data of an access of ``size`` bytes."""
    assert offset % size == 0
    shift = 8 * (offset & 3)
    return offset & ~3, ((1 << size) - 1) << (offset & 3), value << shift & ALL_ONES


class _Bench:
    """A simulation of ``dut``: a clock count, a tap log, and one scenario at a time."""

    def __init__(self, dut, taps):
        self.dut = dut
        self.clock = 0
        self.taps = taps
        self.events: list[Event] = []
        self.writes: list[Write] = []

    def run(self, scenario, *actors, vcd=None):
        """Run ``await scenario(bench)``, beside it ``await actor(ctx)`` for each actor."""
        simulator = Simulator(self.dut)
        simulator.add_clock(1e-6)
        simulator.add_testbench(self._watch, background=True)
        self._more_actors(simulator)
        for actor in actors:
            simulator.add_testbench(actor, background=True)

        async def testbench(ctx):
            self.ctx = ctx
            await scenario(self)

        simulator.add_testbench(testbench)
        if vcd:
            with simulator.write_vcd(vcd):
                simulator.run()
        else:
            simulator.run()

    def _more_actors(self, simulator):
        pass

    async def _watch(self, ctx):
        # one plain number a clock, taken apart only when something happened: this is the hot loop
        valid = Cat(tap.valid for tap in self.taps)
        records = Cat(Value.cast(tap.record) for tap in self.taps)
        width = TapRecord.as_shape().size
        async for _, _, happened, raw in ctx.tick().sample(valid, records):
            for number in range(len(self.taps)):
                if happened >> number & 1:
                    record = TapRecord.from_bits(raw >> width * number & ((1 << width) - 1))
                    fields = (record.unit, record.id, record.address, record.data)
                    self.events.append(Event(self.clock, EventKind(record.kind), *fields))
            self.clock += 1

    def kinds(self, *kinds):
        """The records of these kinds so far."""
        return [event for event in self.events if event.kind in kinds]

    async def step(self, clocks=1):
        for _ in range(clocks):
            await self.ctx.tick()

    async def until(self, condition, what):
        """Step until ``condition()`` holds; the clocks it took."""
        for waited in range(BOUND):
            if condition():
                return waited
            await self.step()
        raise AssertionError(f"{what} did not happen within {BOUND} clocks")


class FunctionBench(_Bench):
    """One :class:`Endpoint`, driven at its own ports. ``writes`` is what it posted."""

    def __init__(self, config: EndpointConfig = DEFAULT, **quirks):
        dut = Endpoint(config)
        super().__init__(dut, [dut.event_tap, dut.blocked_tap])
        self.config = config
        self.quirks = quirks
        self.msi = config.capability("msi") if config.msi != "none" else None
        self.msix = config.capability("msix") if config.msix_vectors else None
        self.wide = config.msi == "64"

    def _more_actors(self, simulator):
        simulator.add_testbench(self._take_writes, background=True)

    async def _take_writes(self, ctx):
        posted = self.dut.posted
        for name, value in self.quirks.items():
            ctx.set(getattr(self.dut.quirks, name), value)
        ctx.set(posted.ready, 1)
        clock = 0
        payload = Value.cast(posted.payload)
        async for _, _, taken, raw in ctx.tick().sample(posted.valid & posted.ready, payload):
            if taken:
                write = PostedWrite.from_bits(raw)
                self.writes.append(Write(clock, write.address, write.data, write.interrupt))
            clock += 1

    @property
    def messages(self):
        """(address, data) of the interrupt messages so far."""
        return [(w.address, w.data) for w in self.writes if w.extra]

    def quirk(self, name, value):
        self.ctx.set(getattr(self.dut.quirks, name), value)

    async def _access(self, port, offset, size, write, value):
        address, select, data = lanes_of(offset, size, value)
        payload = {"address": address, "write": write, "data": data, "select": select}
        what = f"{'write' if write else 'read'} of {size} bytes at {offset:#x}"
        answer = await transact(self.ctx, port, payload, what)
        return answer >> 8 * (offset & 3) & ((1 << 8 * size) - 1)

    async def config_read(self, offset, size=4):
        return await self._access(self.dut.config_access, offset, size, 0, 0)

    async def config_write(self, offset, value, size=4):
        assert await self._access(self.dut.config_access, offset, size, 1, value) == 0

    async def read(self, offset, size=4):
        return await self._access(self.dut.memory, offset, size, 0, 0)

    async def write(self, offset, value, size=4):
        assert await self._access(self.dut.memory, offset, size, 1, value) == 0

    async def event(self, vector=0):
        """One strobe; returns after the clock in which the event happened."""
        self.ctx.set(self.dut.stimulus.vector, vector)
        self.ctx.set(self.dut.stimulus.event, 1)
        await self.step()
        self.ctx.set(self.dut.stimulus.event, 0)

    async def replug(self):
        """Take the function away for a clock; it comes back reset, and ready."""
        self.ctx.set(self.dut.stimulus.unplug, 1)
        await self.step()
        self.ctx.set(self.dut.stimulus.unplug, 0)
        await self.step(4 * self.config.msix_vectors)

    async def command(self, value):
        await self.config_write(Header.COMMAND, value, size=2)

    # MSI, in the order in which a driver does it
    async def msi_flags(self, enable=True, log2_vectors=0):
        await self.config_write(self.msi + pci.MSI_FLAGS, log2_vectors << 4 | enable, size=2)

    async def msi_message(self, address, data):
        await self.config_write(self.msi + pci.MSI_ADDRESS_LO, address & ALL_ONES)
        if self.wide:
            await self.config_write(self.msi + pci.MSI_ADDRESS_HI, address >> 32)
        await self.config_write(self.msi + pci.msi_data(self.wide), data, size=2)

    async def msi_mask(self, bits):
        await self.config_write(self.msi + pci.msi_mask(self.wide), bits)

    async def msi_pending(self):
        return await self.config_read(self.msi + pci.msi_pending(self.wide))

    async def start_msi(self, address, data, log2_vectors=0):
        await self.command(pci.COMMAND_MASTER | pci.COMMAND_MEMORY)
        await self.msi_message(address, data)
        await self.msi_flags(True, log2_vectors)

    # MSI-X
    async def msix_flags(self, enable=True, mask_all=False):
        flags = enable * pci.MSIX_FLAGS_ENABLE | mask_all * pci.MSIX_FLAGS_MASK_ALL
        await self.config_write(self.msix + pci.MSIX_FLAGS, flags, size=2)

    @staticmethod
    def entry(vector, register=0):
        return pci.BAR_MSIX_TABLE + vector * pci.MSIX_ENTRY_SIZE + register

    async def msix_message(self, vector, address, data):
        await self.write(self.entry(vector, pci.MSIX_ENTRY_ADDRESS_LO), address & ALL_ONES)
        await self.write(self.entry(vector, pci.MSIX_ENTRY_ADDRESS_HI), address >> 32)
        await self.write(self.entry(vector, pci.MSIX_ENTRY_DATA), data)

    async def msix_mask(self, vector, masked):
        await self.write(self.entry(vector, pci.MSIX_ENTRY_CONTROL), int(masked))

    async def msix_pending(self):
        low = await self.read(pci.BAR_MSIX_PENDING)
        return await self.read(pci.BAR_MSIX_PENDING + 4) << 32 | low

    async def start_msix(self, messages):
        """Enable MSI-X with ``messages[vector] = (address, data)``, all unmasked."""
        await self.command(pci.COMMAND_MASTER | pci.COMMAND_MEMORY)
        for vector, message in enumerate(messages):
            await self.msix_message(vector, *message)
            await self.msix_mask(vector, False)
        await self.msix_flags()

    # the device
    async def device_read(self, register):
        return await self.read(Device(register))

    async def device_write(self, register, value):
        await self.write(Device(register), value)


class HostBench(_Bench):
    """A :class:`PciHost`. Its bus initiator talks to a memory that answers after ``bus_delay``.

    ``writes`` is what the memory got; addresses in ``errors`` are answered with an error.
    """

    def __init__(self, endpoints, *, bus_delay=1, errors=(), **fabric):
        dut = PciHost(endpoints)
        super().__init__(dut, list(dut.tap))
        self.bus_delay = bus_delay
        self.errors = errors
        self.fabric = {"completions_pass_posted": 1} | fabric

    def _more_actors(self, simulator):
        simulator.add_testbench(self._memory, background=True)

    async def _memory(self, ctx):
        request, response = self.dut.bus.request, self.dut.bus.response
        for name, value in self.fabric.items():
            ctx.set(getattr(self.dut.fabric, name), value)
        clock = 0
        while True:
            ctx.set(request.ready, 1)
            raw = Value.cast(request.payload)
            _, _, valid, payload = await ctx.tick().sample(request.valid, raw)
            clock += 1
            if not valid:
                continue
            payload = BusRequest.from_bits(payload)
            ctx.set(request.ready, 0)
            assert payload.write
            assert payload.select == 0xF
            await ctx.tick().repeat(self.bus_delay)
            ctx.set(response.p.error, payload.address in self.errors)
            ctx.set(response.valid, 1)
            fields = (payload.address, payload.data, payload.requester.id)
            self.writes.append(Write(clock - 1, *fields))
            _, _, ready = await ctx.tick().sample(response.ready)
            assert ready, "the bridge must take an answer at once"
            ctx.set(response.valid, 0)
            clock += self.bus_delay + 1

    def knob(self, name, value):
        self.ctx.set(getattr(self.dut.fabric, name), value)

    def stimulate(self, endpoint, **levels):
        for name, value in levels.items():
            self.ctx.set(getattr(self.dut.stimulus[endpoint], name), value)

    async def event(self, endpoint=0, vector=0):
        self.stimulate(endpoint, event=1, vector=vector)
        await self.step()
        self.stimulate(endpoint, event=0)

    async def access(self, port, address, size=4, value=None):
        """A bus access; the answer's data. ``took``: clocks from its being taken to the answer."""
        word, select, data = lanes_of(address, size, value or 0)
        payload = {
            "address": word,
            "write": value is not None,
            "data": data,
            "select": select,
        }
        began = self.clock
        answer = await transact(self.ctx, port, payload, f"access to {address:#x}")
        assert not answer.error
        self.took = self.clock - began - 1
        return answer.data >> 8 * (address & 3) & ((1 << 8 * size) - 1)

    async def config_read(self, endpoint, offset, size=4):
        address = pci.ecam_address(0, endpoint + 1, 0, offset)
        return await self.access(self.dut.ecam, address, size)

    async def config_write(self, endpoint, offset, value, size=4):
        address = pci.ecam_address(0, endpoint + 1, 0, offset)
        assert await self.access(self.dut.ecam, address, size, value) == 0

    async def read(self, address, size=4):
        return await self.access(self.dut.mmio, address, size)

    async def write(self, address, value, size=4):
        assert await self.access(self.dut.mmio, address, size, value) == 0

    async def start(self, endpoint, bar, command=pci.COMMAND_MEMORY | pci.COMMAND_MASTER):
        """Assign the BAR and enable the function."""
        await self.config_write(endpoint, Header.BAR0, bar)
        await self.config_write(endpoint, Header.COMMAND, command, size=2)

    async def start_msi(self, endpoint, address, data):
        """Enable MSI with 64-bit addresses, capability first in the chain."""
        base = self.dut.endpoints[endpoint].capability("msi")
        await self.config_write(endpoint, base + pci.MSI_ADDRESS_LO, address & ALL_ONES)
        await self.config_write(endpoint, base + pci.MSI_ADDRESS_HI, address >> 32)
        await self.config_write(endpoint, base + pci.msi_data(True), data, size=2)
        await self.config_write(endpoint, base + pci.MSI_FLAGS, pci.MSI_FLAGS_ENABLE, size=2)
