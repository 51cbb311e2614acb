"""A CPU's port: where each operation goes, its lanes, its errors, and that all are answered."""

import itertools
import random

import pytest
from amaranth.hdl import Module
from amaranth.sim import Simulator

from hdl.bus import BusRequest, RequesterKind
from hdl.cpu_port import PRIVATE_BASE, CpuPort, CpuRequest, Operation, SysregRequest
from hdl.registers.sysreg import SystemRegister
from hdl.tap import EventKind

UNIT = 5
REQUESTER = {"id": 0x0102, "kind": RequesterKind.DEVICE}
BOUND = 200
PATHS = ("bus", "private", "sysreg")


class Path:
    """A target behind the port: holds a request back for some clocks, answers some clocks later."""

    def __init__(self, name, port, delays, asked):
        self.name = name
        self.port = port
        self.delays = delays
        self.asked = asked
        self.first = None
        self.due = None
        self.hold, self.latency = delays()

    def before(self, ctx, clock, answer):
        ctx.set(self.port.request.ready, self.due is None and self.hold == 0)
        ctx.set(self.port.response.valid, self.due == clock)
        if self.due == clock:
            ctx.set(self.port.response.payload, answer)

    def after(self, clock, valid, payload, taking):
        if self.due is not None:
            assert not valid, f"{self.name} is asked before it has answered"
            if clock == self.due:
                assert taking, f"the port does not take the answer of {self.name}"
                self.due = None
                self.hold, self.latency = self.delays()
        elif valid:
            self.first = payload if self.first is None else self.first
            assert payload == self.first, f"the request to {self.name} changed while held"
            if self.hold == 0:
                self.asked.append((self.name, payload))
                self.first = None
                self.due = clock + self.latency
            else:
                self.hold -= 1
        else:
            assert self.first is None, f"the request to {self.name} was withdrawn"


class Bench:
    """A port with three targets behind it, and its tap.

    ``asked`` has every request that came out, ``reports`` every tap record; ``answer`` is what
    the targets answer next.
    """

    def __init__(self, ctx, dut, delays):
        self.ctx = ctx
        self.dut = dut
        self.clock = 0
        self.asked = []
        self.reports = []
        self.answer = {"data": 0, "error": 0}
        self.paths = [Path(name, getattr(dut, name), delays, self.asked) for name in PATHS]
        ctx.set(dut.requester, REQUESTER)
        self.signals = [dut.link.request.ready, dut.link.response.valid, dut.link.response.payload]
        self.signals += [dut.tap.valid, dut.tap.record]
        for path in self.paths:
            port = path.port
            self.signals += [port.request.valid, port.request.payload, port.response.ready]

    async def tick(self):
        """One clock; whether the link was ready in it, and the answer it gave or None."""
        for path in self.paths:
            path.before(self.ctx, self.clock, self.answer)
        _, _, ready, valid, payload, event, record, *rest = await self.ctx.tick().sample(
            *self.signals
        )
        for i, path in enumerate(self.paths):
            path.after(self.clock, *rest[3 * i : 3 * i + 3])
        if event:
            self.reports.append(record)
        self.clock += 1
        return ready, payload if valid else None

    def offer(self, operation, size, address, data):
        request = {"operation": operation, "size": size, "address": address, "data": data}
        self.ctx.set(self.dut.link.request.payload, request)
        self.ctx.set(self.dut.link.request.valid, 1)

    async def operate(self, operation, size, address, data, answer):
        """One operation; its answer and the clocks it took."""
        self.asked.clear()
        self.reports.clear()
        self.answer = answer
        self.offer(operation, size, address, data)
        ready, early = await self.tick()
        assert ready, "an idle port takes an operation in the clock it is offered"
        assert early is None
        self.ctx.set(self.dut.link.request.valid, 0)
        self.ctx.set(self.dut.link.request.payload, {"data": ~0, "address": ~0, "size": 3})
        for clocks in range(1, BOUND):
            ready, got = await self.tick()
            if got is not None:
                _, again = await self.tick()
                assert again is None, "an answer is valid for one clock"
                return got, clocks
            assert not ready, "one operation at a time"
        raise AssertionError(f"no answer to {operation} at {address:#x} within {BOUND} clocks")


def simulate(play, *, delays=lambda: (0, 1), private=True, sysregs=True):
    dut = CpuPort(UNIT, private=private, sysregs=sysregs)
    top = Module()
    top.submodules.dut = dut
    sim = Simulator(top)
    sim.add_clock(1e-6)

    async def testbench(ctx):
        await play(Bench(ctx, dut, delays))

    sim.add_testbench(testbench)
    sim.run()


def where(operation, size, address, *, private=True, sysregs=True):
    """The path an operation belongs on, or None when it must be refused: a second reading of the
    docstring."""
    if operation in (Operation.READ_SYSREG, Operation.WRITE_SYSREG):
        return "sysreg" if sysregs and address < 64 else None
    if size == 3 or address % (1 << size) or address >= 1 << 40:
        return None
    return "private" if private and 0xFEE0_0000 <= address <= 0xFEE0_0FFF else "bus"


async def check(bench, operation, size, address, data, answer, **having):
    """One operation, and everything it must and must not do."""
    got, clocks = await bench.operate(operation, size, address, data, answer)
    what = f"{operation.name} size {size} at {address:#x}"
    path = where(operation, size, address, **having)
    assert [name for name, _ in bench.asked] == ([path] if path else []), what
    access = operation in (Operation.LOAD, Operation.STORE)
    if path is None:
        assert (got.data, got.error) == (0, 1), what
        assert clocks == 2, what
    elif path == "sysreg":
        assert (got.data, got.error) == (answer["data"], answer["error"]), what
        request = bench.asked[0][1]
        assert request.register == address, what
        assert request.write == (operation == Operation.WRITE_SYSREG), what
        assert request.data == data, what
    else:
        check_access(bench.asked[0][1], got, operation, size, address, data, answer, what)
    failed = access and (path is None or answer["error"])
    assert [describe(record) for record in bench.reports] == (
        [(EventKind.BUS_ERROR, UNIT, address, int(operation == Operation.STORE), 0)]
        if failed
        else []
    ), what
    return clocks


def check_access(request, got, operation, size, address, data, answer, what):
    count, lane = 1 << size, address % 4
    assert request.address == address - lane, what
    assert request.select == ((1 << count) - 1) << lane, what
    assert request.write == (operation == Operation.STORE), what
    assert (request.requester.id, request.requester.kind) == tuple(REQUESTER.values()), what
    mask = (1 << 8 * count) - 1
    if operation == Operation.STORE:
        assert (request.data >> 8 * lane) & mask == data & mask, what
        assert got.data == 0, what
    else:
        assert got.data == (answer["data"] >> 8 * lane) & mask, what
    assert got.error == answer["error"], what


def describe(record):
    return record.kind, record.unit, record.address, record.data, record.id


EDGES = (
    0x0,
    0x4000_0000,
    PRIVATE_BASE - 4,
    PRIVATE_BASE,
    PRIVATE_BASE + 0xFFC,
    PRIVATE_BASE + 0x1000,
    PRIVATE_BASE + (1 << 32),
    PRIVATE_BASE + (1 << 40),
    (1 << 40) - 4,
    1 << 40,
    1 << 63,
    (1 << 64) - 4,
)


@pytest.mark.parametrize("operation", [Operation.LOAD, Operation.STORE])
@pytest.mark.parametrize("size", range(4))
def test_sizes_lanes_and_windows(operation, size):
    async def play(bench):
        for edge, lane in itertools.product(EDGES, range(4)):
            for error in (0, 1):
                answer = {"data": 0 if error else 0x8899_AABB, "error": error}
                data = 0xF1E2_D3C4_B5A6_9788
                await check(bench, operation, size, edge + lane, data, answer)

    simulate(play)


def test_system_registers():
    async def play(bench):
        numbers = [*(register.value for register in SystemRegister), 0x3E, 64, 65, 1 << 40, 1 << 63]
        for number in numbers:
            for operation in (Operation.READ_SYSREG, Operation.WRITE_SYSREG):
                for error in (0, 1):
                    answer = {"data": 0xFEDC_BA98_7654_3210, "error": error}
                    await check(bench, operation, 3, number, (1 << 64) - 1 - number, answer)

    simulate(play)


@pytest.mark.parametrize("sysregs", [False, True])
@pytest.mark.parametrize("private", [False, True])
def test_random_operations_past_slow_targets(private, sysregs):
    """Every operation is answered, whatever the targets' pace, on the path it belongs on."""
    dice = random.Random(f"{private} {sysregs}")
    having = {"private": private, "sysregs": sysregs}

    def delays():
        return dice.choice([0, 0, 1, dice.randrange(20)]), dice.choice(
            [1, 1, 2, dice.randint(1, 20)]
        )

    async def play(bench):
        for _ in range(150):
            operation = dice.choice(list(Operation))
            if operation in (Operation.LOAD, Operation.STORE):
                address = dice.choice(EDGES) + dice.choice([0, 0, 0, 1, 2, 3])
            else:
                address = dice.randrange(70)
            width = 64 if where(operation, 2, address, **having) == "sysreg" else 32
            error = dice.random() < 0.2
            answer = {"data": 0 if error else dice.getrandbits(width), "error": int(error)}
            size = dice.choice([0, 1, 2, 2, 3])
            await check(bench, operation, size, address, dice.getrandbits(64), answer, **having)

    simulate(play, delays=delays, **having)


@pytest.mark.parametrize("latency", [1, 2, 9])
def test_latency_is_the_path_behind_plus_two(latency):
    async def play(bench):
        for operation, address in (
            (Operation.LOAD, 0x4000_0000),
            (Operation.STORE, PRIVATE_BASE),
            (Operation.READ_SYSREG, SystemRegister.ICC_PMR_EL1.value),
        ):
            clocks = await check(bench, operation, 2, address, 0, {"data": 0, "error": 0})
            assert clocks == latency + 2

    simulate(play, delays=lambda: (0, latency))


def test_the_next_operation_may_come_with_the_answer():
    """An operation held from early on is taken exactly in the clock of the answer before it."""

    async def play(bench):
        bench.answer = {"data": 7, "error": 0}
        bench.offer(Operation.LOAD, 2, 0x1000, 0)
        ready, _ = await bench.tick()
        assert ready
        taken = 1
        answers = 0
        for _ in range(BOUND):
            ready, answer = await bench.tick()
            assert ready == (answer is not None)
            taken += ready
            answers += answer is not None
        assert taken == answers + 1
        assert answers >= BOUND // 4

    simulate(play)


def test_a_refused_answer_does_not_hold_back_the_next_operation():
    async def play(bench):
        bench.offer(Operation.LOAD, 2, 0x1002, 0)
        seen = [await bench.tick() for _ in range(9)]
        assert [bool(ready) for ready, _ in seen] == [True, False] * 4 + [True]
        assert [i for i, (_, answer) in enumerate(seen) if answer is not None] == [2, 4, 6, 8]
        assert not bench.asked
        assert len(bench.reports) == 4

    simulate(play)


def test_words_have_the_documented_widths():
    assert CpuRequest.as_shape().size == 2 + 2 + 64 + 64
    assert BusRequest.as_shape().size == 40 + 1 + 32 + 4 + 18
    assert SysregRequest.as_shape().size == 6 + 1 + 64
