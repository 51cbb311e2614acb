"""The experiments: hardware, software, stimulus and what to look at."""

from .base import Scenario
from .first_msi import FirstMsi
from .torn_msi import TornMsi

SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in (FirstMsi(), TornMsi())}


def find_scenario(name: str) -> Scenario:
    """The scenario called ``name``; the error says which there are."""
    try:
        return SCENARIOS[name]
    except KeyError:
        known = ", ".join(SCENARIOS)
        raise ValueError(f"no scenario is called {name!r}; there are: {known}") from None
