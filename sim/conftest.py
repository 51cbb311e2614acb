"""What `pytest sim/` offers its tests: waveforms that must stay as they are."""

import pytest

from .waves.golden import FLAG
from .waves.regression import Goldens


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        FLAG,
        action="store_true",
        help="take what this run's waveforms show for the new goldens, instead of comparing",
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Goldens:
    """Waveform regressions: ``golden.check(name, vcd, design, nets, first=..., last=...)``."""
    return Goldens(update=request.config.getoption(FLAG, default=False))
