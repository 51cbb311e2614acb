"""The designs that tests share: each is compiled once, whoever comes first."""

import os

import pytest

from hdl.soc import SocConfig
from sim.design import Design

SOC = Design(SocConfig())
"""The machine as it comes."""

SMALL = Design(SocConfig(cpus=2, ram_bytes=64 * 1024), "tests.small_machine:SmallMachine")
"""A machine for tests of the hosts; it does not grow with the Soc."""


def pytest_configure(config):
    # A component whose parameters were rejected, as tests do on purpose, is never elaborated.
    config.addinivalue_line("filterwarnings", "ignore::amaranth.hdl.UnusedElaboratable")


@pytest.fixture(scope="session")
def soc() -> Design:
    return SOC


@pytest.fixture(scope="session")
def small() -> Design:
    return SMALL


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """A cache of the test's own; returns its folder."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("IRQSCOPE_CACHE", str(folder))
    return folder


@pytest.fixture
def quiet_environment() -> dict[str, str]:
    """The environment for a child process: none of ours that changes what it does."""
    ours = ("IRQSCOPE_", "PYTEST_", "COCOTB_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}
