"""Nobody cared: facts on Linux, 1.8 and invariant I23."""

import itertools

import pytest

from firmware_model.core import ActionFlag, IrqReturn, IState, Kind
from firmware_model.core.flow import LevelFlow
from firmware_model.core.manage import request_irq
from firmware_model.core.spurious import COUNTED, DEFERRED, TOLERATED, note_interrupt

from .core_rig import Rig, interrupts

NONE, HANDLED, WAKE = IrqReturn.NONE, IrqReturn.HANDLED, IrqReturn.WAKE_THREAD


def counted(results, *, jiffies_between=0, flags=0, before=None):
    """A rig whose descriptor has seen ``results``, an iterable of (result, how often)."""
    rig = Rig(LevelFlow(), "irq_mask", "irq_unmask")
    rig.action = rig.make_action("a", flags)

    async def program(cpu):
        if before:
            before(rig)
        for result, times in results:
            for _ in range(times):
                await note_interrupt(cpu, rig.desc, result)
                if jiffies_between:
                    await cpu.delay(jiffies_between * rig.core.jiffy)
        rig.off = bool(rig.desc.istate & IState.SPURIOUS_DISABLED)
        rig.desc.istate &= ~IState.SPURIOUS_DISABLED  # so that the poller stops

    rig.run(program)
    return rig


@pytest.mark.parametrize(
    ("results", "off"),
    [
        ([(NONE, COUNTED - 1)], False),
        ([(NONE, COUNTED)], True),
        ([(NONE, 1), (HANDLED, COUNTED - TOLERATED - 1), (NONE, TOLERATED)], True),
        ([(NONE, 1), (HANDLED, COUNTED - TOLERATED), (NONE, TOLERATED - 1)], False),
    ],
)
def test_the_hundred_thousandth_interrupt_decides(results, off):
    rig = counted(results)
    assert rig.off == off
    assert rig.desc.disabled == off
    assert bool(rig.kinds(Kind.NOBODY_CARED)) == off
    if sum(times for _, times in results) == COUNTED:
        assert rig.desc.irq_count == 0
        assert rig.desc.irqs_unhandled == 0


def test_handled_ones_are_counted_only_after_the_first_that_was_not():
    rig = counted([(HANDLED, 50)])
    assert rig.desc.irq_count == 0
    rig = counted([(NONE, 1), (HANDLED, 50)])
    assert rig.desc.irq_count == 51
    assert rig.desc.irqs_unhandled == 1


@pytest.mark.parametrize(("gap", "unhandled"), [(25, 3), (26, 1)])
def test_a_tenth_of_a_second_of_peace_starts_again(gap, unhandled):
    rig = counted([(NONE, 3)], jiffies_between=gap)
    assert rig.desc.irqs_unhandled == unhandled


def test_a_thread_is_judged_one_interrupt_later():
    rig = counted([(WAKE, 1)])
    assert rig.desc.irqs_unhandled == 0
    assert rig.desc.threads_handled_last & DEFERRED
    rig = counted([(WAKE, 3)])
    assert rig.desc.irqs_unhandled == 2


def test_a_thread_that_handles_something():
    rig = Rig(LevelFlow())

    async def program(cpu):
        for _ in range(3):
            await note_interrupt(cpu, rig.desc, WAKE)
            rig.desc.threads_handled += 1

    rig.run(program)
    assert rig.desc.irqs_unhandled == 0


def test_a_return_that_is_none():
    rig = counted([(4, 1), (-1, 1)])
    assert [record.fields["result"] for record in rig.kinds(Kind.BAD_RETURN)] == [4, -1]
    assert rig.desc.irq_count == 0


@pytest.mark.parametrize("what", ["polled", "no debug"])
def test_some_are_not_counted(what):
    def before(rig):
        if what == "polled":
            rig.desc.istate |= IState.POLL_INPROGRESS
        else:
            rig.desc.no_debug = True

    rig = counted([(NONE, 5)], before=before)
    assert rig.desc.irqs_unhandled == 0


def cared_for_by_nobody(rig):
    rig.desc.irq_count = COUNTED - 1
    rig.desc.irqs_unhandled = TOLERATED


def test_a_line_that_is_switched_off_is_polled():
    rig = Rig(LevelFlow(), "irq_mask", "irq_unmask")
    rig.action = rig.make_action("a", ActionFlag.SHARED)
    rig.result = NONE

    async def program(cpu):
        cared_for_by_nobody(rig)
        await cpu.delay(1200)
        # Only so that the poller finds nothing any more, and stops.
        rig.desc.istate &= ~IState.SPURIOUS_DISABLED

    rig.run(program, events=interrupts(cpu0=[110]))
    cycles = [record.cycle for record in rig.kinds(Kind.HANDLER_START)]
    period = 25 * rig.core.jiffy
    assert rig.order[:3] == ["mask", "handle0", "handle0"]
    assert all(later - sooner >= period for sooner, later in itertools.pairwise(cycles))
    assert len(cycles) >= 4
    assert not rig.core.poll_running


def test_a_line_that_is_not_shared_is_not_polled():
    rig = Rig(LevelFlow(), "irq_mask", "irq_unmask")
    rig.result = NONE

    async def program(cpu):
        cared_for_by_nobody(rig)
        await cpu.delay(1000)
        rig.desc.istate &= ~IState.SPURIOUS_DISABLED

    rig.run(program, events=interrupts(cpu0=[110]))
    assert rig.order == ["mask", "handle0"]


def test_another_action_revives_the_line():
    rig = Rig(LevelFlow(), "irq_mask", "irq_unmask")
    rig.action = rig.make_action("a", ActionFlag.SHARED)
    rig.result = NONE

    async def program(cpu):
        cared_for_by_nobody(rig)
        await cpu.delay(60)
        assert rig.desc.disabled
        assert await request_irq(cpu, rig.desc, rig.make_action("b", ActionFlag.SHARED)) == 0
        assert not rig.desc.disabled

    rig.run(program, events=interrupts(cpu0=[110]))
    assert len(rig.kinds(Kind.REENABLED)) == 1
    assert rig.order == ["mask", "handle0", "unmask"]
