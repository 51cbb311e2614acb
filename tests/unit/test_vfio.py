"""VFIO's INTx, eventfds and a guest, on the reference model: facts on Linux, 5.3 and 5.4."""

from errno import EBUSY

import pytest

from firmware_model.core import Irqd, Kind
from firmware_model.core.manage import request_irq
from firmware_model.drivers.eventfd import EventFd
from firmware_model.machine import Machine
from firmware_model.machine.work import Workqueue
from firmware_model.platforms.passthrough import (
    CO_DEVICE,
    GUEST_CPU,
    GUEST_INTID,
    HOST_CPU,
    USER_CPU,
    PassthroughSystem,
)
from firmware_model.strategies.vfio import STRATEGIES, IntxStrategy
from hdl.registers import pci
from hdl.registers.gicd import GicdRegister
from hdl.registers.pci import COMMAND_INTX_DISABLE, Header
from sim.reference import ReferenceMachine
from sim.reference.implementation import PciLayout
from sim.scenarios.machines import ARM, gic_frames
from sim.scenarios.vfio_direct_eoi import INTID, VfioDirectEoi

from ..reference_host import ReferenceHost
from .test_machine_host import Host, run

START = 4_000
"""The boot is over."""
DISTRIBUTOR = gic_frames(ARM).distributor
DIRECT = ("direct-eoi-shared", "direct-eoi-exclusive", "direct-eoi-bypass")
MASKING = ("disintx", "disable-irq-lazy", "disable-irq-unlazy")
EXCLUSIVE = [name for name, strategy in STRATEGIES.items() if not strategy.at_device]


class Rig:
    """The system of the scenario; ``mine`` and ``other`` are clocks of the functions' events."""

    def __init__(self, strategy, *, mine=(), other=(), delay=50, link=START - 200, **options):
        self.system = PassthroughSystem(
            STRATEGIES[strategy], intid=INTID, frames=gic_frames(ARM), **options
        )
        self.system.guest.delay = delay
        pins = [PciLayout(pin=endpoint.pin_number) for endpoint in ARM.endpoints]
        self.reference = ReferenceMachine(ARM, pci=pins)
        events = {}
        for endpoint, cycles in enumerate((mine, other)):
            for cycle in cycles:
                events[cycle] = lambda host, endpoint=endpoint: host.device_event(endpoint)
        self.host = ReferenceHost(self.system.machine, self.reference, events=events)
        self.log = self.system.machine.log
        self.system.start_link(link)

    def task(self, cycle, function, cpu=USER_CPU):
        """Have ``function(cpu)`` run at ``cycle``."""

        async def later(cpu):
            await cpu.delay_until(cycle)
            await function(cpu)

        self.system.machine.cpus[cpu].spawn(later)

    def run(self):
        assert self.host.run().finished
        assert not self.of("misuse", "crash", "deadlock", "stuck")
        return self

    def of(self, *kinds):
        return [record for record in self.log if record.kind in kinds and record.cycle >= START]

    def count(self, kind, **fields):
        return sum(fields.items() <= record.fields.items() for record in self.of(kind))

    def active(self):
        """Whether the line's interrupt is active in the distributor."""
        base = DISTRIBUTOR + GicdRegister.ISACTIVER + INTID // 32 * 4
        return bool(self.reference.load(0, base, 4) >> INTID % 32 & 1)

    def disabled(self, function):
        """Whether a function's INTx disable bit is set."""
        command = self.reference.load(0, function._base + Header.COMMAND, 2)
        return bool(command & COMMAND_INTX_DISABLE)


@pytest.mark.parametrize("strategy", sorted(set(STRATEGIES) - {"unmasked"}))
def test_the_guest_serves_every_event_of_its_device(strategy):
    rig = Rig(strategy, mine=(START, START + 1000, START + 2000)).run()
    seen = [r.fields["events"] for r in rig.of(Kind.HANDLED) if r.cpu == GUEST_CPU]
    assert sum(seen) == 3
    assert rig.count(Kind.GUEST_START, intid=GUEST_INTID) == 3
    assert not rig.active()
    assert not rig.system.intx.masked
    assert not rig.disabled(rig.system.intx.function)
    assert rig.system.desc.depth == 0


def test_unmasked_the_host_does_nothing_else():
    """The level is there as soon as the interrupt has ended, so the guest is never told."""
    rig = Rig("unmasked", mine=(START,))
    with pytest.raises(AssertionError, match="still waiting"):
        rig.host.run(budget=START + 2000)
    assert rig.count(Kind.HANDLER_START) > 20
    assert not rig.count(Kind.GUEST_START)


@pytest.mark.parametrize("strategy", MASKING)
def test_masked_exactly_while_the_guest_has_not_ended_its_interrupt(strategy):
    """S3-1, S3-5."""
    rig = Rig(strategy, mine=(START,), delay=1000)
    seen = []

    async def look(cpu):
        intx = rig.system.intx
        seen.append((intx.masked, rig.disabled(intx.function), rig.system.desc.depth))

    rig.task(START + 700, look)
    rig.run()
    at_device = STRATEGIES[strategy].at_device
    assert seen == [(True, at_device, int(not at_device))]


@pytest.mark.parametrize("strategy", DIRECT)
def test_directly_ended_means_active_and_nothing_else(strategy):
    """S3-6: from the acknowledge to the guest's end, and the host never deactivates it."""
    rig = Rig(strategy, mine=(START,), delay=1000)
    seen = []

    async def look(cpu):
        intx = rig.system.intx
        seen.append((rig.active(), intx.masked, rig.disabled(intx.function)))
        assert rig.system.desc.flags & Irqd.FORWARDED_TO_VCPU

    rig.task(START + 700, look)
    rig.run()
    assert seen == [(True, False, False)]
    assert not rig.count(Kind.RESAMPLED)


@pytest.mark.parametrize("strategy", [*MASKING, *DIRECT])
def test_a_level_that_stays_up_is_one_more_interrupt(strategy):
    """S3-7: the device asks again before the guest ends the interrupt."""
    rig = Rig(strategy, mine=(START, START + 400), delay=600).run()
    assert rig.count(Kind.GUEST_START) == 2
    again = rig.count(Kind.RESAMPLED, again=True)
    assert again == (strategy == "disintx")


def test_a_function_that_did_not_ask_is_none_of_its_drivers_business():
    """S3-4: with the INTx disable bit in use. The patch claims whatever comes."""
    results = {}
    for strategy in ("disintx", "direct-eoi-shared"):
        rig = Rig(strategy, other=(START,)).run()
        [end] = [r for r in rig.of(Kind.HANDLER_END) if r.fields["action"] == "vfio-intx"]
        results[strategy] = (end.fields["result"], rig.count(Kind.GUEST_START))
    assert results == {"disintx": (0, 0), "direct-eoi-shared": (1, 1)}


def test_a_lazily_masked_interrupt_comes_once_more():
    """S3-11: and is then acknowledged without service. On a level it comes back for good."""
    for strategy, refused in (("disable-irq-lazy", 1), ("disable-irq-unlazy", 0)):
        rig = Rig(strategy, mine=(START,)).run()
        assert rig.count(Kind.EARLY_OUT, why="disabled", pended=True) == refused


def test_lazy_masking_loses_what_is_presented_only_once():
    """The device asks again while it is masked: a controller that looks for edges says it once."""
    seen = {}
    for strategy in MASKING:
        rig = Rig(strategy, mine=(START, START + 400), delay=600, edge=True).run()
        seen[strategy] = rig.count(Kind.GUEST_START)
    assert seen == {"disintx": 2, "disable-irq-lazy": 1, "disable-irq-unlazy": 2}


@pytest.mark.parametrize("strategy", EXCLUSIVE)
@pytest.mark.parametrize("co_first", [False, True])
def test_who_asks_second_for_an_exclusive_line_is_refused(strategy, co_first):
    """S3-10: and the first one's interrupt works."""
    rig = Rig(strategy, mine=(START,), other=(START + 500,), co_first=co_first).run()
    requests = [r for r in rig.log if r.kind == Kind.REQUEST_IRQ]
    assert [record.fields["result"] for record in requests] == [0, -EBUSY]
    refused = "vfio-intx" if co_first else CO_DEVICE
    assert rig.system.refused == requests[1].fields["action"] == refused
    assert rig.count(Kind.GUEST_START) == (not co_first)
    looks = [record for record in rig.of(Kind.HANDLED) if record.cpu == HOST_CPU]
    assert len(looks) == co_first


def test_a_refused_request_touches_no_hardware():
    rig = Rig("direct-eoi-exclusive")
    accesses = []

    async def request(cpu):
        before = len(rig.host.accesses)
        assert await request_irq(cpu, rig.system.desc, rig.system.co_action) == -EBUSY
        accesses.extend(rig.host.accesses[before:])

    rig.task(START, request)
    rig.run()
    assert not accesses


def test_the_patch_signals_with_its_lock_held():
    """S3-12: which a lock order checker sees, since the resampling takes them the other way."""
    circles = {}
    for strategy in ("disintx", "direct-eoi-shared"):
        rig = Rig(strategy, mine=(START,))

        async def ask(cpu, rig=rig):
            await rig.system.intx.unmask_fd.signal(cpu)

        rig.task(START + 1500, ask)
        rig.run()
        circles[strategy] = [r.fields["locks"] for r in rig.log if r.kind == "lock_order"]
    assert circles["disintx"] == []
    assert circles["direct-eoi-shared"]
    assert set(circles["direct-eoi-shared"][0]) == {"eventfd", "irqlock"}


@pytest.mark.parametrize("served", [True, False])
def test_a_linked_interrupt_that_the_guest_has_not_taken_yet(served):
    """Its line has dropped: nothing is left, and the physical one is ended for the guest."""
    rig = Rig("direct-eoi-exclusive", mine=(START,))
    mask = "ICV_PMR_EL1"

    async def hold_back(cpu):
        rig.reference.write_sysreg(GUEST_CPU, mask, 0)

    async def look(cpu):
        assert rig.active()
        if served:
            await cpu.store(pci.MMIO_BASE + pci.Device.ACKNOWLEDGE, 1)
        await rig.system.vcpu.kick(cpu)
        await cpu.delay(200)
        assert rig.active() == (not served)
        rig.reference.write_sysreg(GUEST_CPU, mask, 0xF0)
        await rig.system.vcpu.kick(cpu)

    rig.task(START - 100, hold_back)
    rig.task(START + 400, look)
    rig.run()
    assert rig.count(Kind.GUEST_START) == (not served)
    assert not rig.active()


# The link


@pytest.mark.parametrize("at", [START - 100, START + 60, START + 1500])
def test_the_bypass_is_linked_only_if_nobody_owes_an_end(at):
    """S3-9."""
    rig = Rig("direct-eoi-bypass", mine=(START, START + 3000), delay=1000, link=at)
    rig.run()
    [link] = [record for record in rig.log if record.kind == Kind.BYPASS]
    assert link.fields["linked"] == (at != START + 60)
    assert rig.count(Kind.GUEST_START) == 2
    assert rig.system.intx.direct == link.fields["linked"]


# The end


@pytest.mark.parametrize("strategy", [*MASKING, "direct-eoi-exclusive", "direct-eoi-bypass"])
@pytest.mark.parametrize("after", [20, 60, 100, 140, 200, 900])
def test_the_guest_may_end_at_any_time(strategy, after):
    """T-vfio-4: no stuck active state; nothing left enabled; the line can be used again."""
    rig = Rig(strategy, mine=(START,), delay=500)
    rig.system.start_teardown(START + after)
    rig.run()
    assert rig.count(Kind.REMOVED) == 1
    assert not rig.active()
    assert rig.disabled(rig.system.intx.function)
    assert not rig.system.desc.flags & Irqd.FORWARDED_TO_VCPU
    assert rig.system.vcpu.gone


def test_the_patch_waits_for_ever_for_a_guest_that_has_ended():
    """free_irq of a shared line masks nothing, and waits until it is not active."""
    rig = Rig("direct-eoi-shared", mine=(START,), delay=500)
    rig.system.start_teardown(START + 300)
    with pytest.raises(AssertionError, match="still waiting"):
        rig.host.run(budget=START + 3000)
    assert rig.active()
    assert not rig.count(Kind.FREE_IRQ)


def test_a_guest_that_has_ended_does_nothing_more():
    rig = Rig("disintx", mine=(START,), delay=500)
    rig.system.start_teardown(START + 300)
    rig.run()
    assert rig.count(Kind.GUEST_START) == 1
    assert not rig.count(Kind.GUEST_ACKED)


# VFIO's other doors


def test_the_guest_masks_by_its_own_disable_bit():
    rig = Rig("disintx", mine=(START + 200,))

    async def mask(cpu):
        await rig.system.intx.set_virq_disabled(cpu, True)
        assert rig.disabled(rig.system.intx.function)

    async def unmask(cpu):
        assert not rig.count(Kind.EVENTFD)
        await rig.system.intx.set_virq_disabled(cpu, False)

    rig.task(START, mask)
    rig.task(START + 600, unmask)
    rig.run()
    assert rig.count(Kind.GUEST_START) == 1, "the level that was there is signalled at once"
    assert not rig.system.intx.masked


@pytest.mark.parametrize("strategy", MASKING)
def test_the_user_masks_and_unmasks(strategy):
    rig = Rig(strategy, mine=(START + 200,))
    rig.task(START, rig.system.intx.mask)
    rig.task(START + 600, rig.system.intx.unmask)
    rig.run()
    [start] = rig.of(Kind.GUEST_START)
    assert start.cycle > START + 600


@pytest.mark.parametrize("strategy", ["disintx", "disable-irq-unlazy"])
def test_enabled_while_the_guest_has_it_disabled(strategy):
    rig = Rig(strategy, mine=(START,))
    rig.system.intx.virq_disabled = True
    rig.run()
    assert not rig.count(Kind.GUEST_START)
    assert rig.system.intx.masked
    assert rig.disabled(rig.system.intx.function) == (strategy == "disintx")


def test_without_a_trigger_it_is_masked_all_the_same():
    rig = Rig("disintx", mine=(START + 100,))
    old = rig.system.intx.trigger

    async def take(cpu):
        await rig.system.intx.set_trigger(cpu, None)

    async def give(cpu):
        assert rig.system.intx.masked
        await rig.system.intx.set_trigger(cpu, old)
        await rig.system.intx.unmask(cpu)

    rig.task(START, take)
    rig.task(START + 600, give)
    rig.run()
    [signalled] = [r for r in rig.of(Kind.EVENTFD) if r.fields["name"] == "trigger"]
    assert signalled.cycle > START + 600


def test_a_trigger_is_not_taken_while_the_handler_may_signal_it():
    """With the physical interrupt left to the guest that is until the guest ends it."""
    waited = {}
    for strategy in ("disintx", "direct-eoi-exclusive"):
        rig = Rig(strategy, mine=(START,), delay=1000)

        async def take(cpu, rig=rig, strategy=strategy):
            begin = cpu.machine.cycle
            await rig.system.intx.set_trigger(cpu, None)
            waited[strategy] = cpu.machine.cycle - begin

        rig.task(START + 300, take)
        rig.run()
    assert waited["disintx"] < 50 < 500 < waited["direct-eoi-exclusive"]


# Eventfds and what hangs on them


@pytest.mark.parametrize("level_first", [True, False])
def test_the_level_is_lowered_before_anybody_looks_again(level_first):
    """S3-8: the other way round, the new interrupt is lowered with the old one."""
    strategy = "disintx" if level_first else "resample-first"
    rig = Rig(strategy, mine=(START, START + 400), delay=600)
    rig.system.irqfd.pause = 100
    rig.run()
    assert rig.count(Kind.GUEST_START) == (2 if level_first else 1)


def test_an_eventfd_calls_all_that_listen_in_their_order():
    machine = Machine(1)
    eventfd = EventFd("doorbell")
    called = []

    async def listener(cpu):
        called.append((len(called), cpu.irqs_off, [lock.lock_class for lock in cpu.locks]))

    eventfd.listeners += [listener, listener]
    run(machine, eventfd.signal)
    assert called == [(0, True, ["eventfd"]), (1, True, ["eventfd"])]


def test_work_that_is_asked_for_twice_runs_once():
    machine = Machine(2)
    runs = []

    async def function(cpu):
        runs.append(cpu.index)
        await cpu.delay(20)

    work = Workqueue(machine.cpus[1]).item(function)

    async def ask(cpu):
        work.schedule()
        work.schedule()
        await cpu.delay(5)
        work.schedule()
        assert not work.idle
        await work.flush(cpu)
        assert work.idle

    machine.cpus[0].spawn(ask)
    Host(machine).run()
    assert runs == [1, 1], "the second run was asked for during the first"


def test_what_an_interrupt_costs_is_written_down_once():
    """A piece of work that an interrupt interrupts does not count the interrupt's steps."""
    rig = Rig("disintx", mine=(START,)).run()
    work = rig.of(Kind.HOST_WORK)
    assert {record.fields["what"] for record in work} == {"interrupt", "work"}
    total = sum(record.fields["steps"] for record in work)
    mine = sum(cpu.steps for cpu in rig.system.machine.cpus)
    assert 0 < total < mine


def test_every_strategy_says_what_it_is():
    assert set(VfioDirectEoi.strategies) == set(STRATEGIES)
    for name, strategy in STRATEGIES.items():
        assert strategy.name == name
        assert strategy.summary
        assert isinstance(strategy.claims_correct, bool)
    with pytest.raises(NotImplementedError, match=r"^IntxStrategy has no claim$"):
        IntxStrategy().claim(None, None).send(None)
