"""Gateware and reference model side by side: the same calls, the same answers."""

from collections.abc import Iterable

from hdl.config import APIC_WINDOW, DISTRIBUTOR, SocConfig
from hdl.registers.gicd import GicdRegister as Gicd
from hdl.registers.gicr import SGI_FRAME
from hdl.registers.gicr import GicrRegister as Gicr
from hdl.registers.gits import GitsRegister as Gits
from hdl.registers.lapic import LapicRegister
from hdl.registers.sysreg import SystemRegister
from sim.backends import BusError, RefusedError, reference_machine
from sim.bench import Bench
from sim.hosts.base import LINES
from sim.reference import Implementation, ReferenceMachine

from . import machines
from .operations import Call, Operation, Single, on_cpu, on_endpoint, on_ram, script

SETTLE = 128
"""Clocks after every call. What takes longer says so in a register: see :meth:`Pair._settle`.

A change of a wire does not say so: it counts within the bound of :class:`hdl.gic.bank
.InterruptBank`, 117 clocks for 64 SPIs.
"""
LIMIT = 40_000
"""Clocks within which everything that a call sets off has to end."""
SPURIOUS = 1023
WORD = 0xFFFF_FFFF

_QUICK = ("read_sysreg", "write_sysreg", "set_wire", "set_ppi")
"""Calls that start nothing that lasts longer than SETTLE."""
RWP_GICD, RWP_GICR, QUIESCENT = 1 << 31, 1 << 3, 1 << 31


class DifferenceError(AssertionError):
    """The two machines disagree; says how to see it."""


class Pair:
    """One machine twice. ``choices``, if given, is what the reference is told instead of the truth.

    A pair starts with everything on (:func:`.machines.prepare`) and returns there at
    :meth:`restart`, or with nothing done at all if that is asked for.

    Attributes
    ----------
    injected : dict
        Inputs of the gateware alone, by name, that a restart sets: bugs on purpose.
    calls : list
        What was done since then.
    total : int
        How many calls this pair has made in its life, those of setting up and of
        :meth:`compare_state` not counted.
    """

    def __init__(self, config: SocConfig, choices: Implementation | None = None):
        self.config = config
        self.choices = choices
        self.gateware = Bench(config)
        self.reference = Bench(config, host="reference")
        self.calls: list[Single] = []
        self.total = 0
        self.injected: dict[str, int] = {}
        self._slots = {False: self.gateware.host.snapshot()}
        self.restart(prepared=False)
        for call in machines.prepare(config):
            self._do(call)
        self._slots[True] = self.gateware.host.snapshot()
        self._state = tuple(_state_calls(config))

    def close(self) -> None:
        self.gateware.close()
        self.reference.close()

    @property
    def model(self) -> ReferenceMachine:
        return self.reference.backend.machine

    def restart(self, *, prepared: bool = True) -> None:
        """Both machines as after reset, or prepared."""
        self.gateware.host.restore(self._slots[prepared])
        for name, value in self.injected.items():
            self.gateware.poke(name, value)
        self.reference.backend.machine = reference_machine(self.config, self.choices)
        self._prepared = prepared
        if prepared:
            for call in machines.prepare(self.config):
                call(self.reference)
        self.calls = []

    # Doing ------------------------------------------------------------------------------------

    def run(self, operations: Iterable[Operation]) -> None:
        """Do everything, comparing answers and lines after each call."""
        for operation in operations:
            if isinstance(operation, Single):
                self.do(operation)
                continue
            steps = operation.calls()
            answer = None
            while True:
                try:
                    call = steps.send(answer)
                except StopIteration:
                    break
                answer = self.do(call)

    def do(self, call: Single):
        self.total += 1
        return self._do(call)

    def _do(self, call: Single):
        self.calls.append(call)
        seen = self._answer(call, self.gateware)
        if _is_acknowledge(call):
            self._acknowledge(call, seen)
        else:
            expected = self._answer(call, self.reference)
            if seen != expected and not self._is_open(call):
                self.fail(f"the gateware answers {_say(seen)}, the reference {_say(expected)}")
        if not _only_looks(call):
            self._settle(call)
            self._compare_lines()
        return seen

    @staticmethod
    def _answer(call, bench: Bench):
        try:
            return call(bench)
        except (BusError, RefusedError) as error:
            return type(error)

    def _acknowledge(self, call: Call, intid: int) -> None:
        """IAR1 may give any INTID that the architecture permits; the reference follows."""
        cpu = call.index
        permitted = self.model.permitted_acknowledges(cpu)
        if intid not in permitted:
            expected = " or ".join(map(str, sorted(permitted)))
            self.fail(f"the gateware acknowledges {intid}, the reference permits {expected}")
        if len(permitted) == 1 and not self._uncertain(cpu):
            self.reference.cpu[cpu].read_sysreg("ICC_IAR1_EL1")
            return
        running = self.gateware.cpu[cpu].read_sysreg("ICC_RPR_EL1")
        try:
            self.model.acknowledge(cpu, intid, None if intid == SPURIOUS else running)
        except ValueError as error:
            self.fail(str(error))

    def _uncertain(self, cpu: int) -> bool:
        return bool(self.model.redistributors[cpu].lpis.uncertain())

    def _is_open(self, call: Single) -> bool:
        """Whether the answer depends on property bytes that may or may not be stale."""
        return (
            isinstance(call, Call)
            and call.arguments[:1] == ("ICC_HPPIR1_EL1",)
            and self._uncertain(call.index)
        )

    def _compare_lines(self) -> None:
        for cpu, mask in enumerate(self.gateware.host.lines):
            for bit, line in enumerate(LINES):
                seen = bool(mask >> bit & 1)
                expected = getattr(self.model, line)(cpu)
                if seen == expected:
                    continue
                if line == "irq" and self._uncertain(cpu):
                    permitted = self.model.permitted_acknowledges(cpu)
                    if SPURIOUS in permitted and len(permitted) > 1:
                        continue
                self.fail(f"{line} of CPU {cpu} is {seen} in the gateware, not {expected}")

    # Quiescence -------------------------------------------------------------------------------

    def _settle(self, call: Single) -> None:
        """Let everything that ``call`` has set off come to its end."""
        bench = self.gateware
        bench.step(SETTLE)
        limit = bench.cycle + LIMIT
        while waiting := self._busy(call):
            if bench.cycle > limit:
                self.fail(f"after {LIMIT} clocks the gateware still waits for {waiting}")
            bench.step(SETTLE)
        bench.host.forget_records()

    def _busy(self, call: Single) -> str:
        """What has not come to its end, in words; nothing if all has.

        Only looks where the sort of call can have started something that lasts.
        """
        if isinstance(call, Call) and call.method in _QUICK:
            return ""
        cpu = self.gateware.cpu[0]
        its = self.config.its_region.base
        model = self.model.its
        expected = model.read(0x90)
        if cpu.read(its + Gits.CREADR) != expected:
            seen = cpu.read(its + Gits.CREADR)
            return f"CREADR to become {expected:#x}, it is {seen:#x}"
        if not model.enabled and not cpu.read(its + Gits.CTLR) & QUIESCENT:
            return "the ITS to be quiescent"
        for n, region in enumerate(self.config.redistributors):
            if cpu.read(region.base + Gicr.SYNCR) or cpu.read(region.base + Gicr.CTLR) & RWP_GICR:
                return f"redistributor {n}"
        if cpu.read(DISTRIBUTOR.base + Gicd.CTLR) & RWP_GICD:
            return "the distributor"
        return ""

    # State ------------------------------------------------------------------------------------

    def compare_state(self) -> None:
        """Compare every register that can be read without an effect, tables and RAM; at last take
        every interrupt that is pending."""
        for call in self._state:
            self._do(call)
            self.calls.pop()  # it has changed nothing
        self._compare_pending()

    def _compare_pending(self) -> None:
        """Switching LPIs off writes the pending ones to RAM; switching them on reads them."""
        for cpu, region in enumerate(self.config.redistributors):
            if self.model.redistributors[cpu].lpis.enabled:
                self._do(on_cpu(cpu, "write", region.base + Gicr.CTLR, 0))
                self._do(on_ram("read", machines.pending_table(cpu) + 0x400, 16))
                table = machines.pending_table(cpu)
                self._do(machines.store64(cpu, region.base + Gicr.PENDBASER, table))
        for cpu, region in enumerate(self.config.redistributors):
            for call in self._open_cpu(cpu, region.base):
                self._do(call)
        self._drain()

    def _open_cpu(self, cpu: int, frame: int):
        """Nothing is masked, nothing active has a say, every LPI is enabled."""
        if cpu == 0:
            every = bytes(0x20 * (i % 5) | 3 for i in range(self.config.lpis))
            yield on_ram("write", machines.PROPERTIES, every)
            yield on_cpu(0, "write", DISTRIBUTOR.base + Gicd.CTLR, 2)
        yield machines.store64(cpu, frame + Gicr.PROPBASER, machines.PROPERTIES | machines.ID_BITS)
        yield on_cpu(cpu, "write", frame + Gicr.CTLR, 1)
        yield on_cpu(cpu, "write", frame + Gicr.WAKER, 0)
        yield on_cpu(cpu, "write_sysreg", "ICC_AP1R0_EL1", 0)
        yield on_cpu(cpu, "write_sysreg", "ICC_PMR_EL1", 0xFF)
        yield on_cpu(cpu, "write_sysreg", "ICC_CTLR_EL1", 0)
        yield on_cpu(cpu, "write_sysreg", "ICC_IGRPEN1_EL1", 1)

    def _drain(self) -> None:
        """Take everything, SPIs and SGIs once; a level that stays high is not deactivated."""
        for cpu in range(self.config.cpus):
            for _ in range(32 + self.config.spis + self.config.lpis):
                intid = self._do(on_cpu(cpu, "read_sysreg", "ICC_IAR1_EL1"))
                if intid == SPURIOUS:
                    break
                self._do(on_cpu(cpu, "write_sysreg", "ICC_AP1R0_EL1", 0))
            else:
                self.fail(f"CPU {cpu} takes interrupts without end")

    def fail(self, what: str) -> None:
        name = next((n for n, c in machines.CONFIGS.items() if c == self.config), "custom")
        start = "everything prepared" if self._prepared else "after reset"
        raise DifferenceError(
            f"{what}\n\n# machines.CONFIGS[{name!r}], {start}; the last call shows it\n"
            f"{script(self.calls)}"
        )


def _is_acknowledge(call: Single) -> bool:
    return isinstance(call, Call) and call.arguments == ("ICC_IAR1_EL1",)


def _only_looks(call: Single) -> bool:
    if not isinstance(call, Call) or not call.method.startswith(("read", "config_read")):
        return False
    return call.arguments[0] not in UNREAD


def _say(answer) -> str:
    if isinstance(answer, int):
        return hex(answer)
    return answer.__name__ if isinstance(answer, type) else repr(answer)


UNREAD = ("ICC_IAR1_EL1", "ICV_IAR1_EL1", "LAPIC_INTA")
"""System registers that change by being read."""


def _state_calls(config: SocConfig):
    """Reads of all that can be read without an effect."""
    for offset in _gicd_offsets(config):
        yield on_cpu(0, "read", DISTRIBUTOR.base + offset)
    for cpu, region in enumerate(config.redistributors):
        for offset in _gicr_offsets():
            yield on_cpu(cpu, "read", region.base + offset)
        for register in SystemRegister:
            if register.name not in UNREAD:
                yield on_cpu(cpu, "read_sysreg", register.name)
        for register in _lapic_offsets():
            yield on_cpu(cpu, "read", APIC_WINDOW.base + register)
    for register in (Gits.CTLR, Gits.CBASER, Gits.CWRITER, Gits.CREADR, Gits.BASER0, Gits.BASER1):
        yield on_cpu(0, "read64", config.its_region.base + register)
    for k, endpoint in enumerate(config.endpoints):
        end = 0x40 * (len(endpoint.capabilities) + 1)
        for offset in range(0, end, 4):
            yield on_endpoint(k, "config_read", offset, 4)
    yield on_ram("read", machines.SCRATCH, machines.SCRATCH_BYTES)


def _gicd_offsets(config: SocConfig):
    yield Gicd.CTLR
    for first in range(32, 32 + config.spis, 32):
        for array in (Gicd.IGROUPR, Gicd.ISENABLER, Gicd.ISPENDR, Gicd.ISACTIVER):
            yield array + first // 8
        yield from range(Gicd.IPRIORITYR + first, Gicd.IPRIORITYR + first + 32, 4)
        yield from (Gicd.ICFGR + first // 4, Gicd.ICFGR + first // 4 + 4)
        yield from range(Gicd.IROUTER + 8 * first, Gicd.IROUTER + 8 * (first + 32), 4)


def _gicr_offsets():
    yield from (Gicr.CTLR, Gicr.WAKER)
    yield from (Gicr.PROPBASER, Gicr.PROPBASER + 4, Gicr.PENDBASER, Gicr.PENDBASER + 4)
    for array in (Gicd.IGROUPR, Gicd.ISENABLER, Gicd.ISPENDR, Gicd.ISACTIVER):
        yield SGI_FRAME + array
    yield from range(SGI_FRAME + Gicd.IPRIORITYR, SGI_FRAME + Gicd.IPRIORITYR + 32, 4)
    yield SGI_FRAME + Gicd.ICFGR + 4


def _lapic_offsets():
    sets = (LapicRegister.ISR, LapicRegister.TMR, LapicRegister.IRR)
    yield from (first + 0x10 * word for first in sets for word in range(8))
    for name in ("TPR", "PPR", "LDR", "DFR", "SVR", "ESR", "ICR_LOW", "ICR_HIGH"):
        yield LapicRegister[name]
