"""Switching a GICv3 on: the distributor once, then each CPU's redistributor and CPU interface.

Source: drivers/irqchip/irq-gic-v3.c, in its order of writes. Left out: what only looks (identity,
group 0 in ICC_PMR) and ICC_AP0R0, for there is no group 0.
"""

from hdl.registers.gicd import GicdCtlr, GicdRegister, GicdTyper
from hdl.registers.gicr import GicrRegister, GicrTyper, GicrWaker
from hdl.registers.icc import IccCtlr
from hdl.registers.sysreg import SystemRegister

from ..machine.cpu import Cpu
from .gicv3 import FIRST_SPI, PRIORITY, GicV3

ALL = 0xFFFF_FFFF
ENABLE = GicdCtlr.const({"are": 1, "enable_group1": 1, "enable_group0": 1}).as_bits()
SLEEP = GicrWaker.const({"processor_sleep": 1}).as_bits()
ASLEEP = GicrWaker.const({"children_asleep": 1}).as_bits()
PRIORITY_MASK = 0xF0
"""ICC_PMR: everything is let through."""


async def init_distributor(cpu: Cpu, gic: GicV3) -> None:
    """All SPIs: group 1, level, one priority, neither active nor enabled, routed to this CPU."""
    base = gic.frames.distributor
    typer = GicdTyper.from_bits(await cpu.load(base + GicdRegister.TYPER))
    lines = 32 * (typer.it_lines_number + 1)
    await cpu.store(base + GicdRegister.CTLR, 0)
    await gic.wait_for_rwp(cpu)
    for intid in range(FIRST_SPI, lines, 32):
        await cpu.store(base + GicdRegister.IGROUPR + intid // 8, ALL)
    for intid in range(FIRST_SPI, lines, 16):
        await cpu.store(base + GicdRegister.ICFGR + intid // 4, 0)
    for intid in range(FIRST_SPI, lines, 4):
        await cpu.store(base + GicdRegister.IPRIORITYR + intid, PRIORITY * 0x0101_0101)
    for intid in range(FIRST_SPI, lines, 32):
        await cpu.store(base + GicdRegister.ICACTIVER + intid // 8, ALL)
        await cpu.store(base + GicdRegister.ICENABLER + intid // 8, ALL)
    await cpu.store(base + GicdRegister.CTLR, ENABLE)
    await gic.wait_for_rwp(cpu)
    for intid in range(FIRST_SPI, lines):
        await cpu.store64(base + GicdRegister.IROUTER + 8 * intid, cpu.index)


async def find_redistributor(cpu: Cpu, gic: GicV3) -> None:
    """Each CPU looks for its own, by affinity; not to find it is misuse."""
    base = gic.frames.redistributors[cpu.index]
    typer = GicrTyper.from_bits(await cpu.load64(base + GicrRegister.TYPER))
    if typer.affinity != cpu.index:
        cpu.misuse("a redistributor is another CPU's", frame=base, affinity=typer.affinity)


async def init_cpu(cpu: Cpu, gic: GicV3) -> None:
    """Wake the redistributor, quieten SGIs and PPIs, open the CPU interface."""
    await find_redistributor(cpu, gic)
    base = gic.frames.redistributors[cpu.index]
    waker = await cpu.load(base + GicrRegister.WAKER)
    await cpu.store(base + GicrRegister.WAKER, waker & ~SLEEP)
    while await cpu.load(base + GicrRegister.WAKER) & ASLEEP:
        pass
    await cpu.store(base + GicrRegister.IGROUPR0, ALL)
    await cpu.store(base + GicrRegister.ICACTIVER0, ALL)
    await cpu.store(base + GicrRegister.ICENABLER0, ALL)
    for intid in range(0, 32, 4):
        await cpu.store(base + GicrRegister.IPRIORITYR + intid, PRIORITY * 0x0101_0101)
    await gic.wait_for_rwp(cpu, 0)
    control = IccCtlr.const({"eoi_mode": gic.eoimode}).as_bits()
    await cpu.write_sysreg(SystemRegister.ICC_PMR_EL1, PRIORITY_MASK)
    await cpu.write_sysreg(SystemRegister.ICC_BPR1_EL1, 0)
    await cpu.write_sysreg(SystemRegister.ICC_CTLR_EL1, control)
    await cpu.write_sysreg(SystemRegister.ICC_AP1R0_EL1, 0)
    await cpu.write_sysreg(SystemRegister.ICC_IGRPEN1_EL1, 1)


async def enable_sgis(cpu: Cpu, gic: GicV3, count: int) -> None:
    """Let SGIs 0 to ``count`` - 1 in, one after the other."""
    for intid in range(count):
        await gic.unmask(cpu, intid)


async def disable_sgis(cpu: Cpu, gic: GicV3, count: int) -> None:
    """The opposite, on the way out: each is waited for."""
    for intid in range(count):
        await gic.mask(cpu, intid)
