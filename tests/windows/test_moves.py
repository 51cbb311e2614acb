"""Windows of a moving LPI: W1, W3, W7, W10, and the chain A to B to C.

MOVI changes where an event goes and takes along what is pending; the message that was translated
a moment earlier knows nothing of it.
"""

import pytest

from hdl.registers.gits import encode_mapc, encode_movall, encode_movi, encode_sync
from hdl.tap import EventKind

from .rig import DEVICE, EVENT, LPI, Rig

FAR = 250
"""A distance longer than MOVI and SYNC take when there is nothing to wait for, in clocks."""
PROPERTY_READ = 5
"""Clocks that an LPI is later if the engine has to read its property first."""
OFFSETS = range(-280, 200, 5)
"""Clocks from CPU 0's write of CWRITER to the device's message."""

MOVI = encode_movi(DEVICE, EVENT, 1)
SYNC_OLD = encode_sync(0)


def race(rig: Rig, offset: int, *commands) -> int:
    """The device's message ``offset`` clocks after the commands are handed over.

    Returns the clock in which software has seen them consumed.
    """
    rig.send(after=max(offset, 0))
    rig.step(max(-offset, 0))
    rig.its.run(*commands)
    return rig.bench.cycle


# W1: a message that was translated before MOVI lands behind it.


def test_w1_a_message_in_flight_reaches_the_old_cpu_after_movi(rig):
    rig.warm()
    rig.set_knobs(translation_distance=FAR)
    rig.send()
    rig.wait(EventKind.TRANSLATION, unit=0)
    rig.its.run(MOVI)
    consumed = rig.bench.cycle
    rig.settle()
    assert rig.arrivals(since=consumed) == [(0, LPI)]
    assert (rig.cpu[0].irq, rig.cpu[1].irq) == (True, False)
    assert rig.handle_all() == [(0, LPI)]
    rig.send()
    assert rig.handle_all() == [(1, LPI)]


def test_w1_is_closed_by_sync_of_the_old_cpu(rig):
    rig.warm()
    rig.set_knobs(translation_distance=FAR)
    rig.send()
    rig.wait(EventKind.TRANSLATION, unit=0)
    rig.its.run(MOVI, SYNC_OLD)
    consumed = rig.bench.cycle
    assert rig.cpu[0].irq, "what was on its way has landed when SYNC is consumed"
    rig.send()
    rig.settle()
    assert rig.arrivals(since=consumed) == [(1, LPI)]


@pytest.mark.parametrize("cpu", [0, 1])
def test_w1_only_sync_of_the_old_cpu_waits_for_its_link(rig, cpu):
    rig.warm()
    rig.set_knobs(link_distance=FAR)
    rig.send()
    rig.wait(EventKind.TRANSLATION, unit=0)
    rig.step(5)  # onto the link
    rig.set_knobs(link_distance=0)
    rig.its.run(encode_sync(cpu))
    consumed = rig.bench.cycle
    rig.settle()
    assert rig.arrivals() == [(0, LPI)]
    assert rig.arrivals(since=consumed) == ([] if cpu == 0 else [(0, LPI)])


@pytest.mark.parametrize("link", ["translation_distance", "link_distance"])
def test_w1_over_every_offset(rig, link):
    """Without SYNC some message lands at the old CPU after MOVI was seen consumed; with it none."""
    rig.warm()
    rig.set_knobs(**{link: FAR})
    late = {False: 0, True: 0}
    for synced in late:
        commands = (MOVI, SYNC_OLD) if synced else (MOVI,)
        for offset in rig.each(OFFSETS):
            consumed = race(rig, offset, *commands)
            handled = rig.handle_all()
            assert len(handled) == 1, f"offset {offset}: one event, handled {handled}"
            late[synced] += (0, LPI) in rig.arrivals(since=consumed)
    assert late[False] > 0
    assert late[True] == 0


@pytest.mark.parametrize("cached", [True, False])
def test_w1_is_not_there_while_translation_is_atomic(rig, cached):
    """With no distance at all, software that has seen MOVI consumed need not wait for a message:
    none is translated for the old CPU, and what was may need the property that MOVI made unknown.
    """
    if cached:
        rig.warm()
    for offset in rig.each(OFFSETS):
        consumed = race(rig, offset, MOVI)
        assert len(rig.handle_all()) == 1, f"offset {offset}"
        assert not rig.seen(EventKind.TRANSLATION, since=consumed, unit=0), f"offset {offset}"
        read = consumed + PROPERTY_READ
        assert (0, LPI) not in rig.arrivals(since=read), f"offset {offset}"
        assert cached or (0, LPI) not in rig.arrivals(since=consumed), f"offset {offset}"


# W3: two events around a MOVI are one interrupt or two, never none.


def test_w3_two_events_are_pending_at_two_cpus(rig):
    rig.warm()
    rig.set_knobs(translation_distance=FAR)
    rig.send()
    rig.wait(EventKind.TRANSLATION, unit=0)
    rig.its.run(MOVI)
    rig.send()
    rig.settle()
    assert rig.arrivals() == [(0, LPI), (1, LPI)]
    assert rig.handle_all() == [(0, LPI), (1, LPI)]


def test_w3_two_events_become_one_through_the_hand_over(rig):
    rig.warm()
    rig.set_knobs(handover_distance=200)
    rig.send()
    rig.wait(EventKind.PENDING_SET, unit=0)
    rig.its.run(MOVI)
    rig.send()
    rig.wait(EventKind.PENDING_SET, unit=1)
    rig.settle()
    assert rig.seen(EventKind.PENDING_MOVED, unit=0, data=1, id=LPI)
    assert rig.handle_all() == [(1, LPI)]


def test_w3_over_every_offset_once_or_twice_but_never_not_at_all(rig):
    rig.warm()
    rig.set_knobs(translation_distance=FAR, handover_distance=40)
    counts = set()
    for offset in rig.each(OFFSETS):
        race(rig, offset, MOVI, SYNC_OLD)
        rig.send()
        counts.add(len(rig.handle_all()))
    assert counts == {1, 2}


def test_w3_is_closed_by_a_sync_before_movi(rig):
    """The device is quiet, SYNC drains what it sent, MOVI takes it along: all is at one CPU."""
    rig.warm()
    rig.set_knobs(translation_distance=FAR, handover_distance=40)
    for before in rig.each(range(8, FAR + 40, 4)):
        rig.send()
        rig.step(before)
        rig.its.run(SYNC_OLD, MOVI, SYNC_OLD)
        rig.send()
        assert rig.handle_all() == [(1, LPI)], f"sent {before} clocks before"


# A to B to C: what is on its way out of A arrives at B when B has been emptied.


def test_second_move_without_sync_leaves_the_interrupt_in_the_middle(rig):
    rig.warm()
    rig.set_knobs(handover_distance=FAR)
    rig.send()
    rig.wait(EventKind.PENDING_SET, unit=0)
    rig.its.run(MOVI, encode_movi(DEVICE, EVENT, 0))
    assert rig.handle_all() == [(1, LPI)], "the second MOVI found nothing at CPU 1 yet"


def test_second_move_after_sync_of_the_first_cpu_finds_it(rig):
    rig.warm()
    rig.set_knobs(handover_distance=FAR)
    rig.send()
    rig.wait(EventKind.PENDING_SET, unit=0)
    rig.its.run(MOVI, SYNC_OLD, encode_movi(DEVICE, EVENT, 0))
    assert rig.handle_all() == [(0, LPI)]


# W7: MOVALL empties a redistributor that events still go to.


def test_w7_a_message_in_flight_lands_behind_movall(rig):
    rig.warm()
    rig.set_knobs(translation_distance=FAR)
    rig.send()
    rig.wait(EventKind.TRANSLATION, unit=0)
    rig.its.run(encode_mapc(0, 1), encode_movall(0, 1))
    consumed = rig.bench.cycle
    rig.settle()
    assert rig.arrivals(since=consumed) == [(0, LPI)]
    assert rig.handle_all() == [(0, LPI)]


def test_w7_movall_before_mapc_leaves_the_door_open(rig):
    rig.warm()
    rig.send()
    rig.settle()
    rig.its.run(encode_movall(0, 1), SYNC_OLD)
    rig.send()
    rig.its.run(encode_mapc(0, 1), SYNC_OLD)
    assert rig.handle_all() == [(0, LPI), (1, LPI)]


def test_w7_is_closed_by_sync_between_mapc_and_movall(rig):
    rig.warm()
    rig.set_knobs(translation_distance=FAR)
    commands = (encode_mapc(0, 1), SYNC_OLD, encode_movall(0, 1), SYNC_OLD)
    for offset in rig.each(OFFSETS):
        consumed = race(rig, offset, *commands)
        rig.settle()
        assert not rig.cpu[0].irq, f"offset {offset}"
        assert (0, LPI) not in rig.arrivals(since=consumed), f"offset {offset}"
        assert rig.handle_all() == [(1, LPI)], f"offset {offset}"


# W10: the destination has its LPIs off.

MOVES = {"movi": MOVI, "movall": encode_movall(0, 1)}


@pytest.mark.parametrize("move", MOVES)
def test_w10_a_move_to_a_cpu_with_lpis_off_loses_the_interrupt(rig, move):
    rig.warm()
    rig.its.switch_lpis(1, False)
    rig.send()
    rig.settle()
    rig.its.run(MOVES[move], SYNC_OLD)
    assert rig.seen(EventKind.PENDING_DROPPED, unit=1, id=LPI)
    assert rig.handle_all() == []


@pytest.mark.parametrize("move", MOVES)
def test_w10_the_interrupt_stays_where_it_is_with_the_other_policy(rig, move):
    rig.warm()
    rig.set_knobs(lpi_keep_if_disabled=1)
    rig.its.switch_lpis(1, False)
    rig.send()
    rig.settle()
    rig.its.run(MOVES[move], SYNC_OLD)
    assert not rig.seen(EventKind.PENDING_DROPPED)
    assert rig.handle_all() == [(0, LPI)]


@pytest.mark.parametrize("keep", [0, 1])
def test_w10_a_message_to_a_cpu_with_lpis_off_is_dropped_there(rig, keep):
    rig.warm()
    rig.set_knobs(lpi_keep_if_disabled=keep)
    rig.its.switch_lpis(1, False)
    rig.its.run(MOVI, SYNC_OLD)
    rig.send()
    assert rig.handle_all() == []
    assert rig.seen(EventKind.PENDING_DROPPED, unit=1, id=LPI)


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("keep", [0, 1])
def test_w10_is_closed_by_switching_on_first(rig, keep, move):
    rig.warm()
    rig.set_knobs(lpi_keep_if_disabled=keep)
    rig.its.switch_lpis(1, False)
    rig.send()
    rig.settle()
    rig.its.switch_lpis(1, True)
    rig.its.run(MOVES[move], SYNC_OLD)
    assert rig.handle_all() == [(1, LPI)]
