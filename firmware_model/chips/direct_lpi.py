"""PCI messages straight to a redistributor, where address and data both name the target.

A write of an INTID to a redistributor's GICR_SETLPIR makes that LPI pending at its CPU: the
address says which CPU, the data which LPI. No Linux uses that for PCI. Here INTIDs are given out
per CPU, as x86 vectors are: that is what makes the two halves of a message belong together.

What is pending at a redistributor cannot be looked at, and nothing can move it.
"""

from collections.abc import Sequence
from errno import EINVAL
from typing import NamedTuple

from hdl.registers.gicr import GicrRegister

from ..core.chip import AffinityResult, IrqChip, below
from ..core.cpumask import first_cpu
from ..core.desc import Irqd, IrqData, IrqDesc
from ..core.records import Kind
from ..machine.cpu import Cpu
from ..machine.locks import SpinLock
from .gicv3 import FIRST_LPI, GicV3
from .lpi_tables import LpiTables
from .pci_irq import Message, TargetedMsiChip


class LpiTarget(NamedTuple):
    """Where an interrupt goes. ``vector`` is the INTID, by the name that it has on x86."""

    vector: int
    cpu: int


class DirectLpiDomain(IrqChip):
    """The level next to the CPU: one LPI of one CPU.

    The INTID of a place that was left stays the interrupt's until its next move.

    Parameters
    ----------
    gic : GicV3
    tables : LpiTables
    first : sequence of int, one for each CPU
        Lowest INTID given out.

    Attributes
    ----------
    lock : SpinLock
        Guards what each INTID means on each CPU, which is ``gic.local``.
    """

    name = "LPI"

    def __init__(self, gic: GicV3, tables: LpiTables, first: Sequence[int] = ()):
        self.gic = gic
        self.tables = tables
        self._first = tuple(first) or (FIRST_LPI,) * len(gic.running)
        self.lock = SpinLock("lpi")
        gic.core.machine.register(self.lock)

    def add_to(self, desc: IrqDesc) -> IrqData:
        """Give ``desc`` its level in this domain."""
        data = desc.add_level(self, desc.irq)
        desc.flags |= Irqd.SINGLE_TARGET | Irqd.HANDLE_ENFORCE_IRQCTX | Irqd.RESEND_WHEN_IN_PROGRESS
        return data

    def target(self, data: IrqData) -> LpiTarget:
        """Where the interrupt with level ``data`` above or in this domain goes."""
        return self._level(data).chip_data

    def compose(self, target: LpiTarget) -> Message:
        """The message that goes to ``target``."""
        return Message(
            self.gic.frames.redistributors[target.cpu] + GicrRegister.SETLPIR, target.vector
        )

    async def hold(self, cpu: Cpu, desc: IrqDesc, target: LpiTarget) -> bool:
        """``target`` is to mean ``desc``, beside its own place; False if it is another's."""
        async with self.lock.guard_irqsave(cpu):
            local = self.gic.local[target.cpu]
            mine = local.setdefault(target.vector, desc) is desc
        if mine:
            await self._configure(cpu, target, enable=True)
            self._log(cpu, desc, target)
        return mine

    # What the core calls

    async def activate(self, cpu: Cpu, data: IrqData, *, early: bool) -> int:
        await self._assign(cpu, data, first_cpu(data.desc.affinity & self.gic.core.online))
        return 0

    async def deactivate(self, cpu: Cpu, data: IrqData) -> None:
        async with self.lock.guard_irqsave(cpu):
            self._forget(data.desc)

    async def irq_set_affinity(self, cpu: Cpu, data: IrqData, mask: int, force: bool) -> int:
        if mask >> data.chip_data.cpu & 1:
            return AffinityResult.OK_DONE
        chosen = first_cpu(mask & self.gic.core.online)
        if chosen < 0:
            return -EINVAL
        await self._assign(cpu, data, chosen)
        return AffinityResult.OK

    async def irq_mask(self, cpu: Cpu, data: IrqData) -> None:
        await self._configure(cpu, data.chip_data, enable=False)

    async def irq_unmask(self, cpu: Cpu, data: IrqData) -> None:
        await self._configure(cpu, data.chip_data, enable=True)

    async def irq_eoi(self, cpu: Cpu, data: IrqData) -> None:
        """Under whichever INTID it came here."""
        running = self.gic.running[cpu.index]
        await self.gic.end(cpu, running[-1] if running else data.chip_data.vector)

    async def irq_retrigger(self, cpu: Cpu, data: IrqData) -> bool:
        target: LpiTarget = data.chip_data
        cpu.log(Kind.RETRIGGER, irq=data.desc.irq, target=target.cpu, intid=target.vector)
        message = self.compose(target)
        await cpu.store64(message.address, message.data)
        return True

    async def _assign(self, cpu: Cpu, data: IrqData, chosen: int) -> None:
        async with self.lock.guard_irqsave(cpu):
            old: LpiTarget | None = data.chip_data
            self._forget(data.desc, but=old)
            local = self.gic.local[chosen]
            intid = next(i for i in range(self._first[chosen], 1 << 16) if i not in local)
            local[intid] = data.desc
            data.chip_data = LpiTarget(intid, chosen)
            data.desc.effective_affinity = 1 << chosen
            self._log(cpu, data.desc, data.chip_data)
        if old is not None:
            await self._configure(cpu, data.chip_data, enable=not data.desc.masked)

    def _forget(self, desc: IrqDesc, *, but: LpiTarget | None = None) -> None:
        for index, local in enumerate(self.gic.local):
            for intid in [i for i, holder in local.items() if holder is desc]:
                if (intid, index) != but:
                    del local[intid]

    async def _configure(self, cpu: Cpu, target: LpiTarget, *, enable: bool) -> None:
        """The property byte, and the redistributor that may remember another is told."""
        await self.tables.configure(cpu, target.vector, enable=enable)
        base = self.gic.frames.redistributors[target.cpu]
        await cpu.store64(base + GicrRegister.INVLPIR, target.vector)
        while await cpu.load(base + GicrRegister.SYNCR) & 1:
            pass

    def _level(self, data: IrqData) -> IrqData:
        return data if data.parent is None else self._level(data.parent)

    @staticmethod
    def _log(cpu: Cpu, desc: IrqDesc, target: LpiTarget) -> None:
        cpu.log(Kind.VECTOR_ASSIGNED, irq=desc.irq, target=target.cpu, vector=target.vector)


class DirectLpiMsiChip(TargetedMsiChip):
    """The level of one function's messages; ``hwirq`` is the number of the message."""

    name = "LPI-MSI"
    domain: DirectLpiDomain

    async def irq_mask(self, cpu: Cpu, data: IrqData) -> None:
        await super().irq_mask(cpu, data)
        await self.domain.irq_mask(cpu, below(data))

    async def irq_unmask(self, cpu: Cpu, data: IrqData) -> None:
        await super().irq_unmask(cpu, data)
        await self.domain.irq_unmask(cpu, below(data))

    async def irq_eoi(self, cpu: Cpu, data: IrqData) -> None:
        await self.domain.irq_eoi(cpu, below(data))
