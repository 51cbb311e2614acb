"""x86 vectors, taking interrupts, going offline: facts on Linux, 2.3.4 to 2.3.6."""

from errno import EBUSY, ENOSPC

import pytest

from firmware_model.chips import local_apic
from firmware_model.chips.pci_irq import disable_messages
from firmware_model.chips.vector_table import (
    FIRST_SYSTEM,
    MANAGED_SHUTDOWN,
    VectorState,
    VectorTable,
)
from firmware_model.chips.x86_vector import Target
from firmware_model.core import LINUX_5_10, LINUX_6_1, Irqd, Kind
from firmware_model.core.chip import AffinityResult
from firmware_model.core.migration import irq_set_affinity
from firmware_model.platforms.x86 import MovingInterrupt, X86System
from firmware_model.strategies.torn_msi import Naive, TwoStep
from hdl.registers.lapic import REGISTER_BASE, LapicRegister
from sim.reference import ReferenceMachine

from ..reference_host import STORE, ReferenceHost

OLD, NEW = 0x35, 0x22
EOI = REGISTER_BASE + LapicRegister.EOI
MOVE = 600


def run(system, *events, programs=(), budget=20_000):
    """Run ``system``; a device event at each of ``events``."""
    for cpu, program in programs:
        system.machine.cpus[cpu].spawn(program)
    at = dict.fromkeys(events, ReferenceHost.device_event)
    host = ReferenceHost(system.machine, ReferenceMachine(), events=at)
    host.demands = host.run(budget)
    return host


def log(system, *kinds):
    return [(r.cpu, str(r.kind)) for r in system.machine.log if r.kind in kinds]


def fields(system, kind):
    return [r.fields for r in system.machine.log if r.kind == kind]


def moving(strategy=Naive, **options):
    return MovingInterrupt(
        strategy, **{"move_at": MOVE, "old_vector": OLD, "new_vector": NEW} | options
    )


# The table


def test_the_lowest_free_vector_of_the_emptiest_cpu():
    table = VectorTable(3, 0x30)
    table.occupy(0, 0x40)
    table.occupy(1, 0x30)
    assert table.allocate([0, 1]) == (0, 0x30)
    assert table.allocate([0, 1]) == (1, 0x31)
    assert table.allocate([0, 1, 2]) == (2, 0x30)
    table.free(1, 0x30)
    assert table.allocate([1]) == (1, 0x30)


def test_vectors_run_out():
    table = VectorTable(1, FIRST_SYSTEM - 2)
    assert table.allocate([0]) == (0, FIRST_SYSTEM - 2)
    assert table.allocate([0]) == (0, FIRST_SYSTEM - 1)
    assert table.allocate([0]) is None
    assert table.allocate([]) is None


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: VectorTable(2, 0x1F), "first must be between 0x20 and 0xeb, not 0x1f"),
        (lambda: VectorTable(2, (0x20, 0xEC)), "first must be between 0x20 and 0xeb, not 0xec"),
        (
            lambda: VectorTable(2, (0x20,)),
            "first must have one entry for each of 2 CPUs, not 1",
        ),
        (lambda: VectorTable(1).occupy(0, 0x1F), "A vector must be 0x20 to 0xff, not 0x1f"),
        (
            lambda: [table := VectorTable(1), table.occupy(0, 0x40), table.occupy(0, 0x40)],
            "Vector 0x40 of CPU 0 is taken already",
        ),
        (
            lambda: X86System(Naive, capability="intx"),
            'capability must be "msi" or "msix", not \'intx\'',
        ),
    ],
)
def test_bad_arguments(call, text):
    with pytest.raises(ValueError, match=r".") as caught:
        call()
    assert str(caught.value) == text


def test_a_level_that_is_not_there():
    system = moving()
    other = system.core.allocate(9)
    other.add_level(system.chip, 0)
    with pytest.raises(ValueError, match="irq 9 has no level in the vector domain"):
        system.domain.target(other.data)


def test_messages():
    assert Target(0x35, 1).message() == (0xFEE0_1000, 0x35)
    assert Target(0x35, 1).message(assert_bit=True) == (0xFEE0_1000, 0x4035)


# A move


def apicd(system):
    return system.domain.level(system.desc.data).chip_data


def test_nothing_moves_before_the_next_interrupt():
    system = moving()
    host = run(system)
    assert host.demands.finished
    assert apicd(system).target == (OLD, 0)
    assert [a for a in host.accesses if a[0] > MOVE] == []


def test_the_old_vector_is_kept_until_the_new_cpu_was_interrupted():
    system = moving()
    run(system, 700)
    data = apicd(system)
    assert data.target == (NEW, 1)
    assert data.move_in_progress
    assert (data.prev_cpu, data.prev_vector) == (0, OLD)
    assert system.domain.table.entries[0][OLD] is system.desc
    assert system.domain.table.entries[1][NEW] is system.desc
    assert OLD in system.domain.table.allocated[0]
    assert system.desc.effective_affinity == 0b10


def test_and_given_back_a_jiffy_later():
    system = moving(jiffy=100)
    run(system, 700, 800)
    data = apicd(system)
    assert not data.move_in_progress
    assert data.prev_vector == 0
    assert system.domain.table.entries[0][OLD] is VectorState.UNUSED
    assert OLD not in system.domain.table.allocated[0]
    record = next(r for r in system.machine.log if r.kind == Kind.CLEANUP)
    first = [r.cycle for r in system.machine.log if r.kind == Kind.INTERRUPT][1]
    assert record.cpu == 0
    assert record.cycle >= first + 100


@pytest.mark.parametrize("kernel", [LINUX_5_10, LINUX_6_1])
def test_or_by_an_ipi_in_older_kernels(kernel):
    system = moving(kernel=kernel)
    run(system, 700, 800)
    assert apicd(system).prev_vector == 0
    assert [(f["target"], f["vector"]) for f in fields(system, Kind.IPI)] == [(0, 0x20)]


@pytest.mark.parametrize("kernel", [{}, {"kernel": LINUX_6_1}])
def test_but_not_while_it_waits_in_the_irr(kernel):
    """S4-8, I25: something for the old vector is still there when the clean-up looks."""
    system = moving(jiffy=50, **kernel)

    async def old_message(cpu):
        await cpu.delay_until(790)
        async with cpu.irqs_disabled():
            await local_apic.send(cpu, 0, OLD)
            await cpu.delay_until(840)
            async with system.domain.lock.guard(cpu):
                assert await system.domain.clean_up(cpu)
            await cpu.delay_until(1000)

    run(system, 700, 800, programs=[(0, old_message)])
    done = [f["done"] for f in fields(system, Kind.CLEANUP)]
    assert done[0] is False
    assert done[-1] is True
    assert len(log(system, Kind.HANDLER_START)) == 3


def test_the_eoi_is_the_last_access_of_the_move():
    """S4-11, I15."""
    system = moving(TwoStep)
    host = run(system, 700)
    writes = [a for a in host.accesses if a[0] > 700 and a[2] == STORE]
    ends = [i for i, a in enumerate(writes) if a[4] == EOI]
    assert len(ends) == 1
    assert ends[0] >= 8
    assert all(a[4] >= 0x1000_0000 for a in writes[: ends[0]])


def test_a_second_move_waits_for_the_first():
    system = moving(jiffy=300)

    async def back(cpu):
        await cpu.delay_until(750)
        await irq_set_affinity(cpu, system.desc, 0b01)

    run(system, 700, 800, 900, 1500, 1700, programs=[(0, back)])
    results = [f["result"] for f in fields(system, Kind.MOVE_END)]
    assert results == [0, 0, -EBUSY, -EBUSY, 0]
    assert apicd(system).cpu == 0
    assert system.driver.seen == 5


def test_no_vector_is_left():
    system = moving(new_vector=FIRST_SYSTEM - 1)
    system.domain.table.occupy(1, FIRST_SYSTEM - 1)
    run(system, 700, 800)
    assert [f["result"] for f in fields(system, Kind.MOVE_END)] == [0, -ENOSPC]
    assert apicd(system).target == (OLD, 0)
    assert system.driver.seen == 2


def test_an_affinity_that_holds_already():
    system = moving()
    results = []

    async def again(cpu):
        await cpu.delay_until(500)
        async with system.desc.lock.guard_irqsave(cpu):
            level = system.domain.level(system.desc.data)
            results.append(await system.domain.irq_set_affinity(cpu, level, 0b11, False))

    system.machine.cpus[0]._tasks.insert(1, (again, ()))
    run(system)
    assert results == [AffinityResult.OK]
    assert apicd(system).target == (OLD, 0)


def test_the_lock_order():
    """I26."""
    system = moving(TwoStep, foreign_new=True)
    run(system, 700, 715, 725, 800)
    edges = system.machine.lock_order.edges
    assert "vector" in edges["desc"]
    assert "vector" not in edges
    assert not log(system, "lock_order", "misuse")


# What arrives


@pytest.mark.parametrize(
    ("state", "kind", "after"),
    [
        (VectorState.UNUSED, Kind.NO_IRQ_HANDLER, VectorState.UNUSED),
        (VectorState.SHUTDOWN, Kind.VECTOR_DROPPED, VectorState.UNUSED),
        (VectorState.RETRIGGERED, Kind.VECTOR_DROPPED, VectorState.UNUSED),
    ],
)
def test_a_vector_that_means_nobody(state, kind, after):
    system = moving()
    system.domain.table.entries[1][0x77] = state

    async def send(cpu):
        await local_apic.send(cpu, 1, 0x77)

    host = run(system, programs=[(0, send)])
    assert log(system, Kind.NO_IRQ_HANDLER, Kind.VECTOR_DROPPED) == [(1, str(kind))]
    assert system.domain.table.entries[1][0x77] is after
    assert [a[1] for a in host.accesses if a[4] == EOI] == [1]


def test_an_entry_that_becomes_valid_meanwhile():
    system = moving()

    async def hold(cpu):
        async with system.domain.lock.guard_irqsave(cpu):
            await local_apic.send(cpu, 1, 0x77)
            await cpu.delay(50)
            system.domain.table.entries[1][0x77] = system.desc

    run(system, programs=[(0, hold)])
    assert log(system, Kind.NO_IRQ_HANDLER, Kind.HANDLER_START) == [(1, "handler_start")]


def test_an_acknowledge_that_finds_nothing():
    system = moving()

    async def take(cpu):
        await system.entry.vector(cpu, None)

    run(system, programs=[(0, take)])
    assert log(system, Kind.SPURIOUS_VECTOR, "misuse") == [(0, "spurious_vector")]


def test_eoi_without_an_interrupt():
    system = moving()
    run(system, programs=[(0, system.domain.eoi)])
    assert [f["rule"] for f in fields(system, "misuse")] == ["EOI without an interrupt in service"]


def test_an_interrupt_left_in_service():
    system = moving()

    async def forgetful(cpu):
        """Never writes EOI."""

    system.entry.system[0x77] = forgetful

    async def send(cpu):
        await local_apic.send(cpu, 1, 0x77)

    run(system, programs=[(0, send)])
    assert fields(system, "misuse") == [
        {"rule": "an interrupt was left in service", "vector": 0x77}
    ]


# Activation


def test_reserved_until_it_is_requested_and_after_it_is_freed():
    system = X86System(Naive)
    desc = system.core.allocate(7)
    level = system.domain.add_to(desc)
    desc.flags |= Irqd.CAN_RESERVE
    seen = []

    async def life(cpu):
        domain = system.domain
        assert await domain.activate(cpu, level, early=True) == 0
        seen.append(level.chip_data.target)
        assert await domain.activate(cpu, level, early=False) == 0
        assert await domain.activate(cpu, level, early=False) == 0
        seen.append(level.chip_data.target)
        await domain.deactivate(cpu, level)
        seen.append(level.chip_data.target)
        seen.append(domain.table.entries[1][0x21])
        await domain.deactivate(cpu, level)

    run(system, programs=[(0, life)])
    # CPU 0 has the event device already.
    shutdown = (MANAGED_SHUTDOWN, 0)
    assert seen == [shutdown, (0x21, 1), shutdown, VectorState.SHUTDOWN]


def test_the_affinity_of_an_inactive_interrupt():
    system = X86System(Naive)
    desc = system.core.allocate(7)
    level = system.domain.add_to(desc)

    async def early(cpu):
        assert await system.domain.irq_set_affinity(cpu, level, 1, False) == -EBUSY

    run(system, programs=[(0, early)])
    assert [f["rule"] for f in fields(system, "misuse")] == [
        "the affinity of an inactive interrupt is set"
    ]


def test_freed_with_a_move_under_way():
    system = moving()

    async def free(cpu):
        await cpu.delay_until(900)
        await system.tear_down(cpu)

    run(system, 700, programs=[(0, free)])
    table = system.domain.table
    assert table.entries[0][OLD] is VectorState.SHUTDOWN
    assert table.entries[1][NEW] is VectorState.SHUTDOWN
    assert OLD not in table.allocated[0]
    assert NEW not in table.allocated[1]


def test_messages_freed_while_requested():
    system = moving()

    async def free(cpu):
        await disable_messages(cpu, system.chip, [system.desc])

    run(system, programs=[(0, free)])
    assert [f["rule"] for f in fields(system, "misuse")] == [
        "messages are freed that are still requested"
    ]


def test_a_function_without_the_capability():
    system = X86System(Naive, capability="msix")
    run(system)
    assert [f["rule"] for f in fields(system, "misuse")] == ["the function has no such capability"]


# A CPU goes offline


def test_offline_takes_the_interrupt_along():
    system = moving(TwoStep, hotplug=True)
    run(system, 1500)
    assert not system.machine.cpus[0].online
    assert [cpu for cpu, _ in log(system, Kind.HANDLER_START)] == [1]
    assert system.driver.seen == 1
    assert fields(system, Kind.MIGRATED) == [{"irq": 33, "broke_affinity": True}]
    assert not log(system, "misuse", "crash")


def test_what_comes_to_the_old_cpu_meanwhile_is_sent_on():
    """T-off-1: an event before the move, when the old CPU has its interrupts masked."""
    system = moving(TwoStep, hotplug=True)
    host = run(system, 625)
    assert host.demands.finished
    assert [f["vector"] for f in fields(system, Kind.RETRIGGER)] == [NEW]
    assert [cpu for cpu, _ in log(system, Kind.HANDLER_START)] == [1]
    assert system.domain.table.entries[0][OLD] is VectorState.RETRIGGERED


def test_offline_frees_vectors_that_wait_for_their_clean_up():
    """After the first interrupt on the new CPU, but before the timer."""
    system = MovingInterrupt(
        Naive, move_at=MOVE, old_vector=OLD, new_vector=NEW, jiffy=5000, grace=10
    )

    async def down(cpu):
        await cpu.delay_until(1000)
        await system.take_down(cpu, 0, grace=10)

    run(system, 700, 800, programs=[(1, down)], budget=30_000)
    assert apicd(system).prev_vector == 0
    assert OLD not in system.domain.table.allocated[0]
    assert not system.machine.cpus[0].online


def test_offline_with_a_move_in_progress_warns():
    system = moving()

    async def down(cpu):
        await cpu.delay_until(1000)
        await system.take_down(cpu, 0, grace=10)

    run(system, 700, programs=[(1, down)])
    assert fields(system, Kind.WARNING) == [{"text": "move in progress", "irq": 33, "vector": OLD}]
    assert apicd(system).prev_vector == 0


def test_bystanders_hold_what_they_were_given():
    system = moving(foreign_new=True, foreign_old=True)
    run(system)
    entries = system.domain.table.entries
    assert entries[0][NEW] is system.core.irqs[50]
    assert entries[1][OLD] is system.core.irqs[51]
    results = [f for f in fields(system, Kind.REQUEST_IRQ) if f["irq"] in (50, 51)]
    assert [f["result"] for f in results] == [0, 0]
