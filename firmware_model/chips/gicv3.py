"""A GICv3 as the root of all interrupts: the chip, and how a CPU takes what it signals.

Source: drivers/irqchip/irq-gic-v3.c. :mod:`.gicv3_init` switches it on.

Simplifications: group 1 only, no pseudo-NMIs, no extended ranges of SPIs and PPIs.
"""

from collections.abc import MutableMapping
from dataclasses import dataclass
from errno import EINVAL
from typing import NamedTuple

from hdl.registers.gicd import CONFIG_EDGE, GicdCtlr, GicdRegister
from hdl.registers.gicr import SGI_FRAME, GicrCtlr, GicrRegister
from hdl.registers.icc import SPECIAL_INTIDS, IccSgi1r
from hdl.registers.sysreg import SystemRegister

from ..core.chip import AffinityResult, IrqChip
from ..core.core import IrqCore
from ..core.cpumask import first_cpu
from ..core.desc import Irqd, IrqData, IrqDesc
from ..core.records import Kind
from ..machine.cpu import Cpu
from ..machine.ops import Line, Software

FIRST_SPI = 32
FIRST_LPI = 8192
PRIORITY = 0xA0
"""Of every interrupt, to Linux 6.11."""

GICD_RWP = GicdCtlr.const({"rwp": 1}).as_bits()
GICR_RWP = GicrCtlr.const({"rwp": 1}).as_bits()


@dataclass(frozen=True)
class GicFrames:
    """Where the register frames are: what a device tree says. Defaults as on QEMU's machine.

    Attributes
    ----------
    distributor : int
    redistributors : tuple of int
        RD_base of each CPU's.
    its : int or None
        Control frame.
    """

    distributor: int = 0x0800_0000
    redistributors: tuple[int, ...] = (0x080A_0000, 0x080C_0000)
    its: int | None = 0x0808_0000


class IrqchipState(NamedTuple):
    """A state of an interrupt in hardware, and the registers that set and clear it."""

    set: GicdRegister
    clear: GicdRegister


PENDING = IrqchipState(GicdRegister.ISPENDR, GicdRegister.ICPENDR)
ACTIVE = IrqchipState(GicdRegister.ISACTIVER, GicdRegister.ICACTIVER)
MASKED = IrqchipState(GicdRegister.ICENABLER, GicdRegister.ISENABLER)


class GicV3(IrqChip):
    """SPIs, PPIs and SGIs, and what acknowledges and ends LPIs, in EOImode 0.

    :meth:`vector` is what the machine calls. An interrupt's level has its INTID as ``hwirq``.

    Parameters
    ----------
    core : IrqCore
    frames : GicFrames

    Attributes
    ----------
    irqs : mutable mapping of INTID to IrqDesc
        Who holds each: the domain's reverse map. :meth:`add_to` and the levels above enter theirs.
    local : list of dict of INTID to IrqDesc
        Who holds what on one CPU only, by CPU; that comes first.
    private : dict of INTID to async function (cpu)
        Handlers of SGIs and PPIs, the same on every CPU; they are ended afterwards.
    running : list of list of int
        INTIDs acknowledged and not yet ended (EOIR1), by CPU, in this order.
    """

    name = "GICv3"
    eoimode = 0

    def __init__(self, core: IrqCore, frames: GicFrames):
        cpus = len(core.machine.cpus)
        if len(frames.redistributors) < cpus:
            raise ValueError(
                f"frames must name a redistributor for each of {cpus} CPUs, "
                f"not {len(frames.redistributors)}"
            )
        self.core = core
        self.frames = frames
        self.irqs: MutableMapping[int, IrqDesc] = {}
        self.local: list[dict[int, IrqDesc]] = [{} for _ in range(cpus)]
        self.private: dict[int, Software] = {}
        self.running: list[list[int]] = [[] for _ in range(cpus)]

    def add_to(self, desc: IrqDesc, intid: int) -> IrqData:
        """Give ``desc`` its level here and enter it in the map."""
        data = desc.add_level(self, intid)
        desc.flags |= Irqd.SINGLE_TARGET | Irqd.HANDLE_ENFORCE_IRQCTX
        self.irqs[intid] = desc
        return data

    # How a CPU takes an interrupt

    async def vector(self, cpu: Cpu, line: Line) -> None:
        """One interrupt, from the acknowledge to the end."""
        intid = await cpu.read_sysreg(SystemRegister.ICC_IAR1_EL1)
        if intid in SPECIAL_INTIDS:
            cpu.log(Kind.SPURIOUS_INTID, intid=intid)
            return
        cpu.log(Kind.INTERRUPT, intid=intid)
        running = self.running[cpu.index]
        depth = len(running)
        running.append(intid)
        await self.complete_ack(cpu, intid)
        desc = self.local[cpu.index].get(intid) or self.irqs.get(intid)
        if intid in self.private:
            await self.private[intid](cpu)
            await self.end(cpu, intid)
        elif desc is not None:
            await desc.handle(cpu, desc)
        else:
            cpu.log(Kind.NO_IRQ_HANDLER, intid=intid)
            await self.end(cpu, intid)
        if len(running) != depth:
            cpu.misuse("an interrupt was left running", intid=intid)

    async def complete_ack(self, cpu: Cpu, intid: int) -> None:
        """Between acknowledge and handler: nothing, the end comes after the handler."""

    async def end(self, cpu: Cpu, intid: int) -> None:
        """After the handler: priority drop and deactivation in one."""
        await self.drop_priority(cpu, intid)

    async def drop_priority(self, cpu: Cpu, intid: int) -> None:
        """EOIR1: each acknowledge has one, the last one's first."""
        running = self.running[cpu.index]
        if running and running[-1] == intid:
            running.pop()
        else:
            cpu.misuse("EOI without its acknowledge", intid=intid, running=tuple(running))
        await cpu.write_sysreg(SystemRegister.ICC_EOIR1_EL1, intid)

    # What the core calls

    async def irq_mask(self, cpu: Cpu, data: IrqData) -> None:
        await self.mask(cpu, data.hwirq)

    async def irq_unmask(self, cpu: Cpu, data: IrqData) -> None:
        await self.unmask(cpu, data.hwirq)

    async def irq_eoi(self, cpu: Cpu, data: IrqData) -> None:
        await self.end(cpu, data.hwirq)

    async def irq_set_affinity(self, cpu: Cpu, data: IrqData, mask: int, force: bool) -> int:
        """At once, whatever the interrupt is doing: masked around the write if it was not."""
        intid = data.hwirq
        target = first_cpu(mask if force else mask & self.core.online)
        if target < 0 or intid < FIRST_SPI:
            return -EINVAL
        enabled = await self.peek(cpu, intid, GicdRegister.ISENABLER)
        if enabled:
            await self.mask(cpu, intid)
        router = self.frames.distributor + GicdRegister.IROUTER + 8 * intid
        await cpu.store64(router, target)  # Aff0; the other levels are zero
        if enabled:
            await self.unmask(cpu, intid)
        data.desc.effective_affinity = 1 << target
        cpu.log(Kind.ROUTED, irq=data.desc.irq, target=target)
        return AffinityResult.OK_DONE

    async def irq_retrigger(self, cpu: Cpu, data: IrqData) -> bool:
        if data.hwirq >= FIRST_LPI:
            return False
        target = first_cpu(data.desc.effective_affinity)
        cpu.log(Kind.RETRIGGER, irq=data.desc.irq, target=target, intid=data.hwirq)
        await self.set_irqchip_state(cpu, data, PENDING, True)
        return True

    async def irq_get_active(self, cpu: Cpu, data: IrqData) -> bool:
        return await self.get_irqchip_state(cpu, data, ACTIVE)

    async def get_irqchip_state(self, cpu: Cpu, data: IrqData, state: IrqchipState) -> bool:
        """irq_get_irqchip_state: of SPIs, PPIs and SGIs; an LPI has none that could be read."""
        if data.hwirq >= FIRST_LPI:
            raise ValueError(f"Only INTIDs below {FIRST_LPI} have a state, not {data.hwirq}")
        value = await self.peek(cpu, data.hwirq, state.set)
        return value if state is not MASKED else not value

    async def set_irqchip_state(
        self, cpu: Cpu, data: IrqData, state: IrqchipState, value: bool
    ) -> None:
        """irq_set_irqchip_state: as above. Setting it active is read back."""
        if data.hwirq >= FIRST_LPI:
            raise ValueError(f"Only INTIDs below {FIRST_LPI} have a state, not {data.hwirq}")
        if state is MASKED and value:
            await self.mask(cpu, data.hwirq)
            return
        register = state.set if value else state.clear
        await self.poke(cpu, data.hwirq, register)
        if register == GicdRegister.ISACTIVER:
            await self.peek(cpu, data.hwirq, register)

    async def set_type(self, cpu: Cpu, data: IrqData, *, level: bool) -> None:
        """irq_set_type, before anybody requests it: level-sensitive or edge-triggered."""
        intid = data.hwirq
        address = self._frame(cpu, intid) + GicdRegister.ICFGR + intid // 16 * 4
        shift = 2 * (intid % 16)
        old = await cpu.load(address)
        new = old & ~(0b11 << shift) | (0 if level else CONFIG_EDGE << shift)
        if new != old:
            await cpu.store(address, new)
        flag = data.desc.set_flag if level else data.desc.clear_flag
        flag(cpu, Irqd.LEVEL)

    # Registers, by INTID

    async def mask(self, cpu: Cpu, intid: int) -> None:
        """Disabled on return: the frame's owner has told the CPU interfaces."""
        await self.poke(cpu, intid, GicdRegister.ICENABLER)
        await self.wait_for_rwp(cpu, intid)

    async def unmask(self, cpu: Cpu, intid: int) -> None:
        await self.poke(cpu, intid, GicdRegister.ISENABLER)

    async def peek(self, cpu: Cpu, intid: int, register: GicdRegister) -> bool:
        """One bit of an array with one bit an INTID; of a PPI or SGI, this CPU's."""
        word = await cpu.load(self._frame(cpu, intid) + register + intid // 32 * 4)
        return bool(word >> intid % 32 & 1)

    async def poke(self, cpu: Cpu, intid: int, register: GicdRegister) -> None:
        """Write the one bit of ``intid``."""
        await cpu.store(self._frame(cpu, intid) + register + intid // 32 * 4, 1 << intid % 32)

    async def wait_for_rwp(self, cpu: Cpu, intid: int = FIRST_SPI) -> None:
        """Until a clearing has taken effect everywhere: of SPIs, or of this CPU's own."""
        if intid >= FIRST_SPI:
            address, bit = self.frames.distributor + GicdRegister.CTLR, GICD_RWP
        else:
            address = self.frames.redistributors[cpu.index] + GicrRegister.CTLR
            bit = GICR_RWP
        while await cpu.load(address) & bit:
            pass

    async def send_sgi(self, cpu: Cpu, target: int, intid: int) -> None:
        """An SGI to one CPU."""
        cpu.log(Kind.IPI, target=target, intid=intid)
        value = IccSgi1r.const({"target_list": 1 << target, "intid": intid}).as_bits()
        await cpu.write_sysreg(SystemRegister.ICC_SGI1R_EL1, value)

    def _frame(self, cpu: Cpu, intid: int) -> int:
        if intid >= FIRST_SPI:
            return self.frames.distributor
        return self.frames.redistributors[cpu.index] + SGI_FRAME


class SplitGicV3(GicV3):
    """EOImode 1: EOIR1 only drops the priority, at once; DIR deactivates after the handler.

    So a hypervisor can leave the deactivation to a guest: see ``FORWARDED_TO_VCPU``.
    """

    name = "GICv3 EOImode 1"
    eoimode = 1

    async def complete_ack(self, cpu: Cpu, intid: int) -> None:
        await self.drop_priority(cpu, intid)

    async def end(self, cpu: Cpu, intid: int) -> None:
        """An LPI has no active state that could end."""
        if intid < FIRST_LPI:
            await cpu.write_sysreg(SystemRegister.ICC_DIR_EL1, intid)

    async def irq_eoi(self, cpu: Cpu, data: IrqData) -> None:
        if not data.desc.flags & Irqd.FORWARDED_TO_VCPU:
            await self.end(cpu, data.hwirq)

    async def irq_mask(self, cpu: Cpu, data: IrqData) -> None:
        """A guest that will never run again cannot deactivate: that is done for it."""
        await self.mask(cpu, data.hwirq)
        if data.desc.flags & Irqd.FORWARDED_TO_VCPU:
            await self.poke(cpu, data.hwirq, GicdRegister.ICACTIVER)

    async def irq_set_vcpu_affinity(self, cpu: Cpu, data: IrqData, forwarded: bool) -> None:
        """From now on a guest deactivates it, or the host again. Nothing is written."""
        flag = data.desc.set_flag if forwarded else data.desc.clear_flag
        flag(cpu, Irqd.FORWARDED_TO_VCPU)
