"""Cross calls by IPI, stop_machine, CPUs that go offline and come back."""

import pytest

from firmware_model.machine import CrossCalls, Machine, SpinLock, stop_machine
from hdl.probe import CpuContext

from .test_machine_host import ACKNOWLEDGE, RAISE, Host, kinds, nothing, records, run


def with_calls(cpus, **options):
    """A machine whose only interrupt is the IPI, and its cross calls."""

    async def vector(cpu, line):
        await cpu.load(ACKNOWLEDGE)
        cpu.log("ipi", calls=await calls.handle(cpu))

    async def send(cpu, target):
        await cpu.store(RAISE + 4 * target, 1)

    machine = Machine(cpus, vector=vector, **options)
    calls = CrossCalls(machine, send)
    return machine, calls


def logging(name):
    async def function(cpu):
        cpu.log(name, off=cpu.irqs_off)
        await cpu.delay(10)

    return function


def test_a_cross_call_travels_through_the_hardware():
    machine, calls = with_calls(2)

    async def program(cpu):
        assert await calls.call(cpu, 1, logging("called"))
        cpu.log("returned")

    run(machine, program)
    assert kinds(machine, "called", "returned") == [(8, 1, "called"), (18, 0, "returned")]
    assert records(machine, "called")[0].fields == {"off": True}
    assert calls.sent == 1


def test_calls_behind_an_ipi_not_yet_taken_share_it():
    machine, calls = with_calls(3)

    async def caller(cpu):
        await cpu.delay(cpu.index)
        await calls.call(cpu, 2, logging(f"from {cpu.index}"), wait=False)

    async def busy(cpu):
        async with cpu.irqs_disabled():
            await cpu.delay(50)

    run(machine, caller, caller, busy)
    assert calls.sent == 1
    assert kinds(machine) == [(54, 2, "from 0"), (64, 2, "from 1"), (74, 2, "ipi")]
    assert records(machine, "ipi")[0].fields == {"calls": 2}


def test_a_call_to_oneself_runs_at_once_and_masked():
    machine, calls = with_calls(1)

    async def program(cpu):
        await calls.call(cpu, 0, logging("called"))
        cpu.log("returned", off=cpu.irqs_off)

    run(machine, program)
    assert [(r.cycle, r.kind, r.fields["off"]) for r in machine.log] == [
        (0, "called", True),
        (10, "returned", False),
    ]
    assert calls.sent == 0


def test_two_cpus_that_call_each_other_do_not_dead_lock():
    machine, calls = with_calls(2)

    async def program(cpu):
        await calls.call(cpu, 1 - cpu.index, logging("called"))
        cpu.log("returned")

    host = run(machine, program, program)
    assert len(records(machine, "returned")) == 2
    assert host.demands.finished


def test_waiting_for_a_call_with_interrupts_masked_is_misuse():
    machine, calls = with_calls(2)

    async def program(cpu):
        async with cpu.irqs_disabled():
            await calls.call(cpu, 1, logging("called"))

    run(machine, program)
    assert [r.fields for r in records(machine, "misuse")] == [
        {"rule": "a cross call waits with interrupts masked", "target": 1}
    ]


def test_without_hardware_a_call_arrives_at_the_next_boundary():
    machine = Machine(2)
    calls = CrossCalls(machine)

    async def program(cpu):
        await cpu.delay(5)
        await calls.call(cpu, 1, logging("called"))
        cpu.log("returned")

    async def other(cpu):
        async with cpu.irqs_disabled():
            await cpu.delay(20)
        cpu.log("unmasked")

    run(machine, program, other)
    assert kinds(machine) == [(20, 1, "called"), (30, 1, "unmasked"), (30, 0, "returned")]


def test_a_call_to_no_cpu_is_refused():
    machine, calls = with_calls(2)

    async def program(cpu):
        await calls.call(cpu, 2, nothing)

    run(machine, program)
    assert records(machine, "crash")[0].fields["text"] == (
        "The target of a cross call must be CPU 0 to 1, not 2"
    )


def test_stop_machine_holds_everyone_else_with_interrupts_masked():
    machine, calls = with_calls(3)

    async def stopped(cpu):
        cpu.log("alone", others=[other.irqs_off for other in machine.cpus])
        await cpu.delay(40)
        cpu.log("end")
        return 42

    async def program(cpu):
        cpu.log("result", value=await stop_machine(cpu, stopped, calls), off=cpu.irqs_off)

    async def worker(cpu):
        for _ in range(20):
            await cpu.store(0x100, 1)

    host = run(machine, program, worker, worker)
    (alone,), (end,) = records(machine, "alone"), records(machine, "end")
    assert alone.fields == {"others": [True, True, True]}
    assert end.cycle == alone.cycle + 40
    workers = [cycle for cycle, cpu, *_ in host.accesses if cpu != 0]
    assert not [cycle for cycle in workers if alone.cycle < cycle <= end.cycle]
    assert records(machine, "result")[0].fields == {"value": 42, "off": False}
    shown = {(cpu, lane.context) for cycle, cpu, lane in host.probes if cycle == alone.cycle}
    assert shown >= {(0, CpuContext.STOP_MACHINE.value)}
    assert host.demands.finished


def test_stop_machine_waits_for_a_task_that_holds_a_spinlock():
    machine, calls = with_calls(2)
    lock = SpinLock("a")

    async def stopped(cpu):
        cpu.log("alone", locked=lock.owner is not None)

    async def program(cpu):
        await stop_machine(cpu, stopped, calls)

    async def holder(cpu):
        for _ in range(3):
            async with lock.guard(cpu):
                await cpu.delay(100)
                cpu.log("gives")

    host = run(machine, program, holder)
    # The stopper comes between the first release and the second acquisition.
    assert kinds(machine, "gives", "alone") == [
        (104, 1, "gives"),
        (104, 0, "alone"),
        (204, 1, "gives"),
        (304, 1, "gives"),
    ]
    assert records(machine, "alone")[0].fields == {"locked": False}
    assert host.demands.finished


def test_stop_machine_does_not_come_between_a_call_and_its_ipi():
    # CPU 0 has filled CPU 1's mailbox and takes an IPI before it sends its own; CPU 2 relies on
    # that one. Were CPU 0 stopped there, no one would ever wake CPU 1.
    machine, calls = with_calls(3, stalls={0: {0: 20}})

    async def caller(cpu):
        await calls.call(cpu, 1, logging("called"))

    async def stopper(cpu):
        await cpu.delay(1)
        await stop_machine(cpu, logging("alone"), calls)

    host = run(machine, caller, None, stopper)
    assert host.demands.finished
    assert calls.sent == 2
    assert [kind for _, _, kind in kinds(machine, "called", "alone")] == ["called", "alone"]


def test_preemption_disabled_holds_threads_back_but_not_interrupts():
    async def thread(cpu):
        cpu.log("thread")

    async def program(cpu):
        async with cpu.preemption_disabled():
            cpu.preempt(thread)
            await cpu.delay(10)
            cpu.log("enabling")
        cpu.log("enabled")

    machine, _ = with_calls(1)
    run(machine, program, events={5: lambda host: host.raise_irq(0)})
    assert kinds(machine) == [
        (9, 0, "ipi"),
        (14, 0, "enabling"),
        (14, 0, "thread"),
        (14, 0, "enabled"),
    ]


def test_stop_machine_can_run_its_function_elsewhere():
    machine, calls = with_calls(3)

    async def stopped(cpu):
        cpu.log("alone")
        return cpu.index

    async def program(cpu):
        cpu.log("result", value=await stop_machine(cpu, stopped, calls, on=2))

    run(machine, program)
    assert records(machine, "alone")[0].cpu == 2
    assert records(machine, "result")[0].fields == {"value": 2}


def test_two_stop_machines_at_once_come_one_after_the_other():
    machine, calls = with_calls(3)

    async def stopped(cpu):
        cpu.log("begin")
        await cpu.delay(10)
        cpu.log("end")

    async def program(cpu):
        await stop_machine(cpu, stopped, calls)

    host = run(machine, program, program, program)
    assert [kind for _, _, kind in kinds(machine, "begin", "end")] == ["begin", "end"] * 3
    assert host.demands.finished


def test_a_function_that_crashes_lets_the_others_go():
    machine, calls = with_calls(2)

    async def stopped(cpu):
        raise KeyError("gone")

    async def program(cpu):
        await stop_machine(cpu, stopped, calls)

    host = run(machine, program)
    assert [(r.cpu, r.kind) for r in machine.log] == [(1, "ipi"), (0, "crash")]
    assert host.demands.finished


async def take_down(cpu):
    cpu.online = False
    await cpu.delay(5)


@pytest.mark.parametrize("caller", [0, 1])
def test_a_cpu_goes_offline_without_taking_another_interrupt(caller):
    machine, calls = with_calls(2)

    async def program(cpu):
        await stop_machine(cpu, take_down, calls, on=1)
        cpu.log("returned")
        cpu.log("offline", answer=await calls.call(cpu, 1, nothing))

    machine.cpus[caller].spawn(program)
    host = Host(machine, events={20: lambda host: host.raise_irq(1)})
    demands = host.run()
    assert machine.cpus[1].dead
    assert not machine.cpus[1].online
    assert demands.finished
    assert [lane.context for _, cpu, lane in host.probes if cpu == 1][-1] == (
        CpuContext.OFFLINE.value
    )
    assert not [r for r in machine.log if r.cpu == 1 and r.cycle >= 20]
    # Who takes down its own CPU never comes back.
    assert len(records(machine, "returned")) == (caller == 0)
    assert [r.fields for r in records(machine, "offline")] == [{"answer": False}] * (caller == 0)
    machine.close()


def test_what_is_in_the_mailbox_of_a_cpu_that_goes_offline_still_runs():
    # IPIs take long: CPU 2's reaches CPU 1 only after that has masked its interrupts for good.
    async def vector(cpu, line):
        await cpu.load(ACKNOWLEDGE)
        await calls.handle(cpu)

    async def send(cpu, target):
        await cpu.store(0, 1)
        host.events[host.cycle + (100 if cpu.index == 2 else 5)] = lambda host: host.raise_irq(
            target
        )

    async def stopped(cpu):
        cpu.online = False

    async def program(cpu):
        await stop_machine(cpu, stopped, calls, on=1)

    async def caller(cpu):
        async with cpu.irqs_disabled():
            await cpu.delay(40)
            await calls.call(cpu, 1, logging("called"), wait=False)

    machine = Machine(3, vector=vector)
    calls = CrossCalls(machine, send)
    machine.cpus[0].spawn(program)
    machine.cpus[2].spawn(caller)
    host = Host(machine)
    demands = host.run()
    assert [(r.cpu, r.kind) for r in machine.log] == [(1, "called")]
    assert machine.log[0].cycle < 100
    assert machine.cpus[1].dead
    assert demands.finished
    machine.close()


def test_an_offline_cpu_can_be_brought_up_again():
    machine, calls = with_calls(2)

    async def program(cpu):
        await stop_machine(cpu, take_down, calls, on=1)
        other = machine.cpus[1]
        try:
            other.spawn(logging("task"))
        except ValueError as error:
            cpu.log("refused", text=str(error))
        await cpu.delay(100)
        other.bring_up()
        other.spawn(logging("task"))
        assert await calls.call(cpu, 1, logging("called"))

    host = run(machine, program)
    assert records(machine, "refused")[0].fields["text"] == (
        "CPU 1 is offline; bring_up() must come before spawn()"
    )
    assert [r.cpu for r in records(machine, "task") + records(machine, "called")] == [1, 1]
    assert host.demands.finished
    assert not records(machine, "crash")


def test_stopping_on_an_offline_cpu_is_refused():
    machine, calls = with_calls(2)

    async def program(cpu):
        await stop_machine(cpu, take_down, calls, on=1)
        await stop_machine(cpu, take_down, calls, on=1)

    run(machine, program)
    assert records(machine, "crash")[0].fields["text"] == (
        "stop_machine cannot run on CPU 1, which is offline"
    )


def test_going_offline_with_a_lock_held_is_misuse():
    lock = SpinLock("a")

    async def program(cpu):
        await lock.acquire(cpu)
        await cpu.die()

    machine = Machine(1)
    host = run(machine, program)
    assert [r.fields for r in machine.log] == [
        {"rule": "a CPU went offline with locks held", "locks": ["a"]}
    ]
    assert host.demands.finished
    machine.close()
