"""An interrupt core on a chip that only writes down what is asked of it."""

from firmware_model.core import Action, IrqChip, IrqCore, IrqReturn
from firmware_model.core.manage import request_irq
from firmware_model.machine import Machine

from .test_machine_host import Host

HARDWARE = ("irq_mask", "irq_unmask")


class FakeChip(IrqChip):
    """Has the callbacks it is given; ``calls`` holds the names of those that were called.

    ``answers`` maps a callback to what it returns. Each call takes one store, so that others can
    come in between.
    """

    name = "fake"

    def __init__(self, *callbacks, flags=0, answers=None):
        self.flags = flags
        self.calls = []
        self.answers = dict(answers or {})
        for callback in callbacks:
            assert hasattr(IrqChip, callback), callback
            setattr(self, callback, self._recorder(callback))

    def _recorder(self, callback):
        async def called(cpu, data, *arguments):
            self.calls.append(callback.removeprefix("irq_"))
            await cpu.store(0x100, 1)
            return self.answers.get(callback)

        return called


class Rig:
    """One interrupt, requested on CPU 0 by a handler that can be slow.

    ``order`` holds chip calls and handler runs in the order they happened.
    """

    irq = 5

    def __init__(self, flow, *callbacks, cpus=2, kernel=None, flags=0, answers=None):
        self.machine = Machine(cpus, vector=self.vector)
        options = {} if kernel is None else {"kernel": kernel}
        self.core = IrqCore(self.machine, jiffy=10, **options)
        self.chip = FakeChip(*callbacks, flags=flags, answers=answers)
        self.order = self.chip.calls
        self.desc = self.core.allocate(self.irq, handle=flow)
        self.desc.add_level(self.chip, 0)
        self.action = self.make_action("handler")
        self.work = 20
        self.result = IrqReturn.HANDLED
        self.during = None
        self.running = 0
        self.overlaps = 0
        self.flags = 0

    def make_action(self, name, flags=0, thread=None):
        async def handler(cpu):
            return await self.handler(cpu)

        return Action(handler, name, flags, thread)

    async def handler(self, cpu):
        self.order.append(f"handle{cpu.index}")
        self.running += 1
        self.overlaps += self.running > 1
        during, self.during = self.during, None
        if during is not None:
            await during(cpu)
        await cpu.delay(self.work)
        self.running -= 1
        return self.result

    async def vector(self, cpu, line):
        await cpu.load(0x1000)
        await self.desc.handle(cpu, self.desc)

    def run(self, *programs, events=None, **options):
        """Request the interrupt, forget the calls of that, then run the programs and events."""

        async def first(cpu):
            await request_irq(cpu, self.desc, self.action)
            self.desc.flags |= self.flags
            self.order.clear()
            if programs and programs[0] is not None:
                await cpu.delay_until(100)
                await programs[0](cpu)

        self.machine.cpus[0].spawn(first)
        for cpu, program in zip(self.machine.cpus[1:], programs[1:], strict=False):
            if program is not None:
                cpu.spawn(_at(100, program))
        host = Host(self.machine, latency=1, events=events, **options)
        host.demands = host.run()
        return host

    def kinds(self, *names):
        return [record for record in self.machine.log if record.kind in names]

    def rules(self):
        return [record.fields["rule"] for record in self.machine.log if record.kind == "misuse"]


def _at(cycle, program):
    async def later(cpu):
        await cpu.delay_until(cycle)
        await program(cpu)

    return later


def interrupts(**at):
    """Events for :meth:`Rig.run`: ``interrupts(cpu0=[110], cpu1=[115])``."""
    events = {}
    for name, cycles in at.items():
        cpu = int(name.removeprefix("cpu"))
        for cycle in cycles:
            assert cycle not in events
            events[cycle] = lambda host, cpu=cpu: host.raise_irq(cpu)
    return events
