"""What a differential test does to a machine: calls of :class:`sim.bench.Bench`, as data.

A script is a list of operations. Printed, it is Python that anyone can paste: it needs a ``bench``
and the functions of this module that it names.
"""

from dataclasses import dataclass
from typing import Any

from hdl.config import RAM_BASE
from hdl.registers.gits import COMMAND_BYTES, GitsRegister, encode_sync
from sim.bench import Bench


@dataclass(frozen=True)
class Call:
    """``bench.target.method(*arguments)``; ``target`` is "" for the bench itself."""

    target: str
    index: int | None
    method: str
    arguments: tuple[Any, ...]

    def __call__(self, bench: Bench):
        where: Any = getattr(bench, self.target) if self.target else bench
        if self.index is not None:
            where = where[self.index]
        return getattr(where, self.method)(*self.arguments)

    def __str__(self) -> str:
        index = "" if self.index is None else f"[{self.index}]"
        target = f"{self.target}{index}." if self.target else ""
        return f"bench.{target}{self.method}({', '.join(map(_literal, self.arguments))})"


def _literal(value) -> str:
    if isinstance(value, bool) or not isinstance(value, int):
        return repr(value)
    return str(value) if value < 10 else hex(value)


def on_cpu(cpu: int, method: str, *arguments) -> Call:
    return Call("cpu", cpu, method, arguments)


def on_endpoint(endpoint: int, method: str, *arguments) -> Call:
    return Call("endpoint", endpoint, method, arguments)


def on_bench(method: str, *arguments) -> Call:
    return Call("", None, method, arguments)


def on_ram(method: str, *arguments) -> Call:
    return Call("ram", None, method, arguments)


@dataclass(frozen=True)
class Command:
    """Four words of an ITS command, put into the queue and handed over."""

    words: tuple[int, ...]

    def __call__(self, bench: Bench) -> int:
        return command(bench, *self.words)

    def __str__(self) -> str:
        return f"command(bench, {', '.join(map(hex, self.words))})"


def command(bench: Bench, *words: int) -> int:
    """Write a command where CWRITER points, if that is RAM, and move CWRITER on; its new value."""
    its = bench.config.its_region.base
    cpu = bench.cpu[0]
    base = cpu.read64(its + GitsRegister.CBASER)
    queue, size = base & 0x000F_FFFF_FFFF_F000, ((base & 0xFF) + 1) * 4096
    offset = cpu.read(its + GitsRegister.CWRITER) & 0xF_FFE0
    place = queue + offset
    if RAM_BASE <= place < RAM_BASE + bench.config.ram_bytes:
        bench.ram.write(place, b"".join(word.to_bytes(8, "little") for word in words))
    offset = (offset + COMMAND_BYTES) % size
    cpu.write(its + GitsRegister.CWRITER, offset)
    return offset


@dataclass(frozen=True)
class Repair:
    """If the command queue has stalled: a harmless command in the place of the bad one, Retry."""

    def __call__(self, bench: Bench) -> bool:
        return repair(bench)

    def __str__(self) -> str:
        return "repair(bench)"


def repair(bench: Bench) -> bool:
    """See :class:`Repair`; whether there was anything to do."""
    its = bench.config.its_region.base
    cpu = bench.cpu[0]
    place = cpu.read(its + GitsRegister.CREADR)
    queue = cpu.read64(its + GitsRegister.CBASER) & 0x000F_FFFF_FFFF_F000
    if not place & 1 or not RAM_BASE <= queue < RAM_BASE + bench.config.ram_bytes:
        return False
    harmless = b"".join(word.to_bytes(8, "little") for word in encode_sync(0))
    bench.ram.write(queue + (place & ~1), harmless)
    cpu.write(its + GitsRegister.CWRITER, cpu.read(its + GitsRegister.CWRITER) | 1)
    return True


@dataclass(frozen=True)
class Handle:
    """CPU ``cpu`` takes an interrupt and ends it: by EOIR, and by DIR if ``deactivate``.

    ``guest``: the same for the virtual interface.
    """

    cpu: int
    guest: bool = False
    end: bool = True
    deactivate: bool = False

    def calls(self):
        """A generator of calls that wants to be sent the result of each."""
        prefix = "ICV" if self.guest else "ICC"
        intid = yield on_cpu(self.cpu, "read_sysreg", f"{prefix}_IAR1_EL1")
        if self.end:
            yield on_cpu(self.cpu, "write_sysreg", f"{prefix}_EOIR1_EL1", intid)
        if self.deactivate:
            yield on_cpu(self.cpu, "write_sysreg", f"{prefix}_DIR_EL1", intid)


Single = Call | Command | Repair
"""Operations that are one call, whatever the machine answers."""
Operation = Single | Handle


def script(calls) -> str:
    return "\n".join(map(str, calls))
