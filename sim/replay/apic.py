"""Plays recorded traffic of x86 local APICs and of the PCI functions that send them messages.

What a recording does not say, and what is made of it:

* When a CPU takes an interrupt. It is taken as late as possible: at the CPU's EOI, or when a
  read of IRR or ISR shows that it has been taken. So two of a vector may merge here that did not
  there, and an EOI finds nothing; and such a read is only seen to name no vector that was never
  sent to that CPU.
* Whose timer fired. It is the one that was due first, by the counts written.
* The reset of a CPU that starts. INIT puts its local APIC in the reset state.
"""

from collections.abc import Callable
from typing import Any

import numpy

from hdl.config import APIC_WINDOW, MMIO, SocConfig
from hdl.registers import pci
from hdl.registers.lapic import (
    FIRST_LEGAL_VECTOR,
    PHYSICAL_BROADCAST,
    REGISTER_BASE,
    DeliveryMode,
    InterruptCommand,
    LapicRegister,
    Shorthand,
)
from hdl.registers.pci import Header
from hdl.registers.sysreg import SystemRegister
from hdl.tap import EventKind

from ..hosts.base import Done
from .checker import Checker
from .events import (
    Access,
    Config,
    Delivery,
    Event,
    LocalInterrupt,
    Message,
    Remark,
    TableWord,
)
from .program import Program
from .survey import MAX_MSIX, Survey
from .tally import Tally

START_SETTLE = 400
IPI_SETTLE = 4
MESSAGE_SETTLE = 20
"""Clocks until a driver's effects have arrived, in a machine that is otherwise at rest. Whatever
goes through a local APIC waits there for what came before."""

IOAPIC_REQUESTER = 0xF0F8
MESSAGE_ASSERT = 1 << 14
MESSAGE_LEVEL = 1 << 15
LVT_MASKED, LVT_PERIODIC = 1 << 16, 1 << 17
SVR_ENABLED = 1 << 8
RESET_SVR = 0xFF

OTHER_REGISTERS = "configuration space outside command, MSI and MSI-X: another device"
NO_IOAPIC = "there is no I/O APIC: its messages are sent as recorded"
NO_TIMER = "the local APICs have no timer: its interrupts are sent when they are recorded"
NO_PIC = "there is no 8259: what it delivers does not pass through the local APIC"
NO_CPU_BEHIND = "INIT, STARTUP, NMI and the like: there is no CPU behind the local APIC"
ASSERT_BIT = "recorded level messages lack the assert bit (14), without which they mean nothing"
ILLEGAL_VECTOR = "vectors below 16 are illegal and refused"
NOT_SHOWN = (
    "IRR and ISR bits of vectors sent to that CPU: when it takes them is not recorded; and of "
    "vectors that no line sends: the console's are left out"
)
DISABLED = "sent to a local APIC that software has disabled"
NOT_RECORDED = (
    "an EOI of nothing recorded: the console's messages (I/O APIC pin 4) are left out; or two of "
    "one vector have merged, for when a CPU takes an interrupt is not recorded"
)
NOT_TAPPED = "a function or vector beyond what the endpoints have: sent as a bare message"
TABLE_SIZE = "the endpoints' MSI-X tables have at most 64 entries"
NOTHING_TO_COMPARE = "says nothing that could be compared"

_IN_FLIGHT = {
    first + 0x10 * word for first in (LapicRegister.ISR, LapicRegister.IRR) for word in range(8)
}
"""The sets of vectors that change when a CPU takes an interrupt."""
_LVT = (
    LapicRegister.LVT_TIMER,
    LapicRegister.LVT_THERMAL,
    LapicRegister.LVT_PERFORMANCE,
    LapicRegister.LVT_LINT0,
    LapicRegister.LVT_LINT1,
    LapicRegister.LVT_ERROR,
)
_PENDING_SET, _MESSAGE = EventKind.PENDING_SET.value, EventKind.MESSAGE.value


class Recorded:
    """One recorded CPU's local APIC, as far as its lines tell."""

    def __init__(self) -> None:
        self.requested: set[int] = set()
        self.in_service: list[int] = []
        self.delivered: set[int] = set()
        self.reset()

    def reset(self) -> None:
        """What INIT does."""
        self.requested.clear()
        self.in_service.clear()
        self.delivered.clear()
        self.enabled = False
        self.logical = 0
        self.destination = 0
        self.entries = dict.fromkeys(_LVT, LVT_MASKED)
        self.divide = 0
        self.count = 0
        self.due: int | None = None

    def arm(self, time: int, count: int) -> None:
        """The timer is started with ``count``; 0 stops it. ``time`` and ``due`` in ns."""
        self.count = count
        self.due = time + count * self.period if count else None

    @property
    def period(self) -> int:
        """Nanoseconds of one count."""
        code = (self.divide & 3) | (self.divide >> 1 & 4)
        return 1 << (code + 1 & 7)

    def fire(self) -> int | None:
        """The timer has run down; the vector, unless it is masked."""
        entry = self.entries[LapicRegister.LVT_TIMER]
        assert self.due is not None
        self.due = self.due + self.count * self.period if entry & LVT_PERIODIC else None
        return None if entry & LVT_MASKED else entry & 0xFF


class ApicPlayer(Checker):
    """Turns events into programs and compares what they come to; see the module."""

    def __init__(
        self,
        program: Program,
        config: SocConfig,
        survey: Survey,
        tally: Tally,
        where: Callable[[int], str],
    ):
        super().__init__(program, tally, where)
        self._apics = [Recorded() for _ in range(config.cpus)]
        self._shapes = config.endpoints
        self._numbers = {name: i for i, name in enumerate(survey.chosen)}
        self._entries = {name: f.entries for name, f in survey.chosen.items()}
        self._sending = False
        self._begin = 0
        self._drive: dict[type, Callable[[int, int, Any], None]] = {
            Access: self._lapic,
            Config: self._config,
            TableWord: self._table_word,
            Message: self._message,
            LocalInterrupt: self._local,
        }
        self._set_up()

    def _set_up(self) -> None:
        """Give every endpoint its window; the recorded addresses are not used."""
        self.program.poke("external_request_valid", 0, START_SETTLE)
        for i in range(len(self._shapes)):
            address = pci.ecam_address(0, i + 1, 0)
            self.program.host_store(address + Header.BAR0, MMIO.base + i * pci.BAR_SIZE, 4)
            self.program.host_store(address + Header.COMMAND, pci.COMMAND_MEMORY, 2)

    # From events to steps ---------------------------------------------------------------------

    def prepare(self, line: int, event: Event) -> bool:
        """One event, in order; whether :meth:`drive` is to be called with it."""
        if type(event) in self._drive:
            return True
        if isinstance(event, Delivery):
            self._delivery(line, event)
        else:
            ioapic = isinstance(event, Remark) and event.kind == "IOAPIC"
            self.tally.waive(NO_IOAPIC if ioapic else NOTHING_TO_COMPARE)
        return False

    def drive(self, line: int, time: int, event: Event) -> None:
        """Do what the event says; ``time`` in microseconds."""
        self._drive[type(event)](line, time, event)

    def finish(self) -> None:
        """The recording is over: nothing is left to be compared."""

    # Local APICs ------------------------------------------------------------------------------

    def _lapic(self, line: int, time: int, event: Access) -> None:
        cpu, offset, value = event.unit, event.offset, event.value
        if not 0 <= cpu < len(self._apics):
            raise ValueError(f"a local APIC of CPU {cpu} among {len(self._apics)}")
        address, apic = REGISTER_BASE + offset, self._apics[cpu]
        if not event.write:
            if offset == LapicRegister.TIMER_CURRENT:
                self.tally.waive(NO_TIMER)
                return
            if offset in _IN_FLIGHT:
                self._take_as_shown(line, event, apic)
            self.program.load(cpu, address, 4)
            if offset in _IN_FLIGHT:
                first = (offset & 0x70) << 1
                unknown = sum(1 << v - first for v in apic.delivered if 0 <= v - first < 32)
                mask = 0xFFFF_FFFF & ~(unknown | value)
                self.program.check(self._check_masked, line, event, mask, NOT_SHOWN)
            else:
                self.program.check(self._check_read, line, event, value)
            return
        settle = 0
        if offset == LapicRegister.EOI:
            self._end_of_interrupt(line, event, apic)
        elif offset == LapicRegister.ICR_LOW:
            settle = IPI_SETTLE
            self._command(line, event, apic)
        elif offset == LapicRegister.ICR_HIGH:
            apic.destination = value >> 24
        elif offset == LapicRegister.LDR:
            apic.logical = value >> 24
        elif offset == LapicRegister.SVR:
            apic.enabled = bool(value & SVR_ENABLED)
        elif offset in apic.entries:
            apic.entries[LapicRegister(offset)] = value
        elif offset == LapicRegister.TIMER_DIVIDE:
            apic.divide = value
        elif offset == LapicRegister.TIMER_INITIAL:
            apic.arm(1000 * time, value)
        self.program.store(cpu, address, value, 4, settle)
        self.program.check(self._check_done, line, event)

    def _take(self, line: int, event: Access, apic: Recorded) -> None:
        """The CPU takes its highest requested vector."""
        vector = max(apic.requested)
        apic.requested.remove(vector)
        apic.in_service.append(vector)
        self.program.read_sysreg(event.unit, SystemRegister.LAPIC_INTA)
        self.program.check(self._check_taken, line, event, vector)

    def _end_of_interrupt(self, line: int, event: Access, apic: Recorded) -> None:
        if not apic.in_service and apic.requested and apic.enabled:
            self._take(line, event, apic)
        if apic.in_service:
            apic.in_service.remove(max(apic.in_service))
        else:
            self.tally.waive(NOT_RECORDED)

    def _take_as_shown(self, line: int, event: Access, apic: Recorded) -> None:
        """A read of a set of vectors shows whether the highest requested one has been taken."""
        if apic.in_service or not apic.requested:
            return
        vector = max(apic.requested)
        kind, word = divmod(event.offset - LapicRegister.ISR, 0x80)
        if word >> 4 != vector >> 5:
            return
        shown = bool(event.value >> (vector & 31) & 1)
        if (kind == 2 and not shown) or (kind == 0 and shown):
            self._take(line, event, apic)

    def _command(self, line: int, event: Access, apic: Recorded) -> None:
        """An inter-processor interrupt."""
        command = InterruptCommand.from_bits(event.value)
        targets = self._targets(event.unit, command, apic.destination)
        mode = DeliveryMode(command.delivery)
        if mode == DeliveryMode.FIXED:
            for cpu in targets:
                self._request(cpu, command.vector)
            return
        self.tally.waive(NO_CPU_BEHIND)
        if mode == DeliveryMode.INIT and command.asserted:
            for cpu in targets:
                self._initialise(cpu)

    def _targets(self, sender: int, command: Any, destination: int) -> list[int]:
        cpus = range(len(self._apics))
        shorthand = Shorthand(command.shorthand)
        if shorthand == Shorthand.NONE:
            return self._addressed(destination, bool(command.logical))
        if shorthand == Shorthand.SELF:
            return [sender]
        return [cpu for cpu in cpus if shorthand == Shorthand.ALL or cpu != sender]

    def _addressed(self, destination: int, logical: bool) -> list[int]:
        """The CPUs that a destination means, by the recorded LDRs (flat) and APIC ids."""
        if logical:
            return [i for i, apic in enumerate(self._apics) if apic.logical & destination]
        if destination == PHYSICAL_BROADCAST:
            return list(range(len(self._apics)))
        return [destination] if destination < len(self._apics) else []

    def _request(self, cpu: int, vector: int) -> bool:
        """A vector reaches a CPU; whether its local APIC takes it."""
        apic = self._apics[cpu]
        if vector < FIRST_LEGAL_VECTOR or not apic.enabled:
            return False
        apic.requested.add(vector)
        apic.delivered.add(vector)
        return True

    def _initialise(self, cpu: int) -> None:
        """INIT: no vector requested or in service, and every register as after reset."""
        program, apic = self.program, self._apics[cpu]
        outstanding = len(apic.requested) + len(apic.in_service)
        writes = [(LapicRegister.TPR, 0), (LapicRegister.SVR, RESET_SVR | SVR_ENABLED)]
        writes += [(LapicRegister.EOI, 0)] * len(apic.in_service)
        for register, value in writes:
            program.store(cpu, REGISTER_BASE + register, value, 4)
        for _ in range(outstanding - len(apic.in_service)):
            program.read_sysreg(cpu, SystemRegister.LAPIC_INTA)
            program.store(cpu, REGISTER_BASE + LapicRegister.EOI, 0, 4)
        writes = [(LapicRegister.SVR, RESET_SVR), (LapicRegister.LDR, 0)]
        writes += [(LapicRegister.DFR, 0xFFFF_FFFF), (LapicRegister.TIMER_DIVIDE, 0)]
        # A command of zero sends nothing, but leaves an error, which two writes of ESR clear.
        writes += [(LapicRegister.ICR_LOW, 0), (LapicRegister.ESR, 0), (LapicRegister.ESR, 0)]
        writes += [(LapicRegister.TIMER_INITIAL, 0), *((entry, LVT_MASKED) for entry in _LVT)]
        for register, value in writes:
            program.store(cpu, REGISTER_BASE + register, value, 4)
        apic.reset()

    def _local(self, line: int, time: int, event: LocalInterrupt) -> None:
        """An APIC's own interrupt, sent as a message of the same vector."""
        due = [(apic.due, cpu) for cpu, apic in enumerate(self._apics) if apic.due is not None]
        if event.entry or event.mode != DeliveryMode.FIXED or not due:
            self.tally.waive(NO_PIC)
            return
        self.tally.waive(NO_TIMER)
        _, cpu = min(due)
        vector = self._apics[cpu].fire()
        if vector is not None and self._request(cpu, vector):
            address = APIC_WINDOW.base | cpu << 12
            self.program.message(address, vector, IOAPIC_REQUESTER, 4, 0)

    # Functions and their messages -------------------------------------------------------------

    def _config(self, line: int, time: int, event: Config) -> None:
        number = self._numbers.get(event.function)
        capability = event.name.partition(".")[0]
        if number is None or not (event.name == "COMMAND" or capability in ("MSI", "MSIX")):
            self.tally.waive(OTHER_REGISTERS)
            return
        shape = self._shapes[number]
        value, mask = event.value, (1 << 8 * event.size) - 1
        if event.name == "COMMAND":
            offset, mask = Header.COMMAND, pci.COMMAND_MASTER | pci.COMMAND_INTX_DISABLE
            if event.write:
                value |= pci.COMMAND_MEMORY
        elif (at := _CAPABILITY_REGISTERS.get(event.name)) is not None:
            offset = shape.capability(capability.lower()) + at(shape.msi == "64")
            if event.name == "MSIX.ctrl" and self._entries[event.function] > MAX_MSIX:
                mask &= ~pci.MSIX_FLAGS_SIZE
        else:
            self.tally.waive(OTHER_REGISTERS)
            return
        address = pci.ecam_address(0, number + 1, 0, offset)
        if event.write:
            self.program.host_store(address, value & 0xFFFF_FFFF, event.size)
            self.program.check(self._check_done, line, event)
        else:
            self.program.host_load(address, event.size)
            reason = TABLE_SIZE if event.name == "MSIX.ctrl" else OTHER_REGISTERS
            self.program.check(self._check_masked, line, event, mask, reason)

    def _table_word(self, line: int, time: int, event: TableWord) -> None:
        number = self._numbers.get(event.function)
        if number is None or event.entry >= self._shapes[number].msix_vectors or event.size != 4:
            self.tally.waive(TABLE_SIZE if number is not None else NOT_TAPPED)
            return
        address = MMIO.base + number * pci.BAR_SIZE + pci.BAR_MSIX_TABLE
        address += pci.MSIX_ENTRY_SIZE * event.entry + _ENTRY_WORDS[event.word]
        if event.write:
            self.program.host_store(address, event.value, 4)
            self.program.check(self._check_done, line, event)
        else:
            self.program.host_load(address, 4)
            self.program.check(self._check_read, line, event, event.value)

    def _message(self, line: int, time: int, event: Message) -> None:
        name, slash, source = event.source.partition("/")
        number = self._numbers.get(name)
        vector = int(source.lstrip("msix")) if slash else 0
        self._begin = len(self.program)
        if number is not None and vector < self._shapes[number].vectors:
            program = self.program
            program.poke(f"endpoint_{number}_vector", vector)
            program.poke(f"endpoint_{number}_event", 1, 1)
            program.poke(f"endpoint_{number}_event", 0, MESSAGE_SETTLE)
            program.check(self._check_sent, line, event, pci.requester_id(number), self._begin)
        else:
            data = event.data
            self.tally.waive(NOT_TAPPED if slash else NO_IOAPIC)
            if data & MESSAGE_LEVEL and not data & MESSAGE_ASSERT:
                self.tally.waive(ASSERT_BIT)
                data |= MESSAGE_ASSERT
            self.program.message(event.address, data, IOAPIC_REQUESTER, 4, 0)
        self._sending = True

    def _delivery(self, line: int, event: Delivery) -> None:
        if not self._sending:
            raise ValueError("a delivery without a message before it")
        self._sending = False
        cpus = self._addressed(event.destination, event.logical)
        if event.mode not in (DeliveryMode.FIXED, DeliveryMode.LOWEST_PRIORITY):
            self.tally.waive(NO_CPU_BEHIND)
            return
        if event.vector < FIRST_LEGAL_VECTOR:
            self.tally.waive(ILLEGAL_VECTOR)
            return
        taken = {(cpu, event.vector) for cpu in cpus if self._request(cpu, event.vector)}
        if cpus and not taken:
            self.tally.waive(DISABLED)
            return
        one_of = event.mode == DeliveryMode.LOWEST_PRIORITY
        self.program.check(self._check_delivered, line, event, taken, one_of, self._begin)

    # From what the steps came to, to the tally ------------------------------------------------

    def absorb(self, done: list[Done], records: numpy.ndarray) -> None:
        """Check what the program has come to, then begin the next."""
        chosen = records[numpy.isin(records["kind"], (_PENDING_SET, _MESSAGE))]
        self._cycles = chosen["cycle"]
        self._tap = chosen[["kind", "unit", "id", "data", "address"]].tolist()
        self.run_checks(done)

    def _seen(self, begin: int, kind: int) -> list[tuple]:
        """Tap records of a kind from step ``begin`` to the one that is checked."""
        since = self.done[begin - 1].cycle if begin else 0
        first, end = numpy.searchsorted(self._cycles, (since, self.done[self.index].cycle))
        return [record for record in self._tap[first:end] if record[0] == kind]

    def _check_read(self, done: Done, line: int, event: Any, expected: int) -> None:
        self.compare("read", line, event, expected, done.data)

    def _check_masked(self, done: Done, line: int, event: Any, mask: int, reason: str) -> None:
        differing = done.data ^ event.value
        if differing & ~mask:
            self.tally.waive(reason)
        self.compare("read", line, event, event.value & mask, done.data & mask)

    def _check_taken(self, done: Done, line: int, event: Access, expected: int) -> None:
        self.compare("acknowledge", line, event, expected, done.data)

    def _check_sent(
        self, done: Done, line: int, event: Message, requester: int, begin: int
    ) -> None:
        expected = [(event.address, event.data, requester)]
        seen = [(address, data, id_) for _, _, id_, data, address in self._seen(begin, _MESSAGE)]
        self.compare("message", line, event, expected, seen)

    def _check_delivered(
        self, done: Done, line: int, event: Delivery, expected: set, one_of: bool, begin: int
    ) -> None:
        seen = {(unit, vector) for _, unit, vector, _, _ in self._seen(begin, _PENDING_SET)}
        if one_of and len(seen) == 1 and seen <= expected:
            expected = seen
        self.compare("delivery", line, event, sorted(expected), sorted(seen))


_CAPABILITY_REGISTERS: dict[str, Callable[[bool], int]] = {
    "MSI.flags": lambda wide: pci.MSI_FLAGS,
    "MSI.addr_lo": lambda wide: pci.MSI_ADDRESS_LO,
    "MSI.addr_hi": lambda wide: pci.MSI_ADDRESS_HI,
    "MSI.data": pci.msi_data,
    "MSI.mask": pci.msi_mask,
    "MSIX.ctrl": lambda wide: pci.MSIX_FLAGS,
}
_ENTRY_WORDS = {
    "addr_lo": pci.MSIX_ENTRY_ADDRESS_LO,
    "addr_hi": pci.MSIX_ENTRY_ADDRESS_HI,
    "data": pci.MSIX_ENTRY_DATA,
    "ctrl": pci.MSIX_ENTRY_CONTROL,
}
