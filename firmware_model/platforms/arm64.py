"""An Arm system: CPUs, a GICv3, if wanted its ITS, and whatever devices a subclass adds."""

from typing import Any

from ..chips import gicv3_init
from ..chips.gicv3 import GicFrames, GicV3, SplitGicV3
from ..chips.its import Its
from ..chips.lpi_tables import LpiTables, Pages
from ..core.cpuhotplug import migrate_all_off_this_cpu
from ..core.desc import IrqDesc
from ..core.flow import FasteoiFlow, FlowHandler
from ..core.kernel import LINUX_7_1, Kernel
from ..core.records import Kind
from ..machine.cpu import Cpu
from ..machine.ops import Line
from .system import System

IPIS = 7
"""SGIs that every CPU listens to."""
CALL_SGI = 1
"""Cross calls."""


class Arm64System(System):
    """The software of a whole machine; devices are set up by :meth:`set_up` of a subclass.

    Parameters
    ----------
    kernel : Kernel
    frames : GicFrames or None
        None: as on QEMU's machine.
    eoimode : int
        0 as a kernel at EL1 has it, 1 as one at EL2.
    cpus, jiffy, options
        See :class:`System`.

    Attributes
    ----------
    gic : GicV3
    its : Its or None
        If ``frames`` has one.
    machine, core, calls
        See :class:`System`.
    """

    def __init__(
        self,
        kernel: Kernel = LINUX_7_1,
        *,
        frames: GicFrames | None = None,
        eoimode: int = 0,
        **options: Any,
    ):
        if eoimode not in (0, 1):
            raise ValueError(f"eoimode must be 0 or 1, not {eoimode!r}")
        super().__init__(kernel, **options)
        self.gic = (SplitGicV3 if eoimode else GicV3)(self.core, frames or GicFrames())
        self.gic.private[CALL_SGI] = self._handle_calls
        self.its: Its | None = None
        if self.gic.frames.its is not None:
            self.its = Its(self.gic, LpiTables(self.gic, Pages()))
        self.install()

    def add_spi(
        self,
        irq: int,
        intid: int,
        *,
        affinity: int | None = None,
        handle: FlowHandler | None = None,
    ) -> IrqDesc:
        """A shared interrupt that can be requested; level-sensitive, as all are at first.

        For an edge-triggered one await ``gic.set_type`` before the request.
        """
        desc = self.core.allocate(irq, affinity=affinity, handle=handle or FasteoiFlow())
        self.gic.add_to(desc, intid)
        return desc

    async def vector(self, cpu: Cpu, line: Line) -> None:
        await self.gic.vector(cpu, line)

    async def start_cpu(self, cpu: Cpu) -> None:
        first = not self._started
        if first:
            await gicv3_init.init_distributor(cpu, self.gic)
        await gicv3_init.init_cpu(cpu, self.gic)
        if self.its is not None:
            if first:
                await self.its.init(cpu)
            await self.its.init_cpu(cpu)
        await gicv3_init.enable_sgis(cpu, self.gic, IPIS)

    async def stop_cpu(self, cpu: Cpu, grace: int) -> None:
        """Its SGIs, then its interrupts, one after the other; nothing is waited for."""
        cpu.online = False
        await gicv3_init.disable_sgis(cpu, self.gic, IPIS)
        await migrate_all_off_this_cpu(cpu, self.core)
        cpu.log(Kind.OFFLINE)

    async def send_call(self, cpu: Cpu, target: int) -> None:
        await self.gic.send_sgi(cpu, target, CALL_SGI)

    async def _handle_calls(self, cpu: Cpu) -> None:
        await self.calls.handle(cpu)
