"""Direct LPIs in software: INTIDs given out per CPU, on the reference model."""

from types import SimpleNamespace

import pytest

from firmware_model.chips.direct_lpi import LpiTarget
from firmware_model.chips.gicv3 import GicFrames
from firmware_model.core import Kind
from firmware_model.core.flow import FasteoiFlow
from firmware_model.core.manage import disable_irq, enable_irq
from firmware_model.core.migration import irq_set_affinity
from firmware_model.platforms.direct_lpi import DirectLpiSystem
from firmware_model.strategies.direct_lpi import STRATEGIES, DirectLpiNaive, DirectLpiTwoStep
from sim.reference import EndpointShape, ReferenceMachine

from ..reference_host import ReferenceHost

FIRST = (8197, 8194, 8201)
FRAMES = GicFrames(redistributors=(0x080A_0000, 0x080C_0000, 0x080E_0000), its=None)
LATER = 2000


def run(system, program=None, *, at=LATER, events=()):
    """Boot, then ``program`` on CPU 2 at clock ``at``; the host afterwards."""
    config = SimpleNamespace(
        cpus=3, spis=32, lpis=32, its=False, local_apics=False, endpoints=(EndpointShape(),)
    )
    if program is not None:
        system.machine.cpus[2].spawn(_later, at, program)
    happen = dict.fromkeys(events, ReferenceHost.device_event)
    host = ReferenceHost(system.machine, ReferenceMachine(config), events=happen)
    assert host.run(20_000).finished
    assert not [r for r in system.machine.log if r.kind in ("misuse", "crash")]
    return host


async def _later(cpu, at, program):
    await cpu.delay_until(at)
    await program(cpu)


def system(strategy=DirectLpiNaive):
    return DirectLpiSystem(strategy, FIRST, frames=FRAMES, cpus=3)


def taken(made):
    """(CPU, INTID) of every interrupt."""
    return [(r.cpu, r.fields["intid"]) for r in made.machine.log if r.kind == Kind.INTERRUPT]


@pytest.mark.parametrize("strategy", [DirectLpiNaive, DirectLpiTwoStep])
def test_it_is_another_lpi_on_another_cpu(strategy):
    made = system(strategy)

    async def move(cpu):
        assert await irq_set_affinity(cpu, made.desc, 0b10) == 0

    run(made, move, events=[LATER - 200, LATER + 300])
    assert taken(made) == [(0, FIRST[0]), (1, FIRST[1])]
    assert made.driver.seen == 2
    assert made.gic.running == [[], [], []]


def test_what_was_on_its_way_to_the_old_place_is_still_its():
    made = system()

    async def move(cpu):
        await irq_set_affinity(cpu, made.desc, 0b10)

    run(made, move)
    assert made.gic.local[0][FIRST[0]] is made.desc
    assert made.gic.local[1][FIRST[1]] is made.desc


def test_a_second_move_takes_the_oldest_place_back():
    made = system()

    async def move(cpu):
        await irq_set_affinity(cpu, made.desc, 0b010)
        await irq_set_affinity(cpu, made.desc, 0b100)

    run(made, move)
    assert made.gic.local[0] == {}
    assert list(made.gic.local[1]) == [FIRST[1]]
    assert list(made.gic.local[2]) == [FIRST[2]]


def test_it_stays_where_it_may_be():
    made = system()
    results = []

    async def move(cpu):
        results.append(await irq_set_affinity(cpu, made.desc, 0b011))
        made.machine.cpus[2].online = False
        level = made.desc.data.parent
        results.append(await made.direct.irq_set_affinity(cpu, level, 0b100, False))
        made.machine.cpus[2].online = True

    run(made, move)
    assert results == [0, -22]
    assert made.desc.effective_affinity == 0b001


def test_what_comes_while_it_is_disabled_is_sent_again():
    made = system()

    async def pause(cpu):
        await disable_irq(cpu, made.desc)
        await cpu.delay(300)
        await enable_irq(cpu, made.desc)

    run(made, pause, events=[LATER + 100])
    assert made.driver.seen == 1
    assert [r.fields for r in made.machine.log if r.kind == Kind.RETRIGGER] == [
        {"irq": made.irq, "target": 0, "intid": FIRST[0]}
    ]


def test_another_devices_lpi_is_not_taken_but_made_up_for():
    """Two steps whose new INTID means something else on the old CPU: always one re-send."""
    made = system(DirectLpiTwoStep)
    other = made.core.allocate(50, handle=FasteoiFlow())

    async def move(cpu):
        made.gic.local[0][FIRST[1]] = other
        assert not await made.direct.hold(cpu, made.desc, LpiTarget(FIRST[1], 0))
        await irq_set_affinity(cpu, made.desc, 0b10)

    run(made, move)
    assert made.gic.local[0][FIRST[1]] is other
    assert taken(made) == [(1, FIRST[1])]


def test_torn_down_it_has_no_place():
    made = system()

    async def remove(cpu):
        await made.tear_down(cpu)

    run(made, remove)
    assert made.gic.local == [{}, {}, {}]


def test_what_every_strategy_says_of_itself():
    for name, strategy in STRATEGIES.items():
        assert strategy.name == name
        assert strategy.summary
        assert strategy.claims_correct in (True, False)
