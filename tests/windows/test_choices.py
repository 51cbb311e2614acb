"""What the architecture leaves open, what it is here, and which test shows it.

======================  =====================================  ====================================
choice                  option, or what it always is           shown by
======================  =====================================  ====================================
command error           ``SocConfig.its_on_error``: "skip" or  ``test_stall``: stall; its last
                        "stall"                                test, skip
translation pipeline    ``translation_distance``,              ``test_moves``: W1, W3, W7; with 0,
                        ``link_distance``: 0 to 255 clocks in  ``..._while_translation_is_atomic``
                        flight
property cache          an LPI's byte from its first event to  ``test_properties``: W5, W6, and
                        INV, INVALL, INVLPIR, INVALLR          ``..._counts_at_once``
LPI collation           ``lpi_duplicate``: merge, or one more  ``test_a_second_event_...``, both
move to LPIs off        ``lpi_keep_if_disabled``: drop, or     ``test_moves``: W10, both
                        keep at the source
message to LPIs off     dropped, PENDING_DROPPED               ``test_moves``: W10
MSI without bus master  quirk ``hold_when_no_master``: drop,   ``test_without_bus_master_...``,
                        or hold                                both
foreign deactivation    counts; ``lose_foreign_deactivate``:   ``test_deactivation``: W11, both
                        lost, an erratum
distances               ``deactivate_distance``,               ``test_deactivation``;
                        ``withdraw_distance``,                 ``test_moves``: W3 and the chain
                        ``handover_distance``
LPIs without an ITS     ``SocConfig.its``                      ``test_latency``:
                                                               ``..._direct_lpis_...``
tie-break               lowest INTID                           ``test_equal_priorities_...``
priority bits           the upper 5                            ``test_five_bits_of_priority``
level SPI and ISPENDR   pending while latch or line            ``test_a_level_spi_...``
unmapped event          dropped, TRANSLATION_DROPPED with the  ``test_an_event_without_...``;
                        reason                                 ``test_unmapping``: W8
======================  =====================================  ====================================
"""

import pytest

from hdl.config import DISTRIBUTOR
from hdl.registers.gicd import GicdRegister
from hdl.registers.gits import Reason, encode_inv, encode_sync
from hdl.registers.pci import COMMAND_MASTER, COMMAND_MEMORY, Header
from hdl.tap import EventKind

from .rig import DEVICE, EVENT, LPI, Rig, lpi_of

SPI = 40
WORD, BIT = SPI // 32 * 4, 1 << SPI % 32


# LPI collation


@pytest.mark.parametrize(("duplicate", "handled"), [(0, 1), (1, 2)])
def test_a_second_event_of_a_pending_lpi_merges_or_counts_again(rig, duplicate, handled):
    rig.warm()
    rig.set_knobs(lpi_duplicate=duplicate)
    for _ in range(2):
        rig.send()
        rig.settle()
    assert rig.handle_all() == [(0, LPI)] * handled


@pytest.mark.parametrize("duplicate", [0, 1])
def test_an_event_after_the_acknowledge_is_never_merged(rig, duplicate):
    rig.warm()
    rig.set_knobs(lpi_duplicate=duplicate)
    rig.send()
    rig.settle()
    assert rig.acknowledge(0) == LPI
    rig.send()
    rig.settle()
    rig.end(0, LPI)
    assert rig.handle_all() == [(0, LPI)]


# MSI of a function without bus mastering


@pytest.mark.parametrize("hold", [0, 1])
def test_without_bus_master_a_message_is_dropped_or_held(rig, hold):
    intid = rig.set_up_msi(master=False)
    endpoint = rig.bench.endpoint[0]
    rig.bench.poke("quirks_0_hold_when_no_master", hold)
    endpoint.raise_event()
    assert rig.handle_all() == []
    assert not rig.seen(EventKind.MESSAGE)
    assert len(rig.seen(EventKind.MESSAGE_BLOCKED, unit=0)) == 1
    endpoint.config_write(Header.COMMAND, COMMAND_MEMORY | COMMAND_MASTER, 2)
    assert rig.handle_all() == [(1, intid)] * hold
    endpoint.raise_event()
    assert rig.handle_all() == [(1, intid)], "bus master at last"


# What is always the same


def test_an_event_without_translation_is_dropped_with_the_reason(rig):
    rig.send(99)
    assert rig.handle_all() == []
    (dropped,) = rig.seen(EventKind.TRANSLATION_DROPPED)
    assert (dropped.id, dropped.address) == (DEVICE, 99)
    assert dropped.data == Reason.UNMAPPED_INTERRUPT
    rig.send(1 << 12)
    rig.settle()
    assert rig.seen(EventKind.TRANSLATION_DROPPED)[-1].data == Reason.ID_OOR


def make_spi(rig: Rig, *, edge: bool, priority: int) -> None:
    gicd, cpu = DISTRIBUTOR.base, rig.cpu[0]
    cpu.write(gicd + GicdRegister.IGROUPR + WORD, BIT)
    cpu.write(gicd + GicdRegister.ICFGR + SPI // 16 * 4, edge << SPI % 16 * 2 + 1)
    cpu.write(gicd + GicdRegister.IPRIORITYR + SPI, priority, 1)
    cpu.write(gicd + GicdRegister.ISENABLER + WORD, BIT)


def test_equal_priorities_are_decided_by_the_intid(rig):
    make_spi(rig, edge=True, priority=0xA0)
    rig.cpu[0].write_sysreg("ICC_PMR_EL1", 0)  # nothing passes
    for event in (3, 1):
        rig.send(event)
        rig.settle()
    rig.cpu[0].write(DISTRIBUTOR.base + GicdRegister.ISPENDR + WORD, BIT)
    rig.settle()
    rig.cpu[0].write_sysreg("ICC_PMR_EL1", 0xF8)
    assert rig.handle_all() == [(0, SPI), (0, lpi_of(1)), (0, lpi_of(3))]


def test_five_bits_of_priority(rig):
    place = DISTRIBUTOR.base + GicdRegister.IPRIORITYR + SPI
    rig.cpu[0].write(place, 0xFF, 1)
    assert rig.cpu[0].read(place, 1) == 0xF8
    rig.its.configure(LPI, priority=0xA4)  # 0xA0 here
    rig.its.run(encode_inv(DEVICE, EVENT), encode_sync(0))
    rig.send()
    rig.settle()
    assert rig.acknowledge(0) == LPI
    assert rig.cpu[0].read_sysreg("ICC_RPR_EL1") == 0xA0


@pytest.mark.parametrize("line", [False, True])
@pytest.mark.parametrize("latch", [False, True])
def test_a_level_spi_is_pending_while_latch_or_line(rig, latch, line):
    make_spi(rig, edge=False, priority=0xA0)
    if latch:
        rig.cpu[0].write(DISTRIBUTOR.base + GicdRegister.ISPENDR + WORD, BIT)
    rig.bench.set_wire(SPI, line)
    rig.settle()
    assert rig.cpu[0].irq == (latch or line)
    if latch or line:
        assert rig.acknowledge(0) == SPI
        rig.bench.set_wire(SPI, False)
        rig.end(0, SPI)
        assert rig.handle_all() == [], "the acknowledge has taken the latch"
