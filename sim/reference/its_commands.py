"""The words of an ITS command (section 4.2) and the errors it can end in (section 4.5)."""

from enum import IntEnum

from .bits import field


class Opcode(IntEnum):
    """DW0[7:0]. Everything else, the GICv4 commands included, is unknown."""

    MOVI = 0x01
    INT = 0x03
    CLEAR = 0x04
    SYNC = 0x05
    MAPD = 0x08
    MAPC = 0x09
    MAPTI = 0x0A
    MAPI = 0x0B
    INV = 0x0C
    INVALL = 0x0D
    MOVALL = 0x0E
    DISCARD = 0x0F


class Reason(IntEnum):
    """Low byte of an error code. The last two are not the architecture's; any number would do."""

    DEVICE_RANGE = 0x01
    SIZE_OR_TARGET = 0x02
    COLLECTION_RANGE = 0x03
    UNMAPPED_DEVICE = 0x04
    EVENT_RANGE = 0x05
    INTID_RANGE = 0x06
    UNMAPPED_INTERRUPT = 0x07
    UNMAPPED_COLLECTION = 0x09
    TARGET_RANGE = 0x20
    NO_MEMORY = 0x40
    UNKNOWN_COMMAND = 0x41


def error_code(opcode: int, reason: Reason) -> int:
    """``0x01_oo_ee``; two commands have codes that do not follow from their number."""
    if opcode == Opcode.CLEAR:
        opcode = 0x05
    if opcode == Opcode.MOVALL and reason == Reason.SIZE_OR_TARGET:
        reason = Reason.DEVICE_RANGE
    return 0x01_0000 | opcode << 8 | reason


class CommandError(Exception):
    """A command that cannot be carried out; it has changed nothing."""

    def __init__(self, reason: Reason):
        self.reason = reason
        super().__init__(reason.name)


class Command:
    """Four little-endian double words, and their fields by name."""

    def __init__(self, data: bytes):
        self.words = tuple(int.from_bytes(data[i : i + 8], "little") for i in range(0, 32, 8))

    @property
    def opcode(self) -> int:
        return field(self.words[0], 7, 0)

    @property
    def device_id(self) -> int:
        return field(self.words[0], 63, 32)

    @property
    def event_id(self) -> int:
        return field(self.words[1], 31, 0)

    @property
    def intid(self) -> int:
        return field(self.words[1], 63, 32)

    @property
    def size(self) -> int:
        """MAPD: one less than the number of EventID bits."""
        return field(self.words[1], 4, 0)

    @property
    def icid(self) -> int:
        return field(self.words[2], 15, 0)

    @property
    def valid(self) -> bool:
        return bool(self.words[2] >> 63)

    @property
    def itt(self) -> int:
        return self.words[2] & 0x000F_FFFF_FFFF_FF00

    @property
    def target(self) -> int:
        """RDbase as a processor number, which GITS_TYPER.PTA = 0 makes it."""
        return field(self.words[2], 51, 16)

    @property
    def target2(self) -> int:
        return field(self.words[3], 51, 16)
