"""GICv3 ITS: registers, command encodings, error codes and the entries of its tables.

Layouts follow the GICv3 architecture (Arm IHI 0069, ITS registers and ITS commands); physical
LPIs only. Offsets are relative to the control frame; the translation frame lies 64 KiB above it.
The format of table entries is left to the implementation: ours is documented here because it is
what a memory dump shows.
"""

import enum

from amaranth.lib import data

TRANSLATION_FRAME = 0x1_0000
FRAME_BYTES = 0x2_0000
COMMAND_BYTES = 32
ENTRY_BYTES = 8
"""Size of a device, collection and translation entry."""

ITT_ALIGNMENT = 256
QUEUE_PAGE = 0x1000
PAGE_BYTES = (0x1000, 0x4000, 0x1_0000)
"""By ``GITS_BASER.page_size``."""


class GitsRegister(enum.IntEnum):
    """Offset of each register. 64-bit registers are also accessible by halves."""

    CTLR = 0x0000
    IIDR = 0x0004
    TYPER = 0x0008
    CBASER = 0x0080
    CWRITER = 0x0088
    CREADR = 0x0090
    BASER0 = 0x0100
    """Device table."""
    BASER1 = 0x0108
    """Collection table."""
    PIDR4 = 0xFFD0
    """First of the identification registers, which fill the frame to its end."""
    PIDR2 = 0xFFE8
    TRANSLATER = TRANSLATION_FRAME + 0x0040


IIDR = 0x0000_043B
IDENTIFICATION = (0x44, 0, 0, 0, 0x94, 0xB4, 0x3B, 0, 0x0D, 0xF0, 0x05, 0xB1)
"""PIDR4 to PIDR7, PIDR0 to PIDR3, CIDR0 to CIDR3; PIDR2[7:4] = 3 says GICv3."""


class GitsCtlr(data.Struct):
    """``GITS_CTLR``. ``quiescent`` (RO) is one out of reset."""

    enabled: 1
    imde: 1
    _2: 2
    its_number: 4
    _8: 23
    quiescent: 1


class GitsTyper(data.Struct):
    """``GITS_TYPER``, 64 bits, RO. ``*_bits`` and ``itt_entry_size`` hold one less."""

    physical: 1
    virtual: 1
    cct: 1
    _3: 1
    itt_entry_size: 4
    id_bits: 5
    dev_bits: 5
    seis: 1
    pta: 1
    _20: 4
    hcc: 8
    cid_bits: 4
    cil: 1
    _37: 27


class GitsCbaser(data.Struct):
    """``GITS_CBASER``, 64 bits. ``size`` in 4 KiB pages less one, ``address`` is bits 51:12."""

    size: 8
    _8: 2
    shareability: 2
    address: 40
    _52: 1
    outer_cache: 3
    _56: 3
    inner_cache: 3
    _62: 1
    valid: 1


class GitsCwriter(data.Struct):
    """``GITS_CWRITER``: ``offset`` is bits 19:5 of the byte offset (a command is 32 bytes)."""

    retry: 1
    _1: 4
    offset: 15
    _20: 44


class GitsCreadr(data.Struct):
    """``GITS_CREADR``, RO."""

    stalled: 1
    _1: 4
    offset: 15
    _20: 44


class GitsBaser(data.Struct):
    """``GITS_BASERn``, 64 bits. ``size`` in pages less one, ``address`` is bits 47:12."""

    size: 8
    page_size: 2
    shareability: 2
    address: 36
    entry_size: 5
    outer_cache: 3
    type: 3
    inner_cache: 3
    indirect: 1
    valid: 1


class BaserType(enum.IntEnum):
    """``GITS_BASERn.type``."""

    NONE = 0
    DEVICE = 1
    VPE = 2
    COLLECTION = 4


class Opcode(enum.IntEnum):
    """``command[7:0]``. What is not named here is an unknown command."""

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


class CommandWords(data.Struct):
    """A command as it lies in memory: four 64-bit words, lowest first.

    MAPD has its size in ``event[0:5]`` and its table's address in bits 51:8 of the third word,
    which :func:`itt_address` takes out; MAPI has only an event, which is the INTID as well.
    """

    opcode: 8
    _0_8: 24
    device: 32
    event: 32
    intid: 32
    collection: 16
    target: 36  #: RDbase bits 51:16: with PTA = 0 the CPU number
    _2_52: 11
    valid: 1
    _3_0: 16
    second_target: 36
    _3_52: 12


def itt_address(command):
    """``ITT_addr[51:8]`` of a MAPD in the form of :class:`CommandWords`: 44 bits."""
    return command.as_value()[128 + 8 : 128 + 52]


class Reason(enum.IntEnum):
    """Why a command failed or a message was dropped; low byte of an error code.

    The first group is the architecture's, MEMORY_FAULT and below are this implementation's.
    """

    OK = 0x00
    DEVICE_OOR = 0x01
    SIZE_OOR = 0x02
    """MAPD: EventID bits; MAPC: no such CPU."""
    COLLECTION_OOR = 0x03
    UNMAPPED_DEVICE = 0x04
    ID_OOR = 0x05
    PHYSICALID_OOR = 0x06
    UNMAPPED_INTERRUPT = 0x07
    UNMAPPED_COLLECTION = 0x09
    TARGET_OOR = 0x20
    """SYNC: no such CPU."""
    MEMORY_FAULT = 0x40
    """The queue or a table could not be read or written."""
    UNKNOWN_COMMAND = 0x41
    DISABLED = 0x42
    """Message: the ITS was disabled."""
    NOT_A_DEVICE = 0x43
    """Message: written by a CPU or by the interrupt controller itself."""
    BAD_ACCESS = 0x44
    """Message: neither 32 bits nor the low 16 bits of the register."""


ERROR_BASE = 0x01_0000


def error_code(opcode: int, reason: int) -> int:
    """What a COMMAND_ERROR record carries, e.g. 0x010107 for MOVI of an unmapped interrupt.

    By tradition CLEAR's codes carry 05, and MOVALL's "no such CPU" is 01.
    """
    if opcode == Opcode.CLEAR:
        opcode = 0x05
    if opcode == Opcode.MOVALL and reason == Reason.SIZE_OOR:
        reason = 0x01
    return ERROR_BASE | opcode << 8 | reason


class DeviceEntry(data.Struct):
    """``device_table[DeviceID]``: EventID bits less one, ITT address bits 51:8."""

    size: 5
    itt_address: 44
    _49: 14
    valid: 1


class CollectionEntry(data.Struct):
    """``collection_table[ICID]``, lower word; the upper word is neither read nor written."""

    target: 16
    _16: 15
    valid: 1


class TranslationEntry(data.Struct):
    """``itt[EventID]``, lower word; the upper word is neither read nor written.

    Valid when ``intid`` is an LPI; zero otherwise.
    """

    collection: 16
    intid: 16


def _words(opcode, *, device=0, event=0, intid=0, word2=0, word3=0):
    words = (opcode | device << 32, event | intid << 32, word2, word3)
    for word in words:
        if not 0 <= word < 1 << 64:
            raise ValueError(
                f"An operand of {Opcode(opcode).name} does not fit its field: word {word:#x}"
            )
    return words


def encode_mapd(device: int, size_bits: int, itt: int, valid: bool = True) -> tuple[int, ...]:
    """``size_bits`` EventID bits, translation table at ``itt`` (a multiple of 256)."""
    if size_bits not in range(1, 33):
        raise ValueError(f"MAPD: EventID bits must be between 1 and 32, not {size_bits}")
    if itt % ITT_ALIGNMENT or not 0 <= itt < 1 << 52:
        raise ValueError(
            f"MAPD: table address must be a multiple of {ITT_ALIGNMENT} below 2**52, not {itt:#x}"
        )
    return _words(Opcode.MAPD, device=device, event=size_bits - 1, word2=itt | valid << 63)


def encode_mapc(collection: int, target: int, valid: bool = True) -> tuple[int, ...]:
    return _words(Opcode.MAPC, word2=collection | target << 16 | valid << 63)


def encode_mapti(device: int, event: int, intid: int, collection: int) -> tuple[int, ...]:
    return _words(Opcode.MAPTI, device=device, event=event, intid=intid, word2=collection)


def encode_mapi(device: int, event: int, collection: int) -> tuple[int, ...]:
    """Event and LPI have the same number."""
    return _words(Opcode.MAPI, device=device, event=event, word2=collection)


def encode_movi(device: int, event: int, collection: int) -> tuple[int, ...]:
    return _words(Opcode.MOVI, device=device, event=event, word2=collection)


def encode_discard(device: int, event: int) -> tuple[int, ...]:
    return _words(Opcode.DISCARD, device=device, event=event)


def encode_int(device: int, event: int) -> tuple[int, ...]:
    return _words(Opcode.INT, device=device, event=event)


def encode_clear(device: int, event: int) -> tuple[int, ...]:
    return _words(Opcode.CLEAR, device=device, event=event)


def encode_inv(device: int, event: int) -> tuple[int, ...]:
    return _words(Opcode.INV, device=device, event=event)


def encode_invall(collection: int) -> tuple[int, ...]:
    return _words(Opcode.INVALL, word2=collection)


def encode_movall(old: int, new: int) -> tuple[int, ...]:
    return _words(Opcode.MOVALL, word2=old << 16, word3=new << 16)


def encode_sync(target: int) -> tuple[int, ...]:
    return _words(Opcode.SYNC, word2=target << 16)


def command_bytes(words: tuple[int, ...]) -> bytes:
    """The 32 bytes of a command as they go into the queue."""
    return b"".join(word.to_bytes(8, "little") for word in words)
