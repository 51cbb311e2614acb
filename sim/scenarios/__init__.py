"""The experiments: hardware, software, stimulus and what to look at."""

from .base import Scenario
from .fasteoi_migration import FasteoiMigration
from .first_msi import FirstMsi
from .intx_refcount import IntxRefcount
from .rogue_msi import RogueMsi
from .shared_pmu import SharedPmu
from .torn_msi import TornMsi
from .vfio_direct_eoi import VfioDirectEoi

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        FirstMsi(),
        TornMsi(),
        FasteoiMigration(),
        IntxRefcount(),
        VfioDirectEoi(),
        SharedPmu(),
        RogueMsi(),
    )
}


def find_scenario(name: str) -> Scenario:
    """The scenario called ``name``; the error says which there are."""
    try:
        return SCENARIOS[name]
    except KeyError:
        known = ", ".join(SCENARIOS)
        raise ValueError(f"no scenario is called {name!r}; there are: {known}") from None
