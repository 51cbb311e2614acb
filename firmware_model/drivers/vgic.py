"""The virtual interrupts of a guest with one CPU, and the list registers that show them to it.

Source: arch/arm64/kvm/vgic/vgic.c, vgic-v3.c

Simplifications: level-sensitive interrupts only, no more than there are list registers; one lock
where KVM has one for the list and one for each interrupt. Where KVM looks at the physical line of
a linked interrupt that has ended, here what counts is whether the host has taken it again: with
KVM's look, a list register can stand for a physical interrupt that is not active.
"""

from collections.abc import Sequence
from functools import cache

from hdl.registers.ich import IchHcr, IchLr, ListState
from hdl.registers.sysreg import SystemRegister

from ..chips.gicv3 import ACTIVE, PENDING, SplitGicV3
from ..core.desc import IrqDesc
from ..core.records import Kind
from ..machine.cpu import Cpu
from ..machine.locks import SpinLock
from ..machine.ops import Software

PRIORITY = 0xA0
EOI_MAINTENANCE = 1 << 9
"""In the physical INTID's field, when there is none: the end of the interrupt is to be told."""
ENABLE = IchHcr.const({"en": 1}).as_bits()
STATE = IchLr.const({"state": ListState.PENDING_ACTIVE}).as_bits()


class VirtualIrq:
    """One interrupt of the guest.

    Attributes
    ----------
    intid : int
    level : bool
        Its line, as whoever injects it said last.
    active : bool
        The guest has acknowledged it and not ended it, as far as the host knows.
    physical : IrqDesc or None
        What the guest's end of it ends: its list register is linked with the hardware then.
    fresh : bool
        The physical interrupt was acknowledged since the list registers were filled.
    acked : async function (cpu) or None
        Told when the guest has ended it, if it is not linked.
    """

    def __init__(self, intid: int):
        self.intid = intid
        self.level = False
        self.active = False
        self.physical: IrqDesc | None = None
        self.fresh = False
        self.acked: Software | None = None


class Vgic:
    """Virtual interrupts on their way into list registers and out of them.

    Parameters
    ----------
    gic : SplitGicV3
    irqs : sequence of VirtualIrq

    Attributes
    ----------
    kick : async function (cpu) or None
        Makes the guest's CPU leave it, so that :meth:`flush` runs.
    used : list of VirtualIrq
        What the list registers hold, from the first on.
    """

    def __init__(self, gic: SplitGicV3, irqs: Sequence[VirtualIrq]):
        self.gic = gic
        self.irqs = tuple(irqs)
        self.kick: Software | None = None
        self.used: list[VirtualIrq] = []
        self._words: list[int] = []
        self._lock = SpinLock("ap_list", lock_class="vgic")

    async def inject(self, cpu: Cpu, irq: VirtualIrq, level: bool) -> None:
        """kvm_vgic_inject_irq: the level of ``irq``'s line, and a kick if the guest must know.

        What is linked with the hardware comes here once for each acknowledge of the physical
        interrupt, and is always news; otherwise only a change is.
        """
        async with self._lock.guard_irqsave(cpu):
            news = irq.level != level or irq.physical is not None
            irq.level = level
            irq.fresh = level and irq.physical is not None
        cpu.log(Kind.INJECT, intid=irq.intid, level=level, news=news)
        if news and level and self.kick is not None:
            await self.kick(cpu)

    async def map_physical(self, cpu: Cpu, irq: VirtualIrq, desc: IrqDesc | None) -> None:
        """kvm_vgic_map_phys_irq: link ``irq`` with ``desc``; None: no more."""
        async with self._lock.guard_irqsave(cpu):
            irq.physical = desc

    @property
    def probe_state(self) -> int:
        """For the lane of the guest's CPU: four bits an interrupt, from bit 0 level, active,
        linked with the hardware, in a list register."""
        word = 0
        for number, irq in enumerate(self.irqs):
            bits = (irq.level, irq.active, irq.physical is not None, irq in self.used)
            word |= sum(bit << i for i, bit in enumerate(bits)) << 4 * number
        return word

    # Around the guest's turn, on its CPU with interrupts masked

    async def flush(self, cpu: Cpu) -> None:
        """kvm_vgic_flush_hwstate: what the list registers are going to hold."""
        async with self._lock.guard_irqsave(cpu):
            self.used = [irq for irq in self.irqs if irq.active or irq.level]
            for irq in self.used:
                irq.fresh = False
            self._words = [
                _list_register(irq.intid, irq.physical and irq.physical.data.hwirq, irq.active)
                for irq in self.used
            ]

    async def restore(self, cpu: Cpu) -> None:
        """On the way into the guest: the interface on, and the list registers."""
        await cpu.write_sysreg(SystemRegister.ICH_HCR_EL2, ENABLE)
        for number, word in enumerate(self._words):
            await cpu.write_sysreg(_register(number), word)

    async def save(self, cpu: Cpu) -> None:
        """On the way out: which list registers are empty, the interface off, the rest.

        With that the maintenance interrupt, which is a level, is no longer asked for.
        """
        empty = 0
        if self.used:
            empty = await cpu.read_sysreg(SystemRegister.ICH_ELRSR_EL2)
        await cpu.write_sysreg(SystemRegister.ICH_HCR_EL2, 0)
        for number, word in enumerate(self._words):
            if empty >> number & 1:
                self._words[number] = word & ~STATE
            else:
                self._words[number] = await cpu.read_sysreg(_register(number))
            await cpu.write_sysreg(_register(number), 0)

    async def sync(self, cpu: Cpu) -> None:
        """kvm_vgic_sync_hwstate: what the guest has done to its interrupts."""
        for irq, word in zip(self.used, self._words, strict=True):
            await self._fold(cpu, irq, IchLr.from_bits(word))
        self.used = []
        self._words = []

    async def _fold(self, cpu: Cpu, irq: VirtualIrq, word: IchLr) -> None:
        ended = word.state is ListState.INVALID
        if ended and not word.hw and irq.acked is not None:
            cpu.log(Kind.GUEST_ACKED, intid=irq.intid)
            await irq.acked(cpu)
        async with self._lock.guard_irqsave(cpu):
            irq.active = word.state is ListState.ACTIVE
            if irq.physical is None or irq.active:
                return
            if ended:
                irq.level = irq.fresh
            elif not await self.gic.get_irqchip_state(cpu, irq.physical.data, PENDING):
                # The guest has served the device unasked: nothing is left for it to end.
                irq.level = False
                await self.gic.set_irqchip_state(cpu, irq.physical.data, ACTIVE, False)


@cache
def _list_register(intid: int, pintid: int | None, active: bool) -> int:
    """Never pending and active at once: what is level-sensitive is looked at when it ends."""
    link = {"pintid": EOI_MAINTENANCE} if pintid is None else {"hw": 1, "pintid": pintid}
    state = ListState.ACTIVE if active else ListState.PENDING
    fields = {"vintid": intid, "priority": PRIORITY, "group": 1, "state": state, **link}
    return IchLr.const(fields).as_bits()


def _register(number: int) -> SystemRegister:
    return SystemRegister(SystemRegister.ICH_LR0_EL2 + number)
