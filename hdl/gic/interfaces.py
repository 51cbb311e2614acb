"""What the blocks of the interrupt controller say to each other.

Three links carry everything between them:

* a *candidate* runs from each source (SPIs of the distributor, SGIs and PPIs and LPIs of a
  redistributor) to the CPU interface: the best interrupt that could be signalled now;
* an *acknowledge* and a *deactivate* run back;
* *LPI commands* run from the ITS (and from direct-LPI registers) to a redistributor's LPI engine,
  and from one engine to another when a pending LPI moves.
"""

from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import Out

INTID_BITS = 16
PRIORITY_BITS = 5
"""Implemented bits of an 8-bit priority, at its top; the low three read as zero."""

NO_INTERRUPT = 1023
FIRST_SPI = 32
FIRST_LPI = 8192


class Candidate(data.Struct):
    """The best interrupt a source could signal to one CPU now.

    ``priority`` holds all eight bits; a lower value is more urgent. Among equals the lowest INTID
    wins. A candidate is pending, enabled, in an enabled group and (SPI, PPI, SGI) not active.
    """

    valid: 1
    intid: INTID_BITS
    priority: 8


class AcknowledgeSignature(wiring.Signature):
    """Seen from the CPU interface: the candidate ``intid`` was acknowledged in this clock.

    Given only for the candidate the source shows in the same clock; its pending state is gone,
    its active state set and the candidate re-evaluated (or invalid) from the next clock on.
    """

    def __init__(self):
        super().__init__({"valid": Out(1), "intid": Out(INTID_BITS)})


class Deactivate(data.Struct):
    """Deactivation of one INTID below 1020, a message that takes time to arrive."""

    intid: INTID_BITS


class LpiOperation(enum.Enum, shape=3):
    """What an LPI engine is told; ``intid`` counts except for INVALIDATE_ALL, MOVE_ALL, SYNC."""

    SET = 0  #: make pending
    CLEAR = 1  #: no longer pending
    MOVE = 2  #: if pending here: clear here and SET at ``target``
    INVALIDATE = 3  #: drop the cached property of one LPI: read the table again
    INVALIDATE_ALL = 4  #: ... of every LPI
    MOVE_ALL = 5  #: hand every pending LPI to ``target``
    SYNC = 6  #: no effect; its acknowledgement says that everything before it has taken effect


class LpiCommand(data.Struct):
    """One command to an LPI engine; ``target`` is a CPU number.

    INVALIDATE_ALL covers every LPI of the CPU, which contains those of any collection.
    """

    operation: LpiOperation
    intid: INTID_BITS
    target: 8


class LpiLink(wiring.Signature):
    """Commands towards one LPI engine, and how it says that they are done.

    Seen from the one who commands. ``synced`` is high for one clock when a SYNC and every
    command before it has taken effect: pending bits set, configurations read, hand-overs
    accepted *and carried out* by their target. Commands of one link take effect in order.
    """

    def __init__(self):
        super().__init__({"command": Out(stream.Signature(LpiCommand)), "synced": wiring.In(1)})
