"""The ways to change a live message, each hit at the edges of its windows: facts, 2.2 and 2.4.

On the reference model an access takes effect when it is answered, so the windows are exact: an
event in the clock of an access comes before it.
"""

from types import SimpleNamespace

import pytest

from firmware_model.core import LINUX_5_10, LINUX_6_1, Kind
from firmware_model.core.desc import PROBE_BITS, Irqd
from firmware_model.platforms.x86 import MovingInterrupt
from firmware_model.strategies.torn_msi import STRATEGIES, MsiStrategy, Transit
from hdl.probe import CpuContext
from hdl.registers.lapic import MESSAGE_BASE, message_address
from sim.reference import EndpointShape, ReferenceMachine

from ..reference_host import STORE, ReferenceHost

OLD, NEW, TRANSIT = 0x35, 0x22, Transit.VECTOR
ASSERT = 1 << 14
MOVE, FIRST = 600, 700
MSI = EndpointShape()
MASKABLE = EndpointShape(maskable=True)
MSIX = EndpointShape(msi="none", msix_vectors=1)
START, TORN, HALF, END = (0, OLD), (1, OLD), (0, NEW), (1, NEW)


class Listening(ReferenceMachine):
    """Notes every message to a local APIC, as (CPU, vector), and the levels of the pin."""

    def __init__(self, shape):
        self.pin = []
        super().__init__(SimpleNamespace(endpoints=(shape,)))
        self.sent = []

    def _pin(self, endpoint):
        drive = super()._pin(endpoint)

        def noted(level):
            if self.pin[-1:] != [bool(level)]:
                self.pin.append(bool(level))
            drive(level)

        return noted

    def message(self, address, data, device_id, size=4):
        assert address >= MESSAGE_BASE
        self.sent.append((address >> 12 & 0xFF, data & 0xFF))
        super().message(address, data, device_id, size)


class Trial:
    """One run: the device has an event at FIRST (which moves the interrupt) and one at ``at``.

    With ``hotplug`` CPU 0 goes offline at MOVE instead, and there is no first event.
    """

    def __init__(self, name, at=None, *, shape=MSI, hotplug=False, **options):
        self.system = MovingInterrupt(
            STRATEGIES[name],
            move_at=MOVE,
            old_vector=OLD,
            new_vector=NEW,
            jiffy=100,
            hotplug=hotplug,
            capability="msix" if shape is MSIX else "msi",
            **options,
        )
        self.log = self.system.machine.log
        self.reference = Listening(shape)
        self.start = MOVE if hotplug else FIRST
        events = [] if hotplug else [FIRST]
        events += [] if at is None or at in events else [at]
        self.host = ReferenceHost(
            self.system.machine,
            self.reference,
            events=dict.fromkeys(events, ReferenceHost.device_event),
        )
        self.demands = self.host.run()
        self.lost = self.system.driver.seen != len(events)

    @property
    def sent(self):
        return self.reference.sent

    def count(self, kind):
        return sum(record.kind == kind for record in self.log)

    def states(self):
        """(cycle, message from then on), for every write of a CPU or a vector in the move."""
        cpus = {message_address(cpu): cpu for cpu in range(2)}
        cpu, vector = START
        found = []
        for cycle, _, operation, _, address, data in self.host.accesses:
            if operation != STORE or cycle < self.start or address >= MESSAGE_BASE:
                continue
            if data in cpus:
                cpu = cpus[data]
            elif (data & ~ASSERT) in (OLD, NEW, TRANSIT):
                vector = data & ~ASSERT
            else:
                continue
            found.append((cycle, (cpu, vector)))
        return found

    def message_at(self, at):
        """What an event at ``at`` would send."""
        return ([START] + [state for cycle, state in self.states() if cycle < at])[-1]

    def window(self, message):
        """First and last clock in which an event sends ``message``."""
        states = self.states()
        first = next(i for i, (_, state) in enumerate(states) if state == message)
        last = next(i for i, (_, state) in enumerate(states) if i > first and state != message)
        return states[first][0] + 1, states[last][0]


SEQUENCES = {
    "naive": [TORN, END],
    "disable-msi": [TORN, END],
    "retrigger": [TORN, END],
    "transit-evan": [(0, TRANSIT), (1, TRANSIT), END],
    "transit-tglx": [START, (0, TRANSIT), (1, TRANSIT), END],
    "two-step": [START, HALF, END, END],
    "two-step-under-lock": [START, HALF, END, END],
    "two-step-unchecked": [START, HALF, END, END],
    "quirk-lost": [TORN, END],
    "as-coded": [TORN, END],
    "as-commented": [START, HALF, END, END],
    "mask": [TORN, END],
}


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize("hotplug", [False, True], ids=["interrupt", "hotplug"])
def test_the_messages_that_a_function_without_mask_bits_can_send(name, hotplug):
    """S4-2, I2."""
    trial = Trial(name, hotplug=hotplug)
    assert [state for _, state in trial.states()] == SEQUENCES[name]


@pytest.mark.parametrize(
    "name", [name for name in SEQUENCES if name not in ("disable-msi", "two-step-under-lock")]
)
def test_and_does_send_at_the_edges_of_each_window(name):
    quiet = Trial(name, hotplug=True)
    for at in sorted({edge for cycle, _ in quiet.states() for edge in (cycle, cycle + 1)}):
        trial = Trial(name, at, hotplug=True)
        assert trial.sent[0] == quiet.message_at(at), at


# Losing an event takes a CPU that goes offline: in an interrupt the handler runs after the move.

LOSERS = {
    "naive": TORN,
    "quirk-lost": TORN,
    "as-coded": TORN,
    "two-step-unchecked": HALF,
}


@pytest.mark.parametrize("name", LOSERS)
def test_losing_is_exactly_the_window(name):
    """S4-3."""
    first, last = Trial(name, hotplug=True).window(LOSERS[name])
    assert [Trial(name, at, hotplug=True).lost for at in (first - 1, first, last, last + 1)] == [
        False, True, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["transit-evan", "transit-tglx"])
def test_a_transit_interrupt_of_a_cpu_that_goes_offline_is_lost(name):
    """P7."""
    first, last = Trial(name, hotplug=True).window((0, TRANSIT))
    assert [Trial(name, at, hotplug=True).lost for at in (first - 1, first, last, last + 1)] == [
        False, True, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["two-step", "as-commented", "retrigger"])
def test_never_lost_in_hotplug(name):
    quiet = Trial(name, hotplug=True)
    for at in [MOVE + 1, *(cycle + 1 for cycle, _ in quiet.states()), 900, 1500]:
        assert not Trial(name, at, hotplug=True).lost, at


@pytest.mark.parametrize("name", [*SEQUENCES, "msix-unmasked"])
def test_an_event_in_an_interrupts_own_move_is_seen_by_the_handler_that_follows(name):
    if name == "two-step-under-lock":
        return
    shape = MSIX if name == "msix-unmasked" else MSI
    quiet = Trial(name, shape=shape)
    for cycle, _ in quiet.states():
        trial = Trial(name, cycle + 1, shape=shape)
        assert not trial.lost
        assert not [r for r in trial.log if r.kind in ("misuse", "crash", "deadlock")]


@pytest.mark.parametrize("name", ["naive", "quirk-lost", "as-coded", "retrigger", "msix-unmasked"])
@pytest.mark.parametrize("foreign", [False, True])
def test_the_torn_message_goes_astray(name, foreign):
    """I14: nobody holds (new CPU, old vector), or somebody else does."""
    shape = MSIX if name == "msix-unmasked" else MSI
    first, _ = Trial(name, shape=shape).window(TORN)
    trial = Trial(name, first, shape=shape, foreign_old=foreign)
    assert TORN in trial.sent
    assert trial.count(Kind.NO_IRQ_HANDLER) == (not foreign)
    assert [b.disturbed for b in trial.system.bystanders] == [1] * foreign


# Two steps


@pytest.mark.parametrize("at", ["first", "last"])
def test_two_steps_find_the_event_in_the_irr(at):
    """T-torn-2, S4-4, I9."""
    window = Trial("two-step").window(HALF)
    trial = Trial("two-step", window[at == "last"])
    assert trial.sent == [START, HALF]
    assert trial.count(Kind.IPI) == 1
    assert trial.count(Kind.VECTOR_DROPPED) == 1
    assert trial.count(Kind.NO_IRQ_HANDLER) == 0
    starts = [record.cpu for record in trial.log if record.kind == Kind.HANDLER_START]
    assert starts == [0, 1]


def test_two_steps_with_the_new_vector_in_use_here():
    """T-torn-3."""
    first, _ = Trial("two-step", foreign_new=True).window(HALF)
    trial = Trial("two-step", first, foreign_new=True)
    assert [b.disturbed for b in trial.system.bystanders] == [1]
    assert trial.count(Kind.VECTOR_DROPPED) == 0
    assert trial.count(Kind.IPI) == 1


def test_one_update_if_the_vector_stays():
    """T-torn-6."""
    system = MovingInterrupt(STRATEGIES["two-step"], old_vector=OLD, new_vector=OLD, move_at=MOVE)
    host = ReferenceHost(system.machine, Listening(MSI), events={FIRST: ReferenceHost.device_event})
    host.run()
    paths = [r.fields["path"] for r in system.machine.log if r.kind == Kind.MOVE_PATH]
    assert paths == ["direct", "direct"]


def test_the_first_draft_dead_locks_when_it_finds_something():
    """I26."""
    first, _ = Trial("two-step").window(HALF)
    trial = Trial("two-step-under-lock", first)
    assert [r.fields["reason"] for r in trial.log if r.kind == "deadlock"] == ["recursive"]
    assert not Trial("two-step-under-lock").count("deadlock")


def test_a_move_on_the_wrong_cpu_is_made_directly_and_noticed():
    """Step 4 of V4: a mask without online CPUs once led there."""
    system = MovingInterrupt(STRATEGIES["two-step"], old_vector=OLD, new_vector=NEW, move_at=9000)

    async def wrong(cpu):
        await cpu.delay_until(MOVE)
        async with system.desc.lock.guard_irqsave(cpu):
            data = system.desc.data
            await data.chip.irq_set_affinity(cpu, data, 0b10, False)

    system.machine.cpus[1].spawn(wrong)
    host = ReferenceHost(system.machine, Listening(MSI))
    host.run()
    texts = [r.fields["text"] for r in system.machine.log if r.kind == Kind.WARNING]
    assert texts == ["a message is moved on a CPU that does not get it"]


@pytest.mark.parametrize("kernel", [LINUX_5_10, LINUX_6_1])
def test_older_kernels_keep_the_event_too(kernel):
    first, _ = Trial("two-step", kernel=kernel).window(HALF)
    assert not Trial("two-step", first, kernel=kernel).lost


# Masks


@pytest.mark.parametrize("shape", [MASKABLE, MSIX], ids=["msi", "msix"])
@pytest.mark.parametrize("name", ["naive", "mask", "two-step", "as-coded", "retrigger"])
@pytest.mark.parametrize("hotplug", [False, True], ids=["interrupt", "hotplug"])
def test_masked_by_the_core_nothing_is_torn(shape, name, hotplug):
    """T-mask-pend: the pending bit sends the event with the new message."""
    quiet = Trial(name, shape=shape, hotplug=hotplug)
    for cycle, _ in quiet.states():
        trial = Trial(name, cycle + 1, shape=shape, hotplug=hotplug)
        assert not trial.lost
        assert set(trial.sent) <= {START, END}


def test_who_takes_two_steps():
    """V6: as the kernel is coded, those that are masked anyway."""

    def path(name, shape):
        trial = Trial(name, shape=shape)
        return [r.fields["path"] for r in trial.log if r.kind == Kind.MOVE_PATH][-1]

    for name, plain, maskable in (
        ("two-step", "two_step", "direct"),
        ("quirk-lost", "direct", "direct"),
        ("as-coded", "direct", "two_step"),
        ("as-commented", "two_step", "direct"),
    ):
        assert path(name, MSI) == plain, name
        assert path(name, MASKABLE) == maskable, name
        assert path(name, MSIX) == maskable, name


# The others


def test_msi_off_drops_the_event_if_the_pin_is_off_too():
    """V1, T-v1-intx: nothing is sent at all."""
    quiet = Trial("disable-msi", hotplug=True)
    cycle, _ = quiet.states()[0]
    trial = Trial("disable-msi", cycle, hotplug=True)
    assert trial.sent == []
    assert trial.lost
    assert trial.reference.pin == [False]


def test_msi_off_hands_the_event_to_a_pin_that_is_not_off():
    """V1, objection 1, S4-6: nobody handles that interrupt."""
    quiet = Trial("disable-msi", hotplug=True, keep_pin=True)
    cycle, _ = quiet.states()[0]
    trial = Trial("disable-msi", cycle, hotplug=True, keep_pin=True)
    assert trial.sent == []
    assert True in trial.reference.pin
    assert True not in quiet.reference.pin
    assert trial.lost


def test_retrigger_costs_an_ipi_and_a_run_for_nothing():
    """V2, P4."""
    trial = Trial("retrigger")
    assert trial.count(Kind.IPI) == 1
    results = [r.fields["result"] for r in trial.log if r.kind == Kind.HANDLER_END]
    assert sorted(results) == [0, 1]


@pytest.mark.parametrize("name", ["transit-evan", "transit-tglx"])
def test_transit_runs_whoever_is_in_transit(name):
    windows = Trial(name)
    for message in ((0, TRANSIT), (1, TRANSIT)):
        first, _ = windows.window(message)
        trial = Trial(name, first)
        assert message in trial.sent
        assert not trial.lost
        assert trial.count(Kind.NO_IRQ_HANDLER) == 0
        assert not [r for r in trial.log if r.kind in ("misuse", "crash")]


def test_a_mover_that_waits_for_transit_dead_locks():
    """P6."""
    trial = Trial("transit-waiting")
    deadlock = [r.fields for r in trial.log if r.kind == "deadlock"]
    assert trial.demands.deadlocked
    assert deadlock[0]["reason"] == "nothing can wake them"


def test_every_strategy_says_what_it_is():
    for name, strategy in STRATEGIES.items():
        assert strategy.name == name
        assert strategy.summary
        assert isinstance(strategy.claims_correct, bool)
        assert strategy.__doc__ != MsiStrategy.__doc__


def test_a_strategy_without_an_update_names_itself():
    class Mine(MsiStrategy):
        """Forgot its update."""

    system = MovingInterrupt(Mine)
    ReferenceHost(system.machine, Listening(MSI)).run()
    crash = [r.fields["text"] for r in system.machine.log if r.kind == "crash"]
    assert crash == ["Mine has no update"]


def test_a_transit_without_writes_names_itself():
    class Mine(Transit):
        """Forgot its writes."""

    system = MovingInterrupt(Mine, move_at=MOVE)
    ReferenceHost(system.machine, Listening(MSI), events={FIRST: ReferenceHost.device_event}).run()
    crash = [r.fields["text"] for r in system.machine.log if r.kind == "crash"]
    assert crash == ["Mine has no transit"]


def test_the_race_is_on_the_probe():
    trial = Trial("two-step")
    lanes = [lane for _, cpu, lane in trial.host.probes if cpu == 0 and lane.irq == 33]
    contexts = {lane.context for lane in lanes}
    assert {CpuContext.FLOW.value, CpuContext.HANDLER.value} <= contexts
    bits = {bit: 1 << i for i, (word, bit) in enumerate(PROBE_BITS) if word == "flags"}
    handlers = [lane for lane in lanes if lane.context == CpuContext.HANDLER.value]
    assert all(lane.state & bits[Irqd.IRQ_INPROGRESS] for lane in handlers)
    lanes_of_mask = [lane for _, _, lane in Trial("two-step", shape=MASKABLE).host.probes]
    assert any(lane.state & bits[Irqd.SETAFFINITY_PENDING] for lane in lanes_of_mask)
    locks = {trial.system.machine.locks[lane.lock - 1].name for lane in lanes if lane.lock}
    assert {"irq 33", "vector"} <= locks
