"""What a player wants done, collected until there is enough for the host to do in one go.

A player turns events into steps (:class:`sim.hosts.base.Step`) and into checks of what the steps
came to. Steps do not depend on answers, so many events make one program: it is performed, then
checked.
"""

from collections.abc import Callable
from typing import Any, Protocol

from hdl.bus import RequesterKind
from hdl.cpu_port import Operation

from ..hosts.base import AWAIT, EXTERNAL, POKE, Done, Response, Step, operation_pokes
from ..hosts.cocotb import CocotbHost

PATIENCE = 100_000
"""Clocks after which an access counts as never answered: far above every bound of the gateware."""

TRIES = 100
"""Reads of a register that should come to have some value, before it is taken as it is."""

LOAD, STORE = Operation.LOAD.value, Operation.STORE.value
READ_SYSREG, WRITE_SYSREG = Operation.READ_SYSREG.value, Operation.WRITE_SYSREG.value
LOG2 = {1: 0, 2: 1, 4: 2}

Check = Callable[..., None]


class Fields(Protocol):
    """A host, as far as it knows the numbers of its input fields."""

    def field_number(self, name: str) -> int: ...


class Program:
    """Steps for ``host``, with the checks that follow them.

    A check is called as ``check(done, line, event, *more)``, where ``done`` is what its step came
    to and ``line`` that of the event it belongs to, in the order in which they were asked for.
    """

    def __init__(self, host: Fields, cpus: int):
        self._number = host.field_number
        self._cpus = cpus
        self.steps: list[Step] = []
        self.checks: list[tuple[int, Check, int, Any, tuple]] = []
        self._requester: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.steps)

    def clear(self) -> None:
        """Begin the next program."""
        self.steps = []
        self.checks = []

    def check(self, check: Check, line: int, event: Any, *more: Any) -> None:
        """Call ``check`` with the outcome of the latest step."""
        self.checks.append((len(self.steps) - 1, check, line, event, more))

    def load(self, cpu: int, address: int, size: int, settle: int = 0) -> None:
        """Read ``size`` (1, 2, 4) bytes as ``cpu``."""
        self.steps.append(Step(address, 0, cpu, settle, LOAD, LOG2[size]))

    def store(self, cpu: int, address: int, data: int, size: int, settle: int = 0) -> None:
        """Write ``size`` (1, 2, 4, 8) bytes as ``cpu``; 8 are two words, the low one first."""
        if size == 8:
            self.store(cpu, address, data & 0xFFFF_FFFF, 4)
            self.store(cpu, address + 4, data >> 32, 4, settle)
        else:
            self.steps.append(Step(address, data, cpu, settle, STORE, LOG2[size]))

    def read_sysreg(self, cpu: int, register: int, settle: int = 0) -> None:
        """Read system register ``register`` of ``cpu``."""
        self.steps.append(Step(register, 0, cpu, settle, READ_SYSREG, 0))

    def await_sysreg(self, cpu: int, register: int, value: int, irq: bool) -> None:
        """Read it until it has ``value`` and the IRQ line is ``irq``, or that takes too long."""
        self.steps.append(Step(register, value, cpu, TRIES, AWAIT, int(irq)))

    def write_sysreg(self, cpu: int, register: int, data: int, settle: int = 0) -> None:
        """Write system register ``register`` of ``cpu``."""
        self.steps.append(Step(register, data, cpu, settle, WRITE_SYSREG, 0))

    def poke(self, name: str, value: int, settle: int = 0) -> None:
        """Give an input field a value, then let ``settle`` clocks pass."""
        self.steps.append(Step(0, value, self._number(name), settle, POKE, 0))

    def message(self, address: int, data: int, device: int, size: int, settle: int) -> None:
        """A bare memory write of requester ``device``."""
        self._as_requester(RequesterKind.DEVICE.value, device)
        self.steps.append(Step(address, data, self._cpus, settle, STORE, LOG2[size]))

    def host_load(self, address: int, size: int) -> None:
        """A read of the outside initiator in the name of a CPU: what a host bridge does."""
        self._as_requester(RequesterKind.CPU.value, 0)
        self.steps.append(Step(address, 0, self._cpus, 0, LOAD, LOG2[size]))

    def host_store(self, address: int, data: int, size: int, settle: int = 0) -> None:
        """A write of the outside initiator in the name of a CPU."""
        self._as_requester(RequesterKind.CPU.value, 0)
        self.steps.append(Step(address, data, self._cpus, settle, STORE, LOG2[size]))

    def _as_requester(self, kind: int, number: int) -> None:
        if self._requester != (kind, number):
            self._requester = kind, number
            self.poke("external_requester.kind", kind)
            self.poke("external_requester.id", number)


class Numbered:
    """Numbers for the input fields of a host that has none."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def field_number(self, name: str) -> int:
        """A number for ``name``, always the same."""
        return self._numbers.setdefault(name, len(self._numbers))

    def names(self) -> list[str]:
        """The fields by number."""
        return list(self._numbers)


async def perform(host: CocotbHost, names: list[str], steps: list[Step]) -> list[Done]:
    """What :meth:`sim.hosts.verilated.VerilatedHost.perform` does, under cocotb."""
    finished: list[Done] = []
    for step in steps:
        answer: Response | None = Response(0, False)
        if step.kind == POKE:
            host.poke(host.cycle, names[step.target], step.data)
        elif step.kind == AWAIT:
            read = step._replace(kind=READ_SYSREG, data=0, size=0)
            for _ in range(step.settle):
                answer = await _operate(host, read)
                irq = host.lines[step.target] & 1
                if answer is None or (answer.data, irq) == (step.data, step.size):
                    break
        else:
            answer = await _operate(host, step)
        if answer is None:
            break
        end = host.cycle + (0 if step.kind == AWAIT else step.settle)
        while host.cycle < end:
            await host.advance((), end)
        levels = sum(lines << 3 * cpu for cpu, lines in enumerate(host.lines))
        finished.append(Done(host.cycle, answer.data, int(answer.error), levels))
    return finished


async def _operate(host: CocotbHost, step: Step) -> Response | None:
    """One operation; None if it was not answered in time."""
    asker = EXTERNAL if step.target == host.design.config.cpus else step.target
    begin, limit = host.cycle, host.cycle + PATIENCE
    pokes = operation_pokes(asker, begin, step.kind, step.size, step.address, step.data)
    while host.cycle < limit:
        wake = await host.advance(pokes, limit)
        if asker in wake.responses:
            return wake.responses[asker]
        pokes = []
    return None
