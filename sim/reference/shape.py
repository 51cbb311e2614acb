"""How many of what: the part of a configuration that the model looks at."""

from dataclasses import dataclass
from typing import Literal, get_args

MsiKind = Literal["none", "32", "64"]
OnError = Literal["skip", "stall"]


@dataclass(frozen=True)
class EndpointShape:
    """One PCI function: its message capabilities and whether it has an interrupt pin."""

    msi: MsiKind = "64"
    maskable: bool = False
    msi_vectors: int = 1
    msix_vectors: int = 0
    intx: bool = True

    def __post_init__(self):
        if self.msi not in get_args(MsiKind):
            raise ValueError(f"EndpointShape.msi must be 'none', '32' or '64', not {self.msi!r}")
        if self.msi_vectors not in (1, 2, 4, 8, 16, 32):
            raise ValueError(
                "EndpointShape.msi_vectors must be a power of two from 1 to 32, "
                f"not {self.msi_vectors}"
            )
        if not 0 <= self.msix_vectors <= 64:
            raise ValueError(
                f"EndpointShape.msix_vectors must be between 0 and 64, not {self.msix_vectors}"
            )


@dataclass(frozen=True)
class Shape:
    """The fields of a SocConfig that change what software sees, with the same defaults."""

    cpus: int = 2
    spis: int = 64
    lpis: int = 1024
    its: bool = True
    its_on_error: OnError = "skip"
    device_id_bits: int = 16
    event_id_bits: int = 16
    gic: bool = True
    local_apics: bool = True
    endpoints: "tuple[EndpointShape, ...]" = (EndpointShape(),)
    ram_bytes: int = 4 << 20

    def __post_init__(self):
        for name, low, high in (
            ("cpus", 1, 128),
            ("spis", 0, 988),
            ("lpis", 0, 57344),
            ("device_id_bits", 1, 16),
            ("event_id_bits", 1, 16),
            ("ram_bytes", 8, 1 << 32),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"Shape.{name} must be an integer, not {value!r}")
            if not low <= value <= high:
                raise ValueError(f"Shape.{name} must be between {low} and {high}, not {value}")
        if self.its_on_error not in get_args(OnError):
            raise ValueError(
                f"Shape.its_on_error must be 'skip' or 'stall', not {self.its_on_error!r}"
            )

    @classmethod
    def of(cls, config: object) -> "Shape":
        """The shape of anything with (some of) the fields of SocConfig."""
        values = {
            name: getattr(config, name)
            for name in cls.__dataclass_fields__
            if hasattr(config, name)
        }
        endpoints = values.get("endpoints", ())
        if isinstance(endpoints, int):
            endpoints = (EndpointShape(),) * endpoints
        values["endpoints"] = tuple(_endpoint(endpoint) for endpoint in endpoints)
        return cls(**values)


def _endpoint(config: object) -> EndpointShape:
    names = EndpointShape.__dataclass_fields__
    return EndpointShape(**{n: getattr(config, n) for n in names if hasattr(config, n)})
