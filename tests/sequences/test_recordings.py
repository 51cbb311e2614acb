"""The model's accesses are those of real kernels: register, order, width, some values too.

``data/`` has pieces of recordings of Linux under QEMU, as they were recorded. Devices differ in
where their capabilities stand and CPUs in how they are addressed (the recorded kernels use logical
destinations), so both sides are put into the same words first:

* the register's name instead of its address;
* a message's address is ``here`` (the CPU that writes it), ``there`` or ``nowhere``;
* flags, control and command words shrink to the bits that are about interrupts.
"""

from pathlib import Path
from types import SimpleNamespace

import pytest

from firmware_model.core import LINUX_5_10, LINUX_6_1
from firmware_model.platforms.x86 import MovingInterrupt
from firmware_model.strategies.torn_msi import AsCoded, TwoStep
from hdl.registers import pci
from hdl.registers.lapic import REGISTER_BASE
from hdl.registers.pci import CapabilityId, Header
from sim.reference import EndpointShape, ReferenceMachine

from ..reference_host import LOAD, STORE, ReferenceHost

DATA = Path(__file__).parent / "data"
COMMAND_BITS = pci.COMMAND_INTX_DISABLE
MSI_BITS = pci.MSI_FLAGS_ENABLE | pci.MSI_FLAGS_ENABLED
MSIX_BITS = pci.MSIX_FLAGS_ENABLE | pci.MSIX_FLAGS_MASK_ALL
FUNCTION = pci.ecam_address(0, 1, 0)

MSI_32 = EndpointShape(msi="32", maskable=True, msi_vectors=2)
MSI_64 = EndpointShape(msi="64")
MSIX = EndpointShape(msi="none", msix_vectors=1)


def access(cpu, write, register, size, value):
    """One access in the common words; what is read does not count."""
    if not write:
        return (cpu, "R", register, size)
    if register.endswith("addr_lo"):
        value = "nowhere" if value == 0 else "here" if cpu == value >> 12 & 0xFF else "there"
    elif register == "MSI.flags":
        value &= MSI_BITS
    elif register == "MSIX.ctrl":
        value &= MSIX_BITS
    elif register == "COMMAND":
        value &= COMMAND_BITS
    elif register == "ICR_LOW":
        value &= 0xFF
    elif register == "ICR_HIGH":
        value = None
    return (cpu, "W", register, size, value)


# What was recorded


def recorded(name):
    """The accesses of a piece, in the common words."""
    accesses = []
    for line in (DATA / f"{name}.txt").read_text().splitlines():
        words = line.split()
        if words[0] == "#":
            continue
        cpu, kind, direction = int(words[1]), words[2], words[3]
        if kind == "CFG":
            register, size, value = words[9], int(words[7]), words[8]
        elif kind == "MSIX":
            register, size, value = f"{words[5]}.{words[6]}", int(words[7]), words[8]
        else:
            register, size, value = apic_register(int(words[4], 16)), 4, words[5]
        value = int(value, 16)
        if register.endswith("addr_lo"):
            # Flat logical destinations, one bit a CPU: to the CPU's number.
            bits = value >> 12 & 0xFF
            value = value and value & ~0xFF000 | (bits.bit_length() - 1) << 12
        accesses.append(access(cpu, direction == "W", register, size, value))
    assert accesses, name
    return accesses


def apic_register(offset):
    names = {0x0B0: "EOI", 0x300: "ICR_LOW", 0x310: "ICR_HIGH"}
    return names.get(offset, f"APIC+{offset:#x}")


# What the model does


def capability_registers(reference):
    """Names by address of everything in the function that the recordings name."""
    names = {FUNCTION + Header.COMMAND: "COMMAND"}
    offset = reference.config_read(0, Header.CAPABILITIES, 1)
    while offset:
        word = reference.config_read(0, offset, 2)
        base = FUNCTION + offset
        if word & 0xFF == CapabilityId.MSI:
            wide = bool(reference.config_read(0, offset + pci.MSI_FLAGS, 2) & pci.MSI_FLAGS_64BIT)
            names[base + pci.MSI_FLAGS] = "MSI.flags"
            names[base + pci.MSI_ADDRESS_LO] = "MSI.addr_lo"
            if wide:
                names[base + pci.MSI_ADDRESS_HI] = "MSI.addr_hi"
            names[base + pci.msi_data(wide)] = "MSI.data"
            names[base + pci.msi_mask(wide)] = "MSI.mask"
        elif word & 0xFF == CapabilityId.MSIX:
            names[base + pci.MSIX_FLAGS] = "MSIX.ctrl"
            names[base + pci.MSIX_TABLE] = "MSIX.table"
        offset = word >> 8
    table = pci.MMIO_BASE + pci.BAR_MSIX_TABLE
    for i, register in enumerate(("addr_lo", "addr_hi", "data", "ctrl")):
        names[table + 4 * i] = f"e0.{register}"
    return names


def modelled(system, shape, *, since, until=20_000, events=(), apic=True):
    """The accesses that ``system`` makes between two cycles, in the common words."""
    reference = ReferenceMachine(SimpleNamespace(endpoints=(shape,)))
    names = capability_registers(reference)
    at = dict.fromkeys(events, ReferenceHost.device_event)
    host = ReferenceHost(system.machine, reference, events=at)
    assert host.run().finished
    assert not [r for r in system.machine.log if r.kind in ("misuse", "crash")]
    accesses = []
    for cycle, cpu, operation, size, address, data in host.accesses:
        if not since <= cycle < until or operation not in (LOAD, STORE):
            continue
        register = names.get(address)
        if register is None and apic and 0 <= address - REGISTER_BASE < 0x1000:
            register = apic_register(address - REGISTER_BASE)
        if register is not None:
            accesses.append(access(cpu, operation == STORE, register, 1 << size, data))
    return accesses


def on_one_cpu(accesses):
    """Whichever CPU it was, it is CPU 0; ``here`` and ``there`` say the rest."""
    assert len({entry[0] for entry in accesses}) == 1
    return [(0, *entry[1:]) for entry in accesses]


MOVE, EVENT = 600, 700
KERNELS = {"6.1": (LINUX_6_1, AsCoded), "5.10": (LINUX_5_10, TwoStep)}


def moving(kernel, vector, capability):
    habits, strategy = KERNELS[kernel]
    return MovingInterrupt(
        strategy,
        kernel=habits,
        move_at=MOVE,
        old_vector=0x55,
        new_vector=vector,
        capability=capability,
    )


@pytest.mark.parametrize(
    ("name", "shape", "vector", "updates"),
    [
        ("move-msi-6.1", MSI_64, 0x22, 1),
        ("move-msi-5.10", MSI_64, 0x22, 2),
        ("move-maskable-6.1", MSI_32, 0x27, 2),
        ("move-maskable-5.10", MSI_32, 0x27, 1),
        ("move-msix-6.1", MSIX, 0x33, 2),
        ("move-msix-5.10", MSIX, 0x33, 1),
    ],
)
def test_move(name, shape, vector, updates):
    system = moving(name.rpartition("-")[2], vector, "msix" if shape is MSIX else "msi")
    sequence = modelled(system, shape, since=EVENT, until=EVENT + 200, events=[EVENT])
    assert on_one_cpu(sequence) == on_one_cpu(recorded(name))
    assert sum(entry[2].endswith("addr_lo") and entry[1] == "W" for entry in sequence) == updates


def test_clean_up_by_ipi():
    system = MovingInterrupt(
        AsCoded, kernel=LINUX_6_1, move_at=MOVE, old_vector=0x35, new_vector=0x22
    )
    sequence = modelled(system, MSI_64, since=800, events=[EVENT, 800])
    expected = recorded("clean-up-6.1")
    for cpu in range(2):
        assert [e for e in sequence if e[0] == cpu] == [e for e in expected if e[0] == cpu]


@pytest.mark.parametrize(
    ("name", "shape", "vector"),
    [
        ("set-up-msi-6.1", MSI_64, 0x29),
        ("set-up-maskable-6.1", MSI_32, 0x21),
        ("set-up-msix-6.1", MSIX, 0x22),
        ("set-up-msix-5.10", MSIX, 0x22),
    ],
)
def test_set_up(name, shape, vector):
    habits, strategy = KERNELS[name.rpartition("-")[2]]
    system = MovingInterrupt(
        strategy,
        kernel=habits,
        old_vector=vector,
        capability="msix" if shape is MSIX else "msi",
    )
    sequence = modelled(system, shape, since=0, apic=False)
    # Before it: finding the function and its capability, which every driver does elsewhere.
    expected = recorded(name)
    assert anywhere(sequence[-len(expected) :]) == anywhere(expected)
    assert all(entry[1] == "R" or entry[2] == "COMMAND" for entry in sequence[: -len(expected)])


@pytest.mark.parametrize(
    ("name", "shape"),
    [("free-msi-6.1", MSI_64), ("free-maskable-6.1", MSI_32), ("free-msix-6.1", MSIX)],
)
def test_free(name, shape):
    system = MovingInterrupt(
        AsCoded, kernel=LINUX_6_1, capability="msix" if shape is MSIX else "msi"
    )

    async def free(cpu):
        await cpu.delay_until(2000)
        await system.tear_down(cpu)

    system.machine.cpus[0].spawn(free)
    sequence = modelled(system, shape, since=2000, apic=False)
    assert anywhere(sequence) == anywhere(recorded(name))


def anywhere(accesses):
    """Without saying which CPU did it, and to which one the message goes."""
    places = {"here": "somewhere", "there": "somewhere"}
    return [(*entry[1:4], *(places.get(value, value) for value in entry[4:])) for entry in accesses]
