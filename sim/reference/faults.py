"""What an access can run into."""


class BusFaultError(Exception):
    """Nothing answers at ``address``, or the access is not aligned to its size."""

    def __init__(self, address: int):
        self.address = address
        super().__init__(f"Nothing answers at {address:#x}")


class UndefinedRegisterError(KeyError):
    """There is no system register ``name``, or it cannot be accessed in this direction."""

    def __init__(self, name: str, direction: str):
        self.name = name
        super().__init__(f"System register {name!r} cannot be {direction}")

    def __str__(self) -> str:
        return self.args[0]  # KeyError would show the text in quotes
