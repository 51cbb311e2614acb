"""Words, lanes and bit sets.

A write carries ``lanes``: a 32-bit mask with 0xFF for every byte that takes part. State that has
one bit per INTID lives in one Python integer, bit ``n`` for INTID ``n``.
"""

from collections.abc import Iterator

WORD = 0xFFFF_FFFF
HALF = 0xFFFF


def merge(old: int, value: int, lanes: int) -> int:
    """``old`` with the bytes of ``value`` that ``lanes`` select."""
    return old & ~lanes | value & lanes


def merge_half(old: int, offset: int, value: int, lanes: int) -> int:
    """A 64-bit register after a write to its low (``offset`` & 4 == 0) or high word."""
    shift = 8 * (offset & 4)
    return merge(old, value << shift, lanes << shift)


def half(value: int, offset: int) -> int:
    """The word of a 64-bit register that ``offset`` names."""
    return value >> 8 * (offset & 4) & WORD


def ones(bits: int) -> Iterator[int]:
    """Numbers of the set bits, lowest first."""
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


def field(value: int, high: int, low: int) -> int:
    """``value[high:low]`` as manuals write it, both ends included."""
    return value >> low & (1 << high - low + 1) - 1


def span(*ranges: "tuple[int, int] | int") -> int:
    """A mask of bit ranges (high, low) and single bits."""
    mask = 0
    for item in ranges:
        high, low = item if isinstance(item, tuple) else (item, item)
        mask |= (1 << high + 1) - (1 << low)
    return mask
