"""The boards that are known, and the laboratory that fits on each."""

from collections.abc import Callable
from dataclasses import dataclass

from amaranth.build import Platform

from ..config import SocConfig
from ..pci.endpoint import EndpointConfig
from .protocol import LabConfig

BAUD = 1_000_000
TINY = SocConfig(gic=False, endpoints=(EndpointConfig(basic=True),), ram_bytes=0)
"""Two CPUs with local APICs and one basic function: what torn-msi needs, and no more."""
SMALL = SocConfig(
    gic=False,
    endpoints=(EndpointConfig(basic=True), EndpointConfig(maskable=True, basic=True)),
    ram_bytes=0,
)
"""A function with MSI and one with maskable MSI."""
X86 = SocConfig(
    gic=False,
    endpoints=(
        EndpointConfig(),
        EndpointConfig(maskable=True),
        EndpointConfig(msi="none", msix_vectors=4),
    ),
    ram_bytes=4096,
)
"""The whole x86 machine of the scenarios: functions with MSI, with maskable MSI, with MSI-X."""
FULL = SocConfig(spis=32, endpoints=2, ram_bytes=32 << 10)
"""Two CPUs with GICv3 and local APICs, an ITS, 1,024 LPIs, two functions."""


@dataclass(frozen=True)
class Board:
    """A board.

    Attributes
    ----------
    name : str
        The platform's, in kebab case.
    platform : str
        Where in amaranth_boards: ``module:class``.
    family : str
        "ecp5" or "ice40".
    clock_mhz : float
        Of the laboratory; the platform's own oscillator, divided or multiplied.
    lab : LabConfig
    remark : str
    """

    name: str
    platform: str
    family: str
    clock_mhz: float
    lab: LabConfig
    remark: str = ""

    def make_platform(self) -> Platform:
        """The platform of amaranth_boards."""
        from importlib import import_module

        module, _, attribute = self.platform.partition(":")
        make: Callable[[], Platform] = getattr(
            import_module(f"amaranth_boards.{module}"), attribute
        )
        return make()


def _board(name, platform, family, clock_mhz, soc, *, remark="", **sizes) -> Board:
    lab = LabConfig(soc, divisor=round(clock_mhz * 1e6 / BAUD), **sizes)
    return Board(name, platform, family, clock_mhz, lab, remark)


ICE40: dict[str, int] = {"edges": 256, "operations": 64, "stimuli": 16, "cycle_bits": 14}
"""Sizes of a laboratory with no more than some thirty block RAMs."""
MESSAGES = ("posted", "endpoint0_event")
"""What the only function has to say, and what it sends."""
BOARDS = {
    board.name: board
    for board in (
        _board("ulx3s-85f", "ulx3s:ULX3S_85F_Platform", "ecp5", 25, FULL, edges=1024),
        _board("ulx3s-25f", "ulx3s:ULX3S_25F_Platform", "ecp5", 50, X86, edges=1024),
        _board(
            *("icebreaker", "icebreaker:ICEBreakerPlatform", "ice40", 12, TINY),
            recorded=MESSAGES,
            remark="no RAM; a run records messages and events alone",
            **ICE40,
        ),
        _board(
            *("ice40-hx8k-b-evn", "ice40_hx8k_b_evn:ICE40HX8KBEVNPlatform", "ice40", 12, SMALL),
            remark="no RAM",
            **ICE40,
        ),
    )
}


def find_board(name: str) -> Board:
    """The board called ``name``; the error says which there are."""
    try:
        return BOARDS[name]
    except KeyError:
        known = ", ".join(BOARDS)
        raise ValueError(f"no board is called {name!r}; there are: {known}") from None
