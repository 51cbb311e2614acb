"""Random programs on several CPUs: determinism, exclusion, and what a wake for nothing changes."""

from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_model.machine import CrossCalls, Machine, SpinLock, stop_machine

from .test_machine_host import ACKNOWLEDGE, RAISE, STORE, Host, records

CPUS = 3
cpu_numbers = st.integers(0, CPUS - 1)
short = st.integers(0, 9)

leaves = st.one_of(
    st.tuples(st.just("store"), short),
    st.tuples(st.just("load"), short),
    st.tuples(st.just("delay"), short),
    st.tuples(st.just("interrupt"), cpu_numbers),
    st.tuples(st.just("timer"), st.integers(1, 20)),
)
blocks = st.recursive(
    st.lists(leaves, max_size=3),
    lambda inner: st.lists(
        st.one_of(leaves, st.tuples(st.sampled_from(["lock", "masked"]), inner)), max_size=3
    ),
    max_leaves=8,
)
# Calls may wait for other CPUs and so stand outside locks and masked regions, as in the kernel.
outer = st.one_of(
    st.tuples(st.just("block"), blocks),
    st.tuples(st.just("call"), cpu_numbers),
    st.tuples(st.just("stop"), cpu_numbers),
)
programs = st.lists(st.lists(outer, max_size=4), min_size=CPUS, max_size=CPUS)
stalls = st.dictionaries(
    cpu_numbers, st.dictionaries(st.integers(0, 12), st.integers(1, 25), max_size=2)
)
injections = st.dictionaries(st.integers(1, 80), cpu_numbers, max_size=4)


class World:
    """A machine whose software does what the lists say."""

    def __init__(self, todo, stalls, injections, *, eager=False):
        self.locks = [SpinLock(f"lock {depth}") for depth in range(10)]
        self.inside = {}
        self.overlaps = 0
        self.handlers = [0] * CPUS
        self.machine = Machine(CPUS, vector=self.vector, stalls=stalls, issue_cycles=(0, 1, 0))
        self.calls = CrossCalls(self.machine, self.send)
        for cpu, program in zip(self.machine.cpus, todo, strict=True):
            cpu.spawn(self.task, program)
        events = {
            cycle: lambda host, target=target: host.raise_irq(target)
            for cycle, target in injections.items()
        }
        self.host = Host(
            self.machine, latency=lambda s: 2 + s.address // 4 % 5, events=events, eager=eager
        )
        self.demands = self.host.run()

    async def task(self, cpu, program):
        for verb, what in program:
            if verb == "block":
                await self.block(cpu, what, 0)
            elif verb == "call":
                await self.calls.call(cpu, what, self.called)
            else:
                await stop_machine(cpu, self.stopped, self.calls, on=what)
        cpu.log("end")

    async def block(self, cpu, body, depth):
        for verb, what in body:
            cpu.log(verb)
            if verb == "store":
                await cpu.store(4 * what, cpu.steps)
            elif verb == "load":
                cpu.log("loaded", value=await cpu.load(4 * what))
            elif verb == "delay":
                await cpu.delay(what)
            elif verb == "interrupt":
                await self.send(cpu, what)
            elif verb == "timer":
                cpu.start_timer(what, self.called)
            elif verb == "masked":
                async with cpu.irqs_disabled():
                    await self.block(cpu, what, depth)
            else:
                await self.locked(cpu, depth, self.block(cpu, what, depth + 1))

    async def locked(self, cpu, depth, body):
        async with self.locks[depth].guard_irqsave(cpu):
            self.overlaps += depth in self.inside
            self.inside[depth] = cpu.index
            await body
            del self.inside[depth]

    async def called(self, cpu):
        await self.locked(cpu, 5, cpu.store(0x40, cpu.index))
        cpu.log("called")

    async def stopped(self, cpu):
        before = len(self.host.accesses)
        cpu.log("stopped")
        await cpu.delay(10)
        assert len(self.host.accesses) == before

    async def send(self, cpu, target):
        await cpu.store(RAISE + 4 * target, 1)

    async def vector(self, cpu, line):
        assert cpu.irqs_off
        self.handlers[cpu.index] += 1
        count = await cpu.load(ACKNOWLEDGE)
        handled = await self.calls.handle(cpu)
        await self.locked(cpu, 6, cpu.delay(3))
        cpu.log("handled", count=count, calls=handled)


@settings(max_examples=150, deadline=None)
@given(programs, stalls, injections)
def test_the_same_trial_gives_the_same_log(todo, stalls, injections):
    first = World(todo, stalls, injections)
    again = World(todo, stalls, injections)
    assert again.machine.log == first.machine.log
    assert again.host.accesses == first.host.accesses
    assert again.host.probes == first.host.probes

    # A host that wakes in every clock sees the same: the demands name every wake that matters.
    eager = World(todo, stalls, injections, eager=True)
    assert eager.machine.log == first.machine.log
    assert eager.host.accesses == first.host.accesses
    assert eager.host.probes == first.host.probes
    assert eager.host.wakes >= first.host.wakes

    assert first.demands.finished
    assert first.overlaps == 0
    assert not first.inside
    for kind in ("crash", "misuse", "deadlock", "lock_order"):
        assert records(first.machine, kind) == []
    assert len(records(first.machine, "end")) == CPUS
    assert first.host.raised == [0] * CPUS
    assert sum(r.kind == "handled" for r in first.machine.log) == sum(first.handlers)


@settings(max_examples=100, deadline=None)
@given(programs, injections, stalls)
def test_stalls_change_times_but_not_what_each_cpu_does(todo, injections, stalls):
    def stores(world):
        """What each task stored to plain memory, in order."""
        of_cpu = [[] for _ in range(CPUS)]
        for _, cpu, operation, _, address, _ in world.host.accesses:
            if operation == STORE and address < 0x40:
                of_cpu[cpu].append(address)
        return of_cpu

    assert stores(World(todo, stalls, injections)) == stores(World(todo, {}, injections))
