"""The strategies that play a recording: cut by code, played access by access."""

from types import SimpleNamespace

import pytest

from firmware_model.platforms.x86 import MovingInterrupt
from firmware_model.strategies.recorded import Recording
from firmware_model.strategies.torn_msi import Recorded61, Recorded510
from hdl.registers import pci
from hdl.registers.pci import Header
from sim.reference import EndpointShape, ReferenceMachine

from ..reference_host import STORE, ReferenceHost
from .cut import DATA, LINUX_5_10, LINUX_6_1
from .cut_moves import FILES, RECORDINGS, SLICES, cut, moves
from .test_recordings import FUNCTION

MOVE, EVENT = 600, 700
KERNELS = {LINUX_6_1: Recorded61, LINUX_5_10: Recorded510}


def numbered(recording):
    """A slice of the recording, with the recording's line numbers."""
    for line in (DATA / SLICES[recording]).read_text().splitlines():
        number, _, text = line.partition(" ")
        yield int(number), text


@pytest.mark.parametrize("recording", FILES)
def test_what_is_played_is_what_the_cutter_finds_in_the_recording(recording):
    text, move = cut(numbered(recording), recording)
    committed = (RECORDINGS / FILES[recording]).read_text()
    heading, alike, *lines = text.splitlines()
    assert [heading, *lines] == [x for x in committed.splitlines() if "moves of this kind" not in x]
    assert alike.startswith("# 1 of 1 moves")
    assert move.torn == (recording == LINUX_6_1)


def test_the_cutter_passes_over_what_is_no_such_move():
    lines = list(numbered(LINUX_6_1))
    assert len(list(moves(lines, "00:1f.2"))) == 1
    assert not list(moves(lines, "00:1f.3")), "another function"
    assert not list(moves(lines, "00:1f.2", source="1", target="0")), "the other way"
    same = [(number, text.replace("MSI.data", "-")) for number, text in lines]
    assert not list(moves(same, "00:1f.2")), "no data written"


@pytest.mark.parametrize(
    ("strategy", "steps", "looks"), [(Recorded61, 1, False), (Recorded510, 2, True)]
)
def test_a_recording_is_understood(strategy, steps, looks):
    recording = strategy.recording
    assert (recording.steps, recording.looks) == (steps, looks)
    assert {access.register for access in recording.accesses} == {
        "MSI.flags",
        "MSI.addr_lo",
        "MSI.addr_hi",
        "MSI.data",
    }
    assert Recording.load(f"linux-{strategy.name.split('-')[1]}.txt") is recording


@pytest.mark.parametrize("recording", KERNELS)
@pytest.mark.parametrize("vectors", [(0x55, 0x22), (0x41, 0xC3)])
def test_every_recorded_access_is_played_for_the_move_at_hand(recording, vectors):
    old, new = vectors
    strategy = KERNELS[recording]
    system = MovingInterrupt(strategy, move_at=MOVE, old_vector=old, new_vector=new)
    reference = ReferenceMachine(SimpleNamespace(endpoints=(EndpointShape(msi="64"),)))
    host = ReferenceHost(system.machine, reference, events={EVENT: ReferenceHost.device_event})
    assert host.run().finished
    assert not [r for r in system.machine.log if r.kind in ("misuse", "crash")]
    capability = FUNCTION + reference.config_read(0, Header.CAPABILITIES, 1)
    played = [
        (operation == STORE, address - capability, 1 << size, data)
        for cycle, cpu, operation, size, address, data in host.accesses
        if cycle >= EVENT and capability <= address < capability + 0x10 and cpu == 0
    ]
    accesses = strategy.recording.accesses
    assert [entry[:3] for entry in played] == [
        (access.write, access.offset, access.size) for access in accesses
    ]
    written = [(entry[1], entry[3]) for entry in played if entry[0]]
    low, data = pci.MSI_ADDRESS_LO, pci.msi_data(True)
    addresses = [value >> 12 & 0xFF for offset, value in written if offset == low]
    assert addresses == [0, 1][-strategy.recording.steps :]
    assert {value & 0xFF for offset, value in written if offset == data} == {new}
    # The level-assert bit is as the kernel wrote it.
    assert {value >> 8 for offset, value in written if offset == data} == {
        access.value >> 8 for access in accesses if access.write and access.register == "MSI.data"
    }
    flags = {value for offset, value in written if offset == pci.MSI_FLAGS}
    assert all(value & pci.MSI_FLAGS_ENABLE for value in flags), "MSI stays on"


@pytest.mark.parametrize("strategy", KERNELS.values())
def test_with_mask_bits_it_does_as_its_parent(strategy):
    system = MovingInterrupt(strategy, move_at=MOVE)
    shape = EndpointShape(msi="64", maskable=True)
    reference = ReferenceMachine(SimpleNamespace(endpoints=(shape,)))
    host = ReferenceHost(system.machine, reference, events={EVENT: ReferenceHost.device_event})
    assert host.run().finished
    [path] = [r.fields["path"] for r in system.machine.log if r.kind == "move_path"][1:]
    assert path == ("two_step" if strategy is Recorded61 else "direct")
