"""How software changes the message of a function that may send it at any moment.

Address and data are two registers: the CPU stands in one, the vector in the other, and an event
between their writes sends the torn message (new CPU, old vector). Each class here is one answer;
what it inherits it does as its parent does. A strategy of your own is one more such class.

Source: the facts on Linux, section 2.2 (V0 to V6), the threads "PCI/MSI: Avoid torn updates to MSI
pairs" and "x86/apic/msi: Plug non-maskable MSI affinity race", January and February 2020.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..chips import local_apic
from ..chips.vector_table import MANAGED_SHUTDOWN, VectorState
from ..core.chip import AffinityResult, retrigger_hierarchy, set_affinity_parent
from ..core.cpumask import first_cpu
from ..core.desc import Irqd, IrqData
from ..core.kernel import LINUX_5_10, LINUX_6_1, LINUX_7_1, Kernel
from ..core.records import Kind
from ..machine.cpu import Cpu
from .recorded import Recording

if TYPE_CHECKING:
    from ..chips.pci_irq import TargetedMsiChip
    from ..chips.x86_entry import InterruptEntry
    from ..chips.x86_vector import Target


@dataclass(frozen=True)
class Move:
    """One change of affinity: the new vector is allocated, the function does not know it yet.

    The descriptor's lock is held and interrupts are masked; usually this is the interrupt itself,
    on the old CPU, before its EOI.
    """

    chip: "TargetedMsiChip"
    data: IrqData
    old: "Target"
    new: "Target"
    old_cpu: int
    """First CPU of the affinity that counted until now."""

    @property
    def maskable(self) -> bool:
        """The function has a mask bit for this message."""
        return self.chip.capability.maskable

    @property
    def can_reserve(self) -> bool:
        """The flag that says that it needs no vector before it is requested."""
        return bool(self.data.desc.flags & Irqd.CAN_RESERVE)

    @property
    def started(self) -> bool:
        return self.data.desc.started

    async def write(self, cpu: Cpu, target: "Target") -> None:
        """One message update, in the kernel's order."""
        await self.chip.write_target(cpu, self.data, target)

    async def write_address(self, cpu: Cpu, target: "Target") -> None:
        """The address alone: which CPU."""
        message = self.chip.domain.compose(target)
        await self.chip.capability.write_address(cpu, message.address, self.data.hwirq)

    async def write_data(self, cpu: Cpu, target: "Target") -> None:
        """The data alone: which vector."""
        message = self.chip.domain.compose(target)
        await self.chip.capability.write_data(cpu, message.data, self.data.hwirq)

    async def retrigger(self, cpu: Cpu) -> None:
        """Raise the interrupt at its new place, by an IPI."""
        await retrigger_hierarchy(cpu, self.data)

    def log(self, cpu: Cpu, path: str) -> None:
        """Record which way this move takes."""
        cpu.log(
            Kind.MOVE_PATH,
            irq=self.data.desc.irq,
            path=path,
            old=tuple(self.old),
            new=tuple(self.new),
        )


class MsiStrategy:
    """What all have in common: the level below finds a vector, then the function is told.

    Attributes
    ----------
    name, summary : str
    claims_correct : bool
        Whether whoever proposed it claimed that no event is lost.
    kernel : Kernel
        Whose habits the rest of the software has, unless the system says otherwise.
    can_mask : bool
        False: the mask bit of a live MSI-X entry is left alone, as under a hypervisor that owns it.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    claims_correct: ClassVar[bool]
    kernel: ClassVar[Kernel] = LINUX_7_1
    can_mask: ClassVar[bool] = True

    def install(self, entry: "InterruptEntry") -> None:
        """Whatever has to be there before the first interrupt."""

    async def set_affinity(
        self, cpu: Cpu, chip: "TargetedMsiChip", data: IrqData, mask: int, force: bool
    ) -> int:
        """The chip's irq_set_affinity."""
        old = chip.domain.target(data)
        old_cpu = first_cpu(data.desc.effective_affinity)
        result = await set_affinity_parent(cpu, data, mask, force)
        if result < 0 or result == AffinityResult.OK_DONE:
            return result
        await self.update(cpu, Move(chip, data, old, chip.domain.target(data), old_cpu))
        return result

    async def update(self, cpu: Cpu, move: Move) -> None:
        """Tell the function."""
        raise NotImplementedError(f"{type(self).__name__} has no update")


class Naive(MsiStrategy):
    """V0, to Linux 5.5: one message update, whatever may happen in between."""

    name = "naive"
    summary = "one message update; an event between address and data sends a mixture"
    claims_correct = False

    async def update(self, cpu: Cpu, move: Move) -> None:
        move.log(cpu, "direct")
        await move.write(cpu, move.new)


class DisableMsi(Naive):
    """V1, Evan Green's patch: MSI is off meanwhile. Then the function may use its pin."""

    name = "disable-msi"
    summary = "MSI off (MSI-X: all masked) around the update"
    claims_correct = True

    async def update(self, cpu: Cpu, move: Move) -> None:
        capability = move.chip.capability
        move.log(cpu, "disabled")
        saved = await capability.suspend(cpu)
        await move.write_address(cpu, move.new)
        await move.write_data(cpu, move.new)
        await capability.resume(cpu, saved)


class Retrigger(Naive):
    """V2: what may have been lost is made up for, always. The torn message still goes out."""

    name = "retrigger"
    summary = "one update, then always an IPI to the new CPU and vector"
    claims_correct = True

    async def update(self, cpu: Cpu, move: Move) -> None:
        await super().update(cpu, move)
        if move.started and not move.maskable:
            await move.retrigger(cpu)


class TwoStep(MsiStrategy):
    """V4, Linux 5.6: first the new vector on the old CPU, then the new CPU.

    In between an event goes to the new vector on the old CPU, which is this one: its IRR tells.
    """

    name = "two-step"
    summary = "new vector on the old CPU, then the new CPU, then a look into the IRR"
    claims_correct = True

    def masked_meanwhile(self, move: Move) -> bool:
        """Whether no event can send the message now, so that one update will do."""
        return move.maskable

    def direct(self, move: Move) -> bool:
        """Whether one message update is enough."""
        return (
            self.masked_meanwhile(move)
            or move.new.vector == move.old.vector
            or move.old.vector == MANAGED_SHUTDOWN
            or not move.started
            or move.new.cpu == move.old.cpu
        )

    async def update(self, cpu: Cpu, move: Move) -> None:
        if self.direct(move):
            move.log(cpu, "direct")
            await move.write(cpu, move.new)
        elif move.old_cpu != cpu.index:
            cpu.log(
                Kind.WARNING,
                text="a message is moved on a CPU that does not get it",
                irq=move.data.desc.irq,
            )
            await move.write(cpu, move.new)
        else:
            move.log(cpu, "two_step")
            await self.two_steps(cpu, move)

    async def two_steps(self, cpu: Cpu, move: Move) -> None:
        domain = move.chip.domain
        async with domain.lock.guard(cpu):
            entries = domain.table.entries[cpu.index]
            if isinstance(entries[move.new.vector], VectorState):
                entries[move.new.vector] = VectorState.RETRIGGERED
            await self.write_both(cpu, move)
        await self.look_for_lost(cpu, move)

    async def write_both(self, cpu: Cpu, move: Move) -> None:
        """The new vector on the old CPU, then the new CPU."""
        await move.write(cpu, move.old._replace(vector=move.new.vector))
        await move.write(cpu, move.new)

    async def look_for_lost(self, cpu: Cpu, move: Move) -> None:
        """Send on what came to the new vector here. Without the vector lock: that is taken."""
        if await local_apic.requested(cpu, move.new.vector):
            await move.retrigger(cpu)


class TwoStepUnderLock(TwoStep):
    """The first draft of V4: the vector lock was held to the end. Sending again needs it."""

    name = "two-step-under-lock"
    summary = "two-step, but the re-send is asked for with the vector lock held: dead-lock"
    claims_correct = True

    async def look_for_lost(self, cpu: Cpu, move: Move) -> None:
        async with move.chip.domain.lock.guard(cpu):
            await super().look_for_lost(cpu, move)


class TwoStepUnchecked(TwoStep):
    """A mutation: two steps without the look into the IRR. It must lose."""

    name = "two-step-unchecked"
    summary = "two-step without looking into the IRR"
    claims_correct = False

    async def look_for_lost(self, cpu: Cpu, move: Move) -> None:
        """Trust that nothing came."""


class QuirkLost(TwoStep):
    """V5, Linux 5.17 to 6.6: the flag that asks for two steps is never set."""

    name = "quirk-lost"
    summary = "two-step, never taken: the quirk flag got lost in a clean-up"
    claims_correct = False

    def masked_meanwhile(self, move: Move) -> bool:
        return True


class AsCoded(TwoStep):
    """V6, Linux 6.7 and stable: directly unless the interrupt can be reserved."""

    name = "as-coded"
    summary = "two-step for those that can be reserved, that is, those with mask bits"
    claims_correct = True

    def masked_meanwhile(self, move: Move) -> bool:
        return not move.can_reserve


class AsCommented(TwoStep):
    """V6 as the comment beside the test says: directly if the interrupt can be reserved."""

    name = "as-commented"
    summary = "two-step for those that cannot be reserved, that is, those without mask bits"
    claims_correct = True

    def masked_meanwhile(self, move: Move) -> bool:
        return move.can_reserve


class Recorded(TwoStep):
    """A move as a kernel was recorded to make it; what was not recorded is as its parent does it.

    Recorded were moves to another CPU and vector, of a message without mask bits.
    """

    recording: ClassVar[Recording]

    async def update(self, cpu: Cpu, move: Move) -> None:
        recorded = (
            not move.maskable
            and move.started
            and move.old_cpu == cpu.index != move.new.cpu
            and move.new.vector != move.old.vector
        )
        if not recorded:
            await super().update(cpu, move)
        elif self.recording.steps == 1:
            move.log(cpu, "direct")
            await self.recording.play(cpu, move)
        else:
            move.log(cpu, "two_step")
            await self.two_steps(cpu, move)

    async def write_both(self, cpu: Cpu, move: Move) -> None:
        if move.maskable:
            await super().write_both(cpu, move)
        else:
            await self.recording.play(cpu, move)

    async def look_for_lost(self, cpu: Cpu, move: Move) -> None:
        if move.maskable or self.recording.looks:
            await super().look_for_lost(cpu, move)


class Recorded61(Recorded, AsCoded):
    """Linux 6.1 with its stable updates, as in the recording: V6, and that kernel's habits."""

    name = "linux-6.1-recorded"
    summary = "as recorded from Linux 6.1: one update without mask bits, two with them"
    kernel = LINUX_6_1
    recording = Recording.load("linux-6.1.txt")


class Recorded510(Recorded):
    """Linux 5.10 with its stable updates, as in the recording: V4, and that kernel's habits."""

    name = "linux-5.10-recorded"
    summary = "as recorded from Linux 5.10: two updates without mask bits, one with them"
    kernel = LINUX_5_10
    recording = Recording.load("linux-5.10.txt")


class Mask(Naive):
    """One update, for functions whose mask bit the core sets around every move."""

    name = "mask"
    summary = "one update of a masked message (needs mask bits); the pending bit keeps the event"
    claims_correct = True


class Unmasked(Naive):
    """An MSI-X entry rewritten while it is live: to Linux 5.13, wherever the core cannot mask."""

    name = "msix-unmasked"
    summary = "one update of a live MSI-X entry"
    claims_correct = False
    can_mask = False


class Transit(MsiStrategy):
    """V3, never coded: a vector of its own, on every CPU, for whatever is in transit.

    Its handler calls every interrupt on the list. One is put on the list by its move, and taken
    off when the move is complete (the old vector given back), since a transit interrupt may wait
    in an IRR that long. What the proposal left open is decided so that nothing is lost.
    """

    VECTOR = 0xED

    def __init__(self) -> None:
        self.in_transit: list[IrqData] = []
        self._entry: InterruptEntry | None = None

    def install(self, entry: "InterruptEntry") -> None:
        self._entry = entry
        entry.system[self.VECTOR] = self.handle
        for cpu in entry.domain.core.machine.cpus:
            entry.domain.table.occupy(cpu.index, self.VECTOR)

    async def handle(self, cpu: Cpu) -> None:
        """The transit vector's interrupt: run everything that may have sent it."""
        assert self._entry is not None
        domain = self._entry.domain
        await domain.eoi(cpu)
        domain.harvesting.add(cpu.index)
        for data in list(self.in_transit):
            await data.desc.handle(cpu, data.desc)
            if not domain.level(data).chip_data.prev_vector:
                self.in_transit.remove(data)
        domain.harvesting.discard(cpu.index)

    async def update(self, cpu: Cpu, move: Move) -> None:
        if not move.started or move.new == move.old:
            move.log(cpu, "direct")
            await move.write(cpu, move.new)
            return
        move.log(cpu, "transit")
        if move.data not in self.in_transit:
            self.in_transit.append(move.data)
        await self.transit(cpu, move)

    async def transit(self, cpu: Cpu, move: Move) -> None:
        """The writes."""
        raise NotImplementedError(f"{type(self).__name__} has no transit")


class TransitEvan(Transit):
    """V3 in Evan Green's order: the vector, the CPU, the vector."""

    name = "transit-evan"
    summary = "data := transit vector, address := new CPU, data := new vector"
    claims_correct = True

    async def transit(self, cpu: Cpu, move: Move) -> None:
        await move.write_data(cpu, move.old._replace(vector=self.VECTOR))
        await move.write_address(cpu, move.new)
        await move.write_data(cpu, move.new)


class TransitTglx(Transit):
    """V3 in the order that was asked for in reply: two complete updates."""

    name = "transit-tglx"
    summary = "a complete update to (old CPU, transit vector), then one to the new place"
    claims_correct = True

    async def transit(self, cpu: Cpu, move: Move) -> None:
        await move.write(cpu, move.old._replace(vector=self.VECTOR))
        await move.write(cpu, move.new)


class TransitWaiting(TransitTglx):
    """V3 with the mover waiting until the new CPU has seen to the transit vector: objection P6.

    The mover holds the descriptor's lock, and the transit handler wants it.
    """

    name = "transit-waiting"
    summary = "transit, then wait for the new CPU's transit handler: dead-lock"
    claims_correct = False

    def __init__(self) -> None:
        super().__init__()
        self._served = 0

    async def handle(self, cpu: Cpu) -> None:
        await super().handle(cpu)
        self._served += 1

    async def transit(self, cpu: Cpu, move: Move) -> None:
        await super().transit(cpu, move)
        before = self._served
        await move.chip.domain.send_ipi(cpu, move.new.cpu, self.VECTOR)
        await cpu.spin_until(lambda: self._served != before)


STRATEGIES: dict[str, type[MsiStrategy]] = {
    strategy.name: strategy
    for strategy in (
        Naive,
        DisableMsi,
        Retrigger,
        TransitEvan,
        TransitTglx,
        TransitWaiting,
        TwoStep,
        TwoStepUnderLock,
        TwoStepUnchecked,
        QuirkLost,
        AsCoded,
        AsCommented,
        Recorded61,
        Recorded510,
        Mask,
        Unmasked,
    )
}
"""All of them, by name."""
