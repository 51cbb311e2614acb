"""Who counts what, on the reference model: functions that share a line come and go."""

from types import SimpleNamespace

import pytest

from firmware_model.core import ActionFlag
from firmware_model.core.records import Kind
from firmware_model.platforms.shared_line import SharedLineSystem
from firmware_model.strategies.intx_refcount import (
    STRATEGIES,
    ArchCount,
    CreateLocked,
    CreateRace,
    DisposeAlways,
    DisposeNever,
    KobjectCount,
)
from hdl.config import SocConfig
from sim.reference import EndpointShape, ReferenceMachine
from sim.scenarios.machines import gic_frames

from ..reference_host import ReferenceHost

DEVICES = (1, 5, 9, 13)
"""Pin A of each drives the same wire."""


class Rig:
    """Functions on a line, and a task on CPU 1 or 2 once all has booted."""

    def __init__(self, strategy, *, intx=True, **options):
        cpus = options.setdefault("cpus", 2)
        frames = gic_frames(SocConfig(cpus=cpus))
        self.system = SharedLineSystem(strategy, devices=DEVICES, frames=frames, **options)
        shapes = (EndpointShape(intx=intx),) * max(DEVICES)
        self.reference = ReferenceMachine(SimpleNamespace(cpus=cpus, endpoints=shapes))
        self.host = ReferenceHost(self.system.machine, self.reference)
        self.host.run(20_000)
        self.booted = self.host.cycle

    def run(self, *programs):
        for cpu, program in zip(self.system.machine.cpus[1:], programs, strict=False):
            cpu.spawn(program)
        self.host.run(self.booted + 5_000)
        return self

    def event(self, number):
        self.host.device_event(DEVICES[number] - 1)

    def records(self, *kinds):
        return [record for record in self.system.machine.log if record.kind in kinds]

    @property
    def served(self):
        return [record.fields["events"] for record in self.records(Kind.HANDLED)]

    @property
    def domain(self):
        return self.system.domain


EITHER = pytest.mark.parametrize("hierarchical", [False, True])


def two_functions(rig):
    """Both are probed; one goes, the other has an event; then all go."""
    system = rig.system

    async def program(cpu):
        await system.probe(cpu, 0)
        await system.probe(cpu, 1)
        rig.event(1)
        await cpu.delay(100)
        await system.remove(cpu, 0)
        rig.event(1)
        await cpu.delay(200)
        await system.remove_all(cpu)

    return rig.run(program)


def test_what_a_strategy_says_about_itself():
    for name, strategy in STRATEGIES.items():
        assert strategy.name == name
        assert strategy.summary
    claims = {name for name, strategy in STRATEGIES.items() if strategy.claims_correct}
    assert claims == {"kobject-count", "arch-count", "create-locked"}


@EITHER
@pytest.mark.parametrize("strategy", [ArchCount, CreateLocked, CreateRace])
def test_a_count_keeps_the_mapping_until_the_last(strategy, hierarchical):
    """S2-1, S2-2, S2-7."""
    rig = two_functions(Rig(strategy, hierarchical=hierarchical))
    assert [events for events in rig.served if events] == [1, 1]
    unmapped = rig.records(Kind.UNMAPPED)
    assert len(unmapped) == 1 + hierarchical
    assert unmapped[0].cycle > rig.records(Kind.HANDLED)[-1].cycle
    assert rig.records(Kind.DOMAIN_REMOVED)
    assert not rig.system.strategy.users
    assert not rig.records("crash", "misuse", "lock_order", "deadlock", Kind.WARNING)


@EITHER
def test_without_a_count_the_first_takes_it_along(hierarchical):
    rig = two_functions(Rig(DisposeAlways, hierarchical=hierarchical))
    assert [events for events in rig.served if events] == [1]
    assert len(rig.records(Kind.NO_IRQ_HANDLER)) > 10
    [misuse] = rig.records("misuse")
    assert misuse.fields["actions"] == ["function 1"]


@EITHER
def test_without_a_disposal_the_bridge_stays(hierarchical):
    rig = two_functions(Rig(DisposeNever, hierarchical=hierarchical))
    assert [events for events in rig.served if events] == [1, 1]
    [busy] = rig.records(Kind.DOMAIN_BUSY)
    assert busy.fields["mapped"] == 1
    assert not rig.records(Kind.UNMAPPED, Kind.DOMAIN_REMOVED)


def test_the_kernel_objects_count_is_enough_for_one_level():
    rig = two_functions(Rig(KobjectCount, hierarchical=False))
    assert [events for events in rig.served if events] == [1, 1]
    assert rig.records(Kind.UNMAPPED)
    assert rig.records(Kind.DESC_FREED)
    assert not rig.records("crash")


def test_the_kernel_objects_count_is_zero_while_levels_are_left():
    rig = two_functions(Rig(KobjectCount, hierarchical=True))
    assert [r.fields["references"] for r in rig.records(Kind.UNMAPPED)] == [0, 0]
    [crash] = rig.records("crash")
    assert crash.fields["error"] == "ReferenceCountError"
    assert crash.fields["text"].endswith("has no reference left to give back")


@EITHER
@pytest.mark.parametrize(
    ("strategy", "left"), [(DisposeAlways, 0), (ArchCount, 0), (KobjectCount, 1)]
)
def test_callers_that_map_twice_and_dispose_once(strategy, left, hierarchical):
    """S2-4."""
    rig = Rig(strategy, hierarchical=hierarchical, one_disposal=True)
    two_functions(rig)
    assert [events for events in rig.served if events] == [1, 1]
    assert rig.domain.mapcount == left
    assert len(rig.records(Kind.DOMAIN_BUSY)) == left


@pytest.mark.parametrize("functions", [1, 2, 3, 4])
def test_the_count_is_that_of_the_functions_that_live(functions):
    """S2-3, after every step."""
    rig = Rig(ArchCount)
    system = rig.system
    seen = []

    async def program(cpu):
        for number in range(functions):
            await system.add(cpu, number)
            seen.append(dict(system.strategy.users))
        for number in range(functions):
            await system.remove(cpu, number)
            seen.append(dict(system.strategy.users))

    rig.run(program)
    counts = [*range(1, functions + 1), *range(functions - 1, -1, -1)]
    assert seen == [{1: count} if count else {} for count in counts]


def test_a_function_without_a_count_takes_nothing():
    rig = Rig(ArchCount)

    async def program(cpu):
        await rig.system.probe(cpu, 0)
        await rig.system.strategy.unmap_line(cpu, 99)

    rig.run(program)
    assert rig.system.strategy.users == {1: 1}


def test_a_probe_that_fails_is_not_counted():
    rig = Rig(ArchCount)

    async def program(cpu):
        rig.system.functions[0].wire = 7
        await rig.system.probe(cpu, 0)

    rig.run(program)
    assert rig.records(Kind.PROBE_FAILED)
    assert rig.system.strategy.users == {}
    assert rig.domain.mapcount == 0


@EITHER
def test_a_function_without_a_pin_has_no_line(hierarchical):
    rig = Rig(ArchCount, intx=False, hierarchical=hierarchical)

    async def program(cpu):
        await rig.system.probe(cpu, 0)

    rig.run(program)
    assert rig.system.functions[0].wire < 0
    assert rig.records(Kind.PROBE_FAILED)
    assert not rig.records(Kind.MAPPED)


def test_whoever_will_not_share_is_refused():
    rig = Rig(ArchCount)

    async def program(cpu):
        await rig.system.probe(cpu, 0)
        rig.system.functions[1].action.flags &= ~ActionFlag.SHARED
        await rig.system.probe(cpu, 1)

    rig.run(program)
    [failed] = rig.records(Kind.PROBE_FAILED)
    assert failed.fields["function"] == 1


@EITHER
@pytest.mark.parametrize(("strategy", "irqs"), [(CreateLocked, 1), (CreateRace, 2)])
def test_two_functions_are_probed_at_once(strategy, irqs, hierarchical):
    rig = Rig(strategy, hierarchical=hierarchical, cpus=3)
    system = rig.system

    async def one(cpu):
        await system.probe(cpu, 0)

    async def other(cpu):
        await system.probe(cpu, 1)

    rig.run(one, other)
    assert len({function.irq for function in system.functions[:2]}) == irqs
    assert len(rig.records(Kind.MAPPED)) == irqs


def test_probes_under_the_rescan_lock_do_not_race():
    rig = Rig(CreateRace, cpus=3)
    system = rig.system

    async def one(cpu):
        await system.add(cpu, 0)

    async def other(cpu):
        await system.add(cpu, 1)

    rig.run(one, other)
    assert len(rig.records(Kind.MAPPED)) == 1


def test_a_function_that_disappears_is_noticed_and_removed():
    rig = Rig(ArchCount)
    system = rig.system

    async def program(cpu):
        await system.probe(cpu, 0)
        await system.probe(cpu, 1)
        rig.reference.unplug(DEVICES[0] - 1, True)
        await system.watch(cpu, 0)
        await system.probe(cpu, 0)

    rig.run(program)
    assert [r.fields["function"] for r in rig.records(Kind.REMOVED)] == [0]
    assert system.functions[0].deleted
    assert system.strategy.users == {1: 1}


def stalled_between_map_and_count(clocks, stall):
    """Function 1 is probed while 0 goes, without the rescan lock; its CPU stalls at a step."""
    rig = Rig(ArchCount, cpus=3, stalls={2: {stall: clocks}})
    system = rig.system

    async def leaving(cpu):
        await system.probe(cpu, 0)
        await cpu.delay_until(rig.booted + 200)
        await system.remove(cpu, 0)

    async def coming(cpu):
        await cpu.delay_until(rig.booted + 190)
        await system.probe(cpu, 1)

    return rig.run(leaving, coming)


def test_the_architectures_count_needs_the_rescan_lock():
    """The map call is outside the mutex: what it found can be gone before it is counted."""
    rig = Rig(ArchCount, cpus=3)
    booted = rig.system.machine.cpus[2].steps
    broken = [
        step
        for step in range(booted, booted + 12)
        if stalled_between_map_and_count(60, step).records(Kind.PROBE_FAILED)
    ]
    assert broken == [booted + 2, booted + 3], "giving one lock back, and taking the other"
    failed = stalled_between_map_and_count(60, booted + 3)
    [users] = failed.system.strategy.users.items()
    assert users == (1, 1)
    assert failed.domain.mapcount == 0, "counted, and not mapped"
