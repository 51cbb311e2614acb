"""What has to be known of a recording before it is replayed: how many of what, and the memory.

A recording has no line for the guest's writes to memory. Most of what lies there shows in other
lines (ITS commands, base registers); whether an LPI is enabled, and at which priority, is
deduced here from what the recorded hardware made of it: see :class:`Properties`.
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hdl.config import SocConfig
from hdl.pci.endpoint import EndpointConfig
from hdl.registers import pci
from hdl.registers.gicd import GicdRegister
from hdl.registers.gicr import GicrRegister
from hdl.registers.gits import ENTRY_BYTES, PAGE_BYTES, QUEUE_PAGE, GitsRegister, Opcode

from .events import (
    NO_PRIORITY,
    Access,
    Command,
    Config,
    Event,
    Highest,
    Message,
    TableWord,
    Wire,
)
from .memory import GuestMemory

FIRST_LPI = 8192
PRIORITY_BITS = 0xFC
PROPERTY_FIXED = 0x02
PROPERTY_ENABLED = 0x01
USUAL_PRIORITY = 0xA0
"""What Linux gives every interrupt (GICD_INT_DEF_PRI), for LPIs that no line shows."""

BASER_INDIRECT = 1 << 62
BASER_ADDRESS = (1 << 48) - (1 << 12)

MAX_ENDPOINTS = 16
MAX_MSIX = 64


def itt_of(command: Command) -> tuple[int, int]:
    """Address and EventID bits of a MAPD."""
    words = command_words(command)
    return words[2] & ((1 << 52) - (1 << 8)), (words[1] & 0x1F) + 1


def command_words(command: Command) -> tuple[int, ...]:
    """The command as it lay in memory, put together from its fields where that is not recorded."""
    if command.words is not None:
        return command.words
    fields = command.fields
    get = fields.get
    event = get("EventID", 0) | get("pINTID", 0) << 32
    if command.opcode == Opcode.MAPD:
        event = get("Size", 0)
    third = get("ITT_addr", 0) << 8 | get("ICID", 0) | get("RDbase", 0) << 16 | get("V", 0) << 63
    return (command.opcode | get("DeviceID", 0) << 32, event, third, get("RDbase2", 0) << 16)


class Translations:
    """Which LPI an event is, as the recorded commands say."""

    def __init__(self) -> None:
        self._lpis: dict[tuple[int, int], int] = {}

    def apply(self, command: Command) -> int | None:
        """Take note of ``command``; the LPI it is about, where it is about one."""
        words = command_words(command)
        key = words[0] >> 32, words[1] & 0xFFFF_FFFF
        if command.opcode == Opcode.MAPTI:
            self._lpis[key] = words[1] >> 32
        elif command.opcode == Opcode.MAPI:
            self._lpis[key] = key[1]
        elif command.opcode == Opcode.MAPD:
            for other in [other for other in self._lpis if other[0] == key[0]]:
                del self._lpis[other]
            return None
        lpi = self._lpis.get(key)
        if command.opcode == Opcode.DISCARD:
            self._lpis.pop(key, None)
        return lpi


class Properties:
    """The property byte of every LPI between any two of its invalidations.

    Software changes the byte and then says INV. Between two INVs of an LPI it is

    * enabled, at the priority shown, if the LPI was the highest pending interrupt of some CPU;
    * otherwise the other way round than before, for that is why software says INV; disabled
      before the first.
    """

    def __init__(self) -> None:
        self._translations = Translations()
        self._seen: defaultdict[int, list[int | None]] = defaultdict(lambda: [None])
        self._priorities: Counter[int] = Counter()

    def survey(self, event: Event) -> None:
        """Take note of one event, in order."""
        if isinstance(event, Highest):
            if event.intid >= FIRST_LPI and event.priority != NO_PRIORITY:
                self._seen[event.intid][-1] = event.priority
                self._priorities[event.priority] += 1
        elif isinstance(event, Command):
            lpi = self._translations.apply(event)
            if lpi is not None and event.opcode == Opcode.INV:
                self._seen[lpi].append(None)
        elif isinstance(event, Access) and is_invalidation(event):
            self._seen[event.value & 0xFFFF_FFFF].append(None)

    def settle(self) -> dict[int, list[int]]:
        """By LPI, the property byte before its first INV, after that one, and so on."""
        usual = max(self._priorities, key=self._priorities.__getitem__, default=USUAL_PRIORITY)
        table = {}
        for lpi, shown in self._seen.items():
            priority = next((p for p in shown if p is not None), usual)
            enabled = True
            bytes_ = []
            for seen in shown:
                enabled = seen is not None or not enabled
                priority = seen if seen is not None else priority
                bytes_.append(priority & PRIORITY_BITS | PROPERTY_FIXED | enabled)
            table[lpi] = bytes_
        return table


def is_invalidation(event: Access) -> bool:
    """A write that makes a redistributor read the property of one LPI again."""
    return event.frame == "GICR" and event.write and event.offset == GicrRegister.INVLPIR


@dataclass
class Survey:
    """What one pass over a recording found. Sizes are the largest number seen plus one."""

    lines: int = 0
    cpus: int = 1
    interrupts: int = 32
    lpis: int = 0
    device_bits: int = 0
    event_bits: int = 0
    gic: bool = False
    apic: bool = False
    memory: GuestMemory = field(default_factory=GuestMemory)
    properties: dict[int, list[int]] = field(default_factory=dict)
    functions: "dict[str, Function]" = field(default_factory=dict)
    ram_bytes: int = 0

    def config(self, **wanted: int) -> SocConfig:
        """The machine for it; ``wanted`` overrides fields of :class:`hdl.config.SocConfig`."""
        if not self.gic:
            sizes = {"cpus": self.cpus, "gic": False, "ram_bytes": 4096}
            shapes = tuple(function.shape for function in self.chosen.values())
            return SocConfig(**(sizes | {"endpoints": shapes} | wanted))
        sizes = {
            "cpus": self.cpus,
            "spis": -(-max(self.interrupts - 32, 32) // 32) * 32,
            "lpis": _power_of_two(max(self.lpis, 32)),
            "device_id_bits": max(self.device_bits, 1),
            "event_id_bits": max(self.event_bits, 1),
            "local_apics": False,
            "endpoints": 0,
            "ram_bytes": _power_of_two(max(self.ram_bytes, 4096)),
        }
        return SocConfig(**(sizes | wanted))

    @property
    def chosen(self) -> "dict[str, Function]":
        """The functions that get an endpoint: all, or those that sent most messages."""
        by_use = sorted(self.functions, key=lambda name: (-self.functions[name].messages, name))
        return {name: self.functions[name] for name in sorted(by_use[:MAX_ENDPOINTS])}


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()


@dataclass
class Function:
    """What a recorded PCI function is seen to have."""

    wide: bool = False
    maskable: bool = False
    msi: bool = False
    msi_log2: int = 0
    entries: int = 0
    messages: int = 0

    @property
    def shape(self) -> EndpointConfig:
        """An endpoint that can stand for it."""
        return EndpointConfig(
            msi=("64" if self.wide else "32") if self.msi else "none",
            maskable=self.msi and self.maskable,
            msi_vectors=1 << self.msi_log2 if self.msi else 1,
            msix_vectors=min(self.entries, MAX_MSIX),
        )


class Surveyor:
    """Makes a :class:`Survey` from the events of a recording, in one pass."""

    def __init__(self) -> None:
        self.survey = Survey()
        self._properties = Properties()
        self._id_bits = 16
        self._act: dict[type, Callable[[Any], None]] = {
            Access: self._access,
            Command: self._command,
            Highest: self._highest,
            Wire: self._wire,
            Config: self._config,
            TableWord: self._table_word,
            Message: self._message,
        }

    def note(self, event: Event) -> None:
        """One event, in order."""
        survey = self.survey
        survey.lines += 1
        if event.cpu >= survey.cpus:
            survey.cpus = event.cpu + 1
        act = self._act.get(type(event))
        if act:
            act(event)

    def end(self) -> Survey:
        """What was found."""
        self.survey.properties = self._properties.settle()
        self.survey.ram_bytes = self.survey.memory.settle()
        return self.survey

    def _cpu(self, number: int) -> None:
        self.survey.cpus = max(self.survey.cpus, number + 1)

    def _highest(self, event: Highest) -> None:
        self._cpu(event.unit)
        if event.intid >= FIRST_LPI:
            self._properties.survey(event)

    def _wire(self, event: Wire) -> None:
        self._cpu(event.unit)
        self.survey.interrupts = max(self.survey.interrupts, event.intid + 1)

    def _access(self, event: Access) -> None:
        survey = self.survey
        if event.frame == "LAPIC":
            survey.apic = True
            return
        survey.gic = True
        if event.frame == "GICD":
            if event.offset == GicdRegister.TYPER:
                survey.interrupts = max(survey.interrupts, 32 * ((event.value & 0x1F) + 1))
        elif event.frame == "GICR":
            self._cpu(event.unit)
            if event.write:
                self._properties.survey(event)
                self._table_register(event)
        elif event.write and event.offset == GitsRegister.CBASER and event.value >> 63:
            address = event.value & ((1 << 52) - (1 << 12))
            survey.memory.claim(address, ((event.value & 0xFF) + 1) * QUEUE_PAGE)
        elif event.write and GitsRegister.BASER0 <= event.offset < GitsRegister.BASER0 + 64:
            if event.value >> 63:
                self._baser(event.value)
        elif event.offset == GitsRegister.TYPER and event.size == 8:
            survey.event_bits = max(survey.event_bits, (event.value >> 8 & 0x1F) + 1)
            survey.device_bits = max(survey.device_bits, (event.value >> 13 & 0x1F) + 1)

    def _baser(self, value: int) -> None:
        """A two-level table becomes a flat one, large enough for every DeviceID."""
        size = table_bytes(value)
        if value & BASER_INDIRECT:
            size = max(size, flat_table_bytes(self.survey.device_bits or 16))
        self.survey.memory.claim(value & BASER_ADDRESS, size)

    def _table_register(self, event: Access) -> None:
        """Where the tables of LPIs are; a pending table is as large as the ids say."""
        if event.offset == GicrRegister.PROPBASER:
            self._id_bits = (event.value & 0x1F) + 1
            address = event.value & ((1 << 52) - (1 << 12))
            self.survey.memory.claim(address, 1 << self._id_bits)
        elif event.offset == GicrRegister.PENDBASER:
            address = event.value & ((1 << 52) - (1 << 16))
            self.survey.memory.claim(address, (1 << self._id_bits) // 8)

    def _command(self, event: Command) -> None:
        survey = self.survey
        survey.gic = True
        self._properties.survey(event)
        words = command_words(event)
        if event.opcode == Opcode.MAPD and words[2] >> 63:
            address, bits = itt_of(event)
            survey.memory.claim(address, ENTRY_BYTES << min(bits, 16))
        elif event.opcode in (Opcode.MAPTI, Opcode.MAPI):
            intid = words[1] >> 32 if event.opcode == Opcode.MAPTI else words[1] & 0xFFFF_FFFF
            survey.lpis = max(survey.lpis, intid - FIRST_LPI + 1)

    def _function(self, name: str) -> Function:
        return self.survey.functions.setdefault(name, Function())

    def _config(self, event: Config) -> None:
        if event.name == "MSI.flags":
            function = self._function(event.function)
            function.msi = True
            function.wide = bool(event.value & pci.MSI_FLAGS_64BIT)
            function.maskable = bool(event.value & pci.MSI_FLAGS_MASKABLE)
            function.msi_log2 = max(function.msi_log2, (event.value & pci.MSI_FLAGS_CAPABLE) >> 1)
        elif event.name == "MSIX.ctrl":
            function = self._function(event.function)
            function.entries = max(function.entries, (event.value & pci.MSIX_FLAGS_SIZE) + 1)

    def _table_word(self, event: TableWord) -> None:
        function = self._function(event.function)
        function.entries = max(function.entries, event.entry + 1)

    def _message(self, event: Message) -> None:
        self.survey.apic = True
        name, slash, _ = event.source.partition("/")
        if slash:
            self._function(name).messages += 1


def flat_table_bytes(id_bits: int) -> int:
    """Bytes of a one-level table for ids of so many bits, in whole pages of 64 KiB."""
    return max(ENTRY_BYTES << id_bits, PAGE_BYTES[2])


def table_bytes(baser: int) -> int:
    """Bytes of the table that a GITS_BASER value describes."""
    return ((baser & 0xFF) + 1) * PAGE_BYTES[min(baser >> 8 & 3, 2)]
