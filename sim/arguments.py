"""Arguments that people give, checked where they come in."""


def check(name: str, value, low: int, high: int) -> int:
    """``value`` as it is, or the error that names the argument and its range."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name} must be between {low:#x} and {high:#x}, not {value:#x}")
    return value
