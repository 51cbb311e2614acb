"""Where the guest's interrupt tables lie in the machine's RAM.

A guest may have gigabytes and puts its tables anywhere; the machine has as much RAM as the tables
need. So every table, and every address of one in a register or a command, is moved.
"""

from bisect import bisect_right

from hdl.config import RAM_BASE

PAGE = 1 << 16


class GuestMemory:
    """The guest's regions that matter, and where each begins in the machine's RAM."""

    def __init__(self) -> None:
        self._sizes: dict[int, int] = {}
        self._places: dict[int, int] = {}
        self._starts: list[int] = []

    def claim(self, address: int, size: int) -> None:
        """The guest uses ``size`` bytes from ``address`` on; may be said again, or grow."""
        self._sizes[address] = max(size, self._sizes.get(address, 0))

    def settle(self) -> int:
        """Give every region its place; returns how many bytes of RAM that takes."""
        self._places = {}
        self._starts = sorted(self._sizes)
        end = 0
        for address in self._starts:
            # The guest's own alignment is kept: registers and commands leave out low bits.
            alignment = min(address & -address or PAGE, PAGE)
            end = -(-end // alignment) * alignment
            self._places[address] = RAM_BASE + end
            end += self._sizes[address]
        return end

    def place(self, address: int) -> int:
        """Where the guest's ``address`` is in the machine; itself where nothing was claimed."""
        index = bisect_right(self._starts, address) - 1
        if index < 0:
            return address
        start = self._starts[index]
        offset = address - start
        return self._places[start] + offset if offset < self._sizes[start] else address

    def field(self, value: int, low: int, high: int) -> int:
        """``value`` with the address in its bits ``high`` to ``low`` moved."""
        mask = (1 << high + 1) - (1 << low)
        return value & ~mask | self.place(value & mask) & mask
