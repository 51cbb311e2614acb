"""Sets of CPUs: one bit each."""


def first_cpu(mask: int) -> int:
    """The lowest CPU in ``mask``; -1 if it is empty."""
    return (mask & -mask).bit_length() - 1


def cpus_in(mask: int) -> list[int]:
    """The CPUs in ``mask``, lowest first."""
    return [i for i in range(mask.bit_length()) if mask >> i & 1]
