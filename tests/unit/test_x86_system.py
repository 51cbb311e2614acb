"""The x86 system as a whole: what scenarios build on."""

import copy
from types import SimpleNamespace

import pytest

from firmware_model.core import LINUX_5_10, LINUX_6_1, LINUX_7_1, Kind
from firmware_model.platforms.x86 import MovingInterrupt, X86System
from firmware_model.strategies.torn_msi import Naive, Recorded61, Recorded510, TwoStep
from sim.reference import EndpointShape, ReferenceMachine

from ..reference_host import ReferenceHost


def run(system, *events, reference=None, start=0):
    host = ReferenceHost(
        system.machine,
        reference or ReferenceMachine(),
        events=dict.fromkeys(events, ReferenceHost.device_event),
    )
    host.cycle = start
    host.demands = host.run(40_000)
    assert host.demands.finished
    return host


def kinds(system, *wanted):
    return [record.kind for record in system.machine.log if record.kind in wanted]


def test_a_system_boots_and_handles_its_device():
    system = X86System(Naive, cpus=3)
    hardware = ReferenceMachine(SimpleNamespace(cpus=3, endpoints=(EndpointShape(),)))
    run(system, 500, 600, 700, reference=hardware)
    assert kinds(system, Kind.READY) == [Kind.READY]
    assert kinds(system, Kind.HANDLER_START) == [Kind.HANDLER_START] * 3
    assert system.driver.seen == 3
    assert not kinds(system, "misuse", "crash", "lock_order", "deadlock")


def test_an_instance_is_as_good_as_a_class():
    strategy = TwoStep()
    assert X86System(strategy).strategy is strategy


@pytest.mark.parametrize(
    ("strategy", "given", "kernel"),
    [
        (Naive, None, LINUX_7_1),
        (Recorded61, None, LINUX_6_1),
        (Recorded510, None, LINUX_5_10),
        (Recorded510, LINUX_7_1, LINUX_7_1),
    ],
)
def test_the_kernel_is_the_strategys_unless_given(strategy, given, kernel):
    assert X86System(strategy, kernel=given).core.kernel == kernel


def test_a_copy_of_a_booted_system_runs_like_the_original():
    """What sweeps do: boot once, then copy the software for each trial."""
    booted = MovingInterrupt(TwoStep, move_at=None, jiffy=100)
    hardware = ReferenceMachine()
    run(booted, reference=hardware)
    system = copy.deepcopy(booted)
    system.start_move(600)
    run(system, 700, 725, 900, reference=hardware, start=500)
    whole = MovingInterrupt(TwoStep, move_at=600, jiffy=100)
    run(whole, 700, 725, 900)
    assert system.driver.seen == whole.driver.seen == 3
    assert system.machine.log == whole.machine.log
    assert booted.driver.seen == 0
    assert booted.desc.effective_affinity == 0b01


def test_a_cpu_comes_back():
    system = X86System(TwoStep)

    async def down_and_up(cpu):
        await cpu.delay_until(500)
        await system.take_down(cpu, 0, grace=10)
        await cpu.spin_until(lambda: system.machine.cpus[0].dead)
        system.machine.cpus[0].bring_up()
        system.machine.cpus[0].spawn(system.start_cpu)

    system.machine.cpus[1].spawn(down_and_up)
    run(system, 2000)
    assert system.machine.cpus[0].online
    starts = [r.cpu for r in system.machine.log if r.kind == Kind.HANDLER_START]
    assert starts == [1]
    assert not kinds(system, "misuse", "crash")


def test_cross_calls_are_ipis():
    system = X86System(Naive)
    ran = []

    async def remote(cpu):
        ran.append((cpu.index, cpu.in_interrupt))

    async def call(cpu):
        await system.calls.call(cpu, 1, remote)

    system.machine.cpus[0].spawn(call)
    run(system)
    assert ran == [(1, True)]
    assert [r.fields for r in system.machine.log if r.kind == Kind.IPI] == [
        {"target": 1, "vector": 0xFB}
    ]
    assert not kinds(system, "misuse")


def test_a_handler_that_returns_nothing():
    system = X86System(Naive)

    async def handle(cpu):
        """Forgot to say whether it was for us."""

    system.action.handler = handle
    run(system, 500)
    assert [r.fields["result"] for r in system.machine.log if r.kind == Kind.BAD_RETURN] == [None]
    assert system.desc.irqs_unhandled == 1
    assert not kinds(system, "crash")


def test_a_slow_handler_keeps_the_new_cpu_waiting():
    """T-edge-live: since 6.17 the interrupt follows its affinity, before it did not."""
    for kernel, cpus in ((LINUX_7_1, [0, 1]), (LINUX_6_1, [0, 0])):
        system = MovingInterrupt(TwoStep, kernel=kernel, move_at=600, work=300)
        run(system, 700, 850)
        starts = [r.cpu for r in system.machine.log if r.kind == Kind.HANDLER_START]
        assert starts == cpus
        assert system.driver.seen == 2
