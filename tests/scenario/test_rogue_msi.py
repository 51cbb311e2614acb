"""rogue-msi on the gateware: whom a forged message reaches, without isolation and with it."""

from dataclasses import replace

import pytest

from firmware_model.chips.x86_entry import CALL_VECTOR
from firmware_model.core.records import Kind
from firmware_model.platforms.rogue import OWN_LPI, victim_lpis
from hdl.registers.gicd import GicdRegister
from hdl.registers.gicr import GicrRegister
from hdl.registers.gits import Reason
from hdl.tap import EventKind
from sim.scenarios import find_scenario
from sim.scenarios.rogue_msi import BOOT, FRAME, GIC, SPI, TRANSLATIONS, VICTIM_VECTORS
from sim.sweep import Point
from sim.sweep.pool import Runner

SCENARIO = find_scenario("rogue-msi")
DOORBELL = 0x40


@pytest.fixture(scope="module")
def runner():
    with Runner("rogue-msi") as runner:
        yield runner


def point(strategy, address, data):
    return Point(strategy, {"address": address, "data": data})


def misdirected(runner, strategy, addresses, data):
    """(address, data) of the messages that raised an interrupt of another device."""
    found = set()
    for address in addresses:
        for word in data:
            result = runner.run(point(strategy, address, word))
            assert not result.error
            assert ("misdirected" in result.verdicts) == (result.figures["foreign"] > 0)
            if "misdirected" in result.verdicts:
                found.add((address, word))
    return found


def events(runner, strategy, address, data, kind):
    """What the message led to."""
    outcome = runner.outcome(point(strategy, address, data))
    assert outcome.quiet
    return [event for event in outcome.events if event.kind == kind and event.cycle >= BOOT]


def test_without_remapping_every_vector_of_every_cpu_is_within_reach(runner):
    data = (*range(0x20, 0x50), CALL_VECTOR)
    found = misdirected(runner, "apic", (DOORBELL, DOORBELL | 1 << 12), data)
    expected = {(DOORBELL | cpu << 12, vector) for cpu, vector in VICTIM_VECTORS}
    assert found == expected | {(DOORBELL | cpu << 12, CALL_VECTOR) for cpu in (0, 1)}


def test_a_vector_that_nobody_holds_is_taken_in_vain(runner):
    result = runner.run(point("apic", DOORBELL, 0x30))
    assert result.verdicts == {"spurious"}


def test_a_direct_lpi_is_whoever_is_written(runner):
    doorbells = [cpu * 0x2_0000 + GicrRegister.SETLPIR for cpu in range(3)]
    found = misdirected(runner, "direct-lpi", doorbells, range(OWN_LPI, OWN_LPI + 5))
    assert found == {(doorbells[cpu], lpi) for cpu, lpi in victim_lpis(3, its=False)}


def test_a_frame_mapped_for_its_doorbell_brings_its_other_registers(runner):
    row, bit = SPI // 32, SPI % 32
    pending = GicdRegister.ISPENDR + 4 * row
    addresses = (GicdRegister.SETSPI_NSR, GicdRegister.CLRSPI_NSR, pending)
    assert misdirected(runner, "spi", addresses, (SPI - 1, SPI, 1 << bit)) == {
        (GicdRegister.SETSPI_NSR, SPI),
        (pending, 1 << bit),
    }


@pytest.mark.parametrize("strategy", ["its", "its-open"])
def test_the_bridge_says_who_it_was(runner, strategy):
    """EventIDs are the function's own: the first is given to it, the others reach nobody."""
    doorbell = DOORBELL if strategy == "its" else TRANSLATIONS + DOORBELL - GIC
    data = (*range(64), *range(0x2000, 0x2010), 0xFFFF)
    assert not misdirected(runner, strategy, [doorbell], data)
    [own] = events(runner, strategy, doorbell, 0, EventKind.PENDING_SET)
    assert own.id == OWN_LPI
    [stray] = events(runner, strategy, doorbell, 1, EventKind.TRANSLATION_DROPPED)
    assert stray.data == Reason.UNMAPPED_INTERRUPT
    [beyond] = events(runner, strategy, doorbell, 2, EventKind.TRANSLATION_DROPPED)
    assert beyond.data == Reason.ID_OOR


def test_nothing_else_in_the_translation_frame_raises_anything(runner):
    addresses = (*range(0, 0x80, 4), *range(0x100, 0x300, 0x20), 0x1040, 0xFFF8, 0xFFFC)
    assert not misdirected(runner, "its", addresses, (0, 1, SPI, 0x100, OWN_LPI + 2))


def test_beyond_the_mapped_page_nothing_leaves_the_bridge(runner):
    outcome = runner.outcome(point("its", FRAME, 0))
    assert not any(event.kind == EventKind.MESSAGE for event in outcome.events)


def test_an_its_alone_does_not_confine_a_function_that_reaches_the_frames(runner):
    sgis = 0x080A_0000 + GicrRegister.ISPENDR0 - GIC
    assert misdirected(runner, "its-open", (sgis, DOORBELL), (1 << 1, SPI)) == {
        (sgis, 1 << 1),
        (sgis, SPI),
        (DOORBELL, SPI),
    }


def test_a_handler_that_ran_for_nothing_the_tap_has_is_a_contradiction(runner):
    outcome = runner.outcome(point("spi", DOORBELL, SPI))
    assert [record.cpu for record in outcome.log if record.kind == Kind.DISTURBED]
    assert not SCENARIO.contradictions("spi", outcome)
    keep = outcome.records["kind"] != EventKind.PENDING_SET.value
    silent = replace(outcome, records=outcome.records[keep])
    texts = SCENARIO.contradictions("spi", silent)
    assert any("handlers of other devices" in text for text in texts)


@pytest.mark.slow
def test_no_word_of_the_translation_frame_and_no_data_raises_a_foreign_interrupt(runner):
    assert not misdirected(runner, "its", range(0, FRAME, 4), (0, 1, SPI, 0x2002))
    assert not misdirected(runner, "its", [DOORBELL], range(1 << 16))
