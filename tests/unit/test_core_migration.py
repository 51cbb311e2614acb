"""Where an interrupt goes: facts on Linux, 1.7."""

from errno import EBUSY, EINVAL, EIO, ENOSPC

import pytest

from firmware_model.core import AffinityResult, ChipFlag, Irqd, Kind
from firmware_model.core.cpuhotplug import migrate_all_off_this_cpu, migrate_one_irq
from firmware_model.core.flow import EdgeFlow
from firmware_model.core.manage import disable_irq_nosync
from firmware_model.core.migration import irq_move_irq, irq_set_affinity

from .core_rig import Rig

CALLS = ("irq_mask", "irq_unmask")
DEFERRED = ChipFlag.MOVE_DEFERRED


class Placed(Rig):
    """A chip that takes any affinity but what ``answers`` names; ``asked`` holds what it got."""

    def __init__(self, flags=0, results=()):
        super().__init__(EdgeFlow(), *CALLS, flags=flags, cpus=3)
        self.asked = []
        self.looking = False
        self.results = list(results)
        self.chip.irq_set_affinity = self.set_affinity

    async def set_affinity(self, cpu, data, mask, force):
        if not self.looking:
            return AffinityResult.OK  # that is the start-up
        self.order.append("set_affinity")
        self.asked.append((mask, force))
        await cpu.store(0x100, 1)
        result = self.results.pop(0) if self.results else AffinityResult.OK
        if result >= 0:
            data.desc.effective_affinity = mask & -mask
        return result


def run(rig, program, *others):
    async def counted(cpu):
        rig.looking = True
        await program(cpu)

    return rig.run(counted, *others)


def moved(rig):
    return bool(rig.desc.flags & Irqd.SETAFFINITY_PENDING), rig.desc.pending_mask


def test_a_chip_that_may_moves_at_once_unmasked():
    rig = Placed()

    async def program(cpu):
        assert await irq_set_affinity(cpu, rig.desc, 0b110) == 0

    run(rig, program)
    assert rig.order == ["set_affinity"]
    assert rig.desc.affinity == 0b110
    assert rig.desc.effective_affinity == 0b010
    assert moved(rig) == (False, 0)


def test_a_chip_that_must_wait_is_not_touched():
    rig = Placed(DEFERRED)

    async def program(cpu):
        assert await irq_set_affinity(cpu, rig.desc, 0b010) == 0

    run(rig, program)
    assert rig.order == []
    assert moved(rig) == (True, 0b010)
    assert [record.fields["mask"] for record in rig.kinds(Kind.MOVE_PENDING)] == [0b010]


async def move(cpu, rig):
    async with rig.desc.lock.guard_irqsave(cpu):
        await irq_move_irq(cpu, rig.desc)


def test_the_next_interrupt_moves_it_masked():
    rig = Placed(DEFERRED)

    async def program(cpu):
        await irq_set_affinity(cpu, rig.desc, 0b010)
        await move(cpu, rig)
        await move(cpu, rig)

    run(rig, program)
    assert rig.order == ["mask", "set_affinity", "unmask"]
    assert moved(rig) == (False, 0)
    assert not rig.desc.masked


def test_one_that_is_masked_stays_so():
    rig = Placed(DEFERRED)

    async def program(cpu):
        await irq_set_affinity(cpu, rig.desc, 0b010)
        rig.desc.set_flag(cpu, Irqd.IRQ_MASKED)
        await move(cpu, rig)

    run(rig, program)
    assert rig.order == ["set_affinity"]
    assert rig.desc.masked


def test_one_that_is_disabled_keeps_its_move():
    rig = Placed(DEFERRED)

    async def program(cpu):
        await irq_set_affinity(cpu, rig.desc, 0b010)
        await disable_irq_nosync(cpu, rig.desc)
        await move(cpu, rig)

    run(rig, program)
    assert rig.order == []
    assert moved(rig) == (True, 0b010)


def test_busy_means_once_more():
    rig = Placed(DEFERRED, [-EBUSY, AffinityResult.OK])

    async def program(cpu):
        await irq_set_affinity(cpu, rig.desc, 0b010)
        await move(cpu, rig)
        assert moved(rig) == (True, 0b010)
        await move(cpu, rig)

    run(rig, program)
    assert rig.asked == [(0b010, False)] * 2
    assert moved(rig) == (False, 0)


def test_busy_at_once_means_later():
    rig = Placed(0, [-EBUSY])

    async def program(cpu):
        assert await irq_set_affinity(cpu, rig.desc, 0b010) == 0

    run(rig, program)
    assert moved(rig) == (True, 0b010)


@pytest.mark.parametrize("result", [AffinityResult.OK, AffinityResult.OK_DONE])
def test_affinity_follows_the_chips_yes(result):
    rig = Placed(0, [result])

    async def program(cpu):
        assert await irq_set_affinity(cpu, rig.desc, 0b100) == 0

    run(rig, program)
    assert rig.desc.affinity == 0b100


def test_no_copy_leaves_affinity_alone():
    rig = Placed(0, [AffinityResult.OK_NOCOPY])

    async def program(cpu):
        assert await irq_set_affinity(cpu, rig.desc, 0b100) == 0

    run(rig, program)
    assert rig.desc.affinity == 0b111


def test_masks_that_are_refused():
    rig = Placed()

    async def program(cpu):
        rig.machine.cpus[2].online = False
        assert await irq_set_affinity(cpu, rig.desc, 0b100) == -EINVAL
        assert await irq_set_affinity(cpu, rig.desc, 0b110) == 0
        rig.desc.flags |= Irqd.AFFINITY_MANAGED
        assert await irq_set_affinity(cpu, rig.desc, 0b010) == -EIO

    run(rig, program)
    assert rig.asked == [(0b010, False)]


def test_a_chip_that_cannot():
    rig = Rig(EdgeFlow(), *CALLS)

    async def program(cpu):
        assert await irq_set_affinity(cpu, rig.desc, 1) == -EINVAL

    rig.run(program)


# A CPU goes offline; the others are stopped, so there is only one program.


def leaving(rig, *, before=None, affinity=0b001):
    async def program(cpu):
        rig.desc.effective_affinity = 0b001
        rig.desc.affinity = affinity
        if before is not None:
            await before(cpu)
        async with cpu.irqs_disabled():
            cpu.online = False
            await migrate_all_off_this_cpu(cpu, rig.core)
            cpu.online = True

    run(rig, program)
    return [record.fields["broke_affinity"] for record in rig.kinds(Kind.MIGRATED)]


def test_offline_breaks_the_affinity_if_it_must():
    rig = Placed(DEFERRED)
    assert leaving(rig) == [True]
    assert rig.order == ["mask", "set_affinity", "unmask"]
    assert rig.asked == [(0b110, False)]


def test_offline_keeps_to_the_affinity_if_it_can():
    rig = Placed()
    assert leaving(rig, affinity=0b101) == [False]
    assert rig.order == ["set_affinity"]
    assert rig.asked == [(0b100, False)]


def test_offline_carries_out_a_move_that_waits():
    rig = Placed(DEFERRED)

    async def before(cpu):
        await irq_set_affinity(cpu, rig.desc, 0b100)

    assert leaving(rig, before=before) == [False]
    assert rig.asked == [(0b100, False)]
    assert moved(rig) == (False, 0)


def test_offline_forgets_a_move_to_nowhere():
    rig = Placed(DEFERRED)

    async def before(cpu):
        rig.desc.effective_affinity = 0b010
        rig.desc.pending_mask = 0b001
        rig.desc.set_flag(cpu, Irqd.SETAFFINITY_PENDING)

    assert leaving(rig, before=before) == []
    assert rig.order == []
    assert moved(rig) == (False, 0)


def test_offline_leaves_what_is_elsewhere_or_not_started():
    rig = Placed()

    async def before(cpu):
        rig.desc.clear_flag(cpu, Irqd.IRQ_STARTED)

    assert leaving(rig, before=before) == []
    assert rig.order == []


def test_offline_tries_everybody_when_vectors_run_out():
    rig = Placed(0, [-ENOSPC])
    assert leaving(rig, affinity=0b011) == [True]
    assert rig.asked == [(0b010, False), (0b110, False)]


def test_offline_shuts_a_managed_interrupt_down():
    rig = Placed()
    rig.flags = Irqd.AFFINITY_MANAGED
    leaving(rig)
    assert rig.order == ["mask"]
    assert not rig.desc.started


def test_offline_without_any_place():
    rig = Placed(0, [-EBUSY])
    assert leaving(rig, affinity=0b011) == []
    assert [record.fields["error"] for record in rig.kinds(Kind.WARNING)] == [-EBUSY]


def test_offline_skips_a_descriptor_without_a_chip():
    rig = Placed()
    bare = rig.core.allocate(9)

    async def program(cpu):
        assert not await migrate_one_irq(cpu, bare)

    run(rig, program)


def test_a_per_cpu_interrupt_is_never_moved():
    rig = Placed(DEFERRED)

    async def program(cpu):
        await irq_set_affinity(cpu, rig.desc, 0b010)
        rig.desc.set_flag(cpu, Irqd.PER_CPU)
        await move(cpu, rig)

    run(rig, program)
    assert rig.asked == []
    assert rig.kinds(Kind.WARNING)
