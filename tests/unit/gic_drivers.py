"""How the GIC's unit tests drive bus frames, system registers and candidates, clock by clock."""

from amaranth.hdl import ClockDomain, Module
from amaranth.sim import Simulator

from hdl.bus import RequesterKind
from hdl.registers.sysreg import SystemRegister
from hdl.tap import EventKind

ANSWER_BOUND = 600


def run(dut, *testbenches, taps=(), background=()):
    """Simulates ``dut`` until every testbench has ended; returns the records of ``taps``.

    Those in ``background`` need not end.
    ``taps`` is a sequence of tap channels; the result lists ``(channel, kind, unit, id, data)``.
    """
    m = Module()
    m.submodules.dut = dut
    m.domains.sync = ClockDomain()  # also for a block that is only combinational
    simulator = Simulator(m)
    simulator.add_clock(1e-6)

    def lingering(testbench):
        async def role(ctx):
            await testbench(ctx)
            await ctx.tick().repeat(3)  # the last events reach the taps

        return role

    for testbench in testbenches:
        simulator.add_testbench(lingering(testbench))
    for testbench in background:
        simulator.add_testbench(testbench, background=True)
    events = []

    def watch(number, tap):
        async def monitor(ctx):
            async for _, _, valid, record in ctx.tick().sample(tap.valid, tap.record):
                if valid:
                    kind = EventKind(record.kind)
                    events.append((number, kind, record.unit, record.id, record.data))

        return monitor

    for number, tap in enumerate(taps):
        simulator.add_testbench(watch(number, tap), background=True)
    simulator.run()
    return events


async def until(ctx, signal, what, *, bound=200, level=1):
    """Clocks until ``signal`` is ``level``; fails after ``bound`` clocks, naming ``what``."""
    for clocks in range(bound):
        if ctx.get(signal) == level:
            return clocks
        await ctx.tick()
    raise AssertionError(f"Waited {bound} clocks for {what}")


async def transfer(ctx, port, payload, *, bound=ANSWER_BOUND):
    """One request on a bus or system register port; the response and its clocks since taken."""
    ctx.set(port.request.payload, payload)
    ctx.set(port.request.valid, 1)
    ctx.set(port.response.ready, 1)
    await until(ctx, port.request.ready, "the request to be taken", bound=bound)
    await ctx.tick()
    ctx.set(port.request.valid, 0)
    clocks = 1 + await until(ctx, port.response.valid, "the response", bound=bound)
    response = ctx.get(port.response.payload)
    await ctx.tick()
    ctx.set(port.response.ready, 0)
    return response, clocks


class Frame:
    """A bus target as software sees it. Errors fail the test; no access may end in one."""

    def __init__(self, ctx, port, requester=0, kind=RequesterKind.CPU):
        self._ctx = ctx
        self._port = port
        self._requester = {"id": requester, "kind": kind}
        self.clocks = 0

    async def _access(self, address, write, data=0, select=0xF):
        response, self.clocks = await transfer(
            self._ctx,
            self._port,
            {
                "address": address & ~3,
                "write": write,
                "data": data,
                "select": select,
                "requester": self._requester,
            },
        )
        assert not response.error, f"bus error at {address:#x}"
        return response.data

    async def read(self, address):
        return await self._access(address, 0)

    async def write(self, address, data, select=0xF):
        assert await self._access(address, 1, data, select) == 0

    async def write8(self, address, data):
        lane = address & 3
        await self.write(address, data << 8 * lane, 1 << lane)

    async def write64(self, address, data):
        await self.write(address, data & 0xFFFF_FFFF)
        await self.write(address + 4, data >> 32)


class Sysregs:
    """A CPU's system registers by architectural name."""

    def __init__(self, ctx, port):
        self._ctx = ctx
        self._port = port
        self.clocks = 0

    async def access(self, number, write, data=0):
        payload = {"register": number, "write": write, "data": data}
        response, self.clocks = await transfer(self._ctx, self._port, payload)
        return response

    async def read(self, name):
        response = await self.access(SystemRegister[name], 0)
        assert not response.error, f"{name} cannot be read"
        return response.data

    async def write(self, name, data):
        response = await self.access(SystemRegister[name], 1, data)
        assert not response.error, f"{name} cannot be written"
        assert response.data == 0
