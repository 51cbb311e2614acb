"""A sweep boots once and copies: every trial is as if it had booted itself, on every host."""

import pytest

from firmware_model.machine.machine import Machine
from sim.boot import KEPT, Machinery
from sim.design import Design
from sim.hosts.verilated import VerilatedHost
from sim.scenarios import find_scenario
from sim.scenarios.base import Axis, Scenario, Strategy, device_event
from sim.scenarios.machines import X86
from sim.trial import Plan, run, run_under_cocotb

POINTS = [
    ("first-msi", "plain", {"inject": 17}),
    ("torn-msi", "naive", {"inject": 60}),
    ("torn-msi", "naive", {"inject": 60, "foreign_new": 1}),
    ("torn-msi", "two-step-under-lock", {"inject": 90, "hotplug": 0}),
    ("torn-msi", "transit-evan", {"inject": 75, "bus_latency": 9, "read_latency": 5}),
    ("torn-msi", "msix-unmasked", {"inject": 50, "foreign_old": 1}),
]


class Clockwork:
    """What software of one task is."""

    def __init__(self, task):
        self.machine = Machine(2)
        self.booted = 0
        for cpu in self.machine.cpus:
            cpu.spawn(self.start, task)

    async def start(self, cpu, task):
        await task(cpu)
        self.booted += 1


async def quick(cpu):
    await cpu.delay(20)


async def endless(cpu):
    await cpu.delay(1000)


async def faulty(cpu):
    await cpu.load(1)


class Toy(Scenario):
    name = "toy"
    config = X86
    boot_clocks = 100
    boot_axes = ("kind",)
    axes = {"kind": Axis(0, 0, 200, ""), "inject": Axis(0, -100, 100, "")}
    strategies = {task.__name__: Strategy("", True) for task in (quick, endless, faulty)}

    def __init__(self):
        self.boots = 0

    def boot(self, strategy, at):
        self.boots += 1
        assert set(at) == {"kind"}
        return Clockwork(globals()[strategy])

    def straps(self, strategy, at):
        return {"endpoint_0_vector": at["kind"] % 2}

    def stimulate(self, system, strategy, at):
        assert system.booted == 2
        assert system.machine.cycle < self.boot_clocks
        system.machine.cpus[0].spawn(Clockwork.start.__get__(system), quick)
        return Plan(system.machine, device_event(0, self.boot_clocks + at["inject"]), settle=50)


@pytest.fixture
def machinery():
    machinery = Machinery(Design(X86))
    yield machinery
    machinery.close()


def story(outcome):
    return outcome.cycles, outcome.quiet, outcome.log, outcome.events


def test_a_copy_of_a_booted_machine_goes_the_way_of_one_that_has_booted_itself(machinery):
    copied, whole, points = [], [], []
    for name, strategy, at in POINTS:
        scenario = find_scenario(name)
        point = {"scenario": name, "strategy": strategy, "at": at}
        for _ in range(2):
            copied.append(machinery.run(scenario, strategy, at))
        with VerilatedHost(Design(X86)) as host:
            whole.append(run(scenario.plan(strategy, at), host))
        points.append(point)
    assert [story(outcome) for outcome in copied[::2]] == [story(outcome) for outcome in whole]
    assert [story(outcome) for outcome in copied[1::2]] == [story(outcome) for outcome in whole]
    assert len({outcome.cycles for outcome in whole}) > 3, "not all the same"
    simulated = [
        run_under_cocotb(Design(X86), "sim.runs:make_plan", [point])[0] for point in points[2:4]
    ]
    assert [story(outcome) for outcome in simulated] == [story(o) for o in whole[2:4]]


def test_every_boot_is_at_rest_well_before_the_stimulus(machinery):
    for name in ("first-msi", "torn-msi"):
        scenario = find_scenario(name)
        for strategy in scenario.strategies:
            if scenario.hardware(strategy) != X86:
                continue
            outcome = machinery.run(scenario, strategy, {})
            booted = [r.cycle for r in outcome.log if r.kind == "ready"]
            assert max(booted) < scenario.boot_clocks - 50


def test_it_boots_once_for_all_trials_with_the_same_boot_axes(machinery):
    toy = Toy()
    for inject in range(3):
        for kind in (0, 1):
            outcome = machinery.run(toy, "quick", {"kind": kind, "inject": inject})
            events = [e for e in outcome.events if e.kind.name == "DEVICE_EVENT"]
            assert [event.cycle for event in events] == [100 + inject]
    assert toy.boots == 2


def test_only_so_many_are_kept(machinery):
    toy = Toy()
    for kind in (*range(KEPT + 1), 1):
        machinery.run(toy, "quick", {"kind": kind})
    assert toy.boots == KEPT + 1
    machinery.run(toy, "quick", {"kind": 0})
    assert toy.boots == KEPT + 2, "the oldest made room"


def test_a_boot_that_does_not_come_to_rest_is_its_trials_end(machinery):
    outcome = machinery.run(Toy(), "endless", {})
    assert (outcome.quiet, outcome.cycles) == (False, 100)
    assert [record.kind for record in outcome.log] == ["stuck", "stuck"]
    with VerilatedHost(Design(X86)) as host:
        assert story(run(Toy().plan("endless", {}), host)) == story(outcome)


def test_a_boot_that_crashes_is_its_trials_end(machinery):
    outcome = machinery.run(Toy(), "faulty", {})
    assert outcome.cycles == 100
    assert {record.kind for record in outcome.log} == {"crash"}


def test_a_stimulus_before_its_time_is_refused(machinery):
    with pytest.raises(ValueError, match="in clock 99 of the trial, before clock 100, where"):
        machinery.run(Toy(), "quick", {"inject": -1})


def test_clocks_in_which_nothing_changes_are_skipped_and_counted():
    """The same events in the same clocks as when each is asked for, and no time for a trillion."""
    scenario = find_scenario("torn-msi")
    with VerilatedHost(Design(X86)) as host:
        _, plan = scenario.boot_plan("naive", scenario.complete("naive", {}))
        run(plan, host)
        booted, begin = host.snapshot(), host.cycle
        events = [poke for clock in (777, 790, 2000) for poke in device_event(0, begin + clock)]
        host.advance(events, begin + 3000)
        while host.cycle < begin + 3000:
            host.advance([], begin + 3000)
        at_once = host.records()
        host.restore(booted)
        for clock in range(3000):
            host.advance([] if clock else events, begin + clock + 1)
        assert host.cycle == begin + 3000
        assert (host.records() == at_once).all()
        assert len(at_once) > 3
        host.restore(booted)
        assert host.advance([], begin + 10**12).cycle == begin + 10**12
