"""What a recording says, line by line, as typed events.

A line is ``T CPU EVENT fields...``. Every event keeps the ``cpu`` that caused it, :data:`NO_CPU`
where that was no CPU. Lines of one kind have one type; an unknown kind or field is a
:class:`ValueError` that says what was wrong.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, TypeAlias

NO_CPU = -1
NO_PRIORITY = 0xFF


class Access(NamedTuple):
    """A register access. ``frame``: GICD, GICR, GITS or LAPIC; ``unit``: which redistributor.

    ``bad``: the recorded machine does not have that register.
    """

    cpu: int
    frame: str
    unit: int
    write: bool
    offset: int
    size: int
    value: int
    bad: bool


class Sysreg(NamedTuple):
    """A register of the CPU interface; ``name`` is the ICC register's without prefix."""

    cpu: int
    write: bool
    name: str
    value: int


class Sgi(NamedTuple):
    """A write to ICC_SGI1R."""

    cpu: int
    intid: int
    irm: int
    affinity: int
    targets: int


class SgiPending(NamedTuple):
    """An SGI reached redistributor ``unit``."""

    cpu: int
    unit: int
    intid: int


class Command(NamedTuple):
    """An ITS command that is carried out; ``words`` as they lay in memory, if that is known."""

    cpu: int
    offset: int
    opcode: int
    name: str
    fields: dict[str, int]
    words: tuple[int, ...] | None


class TableEntry(NamedTuple):
    """An entry of an ITS table is read or written. ``table``: DTE, ITE or CTE."""

    cpu: int
    table: str
    write: bool
    fields: dict[str, int]


class Translation(NamedTuple):
    """A device's write to GITS_TRANSLATER. ``fields`` end where the translation did."""

    cpu: int
    device: int
    event: int
    size: int
    fields: dict[str, int]


class Wire(NamedTuple):
    """A wired input changes. ``unit``: the redistributor of a PPI, or NO_CPU for an SPI."""

    cpu: int
    unit: int
    intid: int
    level: bool


class Highest(NamedTuple):
    """The highest-priority pending interrupt of CPU interface ``unit``, and its IRQ line."""

    cpu: int
    unit: int
    intid: int
    group: int
    priority: int
    fiq: bool
    irq: bool


class Config(NamedTuple):
    """A configuration access to ``function`` (``bb:dd.f``); ``name`` "-" for other registers."""

    cpu: int
    write: bool
    function: str
    offset: int
    size: int
    value: int
    name: str


class TableWord(NamedTuple):
    """An access to a word of an MSI-X table."""

    cpu: int
    write: bool
    function: str
    entry: int
    word: str
    size: int
    value: int


class Message(NamedTuple):
    """A write to an x86 message address. ``source``: ``bb:dd.f/msiN`` or the like."""

    cpu: int
    address: int
    data: int
    source: str


class Delivery(NamedTuple):
    """The message bus delivers; ``logical`` destination mode, ``level`` triggered."""

    cpu: int
    destination: int
    logical: bool
    mode: int
    vector: int
    level: bool


class LocalInterrupt(NamedTuple):
    """A local APIC's own interrupt: ``entry`` of the local vector table fires."""

    cpu: int
    entry: int
    mode: int


class Remark(NamedTuple):
    """A line that drives nothing and says nothing comparable. ``kind`` is its event name."""

    cpu: int
    kind: str


Event: TypeAlias = (
    Access
    | Sysreg
    | Sgi
    | SgiPending
    | Command
    | TableEntry
    | Translation
    | Wire
    | Highest
    | Config
    | TableWord
    | Message
    | Delivery
    | LocalInterrupt
    | Remark
)


def parse(text: str) -> tuple[int, Event]:
    """Time (microseconds) and event of a line. Equal lines at different times give one object."""
    time, _, rest = text.partition(" ")
    if not time.isdecimal():
        raise ValueError(f"a line starts with its time, not {time!r}")
    return int(time), _parse(rest)


@lru_cache(maxsize=1 << 16)
def _parse(text: str) -> Event:
    words = text.split(" ")
    try:
        cpu = NO_CPU if words[0] == "-" else int(words[0])
        kind = words[1]
        if kind.startswith("GICR"):
            return _access(cpu, words, "GICR", int(kind[4:]))
        if kind not in _PARSERS:
            raise ValueError(f"unknown event {kind!r}")
        return _PARSERS[kind](cpu, words)
    except KeyError as error:
        raise ValueError(f"no {error.args[0]}= in {text!r}") from None
    except IndexError:
        raise ValueError(f"too few fields in {text!r}") from None
    except ValueError as error:
        raise ValueError(f"{error} in {text!r}") from None


def _integer(text: str) -> int:
    return int(text, 0)


def _direction(word: str) -> bool:
    if word not in ("R", "W"):
        raise ValueError(f"R or W expected, not {word!r}")
    return word == "W"


def _fields(words: list[str]) -> dict[str, int]:
    """``key=value`` words; what has no ``=`` is not one of them."""
    pairs = (word.partition("=") for word in words)
    return {key: int(value, 0) for key, equals, value in pairs if equals}


def _flag(word: str) -> bool:
    if word not in ("0", "1"):
        raise ValueError(f"0 or 1 expected, not {word!r}")
    return word == "1"


def _end(words: list[str], count: int) -> None:
    if len(words) != count:
        raise ValueError(f"{len(words)} fields instead of {count}")


def _access(cpu: int, words: list[str], frame: str, unit: int = 0) -> Access:
    bad = len(words) == 7 and words[6] == "BAD"
    _end(words, 7 if bad else 6)
    size = int(words[4])
    if size not in (1, 2, 4, 8):
        raise ValueError(f"an access of {size} bytes")
    write = _direction(words[2])
    return Access(cpu, frame, unit, write, int(words[3], 16), size, int(words[5], 16), bad)


def _lapic(cpu: int, words: list[str]) -> Access:
    _end(words, 5)
    write, offset, value = _direction(words[2]), int(words[3], 16), int(words[4], 16)
    return Access(cpu, "LAPIC", cpu, write, offset, 4, value, False)


def _sysreg(cpu: int, words: list[str]) -> Sysreg:
    _end(words, 5)
    return Sysreg(cpu, _direction(words[2]), words[3], int(words[4], 16))


def _sgi(cpu: int, words: list[str]) -> Sgi:
    fields = _fields(words[2:])
    return Sgi(cpu, fields["sgi"], fields["irm"], fields["aff"], fields["list"])


def _sgi_pending(cpu: int, words: list[str]) -> SgiPending:
    _end(words, 4)
    return SgiPending(cpu, _numbered("rd", words[2]), _fields(words[3:])["sgi"])


def _numbered(prefix: str, word: str) -> int:
    if not word.startswith(prefix):
        raise ValueError(f"{prefix}N expected, not {word!r}")
    return int(word[len(prefix) :])


def _command(cpu: int, words: list[str]) -> Command:
    raw = None
    if words[-1].startswith("raw="):
        raw = tuple(int(word, 16) for word in words[-1][4:].split(":"))
        if len(raw) != 4:
            raise ValueError(f"{len(raw)} raw words instead of 4")
        words = words[:-1]
    offset = _integer(words[2].removeprefix("@"))
    fields = _fields(words[3:])
    return Command(cpu, offset, fields["op"], words[4], fields, raw)


def _table_entry(cpu: int, words: list[str]) -> TableEntry:
    return TableEntry(cpu, words[1], _direction(words[2]), _fields(words[3:]))


def _wire(cpu: int, words: list[str]) -> Wire:
    if words[2] == "ppi":
        _end(words, 6)
        return Wire(cpu, _numbered("rd", words[3]), int(words[4]), _flag(words[5]))
    if words[2] != "spi":
        raise ValueError(f"ppi or spi expected, not {words[2]!r}")
    _end(words, 5)
    return Wire(cpu, NO_CPU, int(words[3]), _flag(words[4]))


def _highest(cpu: int, words: list[str]) -> Highest:
    _end(words, 8)
    lines = _fields(words[6:])
    return Highest(
        cpu,
        _numbered("c", words[2]),
        int(words[3]),
        _numbered("g", words[4]),
        int(words[5].removeprefix("p"), 16),
        bool(lines["fiq"]),
        bool(lines["irq"]),
    )


def _config(cpu: int, words: list[str]) -> Config:
    _end(words, 9)
    numbers = int(words[5], 16), int(words[6]), int(words[7], 16)
    return Config(cpu, _direction(words[2]), words[4], *numbers, words[8])


def _table_word(cpu: int, words: list[str]) -> TableWord:
    _end(words, 8)
    if words[5] not in ("addr_lo", "addr_hi", "data", "ctrl"):
        raise ValueError(f"no word {words[5]!r} in an MSI-X entry")
    entry = _numbered("e", words[4])
    size, value = int(words[6]), int(words[7], 16)
    return TableWord(cpu, _direction(words[2]), words[3], entry, words[5], size, value)


def _message(cpu: int, words: list[str]) -> Message | Translation:
    if words[2].startswith("devid="):
        fields = _fields(words[2:])
        device, event, size = fields["devid"], fields["eventid"], fields["size"]
        return Translation(cpu, device, event, size, fields)
    fields = _fields(words[2:4])
    return Message(cpu, fields["addr"], fields["data"], words[4].removeprefix("src="))


def _delivery(cpu: int, words: list[str]) -> Delivery:
    fields = _fields(words[2:])
    logical, level = bool(fields["dm"]), bool(fields["trig"])
    return Delivery(cpu, fields["dest"], logical, fields["mode"], fields["vec"], level)


def _local(cpu: int, words: list[str]) -> LocalInterrupt:
    fields = _fields(words[2:])
    return LocalInterrupt(cpu, fields["idx"], fields["mode"])


def _remark(cpu: int, words: list[str]) -> Remark:
    words[2]  # at least one field
    return Remark(cpu, words[1])


_PARSERS: dict[str, Callable[[int, list[str]], Event]] = {
    "GICD": lambda cpu, words: _access(cpu, words, "GICD"),
    "GITS": lambda cpu, words: _access(cpu, words, "GITS"),
    "LAPIC": _lapic,
    "ICC": _sysreg,
    "SGI": _sgi,
    "SGIPEND": _sgi_pending,
    "CMD": _command,
    "DTE": _table_entry,
    "ITE": _table_entry,
    "CTE": _table_entry,
    "MSI": _message,
    "LINE": _wire,
    "HPPI": _highest,
    "CFG": _config,
    "MSIX": _table_word,
    "DELIVER": _delivery,
    "LVT": _local,
    "MARK": _remark,
    "CMDX": _remark,
    "MSIXCTL": _remark,
    "BAR": _remark,
    "IOAPIC": _remark,
}
