"""Window W8: an event is unmapped while its message is under way.

The message is delivered or dropped, and either way nothing stays behind: the next event of a new
mapping is one interrupt.
"""

import pytest

from hdl.registers.gits import Reason, encode_discard, encode_mapd, encode_mapti, encode_sync
from hdl.tap import EventKind

from ..its_driver import ITTS
from .rig import DEVICE, EVENT, EVENT_BITS, LPI

FAR = 250
"""A distance longer than the commands take when there is nothing to wait for, in clocks."""
OFFSETS = range(-280, 120, 5)
"""Clocks from CPU 0's write of CWRITER to the device's message."""
SYNC = encode_sync(0)
UNMAP = {
    "discard": encode_discard(DEVICE, EVENT),
    "mapd": encode_mapd(DEVICE, EVENT_BITS, ITTS, valid=False),
}
MAP_AGAIN = (
    encode_mapd(DEVICE, EVENT_BITS, ITTS),
    encode_mapti(DEVICE, EVENT, LPI, 0),
)


@pytest.mark.parametrize("command", UNMAP)
def test_w8_a_message_in_flight_is_delivered_after_its_event_was_unmapped(rig, command):
    rig.warm()
    rig.set_knobs(translation_distance=FAR)
    rig.send()
    rig.wait(EventKind.TRANSLATION)
    rig.its.run(UNMAP[command])
    consumed = rig.bench.cycle
    rig.settle()
    assert rig.arrivals(since=consumed) == [(0, LPI)]
    assert rig.handle_all() == [(0, LPI)]


@pytest.mark.parametrize("command", UNMAP)
def test_w8_what_comes_later_is_dropped(rig, command):
    rig.warm()
    rig.its.run(UNMAP[command])
    rig.send()
    assert rig.handle_all() == []
    (dropped,) = rig.seen(EventKind.TRANSLATION_DROPPED)
    expected = {"discard": Reason.UNMAPPED_INTERRUPT, "mapd": Reason.UNMAPPED_DEVICE}
    assert (dropped.id, dropped.address, dropped.data) == (DEVICE, EVENT, expected[command])


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("command", UNMAP)
def test_w8_over_every_offset_delivered_or_dropped_and_nothing_left(rig, command, cached):
    if cached:
        rig.warm()
    rig.set_knobs(translation_distance=FAR)
    fates = set()
    for offset in rig.each(OFFSETS):
        rig.send(after=max(offset, 0))
        rig.step(max(-offset, 0))
        rig.its.run(UNMAP[command])
        delivered = rig.handle_all()
        translated = rig.seen(EventKind.TRANSLATION)
        dropped = rig.seen(EventKind.TRANSLATION_DROPPED)
        assert len(translated) + len(dropped) == 1, f"offset {offset}"
        assert delivered in ([], [(0, LPI)]), f"offset {offset}"
        assert not (delivered and dropped), f"offset {offset}"
        fates.add((bool(delivered), bool(dropped)))
        rig.its.run(*MAP_AGAIN)
        rig.send()
        assert rig.handle_all() == [(0, LPI)], f"offset {offset}: the next event"
    assert {(True, False), (False, True)} <= fates


@pytest.mark.parametrize("command", UNMAP)
def test_w8_after_sync_nothing_more_becomes_pending(rig, command):
    rig.warm()
    rig.set_knobs(translation_distance=FAR)
    for offset in rig.each(OFFSETS):
        rig.send(after=max(offset, 0))
        rig.step(max(-offset, 0))
        rig.its.run(UNMAP[command], SYNC)
        consumed = rig.bench.cycle
        rig.settle()
        assert rig.arrivals(since=consumed) == [], f"offset {offset}"


def test_w8_is_closed_by_a_sync_before_discard(rig):
    """The device is quiet, SYNC drains what it sent, DISCARD clears it: nothing is delivered."""
    rig.warm()
    rig.set_knobs(translation_distance=FAR)
    for before in rig.each(range(8, FAR + 40, 4)):
        rig.send()
        rig.step(before)
        rig.its.run(SYNC, UNMAP["discard"], SYNC)
        assert rig.handle_all() == [], f"sent {before} clocks before"
