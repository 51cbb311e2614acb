"""Mappings of hwirqs to irqs: facts on Linux, section 4."""

import re
from dataclasses import replace
from errno import EINVAL, ENOMEM

import pytest

from firmware_model.core import LINUX_7_1, Action, ActionFlag, IrqChip, IrqCore, Irqd, IrqReturn
from firmware_model.core.desc import FreedIrqDesc, Trigger
from firmware_model.core.domain import NO_IRQ_CHIP, IrqDomain, Mappings
from firmware_model.core.flow import BadFlow, FasteoiFlow
from firmware_model.core.manage import free_irq, request_irq
from firmware_model.core.records import Kind
from firmware_model.machine import Machine

from .test_machine_host import ACKNOWLEDGE, Host

HWIRQ = 7
UNLOCKED = replace(LINUX_7_1, mapping_locked=False)


class NotedChip(IrqChip):
    """Writes down what is asked of it; each call takes a store."""

    def __init__(self, name, order):
        self.label = name
        self.order = order

    async def _note(self, cpu, what):
        self.order.append(f"{self.label} {what}")
        await cpu.store(0x100, 1)

    async def irq_mask(self, cpu, data):
        await self._note(cpu, "mask")

    async def irq_unmask(self, cpu, data):
        await self._note(cpu, "unmask")

    async def irq_eoi(self, cpu, data):
        await self._note(cpu, f"eoi {data.hwirq}")

    async def activate(self, cpu, data, *, early):
        error = await super().activate(cpu, data, early=early)
        await self._note(cpu, "activate")
        return error

    async def deactivate(self, cpu, data):
        await self._note(cpu, "deactivate")
        await super().deactivate(cpu, data)


class NotedDomain(IrqDomain):
    """As its chip; ``error`` is what mapping answers."""

    error = 0

    async def map(self, cpu, data):
        await self.chip._note(cpu, f"map {data.hwirq}")
        return self.error

    async def unmap(self, cpu, data):
        await self.chip._note(cpu, f"unmap {data.hwirq}")

    def parent_hwirq(self, hwirq):
        return hwirq + 32


class Rig:
    """One controller, or two levels of it, and interrupts that come to hwirq :data:`HWIRQ`.

    ``entered``: clocks between the look-up and the flow handler, with an interrupt on its way.
    """

    def __init__(self, *, levels=1, kernel=LINUX_7_1, mappings=Mappings, cpus=2, stalls=None):
        self.machine = Machine(cpus, vector=self.vector, stalls=stalls)
        self.core = IrqCore(self.machine, kernel)
        self.order = []
        domain = None
        self.domains = []
        for level in range(levels):
            domain = NotedDomain(
                self.core,
                f"level {level}",
                NotedChip(f"level {level}", self.order),
                parent=domain,
                flow=FasteoiFlow(),
                flags=Irqd.SINGLE_TARGET,
            )
            self.domains.append(domain)
        self.domain = domain
        self.mappings = mappings(self.core)
        self.entered = 0
        self.work = 30

    async def vector(self, cpu, line):
        with self.core.rcu.reading(cpu):
            await cpu.load(ACKNOWLEDGE)
            desc = self.domain.revmap.get(HWIRQ)
            await cpu.delay(self.entered)
            if desc is None:
                cpu.log(Kind.NO_IRQ_HANDLER, intid=HWIRQ)
            else:
                await desc.handle(cpu, desc)

    def action(self, name="handler"):
        async def handle(cpu):
            self.order.append("handle")
            await cpu.delay(self.work)
            self.order.append("handled")
            return IrqReturn.HANDLED

        return Action(handle, name, ActionFlag.SHARED)

    def run(self, *programs, events=None):
        for cpu, program in zip(self.machine.cpus, programs, strict=False):
            cpu.spawn(program)
        host = Host(self.machine, latency=1, events=events)
        host.demands = host.run()
        return host

    def records(self, *names):
        return [record for record in self.machine.log if record.kind in names]

    def create(self, cpu, trigger=Trigger.LEVEL_HIGH):
        return self.mappings.create(cpu, self.domain, HWIRQ, trigger)


def raise_at(*cycles, cpu=1):
    return dict.fromkeys(cycles, lambda host: host.raise_irq(cpu))


# Making and finding


@pytest.mark.parametrize("levels", [1, 2])
def test_a_hwirq_is_mapped_once(levels):
    rig = Rig(levels=levels)
    irqs = []

    async def program(cpu):
        assert rig.mappings.find(rig.domain, HWIRQ) == 0
        irqs.append(await rig.create(cpu))
        irqs.append(await rig.create(cpu))
        irqs.append(rig.mappings.find(rig.domain, HWIRQ))

    rig.run(program)
    assert irqs == [HWIRQ] * 3
    desc = rig.core.irqs[HWIRQ]
    assert [data.hwirq for data in levels_of(desc)] == [HWIRQ, HWIRQ + 32][:levels]
    assert isinstance(desc.handle, FasteoiFlow)
    assert desc.flags & Irqd.LEVEL
    assert desc.flags & Irqd.SINGLE_TARGET
    assert all(domain.mapcount == 1 for domain in rig.domains)
    assert [r.kind for r in rig.records(Kind.MAPPED, Kind.MAPPING_FOUND)] == [
        Kind.MAPPED,
        Kind.MAPPING_FOUND,
    ]


def levels_of(desc):
    data = desc.data
    while data is not None:
        yield data
        data = data.parent


def test_an_irq_number_that_is_taken_is_not_given_twice():
    rig = Rig()
    rig.core.allocate(HWIRQ)
    irqs = []

    async def program(cpu):
        irqs.append(await rig.create(cpu))

    rig.run(program)
    assert irqs == [HWIRQ + 1]


def test_a_descriptor_that_is_there_already_is_associated():
    rig = Rig(levels=2)
    desc = rig.core.allocate(3)
    results = []

    async def program(cpu):
        async with rig.domain.mutex.guard(cpu):
            results.append(await rig.mappings.associate(cpu, rig.domain, desc, HWIRQ))
        results.append(await rig.create(cpu))

    rig.run(program)
    assert results == [0, 3]
    assert rig.domains[0].revmap == {HWIRQ + 32: desc}


@pytest.mark.parametrize(
    ("first", "second", "answers", "kept"),
    [
        (Trigger.LEVEL_HIGH, Trigger.NONE, True, Trigger.LEVEL_HIGH),
        (Trigger.LEVEL_HIGH, Trigger.LEVEL_HIGH, True, Trigger.LEVEL_HIGH),
        (Trigger.NONE, Trigger.EDGE_RISING, True, Trigger.EDGE_RISING),
        (Trigger.LEVEL_HIGH, Trigger.EDGE_RISING, False, Trigger.LEVEL_HIGH),
    ],
)
def test_the_trigger_of_a_mapping_is_the_first_ones(first, second, answers, kept):
    """S2-8: a mismatch is an error that changes nothing."""
    rig = Rig()
    irqs = []

    async def program(cpu):
        irqs.append(await rig.create(cpu, first))
        irqs.append(await rig.create(cpu, second))

    rig.run(program)
    assert irqs == [HWIRQ, HWIRQ if answers else 0]
    assert rig.core.irqs[HWIRQ].flags & Irqd.TRIGGER_MASK == kept
    assert rig.core.irqs[HWIRQ].references == 1
    assert len(rig.records(Kind.WARNING)) == (not answers)


# Level by level


def test_levels_come_parent_first_and_go_parent_last():
    rig = Rig(levels=2)

    async def program(cpu):
        irq = await rig.create(cpu)
        desc, action = rig.core.irqs[irq], rig.action()
        await request_irq(cpu, desc, action)
        await free_irq(cpu, desc, action)
        await rig.mappings.dispose(cpu, irq)

    rig.run(program)
    assert [step for step in rig.order if "mask" not in step] == [
        "level 0 map 39",
        "level 1 map 7",
        "level 0 activate",
        "level 1 activate",
        "level 1 deactivate",
        "level 0 deactivate",
        "level 1 unmap 7",
        "level 0 unmap 39",
    ]
    assert not any(domain.revmap or domain.mapcount for domain in rig.domains)
    assert not rig.core.irqs


def test_a_level_that_fails_takes_those_below_back():
    rig = Rig(levels=2)
    rig.domain.error = -ENOMEM
    irqs = []

    async def program(cpu):
        irqs.append(await rig.create(cpu))

    rig.run(program)
    assert irqs == [0]
    assert rig.order == ["level 0 map 39", "level 1 map 7", "level 0 unmap 39"]
    assert not rig.core.irqs
    assert not any(domain.revmap or domain.mapcount for domain in rig.domains)
    assert rig.records(Kind.DESC_FREED)


# Tearing down


@pytest.mark.parametrize("levels", [1, 2])
def test_disposing_twice_is_disposing_once(levels):
    """S2-4: however often it was made."""
    rig = Rig(levels=levels)

    async def program(cpu):
        irq = await rig.create(cpu)
        await rig.create(cpu)
        for number in (irq, irq, 0):
            await rig.mappings.dispose(cpu, number)

    rig.run(program)
    assert rig.mappings.find(rig.domain, HWIRQ) == 0
    assert rig.order.count(f"level {levels - 1} unmap {HWIRQ}") == 1
    assert not rig.records("crash", "misuse", Kind.WARNING)


def test_disposing_what_was_never_mapped_is_a_warning():
    rig = Rig()
    rig.core.allocate(3)

    async def program(cpu):
        await rig.mappings.dispose(cpu, 3)

    rig.run(program)
    assert [r.fields["irq"] for r in rig.records(Kind.WARNING)] == [3]
    assert 3 in rig.core.irqs


@pytest.mark.parametrize("levels", [1, 2])
def test_the_tear_down_waits_for_the_handler_and_the_handler_for_nobody(levels):
    """S2-6; and the interrupt is ended by the chip it began with."""
    rig = Rig(levels=levels)

    async def program(cpu):
        irq = await rig.create(cpu)
        await request_irq(cpu, rig.core.irqs[irq], rig.action())
        await cpu.delay_until(210)
        await rig.mappings.dispose(cpu, irq)

    rig.work = 100
    rig.run(program, events=raise_at(200))
    top = f"level {levels - 1}"
    order = rig.order[rig.order.index("handle") :]
    assert order[:4] == ["handle", "handled", f"{top} eoi {HWIRQ}", f"{top} unmap {HWIRQ}"]
    [misuse] = rig.records("misuse")
    assert misuse.fields["rule"] == "a mapping is disposed of that is in use"
    assert misuse.fields["actions"] == ["handler"]


def test_an_interrupt_on_its_way_meets_a_bad_irq():
    """It has found the descriptor, which is not freed under it."""
    rig = Rig()
    kept = []

    async def program(cpu):
        irq = await rig.create(cpu)
        kept.append(rig.core.irqs[irq])
        await request_irq(cpu, kept[0], rig.action())
        await cpu.delay_until(210)
        await rig.mappings.dispose(cpu, irq)

    rig.entered = 100
    rig.run(program, events=raise_at(200))
    [bad] = rig.records(Kind.UNEXPECTED_IRQ)
    [freed] = rig.records(Kind.DESC_FREED)
    assert bad.cycle > 300
    assert freed.cycle >= bad.cycle
    assert "handle" not in rig.order
    assert isinstance(kept[0], FreedIrqDesc)
    assert not rig.records("crash")


def test_without_a_grace_period_it_is_used_after_it_was_freed():
    rig = Rig()
    rig.core.rcu.call = lambda cpu, function: cpu.raise_softirq(function)

    async def program(cpu):
        irq = await rig.create(cpu)
        await request_irq(cpu, rig.core.irqs[irq], rig.action())
        await cpu.delay_until(210)
        await rig.mappings.dispose(cpu, irq)

    rig.entered = 100
    rig.run(program, events=raise_at(200))
    [crash] = rig.records("crash")
    assert crash.cpu == 1
    assert crash.fields["error"] == "UseAfterFreeError"
    assert crash.fields["text"] == f"irq {HWIRQ} was used after it was freed: handle"


def test_afterwards_its_interrupts_find_nobody():
    rig = Rig()

    async def program(cpu):
        await rig.mappings.dispose(cpu, await rig.create(cpu))

    rig.run(program, events=raise_at(200))
    assert rig.records(Kind.NO_IRQ_HANDLER)


def test_whoever_requests_what_is_torn_down_is_refused():
    rig = Rig()
    results = []

    async def program(cpu):
        irq = await rig.create(cpu)
        desc = rig.core.irqs[irq]
        cpu.machine.cpus[1].spawn(late, desc)
        await rig.mappings.dispose(cpu, irq)

    async def late(cpu, desc):
        with rig.core.rcu.reading(cpu):
            await cpu.delay(10)
            assert desc.chip is NO_IRQ_CHIP
            assert isinstance(desc.handle, BadFlow)
            results.append(await request_irq(cpu, desc, rig.action()))

    rig.run(program)
    assert results == [-EINVAL]


@pytest.mark.parametrize("left", [0, 1])
def test_a_controller_with_mappings_cannot_go(left):
    rig = Rig()
    answers = []

    async def program(cpu):
        irq = await rig.create(cpu)
        if not left:
            await rig.mappings.dispose(cpu, irq)
        answers.append(await rig.domain.remove(cpu))

    rig.run(program)
    assert answers == [not left]
    assert [r.fields["mapped"] for r in rig.records(Kind.DOMAIN_BUSY)] == [1] * left


# The creation race


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize(("kernel", "made"), [(LINUX_7_1, 1), (UNLOCKED, 2)])
def test_two_create_at_once(kernel, made, levels):
    """S2-5: one irq and one ops.map, if the look-up is in the critical section."""
    rig = Rig(levels=levels, kernel=kernel)
    irqs = []

    async def program(cpu):
        irqs.append(await rig.create(cpu))

    rig.run(program, program)
    assert len(set(irqs)) == made
    assert rig.order.count(f"level {levels - 1} map {HWIRQ}") == made
    assert rig.domain.mapcount == made
    assert len(rig.domain.revmap) == 1


# References


def test_a_reference_that_is_not_there():
    rig = Rig()
    desc = rig.core.allocate(3)
    desc.get()
    assert not desc.put()
    assert desc.put()
    for use in (desc.get, desc.put):
        with pytest.raises(Exception, match=re.compile(r"^irq 3 has no reference left to ")):
            use()


@pytest.mark.parametrize("work", [-1])
def test_work_takes_no_negative_time(work):
    with pytest.raises(ValueError, match=re.compile(r"^work must be 0 or more clocks, not -1$")):
        Mappings(Rig().core, work=work)
