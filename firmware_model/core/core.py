"""One kernel's interrupts: the table of descriptors and what they share."""

from functools import partial

from ..machine.cpu import Cpu
from ..machine.machine import Machine
from .desc import IrqDesc
from .flow import BadFlow, FlowHandler
from .kernel import LINUX_7_1, Kernel
from .poll import poll_disabled_irqs
from .rcu import Rcu
from .records import Kind


class IrqCore:
    """Descriptors by number, on the CPUs of ``machine``.

    Parameters
    ----------
    machine : Machine
    kernel : Kernel
    hz : int
        Jiffies in a second, as CONFIG_HZ.
    jiffy : int
        Clocks in a jiffy. Real ones would be a million clocks; races need far less.

    Attributes
    ----------
    irqs : dict of int to IrqDesc
    rcu : Rcu
        Interrupts, and whoever else looks at ``irqs`` and goes on with what it found, are readers.
    poll_cpu : Cpu or None
        The CPU that runs the spurious poller now.
    poll_running : bool
        The poller's timer is started.
    resend_list : list of IrqDesc
        To be sent again by software.
    """

    def __init__(
        self, machine: Machine, kernel: Kernel = LINUX_7_1, *, hz: int = 250, jiffy: int = 1000
    ):
        if hz < 10:
            raise ValueError(f"hz must be at least 10, not {hz}")
        if jiffy < 1:
            raise ValueError(f"A jiffy must be 1 or more clocks, not {jiffy}")
        self.machine = machine
        self.kernel = kernel
        self.hz = hz
        self.jiffy = jiffy
        self.irqs: dict[int, IrqDesc] = {}
        self.rcu = Rcu(len(machine.cpus))
        self.poll_cpu: Cpu | None = None
        self.poll_running = False
        self.resend_list: list[IrqDesc] = []

    @property
    def jiffies(self) -> int:
        return self.machine.cycle // self.jiffy

    @property
    def all_cpus(self) -> int:
        """A mask of all CPUs, online or not."""
        return (1 << len(self.machine.cpus)) - 1

    @property
    def online(self) -> int:
        """A mask of the CPUs that are online."""
        return sum(1 << cpu.index for cpu in self.machine.cpus if cpu.online)

    def allocate(
        self, irq: int, *, affinity: int | None = None, handle: FlowHandler | None = None
    ) -> IrqDesc:
        """A new descriptor; ``affinity`` None: any CPU. Its levels are added by who knows them."""
        if irq < 1:
            raise ValueError(f"An irq number must be 1 or more, not {irq}")
        if irq in self.irqs:
            raise ValueError(f"irq {irq} is taken already")
        mask = self.all_cpus if affinity is None else affinity
        if not 0 < mask <= self.all_cpus:
            raise ValueError(f"affinity must be 1 to {self.all_cpus:#x}, not {mask:#x}")
        desc = self.irqs[irq] = IrqDesc(self, irq, mask, handle or BadFlow())
        self.machine.register(desc.lock)
        return desc

    def free(self, cpu: Cpu, desc: IrqDesc) -> None:
        """free_desc: nobody finds it any more; one reference of its kernel object is given back."""
        self.irqs.pop(desc.irq, None)
        if desc.put():
            self.release(cpu, desc)

    def release(self, cpu: Cpu, desc: IrqDesc) -> None:
        """Its memory goes, after a grace period: a flow handler may run on it even now."""
        self.irqs.pop(desc.irq, None)
        self.rcu.call(cpu, partial(_free, desc))

    def start_poller(self, cpu: Cpu) -> None:
        """Have the lines that nobody cared for polled, ten times a second."""
        if not self.poll_running:
            self.poll_running = True
            cpu.start_timer(self.jiffy * (self.hz // 10), self._poll)

    async def _poll(self, cpu: Cpu) -> None:
        self.poll_running = False
        await poll_disabled_irqs(cpu, self)

    async def run_resends(self, cpu: Cpu) -> None:
        """The tasklet that sends again by software: it calls the flow handlers itself."""
        while self.resend_list:
            desc = self.resend_list.pop(0)
            async with cpu.irqs_disabled():
                await desc.handle(cpu, desc)


async def _free(desc: IrqDesc, cpu: Cpu) -> None:
    cpu.log(Kind.DESC_FREED, irq=desc.irq)
    desc.free()
