"""Which priority is running, physical or virtual: the active-priority bits (section 6)."""

from .bits import WORD
from .implementation import Implementation

IDLE = 0xFF
"""Running priority while nothing is active; less urgent than anything."""


class ActivePriorities:
    """AP1R0: bit ``n`` is set while an interrupt of group priority ``n`` steps is being handled.

    Nested interrupts have strictly more urgent priorities, so the lowest set bit is the one that
    runs, and priority drop clears it, whatever INTID software names.
    """

    def __init__(self, choices: Implementation):
        self._shift = 8 - choices.preemption_bits
        self._mask = (1 << (1 << choices.preemption_bits)) - 1 & WORD
        self.bits = 0

    @property
    def running(self) -> int:
        """RPR."""
        if not self.bits:
            return IDLE
        return (self.bits & -self.bits).bit_length() - 1 << self._shift

    def load(self, value: int) -> None:
        """Software writes the register."""
        self.bits = value & self._mask

    def activate(self, group_priority: int) -> None:
        self.bits |= 1 << (group_priority >> self._shift)

    def drop(self) -> bool:
        """Priority drop; whether there was anything to drop."""
        dropped = bool(self.bits)
        self.bits &= self.bits - 1 if dropped else 0
        return dropped

    def preempted_by(self, group_priority: int) -> bool:
        """Whether an interrupt of ``group_priority`` may be signalled: equals never preempt."""
        return not self.bits or group_priority < self.running
