"""x86 vectors: where an interrupt goes, how it moves, and when its old vector is given back.

Source: arch/x86/kernel/apic/vector.c. The lock order is descriptor, then vector lock; the vector
lock is never held while an interrupt is sent again by somebody who needs it.

Simplifications: destinations are physical, one CPU by its number, as in Linux 6.12 (6.1 writes one
bit a CPU into the same register). No managed interrupts, no posted ones, one message a function's
MSI, and no remapping, where nothing could be torn.
"""

from errno import EBUSY, ENOSPC
from typing import NamedTuple

from hdl.registers.lapic import LapicRegister, message_address, message_data

from ..core.chip import AffinityResult, IrqChip
from ..core.core import IrqCore
from ..core.cpumask import cpus_in, first_cpu
from ..core.desc import Irqd, IrqData, IrqDesc
from ..core.migration import irq_move_irq
from ..core.records import Kind
from ..machine.cpu import Cpu
from ..machine.locks import SpinLock
from . import local_apic
from .pci_irq import Message
from .vector_table import MANAGED_SHUTDOWN, VectorState, VectorTable

CLEANUP_VECTOR = 0x20
"""Before Linux 6.6 an IPI with this vector asked a CPU to give back vectors."""
ICR_PENDING = 1 << 12


class Target(NamedTuple):
    """Where an interrupt goes: what Linux calls its configuration."""

    vector: int
    cpu: int

    def message(self, *, assert_bit: bool = False) -> Message:
        """The message that goes there: physical destination, fixed delivery."""
        return Message(message_address(self.cpu), message_data(self.vector, asserted=assert_bit))


class ApicData:
    """What the vector domain knows about one interrupt; under the vector lock.

    ``vector`` 0: none. ``prev_vector`` is held until its cleanup; ``move_in_progress`` until the
    first interrupt has come to the new CPU. ``target`` is what the hardware is to be told.
    """

    def __init__(self) -> None:
        self.vector = 0
        self.cpu = 0
        self.prev_vector = 0
        self.prev_cpu = 0
        self.move_in_progress = False
        self.has_reserved = False
        self.target = Target(0, 0)


class VectorDomain(IrqChip):
    """The level next to the CPU: one vector on one CPU.

    Attributes
    ----------
    lock : SpinLock
        The vector lock.
    table : VectorTable
    in_service : list of list of int
        Vectors acknowledged and not yet ended, by CPU: what the hardware's ISR should hold.
    harvesting : set of int
        CPUs whose interrupt was ended already: an acknowledge must not end it again.
    """

    name = "APIC"

    def __init__(self, core: IrqCore, table: VectorTable | None = None):
        cpus = len(core.machine.cpus)
        self.core = core
        self.lock = SpinLock("vector")
        core.machine.register(self.lock)
        self.table = VectorTable(cpus) if table is None else table
        self.in_service: list[list[int]] = [[] for _ in range(cpus)]
        self.harvesting: set[int] = set()
        self._cleanup: list[list[IrqData]] = [[] for _ in range(cpus)]
        self._cleanup_timer = [False] * cpus

    def add_to(self, desc: IrqDesc) -> IrqData:
        """Give ``desc`` its level in this domain."""
        data = desc.add_level(self, desc.irq)
        data.chip_data = ApicData()
        desc.flags |= Irqd.SINGLE_TARGET | Irqd.HANDLE_ENFORCE_IRQCTX
        return data

    def place(self, desc: IrqDesc, cpu: int, vector: int) -> None:
        """Give ``desc``, new in this domain, a certain vector instead of the next that is free."""
        self.table.occupy(cpu, vector, desc)
        data = self.level(desc.data)
        data.chip_data.vector, data.chip_data.cpu = vector, cpu
        self._configure(data, Target(vector, cpu))

    def target(self, data: IrqData) -> Target:
        """Where the interrupt with level ``data`` above or in this domain goes."""
        return self.level(data).chip_data.target

    def level(self, data: IrqData) -> IrqData:
        """The level of this domain in the hierarchy of ``data``."""
        level: IrqData | None = data
        while level is not None:
            if level.chip is self:
                return level
            level = level.parent
        raise ValueError(f"irq {data.desc.irq} has no level in the vector domain")

    def compose(self, target: Target) -> Message:
        """The message that goes to ``target``, as this kernel writes it."""
        return target.message(assert_bit=self.core.kernel.assert_bit)

    # Vectors are given out and taken back: with the vector lock held.

    def _assign(self, cpu: Cpu, data: IrqData, mask: int) -> int:
        apicd: ApicData = data.chip_data
        online = self.core.online
        if apicd.vector and online >> apicd.cpu & 1 and mask >> apicd.cpu & 1:
            return 0
        if apicd.move_in_progress or apicd.prev_vector:
            return -EBUSY
        found = self.table.allocate(cpus_in(mask & online))
        if found is None:
            return -ENOSPC
        new_cpu, vector = found
        if apicd.vector:
            if online >> apicd.cpu & 1:
                apicd.move_in_progress = True
                apicd.prev_vector, apicd.prev_cpu = apicd.vector, apicd.cpu
            else:
                # The entry stays: interrupts that wait in that CPU's IRR are looked for by it.
                self.table.free(apicd.cpu, apicd.vector)
        apicd.vector, apicd.cpu = vector, new_cpu
        self.table.entries[new_cpu][vector] = data.desc
        self._configure(data, Target(vector, new_cpu))
        cpu.log(Kind.VECTOR_ASSIGNED, irq=data.desc.irq, target=new_cpu, vector=vector)
        return 0

    @staticmethod
    def _configure(data: IrqData, target: Target) -> None:
        data.chip_data.target = target
        data.desc.effective_affinity = 1 << target.cpu

    def _clear(self, data: IrqData) -> None:
        apicd: ApicData = data.chip_data
        if apicd.vector:
            self._shut(apicd.cpu, apicd.vector)
            apicd.vector = 0
        if apicd.prev_vector:
            self._shut(apicd.prev_cpu, apicd.prev_vector)
            self._forget_previous(data)

    def _shut(self, cpu: int, vector: int) -> None:
        self.table.entries[cpu][vector] = VectorState.SHUTDOWN
        self.table.free(cpu, vector)

    def _forget_previous(self, data: IrqData) -> None:
        apicd: ApicData = data.chip_data
        waiting = self._cleanup[apicd.prev_cpu]
        if data in waiting:
            waiting.remove(data)
        apicd.prev_vector = 0
        apicd.move_in_progress = False

    def _free_moved(self, cpu: Cpu, data: IrqData) -> None:
        """The old vector of a completed move may be used again."""
        apicd: ApicData = data.chip_data
        cpu.log(Kind.CLEANUP, irq=data.desc.irq, vector=apicd.prev_vector, done=True)
        self.table.free(apicd.prev_cpu, apicd.prev_vector)
        self.table.entries[apicd.prev_cpu][apicd.prev_vector] = VectorState.UNUSED
        self._forget_previous(data)

    def _reserve(self, data: IrqData) -> None:
        """No vector of its own: what comes meets the vector that means nobody."""
        data.chip_data.has_reserved = True
        self._configure(data, Target(MANAGED_SHUTDOWN, first_cpu(self.core.online)))

    # What the core calls

    async def activate(self, cpu: Cpu, data: IrqData, *, early: bool) -> int:
        """A vector of a CPU in the wanted affinity; early, and if it may wait, none yet."""
        apicd: ApicData = data.chip_data
        async with self.lock.guard_irqsave(cpu):
            if early and data.desc.flags & Irqd.CAN_RESERVE:
                self._reserve(data)
                return 0
            apicd.has_reserved = False
            if apicd.vector:
                return 0
            return self._assign(cpu, data, data.desc.affinity & self.core.online)

    async def deactivate(self, cpu: Cpu, data: IrqData) -> None:
        """One that may wait gives its vector back; others keep it until :meth:`release`."""
        if data.desc.flags & Irqd.CAN_RESERVE and not data.chip_data.has_reserved:
            async with self.lock.guard_irqsave(cpu):
                self._clear(data)
                self._reserve(data)

    async def release(self, cpu: Cpu, data: IrqData) -> None:
        """The interrupt goes away altogether: with it whatever vectors it holds."""
        async with self.lock.guard_irqsave(cpu):
            self._clear(data)

    async def irq_set_affinity(self, cpu: Cpu, data: IrqData, mask: int, force: bool) -> int:
        if not data.desc.flags & Irqd.ACTIVATED and not data.chip_data.vector:
            cpu.misuse("the affinity of an inactive interrupt is set", irq=data.desc.irq)
            return -EBUSY
        async with self.lock.guard_irqsave(cpu):
            return self._assign(cpu, data, mask) or AffinityResult.OK

    async def irq_retrigger(self, cpu: Cpu, data: IrqData) -> bool:
        apicd: ApicData = data.chip_data
        async with self.lock.guard_irqsave(cpu):
            cpu.log(Kind.RETRIGGER, irq=data.desc.irq, target=apicd.cpu, vector=apicd.vector)
            await self.send_ipi(cpu, apicd.cpu, apicd.vector)
        return True

    async def irq_ack(self, cpu: Cpu, data: IrqData) -> None:
        """Complete the last move, make the next one, and only then end the interrupt."""
        await self._complete_move(cpu, data)
        await irq_move_irq(cpu, data.desc)
        await self.eoi(cpu)

    async def irq_force_complete_move(self, cpu: Cpu, data: IrqData) -> None:
        apicd: ApicData = data.chip_data
        async with self.lock.guard_irqsave(cpu):
            if not apicd.prev_vector:
                return
            if apicd.move_in_progress:
                cpu.log(
                    Kind.WARNING,
                    text="move in progress",
                    irq=data.desc.irq,
                    vector=apicd.prev_vector,
                )
            self._free_moved(cpu, data)

    # The local APIC

    async def eoi(self, cpu: Cpu) -> None:
        """End the interrupt in service; without one, that is misuse and still written."""
        if cpu.index in self.harvesting:
            return
        serving = self.in_service[cpu.index]
        if serving:
            serving.pop()
        else:
            cpu.misuse("EOI without an interrupt in service")
        await local_apic.end_of_interrupt(cpu)

    async def send_ipi(self, cpu: Cpu, target: int, vector: int) -> None:
        """Once the command register is free: an interrupt ``vector`` at CPU ``target``."""
        icr = local_apic.REGISTER_BASE + LapicRegister.ICR_LOW
        while await cpu.load(icr) & ICR_PENDING:
            pass
        cpu.log(Kind.IPI, target=target, vector=vector)
        await local_apic.send(cpu, target, vector)

    # After a move

    async def _complete_move(self, cpu: Cpu, data: IrqData) -> None:
        """The first interrupt on the new CPU: nothing more will be sent to the old one."""
        apicd: ApicData = data.chip_data
        if not apicd.move_in_progress or apicd.cpu != cpu.index:
            return
        async with self.lock.guard_irqsave(cpu):
            apicd.move_in_progress = False
            old = apicd.prev_cpu
            if not self.core.online >> old & 1:
                self._free_moved(cpu, data)
                return
            self._cleanup[old].append(data)
            if not self.core.kernel.cleanup_timer:
                await self.send_ipi(cpu, old, CLEANUP_VECTOR)
            elif not self._cleanup_timer[old]:
                self._start_cleanup_timer(old)

    def _start_cleanup_timer(self, cpu: int) -> None:
        self._cleanup_timer[cpu] = True
        self.core.machine.cpus[cpu].start_timer(self.core.jiffy, self._cleanup_expired)

    async def _cleanup_expired(self, cpu: Cpu) -> None:
        self._cleanup_timer[cpu.index] = False
        async with self.lock.guard_irqsave(cpu):
            if await self.clean_up(cpu):
                self._start_cleanup_timer(cpu.index)

    async def handle_cleanup_ipi(self, cpu: Cpu) -> None:
        """Before Linux 6.6: what the IPI with :data:`CLEANUP_VECTOR` does."""
        await self.eoi(cpu)
        async with self.lock.guard(cpu):
            if await self.clean_up(cpu):
                await self.send_ipi(cpu, cpu.index, CLEANUP_VECTOR)

    async def clean_up(self, cpu: Cpu, *, look: bool = True) -> bool:
        """Give back this CPU's old vectors; whether one is left, since it waits in the IRR.

        With the vector lock held. ``look`` False: without looking, the CPU goes offline.
        """
        left = False
        if not look:
            self._cleanup_timer[cpu.index] = False
        for data in list(self._cleanup[cpu.index]):
            vector = data.chip_data.prev_vector
            if look and await local_apic.requested(cpu, vector):
                cpu.log(Kind.CLEANUP, irq=data.desc.irq, vector=vector, done=False)
                left = True
            else:
                self._free_moved(cpu, data)
        return left
