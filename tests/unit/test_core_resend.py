"""check_irq_resend: facts on Linux, 1.6."""

from errno import EBUSY, EINVAL

import pytest

from firmware_model.core import Irqd, IState, Kind
from firmware_model.core.flow import EdgeFlow
from firmware_model.core.manage import free_irq
from firmware_model.core.resend import check_irq_resend

from .core_rig import Rig

PENDING, REPLAY = IState.PENDING, IState.REPLAY


@pytest.mark.parametrize(
    ("flags", "istate", "inject", "retriggered", "result", "calls", "after"),
    [
        (0, 0, False, True, 0, [], 0),
        (0, PENDING, False, True, 0, ["retrigger"], REPLAY),
        (0, 0, True, True, 0, ["retrigger"], REPLAY),
        (0, PENDING | REPLAY, False, True, -EBUSY, [], PENDING | REPLAY),
        (0, REPLAY, True, True, -EBUSY, [], REPLAY),
        (Irqd.LEVEL, PENDING, False, True, -EINVAL, [], 0),
        (Irqd.LEVEL, PENDING | REPLAY, True, True, -EINVAL, [], REPLAY),
        (Irqd.HANDLE_ENFORCE_IRQCTX, PENDING, False, False, -EINVAL, ["retrigger"], 0),
    ],
)
def test_table(flags, istate, inject, retriggered, result, calls, after):
    rig = Rig(EdgeFlow(), "irq_retrigger", answers={"irq_retrigger": retriggered})
    results = []

    async def program(cpu):
        rig.desc.flags |= flags
        rig.desc.istate = istate
        async with rig.desc.lock.guard_irqsave(cpu):
            results.append(await check_irq_resend(cpu, rig.desc, inject=inject))

    rig.run(program)
    assert results == [result]
    assert rig.order == calls
    assert rig.desc.istate == after


def test_software_sends_again_if_hardware_cannot():
    rig = Rig(EdgeFlow(), "irq_ack")

    async def program(cpu):
        async with rig.desc.lock.guard_irqsave(cpu):
            rig.desc.istate |= PENDING
            assert await check_irq_resend(cpu, rig.desc) == 0
            assert rig.order == []

    rig.run(program)
    assert rig.order == ["ack", "handle0"]
    assert rig.desc.istate == 0
    assert [record.fields["by"] for record in rig.kinds(Kind.RESEND)] == ["software"]


def test_what_is_freed_is_not_sent_again():
    rig = Rig(EdgeFlow(), "irq_ack")

    async def program(cpu):
        async with cpu.irqs_disabled():
            async with rig.desc.lock.guard(cpu):
                rig.desc.istate |= PENDING
                await check_irq_resend(cpu, rig.desc)
            assert rig.core.resend_list == [rig.desc]
            await free_irq(cpu, rig.desc, rig.action)
            assert rig.core.resend_list == []

    rig.run(program)
    assert rig.order == []


def test_the_first_level_that_can_is_asked():
    rig = Rig(EdgeFlow(), "irq_retrigger", answers={"irq_retrigger": True})
    upper = type(rig.chip)()
    rig.desc.add_level(upper, 0)

    async def program(cpu):
        async with rig.desc.lock.guard_irqsave(cpu):
            assert await check_irq_resend(cpu, rig.desc, inject=True) == 0

    rig.run(program)
    assert rig.order == ["retrigger"]
    assert upper.calls == []
