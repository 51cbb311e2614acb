"""How a level-sensitive interrupt is kept quiet until a guest has served its device.

Upstream masks it, at the device or, if that cannot be told to, at the interrupt controller. The
proposal: let the guest's end of the interrupt end the physical one, and touch nothing. Each class
here is one answer; what it inherits it does as its parent does.

Source: the facts on Linux, section 5 (X0 to X3), the thread "ARM/ARM64 Direct EOI setup for VFIO
wired interrupts", May and June 2017; for lazy disabling "vfio/pci: Fix INTx handling on legacy
non-PCI 2.3 devices". X3 is today's kernel, in which the proposal is not: that is
:class:`Disintx`, and :class:`DisableIrqUnlazy` for devices from before PCI 2.3.
"""

from typing import TYPE_CHECKING, ClassVar

from ..chips.gicv3 import ACTIVE, SplitGicV3
from ..core.manage import disable_irq, enable_irq
from ..core.records import Kind
from ..machine.cpu import Cpu

if TYPE_CHECKING:
    from ..drivers.vfio import VfioIntx


class IntxStrategy:
    """What all have in common.

    Attributes
    ----------
    name, summary : str
    claims_correct : bool
        Whether whoever proposed it claimed that no event is lost, of any device on the line.
    at_device : bool
        The device has an INTx disable bit, and it is used: the line can be shared.
    unlazy : bool
        disable_irq masks the interrupt at the controller at once, not when it comes again.
    linked_late : bool
        The guest's interrupt is linked while it is in use, not before.
    level_first : bool
        At the guest's end of the interrupt the virtual line is lowered before the physical one is
        looked at.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    claims_correct: ClassVar[bool]
    at_device: ClassVar[bool] = True
    unlazy: ClassVar[bool] = True
    linked_late: ClassVar[bool] = False
    level_first: ClassVar[bool] = True

    async def handle(self, cpu: Cpu, intx: "VfioIntx") -> bool:
        """The interrupt handler."""
        async with intx.irqlock.guard_irqsave(cpu):
            handled = await self.claim(cpu, intx)
        if handled:
            await intx.signal(cpu)
        return handled

    async def claim(self, cpu: Cpu, intx: "VfioIntx") -> bool:
        """Is it ours? Then see to it that it does not come again for now. With irqlock."""
        raise NotImplementedError(f"{type(self).__name__} has no claim")

    async def connect(self, cpu: Cpu, intx: "VfioIntx") -> bool:
        """The guest's interrupt could be linked with ours: whether it was."""
        return False

    async def free(self, cpu: Cpu, intx: "VfioIntx") -> None:
        """The guest has gone, and its interrupt goes."""
        await intx.free(cpu)


class Disintx(IntxStrategy):
    """X0: masked by the device's own INTx disable bit, if it is the device that asks."""

    name = "disintx"
    summary = "masked at the device until the guest ends the interrupt"
    claims_correct = True

    async def claim(self, cpu: Cpu, intx: "VfioIntx") -> bool:
        return await intx.automask(cpu)


class ResampleFirst(Disintx):
    """X0 with the two steps at the end of the interrupt in the other order."""

    name = "resample-first"
    summary = "as disintx, but the virtual line is lowered after the device was looked at"
    claims_correct = False
    level_first = False


class Unmasked(Disintx):
    """What masking is for: it is ours if the device asks, and that is all."""

    name = "unmasked"
    summary = "nobody masks, and the host ends the interrupt"
    claims_correct = False

    async def claim(self, cpu: Cpu, intx: "VfioIntx") -> bool:
        return True


class DisableIrqUnlazy(Disintx):
    """For devices from before PCI 2.3, since Linux 6.18: masked at the controller, at once."""

    name = "disable-irq-unlazy"
    summary = "masked at the controller, at once, until the guest ends the interrupt"
    at_device = False


class DisableIrqLazy(DisableIrqUnlazy):
    """Before: masked when it comes again, which is then taken for nothing."""

    name = "disable-irq-lazy"
    summary = "masked at the controller when it comes again before the guest has ended it"
    unlazy = False


class DirectEoiShared(Disintx):
    """X1, the patch: the guest's end of the interrupt ends it. Whose it is nobody asks.

    The handler signals with irqlock held, for which it is another reason to be objected to.
    """

    name = "direct-eoi-shared"
    summary = "the guest ends the physical interrupt of a line that others share"
    claims_correct = True

    async def handle(self, cpu: Cpu, intx: "VfioIntx") -> bool:
        async with intx.irqlock.guard_irqsave(cpu):
            handled = await self.claim(cpu, intx)
            if handled:
                await intx.signal(cpu)
        return handled

    async def claim(self, cpu: Cpu, intx: "VfioIntx") -> bool:
        return intx.direct or await super().claim(cpu, intx)

    async def connect(self, cpu: Cpu, intx: "VfioIntx") -> bool:
        assert intx.consumer is not None
        await intx.consumer.add_producer(cpu, intx.desc)
        await intx.forward(cpu, True)
        return True

    async def free(self, cpu: Cpu, intx: "VfioIntx") -> None:
        await intx.free(cpu)
        await self.disconnect(cpu, intx)

    async def disconnect(self, cpu: Cpu, intx: "VfioIntx") -> None:
        """The opposite of :meth:`connect`."""
        if intx.direct:
            await intx.forward(cpu, False)


class DirectEoiExclusive(DirectEoiShared):
    """The objection's answer: nobody may share the line. Before it is linked, as unlazy."""

    name = "direct-eoi-exclusive"
    summary = "the guest ends the physical interrupt of a line that nobody may share"
    at_device = False


class DirectEoiUnchecked(DirectEoiExclusive):
    """X2 without its look: linked while it is masked, and then nobody unmasks."""

    name = "direct-eoi-unchecked"
    summary = "as direct-eoi-bypass, but linked whatever the interrupt is doing"
    claims_correct = False
    linked_late = True

    async def connect(self, cpu: Cpu, intx: "VfioIntx") -> bool:
        await disable_irq(cpu, intx.desc)
        async with intx.irqlock.guard_irqsave(cpu):
            linked = await self.may_link(cpu, intx)
            if linked:
                await super().connect(cpu, intx)
        await enable_irq(cpu, intx.desc)
        cpu.log(Kind.BYPASS, irq=intx.desc.irq, linked=linked)
        return linked

    async def may_link(self, cpu: Cpu, intx: "VfioIntx") -> bool:
        """May it be linked now? With irqlock, disabled."""
        return True

    async def free(self, cpu: Cpu, intx: "VfioIntx") -> None:
        # Masking what is forwarded deactivates it too.
        await disable_irq(cpu, intx.desc)
        await self.disconnect(cpu, intx)
        await enable_irq(cpu, intx.desc)
        await intx.free(cpu)


class DirectEoiBypass(DirectEoiUnchecked):
    """X2, the rest of the series: linked later, and only if nobody owes it an end."""

    name = "direct-eoi-bypass"
    summary = "linked when neither active nor masked, on a line that nobody shares"
    claims_correct = True

    async def may_link(self, cpu: Cpu, intx: "VfioIntx") -> bool:
        chip = intx.desc.chip
        assert isinstance(chip, SplitGicV3)
        return not intx.masked and not await chip.get_irqchip_state(cpu, intx.desc.data, ACTIVE)


STRATEGIES: dict[str, type[IntxStrategy]] = {
    strategy.name: strategy
    for strategy in (
        Disintx,
        DisableIrqLazy,
        DisableIrqUnlazy,
        DirectEoiShared,
        DirectEoiExclusive,
        DirectEoiBypass,
        DirectEoiUnchecked,
        ResampleFirst,
        Unmasked,
    )
}
