"""What somebody does to an interrupt at a certain clock: tasks for ``cpu.spawn``."""

from ..core.desc import Action, IrqDesc
from ..core.manage import disable_irq_nosync, enable_irq, free_irq, request_irq
from ..core.migration import irq_set_affinity
from ..machine.cpu import Cpu


async def move(cpu: Cpu, at: int, desc: IrqDesc, mask: int) -> None:
    """Write smp_affinity."""
    await cpu.delay_until(at)
    await irq_set_affinity(cpu, desc, mask)


async def disable_and_enable(cpu: Cpu, at: int, desc: IrqDesc) -> None:
    """Disable it without waiting for its handler, and enable it at once."""
    await cpu.delay_until(at)
    await disable_irq_nosync(cpu, desc)
    await enable_irq(cpu, desc)


async def free_and_request(cpu: Cpu, at: int, desc: IrqDesc, action: Action, pause: int) -> None:
    """Free it, and request it again ``pause`` clocks later."""
    await cpu.delay_until(at)
    await free_irq(cpu, desc, action)
    await cpu.delay(pause)
    await request_irq(cpu, desc, action)
