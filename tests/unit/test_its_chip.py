"""The software's ITS, LPIs and messages through them: on the reference model."""

from itertools import pairwise
from types import SimpleNamespace

import pytest

from firmware_model.chips import its as its_module
from firmware_model.chips.gicv3 import GicFrames
from firmware_model.chips.lpi_tables import Pages
from firmware_model.core import LINUX_6_12, Kind
from firmware_model.core.chip import IrqChip, below
from firmware_model.core.flow import FasteoiFlow
from firmware_model.core.manage import disable_irq, enable_irq
from firmware_model.core.masking import mask_irq, unmask_irq
from firmware_model.core.migration import irq_set_affinity
from firmware_model.platforms.arm64_messages import MessageSystem
from hdl.registers import pci
from hdl.registers.gits import GitsRegister, encode_inv
from sim.reference import EndpointShape, ReferenceMachine

from ..reference_host import LOAD, STORE, ReferenceHost

LATER = 3000
FRAME = GicFrames().its
MSIX = EndpointShape(msi="none", msix_vectors=2)


def run(system, *programs, shape=None, events=None):
    """Boot, then each program on its CPU at clock LATER; the host afterwards."""
    config = SimpleNamespace(
        spis=32,
        lpis=32,
        device_id_bits=8,
        event_id_bits=5,
        local_apics=False,
        endpoints=(shape or EndpointShape(),),
    )
    for cpu, program in zip(system.machine.cpus, programs, strict=False):
        if program is not None:
            cpu.spawn(_later, program)
    host = ReferenceHost(system.machine, ReferenceMachine(config), events=events)
    assert host.run(200_000).finished
    return host


async def _later(cpu, program):
    await cpu.delay_until(LATER)
    await program(cpu)


def system(**options):
    return MessageSystem(FasteoiFlow(), **options)


def starts(made):
    return [record.cpu for record in made.machine.log if record.kind == Kind.HANDLER_START]


def rules(made):
    return [record.fields["rule"] for record in made.machine.log if record.kind == "misuse"]


def commands(host):
    """Writes of CWRITER since LATER: batches."""
    return [
        data
        for cycle, _, operation, _, address, data in host.accesses
        if operation == STORE and address == FRAME + GitsRegister.CWRITER and cycle >= LATER
    ]


@pytest.mark.parametrize("capability", ["msi", "msix"])
@pytest.mark.parametrize("eoimode", [0, 1])
def test_a_message_is_an_lpi_and_follows_its_affinity(capability, eoimode):
    made = system(capability=capability, eoimode=eoimode)

    async def move(cpu):
        await cpu.delay(200)
        await irq_set_affinity(cpu, made.desc, 0b10)

    event = ReferenceHost.device_event
    shape = MSIX if capability == "msix" else None
    run(made, None, move, shape=shape, events={LATER: event, LATER + 1000: event})
    assert starts(made) == [0, 1]
    assert made.driver.seen == 2
    assert made.gic.running == [[], []]
    assert not rules(made)


def test_a_move_to_where_it_is_sends_nothing():
    made = system()

    async def move(cpu):
        await irq_set_affinity(cpu, made.desc, 0b11)

    assert not commands(run(made, move))


def test_the_cpu_with_the_fewest_lpis_is_chosen():
    made = system()
    its = made.its
    its.load = [3, 1]
    assert its._select(0b11, -1) == 1
    assert its._select(0b01, -1) == 0
    its.load = [2, 1]
    assert its._select(0b11, 0) == 0, "the one that moves does not count"
    assert its._select(0, -1) == -1


def test_a_masked_lpi_stays_pending():
    made = system()

    async def mask(cpu):
        async with made.desc.held(cpu):
            await mask_irq(cpu, made.desc)
        await cpu.delay(500)
        assert not starts(made)
        async with made.desc.held(cpu):
            await unmask_irq(cpu, made.desc)

    host = run(made, mask, events={LATER + 300: ReferenceHost.device_event})
    assert starts(made) == [0]
    assert len(commands(host)) == 2


def test_what_comes_while_it_is_disabled_is_sent_again():
    made = system()

    async def pause(cpu):
        await disable_irq(cpu, made.desc)
        await cpu.delay(500)
        await enable_irq(cpu, made.desc)

    run(made, None, pause, events={LATER + 200: ReferenceHost.device_event})
    assert starts(made) == [0]
    assert [r.fields["intid"] for r in made.machine.log if r.kind == Kind.RETRIGGER] == [8192]


@pytest.mark.parametrize(("kernel", "touched"), [(None, False), (LINUX_6_12, True)])
def test_when_the_mask_bit_of_the_function_changes(kernel, touched):
    """Since 6.17 at start-up and shutdown only; before, whenever the interrupt is masked."""
    options = {} if kernel is None else {"kernel": kernel}
    made = system(capability="msix", **options)

    async def mask(cpu):
        async with made.desc.held(cpu):
            await mask_irq(cpu, made.desc)
            await unmask_irq(cpu, made.desc)

    host = run(made, mask, shape=MSIX)
    control = pci.MMIO_BASE + pci.BAR_MSIX_TABLE + pci.MSIX_ENTRY_CONTROL
    written = [d for c, _, op, _, a, d in host.accesses if op == STORE and a == control]
    assert written[-1] == 0
    stores = [c for c, _, op, _, a, _ in host.accesses if op == STORE and a == control]
    assert bool([cycle for cycle in stores if cycle >= LATER]) == touched


def test_the_queue_wraps(monkeypatch):
    monkeypatch.setattr(its_module, "QUEUE_BYTES", 0x1000)
    made = system()

    async def many(cpu):
        for _ in range(100):
            await made.its.queue.send(cpu, encode_inv(8, 0), sync=0)

    host = run(made, many)
    offsets = commands(host)
    assert len(offsets) == 100
    assert max(offsets) < 0x1000
    assert any(after < before for before, after in pairwise(offsets))
    assert not [r for r in made.machine.log if r.kind == Kind.WARNING]


class Stuck(ReferenceHost):
    """From LATER on CREADR does not move."""

    reads = 0
    shown = None

    def _perform(self, submission):
        answer = super()._perform(submission)
        _, operation, _, address, _ = submission
        if operation == LOAD and address == FRAME + GitsRegister.CREADR and self.cycle >= LATER:
            self.shown = answer[0] if self.shown is None else self.shown
            self.reads += 1
            return self.shown, 0
        return answer


@pytest.mark.parametrize(
    ("size", "sent", "text"),
    [
        (0x1_0000, 1, "the ITS does not get on with its commands"),
        (0x1000, 128, "the ITS queue stays full"),
    ],
)
def test_an_its_that_stops_is_given_up(monkeypatch, size, sent, text):
    monkeypatch.setattr(its_module, "QUEUE_BYTES", size)
    monkeypatch.setattr(its_module, "PATIENCE", 5)
    made = system()

    async def ask(cpu):
        for _ in range(sent):
            await made.its.queue.send(cpu, encode_inv(8, 0))

    config = SimpleNamespace(spis=32, lpis=32, device_id_bits=8, event_id_bits=5, local_apics=False)
    config.endpoints = (EndpointShape(),)
    made.machine.cpus[0].spawn(_later, ask)
    host = Stuck(made.machine, ReferenceMachine(config))
    assert host.run(200_000).finished
    assert text in {r.fields["text"] for r in made.machine.log if r.kind == Kind.WARNING}


def test_lpis_are_given_out_in_rows_and_taken_back():
    made = system()
    run(made)
    tables = made.its.tables
    assert tables.count == 32
    assert tables.allocate(2) == 8194, "the device has two"
    assert tables.allocate(4) == 8196
    tables.free(8194, 2)
    assert tables.allocate(1) == 8194
    with pytest.raises(ValueError, match=r"^32 LPIs in a row are wanted; there are 32 in all$"):
        tables.allocate(32)


def test_torn_down_its_intid_means_nothing():
    made = system()

    async def remove(cpu):
        await made.tear_down(cpu)

    run(made, remove)
    assert 8192 not in made.gic.irqs
    assert made.its.load == [0, 0]
    assert made.its.tables.allocate(2) == 8192


def test_pages_are_aligned():
    pages = Pages(0x4000_0100)
    assert pages.allocate(0x10, 0x100) == 0x4000_0100
    assert pages.allocate(0x10, 0x1000) == 0x4000_1000
    assert pages.allocate(0x10, 1) == 0x4000_1010


def test_a_level_without_one_below():
    data = SimpleNamespace(parent=None, chip=IrqChip(), desc=SimpleNamespace(irq=7))
    with pytest.raises(ValueError, match=r"^irq 7 has no level below none$"):
        below(data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"capability": "intx"}, r"^capability must be \"msi\" or \"msix\", not 'intx'$"),
        (
            {"frames": GicFrames(its=None)},
            r"^frames\.its must be the address of an ITS, not None$",
        ),
    ],
)
def test_bad_systems(options, message):
    with pytest.raises(ValueError, match=message):
        system(**options)
