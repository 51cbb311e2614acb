"""Windows of the property table: W5 and W6.

A redistributor remembers the byte of an LPI. Who changes it in RAM has to say so, and to wait.
"""

import pytest

from hdl.gic.interfaces import NO_INTERRUPT
from hdl.registers.gicr import GicrRegister
from hdl.registers.gits import encode_inv, encode_invall, encode_sync

from .rig import DEVICE, EVENT, LPI, Rig

FAR = 200
SYNC = encode_sync(0)
INVALIDATIONS = {"inv": encode_inv(DEVICE, EVENT), "invall": encode_invall(0)}


def invalidate_by_register(rig: Rig, register: GicrRegister) -> None:
    """INVLPIR or INVALLR of CPU 0, and SYNCR until it is not busy."""
    base = rig.bench.config.redistributors[0].base
    rig.cpu[0].write(base + register, LPI if register == GicrRegister.INVLPIR else 0)
    rig.its.poll(0, base + GicrRegister.SYNCR, 1, "GICR_SYNCR.Busy")


# W5: disabled in RAM.


def test_w5_a_cleared_enable_bit_does_not_count_yet(rig):
    rig.warm()
    rig.its.configure(LPI, enable=False)
    rig.send()
    assert rig.handle_all() == [(0, LPI)]


@pytest.mark.parametrize("command", INVALIDATIONS)
def test_w5_is_not_closed_by_an_invalidation_alone(rig, command):
    rig.warm()
    rig.set_knobs(link_distance=FAR)
    rig.send()
    rig.settle()
    rig.its.configure(LPI, enable=False)
    rig.its.run(INVALIDATIONS[command])
    assert rig.cpu[0].irq, "consumed, but not there yet"
    assert rig.acknowledge(0) == LPI


@pytest.mark.parametrize("command", INVALIDATIONS)
def test_w5_is_closed_by_an_invalidation_and_sync(rig, command):
    rig.warm()
    rig.set_knobs(link_distance=FAR)
    rig.send()
    rig.settle()
    rig.its.configure(LPI, enable=False)
    rig.its.run(INVALIDATIONS[command], SYNC)
    assert not rig.cpu[0].irq
    assert rig.acknowledge(0) == NO_INTERRUPT
    rig.send()
    assert rig.handle_all() == []


@pytest.mark.parametrize("register", [GicrRegister.INVLPIR, GicrRegister.INVALLR])
def test_w5_is_closed_by_the_redistributors_own_registers(rig, register):
    rig.warm()
    rig.send()
    rig.settle()
    rig.its.configure(LPI, enable=False)
    invalidate_by_register(rig, register)
    assert rig.acknowledge(0) == NO_INTERRUPT


def test_property_that_nobody_has_read_counts_at_once(rig):
    """Nothing is remembered before the first event."""
    rig.its.configure(LPI, enable=False)
    rig.send()
    assert rig.handle_all() == []


def test_priority_is_remembered_like_the_enable_bit(rig):
    rig.warm()
    rig.its.configure(LPI, priority=0xF8)  # as low as the mask: never signalled
    rig.send()
    assert rig.handle_all() == [(0, LPI)]
    rig.its.run(INVALIDATIONS["inv"], SYNC)
    rig.send()
    assert rig.handle_all() == []


# W6: enabled in RAM; what came while it was disabled is not lost.


def disable_and_send(rig: Rig) -> None:
    rig.warm()
    rig.its.configure(LPI, enable=False)
    rig.its.run(INVALIDATIONS["inv"], SYNC)
    rig.send()
    assert rig.handle_all() == []
    assert rig.arrivals()[-1] == (0, LPI), "recorded all the same"
    rig.its.configure(LPI)


def test_w6_a_set_enable_bit_does_not_count_yet(rig):
    disable_and_send(rig)
    assert rig.handle_all() == []
    rig.set_knobs(link_distance=FAR)
    rig.its.run(INVALIDATIONS["inv"])
    assert not rig.cpu[0].irq, "consumed, but not there yet"


@pytest.mark.parametrize("command", INVALIDATIONS)
def test_w6_is_closed_by_an_invalidation_and_sync(rig, command):
    disable_and_send(rig)
    rig.set_knobs(link_distance=FAR)
    rig.its.run(INVALIDATIONS[command], SYNC)
    assert rig.cpu[0].irq
    assert rig.handle_all() == [(0, LPI)]


@pytest.mark.parametrize("register", [GicrRegister.INVLPIR, GicrRegister.INVALLR])
def test_w6_is_closed_by_the_redistributors_own_registers(rig, register):
    disable_and_send(rig)
    invalidate_by_register(rig, register)
    assert rig.handle_all() == [(0, LPI)]
