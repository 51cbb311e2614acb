"""Each machine is built and set up once; every test finds it as if it were the first."""

import pytest

from .rig import SKIPPING, STALLING, Rig


@pytest.fixture(scope="session")
def skipping_machine():
    rig = Rig(SKIPPING)
    yield rig
    rig.close()


@pytest.fixture(scope="session")
def stalling_machine():
    rig = Rig(STALLING)
    yield rig
    rig.close()


@pytest.fixture
def rig(skipping_machine) -> Rig:
    """A machine with 1,024 LPIs that skips faulty commands."""
    skipping_machine.restore()
    return skipping_machine


@pytest.fixture
def stalling(stalling_machine) -> Rig:
    """A machine that stalls at faulty commands."""
    stalling_machine.restore()
    return stalling_machine
