"""Each flow handler against its column of the step table (facts on Linux, 1.2 to 1.4)."""

import pytest

from firmware_model.core import (
    LINUX_6_1,
    ActionFlag,
    ChipFlag,
    Irqd,
    IrqReturn,
    IState,
    Kind,
)
from firmware_model.core.flow import (
    BadFlow,
    EdgeFlow,
    FasteoiFlow,
    FasteoiMaskFlow,
    FlowHandler,
    LevelFlow,
    SimpleFlow,
)
from firmware_model.core.manage import disable_irq_nosync, enable_irq, free_irq

from .core_rig import Rig, interrupts

FULL = ("irq_mask", "irq_unmask", "irq_ack", "irq_eoi", "irq_retrigger")


def early_outs(rig):
    return [
        (record.cpu, record.fields["why"], record.fields["pended"])
        for record in rig.kinds(Kind.EARLY_OUT)
    ]


@pytest.mark.parametrize(
    ("flow", "steps"),
    [
        (LevelFlow, ["mask", "ack", "handle0", "unmask"]),
        (FasteoiFlow, ["handle0", "eoi"]),
        (EdgeFlow, ["ack", "handle0"]),
        (FasteoiMaskFlow, ["mask", "ack", "handle0", "eoi"]),
        (SimpleFlow, ["handle0"]),
    ],
)
def test_an_interrupt_that_nothing_disturbs(flow, steps):
    rig = Rig(flow(), *FULL)
    rig.run(events=interrupts(cpu0=[110]))
    assert rig.order == steps
    assert rig.desc.count == 1
    assert not rig.desc.in_progress
    assert not rig.rules()


def test_level_prefers_mask_ack():
    rig = Rig(LevelFlow(), *FULL, "irq_mask_ack")
    rig.run(events=interrupts(cpu0=[110]))
    assert rig.order == ["mask_ack", "handle0", "unmask"]


@pytest.mark.parametrize(
    ("flow", "steps"),
    [
        (LevelFlow, ["mask", "ack"]),
        (FasteoiFlow, ["mask", "eoi"]),
        (EdgeFlow, ["mask", "ack"]),
        (FasteoiMaskFlow, ["mask", "ack", "eoi"]),
        (SimpleFlow, []),
    ],
)
def test_a_lazily_disabled_interrupt_is_remembered_and_only_now_masked(flow, steps):
    rig = Rig(flow(), *FULL)

    async def disable(cpu):
        await disable_irq_nosync(cpu, rig.desc)
        assert rig.order == []

    rig.run(disable, events=interrupts(cpu0=[150]))
    assert rig.order == steps
    assert rig.desc.pending
    assert early_outs(rig) == [(0, "disabled", True)]


def test_an_interrupt_that_nobody_wants_any_more():
    rig = Rig(EdgeFlow(), *FULL)

    async def free(cpu):
        rig.desc.action.clear()

    rig.run(free, events=interrupts(cpu0=[150]))
    assert early_outs(rig) == [(0, "no_action", True)]


def test_eoi_only_if_handled():
    rig = Rig(FasteoiFlow(), *FULL, flags=ChipFlag.EOI_IF_HANDLED)

    async def disable(cpu):
        await disable_irq_nosync(cpu, rig.desc)

    rig.run(disable, events=interrupts(cpu0=[150]))
    assert rig.order == ["mask"]


def test_pending_is_cleared_before_and_inprogress_set_during_the_actions():
    rig = Rig(EdgeFlow(), *FULL)
    seen = []

    async def look(cpu):
        seen.append((rig.desc.pending, rig.desc.in_progress, rig.desc.lock.owner))

    rig.during = look
    rig.run(events=interrupts(cpu0=[110]))
    assert seen == [(False, True, None)]


# The handler runs on CPU 0 when another interrupt comes to CPU 1.


def test_fasteoi_forgets_what_comes_meanwhile_without_the_flag():
    rig = Rig(FasteoiFlow(), *FULL, answers={"irq_retrigger": True})
    rig.run(events=interrupts(cpu0=[110], cpu1=[115]))
    assert rig.order == ["handle0", "eoi", "eoi"]
    assert early_outs(rig) == [(1, "busy", False)]
    assert rig.overlaps == 0


def test_fasteoi_before_6_5_forgets_even_with_the_flag():
    rig = Rig(FasteoiFlow(), *FULL, kernel=LINUX_6_1, answers={"irq_retrigger": True})
    rig.flags = Irqd.RESEND_WHEN_IN_PROGRESS
    rig.run(events=interrupts(cpu0=[110], cpu1=[115]))
    assert rig.order == ["handle0", "eoi", "eoi"]


def test_fasteoi_sends_again_after_its_eoi():
    rig = Rig(FasteoiFlow(), *FULL, answers={"irq_retrigger": True})
    rig.flags = Irqd.RESEND_WHEN_IN_PROGRESS
    rig.run(events=interrupts(cpu0=[110], cpu1=[115]))
    assert rig.order == ["handle0", "eoi", "eoi", "retrigger"]
    assert early_outs(rig) == [(1, "busy", True)]
    assert rig.desc.istate & (IState.PENDING | IState.REPLAY) == IState.REPLAY


def test_the_re_sent_interrupt_clears_replay_when_it_starts():
    rig = Rig(FasteoiFlow(), *FULL, answers={"irq_retrigger": True})
    rig.flags = Irqd.RESEND_WHEN_IN_PROGRESS
    rig.run(events=interrupts(cpu0=[110], cpu1=[115, 160]))
    assert rig.order == ["handle0", "eoi", "eoi", "retrigger", "handle1", "eoi"]
    assert not rig.desc.istate


def test_an_early_out_leaves_replay_as_it_was_and_then_nothing_is_sent_again():
    """Facts 3.5-c, a hypothesis: disable and enable meanwhile, and PENDING is left over."""
    rig = Rig(FasteoiFlow(), *FULL, cpus=3, answers={"irq_retrigger": True})
    rig.flags = Irqd.RESEND_WHEN_IN_PROGRESS
    rig.work = 60

    async def off_and_on(cpu):
        await cpu.delay_until(125)
        await disable_irq_nosync(cpu, rig.desc)
        await enable_irq(cpu, rig.desc)

    rig.run(None, None, off_and_on, events=interrupts(cpu0=[110], cpu1=[115, 140]))
    assert rig.order == ["handle0", "eoi", "retrigger", "eoi", "eoi"]
    assert rig.desc.istate & (IState.PENDING | IState.REPLAY) == IState.PENDING | IState.REPLAY
    assert [record.fields["why"] for record in rig.kinds(Kind.RESEND_REFUSED)] == ["busy"]


def test_simple_pends_with_the_flag_and_nobody_looks_at_it():
    rig = Rig(SimpleFlow(), *FULL)
    rig.flags = Irqd.RESEND_WHEN_IN_PROGRESS
    rig.run(events=interrupts(cpu0=[110], cpu1=[115]))
    assert rig.order == ["handle0"]
    assert rig.desc.pending


def test_level_stays_masked_when_busy():
    rig = Rig(LevelFlow(), *FULL)
    rig.run(events=interrupts(cpu0=[110], cpu1=[115]))
    assert rig.order == ["mask", "ack", "handle0", "ack", "unmask"]
    assert early_outs(rig) == [(1, "busy", False)]


def test_edge_makes_the_old_cpu_run_again():
    rig = Rig(EdgeFlow(), *FULL, kernel=LINUX_6_1)
    rig.flags = Irqd.SINGLE_TARGET
    rig.desc.effective_affinity = 0b10
    rig.run(events=interrupts(cpu0=[110], cpu1=[115]))
    assert rig.order == ["ack", "handle0", "mask", "ack", "unmask", "handle0"]
    assert early_outs(rig) == [(1, "busy", True)]
    assert rig.overlaps == 0


def test_edge_since_6_17_waits_on_the_cpu_it_belongs_to():
    rig = Rig(EdgeFlow(), *FULL)
    rig.flags = Irqd.SINGLE_TARGET
    rig.desc.effective_affinity = 0b10
    rig.run(events=interrupts(cpu0=[110], cpu1=[115]))
    assert rig.order == ["ack", "handle0", "ack", "handle1"]
    assert rig.overlaps == 0
    wait = rig.kinds(Kind.BUSY_WAIT)
    assert [record.cpu for record in wait] == [1]
    starts = [record.cycle for record in rig.kinds(Kind.HANDLER_START)]
    assert starts[0] < wait[0].cycle < starts[1]


@pytest.mark.parametrize("missing", ["flag", "cpu"])
def test_edge_waits_only_for_its_own_single_target(missing):
    rig = Rig(EdgeFlow(), *FULL)
    rig.flags = 0 if missing == "flag" else Irqd.SINGLE_TARGET
    rig.desc.effective_affinity = 0b01 if missing == "cpu" else 0b10
    rig.run(events=interrupts(cpu0=[110], cpu1=[115]))
    assert [name for name in rig.order if name.startswith("handle")] == ["handle0", "handle0"]


def test_edge_busy_wait_respects_a_disable_meanwhile():
    rig = Rig(EdgeFlow(), *FULL)
    rig.flags = Irqd.SINGLE_TARGET
    rig.desc.effective_affinity = 0b10

    async def disable(cpu):
        await cpu.delay(10)
        await disable_irq_nosync(cpu, rig.desc)

    rig.during = disable
    rig.run(events=interrupts(cpu0=[110], cpu1=[115]))
    assert rig.order == ["ack", "handle0", "mask", "ack"]
    assert rig.desc.pending


def test_edge_stops_when_the_action_is_freed_in_between():
    rig = Rig(EdgeFlow(), *FULL, kernel=LINUX_6_1)

    async def free(cpu):
        rig.desc.istate |= IState.PENDING
        rig.desc.action.clear()

    rig.during = free
    rig.run(events=interrupts(cpu0=[110]))
    assert rig.order == ["ack", "handle0", "mask"]


# One-shot


@pytest.mark.parametrize(
    ("flow", "flags", "steps"),
    [
        (FasteoiFlow, 0, ["mask", "handle0", "eoi", "thread", "unmask"]),
        (
            FasteoiFlow,
            ChipFlag.EOI_THREADED,
            ["mask", "handle0", "thread", "eoi", "unmask"],
        ),
        (LevelFlow, 0, ["mask", "ack", "handle0", "thread", "unmask"]),
    ],
)
def test_one_shot_stays_masked_until_its_thread_is_done(flow, flags, steps):
    rig = Rig(flow(), *FULL, flags=flags)
    rig.result = IrqReturn.WAKE_THREAD

    async def thread(cpu):
        rig.order.append("thread")
        await cpu.delay(10)
        return IrqReturn.HANDLED

    rig.action = rig.make_action("threaded", ActionFlag.ONESHOT, thread)
    rig.run(events=interrupts(cpu0=[110]))
    assert rig.order == steps
    assert rig.desc.threads_handled == 1
    assert not rig.desc.threads_oneshot


def test_one_shot_without_waking_its_thread():
    rig = Rig(FasteoiFlow(), *FULL)
    rig.action = rig.make_action("threaded", ActionFlag.ONESHOT)
    rig.run(events=interrupts(cpu0=[110]))
    assert rig.order == ["mask", "handle0", "eoi", "unmask"]


def test_waking_a_thread_that_is_not_there():
    rig = Rig(FasteoiFlow(), *FULL)
    rig.result = IrqReturn.WAKE_THREAD
    rig.run(events=interrupts(cpu0=[110]))
    assert rig.rules() == ["a handler wakes a thread that it has not got"]


# The rest


def test_a_wake_up_source_is_suspended():
    rig = Rig(FasteoiFlow(), *FULL)
    rig.flags = Irqd.WAKEUP_ARMED
    rig.run(events=interrupts(cpu0=[110]))
    assert rig.order == ["eoi"]
    assert rig.desc.istate & (IState.PENDING | IState.SUSPENDED)
    assert rig.desc.disabled
    assert rig.desc.depth == 1


def test_an_interrupt_that_nobody_has_set_up():
    rig = Rig(BadFlow(), *FULL)
    rig.run(events=interrupts(cpu0=[110]))
    assert rig.order == []
    assert [record.fields for record in rig.kinds(Kind.UNEXPECTED_IRQ)] == [{"irq": 5}]


def test_a_flow_without_steps_names_itself():
    class Mine(FlowHandler):
        """Forgot its steps."""

    rig = Rig(Mine(), *FULL)
    rig.run(events=interrupts(cpu0=[110]))
    crash = rig.kinds("crash")
    assert [record.fields["text"] for record in crash] == ["Mine has no flow"]


def test_free_irq_waits_for_the_handler():
    rig = Rig(EdgeFlow(), *FULL)
    ends = []

    async def free(cpu):
        await cpu.delay_until(112)
        assert await free_irq(cpu, rig.desc, rig.action)
        ends.append(cpu.machine.cycle)

    rig.run(None, free, events=interrupts(cpu0=[105]))
    handled = rig.kinds(Kind.HANDLER_END)[0].cycle
    assert ends[0] >= handled
    assert not rig.rules()
