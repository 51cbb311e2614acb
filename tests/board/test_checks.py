"""A board that says one thing and does another is found out."""

from types import SimpleNamespace

import pytest

from hdl.boards.protocol import COUNTERS, Request, Verdict
from sim.race import Racer
from sim.race.sweep import DisagreementError
from sim.scenarios import find_scenario

from .rig import LAB
from .test_race import points

SCENARIO = find_scenario("torn-msi")


NONE = Verdict(0)


class Pretender:
    """A board without hardware: every trial comes to ``verdicts``, or has ``left``."""

    lab = LAB

    def __init__(self, verdicts=NONE, *, left=0, counted=None):
        self._verdicts, self._left, self._counted = verdicts, left, counted
        self._trials = 0

    def ask(self, request, heard=None, /, **fields):
        if request == Request.SWEEP:
            self._trials = fields["count"]
            for index in range(self._trials):
                heard(
                    SimpleNamespace(index=index, left=self._left, verdicts=self._verdicts, cycles=9)
                )
        counts = [self._trials * bool(self._verdicts.value >> i & 1) for i in range(COUNTERS - 2)]
        counts += [
            self._trials * (not self._verdicts and not self._left),
            self._trials * self._left,
        ]
        value = (self._counted or counts)[fields["index"]] if request == Request.COUNT else 0
        return SimpleNamespace(clocks=0, value=value)


def race(board):
    with Racer(SCENARIO, board) as racer:
        return racer.run(points("naive", [30, 40]))


@pytest.mark.parametrize("verdicts", [NONE, Verdict.LOST | Verdict.MISDIRECTED])
def test_a_board_that_agrees_with_itself(verdicts):
    found = race(Pretender(verdicts))
    names = {"lost", "misdirected"} if verdicts else set()
    assert [result.verdicts for result in found] == [names, names]


def test_counts_that_are_not_those_of_the_reports():
    counted = [1, *[0] * (COUNTERS - 3), 1, 0]
    with pytest.raises(DisagreementError, match=r"the board counted .* but reported"):
        race(Pretender(counted=counted))


def test_software_that_goes_where_no_recording_goes():
    with pytest.raises(DisagreementError, match="sees what it did not see on the verilated host"):
        race(Pretender(left=1))
