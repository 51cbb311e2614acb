"""Window W9: the queue stops between MOVI and the SYNC that belongs to it.

Software that polls CREADR for its own commands only, and does not look at Stalled, believes what
did not happen.
"""

import pytest

from hdl.registers.gits import (
    COMMAND_BYTES,
    Opcode,
    Reason,
    command_bytes,
    encode_int,
    encode_movi,
    encode_sync,
    error_code,
)
from hdl.tap import EventKind

from ..its_driver import QUEUE
from .rig import DEVICE, EVENT, LPI

FAR = 250
MOVI = encode_movi(DEVICE, EVENT, 1)
SYNC = encode_sync(0)
NO_DEVICE = encode_int(0x1111, 0)
NO_COLLECTION = encode_movi(DEVICE, EVENT, 7)
STALLED = 1
REPAIRS = {"what was meant": MOVI, "something harmless": SYNC}
"""What software writes over the faulty command."""


def test_w9_stalled_between_movi_and_sync(stalling):
    """MOVI was consumed, but the message in flight is not waited for."""
    rig = stalling
    rig.warm()
    rig.set_knobs(translation_distance=FAR)
    rig.send()
    rig.wait(EventKind.TRANSLATION, unit=0)
    bad = rig.its.tail + COMMAND_BYTES
    rig.its.queue(MOVI, NO_DEVICE, SYNC)
    error = rig.wait(EventKind.COMMAND_ERROR)
    assert error.data == error_code(Opcode.INT, Reason.UNMAPPED_DEVICE)
    assert rig.its.read_pointer == bad | STALLED
    rig.settle()
    assert rig.arrivals(since=error.cycle) == [(0, LPI)]
    assert rig.its.read_pointer == bad | STALLED, "for ever"
    assert rig.handle_all() == [(0, LPI)]


def test_w9_software_believes_that_the_interrupt_moved(stalling):
    """MOVI is the faulty one; nothing behind it happens either."""
    rig = stalling
    rig.warm()
    bad = rig.its.tail
    rig.its.queue(NO_COLLECTION, SYNC)
    rig.settle()
    rig.its.queue(MOVI, SYNC)
    rig.settle()
    assert rig.its.read_pointer == bad | STALLED
    rig.send()
    assert rig.handle_all() == [(0, LPI)]


@pytest.mark.parametrize("repair", REPAIRS)
def test_w9_is_closed_by_repair_and_retry(stalling, repair):
    rig = stalling
    rig.warm()
    bad = rig.its.tail
    rig.its.queue(NO_COLLECTION, SYNC, MOVI, SYNC)
    rig.settle()
    assert rig.its.read_pointer == bad | STALLED
    rig.bench.ram.write(QUEUE + bad, command_bytes(REPAIRS[repair]))
    rig.its.retry()
    rig.its.wait()
    rig.send()
    assert rig.handle_all() == [(1, LPI)]


def test_w9_retry_without_repair_stalls_again(stalling):
    rig = stalling
    bad = rig.its.tail
    rig.its.queue(NO_DEVICE, SYNC)
    rig.settle()
    rig.its.retry()
    rig.settle()
    assert rig.its.read_pointer == bad | STALLED
    assert len(rig.seen(EventKind.COMMAND_ERROR)) == 2


def test_w9_messages_are_translated_while_the_queue_is_stalled(stalling):
    rig = stalling
    rig.its.queue(NO_DEVICE)
    rig.settle()
    rig.send()
    assert rig.handle_all() == [(0, LPI)]


def test_w9_is_not_there_when_faulty_commands_are_skipped(rig):
    rig.warm()
    rig.set_knobs(translation_distance=FAR)
    rig.send()
    rig.wait(EventKind.TRANSLATION, unit=0)
    rig.its.run(MOVI, NO_DEVICE, NO_COLLECTION, SYNC)
    consumed = rig.bench.cycle
    assert [event.data for event in rig.seen(EventKind.COMMAND_ERROR)] == [
        error_code(Opcode.INT, Reason.UNMAPPED_DEVICE),
        error_code(Opcode.MOVI, Reason.UNMAPPED_COLLECTION),
    ]
    rig.send()
    rig.settle()
    assert rig.arrivals(since=consumed) == [(1, LPI)]
