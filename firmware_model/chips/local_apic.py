"""The executing CPU's own local APIC."""

from hdl.registers.lapic import REGISTER_BASE, LapicRegister, interrupt_command
from hdl.registers.sysreg import SystemRegister

from ..machine.cpu import Cpu

SPURIOUS_VECTOR = 0xFF
SOFTWARE_ENABLE = 1 << 8


async def enable(cpu: Cpu) -> None:
    """Let messages in."""
    await cpu.store(REGISTER_BASE + LapicRegister.SVR, SOFTWARE_ENABLE | SPURIOUS_VECTOR)


async def disable(cpu: Cpu) -> None:
    """Keep messages out; what is in stays."""
    await cpu.store(REGISTER_BASE + LapicRegister.SVR, SPURIOUS_VECTOR)


async def acknowledge(cpu: Cpu) -> int:
    """The interrupt-acknowledge cycle: the vector to serve, now in service."""
    return await cpu.read_sysreg(SystemRegister.LAPIC_INTA)


async def end_of_interrupt(cpu: Cpu) -> None:
    """Nothing of the highest vector in service is left to do."""
    await cpu.store(REGISTER_BASE + LapicRegister.EOI, 0)


async def requested(cpu: Cpu, vector: int) -> bool:
    """Whether ``vector`` waits in this CPU's IRR."""
    word = await cpu.load(REGISTER_BASE + LapicRegister.IRR + 16 * (vector // 32))
    return bool(word >> vector % 32 & 1)


async def send(cpu: Cpu, destination: int, vector: int) -> None:
    """An inter-processor interrupt to the CPU with APIC id ``destination``."""
    high, low = interrupt_command(vector, destination)
    await cpu.store(REGISTER_BASE + LapicRegister.ICR_HIGH, high)
    await cpu.store(REGISTER_BASE + LapicRegister.ICR_LOW, low)
