"""RAM, and those who must know when software changes it."""

from collections.abc import Callable
from typing import NamedTuple

from .faults import BusFaultError


class Watch(NamedTuple):
    """``changed(address, old, new)`` is called for writes that overlap [``start``, ``end``)."""

    start: int
    end: int
    changed: Callable[[int, bytes, bytes], None]


class Memory:
    """``size`` bytes from ``base``, zero at first, little-endian."""

    def __init__(self, base: int, size: int):
        self.base = base
        self.end = base + size
        self._bytes = bytearray(size)
        self._watches: list[Watch] = []

    def __contains__(self, address: int) -> bool:
        return self.base <= address < self.end

    def _index(self, address: int, count: int) -> int:
        if not (self.base <= address and address + count <= self.end):
            raise BusFaultError(address)
        return address - self.base

    def read(self, address: int, count: int) -> bytes:
        index = self._index(address, count)
        return bytes(self._bytes[index : index + count])

    def byte(self, address: int) -> int:
        """The byte at ``address``; 0 where there is no RAM, which for a table means "nothing"."""
        return self._bytes[address - self.base] if address in self else 0

    def write(self, address: int, data: bytes) -> None:
        index = self._index(address, len(data))
        watches = [w for w in self._watches if address < w.end and address + len(data) > w.start]
        old = bytes(self._bytes[index : index + len(data)]) if watches else b""
        self._bytes[index : index + len(data)] = data
        for watch in watches:
            watch.changed(address, old, bytes(data))

    def watch(self, start: int, count: int, changed: Callable[[int, bytes, bytes], None]) -> Watch:
        """Call ``changed`` from now on; :meth:`unwatch` the result to stop."""
        watch = Watch(start, start + count, changed)
        self._watches.append(watch)
        return watch

    def unwatch(self, watch: Watch) -> None:
        self._watches.remove(watch)
