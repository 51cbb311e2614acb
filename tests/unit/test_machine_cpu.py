"""One CPU: operations, interrupts at boundaries, nesting, masking, delays, crashes."""

import pytest

from firmware_model.machine import MAX_NESTING, STEPS_PER_WAKE, Line, Machine
from hdl.probe import CpuContext

from .test_machine_host import (
    ACKNOWLEDGE,
    NOTHING,
    RAISE,
    Host,
    acknowledging,
    kinds,
    nothing,
    records,
    run,
)


def irq_at(*cycles, cpu=0, line=Line.IRQ):
    return {cycle: lambda host: host.raise_irq(cpu, line) for cycle in cycles}


# Interrupts at boundaries


def test_an_interrupt_waits_for_the_operation_to_be_answered():
    async def program(cpu):
        await cpu.load(0)
        cpu.log("loaded")

    machine = Machine(1, vector=acknowledging)
    run(machine, program, latency=10, events=irq_at(3))
    assert kinds(machine) == [(10, 0, "enter"), (20, 0, "exit"), (20, 0, "loaded")]


def test_an_idle_cpu_takes_interrupts_at_once():
    machine = Machine(2, vector=acknowledging)
    host = run(machine, events=irq_at(5, 30, cpu=1))
    assert kinds(machine) == [(5, 1, "enter"), (9, 1, "exit"), (30, 1, "enter"), (34, 1, "exit")]
    assert host.wakes == 4
    assert host.demands.finished


def test_a_line_that_falls_before_the_boundary_is_not_seen():
    async def program(cpu):
        await cpu.load(0)

    machine = Machine(1, vector=acknowledging)
    events = irq_at(2) | {6: lambda host: host.lower(0)}
    run(machine, program, latency=10, events=events)
    assert kinds(machine) == []


def test_a_line_that_stays_high_interrupts_again_but_once_a_clock():
    async def deaf(cpu, line):
        cpu.log("enter")

    machine = Machine(1, vector=deaf)
    run(machine, None, events=irq_at(5) | {9: lambda host: host.lower(0)})
    assert kinds(machine) == [(cycle, 0, "enter") for cycle in (5, 6, 7, 8)]


def test_host_lines_go_before_the_guest_line():
    async def vector(cpu, line):
        cpu.log("enter", line=line.name)
        host.lower(cpu.index, line)
        await cpu.load(0)

    def all_lines(host):
        host.raise_irq(0, Line.IRQ | Line.VIRQ | Line.INTR)

    machine = Machine(1, vector=vector, lines=Line.IRQ | Line.VIRQ | Line.INTR)
    host = Host(machine, events={5: all_lines})
    host.run()
    assert [r.fields["line"] for r in machine.log] == ["IRQ", "INTR", "VIRQ"]


def test_lines_that_do_not_exist_for_the_cpu_are_ignored():
    machine = Machine(1, vector=acknowledging, lines=Line.INTR)
    run(machine, None, events=irq_at(5))
    assert machine.log == []


def test_a_cpu_without_a_vector_crashes_when_it_is_interrupted():
    machine = Machine(1)
    run(machine, None, events=irq_at(5))
    (crash,) = machine.log
    assert crash.kind == "crash"
    assert crash.fields["text"] == "CPU 0 has no vector to take IRQ with"


# Masking and nesting


def test_masked_interrupts_are_taken_where_the_mask_ends():
    async def program(cpu):
        async with cpu.irqs_disabled():
            await cpu.load(0)
            cpu.log("inside")
        cpu.log("outside")
        await cpu.load(0)

    machine = Machine(1, vector=acknowledging)
    run(machine, program, events=irq_at(1))
    assert kinds(machine) == [(4, 0, "inside"), (4, 0, "enter"), (8, 0, "exit"), (8, 0, "outside")]


def test_masked_regions_nest_and_restore():
    async def program(cpu):
        async with cpu.irqs_disabled():
            async with cpu.irqs_disabled():
                pass
            cpu.log("after", off=cpu.irqs_off)
        cpu.log("after", off=cpu.irqs_off)
        saved = cpu.mask()
        await cpu.unmask()
        cpu.log("after", off=cpu.irqs_off)
        await cpu.restore(saved)
        cpu.log("after", off=cpu.irqs_off)

    machine = Machine(1, vector=acknowledging)
    run(machine, program)
    assert [r.fields["off"] for r in machine.log] == [True, False, False, False]


def test_an_exception_leaves_a_masked_region_unmasked():
    async def program(cpu):
        with pytest.raises(LookupError):
            async with cpu.irqs_disabled():
                raise LookupError
        cpu.log("after", off=cpu.irqs_off)

    machine = Machine(1, vector=acknowledging)
    run(machine, program)
    assert [r.fields for r in machine.log] == [{"off": False}]


def test_a_handler_is_not_interrupted_unless_it_unmasks():
    async def closed(cpu, line):
        cpu.log("enter")
        await cpu.load(ACKNOWLEDGE)
        await cpu.delay(20)
        cpu.log("exit")

    async def open_(cpu, line):
        cpu.log("enter")
        await cpu.load(ACKNOWLEDGE)
        async with cpu.irqs_enabled():
            await cpu.delay(20)
        cpu.log("exit", off=cpu.irqs_off)

    machine = Machine(1, vector=closed)
    run(machine, None, events=irq_at(5, 12))
    assert kinds(machine) == [(5, 0, "enter"), (29, 0, "exit"), (29, 0, "enter"), (53, 0, "exit")]

    machine = Machine(1, vector=open_)
    run(machine, None, events=irq_at(5, 12))
    # The inner one delays the outer one's exit by all its 24 clocks.
    assert kinds(machine) == [(5, 0, "enter"), (12, 0, "enter"), (36, 0, "exit"), (53, 0, "exit")]
    assert all(r.fields["off"] for r in records(machine, "exit"))


def test_nesting_is_bounded():
    async def reckless(cpu, line):
        cpu.log("enter")
        await cpu.unmask()
        await cpu.delay(100)

    machine = Machine(1, vector=reckless)
    host = run(machine, None, events=irq_at(5))
    assert len(records(machine, "enter")) == MAX_NESTING
    (crash,) = records(machine, "crash")
    assert crash.fields["text"] == f"Interrupts are nested more than {MAX_NESTING} deep"
    assert host.demands.finished


def test_the_host_interrupts_a_guests_handler_but_not_the_other_way_round():
    async def vector(cpu, line):
        cpu.log("enter", line=line.name)
        host.lower(0, line)
        await cpu.delay(20)
        cpu.log("exit", line=line.name)

    async def program(cpu):
        await cpu.delay(60)

    machine = Machine(1, vector=vector, lines=Line.IRQ | Line.VIRQ)
    machine.cpus[0].spawn(program)
    events = irq_at(5, 15, line=Line.VIRQ) | irq_at(10, line=Line.IRQ)
    host = Host(machine, events=events)
    host.run()
    assert [(r.cycle, r.kind, r.fields["line"]) for r in machine.log] == [
        (5, "enter", "VIRQ"),
        (10, "enter", "IRQ"),
        (30, "exit", "IRQ"),
        (45, "exit", "VIRQ"),
        (45, "enter", "VIRQ"),
        (65, "exit", "VIRQ"),
    ]


def test_a_guest_that_waits_is_woken_by_its_own_line():
    async def vector(cpu, line):
        host.lower(0, line)
        cpu.log("enter", line=line.name)

    async def program(cpu):
        await cpu.delay(10)
        cpu.log("host ends")
        async with cpu.irqs_enabled(Line.VIRQ):
            await cpu.wait_for_interrupt()
            cpu.log("guest ends")

    machine = Machine(1, vector=vector)
    machine.cpus[0].spawn(program)
    host = Host(machine, events=irq_at(5, 20, line=Line.VIRQ) | {8: lambda h: h.lower(0, 2)})
    host.run()
    assert kinds(machine) == [(10, 0, "host ends"), (20, 0, "enter"), (20, 0, "guest ends")]


def test_masking_the_guests_line_leaves_the_hosts():
    async def program(cpu):
        async with cpu.irqs_disabled(Line.VIRQ):
            cpu.log("masked", off=cpu.irqs_off)
            await cpu.delay(20)

    machine = Machine(1, vector=acknowledging, lines=Line.IRQ | Line.VIRQ)
    events = irq_at(3, line=Line.VIRQ) | irq_at(5) | {7: lambda host: host.lower(0, Line.VIRQ)}
    run(machine, program, events=events)
    assert kinds(machine) == [(0, 0, "masked"), (5, 0, "enter"), (9, 0, "exit")]
    assert machine.log[0].fields == {"off": False}


# Time


def test_an_interrupted_delay_goes_on_for_what_remained():
    async def program(cpu):
        await cpu.delay(20)
        cpu.log("over")

    machine = Machine(1, vector=acknowledging)
    run(machine, program, events=irq_at(8))
    assert kinds(machine) == [(8, 0, "enter"), (12, 0, "exit"), (24, 0, "over")]


def test_a_delay_until_a_cycle_is_not_prolonged():
    async def program(cpu):
        await cpu.delay_until(20)
        cpu.log("over")
        await cpu.delay_until(20)
        await cpu.delay(0)
        cpu.log("at once")

    machine = Machine(1, vector=acknowledging)
    run(machine, program, events=irq_at(8))
    assert kinds(machine)[2:] == [(20, 0, "over"), (20, 0, "at once")]


def test_in_the_clock_a_delay_ends_the_interrupt_goes_first():
    async def program(cpu):
        await cpu.delay(8)
        cpu.log("over")

    machine = Machine(1, vector=acknowledging)
    run(machine, program, events=irq_at(8))
    assert kinds(machine) == [(8, 0, "enter"), (12, 0, "exit"), (12, 0, "over")]


def test_waiting_for_an_interrupt_ends_with_one():
    async def program(cpu):
        await cpu.wait_for_interrupt()
        cpu.log("awake")

    machine = Machine(1, vector=acknowledging)
    host = run(machine, program, events=irq_at(50))
    assert kinds(machine) == [(50, 0, "enter"), (54, 0, "exit"), (54, 0, "awake")]
    assert host.probes[0][2].context == CpuContext.IDLE.value


def test_waiting_for_an_interrupt_with_interrupts_masked_ends_without_taking_it():
    async def program(cpu):
        async with cpu.irqs_disabled():
            await cpu.wait_for_interrupt()
            cpu.log("awake")
            await cpu.wait_for_interrupt()
            cpu.log("awake")

    machine = Machine(1, vector=acknowledging)
    run(machine, program, events=irq_at(50))
    # The line is high already when the second wait begins: it takes one clock.
    assert kinds(machine) == [
        (50, 0, "awake"),
        (51, 0, "awake"),
        (51, 0, "enter"),
        (55, 0, "exit"),
    ]


def test_spinning_sees_other_software_in_the_same_clock_and_takes_interrupts():
    flag = []

    async def spins(cpu):
        await cpu.spin_until(lambda: flag)
        cpu.log("seen")

    async def sets(cpu):
        await cpu.delay(30)
        flag.append(1)

    machine = Machine(2, vector=acknowledging)
    host = run(machine, spins, sets, events=irq_at(5))
    assert kinds(machine) == [(5, 0, "enter"), (9, 0, "exit"), (30, 0, "seen")]
    assert host.probes[0][2].context == CpuContext.SPIN.value


def test_a_spin_with_a_timeout_says_whether_it_came_true():
    flag = []

    async def spins(cpu):
        cpu.log("spin", true=await cpu.spin_until(lambda: flag, timeout=0))
        cpu.log("spin", true=await cpu.spin_until(lambda: flag, timeout=10))
        cpu.log("spin", true=await cpu.spin_until(lambda: flag, timeout=10))
        cpu.log("spin", true=await cpu.spin_until(lambda: flag))

    async def sets(cpu):
        await cpu.delay(15)
        flag.append(1)

    machine = Machine(2)
    run(machine, spins, sets)
    assert [(r.cycle, r.fields["true"]) for r in machine.log] == [
        (0, False),
        (10, False),
        (15, True),
        (15, True),
    ]


def test_issue_cycles_and_stalls_come_before_the_operation():
    async def program(cpu):
        for i in range(3):
            await cpu.store(i, i)

    machine = Machine(2, issue_cycles=(0, 3), stalls={0: {1: 100}, 1: {0: 10, 2: 20}})
    host = run(machine, program, program, latency=lambda s: 4 + s.cpu)
    assert [access[0] for access in host.accesses if access[1] == 0] == [4, 108, 112]
    assert [access[0] for access in host.accesses if access[1] == 1] == [18, 26, 54]
    assert machine.cpus[0].steps == 3


def test_a_stalled_cpu_takes_interrupts_after_the_stall_before_the_operation():
    async def program(cpu):
        await cpu.store(0, 1)
        await cpu.store(0, 2)

    machine = Machine(1, vector=acknowledging, stalls={0: {1: 50}})
    host = run(machine, program, events=irq_at(10))
    assert kinds(machine) == [(54, 0, "enter"), (58, 0, "exit")]
    assert [(access[0], access[5]) for access in host.accesses] == [(4, 1), (58, 0), (62, 2)]


# Softirqs, timers, threads


def test_a_softirq_runs_outside_interrupts_and_can_be_interrupted():
    async def soft(cpu):
        cpu.log("soft", off=cpu.irqs_off)
        await cpu.delay(20)
        cpu.log("soft end")

    async def vector(cpu, line):
        cpu.raise_softirq(soft)
        await acknowledging(cpu, line)

    machine = Machine(1, vector=vector)
    run(machine, None, events=irq_at(5, 15))
    assert kinds(machine) == [
        (5, 0, "enter"),
        (9, 0, "exit"),
        (9, 0, "soft"),
        (15, 0, "enter"),
        (19, 0, "exit"),
        (33, 0, "soft end"),
        (33, 0, "soft"),
        (53, 0, "soft end"),
    ]
    assert not records(machine, "soft")[0].fields["off"]


def test_a_softirq_does_not_run_in_a_handler_that_unmasks():
    async def soft(cpu):
        cpu.log("soft")

    async def vector(cpu, line):
        await cpu.load(ACKNOWLEDGE)
        cpu.raise_softirq(soft)
        async with cpu.irqs_enabled():
            await cpu.delay(5)
        cpu.log("exit")

    machine = Machine(1, vector=vector)
    run(machine, None, events=irq_at(5))
    assert kinds(machine) == [(14, 0, "exit"), (14, 0, "soft")]


def test_a_timer_ends_the_wait_for_an_interrupt():
    async def soft(cpu):
        cpu.log("soft")

    async def program(cpu):
        cpu.start_timer(30, soft)
        await cpu.wait_for_interrupt()
        cpu.log("awake")

    machine = Machine(1, vector=acknowledging)
    host = run(machine, program)
    assert kinds(machine) == [(30, 0, "soft"), (30, 0, "awake")]
    assert host.demands.finished


def test_timers_fire_in_order_when_unmasked_and_can_be_cancelled():
    def at(name):
        async def function(cpu):
            cpu.log(name)

        return function

    async def program(cpu):
        cpu.start_timer(20, at("late"))
        cpu.start_timer(10, at("early"))
        cpu.start_timer(10, at("early too"))
        doomed = cpu.start_timer(10, at("never"))
        cpu.log("cancelled", in_time=doomed.cancel())
        cpu.log("cancelled", in_time=doomed.cancel())
        async with cpu.irqs_disabled():
            await cpu.delay(15)
        cpu.log("end")

    machine = Machine(1)
    host = run(machine, program)
    assert [r.fields.get("in_time") for r in machine.log[:2]] == [True, False]
    assert kinds(machine)[2:] == [
        (15, 0, "early"),
        (15, 0, "early too"),
        (15, 0, "end"),
        (20, 0, "late"),
    ]
    assert host.demands.finished
    assert host.wakes == 2


def test_a_pending_timer_keeps_the_machine_unfinished():
    machine = Machine(1)
    machine.start()
    timer = machine.cpus[0].start_timer(10, nothing)
    demands = machine.wake(1, {}, (0,))
    assert (demands.finished, demands.idle, demands.deadline) == (False, False, 10)
    timer.cancel()
    demands = machine.wake(2, {}, (0,))
    assert (demands.finished, demands.idle, demands.deadline) == (True, True, None)


def test_tasks_run_one_after_the_other():
    async def task(cpu, name):
        await cpu.delay(5)
        cpu.log(name)

    machine = Machine(1)
    machine.cpus[0].spawn(task, "a")
    machine.cpus[0].spawn(task, "b")
    run(machine)
    assert kinds(machine) == [(5, 0, "a"), (10, 0, "b")]


# What goes wrong in software


def test_an_exception_is_a_record_and_halts_only_its_cpu():
    async def inner(cpu):
        await cpu.load(NOTHING)

    async def bad(cpu):
        await inner(cpu)

    async def good(cpu):
        await cpu.delay(50)
        cpu.log("done")

    machine = Machine(2, vector=acknowledging)
    host = run(machine, bad, good, events=irq_at(20))
    (crash,) = records(machine, "crash")
    assert (crash.cycle, crash.cpu) == (4, 0)
    assert crash.fields["error"] == "BusError"
    assert crash.fields["text"] == "CPU 0: LOAD at 0xdead0000 answered with an error"
    line = inner.__code__.co_firstlineno + 1
    assert crash.fields["location"] == f"{__name__}:inner:{line}"
    assert kinds(machine) == [(4, 0, "crash"), (50, 1, "done")]
    assert machine.cpus[0].halted
    assert machine.cpus[0].exception.address == NOTHING
    assert host.demands.finished


@pytest.mark.parametrize("misused", ["vector", "softirq", "predicate", "arguments", "plain"])
def test_every_way_in_is_guarded(misused):
    async def failing(cpu, *line):
        raise KeyError("missing")

    def plain(cpu):
        return None

    def predicate():
        raise KeyError("missing")

    async def spins(cpu):
        cpu.raise_softirq(nothing)
        await cpu.delay(2)
        await cpu.spin_until(predicate)

    machine = Machine(1, vector=failing)
    cpu = machine.cpus[0]
    if misused == "softirq":
        cpu.raise_softirq(failing)
    elif misused == "predicate":
        cpu.spawn(spins)
    elif misused == "arguments":
        cpu.spawn(nothing, 1, 2)
    elif misused == "plain":
        cpu.spawn(plain)
    run(machine, None, events=irq_at(5))
    (crash,) = machine.log
    assert crash.kind == "crash"
    assert crash.fields["error"] == (
        "TypeError" if misused in ("arguments", "plain") else "KeyError"
    )


def test_a_predicate_that_fails_later_crashes_the_cpu_that_spins():
    state = {"ready": False}

    async def spins(cpu):
        await cpu.spin_until(lambda: state["ready"])

    async def frees(cpu):
        await cpu.delay(7)
        del state["ready"]

    machine = Machine(2)
    run(machine, spins, frees)
    (crash,) = machine.log
    assert (crash.cycle, crash.cpu, crash.fields["error"]) == (7, 0, "KeyError")


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda cpu: cpu.load(0, 3), "The size of an access must be 1, 2 or 4 bytes, not 3"),
        (lambda cpu: cpu.load(-4), "An address must be 0 to 0xffffffffffffffff, not -0x4"),
        (lambda cpu: cpu.store(0, 256, 1), "A 1-byte store takes 0 to 0xff, not 256"),
        (
            lambda cpu: cpu.store64(0, 1 << 64),
            "A 64-bit value must be 0 to 0xffffffffffffffff, not 18446744073709551616",
        ),
        (
            lambda cpu: cpu.read_sysreg("ICC_IAR9_EL1"),
            "A system register must be named as in hdl.registers.sysreg, not 'ICC_IAR9_EL1'",
        ),
        (lambda cpu: cpu.delay(-1), "A delay must be 0 or more cycles, not -1"),
    ],
)
def test_bad_arguments_of_operations_say_what_is_right(call, text):
    async def program(cpu):
        await call(cpu)

    machine = Machine(1)
    host = run(machine, program)
    (crash,) = machine.log
    assert crash.fields["error"] == "ValueError"
    assert crash.fields["text"] == text
    assert host.accesses == []


def test_bad_arguments_outside_software_are_raised():
    cpu = Machine(1).cpus[0]
    with pytest.raises(ValueError, match=r"^A timer must be started for 1 or more cycles, not 0$"):
        cpu.start_timer(0, nothing)
    with pytest.raises(ValueError, match=r"^CPU 0 is not offline; only die\(\) takes it there$"):
        cpu.bring_up()


def test_software_runs_on_its_own_cpu_only():
    async def program(cpu):
        await cpu.machine.cpus[1].load(0)

    machine = Machine(2)
    run(machine, program)
    (crash,) = machine.log
    assert crash.cpu == 0
    assert crash.fields["text"] == "CPU 1 was given an operation by software that runs on CPU 0"


def test_awaiting_something_else_is_a_crash():
    class Foreign:
        def __await__(self):
            yield "something"

    async def program(cpu):
        await Foreign()

    machine = Machine(1)
    run(machine, program)
    (crash,) = machine.log
    assert crash.fields["text"] == (
        "Software may await a machine's operations only, not 'something'"
    )


def test_an_endless_loop_that_takes_no_time_is_a_crash():
    def again(cpu):
        async def soft(cpu):
            cpu.raise_softirq(soft)

        return soft

    machine = Machine(1)
    machine.cpus[0].raise_softirq(again(machine.cpus[0]))
    run(machine)
    (crash,) = machine.log
    assert crash.fields["text"] == (
        f"Software went on {STEPS_PER_WAKE} times without any time passing"
    )


def test_a_task_that_ends_masked_is_misuse():
    async def program(cpu):
        cpu.mask()

    machine = Machine(1, vector=acknowledging)
    host = run(machine, program)
    assert [(r.kind, r.fields) for r in machine.log] == [
        ("misuse", {"rule": "a task ended with the interrupt mask changed"})
    ]
    assert host.demands.watch == [0]


def test_software_that_nothing_can_wake_is_reported():
    async def program(cpu):
        async with cpu.irqs_disabled():
            await cpu.spin_until(lambda: False)

    machine = Machine(2, vector=acknowledging)
    # CPU 1 could still be interrupted and make it true: that is for the host to give up on.
    host = run(machine, program)
    assert not host.demands.deadlocked
    assert host.demands.idle
    assert not host.demands.finished

    machine = Machine(1, vector=acknowledging)
    host = run(machine, program)
    assert host.demands.deadlocked
    assert [(r.kind, r.fields) for r in machine.log] == [
        ("deadlock", {"cpus": [0], "locks": [], "reason": "nothing can wake them"})
    ]
    machine.close()


def test_the_interrupts_a_cpu_raises_itself_are_taken_at_its_own_boundary():
    async def program(cpu):
        await cpu.store(RAISE, 1)
        cpu.log("sent")

    machine = Machine(1, vector=acknowledging)
    run(machine, program)
    assert kinds(machine) == [(4, 0, "enter"), (8, 0, "exit"), (8, 0, "sent")]
