"""The race windows of LPIs and SPIs on the whole machine: each reached, each closed.

The numbers are those of our notes on what GICv3 leaves open between a message, a command and an
acknowledge (Arm IHI 0069 orders none of these without SYNC).

======  =======================================================  ===============================
window  reached by                                               closed by
======  =======================================================  ===============================
W1      a message translated before MOVI lands at the old CPU    SYNC of the old CPU behind MOVI
W2      MOVI while the handler runs: the next event interrupts   the LPI masked while it is
        the new CPU; an LPI has no active state                  handled; an SPI needs nothing
W3      events before and after MOVI: one interrupt or two       SYNC before MOVI as well
W4      EOI before the handler: it interrupts itself             EOI behind the handler
W5      enable bit cleared in RAM only; or INV without SYNC      INV or INVALL, and SYNC; INVLPIR
                                                                 or INVALLR, and SYNCR
W6      enable bit set in RAM only; pending is kept meanwhile    the same
W7      a message translated before MAPC lands behind MOVALL     MAPC, SYNC, MOVALL, SYNC
W8      a message translated before DISCARD or MAPD V=0          SYNC before DISCARD
W9      a faulty command between MOVI and SYNC stalls the queue  repair and CWRITER.Retry; or
                                                                 ``its_on_error="skip"``
W10     LPIs are off at the destination: dropped there           on first, then the move; or
                                                                 ``lpi_keep_if_disabled``
W11     an SPI moves while active: its deactivation is under     reading ISACTIVER back; of the
        way; with the erratum it never arrives                   erratum: ICACTIVER
======  =======================================================  ===============================

W1, W3, W7, W10: ``test_moves``. W2, W4: ``test_handlers``. W5, W6: ``test_properties``.
W8: ``test_unmapping``. W9: ``test_stall``. W11: ``test_deactivation``.
Choices that the architecture leaves open: ``test_choices``. Clocks: ``latency``.
"""
