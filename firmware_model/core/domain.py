"""Which irq a controller's own number (hwirq) is mapped to. Source: kernel/irq/irqdomain.c

A domain is one controller's numbers. One with a parent is a level of a hierarchy: its interrupts
have a level there too, and the domains of a hierarchy share the lock of its root, the one next
to the CPU.
"""

from ..machine.cpu import Cpu
from ..machine.locks import Mutex
from .chip import IrqChip
from .core import IrqCore
from .desc import Irqd, IrqData, IrqDesc, Trigger
from .flow import BadFlow, FlowHandler
from .manage import synchronize_irq
from .records import Kind


class NoIrqChip(IrqChip):
    """no_irq_chip: of an interrupt that is not mapped. It believes everything and does nothing."""

    async def irq_enable(self, cpu: Cpu, data: IrqData) -> None:
        pass

    async def irq_disable(self, cpu: Cpu, data: IrqData) -> None:
        pass


NO_IRQ_CHIP = NoIrqChip()
LEVEL = Trigger.LEVEL_HIGH | Trigger.LEVEL_LOW


class IrqDomain:
    """The interrupts of one controller, whose chip is ``chip``.

    A controller whose mapping takes more than a descriptor overrides :meth:`map`, :meth:`unmap`.

    Parameters
    ----------
    core : IrqCore
    name : str
    chip : IrqChip
    parent : IrqDomain or None
        The level closer to the CPU.
    hierarchical : bool
        Interrupts are allocated level by level even if this is the only one, as on a GICv3.
    flow : FlowHandler
        Of interrupts whose outermost level this is.
    flags : int
        Of :class:`Irqd`, that its interrupts have.

    Attributes
    ----------
    mutex : Mutex
        The root's: guards everything here.
    revmap : dict of hwirq to IrqDesc
        Readers take it under RCU, without the mutex.
    mapcount : int
        Mappings made and not torn down, which is more than ``revmap`` has if two are of one hwirq.
    """

    def __init__(
        self,
        core: IrqCore,
        name: str,
        chip: IrqChip,
        *,
        parent: "IrqDomain | None" = None,
        hierarchical: bool = False,
        flow: FlowHandler | None = None,
        flags: int = 0,
    ):
        self.core = core
        self.name = name
        self.chip = chip
        self.parent = parent
        self.hierarchical = hierarchical or parent is not None
        self.flow = flow or BadFlow()
        self.flags = flags
        self.mutex: Mutex = (
            parent.mutex if parent else Mutex(f"domain {name}", lock_class="irq_domain")
        )
        self.revmap: dict[int, IrqDesc] = {}
        self.mapcount = 0

    def __repr__(self) -> str:
        return f"<IrqDomain {self.name!r}>"

    # What a controller may have to say to it

    def parent_hwirq(self, hwirq: int) -> int:
        """The parent's number of this domain's ``hwirq``."""
        return hwirq

    async def map(self, cpu: Cpu, data: IrqData) -> int:
        """ops.map, or this level's own part of ops.alloc; 0 or a negative error."""
        return 0

    async def unmap(self, cpu: Cpu, data: IrqData) -> None:
        """ops.unmap, or this level's own part of ops.free."""

    # Level by level

    async def alloc(self, cpu: Cpu, desc: IrqDesc, hwirq: int) -> int:
        """Give ``desc`` its levels, the parent's first; 0, or a negative error and no level."""
        if self.parent is not None:
            error = await self.parent.alloc(cpu, desc, self.parent_hwirq(hwirq))
            if error:
                return error
        data = desc.add_level(self.chip, hwirq)
        data.domain = self
        error = await self.map(cpu, data)
        if error:
            desc.remove_level()
            if self.parent is not None:
                await self.parent.free(cpu, desc)
        return error

    async def free(self, cpu: Cpu, desc: IrqDesc) -> None:
        """The opposite: this level, whose chip lets go of it, and then the parent's."""
        data = desc.data
        await self.unmap(cpu, data)
        self._log_unmapped(cpu, desc, data)
        desc.remove_level()
        if self.parent is not None:
            await self.parent.free(cpu, desc)

    def enter(self, desc: IrqDesc) -> None:
        """In the reverse map of every level: from now on its interrupts find it."""
        data: IrqData | None = desc.data
        while data is not None:
            domain = data.domain
            if domain is not None:
                domain.revmap[data.hwirq] = desc
                domain.mapcount += 1
            data = data.parent

    def leave(self, desc: IrqDesc) -> None:
        """Out of them: its interrupts find nothing any more, whoever else is mapped there."""
        data: IrqData | None = desc.data
        while data is not None:
            domain = data.domain
            if domain is not None:
                domain.revmap.pop(data.hwirq, None)
                domain.mapcount -= 1
            data = data.parent

    def _log_unmapped(self, cpu: Cpu, desc: IrqDesc, data: IrqData) -> None:
        cpu.log(
            Kind.UNMAPPED,
            irq=desc.irq,
            domain=self.name,
            hwirq=data.hwirq,
            references=desc.references,
        )

    async def remove(self, cpu: Cpu) -> bool:
        """The controller goes; whether it can: a mapping that is left keeps it."""
        async with self.mutex.guard(cpu):
            if self.mapcount:
                cpu.log(Kind.DOMAIN_BUSY, domain=self.name, mapped=self.mapcount)
                return False
        cpu.log(Kind.DOMAIN_REMOVED, domain=self.name)
        return True


class Mappings:
    """How a kernel makes, finds and tears down mappings; a variant overrides one of the steps.

    Nothing is counted: a hwirq that is mapped already is found, and the first disposal ends it.

    Parameters
    ----------
    core : IrqCore
    work : int
        Clocks that an allocation and a tear-down take beside their accesses, in which others can
        come between.
    """

    def __init__(self, core: IrqCore, *, work: int = 20):
        if work < 0:
            raise ValueError(f"work must be 0 or more clocks, not {work}")
        self.core = core
        self.work = work

    # Finding and making

    def find(self, domain: IrqDomain, hwirq: int) -> int:
        """The irq of ``hwirq``, 0 if it has none."""
        desc = domain.revmap.get(hwirq)
        return 0 if desc is None else desc.irq

    async def create(
        self, cpu: Cpu, domain: IrqDomain, hwirq: int, trigger: int = Trigger.NONE
    ) -> int:
        """irq_create_fwspec_mapping: the irq of ``hwirq``, new if it had none; 0 is an error.

        A mapping with another trigger than the one asked for is an error, and left as it is.
        """
        if not self.core.kernel.mapping_locked:
            # Whoever creates it meanwhile is not seen: the look-up comes before the lock.
            desc = domain.revmap.get(hwirq)
            if desc is not None:
                return await self._reuse(cpu, desc, trigger)
        async with domain.mutex.guard(cpu):
            desc = domain.revmap.get(hwirq) if self.core.kernel.mapping_locked else None
            if desc is not None:
                return await self._reuse(cpu, desc, trigger)
            return await self._make(cpu, domain, hwirq, trigger)

    async def _reuse(self, cpu: Cpu, desc: IrqDesc, trigger: int) -> int:
        known = desc.flags & Irqd.TRIGGER_MASK
        if known != Trigger.NONE and trigger not in (Trigger.NONE, known):
            cpu.log(Kind.WARNING, text="type mismatch of a mapping", irq=desc.irq)
            return 0
        if known == Trigger.NONE:
            _set_trigger(desc, trigger)
        await self.found(cpu, desc)
        data = desc.data
        name = data.domain.name if data.domain else ""
        cpu.log(Kind.MAPPING_FOUND, irq=desc.irq, domain=name, hwirq=data.hwirq)
        return desc.irq

    async def found(self, cpu: Cpu, desc: IrqDesc) -> None:
        """One more caller has been given an irq that was mapped already."""

    async def _make(self, cpu: Cpu, domain: IrqDomain, hwirq: int, trigger: int) -> int:
        core = self.core
        irq = hwirq or 1
        while irq in core.irqs:
            irq += 1
        desc = core.allocate(irq)
        desc.no_request = True
        await cpu.delay(self.work)
        if await self.associate(cpu, domain, desc, hwirq, trigger):
            core.free(cpu, desc)
            return 0
        return irq

    async def associate(
        self, cpu: Cpu, domain: IrqDomain, desc: IrqDesc, hwirq: int, trigger: int = Trigger.NONE
    ) -> int:
        """Map ``hwirq`` to a descriptor that has no level yet, the mutex held; 0 or an error."""
        error = await domain.alloc(cpu, desc, hwirq)
        if error:
            return error
        desc.handle = domain.flow
        desc.flags |= domain.flags
        _set_trigger(desc, trigger)
        desc.no_request = False
        domain.enter(desc)
        cpu.log(Kind.MAPPED, irq=desc.irq, domain=domain.name, hwirq=hwirq)
        return 0

    # Tearing down

    async def dispose(self, cpu: Cpu, irq: int) -> None:
        """irq_dispose_mapping: nothing if there is none. Who still uses it is not asked."""
        desc = self._mapped(cpu, irq)
        if desc is None:
            return
        if desc.data.domain.hierarchical:  # type: ignore[union-attr]
            await self.free_irqs(cpu, desc)
        else:
            await self.disassociate(cpu, desc)
            self.core.free(cpu, desc)

    def _mapped(self, cpu: Cpu, irq: int) -> IrqDesc | None:
        desc = self.core.irqs.get(irq)
        if desc is None:
            return None
        if not desc.has_chip or desc.data.domain is None:
            cpu.log(Kind.WARNING, text="a disposed irq is not mapped", irq=irq)
            return None
        return desc

    async def disassociate(self, cpu: Cpu, desc: IrqDesc) -> None:
        """Of a domain without levels: nothing of it is left but the descriptor."""
        data = desc.data
        domain = data.domain
        assert domain is not None
        async with domain.mutex.guard(cpu):
            await self._quieten(cpu, desc)
            await domain.unmap(cpu, data)
            domain.leave(desc)
            desc.data.domain = None
            desc.data.hwirq = 0
        domain._log_unmapped(cpu, desc, data)

    async def free_irqs(self, cpu: Cpu, desc: IrqDesc) -> None:
        """irq_domain_free_irqs: all levels, the outermost first, and then the descriptor."""
        domain = desc.data.domain
        assert domain is not None
        async with domain.mutex.guard(cpu):
            await self._quieten(cpu, desc)
            domain.leave(desc)
            await domain.free(cpu, desc)
        self.core.free(cpu, desc)

    async def _quieten(self, cpu: Cpu, desc: IrqDesc) -> None:
        """Nobody may request it, its next interrupt is a bad one, and no handler runs any more.

        The hardware is not told: if its line is unmasked, it stays so.
        """
        if desc.action:
            cpu.misuse(
                "a mapping is disposed of that is in use",
                irq=desc.irq,
                actions=[action.name for action in desc.action],
            )
        desc.no_request = True
        async with desc.held(cpu):
            desc.set_chip(NO_IRQ_CHIP)
            desc.handle = BadFlow()
            desc.depth = 1
            desc.set_flag(cpu, Irqd.IRQ_DISABLED)
        await synchronize_irq(cpu, desc)
        await cpu.delay(self.work)


def _set_trigger(desc: IrqDesc, trigger: int) -> None:
    desc.flags = desc.flags & ~Irqd.TRIGGER_MASK | trigger
    if trigger & LEVEL:
        desc.flags |= Irqd.LEVEL
