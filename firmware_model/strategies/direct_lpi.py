"""How a message changes on Arm: straight to a redistributor it can tear as on x86; an ITS has none.

Classes as in :mod:`.torn_msi`. A direct LPI's address names the CPU and its data the INTID.
"""

from ..machine.cpu import Cpu
from .torn_msi import Move, MsiStrategy, Naive


class DirectLpiNaive(Naive):
    """One message update."""

    name = "direct-lpi-naive"
    summary = "direct LPI: one message update; an event in between sends a mixture"
    claims_correct = False


class DirectLpiTwoStep(MsiStrategy):
    """First the new INTID on the old CPU, where it means the same interrupt; then the new CPU.

    If that INTID is another device's there, what was sent to it is made up for: always, since what
    is pending cannot be looked at.
    """

    name = "direct-lpi-two-step"
    summary = "direct LPI: new INTID on the old CPU, then the new CPU"
    claims_correct = True

    async def update(self, cpu: Cpu, move: Move) -> None:
        if not move.started or move.new.cpu == move.old.cpu:
            move.log(cpu, "direct")
            await move.write(cpu, move.new)
            return
        move.log(cpu, "two_step")
        between = move.old._replace(vector=move.new.vector)
        held = await move.chip.domain.hold(cpu, move.data.desc, between)
        await move.write(cpu, between)
        await move.write(cpu, move.new)
        if not held:
            await move.retrigger(cpu)


class ThroughIts(MsiStrategy):
    """The message names a device's event; where that goes stands in the ITS."""

    name = "its"
    summary = "through an ITS: MOVI, and no message changes"
    claims_correct = True


STRATEGIES: dict[str, type[MsiStrategy]] = {
    strategy.name: strategy for strategy in (DirectLpiNaive, DirectLpiTwoStep, ThroughIts)
}
"""All of them, by name."""
