"""What a real kernel was recorded to do to a function's message, played again.

``recordings/`` has pieces of recordings of Linux under QEMU, cut by tests/sequences/cut_moves.py,
with line numbers and otherwise as they were: a time, the CPU, the access. First come the two writes
that made the old message, then what one CPU did to change it, until the end of the interrupt.

The recorded function had its registers elsewhere, other vectors, and logical destinations; what an
access means is kept, and said anew for the function and the move at hand.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hdl.registers import pci

from ..chips.pci_msi import MsiCapability
from ..machine.cpu import Cpu

if TYPE_CHECKING:
    from .torn_msi import Move

FOLDER = Path(__file__).parent / "recordings"
FLAGS, ADDRESS_LO, ADDRESS_HI, DATA = "MSI.flags", "MSI.addr_lo", "MSI.addr_hi", "MSI.data"
_VECTOR = 0xFF


class Access(NamedTuple):
    """One access of the function's MSI capability; ``offset`` counts from the capability."""

    line: int
    write: bool
    register: str
    offset: int
    size: int
    value: int


@dataclass(frozen=True)
class Recording:
    """One recorded move of an interrupt.

    Attributes
    ----------
    old_address, old_data : int
        The message before it, as recorded.
    accesses : tuple of Access
        In the order recorded.
    looks : bool
        Afterwards the CPU looked into its IRR.
    """

    old_address: int
    old_data: int
    accesses: tuple[Access, ...]
    looks: bool

    @classmethod
    @cache
    def load(cls, name: str) -> "Recording":
        """The recording in the file ``name``."""
        lines = [
            line.split()
            for line in (FOLDER / name).read_text().splitlines()
            if not line.startswith("#")
        ]
        config = [words for words in lines if words[3] == "CFG"]
        base = next(int(w[7], 16) for w in config if w[10] == FLAGS) - pci.MSI_FLAGS
        accesses = [
            Access(int(w[0]), w[4] == "W", w[10], int(w[7], 16) - base, int(w[8]), int(w[9], 16))
            for w in config
        ]
        address, data, *rest = accesses
        return cls(address.value, data.value, tuple(rest), any(w[3] == "LAPIC" for w in lines))

    @property
    def steps(self) -> int:
        """How often the whole message was written."""
        return sum(access.write and access.register == DATA for access in self.accesses)

    async def play(self, cpu: Cpu, move: "Move") -> None:
        """Every access, with this move's CPUs and vectors for the recorded ones.

        What is written to the flags differs from what was read last in the bits recorded.
        """
        capability, compose = move.chip.capability, move.chip.domain.compose
        assert isinstance(capability, MsiCapability)
        old, new = compose(move.old), compose(move.new)
        address = old.address
        read = played = 0
        for access in self.accesses:
            if not access.write:
                read = access.value
                played = await capability.read(cpu, access.offset, access.size)
                continue
            if access.register == FLAGS:
                value = played ^ read ^ access.value
            elif access.register == ADDRESS_LO:
                address = old.address if access.value == self.old_address else new.address
                value = address & 0xFFFF_FFFF
            elif access.register == ADDRESS_HI:
                value = address >> 32
            else:
                was_old = (access.value ^ self.old_data) & _VECTOR == 0
                vector = (move.old if was_old else move.new).vector
                value = access.value & ~_VECTOR | vector
            await capability.write(cpu, access.offset, value, access.size)
