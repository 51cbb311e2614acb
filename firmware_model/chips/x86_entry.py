"""How an x86 CPU takes an interrupt, and how it leaves. Source: arch/x86/kernel/irq.c, vector.c"""

from hdl.probe import CpuContext

from ..core.cpuhotplug import migrate_all_off_this_cpu
from ..core.desc import IrqDesc
from ..core.records import Kind
from ..machine.cpu import Cpu
from ..machine.ops import Line, Software
from . import local_apic
from .vector_table import FIRST_EXTERNAL, VECTORS, VectorState
from .x86_vector import CLEANUP_VECTOR, VectorDomain

CALL_VECTOR = 0xFB
"""Cross calls."""


class InterruptEntry:
    """Turns the INTR line into calls of flow handlers; :meth:`vector` is what the machine calls.

    Attributes
    ----------
    system : dict of int to async function (cpu)
        Handlers of vectors that belong to no device; they end their interrupt themselves.
    """

    def __init__(self, domain: VectorDomain):
        self.domain = domain
        self.system: dict[int, Software] = {}
        if not domain.core.kernel.cleanup_timer:
            self.system[CLEANUP_VECTOR] = domain.handle_cleanup_ipi
            for cpu in domain.core.machine.cpus:
                domain.table.occupy(cpu.index, CLEANUP_VECTOR)

    async def vector(self, cpu: Cpu, line: Line) -> None:
        """One interrupt, from the acknowledge to the end."""
        domain = self.domain
        vector = await local_apic.acknowledge(cpu)
        if vector == local_apic.SPURIOUS_VECTOR:
            cpu.log(Kind.SPURIOUS_VECTOR)
            return
        serving = domain.in_service[cpu.index]
        depth = len(serving)
        serving.append(vector)
        cpu.log(Kind.INTERRUPT, vector=vector)
        handler = self.system.get(vector)
        if handler is not None:
            await handler(cpu)
        else:
            await self._common_interrupt(cpu, vector)
        if len(serving) != depth:
            cpu.misuse("an interrupt was left in service", vector=vector)

    async def _common_interrupt(self, cpu: Cpu, vector: int) -> None:
        entry = self.domain.table.entries[cpu.index][vector]
        desc = entry if isinstance(entry, IrqDesc) else await self._reevaluate(cpu, vector)
        if desc is not None:
            await desc.handle(cpu, desc)
        else:
            await self.domain.eoi(cpu)

    async def _reevaluate(self, cpu: Cpu, vector: int) -> IrqDesc | None:
        """Under the lock the entry may have become valid; if not, it is used up."""
        async with self.domain.lock.guard(cpu):
            entries = self.domain.table.entries[cpu.index]
            entry = entries[vector]
            if isinstance(entry, IrqDesc):
                return entry
            if entry is VectorState.UNUSED:
                cpu.log(Kind.NO_IRQ_HANDLER, vector=vector)
            else:
                cpu.log(Kind.VECTOR_DROPPED, vector=vector, state=entry.value)
                entries[vector] = VectorState.UNUSED
        return None


async def take_cpu_down(cpu: Cpu, domain: VectorDomain, *, grace: int) -> None:
    """What the CPU that goes offline does, all others stopped (``stop_machine``).

    Its interrupts move to other CPUs; what still came to it within ``grace`` clocks (a
    millisecond in Linux) is sent again to where it moved; what comes later is lost.
    """
    async with domain.lock.guard(cpu):
        cpu.online = False
    await migrate_all_off_this_cpu(cpu, domain.core)
    await cpu.delay(grace)
    await _send_on(cpu, domain)
    async with domain.lock.guard(cpu):
        await domain.clean_up(cpu, look=False)
    await local_apic.disable(cpu)
    cpu.log(Kind.OFFLINE)


async def _send_on(cpu: Cpu, domain: VectorDomain) -> None:
    entries = domain.table.entries[cpu.index]
    for vector in range(FIRST_EXTERNAL, VECTORS):
        desc = entries[vector]
        if not isinstance(desc, IrqDesc):
            continue
        state = VectorState.UNUSED
        if await local_apic.requested(cpu, vector):
            async with desc.held(cpu, CpuContext.STOP_MACHINE):
                data = domain.level(desc.data)
                await domain.irq_retrigger(cpu, data)
            state = VectorState.RETRIGGERED
        entries[vector] = state
