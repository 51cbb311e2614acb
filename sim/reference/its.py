"""Interrupt Translation Service (section 4).

A device's write of an EventID becomes an LPI at a redistributor: (DeviceID, EventID) name a
translation, the translation names an LPI and a collection, the collection names a CPU. A queue of
commands in RAM builds these tables and moves what is pending.

Here a command is complete when CWRITER's write returns, and so is a translation. What the order of
commands and translations leaves open in hardware (sections 3.2 and 5) therefore never shows, and
SYNC only checks its operand.
"""

from collections import Counter
from collections.abc import Callable

from .bits import HALF, WORD, half, merge_half, span
from .faults import BusFaultError
from .gicr import Redistributor
from .implementation import FIRST_ID, Implementation
from .its_commands import Command, CommandError, Opcode, Reason, error_code
from .its_tables import (
    CollectionEntry,
    DeviceEntry,
    FlatTable,
    TableMemory,
    TranslationEntry,
)
from .lpi import FIRST_LPI
from .memory import Memory
from .shape import Shape

PART = 0x94


class Register:
    """Offsets in the control frame; of TRANSLATER in the translation frame."""

    CTLR = 0x0000
    IIDR = 0x0004
    TYPER = 0x0008
    CBASER = 0x0080
    CWRITER = 0x0088
    CREADR = 0x0090
    BASER0 = 0x0100
    BASER1 = 0x0108

    TRANSLATER = 0x0040


COMMAND_BYTES = 32
OFFSET_MASK = span((19, 5))
CBASER_MASK = span(63, (61, 59), (55, 53), (51, 12), (11, 10), (7, 0))
BASER_MASK = span(63, (61, 59), (55, 53), (47, 12), (11, 10), (9, 8), (7, 0))
"""Indirect (bit 62) reads zero: tables have one level."""

DEVICE_TABLE, COLLECTION_TABLE = 1, 4
"""GITS_BASERn.Type."""

COLLECTIONS = 1 << 16


class Its:
    """Registers, command queue and translation.

    Attributes
    ----------
    counters : Counter
        What was dropped and why; not architectural.
    last_error : int or None
        Code of the last command that failed (section 4.5); not architectural either.
    """

    def __init__(
        self,
        shape: Shape,
        choices: Implementation,
        memory: Memory,
        redistributors: "list[Redistributor]",
        counters: Counter,
    ):
        self._shape = shape
        self._choices = choices
        self._memory = memory
        self._redistributors = redistributors
        self._tables = TableMemory(memory)
        self.counters = counters
        self.enabled = False
        self.stalled = False
        self.last_error: int | None = None
        self._cbaser = 0
        self._cwriter = 0
        self._creadr = 0
        self._basers = [0, 0]
        self._baser_constant = [
            DEVICE_TABLE << 56 | choices.device_entry_bytes - 1 << 48,
            COLLECTION_TABLE << 56 | choices.collection_entry_bytes - 1 << 48,
        ]
        self._devices = FlatTable(0, choices.device_entry_bytes)
        self._collections = FlatTable(0, choices.collection_entry_bytes)
        self._typer = (
            1  # physical LPIs
            | choices.translation_entry_bytes - 1 << 4
            | shape.event_id_bits - 1 << 8
            | shape.device_id_bits - 1 << 13
            | (COLLECTIONS.bit_length() - 2) << 32
            | 1 << 36  # CIL: CIDbits counts
        )
        self._execute: dict[int, Callable[[Command], None]] = {
            Opcode.MOVI: self._movi,
            Opcode.INT: self._int,
            Opcode.CLEAR: self._clear,
            Opcode.SYNC: self._sync,
            Opcode.MAPD: self._mapd,
            Opcode.MAPC: self._mapc,
            Opcode.MAPTI: self._mapti,
            Opcode.MAPI: self._mapi,
            Opcode.INV: self._inv,
            Opcode.INVALL: self._invall,
            Opcode.MOVALL: self._movall,
            Opcode.DISCARD: self._discard,
        }

    # Registers --------------------------------------------------------------------------------

    def narrow(self, offset: int) -> bool:
        """No register of the control frame takes 8- or 16-bit writes."""
        return False

    def read(self, offset: int) -> int:
        match offset:
            case Register.CTLR:
                quiescent = not self.enabled
                return quiescent << 31 | self.enabled
            case Register.IIDR:
                return self._choices.gits_iidr
        match offset & ~4:
            case Register.TYPER:
                return half(self._typer, offset)
            case Register.CBASER:
                return half(self._cbaser, offset)
            case Register.CWRITER:  # Retry reads 0
                return half(self._cwriter, offset)
            case Register.CREADR:
                return half(self._creadr | self.stalled, offset)
            case Register.BASER0 | Register.BASER1:
                n = (offset - Register.BASER0) // 8
                return half(self._basers[n] | self._baser_constant[n], offset)
        return self._choices.identification(offset, PART) if offset >= FIRST_ID else 0

    def write(self, offset: int, value: int, lanes: int) -> None:
        match offset & ~4:
            case Register.CTLR:
                if offset == Register.CTLR and lanes & 1:
                    self.enabled = bool(value & 1)
                    self._run()
            case Register.CBASER:
                if not self.enabled:
                    new = merge_half(self._cbaser, offset, value, lanes)
                    self._cbaser = new & CBASER_MASK
                    self._creadr, self.stalled = 0, False
            case Register.CWRITER:
                if offset == Register.CWRITER:
                    self._write_cwriter(value, lanes)
            case Register.BASER0 | Register.BASER1:
                if not self.enabled:
                    self._write_baser((offset - Register.BASER0) // 8, offset, value, lanes)

    def _write_cwriter(self, value: int, lanes: int) -> None:
        """An offset outside the queue makes the write void; Retry ends a stall (section 4.1)."""
        offset = merge_half(self._cwriter, Register.CWRITER, value, lanes) & OFFSET_MASK
        if offset >= self._queue_bytes:
            return
        self._cwriter = offset
        if value & lanes & 1:
            self.stalled = False
        self._run()

    def _write_baser(self, n: int, offset: int, value: int, lanes: int) -> None:
        self._basers[n] = merge_half(self._basers[n], offset, value, lanes) & BASER_MASK
        self._devices = FlatTable(self._basers[0], self._choices.device_entry_bytes)
        self._collections = FlatTable(self._basers[1], self._choices.collection_entry_bytes)

    @property
    def _queue_bytes(self) -> int:
        return ((self._cbaser & 0xFF) + 1) * 4096

    # Translation ------------------------------------------------------------------------------

    def message(self, device_id: int, event_id: int) -> None:
        """A write to TRANSLATER. What cannot be translated is dropped, and nobody is told."""
        if not self.enabled:
            self.counters["translation: ITS off"] += 1
            return
        try:
            entry, cpu = self._translate(device_id, event_id)
        except CommandError as error:
            self.counters[f"translation: {error.reason.name}"] += 1
            return
        self._pend(cpu, entry.intid)

    def _pend(self, cpu: int, intid: int) -> None:
        if not self._redistributors[cpu].lpis.set(intid):
            self.counters["LPI dropped"] += 1

    def _device(self, device_id: int) -> int:
        """Address of a device's entry."""
        if device_id >> self._shape.device_id_bits or device_id >= self._devices.capacity:
            raise CommandError(Reason.DEVICE_RANGE)
        return self._in_memory(self._devices.address(device_id))

    def _known_collection(self, icid: int) -> int:
        """``icid``, if the collection table has an entry for it."""
        if icid >= min(self._collections.capacity, COLLECTIONS):
            raise CommandError(Reason.COLLECTION_RANGE)
        return icid

    def _collection(self, icid: int) -> int:
        """Address of a collection's entry."""
        return self._in_memory(self._collections.address(self._known_collection(icid)))

    def _event(self, device_id: int, event_id: int) -> int:
        """Address of an event's entry in the table of its device."""
        device = self._tables.get(self._device(device_id), DeviceEntry)
        if device is None:
            raise CommandError(Reason.UNMAPPED_DEVICE)
        if event_id >= device.events:
            raise CommandError(Reason.EVENT_RANGE)
        return self._in_memory(device.itt + event_id * self._choices.translation_entry_bytes)

    def _in_memory(self, address: int) -> int:
        if not self._tables.holds(address):
            raise CommandError(Reason.NO_MEMORY)
        return address

    def _mapped_event(self, device_id: int, event_id: int) -> "tuple[int, TranslationEntry]":
        address = self._event(device_id, event_id)
        entry = self._tables.get(address, TranslationEntry)
        if entry is None:
            raise CommandError(Reason.UNMAPPED_INTERRUPT)
        return address, entry

    def _cpu_of(self, icid: int) -> int:
        collection = self._tables.get(self._collection(icid), CollectionEntry)
        if collection is None:
            raise CommandError(Reason.UNMAPPED_COLLECTION)
        return collection.cpu

    def _translate(self, device_id: int, event_id: int) -> "tuple[TranslationEntry, int]":
        _, entry = self._mapped_event(device_id, event_id)
        return entry, self._cpu_of(entry.icid)

    # Command queue ----------------------------------------------------------------------------

    def _run(self) -> None:
        """Carry out commands until CREADR reaches CWRITER or a command stalls the queue.

        A CWRITER that a smaller queue has left outside can never be reached: nothing runs.
        """
        valid = self._cbaser >> 63 and self._cwriter < self._queue_bytes
        while self.enabled and valid and not self.stalled and self._creadr != self._cwriter:
            try:
                self._next()
            except CommandError as error:
                self.counters[f"command: {error.reason.name}"] += 1
                if self._shape.its_on_error == "stall":
                    self.stalled = True
                    return
            self._creadr = (self._creadr + COMMAND_BYTES) % self._queue_bytes

    def _next(self) -> None:
        base = self._cbaser & span((51, 12))
        opcode = 0
        try:
            command = Command(self._memory.read(base + self._creadr, COMMAND_BYTES))
            opcode = command.opcode
            self._execute.get(opcode, self._unknown)(command)
        except BusFaultError:
            self.last_error = error_code(opcode, Reason.NO_MEMORY)
            raise CommandError(Reason.NO_MEMORY) from None
        except CommandError as error:
            self.last_error = error_code(opcode, error.reason)
            raise

    def _unknown(self, command: Command) -> None:
        raise CommandError(Reason.UNKNOWN_COMMAND)

    def _target(self, number: int) -> int:
        if number >= self._shape.cpus:
            raise CommandError(Reason.SIZE_OR_TARGET)
        return number

    # Commands, in the order of the table in section 4.3 ---------------------------------------

    def _mapd(self, command: Command) -> None:
        """The translation table's memory must be zero; whatever it holds becomes the mapping."""
        address = self._device(command.device_id)
        entry = None
        if command.valid:
            if command.size >= self._shape.event_id_bits:
                raise CommandError(Reason.SIZE_OR_TARGET)
            entry = DeviceEntry(2 << command.size, command.itt)
        self._tables.put(address, entry)

    def _mapc(self, command: Command) -> None:
        """Future events go to the new CPU; what is pending at the old one stays there."""
        address = self._collection(command.icid)
        entry = CollectionEntry(self._target(command.target)) if command.valid else None
        self._tables.put(address, entry)

    def _mapti(self, command: Command) -> None:
        self._map(command, command.intid)

    def _mapi(self, command: Command) -> None:
        self._map(command, command.event_id)

    def _map(self, command: Command, intid: int) -> None:
        """The collection has to be in range but not yet mapped. An old mapping is replaced."""
        address = self._event(command.device_id, command.event_id)
        if not FIRST_LPI <= intid < FIRST_LPI + self._shape.lpis:
            raise CommandError(Reason.INTID_RANGE)
        entry = TranslationEntry(intid, self._known_collection(command.icid))
        self._tables.put(address, entry)

    def _movi(self, command: Command) -> None:
        """Translations change, and the old redistributor hands over a pending LPI."""
        address, entry = self._mapped_event(command.device_id, command.event_id)
        old, new = self._cpu_of(entry.icid), self._cpu_of(command.icid)
        self._tables.put(address, TranslationEntry(entry.intid, command.icid))
        self._hand_over(old, new, {entry.intid})

    def _movall(self, command: Command) -> None:
        """Everything pending at one redistributor goes to another; translations stay."""
        old, new = self._target(command.target), self._target(command.target2)
        self._hand_over(old, new, self._redistributors[old].lpis.pending.copy())

    def _hand_over(self, old: int, new: int, intids: set[int]) -> None:
        source, target = self._redistributors[old].lpis, self._redistributors[new].lpis
        if old == new or (not target.enabled and self._choices.lpis_off_target == "keep"):
            return
        for intid in sorted(intids):
            if source.forget(intid):
                self._pend(new, intid)

    def _int(self, command: Command) -> None:
        entry, cpu = self._translate(command.device_id, command.event_id)
        self._pend(cpu, entry.intid)

    def _clear(self, command: Command) -> None:
        entry, cpu = self._translate(command.device_id, command.event_id)
        self._redistributors[cpu].lpis.forget(entry.intid)

    def _discard(self, command: Command) -> None:
        """With no redistributor to tell, the translation is removed all the same."""
        address, entry = self._mapped_event(command.device_id, command.event_id)
        try:
            self._redistributors[self._cpu_of(entry.icid)].lpis.forget(entry.intid)
        except CommandError:
            self.counters["DISCARD without a collection"] += 1
        self._tables.put(address, None)

    def _inv(self, command: Command) -> None:
        entry, cpu = self._translate(command.device_id, command.event_id)
        self._redistributors[cpu].lpis.invalidate(entry.intid)

    def _invall(self, command: Command) -> None:
        self._redistributors[self._cpu_of(command.icid)].lpis.invalidate(None)

    def _sync(self, command: Command) -> None:
        """Everything before it has already taken effect."""
        if command.target >= self._shape.cpus:
            raise CommandError(Reason.TARGET_RANGE)

    # For comparison ---------------------------------------------------------------------------

    def state(self) -> dict:
        devices = {}
        table = self._devices
        for address, device in self._tables.within(table.base, table.end, DeviceEntry).items():
            entry_bytes = self._choices.translation_entry_bytes
            end = device.itt + device.events * entry_bytes
            events = self._tables.within(device.itt, end, TranslationEntry)
            devices[(address - table.base) // table.entry_bytes] = {
                "events": device.events,
                "itt": device.itt,
                "mapped": {(a - device.itt) // entry_bytes: tuple(e) for a, e in events.items()},
            }
        table = self._collections
        collections = self._tables.within(table.base, table.end, CollectionEntry)
        return {
            "enabled": self.enabled,
            "cbaser": self._cbaser,
            "creadr": self._creadr,
            "cwriter": self._cwriter,
            "stalled": self.stalled,
            "basers": list(self._basers),
            "devices": devices,
            "collections": {
                (a - table.base) // table.entry_bytes: e.cpu for a, e in collections.items()
            },
        }


class TranslationFrame:
    """The second 64 KiB of the ITS: TRANSLATER, which only messages write."""

    def __init__(self, its: Its):
        self._its = its

    def narrow(self, offset: int) -> bool:
        """TRANSLATER takes 16-bit writes (section 1)."""
        return True

    def read(self, offset: int) -> int:
        return 0

    def write(self, offset: int, value: int, lanes: int) -> None:
        """A CPU's write that is not a message: see ``Implementation.cpu_messages``."""

    def message(self, offset: int, value: int, lanes: int, device_id: int) -> None:
        if offset == Register.TRANSLATER and lanes in (HALF, WORD):
            self._its.message(device_id, value & lanes)
