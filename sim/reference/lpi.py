"""LPIs of one redistributor: pending or not, and what the property table says (section 3).

An LPI has no active state. It is pending in a redistributor, acknowledging it ends that, and a new
event makes it pending again at once, here or elsewhere, even while the first is being handled.

Its enable bit and priority live in a table in RAM, which hardware may cache. Software may rely on
a new byte only after an invalidation; before, it *may* have taken effect. So for every LPI there is
a set of bytes that hardware could be using: see :meth:`PropertyTable.options`.
"""

from .bank import Candidate
from .implementation import Implementation
from .memory import Memory, Watch

FIRST_LPI = 8192


class PropertyTable:
    """The property bytes as one redistributor sees them.

    The model's own view of an LPI is the byte it read when that LPI first became pending after the
    last invalidation, or at the invalidation itself if it knew the LPI already.
    """

    def __init__(self, memory: Memory, base: int, count: int):
        self._memory = memory
        self._base = base
        self._cached: dict[int, int] = {}
        self._held: dict[int, set[int]] = {}
        self._watch: Watch = memory.watch(base, count, self._changed)

    def close(self) -> None:
        self._memory.unwatch(self._watch)

    def _current(self, intid: int) -> int:
        return self._memory.byte(self._base + intid - FIRST_LPI)

    def _changed(self, address: int, old: bytes, new: bytes) -> None:
        first = FIRST_LPI + address - self._base
        for intid, (was, now) in enumerate(zip(old, new, strict=True), first):
            if was != now and intid >= FIRST_LPI:
                self._held.setdefault(intid, set()).update((was, now))

    def look_up(self, intid: int) -> int:
        byte = self._cached.get(intid)
        if byte is None:
            byte = self._cached[intid] = self._current(intid)
        return byte

    def options(self, intid: int) -> frozenset[int]:
        """Every byte the table has held since it last had to be read; at least one."""
        return frozenset((self._cached.get(intid, self._current(intid)),)).union(
            self._held.get(intid, ())
        )

    def forget(self, intid: int) -> None:
        """The next look-up reads the table."""
        self._cached.pop(intid, None)
        self._held.pop(intid, None)

    def adopt(self, intid: int, byte: int) -> None:
        """Use ``byte`` from now on: hardware was seen to."""
        self._cached[intid] = byte

    def invalidate(self, intid: int) -> None:
        self._held.pop(intid, None)
        if intid in self._cached:
            self._cached[intid] = self._current(intid)

    def invalidate_all(self) -> None:
        self._held.clear()
        for intid in self._cached:
            self._cached[intid] = self._current(intid)


class LpiUnit:
    """Pending LPIs of one redistributor.

    Attributes
    ----------
    enabled : bool
        GICR_CTLR.EnableLPIs. While it is off nothing can become pending.
    limit : int
        One more than the highest INTID that can be pending: what the hardware has, lowered by
        PROPBASER.IDbits; with fewer than 14 bits there are no LPIs at all.
    pending : set of int
        INTIDs.
    """

    def __init__(self, memory: Memory, lpis: int, choices: Implementation):
        self._memory = memory
        self._hardware_limit = FIRST_LPI + lpis
        self._choices = choices
        self._mask = choices.priority_mask & 0xFC
        self._table = PropertyTable(memory, 0, 0)
        self._pending_base = 0
        self._best: Candidate | None = None
        self._best_known = True
        self.enabled = False
        self.limit = 0
        self.pending: set[int] = set()

    def switch_on(self, propbaser: int, pendbaser: int, all_zero: bool) -> None:
        """EnableLPIs 0 to 1. ``all_zero`` is PTZ: the pending table need not be read."""
        bits = min((propbaser & 0x1F) + 1, self._choices.interrupt_id_bits)
        self.limit = min(self._hardware_limit, 1 << bits) if bits >= 14 else 0
        count = max(self.limit - FIRST_LPI, 0)
        base = propbaser & 0x000F_FFFF_FFFF_F000
        self._table.close()
        self._table = PropertyTable(self._memory, base, count)
        self.enabled = True
        self._pending_base = pendbaser & 0x000F_FFFF_FFFF_0000
        self.pending = set()
        self._best_known = False
        if not all_zero:
            for intid in range(FIRST_LPI, self.limit):
                if self._memory.byte(self._pending_base + intid // 8) >> intid % 8 & 1:
                    self.set(intid)

    def switch_off(self) -> None:
        """EnableLPIs 1 to 0."""
        if self.enabled and self._choices.pending_on_disable == "write_back":
            self._write_back()
        self._table.close()
        self._table = PropertyTable(self._memory, 0, 0)
        self.enabled = False
        self.pending = set()
        self._best_known = False

    def _write_back(self) -> None:
        for start in range(FIRST_LPI, self.limit, 8):
            address = self._pending_base + start // 8
            if address in self._memory:
                byte = sum(1 << i for i in range(8) if start + i in self.pending)
                self._memory.write(address, bytes((byte,)))

    def accepts(self, intid: int) -> bool:
        """Whether ``intid`` can be pending here: LPIs on, and within both limits."""
        return self.enabled and FIRST_LPI <= intid < self.limit

    def set(self, intid: int) -> bool:
        """Make pending, also when disabled in the table; ``False`` if it was dropped."""
        if not self.accepts(intid):
            return False
        if intid not in self.pending:
            self.pending.add(intid)
            self._table.look_up(intid)
            self._best_known = False
        return True

    def clear(self, intid: int) -> bool:
        """No longer pending; whether it was."""
        if intid not in self.pending:
            return False
        self.pending.remove(intid)
        self._best_known = False
        return True

    def forget(self, intid: int) -> bool:
        """:meth:`clear` for good: cleared by software or handed over, so that invalidations may go
        to another redistributor from now on. A property kept here would count again when the LPI
        comes back; whether it was pending."""
        self._table.forget(intid)
        return self.clear(intid)

    def invalidate(self, intid: "int | None") -> None:
        """INV of one LPI, or (``None``) of all. It may cover more than was asked for: that is
        always allowed, since a cache may drop anything at any time."""
        if intid is None:
            self._table.invalidate_all()
        else:
            self._table.invalidate(intid)
        self._best_known = False

    def candidate(self) -> "Candidate | None":
        """The most urgent pending and enabled LPI."""
        if not self._best_known:
            ready = ((self._table.look_up(i), i) for i in self.pending)
            self._best = min(((b & self._mask, i) for b, i in ready if b & 1), default=None)
            self._best_known = True
        return self._best

    # The freedom of a cache -------------------------------------------------------------------

    def options(self, intid: int) -> "list[Candidate | None]":
        """What ``intid``, pending, may compete as; ``None`` is: not at all, because disabled."""
        bytes_ = sorted(self._table.options(intid))
        return list(dict.fromkeys((b & self._mask, intid) if b & 1 else None for b in bytes_))

    def adopt(self, candidate: Candidate) -> None:
        """Hardware was seen to use this priority for this INTID."""
        priority, intid = candidate
        for byte in self._table.options(intid):
            if byte & 1 and byte & self._mask == priority:
                self._table.adopt(intid, byte)
                self._best_known = False
                return

    def uncertain(self) -> dict[int, list[int]]:
        """Pending LPIs for which more than one property byte is possible, with those bytes."""
        options = {intid: sorted(self._table.options(intid)) for intid in sorted(self.pending)}
        return {intid: bytes_ for intid, bytes_ in options.items() if len(bytes_) > 1}

    def state(self) -> dict:
        return {
            "enabled": self.enabled,
            "pending": sorted(self.pending),
            "uncertain": self.uncertain(),
        }
