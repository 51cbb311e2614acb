"""Plays recorded traffic of a GICv3 with an ITS, and compares what comes back.

The recorded machine does everything at once, and its log has effects beside causes. A line that
drives the machine (an access, a wire, a message) is a *driver*; the lines that only tell what
happened (HPPI, SGIPEND, ITS commands and table entries) are *remarks*. Most drivers are logged
before their effects; writes to GICD, GICR and GITS and reads of IAR are logged after them. So the
remarks between two drivers belong to the first, to the second, or, if the first is of the early
and the second of the late sort, to both in an order unknown: then the state between the two must
be one of those that the remarks passed through. Whose remark is whose is also known where the
two drivers are of different CPUs.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy

from hdl.config import DISTRIBUTOR, SocConfig
from hdl.registers.gicr import GicrRegister
from hdl.registers.gits import ENTRY_BYTES, QUEUE_PAGE, GitsRegister, Opcode
from hdl.registers.sysreg import SystemRegister
from hdl.tap import EventKind

from ..hosts.base import Done
from .checker import Checker
from .dumps import Dump
from .events import (
    NO_CPU,
    NO_PRIORITY,
    Access,
    Command,
    Config,
    Event,
    Highest,
    Sgi,
    SgiPending,
    Sysreg,
    TableEntry,
    TableWord,
    Translation,
    Wire,
)
from .program import Program
from .survey import (
    BASER_ADDRESS,
    BASER_INDIRECT,
    FIRST_LPI,
    Survey,
    Translations,
    command_words,
    flat_table_bytes,
    is_invalidation,
)
from .tally import Tally
from .waivers import ABSENT, GROUP_0, TWO_LEVELS, waived_bits

SPURIOUS = 1023
_BITS_51_12 = (1 << 52) - (1 << 12)
_BASER_SIZE = 0x3FF
_IRQ_LINES = 0o11111111

_SET, _CLEARED = EventKind.PENDING_SET.value, EventKind.PENDING_CLEARED.value
_MOVED, _ACKNOWLEDGE = EventKind.PENDING_MOVED.value, EventKind.ACKNOWLEDGE.value
_TRANSLATION = EventKind.TRANSLATION.value
_KINDS = (_SET, _CLEARED, _MOVED, _ACKNOWLEDGE, _TRANSLATION)

_KEYS = {"DTE": ("DeviceID",), "CTE": ("ICID",), "ITE": ("ITTaddr", "EventID")}
_REMARKS = {Highest, SgiPending, Command, TableEntry}

FIRST_PPI, FIRST_SPI = 16, 32

LINE_SETTLE = 10
REGISTER_SETTLE = 24
SYSREG_SETTLE = 6
EOI_SETTLE = 12
SGI_SETTLE = 24
MESSAGE_SETTLE = 48
COMMAND_SETTLE = 200
PER_LPI_SETTLE = 24
"""Clocks until a driver's effects have arrived in a machine that has nothing else to do. Where
the recording says what they are, they are awaited however long that takes, within reason."""
MAX_SETTLE = 0xFFFF

_GROUP_0_REGISTERS = {"AP0R0", "IGRPEN0", "BPR0", "IAR0", "EOIR0", "HPPIR0"}
_RESET_STATE = ("PMR", "IGRPEN1", "CTLR", "BPR1", "AP1R0")
"""ICC registers that are zero, or at their minimum, in a CPU that has just been reset."""

NOT_DRIVEN = "PCI registers of a machine with an ITS: its messages are sent as recorded"
NOTHING_TO_COMPARE = "says nothing that could be compared"
DUMP_UNDER_LOAD = "a pending table dumped while messages came: the moment is not known"
DUMP_NOT_PLACED = "a dump at no moment of what was replayed: the command queue never held that"
_PASSED = {Config: NOT_DRIVEN, TableWord: NOT_DRIVEN}


def sysreg(name: str) -> int:
    """The number of an ICC register by its name in a recording."""
    return SystemRegister[f"ICC_{name}_EL1"]


HPPIR1, IAR1, RPR, SGI1R = (sysreg(name) for name in ("HPPIR1", "IAR1", "RPR", "SGI1R"))


class Window(NamedTuple):
    """What the tap says of one step, and which (CPU, INTID) were pending before it."""

    records: list[tuple]
    pending: frozenset[tuple[int, int]]


class GicPlayer(Checker):
    """Turns events into programs and compares what they come to; see the module.

    Parameters
    ----------
    program : Program
        Where the steps go.
    config : SocConfig
        The machine.
    survey : Survey
        What is known of the recording.
    tally : Tally
    where : callable
        Says where a line, by number, stands.
    dumps : sequence of Dump
        What the guest's memory held, by time.
    """

    def __init__(
        self,
        program: Program,
        config: SocConfig,
        survey: Survey,
        tally: Tally,
        where: Callable[[int], str],
        dumps: Sequence[Dump] = (),
    ):
        super().__init__(program, tally, where)
        self._config = config
        self._dumps = deque(dumps)
        self._ring = bytearray()
        self._moved_since = False
        self._memory = survey.memory
        self._properties = survey.properties
        self._translations = Translations()
        self._invalidations: Counter[int] = Counter()
        self._flat_pages = flat_table_bytes(config.device_id_bits) >> 16
        self._flat: set[int] = set()
        self._mapped: set[int] = set()
        self._bases: dict[str, int] = {}
        self._settle_commands = 0

        self._driver: tuple[int, Event] | None = None
        self._early = False
        self._remarks: list[tuple[int, Event]] = []
        self._theirs: list[tuple[int, Event]] = []
        self._states: list[tuple[int, bool]] = [(SPURIOUS, False)] * config.cpus
        self._priorities = [NO_PRIORITY] * config.cpus
        self._verified: dict[tuple[int, int], int] = {}
        self._group_mask = [0xF8] * config.cpus
        self._pending: set[tuple[int, int]] = set()
        self._frames = {
            ("GICD", 0): DISTRIBUTOR.base,
            ("GITS", 0): config.its_region.base,
            **{("GICR", n): region.base for n, region in enumerate(config.redistributors)},
        }
        self._drive: dict[type, Callable[[int, Any], None]] = {
            Access: self._access,
            Sysreg: self._sysreg,
            Sgi: self._sgi,
            Wire: self._wire,
            Translation: self._message,
        }

    # From events to steps ---------------------------------------------------------------------

    def prepare(self, line: int, event: Event) -> bool:
        """One event, in order; whether :meth:`drive` is to be called with it.

        In between, the program may be performed: everything before the event is complete.
        """
        kind = type(event)
        if kind in _REMARKS:
            self._remarks.append((line, event))
            return False
        if kind not in self._drive:
            self.tally.waive(_PASSED.get(kind, NOTHING_TO_COMPARE))
            return False
        self._theirs = self._divide(event)
        return True

    def drive(self, line: int, time: int, event: Event) -> None:
        """Do what the event says."""
        remarks, late = self._theirs, _is_late(event)
        self._driver = line, event
        self._early = not late and not _is_inert(event)
        if late and isinstance(event, Access) and event.frame == "GITS":
            self._compare_dumps(line, event)
            self._commands(event, remarks)
        self._drive[type(event)](line, event)
        if late:
            self._conclude(remarks)

    def finish(self) -> None:
        """The recording is over, and perhaps cut off: the last effects may not be in it."""
        if not self._early:
            self._conclude(self._remarks)
        if self._driver is not None:
            self._compare_dumps(*self._driver)
        for _ in self._dumps:
            self.tally.waive(DUMP_NOT_PLACED)
        self._remarks = []
        self._driver = None

    def _divide(self, event: Event) -> list:
        """Conclude the last driver with its share of the remarks; the others are ``event``'s."""
        remarks, self._remarks = self._remarks, []
        if not _is_late(event):
            if self._early or remarks:
                self._conclude(remarks)
            return []
        if not self._early:
            return remarks
        first_command = next(
            (i for i, (_, r) in enumerate(remarks) if type(r) is Command), len(remarks)
        )
        before, commands = remarks[:first_command], remarks[first_command:]
        assert self._driver is not None
        if self._driver[1].cpu != event.cpu:
            self._conclude([entry for entry in before if entry[1].cpu != event.cpu])
            return [entry for entry in before if entry[1].cpu == event.cpu] + commands
        self._conclude_either(before, event)
        return remarks

    def _conclude(self, remarks: list) -> None:
        """The last driver's effects are complete: compare with what the remarks say."""
        if self._driver is None:
            return
        line, event = self._driver
        touched: dict[int, tuple[int, Highest]] = {}
        sgis = set()
        for at, remark in remarks:
            if type(remark) is Highest:
                touched[remark.unit] = at, remark
            elif type(remark) is SgiPending:
                sgis.add((remark.unit, remark.intid))
        if type(event) is Sgi:
            self.program.check(self._check_sgis, line, event, sgis)
        for cpu, (at, remark) in touched.items():
            state = _state(remark)
            self._states[cpu] = state
            self._priorities[cpu] = remark.priority
            self.program.await_sysreg(cpu, HPPIR1, *state)
            self.program.check(self._check_state, at, remark, (state,))
        if not _is_inert(event):
            levels = sum(irq << 3 * cpu for cpu, (_, irq) in enumerate(self._states))
            self.program.check(self._check_lines, line, event, levels)
        self._table_entries(remarks)

    def _conclude_either(self, remarks: list, event: Event) -> None:
        """Some of these remarks are the last driver's, the rest the next one's."""
        assert self._driver is not None
        line, driver = self._driver
        sgis = {(r.unit, r.intid) for _, r in remarks if type(r) is SgiPending}
        if type(driver) is Sgi:
            self.program.check(self._check_sgis, line, driver, sgis)
        acknowledging = event.cpu if type(event) is Sysreg else NO_CPU
        for cpu in {r.unit for _, r in remarks if type(r) is Highest} - {acknowledging}:
            mine = [(at, r) for at, r in remarks if type(r) is Highest and r.unit == cpu]
            states = self._states[cpu], *(_state(r) for _, r in mine)
            self.program.read_sysreg(cpu, HPPIR1)
            self.program.check(self._check_state, *mine[-1], states)
        if isinstance(event, Sysreg):
            if event.value != SPURIOUS:
                self.program.await_sysreg(event.cpu, HPPIR1, event.value, True)
            # The state before it is what the acknowledge returns; keep what it said last.
            for _, remark in remarks:
                ours = type(remark) is Highest and remark.unit == acknowledging
                if ours and remark.priority != NO_PRIORITY and remark.irq:
                    self._priorities[acknowledging] = remark.priority
                    self._states[acknowledging] = _state(remark)

    # Drivers ----------------------------------------------------------------------------------

    def _access(self, line: int, event: Access) -> None:
        frame = event.frame
        if (frame, event.unit) not in self._frames:
            raise ValueError(f"{frame}{event.unit} in a machine of {self._config.cpus} CPUs")
        address = self._frames[frame, event.unit] + event.offset
        program, cpu = self.program, max(event.cpu, 0)
        if not event.write:
            self._read(line, event, cpu, address)
            return
        value, settle = event.value, REGISTER_SETTLE
        if frame == "GITS":
            value = self._moved(event)
            self._note_its_register(event.offset, value)
            settle += self._settle_commands
            self._settle_commands = 0
        elif frame == "GICR":
            value = self._moved(event)
            if event.offset == GicrRegister.CTLR:
                settle += self._config.lpis * PER_LPI_SETTLE
            elif event.offset == GicrRegister.PROPBASER:
                self._bases["properties"] = value & _BITS_51_12
            elif event.offset == GicrRegister.WAKER and event.cpu == event.unit and not value & 2:
                self._power_on(cpu)
            elif is_invalidation(event):
                self._invalidate(cpu, value & 0xFFFF_FFFF)
        if frame != "GITS":
            self._verified.clear()
        program.store(cpu, address, value, event.size, min(settle, MAX_SETTLE))
        program.check(self._check_done, line, event)

    def _read(self, line: int, event: Access, cpu: int, address: int) -> None:
        program = self.program
        program.load(cpu, address, min(event.size, 4))
        if event.size == 8:
            program.load(cpu, address + 4, 4)
        if event.bad:
            self.tally.waive(ABSENT)
            program.check(self._check_done, line, event)
            return
        program.check(self._check_read, line, event, self._moved(event))

    def _moved(self, event: Access) -> int:
        """The value with the addresses of tables moved to where they are here."""
        offset, value = event.offset, event.value
        if event.size != 8:
            return value
        if event.frame == "GICR":
            if offset == GicrRegister.PROPBASER:
                return self._memory.field(value, 12, 51)
            if offset == GicrRegister.PENDBASER:
                return self._memory.field(value, 16, 51)
        elif event.frame == "GITS":
            if offset == GitsRegister.CBASER:
                return self._memory.field(value, 12, 51)
            if _is_baser(offset):
                moved = self._memory.field(value, 12, 47)
                if event.write and value >> 63:
                    (self._flat.add if value & BASER_INDIRECT else self._flat.discard)(offset)
                    if offset in self._flat:
                        moved = moved & ~_BASER_SIZE | 2 << 8 | self._flat_pages - 1
                return moved
        return value

    def _note_its_register(self, offset: int, value: int) -> None:
        if offset == GitsRegister.CBASER:
            self._bases["queue"] = value & _BITS_51_12
            self._ring = bytearray(((value & 0xFF) + 1) * QUEUE_PAGE)
        elif offset == GitsRegister.BASER0:
            self._bases["DTE"] = value & BASER_ADDRESS
        elif offset == GitsRegister.BASER1:
            self._bases["CTE"] = value & BASER_ADDRESS

    def _power_on(self, cpu: int) -> None:
        """A CPU that wakes its redistributor comes from reset, which the recording has no line
        for: its interface is put in the reset state."""
        for name in _RESET_STATE:
            self.program.write_sysreg(cpu, sysreg(name), 0)
        self._group_mask[cpu] = 0xF8

    def _sysreg(self, line: int, event: Sysreg) -> None:
        program, cpu = self.program, event.cpu
        if event.name in _GROUP_0_REGISTERS:
            self.tally.waive(GROUP_0)
            return
        try:
            register = sysreg(event.name)
        except KeyError:
            raise ValueError(f"no register ICC_{event.name} here") from None
        if event.write:
            settle = EOI_SETTLE if event.name in ("EOIR1", "DIR") else SYSREG_SETTLE
            if event.name == "BPR1":
                self._group_mask[cpu] = 0xFF << max(event.value & 7, 3) & 0xFF
            program.write_sysreg(cpu, register, event.value, settle)
            program.check(self._check_done, line, event)
            return
        acknowledge = register == IAR1
        # The interface does not answer what comes next while it looks for the next interrupt.
        asked = any(type(r) is Highest and r.unit == cpu for _, r in self._theirs)
        program.read_sysreg(cpu, register, EOI_SETTLE if acknowledge and not asked else 0)
        program.check(self._check_read, line, event, event.value)
        priority = self._priorities[cpu]
        known = self._states[cpu] == (event.value, True) and priority != NO_PRIORITY
        if acknowledge and known and self._verified.get((cpu, event.value)) != priority:
            self._verified[cpu, event.value] = priority
            program.read_sysreg(cpu, RPR)
            expected = priority & self._group_mask[cpu]
            program.check(self._check_priority, line, event, expected)

    def _sgi(self, line: int, event: Sgi) -> None:
        value = event.targets | event.intid << 24 | event.irm << 40
        value |= (event.affinity & 0xFF) << 16 | (event.affinity >> 8 & 0xFF) << 32
        value |= (event.affinity >> 16 & 0xFF) << 48
        self.program.write_sysreg(event.cpu, SGI1R, value, SGI_SETTLE)

    def _wire(self, line: int, event: Wire) -> None:
        if event.unit != NO_CPU:
            name = f"ppis_{event.unit}.{event.intid - FIRST_PPI}"
        else:
            name = f"wires.{event.intid - FIRST_SPI}"
        self.program.poke(name, event.level, LINE_SETTLE)

    def _message(self, line: int, event: Translation) -> None:
        self._moved_since = True
        address = self._config.its_region.base + GitsRegister.TRANSLATER
        self.program.message(address, event.event, event.device, event.size, MESSAGE_SETTLE)
        self.program.check(self._check_translation, line, event)

    def _commands(self, event: Access, remarks: list) -> None:
        """Put the commands of a CWRITER write into the queue, and what they are about in RAM."""
        commands = [remark for _, remark in remarks if type(remark) is Command]
        program, cpu = self.program, max(event.cpu, 0)
        for command in commands:
            words = list(command_words(command))
            lpi = self._translations.apply(command)
            if lpi is not None and command.opcode == Opcode.INV:
                self._invalidate(cpu, lpi)
            elif lpi is not None and command.opcode in (Opcode.MAPTI, Opcode.MAPI):
                self._store_property(cpu, lpi)
            elif command.opcode == Opcode.MAPD:
                words[2] = self._memory.field(words[2], 8, 51)
            place = self._bases.get("queue", 0) + command.offset
            for i, word in enumerate(words):
                program.store(cpu, place + 8 * i, word, 8)
            recorded = b"".join(word.to_bytes(8, "little") for word in command_words(command))
            self._ring[command.offset : command.offset + len(recorded)] = recorded
        self._settle_commands = sum(map(self._command_settle, commands))

    def _command_settle(self, command: Command) -> int:
        slow = command.opcode in (Opcode.INVALL, Opcode.MOVALL)
        return COMMAND_SETTLE + slow * self._config.lpis * PER_LPI_SETTLE

    def _invalidate(self, cpu: int, lpi: int) -> None:
        self._invalidations[lpi] += 1
        self._store_property(cpu, lpi)

    def _store_property(self, cpu: int, lpi: int) -> None:
        """Give the LPI the property byte that it has in this part of the recording."""
        bytes_ = self._properties.get(lpi)
        base = self._bases.get("properties")
        if bytes_ is None or base is None:
            return
        self._mapped.add(lpi)
        byte = bytes_[min(self._invalidations[lpi], len(bytes_) - 1)]
        self.program.store(cpu, base + lpi - FIRST_LPI, byte, 1)

    def _compare_dumps(self, line: int, event: Event) -> None:
        """Compare the tables with the dumps that were made while the queue held what it does."""
        messages, self._moved_since = self._moved_since, False
        while self._dumps and self._dumps[0].queue == self._ring:
            dump = self._dumps.popleft()
            self._compare_properties(line, event, dump)
            for cpu in range(self._config.cpus):
                if (pending := dump.pending(cpu)) is None:
                    continue
                if messages:
                    self.tally.waive(DUMP_UNDER_LOAD)
                else:
                    self.program.read_sysreg(cpu, HPPIR1)
                    self.program.check(self._check_pending, line, event, cpu, pending)

    def _compare_properties(self, line: int, event: Event, dump: Dump) -> None:
        base, table = self._bases.get("properties"), dump.pieces.get("prop")
        if base is None or table is None:
            return
        for lpi in sorted(self._mapped):
            if 0 <= lpi - FIRST_LPI < len(table):
                self.program.load(0, base + lpi - FIRST_LPI, 1)
                expected = table[lpi - FIRST_LPI]
                self.program.check(self._check_property, line, event, dump.tag, lpi, expected)

    def _table_entries(self, remarks: list) -> None:
        """Compare the entries of the ITS's tables that the remarks name, as they are now."""
        entries: dict[tuple, tuple[int, TableEntry]] = {}
        for line, remark in remarks:
            if type(remark) is TableEntry:
                fields = remark.fields
                key = tuple(fields.get(k) for k in _KEYS[remark.table])
                entries[remark.table, *key] = line, remark
        for line, entry in entries.values():
            fields = entry.fields
            if entry.table == "ITE":
                base = self._memory.place(fields["ITTaddr"])
                address = base + ENTRY_BYTES * fields["EventID"]
            elif entry.table not in self._bases:
                continue
            else:
                number = fields[_KEYS[entry.table][0]]
                address = self._bases[entry.table] + ENTRY_BYTES * number
            self.program.load(0, address, 4)
            if entry.table == "DTE":
                self.program.load(0, address + 4, 4)
            self.program.check(self._check_entry, line, entry)

    # From what the steps came to, to the tally ------------------------------------------------

    def absorb(self, done: list[Done], records: numpy.ndarray) -> None:
        """Check what the program has come to, then begin the next."""
        self._tap = _relevant(records)
        self._tapped = 0
        self.run_checks(done)
        self._take_tap(len(done) - 1)

    def _take_tap(self, index: int) -> list[tuple]:
        """The tap from where it was left to the end of step ``index``; pending ones follow."""
        first, end = self._tapped, self.done[index].cycle if index >= 0 else 0
        tap = self._tap
        while self._tapped < len(tap) and tap[self._tapped][0] < end:
            self._follow(tap[self._tapped])
            self._tapped += 1
        return tap[first : self._tapped]

    def _follow(self, record: tuple) -> None:
        _, kind, unit, intid, *_ = record
        if kind == _SET:
            self._pending.add((unit, intid))
        elif kind in (_CLEARED, _ACKNOWLEDGE) or kind == _MOVED:
            self._pending.discard((unit, intid))

    def _window(self) -> Window:
        """What the tap says of the step that is checked."""
        self._take_tap(self.index - 1)
        before = frozenset(self._pending)
        return Window(self._take_tap(self.index), before)

    def _check_read(self, done: Done, line: int, event: Any, expected: int) -> None:
        seen = done.data
        if type(event) is Access and event.size == 8:
            seen = self.done[self.index - 1].data | seen << 32
        if done.error:
            self.compare("read", line, event, expected, "a bus error")
            return
        kind = "acknowledge" if type(event) is Sysreg and event.name == "IAR1" else "read"
        differing = seen ^ expected
        if differing:
            for mask, reason in self._waivers(event):
                if differing & mask:
                    self.tally.waive(reason)
                    differing &= ~mask
        self.compare(kind, line, event, expected, expected ^ differing)

    def _waivers(self, event: Access | Sysreg) -> list[tuple[int, str]]:
        if isinstance(event, Sysreg):
            return waived_bits("ICC", sysreg(event.name), 8)
        if event.frame == "GITS" and _is_baser(event.offset):
            size = _BASER_SIZE if event.offset in self._flat else 0
            return [(BASER_INDIRECT | size, TWO_LEVELS)]
        return waived_bits(event.frame, event.offset, event.size)

    def _check_state(self, done: Done, line: int, event: Highest, allowed: tuple) -> None:
        seen = done.data, bool(done.levels >> 3 * event.unit & 1)
        expected = seen if seen in allowed else allowed[-1]
        self.compare("state", line, event, _say_state(expected), _say_state(seen))

    def _check_lines(self, done: Done, line: int, event: Event, expected: int) -> None:
        if done.levels & _IRQ_LINES != expected:
            self.compare("lines", line, event, f"{expected:#b}", f"{done.levels & _IRQ_LINES:#b}")

    def _check_priority(self, done: Done, line: int, event: Sysreg, expected: int) -> None:
        self.compare("priority", line, event, expected, done.data)

    def _check_sgis(self, done: Done, line: int, event: Sgi, expected: set) -> None:
        window = self._window()
        seen = {
            (unit, intid)
            for _, kind, unit, intid, _, _ in window.records
            if kind == _SET and intid < FIRST_PPI
        }
        seen |= {sgi for sgi in expected if sgi in window.pending}
        self.compare("sgi", line, event, expected, seen)

    def _check_translation(self, done: Done, line: int, event: Translation) -> None:
        fields = event.fields
        expected = None
        if fields.get("cte.v"):
            expected = event.device, event.event, fields["intid"], fields["rd"]
        seen = [
            (device, address, data, unit)
            for _, kind, unit, device, data, address in self._window().records
            if kind == _TRANSLATION
        ]
        self.compare("translation", line, event, [expected] if expected else [], seen)

    def _check_property(
        self, done: Done, line: int, event: Event, tag: str, lpi: int, expected: int
    ) -> None:
        seen = done.data
        if not self.tally.compare("property", seen == expected):
            what = f"property of LPI {lpi} in the dump {tag!r}"
            self.tally.describe(self._where(line), what, expected, seen)

    def _check_pending(
        self, done: Done, line: int, event: Event, cpu: int, expected: set[int]
    ) -> None:
        self._take_tap(self.index)
        seen = {intid for unit, intid in self._pending if unit == cpu and intid >= FIRST_LPI}
        self.compare("pending table", line, event, expected, seen)

    def _check_entry(self, done: Done, line: int, event: TableEntry) -> None:
        fields, word = event.fields, done.data
        if event.table == "ITE":
            lpi = bool(fields["valid"] and fields.get("inttype", 1))
            expected = fields["intid"] << 16 | fields["ICID"] if lpi else 0
            self.compare("table entry", line, event, expected, word)
        elif event.table == "CTE":
            expected = fields["RDBase"] | 1 << 31 if fields["valid"] else 0
            seen = word & 0x8000_FFFF if word >> 31 else 0
            self.compare("table entry", line, event, expected, seen)
        else:
            size = self.done[self.index - 1].data & 0x1F
            mapped = fields["size"] if fields["valid"] else None
            self.compare("table entry", line, event, mapped, size if word >> 31 else None)


def _is_late(event: Event) -> bool:
    """Whether the recording has it after its effects."""
    if type(event) is Access:
        return event.write
    return type(event) is Sysreg and not event.write and event.name == "IAR1"


def _is_inert(event: Event) -> bool:
    """Whether it has no effects."""
    if type(event) is Access:
        return not event.write
    return type(event) is Sysreg and not event.write and event.name != "IAR1"


def _is_baser(offset: int) -> bool:
    return GitsRegister.BASER0 <= offset < GitsRegister.BASER0 + 64


def _state(event: Highest) -> tuple[int, bool]:
    intid = SPURIOUS if event.priority == NO_PRIORITY else event.intid
    return intid, event.irq


def _say_state(state: tuple[int, bool]) -> str:
    return f"INTID {state[0]}, irq={int(state[1])}"


def _relevant(records: numpy.ndarray) -> list[tuple]:
    """(cycle, kind, unit, id, data, address) of the records that checks look at."""
    if not len(records):
        return []
    chosen = records[numpy.isin(records["kind"], _KINDS)]
    return chosen[["cycle", "kind", "unit", "id", "data", "address"]].tolist()
