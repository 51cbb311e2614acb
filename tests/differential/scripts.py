"""Random software on random stimulus, determined by a seed alone."""

import random

from firmware_model.machine.machine import Machine
from hdl.bus import RequesterKind
from hdl.config import APIC_WINDOW, RAM_BASE
from hdl.cpu_port import Operation
from hdl.registers.lapic import LapicRegister
from sim.hosts.base import EXTERNAL, Poke, operation_pokes
from sim.trial import Plan

REGISTERS = APIC_WINDOW.base
ENABLE = 0x1FF


async def _vector(cpu, line):
    vector = await cpu.read_sysreg("LAPIC_INTA")
    cpu.log("interrupt", vector=vector)
    await cpu.delay(vector % 7)
    await cpu.store(REGISTERS + LapicRegister.EOI, 0)


def _program(seed: str):
    async def main(cpu):
        dice = random.Random(seed)
        await cpu.store(REGISTERS + LapicRegister.SVR, ENABLE)
        for _ in range(dice.randrange(10, 40)):
            await _step(cpu, dice)

    return main


async def _step(cpu, dice):
    address = RAM_BASE + 4 * dice.randrange(64)
    size = dice.choice((1, 2, 4))
    match dice.randrange(8):
        case 0:
            await cpu.delay(dice.randrange(30))
        case 1:
            cpu.log("got", data=await cpu.load(dice.choice((0x10, address + 3, 1 << 45))))
        case 2:
            async with cpu.irqs_disabled():
                await cpu.store(address, dice.getrandbits(8 * size), size)
        case 3 | 4:
            await cpu.store(address, dice.getrandbits(8 * size), size)
        case 5:
            await cpu.store(REGISTERS + LapicRegister.TPR, dice.randrange(0, 0x80))
        case _:
            cpu.log("got", data=await cpu.load(address, size))


def _messages(dice: random.Random) -> list[Poke]:
    pokes = []
    cycle = 40
    for _ in range(dice.randrange(1, 12)):
        cycle += dice.randrange(20, 60)
        pokes += [
            Poke(cycle, "external_requester.kind", RequesterKind.DEVICE.value),
            Poke(cycle, "external_requester.id", dice.getrandbits(16)),
        ]
        address = APIC_WINDOW.base | dice.randrange(3) << 12
        data = dice.randrange(0x00, 0x100)
        pokes += operation_pokes(EXTERNAL, cycle, Operation.STORE.value, 2, address, data)
    return pokes


def make(seed: int) -> Plan:
    """The plan that ``seed`` stands for: two CPUs on shared RAM, stray devices' messages."""
    machine = Machine(2, vector=_vector)
    for cpu in machine.cpus:
        cpu.spawn(_program(f"{seed}/{cpu.index}"))
    return Plan(machine, _messages(random.Random(seed)), limit=5000)
