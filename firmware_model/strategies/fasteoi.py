"""What becomes of an interrupt that comes on its new CPU while the old one still handles it.

An LPI has no active state: once acknowledged it can be moved, and come again elsewhere at once.
There its handler must not run a second time, and nothing in hardware remembers that it came. Each
class here is one answer, and overrides one decision of the flow. A strategy of your own is one
more subclass of :class:`FasteoiStrategy`.

Source: the facts on Linux, section 3.2 (F0 to F4), the thread "irq: fasteoi handler re-runs on
concurrent invoke", March to June 2023; for the edge flow, commit 8d39d6ec4db5 (2025).
"""

from typing import ClassVar

from ..core import resend
from ..core.desc import IrqDesc
from ..core.flow import EdgeFlow, FasteoiFlow
from ..core.handle import handle_irq_event
from ..core.kernel import LINUX_6_12, LINUX_7_1, Kernel
from ..machine.cpu import Cpu


class FasteoiStrategy(FasteoiFlow):
    """The flow of the device's interrupt, an LPI.

    The steps that can be overridden: :meth:`while_busy` when it comes while another CPU runs its
    handler, :meth:`run`, :meth:`end`, and :meth:`after` the end.

    Attributes
    ----------
    name, summary : str
    claims_correct : bool
        Whether whoever proposed it claimed that no event is lost.
    kernel : Kernel
        Whose habits the rest of the software has.
    spi : bool
        The device's messages set an SPI instead.
    """

    summary: ClassVar[str]
    claims_correct: ClassVar[bool]
    kernel: ClassVar[Kernel] = LINUX_7_1
    spi: ClassVar[bool] = False


class Drop(FasteoiStrategy):
    """F0, to Linux 6.4: it is ended, and forgotten."""

    name = "drop"
    summary = "an interrupt that finds its handler running is forgotten"
    claims_correct = False

    async def while_busy(self, cpu: Cpu, desc: IrqDesc) -> None:
        """Nothing."""


class Ungated(FasteoiStrategy):
    """No gate, to see what IRQD_IRQ_INPROGRESS is there for."""

    name = "ungated"
    summary = "an interrupt that finds its handler running runs it, too"
    claims_correct = False

    async def while_in_progress(self, cpu: Cpu, desc: IrqDesc) -> bool:
        return True


class Rerun(FasteoiStrategy):
    """F1, the first patch: the CPU that runs the handler runs it again. One EOI, at the end."""

    name = "rerun"
    summary = "remembered; the old CPU runs the handler again"
    claims_correct = True

    async def run(self, cpu: Cpu, desc: IrqDesc) -> None:
        await handle_irq_event(cpu, desc)
        while self.again(desc):
            await self.between(cpu, desc)
            await handle_irq_event(cpu, desc)

    def again(self, desc: IrqDesc) -> bool:
        """Whether it came meanwhile, is not disabled, and somebody still wants it."""
        return desc.pending and desc.runnable

    async def between(self, cpu: Cpu, desc: IrqDesc) -> None:
        """Before each further run: nothing."""


class RerunEoiInLoop(Rerun):
    """A rejected form of F1: every run has its EOI, but only the first had an acknowledge."""

    name = "rerun-eoi-in-loop"
    summary = "as rerun, with an EOI after every run"
    claims_correct = False

    async def between(self, cpu: Cpu, desc: IrqDesc) -> None:
        await self.end(cpu, desc)


class RerunAsPosted(Rerun):
    """F1 to the letter: it does not look for an action, but whoever frees the last one disables."""

    name = "rerun-as-posted"
    summary = "as rerun, looking only whether it is disabled"
    claims_correct = True

    def again(self, desc: IrqDesc) -> bool:
        return desc.pending and not desc.disabled


class RerunNoActionCheck(Rerun):
    """What the reviewers feared: whoever frees the interrupt meanwhile is not noticed."""

    name = "rerun-no-action-check"
    summary = "as rerun, without looking whether anybody still wants it"
    claims_correct = False

    def again(self, desc: IrqDesc) -> bool:
        return desc.pending


class ResendAtOnce(FasteoiStrategy):
    """F2: the new CPU sends it again as soon as it comes, and again, and again."""

    name = "resend-at-once"
    summary = "sent again by the new CPU, at once, while the handler still runs"
    claims_correct = True

    async def while_busy(self, cpu: Cpu, desc: IrqDesc) -> None:
        await resend.check_irq_resend(cpu, desc, inject=True)


class ResendAlways(FasteoiStrategy):
    """F3: after every run it is sent again, whether or not it came meanwhile."""

    name = "resend-always"
    summary = "sent again after every run of the handler"
    claims_correct = False

    async def after(self, cpu: Cpu, desc: IrqDesc) -> None:
        await resend.check_irq_resend(cpu, desc, inject=True)


class Resend(FasteoiStrategy):
    """F4, Linux 6.5: remembered, and sent again once after the end, to where it belongs then."""

    name = "resend"
    summary = "remembered; sent again after EOI, to its CPU of then"
    claims_correct = True


class SpiControl(Drop):
    """The control: an SPI is active until it is ended, and comes nowhere else meanwhile."""

    name = "spi-control"
    summary = "as drop, but an SPI: its active state is known everywhere"
    claims_correct = True
    spi = True


class EdgeStrategy(EdgeFlow):
    """The flow of a message's interrupt on x86; attributes as :class:`FasteoiStrategy`'s."""

    summary: ClassVar[str]
    claims_correct: ClassVar[bool]
    kernel: ClassVar[Kernel]


class Edge(EdgeStrategy):
    """To Linux 6.16: the new CPU makes the old one run the handler again."""

    name = "edge"
    summary = "x86: remembered; the old CPU runs the handler again"
    claims_correct = True
    kernel = LINUX_6_12


class EdgeBusyWait(EdgeStrategy):
    """Linux 6.17: the new CPU waits until the old one has ended, and runs it itself."""

    name = "edge-busywait"
    summary = "x86: the new CPU waits for the end of the old one's run"
    claims_correct = True
    kernel = LINUX_7_1


STRATEGIES: dict[str, type[FasteoiStrategy] | type[EdgeStrategy]] = {
    strategy.name: strategy
    for strategy in (
        Drop,
        Ungated,
        Rerun,
        RerunAsPosted,
        RerunEoiInLoop,
        RerunNoActionCheck,
        ResendAtOnce,
        ResendAlways,
        Resend,
        SpiControl,
        Edge,
        EdgeBusyWait,
    )
}
"""All of them, by name."""
