"""Performance monitoring unit: two programmer's views of the same counters in one 4 KiB frame.

The first is that of an SMMUv3 PMCG (performance monitor counter group), the second that of an
Arm DMC-620 memory controller. Offsets are those the Linux drivers use, so that each driver's
accesses can be made as they are; the two do not collide.
"""

import enum as numbers

from amaranth.lib import data

FRAME_SIZE = 4096
MAX_COUNTERS = 4
COUNTER_BITS = 32

EVENT_CYCLES = 0
"""Event that counts clocks."""

EVENT_EXTERNAL = 1
"""Event that counts what is put on the instance's ``count`` input."""


class PmuRegister(numbers.IntEnum):
    """Offset of each register. ``EVCNTR``, ``EVTYPER``: one word a counter, 4 bytes apart.

    In the set and clear registers, and in ``OVERFLOW_STATUS``, bit ``n`` is counter ``n``.
    """

    EVCNTR = 0x000
    EVTYPER = 0x400
    OVERFLOW_STATUS = 0xA08  #: DMC-620: OVERFLOW_STATUS_CLKDIV2
    OVERFLOW_STATUS_CLK = 0xA0C
    COUNTER_GROUP = 0xA10  #: DMC-620: the first counter's group, see :func:`counter_control`
    CNTENSET = 0xC00
    CNTENCLR = 0xC20
    INTENSET = 0xC40
    INTENCLR = 0xC60
    OVSCLR = 0xC80
    OVSSET = 0xCC0
    CFGR = 0xE00
    CR = 0xE04
    CEID = 0xE20
    IRQ_CTRL = 0xE50


COUNTER_GROUP_STRIDE = 0x28
CONTROL_IN_GROUP = 0x10
VALUE_IN_GROUP = 0x20


class CounterControl(data.Struct):
    """A DMC-620 counter's CONTROL. The inversion and increment fields are not implemented."""

    enable: 1
    _invert: 1
    event: 5


def _in_group(counter, offset):
    return PmuRegister.COUNTER_GROUP + COUNTER_GROUP_STRIDE * _counter(counter) + offset


def _counter(counter):
    if isinstance(counter, bool) or not isinstance(counter, int):
        raise TypeError(f"Counter number must be an integer, not {counter!r}")
    if not 0 <= counter < MAX_COUNTERS:
        raise ValueError(f"Counter number must be between 0 and {MAX_COUNTERS - 1}, not {counter}")
    return counter


def event_counter(counter: int) -> int:
    """Offset of EVCNTR of one counter."""
    return PmuRegister.EVCNTR + 4 * _counter(counter)


def event_type(counter: int) -> int:
    """Offset of EVTYPER of one counter."""
    return PmuRegister.EVTYPER + 4 * _counter(counter)


def counter_control(counter: int) -> int:
    """Offset of CONTROL of one counter in the DMC-620 view."""
    return _in_group(counter, CONTROL_IN_GROUP)


def counter_value(counter: int) -> int:
    """Offset of VALUE of one counter in the DMC-620 view."""
    return _in_group(counter, VALUE_IN_GROUP)
