"""The same software on the gateware and on the reference model; the torn message on real wires."""

import pytest

from firmware_model.core import Kind
from firmware_model.platforms.x86 import MovingInterrupt
from firmware_model.strategies.torn_msi import STRATEGIES
from hdl.config import SocConfig
from hdl.tap import EventKind
from sim.design import Design
from sim.hosts.base import Poke
from sim.hosts.verilated import VerilatedHost
from sim.reference import ReferenceMachine
from sim.trial import Plan, run

from ..reference_host import ReferenceHost

DESIGN = Design(SocConfig(gic=False))
FIRST, SECOND, MOVE = 1200, 1600, 1000


@pytest.fixture(scope="module")
def gateware():
    with VerilatedHost(DESIGN) as host:
        yield host, host.snapshot()


def trial(gateware, name, events, **options):
    """The system and the outcome of a run with device events at these clocks."""
    host, reset = gateware
    host.restore(reset)
    host.forget_records()
    system = MovingInterrupt(STRATEGIES[name], move_at=MOVE, jiffy=300, **options)
    pokes = []
    for cycle in events:
        pokes += [Poke(cycle, "endpoint_0_event", 1), Poke(cycle + 1, "endpoint_0_event", 0)]
    outcome = run(Plan(system.machine, pokes), host)
    assert outcome.quiet
    return system, outcome


def story(log):
    """What each CPU wrote down, without the time."""
    cpus = {record.cpu for record in log}
    return {cpu: [(r.kind, r.fields) for r in log if r.cpu == cpu] for cpu in cpus}


@pytest.mark.parametrize("name", ["naive", "two-step", "retrigger", "transit-evan", "disable-msi"])
@pytest.mark.parametrize("hotplug", [False, True], ids=["interrupt", "hotplug"])
def test_the_software_sees_no_difference(gateware, name, hotplug):
    events = [SECOND] if hotplug else [FIRST, SECOND]
    system, outcome = trial(gateware, name, events, hotplug=hotplug)
    other = MovingInterrupt(STRATEGIES[name], move_at=MOVE, jiffy=300, hotplug=hotplug)
    ReferenceHost(
        other.machine,
        ReferenceMachine(),
        events=dict.fromkeys(events, ReferenceHost.device_event),
    ).run()
    assert story(outcome.log) == story(other.machine.log)
    assert system.driver.seen == len(events)


def test_one_clock_in_the_window_and_the_event_is_lost(gateware):
    """The message (new CPU, old vector) is on the bus, and nobody holds it."""
    _, quiet = trial(gateware, "naive", [], hotplug=True)
    writes = [e for e in quiet.events if e.kind == EventKind.CONFIG_WRITE and e.cycle > MOVE]
    low, data = writes[-3].cycle, writes[-1].cycle
    assert writes[-3].data == 0xFEE0_1000
    inside = (low + data) // 2
    for name, lost in (("naive", True), ("two-step", False)):
        system, outcome = trial(gateware, name, [inside], hotplug=True)
        assert system.driver.seen == (not lost)
        messages = [e for e in outcome.events if e.kind == EventKind.MESSAGE]
        torn = [e for e in messages if (e.address, e.data) == (0xFEE0_1000, 0x35)]
        nobody = [record.cpu for record in outcome.log if record.kind == Kind.NO_IRQ_HANDLER]
        assert len(torn) == lost
        assert nobody == [1] * lost
    before, _ = trial(gateware, "naive", [low - 20], hotplug=True)
    after, _ = trial(gateware, "naive", [data + 20], hotplug=True)
    assert before.driver.seen == after.driver.seen == 1
