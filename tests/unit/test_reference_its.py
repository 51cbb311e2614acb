"""The ITS of the reference model: registers, every command, every error (section 4)."""

import pytest

from sim.reference import Implementation
from tests.unit.reference_rig import (
    CLEAR,
    COLLECTIONS,
    DEVICES,
    DISCARD,
    INT,
    INV,
    INVALL,
    ITT,
    MAPC,
    MAPD,
    MAPI,
    MAPTI,
    MOVALL,
    MOVI,
    PRIORITY,
    QUEUE,
    RAM,
    SYNC,
    TRANSLATER,
    VALID,
    Rig,
    ready_rig,
)

EVERYTHING = (1 << 64) - 1


# Registers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "written", "expected"),
    [
        (0x0000, 0xFFFF_FFFE, 0x8000_0000),
        (0x0004, 0, 0x43B),
        (0x0080, EVERYTHING, 0xB8EF_FFFF_FFFF_FCFF),
        (0x0088, EVERYTHING, 0),  # beyond a queue of one page
        (0x0088, 0xFE0, 0xFE0),
        (0x0090, EVERYTHING, 0),
        (0x0100, EVERYTHING, 0xB9E7_FFFF_FFFF_FFFF),
        (0x0108, EVERYTHING, 0xBCE7_FFFF_FFFF_FFFF),
        (0x0110, EVERYTHING, 0),
        (0x0138, EVERYTHING, 0),
        (0xFFE8, 0, 0x3B),
    ],
)
def test_register(offset, written, expected):
    rig = Rig()
    size = 8 if written == EVERYTHING else 4
    rig.gits(offset, written, size)
    assert rig.gits(offset, size=8 if expected >> 32 else 4) == expected


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, 1 | 7 << 4 | 15 << 8 | 15 << 13 | 15 << 32 | 1 << 36),
        (
            {"device_id_bits": 8, "event_id_bits": 5},
            1 | 7 << 4 | 4 << 8 | 7 << 13 | 15 << 32 | 1 << 36,
        ),
    ],
)
def test_typer(config, expected):
    assert Rig(**config).gits(0x0008, size=8) == expected


def test_registers_are_locked_while_enabled():
    rig = ready_rig()
    before = [rig.gits(offset, size=8) for offset in (0x80, 0x100, 0x108)]
    for offset in (0x80, 0x100, 0x108):
        rig.gits(offset, 0, size=8)
    assert [rig.gits(offset, size=8) for offset in (0x80, 0x100, 0x108)] == before
    assert rig.gits(0) == 1
    rig.gits(0, 0)
    assert rig.gits(0) == 0x8000_0000
    rig.gits(0x80, VALID | QUEUE, size=8)
    assert rig.gits(0x90) == 0  # CREADR starts over


def test_queue_runs_only_when_enabled_and_valid():
    rig = Rig().lpi_tables()
    rig.gits(0x100, VALID | DEVICES, size=8)
    rig.gits(0x108, VALID | COLLECTIONS, size=8)
    rig.gits(0x80, QUEUE, size=8)
    rig.place(MAPC, 0, VALID, at=0)
    rig.gits(0x88, 0x20)
    rig.gits(0, 1)
    assert rig.gits(0x90) == 0
    rig.gits(0, 0)
    rig.gits(0x80, VALID | QUEUE, size=8)
    rig.gits(0, 1)  # a queue that is not empty starts at once
    assert rig.gits(0x90) == 0x20
    assert rig.state()["its"]["collections"] == {0: 0}


def test_queue_wraps():
    rig = Rig().lpi_tables().its_tables()
    for n in range(2048 + 3):
        rig.mapc(n % 4, n % 2)
    assert rig.gits(0x90) == 3 * 32
    assert rig.state()["its"]["collections"] == {0: 0, 1: 1, 2: 0, 3: 1}


def test_cwriter_outside_a_shrunken_queue_runs_nothing():
    rig = Rig().lpi_tables().its_tables()
    rig.gits(0, 0)
    rig.gits(0x88, 0x8000)
    rig.gits(0x80, VALID | QUEUE, size=8)
    rig.gits(0, 1)
    assert rig.gits(0x90) == 0


# Translation -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 4])
def test_translation(size):
    rig = ready_rig()
    rig.event(8, 3, size)
    assert rig.pending_lpis(0) == [3]
    assert rig.iar() == 8195


@pytest.mark.parametrize(
    ("device", "event", "size", "reason"),
    [
        (9, 0, 4, "translation: UNMAPPED_DEVICE"),
        (8, 4, 4, "translation: UNMAPPED_INTERRUPT"),
        (8, 32, 4, "translation: EVENT_RANGE"),
        (8, 0xFFFF_0000, 4, "translation: EVENT_RANGE"),
        (8, 0, 1, None),
    ],
)
def test_dropped_message(device, event, size, reason):
    rig = ready_rig()
    rig.event(device, event, size)
    assert rig.pending_lpis(0) == []
    assert list(rig.counters) == ([reason] if reason else [])


def test_a_16_bit_event_id_is_extended_with_zeros():
    rig = ready_rig()
    rig.event(8, 0x1_0003, size=2)
    assert rig.pending_lpis(0) == [3]


def test_dropped_when_disabled_or_lpis_are_off():
    rig = ready_rig()
    rig.gits(0, 0)
    rig.event(8, 0)
    rig.gits(0, 1)
    rig.gicr(0, 0, 0)
    rig.event(8, 0)
    assert rig.counters == {"translation: ITS off": 1, "LPI dropped": 1}


def test_unmapped_collection_drops():
    rig = ready_rig()
    rig.mapc(0, 0, valid=False)
    rig.event(8, 0)
    assert rig.counters == {"translation: UNMAPPED_COLLECTION": 1}


@pytest.mark.parametrize(("chosen", "pending"), [(False, []), (True, [0])])
def test_a_cpu_writes_translater(chosen, pending):
    rig = ready_rig(Implementation(cpu_messages=chosen), cpus=2)
    rig.mapd(1)
    rig.mapti(1, 0, 0, 0)
    rig.store(1, TRANSLATER, 0)
    assert rig.pending_lpis(0) == pending
    assert rig.load(0, TRANSLATER) == 0


def test_sparse_device_ids():
    rig = ready_rig()
    rig.mapd(0xFFFF, itt=ITT)
    rig.mapti(0xFFFF, 31, 9, 1)
    assert rig.counters == {"command: DEVICE_RANGE": 2}  # 16 pages hold 8192 entries
    rig.gits(0, 0)
    rig.gits(0x100, VALID | DEVICES | 0x200 | 7, size=8)  # 64 KiB pages
    rig.gits(0x108, VALID | RAM + 0x9_0000, size=8)
    rig.gits(0, 1)
    rig.mapd(0xFFFF, itt=ITT)
    rig.mapti(0xFFFF, 31, 9, 1)
    rig.mapc(1, 1)
    rig.event(0xFFFF, 31)
    assert rig.pending_lpis(1) == [9]


# Commands ----------------------------------------------------------------------------------------


def test_mapd_unmaps():
    rig = ready_rig()
    rig.mapd(8, valid=False)
    rig.event(8, 0)
    assert rig.pending_lpis(0) == []
    assert rig.state()["its"]["devices"] == {}


@pytest.mark.parametrize("bits", [1, 5, 16])
def test_mapd_size_is_a_power_of_two(bits):
    """Event 2**bits - 1 exists, event 2**bits does not."""
    rig = ready_rig()
    rig.mapd(16, bits=bits, itt=RAM + 0x20_0000)
    rig.mapti(16, (1 << bits) - 1, 9, 0)
    assert not rig.counters
    rig.mapti(16, 1 << bits, 10, 0)
    assert rig.counters == {"command: EVENT_RANGE": 1}
    rig.event(16, (1 << bits) - 1)
    assert rig.pending_lpis(0) == [9]


def test_mapi_uses_the_event_as_intid():
    rig = ready_rig()
    rig.mapd(9, bits=14, itt=RAM + 0x20_0000)
    rig.event_command(MAPI, 9, 8200, 1)
    rig.event(9, 8200)
    assert rig.pending_lpis(1) == [8]


def test_mapti_needs_no_mapped_collection_and_replaces():
    rig = ready_rig()
    rig.mapti(8, 0, 7, 5)
    assert not rig.counters
    rig.mapc(5, 1)
    rig.event(8, 0)
    assert (rig.pending_lpis(0), rig.pending_lpis(1)) == ([], [7])


def test_mapc_moves_future_events_only():
    rig = ready_rig()
    rig.event(8, 0)
    rig.mapc(0, 1)
    rig.event(8, 1)
    assert (rig.pending_lpis(0), rig.pending_lpis(1)) == ([0], [1])


def test_movi_hands_over_what_is_pending():
    rig = ready_rig()
    rig.event(8, 0)
    rig.event(8, 1)
    rig.event_command(MOVI, 8, 0, 1)
    assert (rig.pending_lpis(0), rig.pending_lpis(1)) == ([1], [0])
    rig.event(8, 0)
    assert (rig.pending_lpis(0), rig.pending_lpis(1)) == ([1], [0])
    assert rig.iar(1) == 8192


def test_movi_of_an_idle_interrupt_sets_nothing():
    rig = ready_rig()
    rig.event_command(MOVI, 8, 0, 1)
    assert (rig.pending_lpis(0), rig.pending_lpis(1)) == ([], [])
    rig.event(8, 0)
    assert (rig.pending_lpis(0), rig.pending_lpis(1)) == ([], [0])


def test_movi_within_one_redistributor():
    rig = ready_rig()
    rig.mapc(7, 0)
    rig.event(8, 0)
    rig.event_command(MOVI, 8, 0, 7)
    assert rig.pending_lpis(0) == [0]
    assert rig.state()["its"]["devices"][8]["mapped"][0] == (8192, 7)


def test_acknowledged_lpi_moves_and_fires_at_the_new_cpu():
    """Window W2: nothing global says that CPU 0 is still handling it."""
    rig = ready_rig()
    rig.event(8, 0)
    assert rig.iar(0) == 8192
    rig.event_command(MOVI, 8, 0, 1)
    rig.event(8, 0)
    assert rig.iar(1) == 8192
    assert rig.icc(0, "RPR") == rig.icc(1, "RPR") == PRIORITY


def test_movall_ors_into_the_target():
    rig = ready_rig()
    for event in (0, 1, 2):
        rig.event(8, event)
    rig.mapc(0, 1)
    rig.event(8, 2)
    rig.event(8, 3)
    rig.command(MOVALL, 0, 0, 1 << 16)
    assert (rig.pending_lpis(0), rig.pending_lpis(1)) == ([], [0, 1, 2, 3])
    rig.command(MOVALL, 0, 1 << 16, 1 << 16)
    assert rig.pending_lpis(1) == [0, 1, 2, 3]


@pytest.mark.parametrize(("choice", "at_source"), [("drop", []), ("keep", [0])])
@pytest.mark.parametrize("command", [MOVI, MOVALL])
def test_move_to_a_redistributor_with_lpis_off(choice, at_source, command):
    """Window W10."""
    rig = ready_rig(Implementation(lpis_off_target=choice))
    rig.event(8, 0)
    rig.gicr(1, 0, 0)
    if command == MOVI:
        rig.event_command(MOVI, 8, 0, 1)
        assert rig.state()["its"]["devices"][8]["mapped"][0] == (8192, 1)
    else:
        rig.command(MOVALL, 0, 0, 1 << 16)
    assert rig.pending_lpis(0) == at_source
    rig.gicr(1, 0, 1)
    assert rig.pending_lpis(1) == []


def test_int_and_clear():
    rig = ready_rig()
    rig.event_command(INT, 8, 2)
    assert rig.pending_lpis(0) == [2]
    rig.event(8, 1)
    rig.event_command(CLEAR, 8, 2)
    assert rig.pending_lpis(0) == [1]


def test_discard_clears_and_removes():
    rig = ready_rig()
    rig.event(8, 0)
    rig.event(8, 1)
    rig.event_command(DISCARD, 8, 0)
    assert rig.pending_lpis(0) == [1]
    rig.event(8, 0)
    assert rig.pending_lpis(0) == [1]
    assert list(rig.state()["its"]["devices"][8]["mapped"]) == [1, 2, 3]


def test_discard_with_an_unmapped_collection_still_removes():
    rig = ready_rig()
    rig.mapc(0, 0, valid=False)
    rig.event_command(DISCARD, 8, 0)
    assert 0 not in rig.state()["its"]["devices"][8]["mapped"]
    assert "command: UNMAPPED_COLLECTION" not in rig.counters


@pytest.mark.parametrize("command", [INV, INVALL])
def test_invalidation(command):
    rig = ready_rig()
    rig.event(8, 0)
    rig.property(0, PRIORITY)
    assert rig.irq(0)
    if command == INV:
        rig.event_command(INV, 8, 1)
        assert rig.irq(0)
        rig.event_command(INV, 8, 0)
    else:
        rig.command(INVALL, 0, 1)
        assert rig.irq(0)
        rig.command(INVALL, 0, 0)
    assert not rig.irq(0)
    assert rig.pending_lpis(0) == [0]


def test_sync_changes_nothing():
    rig = ready_rig()
    before = rig.state()
    rig.command(SYNC, 0, 1 << 16)
    after = rig.state()
    assert after["its"].pop("creadr") - before["its"].pop("creadr") == 32
    assert after["its"].pop("cwriter") - before["its"].pop("cwriter") == 32
    assert after == before


# Errors ------------------------------------------------------------------------------------------

BAD_DEVICE = 0x1_0000
ERRORS = {
    "mapd-device": ((MAPD | BAD_DEVICE << 32, 4, VALID | ITT), 0x10801),
    "mapd-unmap-device": ((MAPD | BAD_DEVICE << 32,), 0x10801),
    "mapd-size": ((MAPD | 9 << 32, 16, VALID | ITT), 0x10802),
    "mapc-collection": ((MAPC, 0, VALID | 0x2000), 0x10903),
    "mapc-target": ((MAPC, 0, VALID | 2 << 16), 0x10902),
    "mapti-device": ((MAPTI | BAD_DEVICE << 32, 8192 << 32), 0x10A01),
    "mapti-unmapped": ((MAPTI | 9 << 32, 8192 << 32), 0x10A04),
    "mapti-event": ((MAPTI | 8 << 32, 32 | 8192 << 32), 0x10A05),
    "mapti-intid-low": ((MAPTI | 8 << 32, 8191 << 32), 0x10A06),
    "mapti-intid-high": ((MAPTI | 8 << 32, 9216 << 32), 0x10A06),
    "mapti-collection": ((MAPTI | 8 << 32, 8192 << 32, 0x2000), 0x10A03),
    "mapi-intid": ((MAPI | 8 << 32, 0), 0x10B06),
    "movi-device": ((MOVI | BAD_DEVICE << 32,), 0x10101),
    "movi-unmapped": ((MOVI | 9 << 32,), 0x10104),
    "movi-event": ((MOVI | 8 << 32, 32, 1), 0x10105),
    "movi-interrupt": ((MOVI | 8 << 32, 4, 1), 0x10107),
    "movi-new-collection": ((MOVI | 8 << 32, 0, 2), 0x10109),
    "movi-new-collection-range": ((MOVI | 8 << 32, 0, 0x2000), 0x10103),
    "int-unmapped": ((INT | 9 << 32,), 0x10304),
    "int-event": ((INT | 8 << 32, 32), 0x10305),
    "int-interrupt": ((INT | 8 << 32, 4), 0x10307),
    "clear-interrupt": ((CLEAR | 8 << 32, 4), 0x10507),
    "inv-interrupt": ((INV | 8 << 32, 4), 0x10C07),
    "invall-unmapped": ((INVALL, 0, 2), 0x10D09),
    "invall-range": ((INVALL, 0, 0x2000), 0x10D03),
    "movall-from": ((MOVALL, 0, 2 << 16, 0), 0x10E01),
    "movall-to": ((MOVALL, 0, 0, 2 << 16), 0x10E01),
    "discard-interrupt": ((DISCARD | 8 << 32, 4), 0x10F07),
    "sync-target": ((SYNC, 0, 2 << 16), 0x10520),
    "unknown-zero": ((0,), 0x10041),
    "unknown-vmapti": ((0x2A,), 0x12A41),
    "itt-outside-ram": ((MAPTI | 10 << 32, 8192 << 32), 0x10A40),
}


@pytest.mark.parametrize("on_error", ["skip", "stall"])
@pytest.mark.parametrize("case", ERRORS)
def test_bad_command_changes_nothing(case, on_error):
    words, code = ERRORS[case]
    rig = ready_rig(its_on_error=on_error, cpus=2)
    rig.mapd(10, itt=0)  # a table where there is no RAM
    for event in range(4):
        rig.event(8, event)
    before = rig.state()
    rig.command(*words)
    after = rig.state()
    stalled = on_error == "stall"
    assert rig.its.last_error == code
    assert rig.gits(0x90) == before["its"]["creadr"] + (1 if stalled else 32)
    for state in (before, after):
        for name in ("creadr", "cwriter", "stalled"):
            del state["its"][name]
    assert after == before


def test_old_collection_of_a_movi_must_be_mapped():
    rig = ready_rig()
    rig.mapc(0, 0, valid=False)
    rig.event_command(MOVI, 8, 0, 1)
    assert rig.its.last_error == 0x10109
    rig.event_command(CLEAR, 8, 0)
    assert rig.its.last_error == 0x10509
    rig.event_command(INV, 8, 0)
    assert rig.its.last_error == 0x10C09


def test_stall_repair_retry():
    """Section 4.5: the queue stays at the bad command until software repairs it and says so."""
    rig = ready_rig(its_on_error="stall")
    at = rig.gits(0x88)
    rig.event_command(INT, 9, 0)
    rig.event_command(INT, 8, 1)
    assert rig.gits(0x90) == at | 1
    assert rig.pending_lpis(0) == []
    rig.gits(0x88, at + 64 | 1)  # still bad
    assert rig.gits(0x90) == at | 1
    rig.place(SYNC, at=at)
    rig.gits(0x88, at + 64)  # not without Retry
    assert rig.gits(0x90) == at | 1
    rig.gits(0x88, at + 64 | 1)
    assert rig.gits(0x90) == at + 64
    assert rig.pending_lpis(0) == [1]
    assert rig.gits(0x88) == at + 64  # Retry reads zero


def test_stall_ends_with_a_new_queue():
    rig = ready_rig(its_on_error="stall")
    rig.command(0)
    rig.gits(0, 0)
    assert rig.gits(0x90) & 1
    rig.gits(0x80, VALID | QUEUE, size=8)
    assert rig.gits(0x90) == 0


@pytest.mark.parametrize(("on_error", "creadr"), [("skip", 0x40), ("stall", 1)])
def test_queue_outside_ram(on_error, creadr):
    rig = Rig(its_on_error=on_error)
    rig.gits(0x80, VALID | 0x2000_0000, size=8)
    rig.gits(0, 1)
    rig.gits(0x88, 0x40)
    assert rig.gits(0x90) == creadr
    assert rig.its.last_error == 0x10040


def test_invalid_tables_hold_nothing():
    rig = Rig()
    rig.gits(0x80, VALID | QUEUE | 0xF, size=8)
    rig.gits(0, 1)
    rig.mapd(0)
    assert rig.its.last_error == 0x10801
    rig.mapc(0, 0)
    assert rig.its.last_error == 0x10903


# Tables in memory --------------------------------------------------------------------------------


def test_entries_live_in_ram():
    """Zeroed table memory maps nothing; a table that moves back finds what it left."""
    rig = ready_rig()
    rig.gits(0, 0)
    rig.gits(0x108, VALID | RAM + 0x20_0000, size=8)
    rig.gits(0, 1)
    assert rig.state()["its"]["collections"] == {}
    rig.gits(0, 0)
    rig.gits(0x108, VALID | COLLECTIONS, size=8)
    assert rig.state()["its"]["collections"] == {0: 0, 1: 1}
    rig.ram_write(COLLECTIONS + 8, bytes(8))
    assert rig.state()["its"]["collections"] == {0: 0}
    rig.ram_write(ITT + 0x8000, bytes(0x1000))
    assert rig.state()["its"]["devices"][8]["mapped"] == {}


@pytest.mark.parametrize(
    ("baser", "entries"),
    [
        (VALID | DEVICES, 512),
        (VALID | DEVICES | 3, 2048),
        (VALID | DEVICES | 0x100, 2048),
        (VALID | DEVICES | 0x200, 8192),
        (VALID | DEVICES | 0x300, 8192),
        (DEVICES, 0),
    ],
)
def test_table_size(baser, entries):
    rig = Rig()
    rig.gits(0x100, baser, size=8)
    rig.gits(0x80, VALID | QUEUE | 0xF, size=8)
    rig.gits(0, 1)
    rig.mapd(entries, itt=ITT)
    assert rig.its.last_error == 0x10801
    if entries:
        rig.mapd(entries - 1, itt=ITT)
        assert list(rig.state()["its"]["devices"]) == [entries - 1]


def test_without_an_its_nothing_answers():
    with pytest.raises(Exception, match=r"^Nothing answers at 0x8080000$"):
        Rig(its=False).gits(0)
