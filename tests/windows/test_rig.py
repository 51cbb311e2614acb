"""The rig itself: what it waits for has a bound, and it says what it waited for."""

import pytest

from hdl.config import DISTRIBUTOR
from hdl.registers.gicd import GicdRegister
from hdl.registers.gits import encode_int
from hdl.tap import EventKind

from .. import its_driver
from . import rig as rig_module
from .rig import DEVICE, EVENT, EVENTS, LPI, lpi_of


def test_it_starts_from_the_same_state_again_and_again(rig):
    for event in rig.each(EVENTS):
        assert rig.bench.events == []
        tail = rig.its.tail
        rig.its.run(encode_int(DEVICE, event))
        assert rig.its.tail != tail
        rig.settle()
        assert rig.cpu[0].irq
    assert rig.bench.events == []
    assert not rig.cpu[0].irq


def test_messages_come_when_they_were_asked_for(rig):
    start = rig.bench.cycle
    rig.send(after=50)
    rig.send(1, after=80)
    first, second = (rig.wait(EventKind.PENDING_SET, id=lpi) for lpi in (LPI, lpi_of(1)))
    assert first.cycle > start + 50
    assert second.cycle > start + 80


@pytest.mark.parametrize("bits", [0, 13])
def test_size_of_a_translation_table(rig, bits):
    with pytest.raises(ValueError, match=rf"^bits must be between 1 and 12, not {bits}$"):
        rig.its.map_device(1, bits)


def test_bounded_waits(rig, stalling, monkeypatch):
    monkeypatch.setattr(its_driver, "POLL_BOUND", 20)
    monkeypatch.setattr(rig_module, "WAIT_BOUND", 2000)
    with pytest.raises(AssertionError, match=r"^Read ICENABLER 20 times; it was never zero$"):
        rig.its.poll(0, DISTRIBUTOR.base + GicdRegister.TYPER, 0x1F, "ICENABLER")
    with pytest.raises(AssertionError, match=r"^Waited 2000 clocks for EOI with {'unit': 1}$"):
        rig.wait(EventKind.EOI, unit=1)
    with pytest.raises(AssertionError, match=r"^Read GITS_CREADR 20 times; it stays at 0x"):
        stalling.its.run(encode_int(DEVICE, 99), encode_int(DEVICE, EVENT))
    monkeypatch.setattr(rig_module, "QUIET", 200)
    for i in range(20):
        rig.send(EVENT, after=100 * i)
    with pytest.raises(AssertionError, match=r"^Something was still happening after 2000 clocks$"):
        rig.settle()
