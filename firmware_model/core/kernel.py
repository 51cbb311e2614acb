"""What changed between kernel releases and matters to interrupt races."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Kernel:
    """One kernel's habits. The defaults are those of Linux 7.1.

    Attributes
    ----------
    edge_busy_wait : bool
        An edge interrupt that finds its handler running elsewhere waits on its new CPU (6.17)
        instead of making the old CPU run the handler again.
    fasteoi_resend : bool
        The fasteoi flow remembers what came during the handler, and sends it again (6.5).
    msi_read_back : bool
        A message update ends with a read of the function, which flushes it (5.14).
    msix_masked_update : bool
        An MSI-X entry that is not masked is masked around its update (5.14).
    msix_unmask_read_back : bool
        Unmasking an MSI-X entry is followed by a read (before 5.16).
    assert_bit : bool
        Message data has the level-assert bit set (before 5.12).
    cleanup_timer : bool
        The old vector is given back by a timer on the old CPU (6.6), not by an IPI to it.
    msi_startup : bool
        On Arm a function's mask bits change when an interrupt starts and ends only (6.17), not
        whenever it is masked.
    mapping_locked : bool
        To look for a mapping and to create it are one critical section (6.3).
    """

    edge_busy_wait: bool = True
    fasteoi_resend: bool = True
    msi_read_back: bool = True
    msix_masked_update: bool = True
    msix_unmask_read_back: bool = False
    assert_bit: bool = False
    cleanup_timer: bool = True
    msi_startup: bool = True
    mapping_locked: bool = True


LINUX_7_1 = Kernel()
LINUX_6_12 = replace(LINUX_7_1, edge_busy_wait=False, msi_startup=False)
LINUX_6_1 = replace(LINUX_6_12, fasteoi_resend=False, cleanup_timer=False, mapping_locked=False)
LINUX_5_10 = replace(LINUX_6_1, msix_unmask_read_back=True, assert_bit=True)
"""With its stable updates: the two MSI repairs of 5.14 are in it."""
