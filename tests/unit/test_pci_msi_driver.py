"""The MSI and MSI-X capabilities as software drives them: facts on Linux, 2.3.1 to 2.3.3.

That the order is that of real kernels is tested in ``tests/sequences``; here is the rest.
"""

from types import SimpleNamespace

import pytest

from firmware_model.chips.pci import PciFunction
from firmware_model.chips.pci_msi import MsiCapability, set_intx
from firmware_model.chips.pci_msix import MsixCapability
from firmware_model.machine import Machine
from hdl.registers import pci
from hdl.registers.pci import CapabilityId, Header
from sim.reference import EndpointShape, ReferenceMachine

from ..reference_host import LOAD, STORE, ReferenceHost

BAR = pci.MMIO_BASE
TABLE = BAR + pci.BAR_MSIX_TABLE
ADDRESS, DATA = 0x1_2345_6780, 0x4711


class Driven:
    """One function, and a program that drives its capability on CPU 0."""

    def __init__(self, capability, **shape):
        self.reference = ReferenceMachine(SimpleNamespace(endpoints=(EndpointShape(**shape),)))
        self.function = PciFunction(1)
        make = MsixCapability if capability == "msix" else MsiCapability
        self.make = lambda **options: (
            make(self.function, BAR, **options)
            if capability == "msix"
            else make(self.function, **options)
        )

    def run(self, program, **options):
        """Accesses of ``program(cpu, capability)`` after the probe, as (R/W, address, size)."""
        machine = Machine(1)
        capability = self.make(**options)
        marks = []

        async def task(cpu):
            await self.function.enable(cpu, BAR)
            assert await capability.probe(cpu)
            marks.append(len(host.accesses))
            await program(cpu, capability)

        machine.cpus[0].spawn(task)
        host = ReferenceHost(machine, self.reference)
        assert host.run().finished
        assert not machine.log
        return [
            ("RW"[operation == STORE], address, 1 << size)
            for _, _, operation, size, address, _ in host.accesses[marks[0] :]
            if operation in (LOAD, STORE)
        ]

    def base(self, wanted):
        """Offset of a capability."""
        offset = self.reference.config_read(0, Header.CAPABILITIES, 1)
        while (word := self.reference.config_read(0, offset, 2)) & 0xFF != wanted:
            offset = word >> 8
        return offset

    def command(self):
        return self.reference.config_read(0, Header.COMMAND, 2)


async def write(cpu, capability):
    await capability.write_message(cpu, ADDRESS, DATA)


@pytest.mark.parametrize(
    ("msi", "accesses"),
    [
        ("32", ["R2+2", "W2+2", "W4+4", "W2+8", "R2+2"]),
        ("64", ["R2+2", "W2+2", "W4+4", "W4+8", "W2+12", "R2+2"]),
    ],
)
@pytest.mark.parametrize("read_back", [True, False])
def test_an_msi_update(msi, accesses, read_back):
    driven = Driven("msi", msi=msi)
    done = driven.run(write, read_back=read_back)
    base = pci.ecam_address(0, 1, 0, driven.base(CapabilityId.MSI))
    words = [f"{direction}{size}+{address - base}" for direction, address, size in done]
    assert words == (accesses if read_back else accesses[:-1])


@pytest.mark.parametrize("which", ["msi", "msix"])
def test_a_function_that_lacks_it(which):
    shape = {"msi": "none", "intx": True} if which == "msi" else {}
    reference = ReferenceMachine(SimpleNamespace(endpoints=(EndpointShape(**shape),)))
    function = PciFunction(1)
    capability = MsiCapability(function) if which == "msi" else MsixCapability(function, BAR)
    machine = Machine(1)
    found = []

    async def task(cpu):
        found.append(await capability.probe(cpu))

    machine.cpus[0].spawn(task)
    ReferenceHost(machine, reference).run()
    assert found == [False]


def test_masks_of_msi():
    driven = Driven("msi", maskable=True, msi_vectors=4)
    register = driven.base(CapabilityId.MSI) + pci.msi_mask(True)
    masks = []

    async def program(cpu, capability):
        async def note():
            masks.append(await driven.function.read(cpu, register, 4))

        await capability.set_up(cpu)
        await note()
        await capability.unmask(cpu, 2)
        await note()
        await capability.mask(cpu, 2)
        await note()
        await capability.shut_down(cpu)
        await note()

    driven.run(program)
    assert masks == [0xF, 0xB, 0xF, 0]


def test_no_mask_bits_no_accesses():
    driven = Driven("msi")

    async def program(cpu, capability):
        await capability.mask(cpu)
        await capability.unmask(cpu)

    assert driven.run(program) == []


@pytest.mark.parametrize("keep_pin", [False, True])
def test_the_pin_is_off_while_messages_are_on(keep_pin):
    for which, shape in (("msi", {}), ("msix", {"msix_vectors": 2})):
        driven = Driven(which, **shape)
        seen = []

        async def program(cpu, capability, driven=driven, seen=seen):
            await capability.set_up(cpu)
            await capability.go_live(cpu)
            seen.append(driven.command() & pci.COMMAND_INTX_DISABLE)
            await capability.shut_down(cpu)
            seen.append(driven.command() & pci.COMMAND_INTX_DISABLE)

        driven.run(program, keep_pin=keep_pin)
        assert seen == [0 if keep_pin else pci.COMMAND_INTX_DISABLE, 0]


def test_the_pin_is_switched_only_if_that_is_a_change():
    driven = Driven("msi")

    async def program(cpu, capability):
        await set_intx(cpu, driven.function, True)

    command = pci.ecam_address(0, 1, 0, Header.COMMAND)
    assert driven.run(program) == [("R", command, 2)]


def entry(index, register):
    return TABLE + 16 * index + register


UPDATE = [("W", entry(1, 0), 4), ("W", entry(1, 4), 4), ("W", entry(1, 8), 4)]
FLUSH = [("R", entry(1, 8), 4)]
CONTROL = [("W", entry(1, 12), 4)]


@pytest.mark.parametrize(
    ("options", "live", "accesses"),
    [
        ({}, True, CONTROL + UPDATE + CONTROL + FLUSH),
        ({}, False, UPDATE + FLUSH),
        ({"masked_update": False}, True, UPDATE + FLUSH),
        ({"can_mask": False}, True, UPDATE + FLUSH),
    ],
)
def test_an_msix_update(options, live, accesses):
    """S4-5: a live entry is masked around its update, since Linux 5.14."""
    driven = Driven("msix", msix_vectors=3)

    async def program(cpu, capability):
        await capability.set_up(cpu, 3)
        await capability.go_live(cpu)
        if live:
            await capability.unmask(cpu, 1)
        await capability.write_message(cpu, ADDRESS, DATA, 1)

    done = driven.run(program, **options)
    assert done[-len(accesses) :] == accesses
    before = done[: -len(accesses)]
    assert before[-1][0] == "W"
    control = driven.reference.load(0, entry(1, 12))
    assert control & pci.MSIX_ENTRY_MASKED == (not live)
    assert driven.reference.load(0, entry(1, 0), 8) == ADDRESS
    assert driven.reference.load(0, entry(1, 8)) == DATA


def test_masking_msix_is_flushed_by_a_read_of_the_table():
    driven = Driven("msix", msix_vectors=3)

    async def program(cpu, capability):
        await capability.set_up(cpu, 3)
        await capability.mask(cpu, 2)
        await capability.unmask(cpu, 2)

    flush = ("R", TABLE, 4)
    mask = ("W", entry(2, 12), 4)
    assert driven.run(program)[-3:] == [mask, flush, mask]
    assert driven.run(program, unmask_read_back=True)[-4:] == [mask, flush, mask, flush]


def test_somebody_else_owns_the_mask_bits():
    driven = Driven("msix", msix_vectors=1)

    async def program(cpu, capability):
        await capability.set_up(cpu)
        await capability.go_live(cpu)
        await capability.unmask(cpu)
        await capability.mask(cpu)
        await capability.unmask(cpu)

    done = driven.run(program, can_mask=False)
    assert done.count(("W", entry(0, 12), 4)) == 1
    assert driven.reference.load(0, entry(0, 12)) == 0


@pytest.mark.parametrize(
    ("which", "wanted", "flags", "bit", "values"),
    [
        ("msi", CapabilityId.MSI, pci.MSI_FLAGS, pci.MSI_FLAGS_ENABLE, [1, 0, 1]),
        ("msix", CapabilityId.MSIX, pci.MSIX_FLAGS, pci.MSIX_FLAGS_MASK_ALL, [0, 1, 0]),
    ],
)
def test_suspend_and_resume(which, wanted, flags, bit, values):
    driven = Driven(which, msix_vectors=1)
    register = driven.base(wanted) + flags
    seen = []

    async def program(cpu, capability):
        def note():
            seen.append(driven.reference.config_read(0, register, 2))

        await capability.set_up(cpu)
        await capability.go_live(cpu)
        note()
        saved = await capability.suspend(cpu)
        note()
        await capability.resume(cpu, saved)
        note()

    driven.run(program)
    assert [int(bool(value & bit)) for value in seen] == values
    assert seen[0] == seen[2]
