"""Window W11: an SPI is moved while it is active, and the CPU that took it ends it.

A deactivation is a message to the distributor, not a bit that flips. One that comes from a CPU
the interrupt no longer belongs to must count; ``lose_foreign_deactivate`` is the silicon in which
it does not (GIC-700 erratum 2941627).
"""

import pytest

from hdl.config import DISTRIBUTOR
from hdl.gic.interfaces import NO_INTERRUPT
from hdl.registers.gicd import GicdRegister
from hdl.tap import EventKind

from .rig import Rig

SPI = 40
WORD, BIT = SPI // 32 * 4, 1 << SPI % 32
FAR = 200
SPLIT = 0b10
RWP = 1 << 31
MODES = {"eoir": 0, "dir": SPLIT}
"""How a CPU deactivates, and the EOImode for it."""


class Spi:
    """One edge-triggered SPI through the distributor's registers, as CPU 0 writes them."""

    def __init__(self, rig: Rig):
        self.rig = rig
        self.write(GicdRegister.IGROUPR)
        self.write(GicdRegister.ICFGR - WORD + SPI // 16 * 4, 0b10 << SPI % 16 * 2)
        self.write(GicdRegister.ISENABLER)

    def write(self, register: int, value: int = BIT) -> None:
        self.rig.cpu[0].write(DISTRIBUTOR.base + register + WORD, value)

    def make_pending(self) -> None:
        self.write(GicdRegister.ISPENDR)

    def route(self, cpu: int) -> None:
        self.rig.cpu[0].write64(DISTRIBUTOR.base + GicdRegister.IROUTER + 8 * SPI, cpu)

    @property
    def active(self) -> bool:
        offset = GicdRegister.ISACTIVER + WORD
        return bool(self.rig.cpu[0].read(DISTRIBUTOR.base + offset) & BIT)

    def take_at_0(self) -> None:
        self.rig.settle()
        assert self.rig.acknowledge(0) == SPI

    def end_at_0(self, mode: int) -> None:
        self.rig.end(0, SPI)
        if mode == SPLIT:
            self.rig.cpu[0].write_sysreg("ICC_DIR_EL1", SPI)


def moved_while_active(rig: Rig, mode: int = SPLIT) -> Spi:
    """An SPI that CPU 0 handles, that is routed to CPU 1 by now and pending again."""
    for cpu in rig.cpu:
        cpu.write_sysreg("ICC_CTLR_EL1", mode)
    spi = Spi(rig)
    spi.make_pending()
    spi.take_at_0()
    spi.route(1)
    spi.make_pending()
    rig.settle()
    assert spi.active
    assert not rig.cpu[1].irq
    return spi


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_w11_ended_by_the_old_cpu_it_goes_to_the_new_one(rig, mode):
    spi = moved_while_active(rig, mode)
    spi.end_at_0(mode)
    rig.settle()
    assert not spi.active
    assert rig.handle_all() == [(1, SPI)]


def test_w11_a_deactivation_is_under_way(rig):
    spi = moved_while_active(rig)
    rig.set_knobs(deactivate_distance=FAR)
    spi.end_at_0(SPLIT)
    asked = rig.bench.cycle
    assert spi.active
    assert not rig.cpu[1].irq
    assert rig.wait(EventKind.LINE, unit=1, data=1).cycle - asked > FAR // 2
    assert not spi.active


def test_w11_the_window_is_closed_by_reading_the_active_bit_back(rig):
    spi = moved_while_active(rig)
    rig.set_knobs(deactivate_distance=FAR)
    spi.end_at_0(SPLIT)
    rig.its.poll(0, DISTRIBUTOR.base + GicdRegister.ISACTIVER + WORD, BIT, "ISACTIVER")
    assert rig.handle_all() == [(1, SPI)]


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_w11_erratum_leaves_the_interrupt_active_for_ever(rig, mode):
    rig.set_knobs(lose_foreign_deactivate=1)
    spi = moved_while_active(rig, mode)
    spi.end_at_0(mode)
    rig.settle()
    assert spi.active
    assert rig.handle_all() == []
    spi.make_pending()
    assert rig.handle_all() == []


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_w11_erratum_is_closed_by_icactiver(rig, mode):
    rig.set_knobs(lose_foreign_deactivate=1)
    spi = moved_while_active(rig, mode)
    spi.end_at_0(mode)
    spi.write(GicdRegister.ICACTIVER)
    assert rig.handle_all() == [(1, SPI)]
    assert rig.seen(EventKind.ACKNOWLEDGE, unit=1, id=SPI)


def test_w11_erratum_needs_the_move(rig):
    rig.set_knobs(lose_foreign_deactivate=1)
    spi = Spi(rig)
    spi.make_pending()
    spi.take_at_0()
    spi.end_at_0(0)
    rig.settle()
    assert not spi.active


def test_masked_without_waiting_for_rwp_can_still_be_taken(rig):
    rig.set_knobs(withdraw_distance=FAR)
    spi = Spi(rig)
    spi.make_pending()
    rig.settle()
    spi.write(GicdRegister.ICENABLER)
    assert rig.acknowledge(0) == SPI


def test_masked_and_rwp_waited_for_is_not_taken(rig):
    rig.set_knobs(withdraw_distance=FAR)
    spi = Spi(rig)
    spi.make_pending()
    rig.settle()
    spi.write(GicdRegister.ICENABLER)
    rig.its.poll(0, DISTRIBUTOR.base + GicdRegister.CTLR, RWP, "GICD_CTLR.RWP")
    assert rig.acknowledge(0) == NO_INTERRUPT
