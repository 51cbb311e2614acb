"""Request, free, disable, enable: facts on Linux, 1.5 and 1.9."""

from errno import EBUSY, EINVAL

import pytest

from firmware_model.core import (
    Action,
    ActionFlag,
    ChipFlag,
    IrqCore,
    Irqd,
    IState,
    Kind,
)
from firmware_model.core.desc import PROBE_BITS
from firmware_model.core.flow import EdgeFlow, FasteoiFlow, LevelFlow
from firmware_model.core.manage import (
    disable_irq,
    disable_irq_nosync,
    enable_irq,
    free_irq,
    request_irq,
    synchronize_irq,
)
from firmware_model.machine import Machine

from .core_rig import Rig, interrupts
from .test_machine_host import Host

CALLS = ("irq_mask", "irq_unmask", "irq_ack", "irq_retrigger", "irq_set_affinity")


def setting_up(flags=0, callbacks=CALLS):
    """A rig whose request is what is looked at: its calls are not forgotten."""
    rig = Rig(EdgeFlow(), *callbacks, flags=flags, answers={"irq_set_affinity": 0})
    rig.results = []

    async def program(cpu):
        rig.results.append(await request_irq(cpu, rig.desc, rig.action))

    rig.machine.cpus[0].spawn(program)
    return rig


def run_alone(rig):
    return Host(rig.machine, latency=1).run()


def test_request_starts_the_line():
    rig = setting_up()
    run_alone(rig)
    assert rig.order == ["unmask", "set_affinity"]
    assert rig.results == [0]
    assert rig.desc.depth == 0
    assert rig.desc.started
    assert rig.desc.flags & Irqd.ACTIVATED
    assert not rig.desc.masked
    assert not rig.desc.disabled


def test_affinity_before_the_unmask_if_the_chip_wants_that():
    rig = setting_up(ChipFlag.AFFINITY_PRE_STARTUP)
    run_alone(rig)
    assert rig.order == ["set_affinity", "unmask"]


def test_request_without_autoenable():
    rig = setting_up()
    rig.action = rig.make_action("later", ActionFlag.NO_AUTOEN)
    run_alone(rig)
    assert rig.order == []
    assert rig.desc.depth == 1
    assert rig.desc.disabled


def test_irq_startup_replaces_enable():
    rig = setting_up(callbacks=("irq_startup", "irq_unmask"))
    run_alone(rig)
    assert rig.order == ["startup"]
    assert not rig.desc.masked


def test_an_activation_that_fails_leaves_nothing_behind():
    rig = setting_up()

    async def refuse(cpu, data, *, early):
        return -EINVAL

    rig.chip.activate = refuse
    run_alone(rig)
    assert rig.results == [-EINVAL]
    assert rig.desc.action == []
    assert rig.order == []
    assert not rig.desc.started


def test_free_shuts_down():
    rig = Rig(EdgeFlow(), *CALLS, answers={"irq_set_affinity": 0})

    async def free(cpu):
        assert await free_irq(cpu, rig.desc, rig.action)

    rig.run(free)
    assert rig.order == ["mask"]
    assert rig.desc.action == []
    assert rig.desc.depth == 1
    assert not rig.desc.started
    assert not rig.desc.flags & Irqd.ACTIVATED
    assert [record.fields["action"] for record in rig.kinds(Kind.FREE_IRQ)] == ["handler"]


def test_free_of_one_of_two_leaves_the_line_alone():
    rig = Rig(LevelFlow(), *CALLS, answers={"irq_set_affinity": 0})
    rig.action = rig.make_action("a", ActionFlag.SHARED)
    other = rig.make_action("b", ActionFlag.SHARED)

    async def program(cpu):
        assert await request_irq(cpu, rig.desc, other) == 0
        assert rig.desc.action == [rig.action, other]
        assert await free_irq(cpu, rig.desc, rig.action)

    rig.run(program)
    assert rig.order == []
    assert rig.desc.action == [other]
    assert rig.desc.started


def test_every_action_runs_for_every_interrupt():
    rig = Rig(LevelFlow(), *CALLS, answers={"irq_set_affinity": 0})
    rig.action = rig.make_action("a", ActionFlag.SHARED)
    rig.work = 5

    async def program(cpu):
        await request_irq(cpu, rig.desc, rig.make_action("b", ActionFlag.SHARED))

    rig.run(program, events=interrupts(cpu0=[150]))
    starts = [record.fields["action"] for record in rig.kinds(Kind.HANDLER_START)]
    assert starts == ["a", "b"]


@pytest.mark.parametrize(
    ("first", "second", "result"),
    [
        (ActionFlag.SHARED, ActionFlag.SHARED, 0),
        (ActionFlag.SHARED, 0, -EBUSY),
        (0, ActionFlag.SHARED, -EBUSY),
        (0, 0, -EBUSY),
        (ActionFlag.SHARED, ActionFlag.SHARED | ActionFlag.ONESHOT, -EBUSY),
        (ActionFlag.SHARED, ActionFlag.SHARED | ActionFlag.PERCPU, -EBUSY),
        (ActionFlag.SHARED, ActionFlag.SHARED | ActionFlag.NO_AUTOEN, -EINVAL),
    ],
)
def test_who_may_share(first, second, result):
    rig = Rig(LevelFlow(), *CALLS, answers={"irq_set_affinity": 0})
    rig.action = rig.make_action("a", first)
    results = []

    async def program(cpu):
        results.append(await request_irq(cpu, rig.desc, rig.make_action("b", second)))

    rig.run(program)
    assert results == [result]
    assert len(rig.desc.action) == (1 if result else 2)


def test_disable_is_lazy():
    rig = Rig(EdgeFlow(), *CALLS, answers={"irq_set_affinity": 0})

    async def program(cpu):
        await disable_irq_nosync(cpu, rig.desc)
        await disable_irq_nosync(cpu, rig.desc)
        assert rig.desc.depth == 2
        await enable_irq(cpu, rig.desc)
        assert rig.desc.disabled
        await enable_irq(cpu, rig.desc)
        assert not rig.desc.disabled

    rig.run(program)
    assert rig.order == []


def test_disable_masks_at_once_if_asked():
    rig = Rig(EdgeFlow(), *CALLS, answers={"irq_set_affinity": 0})
    rig.action = rig.make_action("unlazy", ActionFlag.DISABLE_UNLAZY)

    async def program(cpu):
        await disable_irq_nosync(cpu, rig.desc)
        await enable_irq(cpu, rig.desc)

    rig.run(program)
    assert rig.order == ["mask", "unmask"]


def test_disable_by_the_chips_own_callbacks():
    rig = Rig(EdgeFlow(), "irq_enable", "irq_disable", "irq_mask", "irq_unmask")

    async def program(cpu):
        await disable_irq_nosync(cpu, rig.desc)
        assert rig.desc.masked
        await enable_irq(cpu, rig.desc)
        assert not rig.desc.masked

    rig.run(program)
    assert rig.order == ["disable", "enable"]


def test_enable_sends_what_was_swallowed():
    rig = Rig(EdgeFlow(), *CALLS, answers={"irq_set_affinity": 0, "irq_retrigger": True})

    async def program(cpu):
        await disable_irq_nosync(cpu, rig.desc)
        await cpu.delay(60)
        await enable_irq(cpu, rig.desc)

    rig.run(program, events=interrupts(cpu0=[120]))
    assert rig.order == ["mask", "ack", "unmask", "retrigger"]
    assert rig.desc.istate == IState.REPLAY


def test_disable_irq_waits_for_the_handler():
    rig = Rig(EdgeFlow(), *CALLS, answers={"irq_set_affinity": 0})
    rig.work = 50
    after = []

    async def program(cpu):
        await cpu.delay_until(120)
        await disable_irq(cpu, rig.desc)
        after.append(rig.running)

    rig.run(None, program, events=interrupts(cpu0=[110]))
    assert after == [0]
    assert not rig.rules()


def test_synchronize_asks_the_chip_for_its_active_state():
    rig = Rig(FasteoiFlow(), "irq_eoi", "irq_get_active")
    states = [True, True, False]

    async def active(cpu, data):
        await cpu.store(0x100, 1)
        return states.pop(0)

    rig.chip.irq_get_active = active

    async def program(cpu):
        await synchronize_irq(cpu, rig.desc)

    rig.run(program)
    assert states == []


# Misuse: recorded, and gone on as a kernel does


def test_enable_too_often():
    rig = Rig(EdgeFlow(), *CALLS, answers={"irq_set_affinity": 0})

    async def program(cpu):
        await enable_irq(cpu, rig.desc)

    rig.run(program)
    assert rig.rules() == ["an irq is enabled that is enabled already"]
    assert rig.desc.depth == 0


def test_enable_of_a_suspended_irq():
    rig = Rig(EdgeFlow(), *CALLS, answers={"irq_set_affinity": 0})

    async def program(cpu):
        rig.desc.istate |= IState.SUSPENDED
        rig.desc.depth = 1
        await enable_irq(cpu, rig.desc)

    rig.run(program)
    assert rig.rules() == ["an irq is enabled that is suspended"]


def test_free_twice():
    rig = Rig(EdgeFlow(), *CALLS, answers={"irq_set_affinity": 0})

    async def program(cpu):
        assert await free_irq(cpu, rig.desc, rig.action)
        assert not await free_irq(cpu, rig.desc, rig.action)

    rig.run(program)
    assert rig.rules() == ["an irq is freed that is free already"]
    assert not rig.kinds("crash")


def test_request_twice():
    rig = Rig(EdgeFlow(), *CALLS, answers={"irq_set_affinity": 0})

    async def program(cpu):
        assert await request_irq(cpu, rig.desc, rig.action) == -EBUSY

    rig.run(program)
    assert rig.rules() == ["an action was requested twice"]


def test_start_without_activation():
    rig = Rig(EdgeFlow(), *CALLS, answers={"irq_set_affinity": 0})

    async def program(cpu):
        rig.desc.clear_flag(cpu, Irqd.IRQ_STARTED | Irqd.ACTIVATED)
        rig.desc.depth = 1
        await enable_irq(cpu, rig.desc)

    rig.run(program)
    assert rig.rules() == ["an interrupt is started that was not activated"]


def test_disable_irq_in_its_own_handler_is_named_before_it_hangs():
    rig = Rig(EdgeFlow(), *CALLS, answers={"irq_set_affinity": 0})

    async def during(cpu):
        await disable_irq(cpu, rig.desc)

    rig.during = during
    host = rig.run(events=interrupts(cpu0=[110]))
    assert rig.rules() == ["sleeping in an interrupt"]
    assert not host.demands.finished
    rig.machine.report_stuck()
    assert [(record.cpu, record.fields["wait"]) for record in rig.kinds("stuck")] == [(0, "spin")]


# Descriptors


def test_state_on_the_probe():
    core = IrqCore(Machine(1))
    desc = core.allocate(1)
    names = [f"{word}:{bit:#x}" for word, bit in PROBE_BITS]
    assert len(set(names)) == len(names) == 13
    for i, (word, bit) in enumerate(PROBE_BITS):
        desc.istate = bit if word == "istate" else 0
        desc.flags = bit if word == "flags" else 0
        desc.depth = 0
        assert desc.probe_state == 1 << i, names[i]
    desc.istate = desc.flags = 0
    for depth, shown in ((1, 1), (7, 7), (8, 7)):
        desc.depth = depth
        assert desc.probe_state == shown << 13


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda core: core.allocate(0), "An irq number must be 1 or more, not 0"),
        (lambda core: [core.allocate(7), core.allocate(7)], "irq 7 is taken already"),
        (lambda core: core.allocate(1, affinity=0), "affinity must be 1 to 0x3, not 0x0"),
        (lambda core: core.allocate(1, affinity=4), "affinity must be 1 to 0x3, not 0x4"),
        (lambda core: core.allocate(1).data, "irq 1 has no chip yet; add_level() gives it one"),
        (lambda core: IrqCore(core.machine, hz=9), "hz must be at least 10, not 9"),
        (lambda core: IrqCore(core.machine, jiffy=0), "A jiffy must be 1 or more clocks, not 0"),
    ],
)
def test_bad_arguments(call, text):
    with pytest.raises(ValueError, match="^" + text.replace("(", r"\(").replace(")", r"\)") + "$"):
        call(IrqCore(Machine(2)))


def test_an_action_names_itself():
    async def handler(cpu):
        return True

    assert repr(Action(handler, "nic")) == "<Action 'nic'>"
