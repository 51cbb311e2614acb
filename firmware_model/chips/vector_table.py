"""Which interrupt each vector of each CPU means, and which vectors are free."""

import enum
from collections.abc import Sequence

from ..core.desc import IrqDesc

VECTORS = 256
FIRST_EXTERNAL = 0x20
MANAGED_SHUTDOWN = 0xEF
"""Messages of interrupts that nobody has requested yet carry this vector."""
FIRST_SYSTEM = 0xEC
"""From here on vectors are not given to devices."""


class VectorState(enum.Enum):
    """An entry that means no interrupt, and what is to happen if it comes nevertheless."""

    UNUSED = "unused"  #: complain
    SHUTDOWN = "shutdown"  #: of an interrupt that was freed: ignore once
    RETRIGGERED = "retriggered"  #: it was sent again elsewhere: ignore once


Entry = IrqDesc | VectorState


class VectorTable:
    """``vector_irq`` of every CPU and the allocator's map.

    The two differ on purpose: an entry may outlive its allocation, and the other way round.
    Everything is under the vector lock.

    Parameters
    ----------
    cpus : int
    first : int, or a sequence with one for each CPU
        Lowest vector given to devices.
    """

    def __init__(self, cpus: int, first: int | Sequence[int] = FIRST_EXTERNAL + 1):
        self._first = (first,) * cpus if isinstance(first, int) else tuple(first)
        if len(self._first) != cpus:
            raise ValueError(
                f"first must have one entry for each of {cpus} CPUs, not {len(self._first)}"
            )
        for vector in self._first:
            if not FIRST_EXTERNAL <= vector < FIRST_SYSTEM:
                raise ValueError(
                    f"first must be between {FIRST_EXTERNAL:#x} and {FIRST_SYSTEM - 1:#x}, "
                    f"not {vector:#x}"
                )
        self.entries: list[list[Entry]] = [[VectorState.UNUSED] * VECTORS for _ in range(cpus)]
        self.allocated: list[set[int]] = [set() for _ in range(cpus)]

    def allocate(self, cpus: list[int]) -> tuple[int, int] | None:
        """(cpu, vector): the lowest free one of the CPU among ``cpus`` with most of them free."""
        best: tuple[int, int, int] | None = None
        for cpu in cpus:
            taken = self.allocated[cpu]
            candidates = range(self._first[cpu], FIRST_SYSTEM)
            vector = next((v for v in candidates if v not in taken), None)
            if vector is not None and (best is None or len(taken) < best[0]):
                best = (len(taken), cpu, vector)
        if best is None:
            return None
        _, cpu, vector = best
        self.allocated[cpu].add(vector)
        return cpu, vector

    def free(self, cpu: int, vector: int) -> None:
        """Give the allocation back; the entry is left as it is."""
        self.allocated[cpu].discard(vector)

    def occupy(self, cpu: int, vector: int, entry: Entry = VectorState.UNUSED) -> None:
        """Take a vector out of the allocator's hands: it belongs to somebody else."""
        if not FIRST_EXTERNAL <= vector < VECTORS:
            raise ValueError(f"A vector must be {FIRST_EXTERNAL:#x} to 0xff, not {vector:#x}")
        if vector in self.allocated[cpu]:
            raise ValueError(f"Vector {vector:#x} of CPU {cpu} is taken already")
        self.allocated[cpu].add(vector)
        self.entries[cpu][vector] = entry
