"""The contract between a machine and its host, and the small host that the machine tests use."""

import copy
import gc

import pytest

from firmware_model.machine import BusError, Line, Machine, ProbeState
from hdl.cpu_port import Operation
from hdl.probe import CpuContext, SoftwareState
from hdl.registers.sysreg import SystemRegister

ACKNOWLEDGE = 0x1000
"""Loading it lowers the CPU's IRQ line and gives the number of interrupts raised since."""
RAISE = 0x2000
"""Storing at ``RAISE + 4 * target`` raises the target's IRQ line."""
NOTHING = 0xDEAD_0000
"""From here on every access is answered with an error."""

LOAD, STORE = Operation.LOAD.value, Operation.STORE.value
READ_SYSREG, WRITE_SYSREG = Operation.READ_SYSREG.value, Operation.WRITE_SYSREG.value


class Host:
    """Memory, an interrupt controller of two registers, and a clock that skips idle cycles.

    ``latency`` is a number, or a function of the submission. ``events`` maps cycles to functions
    of the host. ``eager`` wakes the machine in every clock instead of only when it asked for it.
    """

    def __init__(self, machine, *, latency=4, events=None, eager=False):
        self.machine = machine
        self.latency = latency
        self.events = dict(events or {})
        self.eager = eager
        self.lines = [0] * len(machine.cpus)
        self.raised = [0] * len(machine.cpus)
        self.memory = {}
        self.sysregs = {}
        self.accesses = []
        self.probes = []
        self.wakes = 0
        self.cycle = 0
        self._pending = {}

    def raise_irq(self, cpu, line=Line.IRQ):
        self.lines[cpu] |= line
        self.raised[cpu] += 1

    def lower(self, cpu, line=Line.IRQ):
        self.lines[cpu] &= ~line

    def run(self, budget=20_000):
        """Until nothing can happen any more; fails when the budget is used up."""
        demands = self.machine.start(self.cycle, self.lines)
        while True:
            self._accept(demands)
            at = self._next(demands)
            if at is None:
                return demands
            assert at <= budget, f"cycle {at}, still waiting: {self._describe()}"
            self.cycle = at
            if at in self.events:
                self.events.pop(at)(self)
            answers = {}
            for cpu, (due, submission) in list(self._pending.items()):
                if due == at:
                    del self._pending[cpu]
                    answers[cpu] = self._perform(submission)
            watched = any(a & b for a, b in zip(self.lines, demands.watch, strict=True))
            if self.eager or answers or watched or demands.deadline == at:
                self.wakes += 1
                demands = self.machine.wake(at, answers, self.lines)
            else:
                demands.submissions.clear()
                demands.probes.clear()

    def _accept(self, demands):
        for submission in demands.submissions:
            assert submission.cpu not in self._pending
            latency = self.latency(submission) if callable(self.latency) else self.latency
            self._pending[submission.cpu] = (self.cycle + latency, submission)
        self.probes += [(self.cycle, cpu, lane) for cpu, lane in demands.probes]

    def _next(self, demands):
        times = [due for due, _ in self._pending.values()] + list(self.events)
        if demands.deadline is not None:
            times.append(demands.deadline)
        if any(a & b for a, b in zip(self.lines, demands.watch, strict=True)):
            times.append(self.cycle + 1)
        if not times:
            return None
        return self.cycle + 1 if self.eager else min(times)

    def _perform(self, submission):
        cpu, operation, size, address, data = submission
        self.accesses.append((self.cycle, cpu, operation, size, address, data))
        if operation == READ_SYSREG:
            return self.sysregs.get(address, 0), 0
        if operation == WRITE_SYSREG:
            self.sysregs[address] = data
            return 0, 0
        if address >= NOTHING:
            return 0, 1
        if operation == STORE:
            if RAISE <= address < RAISE + 4 * len(self.lines):
                self.raise_irq((address - RAISE) // 4)
            self.memory[address] = data
            return 0, 0
        if address == ACKNOWLEDGE:
            self.lower(cpu)
            count, self.raised[cpu] = self.raised[cpu], 0
            return count, 0
        return self.memory.get(address, 0), 0

    def _describe(self):
        self.machine.report_stuck()
        return [record for record in self.machine.log if record.kind == "stuck"]


async def acknowledging(cpu, line):
    """The plainest vector: log, acknowledge, log."""
    cpu.log("enter", line=line.name)
    count = await cpu.load(ACKNOWLEDGE)
    cpu.log("exit", count=count)


def kinds(machine, *names):
    """The log as (cycle, cpu, kind), all kinds or those named."""
    return [(r.cycle, r.cpu, r.kind) for r in machine.log if not names or r.kind in names]


def records(machine, kind):
    return [record for record in machine.log if record.kind == kind]


def run(machine, *programs, **host_options):
    """Give each CPU its program (or None), run them, and return the host."""
    for cpu, program in zip(machine.cpus, programs, strict=False):
        if program is not None:
            cpu.spawn(program)
    host = Host(machine, **host_options)
    host.demands = host.run()
    return host


async def nothing(cpu):
    pass


def test_operations_reach_the_port_as_plain_numbers():
    async def program(cpu):
        await cpu.store(0x100, 0xAB, size=1)
        await cpu.store(0x102, 0x1234, size=2)
        await cpu.store64(0x108, 0x1122_3344_5566_7788)
        cpu.log("read", value=await cpu.load64(0x108))
        await cpu.write_sysreg("ICC_PMR_EL1", 0xF0)
        cpu.log("read", value=await cpu.read_sysreg(SystemRegister.ICC_PMR_EL1))

    machine = Machine(1)
    host = run(machine, program)
    pmr = SystemRegister.ICC_PMR_EL1.value
    assert host.accesses == [
        (4, 0, STORE, 0, 0x100, 0xAB),
        (8, 0, STORE, 1, 0x102, 0x1234),
        (12, 0, STORE, 2, 0x108, 0x5566_7788),
        (16, 0, STORE, 2, 0x10C, 0x1122_3344),
        (20, 0, LOAD, 2, 0x108, 0),
        (24, 0, LOAD, 2, 0x10C, 0),
        (28, 0, WRITE_SYSREG, 0, pmr, 0xF0),
        (32, 0, READ_SYSREG, 0, pmr, 0),
    ]
    assert [r.fields["value"] for r in machine.log] == [0x1122_3344_5566_7788, 0xF0]
    assert host.demands.finished
    assert host.demands.idle


def test_an_error_answer_is_an_exception_at_that_await():
    async def program(cpu):
        for attempt in (cpu.load(NOTHING + 8), cpu.store(NOTHING, 1)):
            try:
                await attempt
            except BusError as error:
                cpu.log("fault", cpu=error.cpu, at=error.address, text=str(error))
        await cpu.store(4, 1)

    machine = Machine(1)
    host = run(machine, program)
    assert [(r.cycle, r.fields["at"]) for r in records(machine, "fault")] == [
        (4, NOTHING + 8),
        (8, NOTHING),
    ]
    assert records(machine, "fault")[0].fields["text"] == (
        "CPU 0: LOAD at 0xdead0008 answered with an error"
    )
    assert host.accesses[-1] == (12, 0, STORE, 2, 4, 1)
    assert not records(machine, "crash")


def test_all_cpus_run_in_one_wake_in_order():
    async def program(cpu):
        cpu.log("first")
        await cpu.store(cpu.index * 4, 1)
        cpu.log("second")

    machine = Machine(3)
    run(machine, program, program, program)
    assert kinds(machine) == [
        *((0, cpu, "first") for cpu in range(3)),
        *((4, cpu, "second") for cpu in range(3)),
    ]


def test_demands_name_the_deadline_and_the_lines_that_matter():
    async def waits(cpu):
        await cpu.delay(30)
        async with cpu.irqs_disabled():
            await cpu.delay(5)

    async def works(cpu):
        await cpu.store(0, 0)

    machine = Machine(3, vector=acknowledging, lines=(Line.IRQ, Line.IRQ, Line.INTR))
    machine.cpus[0].spawn(waits)
    machine.cpus[1].spawn(works)
    demands = machine.start(100)
    assert demands.deadline == 130
    assert demands.watch == [Line.IRQ, 0, Line.INTR]
    assert [submission.cpu for submission in demands.submissions] == [1]
    assert not demands.idle
    demands = machine.wake(130, {}, (0, 0, 0))
    assert demands.deadline == 135
    assert demands.watch == [0, 0, Line.INTR]
    demands = machine.wake(135, {1: (0, 0)}, (0, 0, 0))
    assert demands.deadline is None
    assert demands.watch == [Line.IRQ, Line.IRQ, Line.INTR]
    assert demands.finished
    assert demands.idle


def test_a_stalled_cpu_wants_nothing_but_its_deadline():
    async def program(cpu):
        cpu.start_timer(10, nothing)
        await cpu.store(0, 0)

    machine = Machine(1, vector=acknowledging, issue_cycles=20, stalls={0: {0: 30}})
    machine.cpus[0].spawn(program)
    demands = machine.start(100)
    assert (demands.deadline, demands.watch, demands.submissions) == (150, [0], [])
    demands = machine.wake(150, {}, (0,))
    assert [submission.address for submission in demands.submissions] == [0]
    assert (demands.deadline, demands.watch) == (None, [0])
    machine.close()


def test_the_lane_shows_what_holds_at_the_end_of_a_wake():
    async def program(cpu):
        with cpu.context(CpuContext.FLOW, irq=7):
            cpu.set_state(0x24)
            async with cpu.irqs_disabled():
                with cpu.context(CpuContext.HANDLER):
                    await cpu.load(0)
            await cpu.load(0)
        await cpu.load(0)
        cpu.set_context(CpuContext.HANDLER, irq=1)

    assert ProbeState._fields == tuple(SoftwareState.as_shape().members)
    machine = Machine(1)
    host = run(machine, program)
    assert host.probes == [
        (0, 0, ProbeState(CpuContext.HANDLER.value, 1, 7, 0x24, 0, 1)),
        (4, 0, ProbeState(CpuContext.FLOW.value, 0, 7, 0x24, 0, 1)),
        (8, 0, ProbeState(CpuContext.TASK.value, 0, 0, 0, 0, 1)),
        (12, 0, ProbeState(CpuContext.IDLE.value, 0, 0, 0, 0, 2)),
    ]


def test_what_the_host_does_wrong_is_raised():
    machine = Machine(2)
    machine.cpus[0].spawn(nothing)
    machine.start(10)
    with pytest.raises(ValueError, match=r"^Time must not go back from cycle 10 to 9$"):
        machine.wake(9, {}, (0, 0))
    with pytest.raises(ValueError, match=r"^lines must name 2 CPUs, not 1$"):
        machine.wake(10, {}, (0,))
    with pytest.raises(ValueError, match=r"^CPU 0 has no operation under way that could be"):
        machine.wake(10, {0: (0, 0)}, (0, 0))
    with pytest.raises(ValueError, match=r"^There is no CPU 2 to answer, only 0 to 1$"):
        machine.wake(10, {2: (0, 0)}, (0, 0))
    machine.close()
    with pytest.raises(ValueError, match=r"^The machine is closed$"):
        machine.wake(11, {}, (0, 0))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"cpus": True}, TypeError, "^The number of CPUs must be an integer, not True$"),
        ({"cpus": 0}, ValueError, "^A machine needs at least one CPU, not 0$"),
        ({"issue_cycles": -1}, ValueError, "^issue_cycles must be 0 or more, not -1$"),
        ({"issue_cycles": (1,)}, ValueError, "^issue_cycles must have one entry for each of 2"),
        ({"lines": 8}, ValueError, "^lines must be a combination of Line, not 8$"),
        ({"stalls": {2: {}}}, ValueError, "^stalls: there is no CPU 2, only 0 to 1$"),
        ({"stalls": {0: {1: -4}}}, ValueError, "^stalls: step and clocks must be 0 or more, not"),
    ],
)
def test_bad_parameters_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        Machine(**arguments)


def test_closing_drops_unfinished_software_without_a_word(recwarn, capsys):
    async def stubborn(cpu):
        try:
            async with cpu.irqs_disabled():
                await cpu.load(0)
        finally:
            await cpu.load(4)

    gc.collect()  # what earlier tests of the process left is not ours
    recwarn.clear()
    with Machine(1) as machine:
        machine.cpus[0].spawn(stubborn)
        machine.start()
    gc.collect()
    assert not recwarn.list
    assert capsys.readouterr().err == ""


def test_a_finished_machine_can_be_copied_with_its_software():
    async def program(cpu, tables, value):
        tables["at"] = value
        await cpu.store(0, value)
        cpu.log("stored", value=value)

    tables = {}
    machine = Machine(2, vector=acknowledging)
    machine.cpus[0].spawn(program, tables, 1)
    assert Host(machine).run().finished
    for value in (2, 3):
        trial, trial_tables = copy.deepcopy((machine, tables))
        assert trial_tables == {"at": 1}
        trial.cpus[1].spawn(program, trial_tables, value)
        host = Host(trial)
        host.cycle = trial.cycle
        assert host.run().finished
        assert trial_tables == {"at": value}
        assert [(r.cycle, r.cpu, r.fields["value"]) for r in trial.log] == [
            (4, 0, 1),
            (8, 1, value),
        ]
    assert tables == {"at": 1}


def test_a_host_that_gives_up_learns_what_everyone_waits_for():
    async def waits(cpu):
        await cpu.delay(2)
        await cpu.spin_until(lambda: False)

    async def works(cpu):
        await cpu.store(0x40, 1)

    machine = Machine(3, vector=acknowledging)
    machine.cpus[0].spawn(waits)
    machine.cpus[1].spawn(works)
    machine.start()
    machine.wake(2, {}, (0, 0, 0))
    machine.report_stuck()
    assert [(r.cpu, r.fields) for r in machine.log] == [
        (0, {"wait": "spin", "since": 2, "what": None}),
        (1, {"wait": "operation", "since": 0, "what": 0x40}),
    ]
    machine.close()
