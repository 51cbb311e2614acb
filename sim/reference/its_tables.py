"""The ITS's three tables, as entries at RAM addresses.

The format of an entry is private to an implementation (section 4.6), so the model keeps the
entries themselves, by the address at which hardware would keep them. That is enough for what
software can see: a table that is moved, shared or reused shows the entries of its memory, memory
that is not RAM cannot hold any, and what software overwrites there is gone.
"""

from typing import NamedTuple, TypeVar

from .memory import Memory


class DeviceEntry(NamedTuple):
    """MAPD: ``events`` EventIDs, translated by the table at ``itt``."""

    events: int
    itt: int


class CollectionEntry(NamedTuple):
    """MAPC: the CPU that the collection's interrupts go to."""

    cpu: int


class TranslationEntry(NamedTuple):
    """MAPTI: what one event becomes."""

    intid: int
    icid: int


Entry = TypeVar("Entry", DeviceEntry, CollectionEntry, TranslationEntry)


class TableMemory:
    """Entries by address. One that software writes over is no longer valid."""

    def __init__(self, memory: Memory):
        self._memory = memory
        self._entries: dict[int, NamedTuple] = {}
        memory.watch(memory.base, memory.end - memory.base, self._overwritten)

    def _overwritten(self, address: int, old: bytes, new: bytes) -> None:
        start, end = address & ~7, address + len(new)
        if len(self._entries) < (end - start) // 8:
            gone = [a for a in self._entries if start <= a < end]
        else:
            gone = [a for a in range(start, end, 8) if a in self._entries]
        for entry in gone:
            del self._entries[entry]

    def holds(self, address: int) -> bool:
        """Whether there is memory for an entry at ``address``."""
        return address in self._memory

    def get(self, address: int, kind: "type[Entry]") -> "Entry | None":
        entry = self._entries.get(address)
        return entry if isinstance(entry, kind) else None

    def put(self, address: int, entry: "NamedTuple | None") -> None:
        """Store ``entry``, or (``None``) an invalid one."""
        if entry is None:
            self._entries.pop(address, None)
        else:
            self._entries[address] = entry

    def within(self, start: int, end: int, kind: "type[Entry]") -> "dict[int, Entry]":
        """Valid entries of one kind with start <= address < end, by ascending address."""
        found = ((a, e) for a, e in self._entries.items() if start <= a < end)
        return dict(sorted((a, e) for a, e in found if isinstance(e, kind)))


class FlatTable:
    """What a GITS_BASERn describes: ``capacity`` entries of ``entry_bytes`` from ``base``.

    An ID at or above ``capacity`` has no entry. A register with Valid clear describes no entries.
    """

    def __init__(self, baser: int, entry_bytes: int):
        page = 4096 << 2 * min(baser >> 8 & 3, 2)  # PageSize 3 is reserved and counts as 2
        size = ((baser & 0xFF) + 1) * page
        valid = baser >> 63
        self.base = baser & 0x0000_FFFF_FFFF_F000
        if page == 1 << 16:
            self.base = baser & 0x0000_FFFF_FFFF_0000 | (baser >> 12 & 0xF) << 48
        self.entry_bytes = entry_bytes
        self.capacity = size // entry_bytes if valid else 0

    def address(self, number: int) -> int:
        return self.base + number * self.entry_bytes

    @property
    def end(self) -> int:
        return self.address(self.capacity)
