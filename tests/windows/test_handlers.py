"""Windows of a handler at work: W2 and W4. An LPI has no active state that would hold it back."""

from hdl.config import DISTRIBUTOR
from hdl.registers.gicd import GicdRegister
from hdl.registers.gits import encode_inv, encode_movi, encode_sync
from hdl.tap import EventKind

from .rig import DEVICE, EVENT, LPI, Rig

SPI = 40
MOVE_TO_1 = (encode_movi(DEVICE, EVENT, 1), encode_sync(0))
EARLY_EOI = 0b10
"""ICC_CTLR_EL1.EOImode: EOIR drops the priority, DIR deactivates."""


def end_early(rig: Rig) -> None:
    for cpu in rig.cpu:
        cpu.write_sysreg("ICC_CTLR_EL1", EARLY_EOI)


# W2: the handler runs on one CPU, the interrupt has moved to another.


def test_w2_two_cpus_are_in_the_handler_of_one_lpi(rig):
    end_early(rig)
    rig.send()
    rig.settle()
    assert rig.acknowledge(0) == LPI
    rig.end(0, LPI)  # and the handler begins
    rig.its.run(*MOVE_TO_1)
    rig.send()
    rig.settle()
    assert rig.cpu[1].irq
    assert rig.acknowledge(1) == LPI, "while the handler on CPU 0 has not returned"


def test_w2_needs_no_early_eoi(rig):
    """The running priority of CPU 0 holds nothing back at CPU 1."""
    rig.send()
    rig.settle()
    assert rig.acknowledge(0) == LPI
    rig.its.run(*MOVE_TO_1)
    rig.send()
    rig.settle()
    assert rig.acknowledge(1) == LPI


def test_w2_is_closed_by_masking_the_lpi_while_its_handler_runs(rig):
    rig.send()
    rig.settle()
    assert rig.acknowledge(0) == LPI
    mask = encode_inv(DEVICE, EVENT)
    rig.its.configure(LPI, enable=False)
    rig.its.run(mask, encode_sync(0), *MOVE_TO_1, mask, encode_sync(1))
    rig.send()
    rig.settle()
    assert not rig.cpu[1].irq
    rig.end(0, LPI)  # the handler has returned
    rig.its.configure(LPI)
    rig.its.run(mask, encode_sync(1))
    assert rig.handle_all() == [(1, LPI)], "the event that came meanwhile"


def test_w2_is_not_there_with_an_spi(rig):
    """The active state of an SPI is one for the whole machine."""
    end_early(rig)
    gicd, cpu = DISTRIBUTOR.base, rig.cpu[0]
    word, bit = SPI // 32 * 4, 1 << SPI % 32
    cpu.write(gicd + GicdRegister.IGROUPR + word, bit)
    cpu.write(gicd + GicdRegister.ICFGR + SPI // 16 * 4, 0b10 << SPI % 16 * 2)
    cpu.write(gicd + GicdRegister.ISENABLER + word, bit)
    cpu.write(gicd + GicdRegister.ISPENDR + word, bit)
    rig.settle()
    assert rig.acknowledge(0) == SPI
    rig.end(0, SPI)
    cpu.write64(gicd + GicdRegister.IROUTER + 8 * SPI, 1)
    cpu.write(gicd + GicdRegister.ISPENDR + word, bit)
    rig.settle()
    assert not rig.cpu[1].irq, "while the handler on CPU 0 has not returned"
    rig.cpu[0].write_sysreg("ICC_DIR_EL1", SPI)
    rig.settle()
    assert rig.cpu[1].irq
    assert rig.acknowledge(1) == SPI


# W4: the same CPU, as soon as it can be interrupted.


def test_w4_the_same_lpi_interrupts_its_own_handler(rig):
    end_early(rig)
    rig.send()
    rig.settle()
    assert rig.acknowledge(0) == LPI
    rig.end(0, LPI)  # and the handler begins
    rig.send()
    rig.wait(EventKind.LINE, unit=0, data=1)
    assert rig.acknowledge(0) == LPI
    rig.end(0, LPI)
    assert rig.handle_all() == []


def test_w4_is_closed_by_the_running_priority_until_eoi(rig):
    for mode in rig.each((0, EARLY_EOI)):
        rig.cpu[0].write_sysreg("ICC_CTLR_EL1", mode)
        rig.send()
        rig.settle()
        assert rig.acknowledge(0) == LPI
        rig.send()
        rig.settle()
        assert not rig.cpu[0].irq
        rig.end(0, LPI)
        assert rig.handle_all() == [(0, LPI)], "after the handler, and once"
