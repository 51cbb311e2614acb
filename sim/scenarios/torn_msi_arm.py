"""torn-msi on Arm: messages to a redistributor, which can tear, and through an ITS, which cannot.

A third CPU writes the affinity, and that moves the interrupt at once. Redistributors are found at
addresses with different upper words, or not: then two writes of the address make a message that
goes nowhere.
"""

from collections.abc import Mapping

from firmware_model.core.flow import FasteoiFlow
from firmware_model.platforms import stimuli
from firmware_model.platforms.arm64_messages import MessageSystem
from firmware_model.platforms.direct_lpi import DirectLpiSystem
from firmware_model.strategies.direct_lpi import ThroughIts
from firmware_model.strategies.torn_msi import MsiStrategy
from hdl.config import SocConfig
from hdl.gic.interfaces import FIRST_LPI
from hdl.registers.gicr import GicrRegister
from hdl.registers.pci import requester_id

from ..trial import Outcome
from ..verdict import GicOwner, Owner, judge, judge_gic
from .machines import ARM, DIRECT_HIGH, gic_frames

BOOT = 4_000
"""Clock at which the affinity is written."""
ENDPOINT = 0
FIRST = (FIRST_LPI + 5, FIRST_LPI + 2, FIRST_LPI + 9)
"""The INTID that the interrupt gets on each CPU."""


def config(code: type[MsiStrategy]) -> SocConfig:
    """The hardware."""
    return ARM if issubclass(code, ThroughIts) else DIRECT_HIGH


def cpus(hi_changes: int) -> tuple[int, int, int]:
    """Who has the interrupt, who gets it, and who writes the affinity.

    Only the redistributor of CPU 0 is below 4 GiB.
    """
    return (0, 1, 2) if hi_changes else (1, 2, 0)


def boot(code: type[MsiStrategy], hi_changes: int) -> MessageSystem:
    old, _, _ = cpus(hi_changes)
    hardware = config(code)
    frames = gic_frames(hardware)
    if issubclass(code, ThroughIts):
        return MessageSystem(
            FasteoiFlow(), code.kernel, frames=frames, cpus=hardware.cpus, affinity=1 << old
        )
    return DirectLpiSystem(code, FIRST, frames=frames, cpus=hardware.cpus, affinity=1 << old)


def move(system: MessageSystem, hi_changes: int) -> None:
    """Have the affinity written."""
    _, new, writer = cpus(hi_changes)
    system.machine.cpus[writer].spawn(stimuli.move, BOOT, system.desc, 1 << new)


def verdicts(
    code: type[MsiStrategy], outcome: Outcome, action: str, patience: int
) -> frozenset[str]:
    if issubclass(code, ThroughIts):
        return judge_gic(
            outcome, GicOwner(ENDPOINT, MessageSystem.irq, action, FIRST_LPI, patience)
        )
    owner = Owner(
        ENDPOINT,
        requester_id(ENDPOINT),
        MessageSystem.irq,
        action,
        patience=patience,
        place=place,
    )
    return judge(outcome, owner)


DOORBELLS: Mapping[int, int] = {
    region.base + GicrRegister.SETLPIR: cpu for cpu, region in enumerate(DIRECT_HIGH.redistributors)
}
NOBODY = -1


def place(address: int, data: int) -> tuple[int, int]:
    """The CPU and the LPI that a message is for."""
    return DOORBELLS.get(address, NOBODY), data
