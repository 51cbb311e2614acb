"""x86 local APIC: register offsets, field layouts, and the encoding of messages to it.

Layouts are the xAPIC's, as Linux and QEMU have them. Registers are 32 bits wide and stand 16
bytes apart; the three vector sets fill eight words each, vector ``v`` being bit ``v % 32`` of
word ``v // 32``.
"""

import enum as numbers

from amaranth.lib import data, enum

REGISTER_BASE = 0xFEE0_0000
"""Where each CPU sees the 4 KiB of registers of its own local APIC."""

MESSAGE_BASE = 0xFEE0_0000
MESSAGE_SIZE = 1 << 20
"""The window to which devices write their messages."""

FIRST_LEGAL_VECTOR = 16
PHYSICAL_BROADCAST = 0xFF


class LapicRegister(numbers.IntEnum):
    """Offset of each register. ``ISR``, ``TMR`` and ``IRR`` are the first of eight words."""

    ID = 0x020
    VERSION = 0x030
    TPR = 0x080
    APR = 0x090
    PPR = 0x0A0
    EOI = 0x0B0
    LDR = 0x0D0
    DFR = 0x0E0
    SVR = 0x0F0
    ISR = 0x100
    TMR = 0x180
    IRR = 0x200
    ESR = 0x280
    ICR_LOW = 0x300
    ICR_HIGH = 0x310
    LVT_TIMER = 0x320
    LVT_THERMAL = 0x330
    LVT_PERFORMANCE = 0x340
    LVT_LINT0 = 0x350
    LVT_LINT1 = 0x360
    LVT_ERROR = 0x370
    TIMER_INITIAL = 0x380
    TIMER_CURRENT = 0x390
    TIMER_DIVIDE = 0x3E0


class DeliveryMode(enum.IntEnum, shape=3):
    """What a message or an inter-processor interrupt asks of the destination."""

    FIXED = 0
    LOWEST_PRIORITY = 1
    SMI = 2
    RESERVED = 3
    NMI = 4
    INIT = 5
    STARTUP = 6
    EXTINT = 7


class Shorthand(enum.IntEnum, shape=2):
    """Destination of an inter-processor interrupt, when it is not spelled out."""

    NONE = 0
    SELF = 1
    ALL = 2
    OTHERS = 3


class DestinationModel(enum.IntEnum, shape=4):
    """``DFR[31:28]``: how a logical destination is compared with LDR. Others match nothing."""

    CLUSTER = 0x0
    FLAT = 0xF


class MessageFault(enum.IntEnum, shape=3):
    """Why a message came to nothing: ``unit`` of a MESSAGE_BAD record of the message bus."""

    NO_DESTINATION = 1  #: no local APIC matches
    UNSUPPORTED_MODE = 2  #: delivery mode other than fixed and lowest-priority
    ILLEGAL_VECTOR = 3  #: vector below 16
    PARTIAL_WRITE = 4  #: not all four byte lanes
    DISABLED = 5  #: every local APIC that matches is disabled by software


class SpuriousVector(data.Struct):
    """SVR. The EOI-broadcast and focus bits are not implemented: they read zero."""

    vector: 8
    enable: 1


class ErrorStatus(data.Struct):
    """ESR. The bits of errors that cannot happen here read zero."""

    _low: 5
    send_illegal_vector: 1
    receive_illegal_vector: 1
    illegal_register: 1


class InterruptCommand(data.Struct):
    """ICR_LOW; the destination stands in the top byte of ICR_HIGH."""

    vector: 8
    delivery: DeliveryMode
    logical: 1
    pending: 1
    _13: 1
    asserted: 1
    level: 1
    _16: 2
    shorthand: Shorthand
    _20: 12


ICR_MASK = 0x000C_CFFF
"""Bits of ICR_LOW that can be written."""


class MessageAddress(data.Struct):
    """Address of a device's message.

    ``extended`` (bits 11:4) carries more destination bits for some hypervisors and is reserved
    otherwise.
    """

    _0: 2
    logical: 1
    redirection: 1
    extended: 8
    destination: 8
    base: 12


class MessageData(data.Struct):
    """Data of a device's message. ``asserted`` counts only for ``level`` messages."""

    vector: 8
    delivery: DeliveryMode
    _11: 3
    asserted: 1
    level: 1
    _16: 16


def _byte(name, value):
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if not 0 <= value <= 0xFF:
        raise ValueError(f"{name} must be between 0 and 255, not {value}")
    return value


def message_address(destination: int, *, logical=False, redirection=False) -> int:
    """The address a device writes to interrupt ``destination``.

    Parameters
    ----------
    destination : int
        APIC id (255: all), or with ``logical`` what is compared with each LDR: in the flat
        model one bit a CPU.
    redirection : bool
        One of the logical destination's CPUs is enough.
    """
    return (
        MESSAGE_BASE
        | _byte("Destination", destination) << 12
        | bool(redirection) << 3
        | bool(logical) << 2
    )


def message_data(vector: int, *, delivery=DeliveryMode.FIXED, level=False, asserted=False) -> int:
    """The data a device writes: vector, delivery mode, trigger mode and level.

    Vectors 0 to 15 can be written, since a faulty device can do so too.
    """
    return (
        _byte("Vector", vector)
        | int(DeliveryMode(delivery)) << 8
        | bool(asserted) << 14
        | bool(level) << 15
    )


def interrupt_command(
    vector: int,
    destination: int = 0,
    *,
    logical=False,
    shorthand=Shorthand.NONE,
    delivery=DeliveryMode.FIXED,
) -> tuple[int, int]:
    """Values for ICR_HIGH and ICR_LOW, to be written in this order, that send an interrupt."""
    high = _byte("Destination", destination) << 24
    low = (
        _byte("Vector", vector)
        | int(DeliveryMode(delivery)) << 8
        | bool(logical) << 11
        | int(Shorthand(shorthand)) << 18
    )
    return high, low
