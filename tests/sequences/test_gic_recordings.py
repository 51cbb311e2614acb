"""The model's accesses on Arm are those of a real kernel: registers, commands, their order.

As in :mod:`.test_recordings` both sides are put into the same words first. A command stands where
it was handed over, just before the write of CWRITER; a doubleword is two words; which device and
which LPI it is, and where a table lies, does not count.
"""

from types import SimpleNamespace

import pytest

from firmware_model.chips.gicv3 import GicFrames
from firmware_model.core import LINUX_6_1
from firmware_model.core.flow import FasteoiFlow
from firmware_model.core.manage import request_irq
from firmware_model.platforms import stimuli
from firmware_model.platforms.arm64 import Arm64System
from firmware_model.platforms.arm64_messages import MessageSystem
from hdl.registers.gits import COMMAND_BYTES, GitsRegister, Opcode
from hdl.registers.sysreg import SystemRegister
from sim.reference import EndpointShape, ReferenceMachine

from ..reference_host import LOAD, STORE, WRITE_SYSREG, ReferenceHost
from .test_recordings import COMMAND_BITS, DATA, MSI_BITS, MSIX_BITS, capability_registers

FRAMES = GicFrames()
ICC = {f"ICC_{name}_EL1": name for name in ("PMR", "BPR1", "CTLR", "AP1R0", "IGRPEN1")}
MSI, MSIX = EndpointShape(msi="64"), EndpointShape(msi="none", msix_vectors=1)
VALID = 1 << 63
LATER = 3000


def access(write, register, size, value):
    """One access in the common words, one word at a time; what is read does not count."""
    if size == 8:
        offset = int(register.split("+")[1], 16)
        frame = register.split("+")[0]
        return access(write, register, 4, value & 0xFFFF_FFFF) + access(
            write, f"{frame}+{offset + 4:#x}", 4, value >> 32
        )
    if not write:
        return [("R", register, size)]
    if register == "MSI.flags":
        value &= MSI_BITS
    elif register == "MSIX.ctrl":
        value &= MSIX_BITS
    elif register == "COMMAND":
        value &= COMMAND_BITS
    elif register == f"GITS+{GitsRegister.CWRITER:#x}":
        value = None
    return [("W", register, size, value)]


def command(words):
    """A command without its device and its LPI."""
    opcode, event, where = Opcode(words[0] & 0xFF), words[1] & 0xFFFF_FFFF, words[2]
    if opcode == Opcode.MAPD:
        where &= VALID
    return ("CMD", opcode.name, event, where)


def recorded(name):
    accesses = []
    for line in (DATA / f"{name}.txt").read_text().splitlines():
        words = line.split()
        if words[0] == "#":
            continue
        kind, write = words[2], words[3] == "W"
        if kind == "CMD":
            raw = words[-1].removeprefix("raw=").split(":")
            accesses.append(command([int(word, 16) for word in raw]))
        elif kind == "ICC":
            accesses.append(("W", words[4], int(words[5], 16)))
        elif kind == "CFG":
            accesses += access(write, words[9], int(words[7]), int(words[8], 16))
        elif kind == "MSIX":
            register, size, value = f"{words[5]}.{words[6]}", int(words[7]), words[8]
            accesses += access(write, register, size, int(value, 16))
        else:
            register = f"{kind}+{int(words[4], 16):#x}"
            accesses += access(write, register, int(words[5]), int(words[6], 16))
    assert accesses, name
    return accesses


def frame_register(address):
    frames = {
        "GICD": (FRAMES.distributor, 0x1_0000),
        "GITS": (FRAMES.its, 0x1_0000),
        **{f"GICR{i}": (base, 0x2_0000) for i, base in enumerate(FRAMES.redistributors)},
    }
    for name, (base, size) in frames.items():
        if base <= address < base + size:
            return f"{name}+{address - base:#x}"
    return None


def modelled(system, shape=MSI, *, since=0, cpu=None):
    """The accesses that ``system`` makes from a cycle on, in the common words."""
    config = SimpleNamespace(
        spis=32, lpis=32, device_id_bits=8, event_id_bits=5, local_apics=False, endpoints=(shape,)
    )
    reference = ReferenceMachine(config)
    host = ReferenceHost(system.machine, reference)
    assert host.run().finished
    assert not [r for r in system.machine.log if r.kind in ("misuse", "crash")]
    names = capability_registers(reference)
    memory, accesses, handed_over = {}, [], 0
    for cycle, index, operation, log2, address, data in host.accesses:
        if operation == STORE:
            memory[address] = data
        register = names.get(address) or frame_register(address)
        here = cycle >= since and cpu in (None, index)
        if operation == WRITE_SYSREG and SystemRegister(address).name in ICC and here:
            accesses.append(("W", ICC[SystemRegister(address).name], data))
        if operation not in (LOAD, STORE) or register is None:
            continue
        if operation == STORE and register == f"GITS+{GitsRegister.CWRITER:#x}":
            queue = system.its.queue.base
            for offset in range(handed_over, data, COMMAND_BYTES):
                words = [memory[queue + offset + i] for i in range(0, COMMAND_BYTES, 4)]
                pairs = zip(words[::2], words[1::2], strict=True)
                if here:
                    accesses.append(command([low | high << 32 for low, high in pairs]))
            handed_over = data
        if here:
            accesses += access(operation == STORE, register, 1 << log2, data)
    return accesses


def system(*, affinity=1, capability="msi"):
    return MessageSystem(FasteoiFlow(), LINUX_6_1, affinity=affinity, capability=capability)


@pytest.mark.parametrize(
    ("name", "shape", "affinity"), [("set-up-lpi", MSI, 2), ("set-up-lpi-msix", MSIX, 1)]
)
def test_set_up(name, shape, affinity):
    made = system(affinity=affinity, capability="msi" if shape is MSI else "msix")
    expected = recorded(name)
    assert modelled(made, shape)[-len(expected) :] == expected


def test_a_move_is_one_command_and_its_sync():
    made = system()
    made.machine.cpus[0].spawn(stimuli.move, LATER, made.desc, 0b10)
    sequence = modelled(made, since=LATER)
    assert sequence == recorded("move-lpi")
    assert [entry[1] for entry in sequence if entry[0] == "CMD"] == ["MOVI", "SYNC"]


def test_free():
    made = system()

    async def free(cpu):
        await cpu.delay_until(LATER)
        await made.tear_down(cpu)

    made.machine.cpus[0].spawn(free)
    assert modelled(made, since=LATER) == recorded("free-lpi")


def test_a_cpu_goes_offline():
    made = system(affinity=2)

    async def down(cpu):
        await cpu.delay_until(LATER)
        await made.take_down(cpu, 1)

    made.machine.cpus[0].spawn(down)
    assert modelled(made, since=LATER, cpu=1) == recorded("offline")


def test_a_cpu_comes_back():
    made = system()

    async def down_and_up(cpu):
        await cpu.delay_until(LATER)
        await made.take_down(cpu, 1)
        await cpu.delay_until(2 * LATER)
        made.bring_up(1)

    made.machine.cpus[0].spawn(down_and_up)
    identity = {("R", "GICR1+0x8", 4), ("R", "GICR1+0xc", 4)}
    sequence = [e for e in modelled(made, since=2 * LATER, cpu=1) if e not in identity]
    assert sequence == recorded("online")


class Wired(Arm64System):
    """One SPI, requested."""

    def __init__(self):
        super().__init__(LINUX_6_1)
        self.desc = self.add_spi(33, 38, affinity=1)
        self.action = SimpleNamespace(name="nobody", flags=0)

    async def set_up(self, cpu):
        await request_irq(cpu, self.desc, self.action)


def test_an_spi_moves_masked():
    made = Wired()
    made.machine.cpus[0].spawn(stimuli.move, LATER, made.desc, 0b10)
    assert modelled(made, since=LATER) == recorded("move-spi")
