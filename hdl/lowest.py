"""Which of many bits is the lowest one, as deep as the logarithm of how many there are."""

from amaranth.hdl import Cat, Const, Mux, Value


def lowest(bits: Value) -> Value:
    """Index of the lowest one of ``bits``; zero if there is none.

    A chain of conditions would say the same, but a synthesiser keeps its length.
    """
    return _halve(bits)[1]


def _halve(bits: Value) -> tuple[Value, Value]:
    """Whether any of ``bits`` is one, and the index of the lowest."""
    if len(bits) == 1:
        return bits[0], Const(0, 0)
    middle = 1 << (len(bits) - 1).bit_length() - 1
    any_below, below = _halve(bits[:middle])
    any_above, above = _halve(bits[middle:])
    # Without a one, both halves say zero.
    index = Cat(Mux(any_below, below, above), ~any_below & any_above)
    return any_below | any_above, index
