"""Locks between CPUs: order, hand-over, dead-locks, misuse."""

import gc

import pytest

from firmware_model.machine import Line, Machine, Mutex, SpinLock
from hdl.probe import CpuContext

from .test_machine_host import Host, acknowledging, kinds, nothing, records, run


def holding(lock, cycles, *, before=0, guard="guard_irqsave"):
    """A program that holds ``lock`` for some cycles, after some cycles."""

    async def program(cpu):
        await cpu.delay(before)
        async with getattr(lock, guard)(cpu):
            cpu.log("got")
            await cpu.delay(cycles)
            cpu.log("gives")

    return program


def test_a_released_lock_goes_to_the_longest_waiter_in_the_same_clock():
    lock = SpinLock("a")
    machine = Machine(4)
    # CPU 3 asks before CPU 1 does, CPU 0 last.
    run(
        machine,
        holding(lock, 10, before=3),
        holding(lock, 10, before=2),
        holding(lock, 10),
        holding(lock, 10, before=1),
    )
    assert kinds(machine, "got") == [
        (0, 2, "got"),
        (10, 3, "got"),
        (20, 1, "got"),
        (30, 0, "got"),
    ]
    assert lock.owner is None


def test_of_two_that_ask_in_the_same_clock_the_lower_cpu_wins():
    lock = SpinLock("a")
    machine = Machine(2)
    run(machine, holding(lock, 10, before=5), holding(lock, 10, before=5))
    assert kinds(machine, "got") == [(5, 0, "got"), (15, 1, "got")]


def test_the_lane_shows_who_holds_and_who_spins():
    first, lock = SpinLock("first"), SpinLock("a")
    machine = Machine(2)
    machine.register(first)
    host = run(machine, holding(lock, 10), holding(lock, 10))
    assert machine.locks == [first, lock]
    lanes = [(cycle, cpu, lane.context, lane.lock) for cycle, cpu, lane in host.probes]
    task, spin, idle = (
        CpuContext.TASK.value,
        CpuContext.SPIN.value,
        CpuContext.IDLE.value,
    )
    assert lanes == [
        (0, 0, task, 2),
        (0, 1, spin, 2),
        (10, 0, idle, 0),
        (10, 1, task, 2),
        (20, 1, idle, 0),
    ]


def test_who_waits_unmasked_takes_interrupts_and_keeps_its_place():
    lock = SpinLock("a")

    async def slow(cpu, line):
        cpu.log("enter")
        host.lower(cpu.index)
        await cpu.delay(20)
        cpu.log("exit")

    machine = Machine(3, vector=slow)
    machine.cpus[0].spawn(holding(lock, 10, guard="guard"))
    machine.cpus[1].spawn(holding(lock, 10, before=1, guard="guard"))
    machine.cpus[2].spawn(holding(lock, 10, before=2, guard="guard"))
    host = Host(machine, events={5: lambda host: host.raise_irq(1)})
    host.run()
    # CPU 1 owns the lock from cycle 10 but is in its handler until 25; CPU 2 waits behind it.
    assert kinds(machine, "got", "enter", "exit") == [
        (0, 0, "got"),
        (5, 1, "enter"),
        (25, 1, "exit"),
        (25, 1, "got"),
        (35, 2, "got"),
    ]


def test_irqsave_masks_while_waiting():
    lock = SpinLock("a")
    machine = Machine(2, vector=acknowledging)
    host = run(
        machine,
        holding(lock, 10),
        holding(lock, 10),
        events={5: lambda host: host.raise_irq(1)},
    )
    assert kinds(machine, "got", "enter") == [(0, 0, "got"), (10, 1, "got"), (20, 1, "enter")]
    assert host.demands.finished


def test_try_acquire_does_not_wait():
    lock = SpinLock("a")

    async def program(cpu):
        await cpu.delay(5 * cpu.index)
        got = lock.try_acquire(cpu)
        cpu.log("try", got=got)
        if got:
            await cpu.delay(8)
            await lock.release(cpu)

    machine = Machine(3)
    run(machine, program, program, program)
    assert [(r.cycle, r.fields["got"]) for r in machine.log] == [(0, True), (5, False), (10, True)]


def test_taking_and_giving_back_are_steps_that_can_stall():
    lock = SpinLock("a")

    async def program(cpu):
        async with lock.guard(cpu):
            cpu.log("got")
            await cpu.store(0, 1)
        cpu.log("gave")
        cpu.log("steps", steps=cpu.steps)

    machine = Machine(1, stalls={0: {0: 10, 2: 30}})
    run(machine, program)
    assert kinds(machine) == [(10, 0, "got"), (44, 0, "gave"), (44, 0, "steps")]
    assert records(machine, "steps")[0].fields == {"steps": 3}


def test_an_exception_that_is_caught_releases_the_lock():
    lock = SpinLock("a")

    async def program(cpu):
        with pytest.raises(LookupError):
            async with lock.guard_irqsave(cpu):
                raise LookupError
        cpu.log("free", owner=lock.owner, off=cpu.irqs_off)

    machine = Machine(1)
    run(machine, program)
    assert [r.fields for r in machine.log] == [{"owner": None, "off": False}]


# Dead-locks


def test_taking_a_lock_twice_is_a_recorded_dead_lock():
    lock = SpinLock("a")

    async def program(cpu):
        async with lock.guard_irqsave(cpu), lock.guard_irqsave(cpu):
            pass

    machine = Machine(1)
    host = run(machine, program)
    assert [(r.kind, r.fields) for r in machine.log] == [
        ("deadlock", {"cpus": [0], "locks": ["a"], "reason": "recursive"})
    ]
    assert host.demands.deadlocked
    machine.close()


def test_an_interrupt_that_takes_the_lock_its_cpu_holds_is_a_dead_lock():
    lock = SpinLock("desc")

    async def vector(cpu, line):
        async with lock.guard(cpu):
            await acknowledging(cpu, line)

    machine = Machine(2, vector=vector)
    run(machine, holding(lock, 20, guard="guard"), events={5: lambda host: host.raise_irq(0)})
    assert [(r.cycle, r.kind) for r in machine.log] == [
        (0, "got"),
        (5, "misuse"),
        (5, "deadlock"),
    ]
    assert machine.log[1].fields == {
        "rule": "a lock of interrupts is taken with interrupts unmasked",
        "lock": "desc",
    }
    machine.close()


def test_an_interrupt_behind_its_own_interrupted_waiter_is_a_dead_lock():
    lock = SpinLock("desc")

    async def vector(cpu, line):
        async with lock.guard(cpu):
            await acknowledging(cpu, line)

    machine = Machine(2, vector=vector)
    run(
        machine,
        holding(lock, 20),
        holding(lock, 20, before=1, guard="guard"),
        events={5: lambda host: host.raise_irq(1)},
    )
    # Only when CPU 0 releases does the lock go to the software below CPU 1's handler.
    assert [(r.cycle, r.cpu, r.fields["reason"]) for r in records(machine, "deadlock")] == [
        (20, 1, "recursive")
    ]
    machine.close()


def test_a_handler_and_the_task_below_it_can_each_be_given_a_lock_in_one_clock():
    task_lock, handler_lock = Mutex("task"), SpinLock("handler")

    async def vector(cpu, line):
        await acknowledging(cpu, line)
        async with handler_lock.guard(cpu):
            cpu.log("handler got")

    async def holds_both(cpu):
        async with task_lock.guard(cpu), handler_lock.guard_irqsave(cpu):
            await cpu.delay(20)

    machine = Machine(2, vector=vector)
    host = run(
        machine,
        holds_both,
        holding(task_lock, 1, guard="guard"),
        events={5: lambda host: host.raise_irq(1)},
    )
    assert kinds(machine, "handler got", "got", "deadlock") == [
        (20, 1, "handler got"),
        (20, 1, "got"),
    ]
    assert host.demands.finished


def test_two_cpus_with_two_locks_the_wrong_way_round():
    a, b = SpinLock("a"), SpinLock("b")

    def program(first, second):
        async def run_it(cpu):
            async with first.guard_irqsave(cpu):
                await cpu.delay(5)
                async with second.guard_irqsave(cpu):
                    pass

        return run_it

    machine = Machine(2)
    host = run(machine, program(a, b), program(b, a))
    assert [(r.cycle, r.cpu, r.kind, r.fields["locks"]) for r in machine.log] == [
        (5, 1, "lock_order", ["b", "a", "b"]),
        (5, 1, "deadlock", ["a", "b"]),
    ]
    assert records(machine, "deadlock")[0].fields["cpus"] == [1, 0]
    assert host.demands.deadlocked
    machine.close()


@pytest.mark.parametrize("crash_first", [False, True])
def test_a_lock_held_by_a_crashed_cpu_never_comes_back(crash_first):
    lock = SpinLock("a")

    async def crashes(cpu):
        await lock.acquire(cpu)
        await cpu.delay(10)
        raise KeyError("gone")

    machine = Machine(2)
    run(machine, crashes, holding(lock, 1, before=20 if crash_first else 2))
    (deadlock,) = records(machine, "deadlock")
    assert (deadlock.cycle, deadlock.cpu) == ((20 if crash_first else 10), 1)
    assert deadlock.fields["reason"] == "CPU 0 will never release it"
    machine.close()


# Order


def test_a_wrong_order_is_recorded_even_if_it_went_well():
    desc5, desc6 = (SpinLock(f"desc {irq}", lock_class="desc") for irq in (5, 6))
    vector = SpinLock("vector")

    async def program(cpu):
        async with desc5.guard_irqsave(cpu), vector.guard_irqsave(cpu):
            await cpu.delay(1)
        for _ in range(2):
            async with vector.guard_irqsave(cpu), desc6.guard_irqsave(cpu):
                await cpu.delay(1)

    machine = Machine(1)
    run(machine, program)
    assert [(r.cycle, r.kind, r.fields) for r in machine.log] == [
        (1, "lock_order", {"locks": ["vector", "desc", "vector"]})
    ]
    assert machine.lock_order.edges == {"desc": {"vector": (0, 0)}, "vector": {"desc": (1, 0)}}


def test_two_locks_of_one_class_inside_each_other_are_recorded():
    a, b = (SpinLock(name, lock_class="desc") for name in "ab")

    async def program(cpu):
        async with a.guard_irqsave(cpu), b.guard_irqsave(cpu):
            pass

    machine = Machine(1)
    run(machine, program)
    assert [r.fields for r in records(machine, "lock_order")] == [{"locks": ["desc", "desc"]}]


def test_the_trace_of_locks_says_what_was_held():
    a, b = SpinLock("a"), SpinLock("b")

    async def program(cpu):
        async with a.guard(cpu), b.guard(cpu):
            pass

    machine = Machine(1, trace_locks=True)
    run(machine, program)
    assert [(r.kind, r.fields) for r in machine.log] == [
        ("lock", {"lock": "a", "held": []}),
        ("lock", {"lock": "b", "held": ["a"]}),
        ("unlock", {"lock": "b"}),
        ("unlock", {"lock": "a"}),
    ]


# Misuse


def test_a_release_by_someone_else_is_recorded_and_ignored():
    lock = SpinLock("a")

    async def thief(cpu):
        await cpu.delay(5)
        await lock.release(cpu)
        cpu.log("still", owner=lock.owner.index)
        await cpu.delay(10)
        await lock.release(cpu)

    machine = Machine(2)
    run(machine, holding(lock, 10), thief)
    rule = "a lock was released by a CPU that does not hold it"
    assert [r.fields for r in records(machine, "misuse")] == [
        {"rule": rule, "lock": "a", "owner": 0},
        {"rule": rule, "lock": "a", "owner": None},
    ]
    assert records(machine, "still")[0].fields == {"owner": 0}


def test_software_that_ends_with_a_lock_held_is_recorded():
    lock = SpinLock("a")

    async def vector(cpu, line):
        host.lower(0)
        await lock.acquire(cpu)

    machine = Machine(1, vector=vector)
    host = Host(machine, events={5: lambda host: host.raise_irq(0)})
    host.run()
    assert [r.fields for r in records(machine, "misuse")] == [
        {"rule": "software ended with locks held", "locks": ["a"]}
    ]


def test_sleeping_where_it_is_not_allowed_is_recorded():
    spin, mutex = SpinLock("spin"), Mutex("mutex")
    slept = []

    async def program(cpu):
        async with spin.guard(cpu):
            async with mutex.guard(cpu):
                pass
            await cpu.sleep_until(lambda: True)
        async with cpu.preemption_disabled():
            await cpu.sleep_until(lambda: True)
        async with mutex.guard(cpu):
            await cpu.sleep_until(lambda: slept, timeout=3)
            await cpu.wait_for_interrupt()

    async def vector(cpu, line):
        host.lower(0)
        async with mutex.guard(cpu):
            pass

    machine = Machine(1, vector=vector, lines=Line.IRQ)
    machine.cpus[0].spawn(program)
    host = Host(machine, events={9: lambda host: host.raise_irq(0)})
    host.run()
    held = "sleeping with a spinlock held"
    assert [r.fields for r in records(machine, "misuse")] == [
        {"rule": held, "what": "mutex mutex", "locks": ["spin"]},
        {"rule": held, "what": "sleep_until", "locks": ["spin"]},
        {"rule": "sleeping with preemption disabled", "what": "sleep_until"},
        {"rule": "sleeping in an interrupt", "what": "mutex mutex"},
    ]
    assert records(machine, "deadlock")[0].fields["reason"] == "recursive"
    machine.close()


def test_a_mutex_waiter_idles():
    mutex = Mutex("m")
    machine = Machine(2)
    host = run(machine, holding(mutex, 10, guard="guard"), holding(mutex, 10, guard="guard"))
    assert kinds(machine, "got") == [(0, 0, "got"), (10, 1, "got")]
    assert host.probes[1][2].context == CpuContext.IDLE.value


def test_closing_with_locks_held_is_silent(recwarn, capsys):
    gc.collect()  # what earlier tests of the process left is not ours
    recwarn.clear()
    lock = SpinLock("a")
    with Machine(2) as machine:
        machine.cpus[0].spawn(holding(lock, 100))
        machine.cpus[1].spawn(holding(lock, 100))
        machine.cpus[1].spawn(nothing)
        machine.start()
    # Dropped software gives nothing back: it did not end.
    assert lock.owner is machine.cpus[0]
    assert machine.cpus[0].irqs_off
    gc.collect()
    assert not recwarn.list
    assert capsys.readouterr().err == ""
