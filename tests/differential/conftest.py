"""How many operations, and the pairs of machines, each built once for all tests."""

import os

import pytest

from .machines import CONFIGS
from .pair import Pair

ORDINARY = 10_000


def pytest_addoption(parser):
    parser.addoption(
        "--operations",
        type=int,
        help=f"random operations on gateware and reference model, in all ({ORDINARY:,})",
    )
    parser.addoption("--seed", type=int, default=0, help="of the first random script (0)")


@pytest.fixture(scope="session")
def operations(request) -> int:
    """How many random operations to compare: ``--operations``, or $IRQSCOPE_OPERATIONS."""
    chosen = request.config.getoption("operations", None)
    return chosen or int(os.environ.get("IRQSCOPE_OPERATIONS", ORDINARY))


@pytest.fixture(scope="session")
def first_seed(request) -> int:
    return request.config.getoption("seed", 0)


@pytest.fixture(scope="module", params=CONFIGS)
def pair(request):
    made = Pair(CONFIGS[request.param])
    yield made
    made.close()
