"""What `pytest sim/` offers its tests: waveforms that must stay as they are."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest

from .design import Design
from .runs import Request, execute
from .scenarios import find_scenario
from .trial import Outcome
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


GoldenTrial = Callable[..., tuple[Outcome, frozenset[str]]]


@pytest.fixture
def golden_trial(golden: Goldens, tmp_path: Path) -> GoldenTrial:
    """Run a trial under cocotb and compare its waveform: ``golden_trial(name, scenario, strategy,
    at, nets, first=..., last=...)``.

    Without ``first`` and ``last`` it is the scenario's window. ``name`` is the golden's. It returns
    what the trial left behind and its verdicts; tap and software must agree on them.
    """

    def run(
        name: str,
        scenario: str,
        strategy: str,
        at: Mapping[str, int],
        nets: Iterable[str],
        *,
        first: int | None = None,
        last: int | None = None,
    ) -> tuple[Outcome, frozenset[str]]:
        chosen = find_scenario(scenario)
        point = chosen.complete(strategy, at)
        vcd = tmp_path / f"{name}.vcd"
        outcome = execute(Request(scenario, strategy, point, "cocotb", vcd=vcd))
        assert chosen.contradictions(strategy, outcome) == []
        begin, end = chosen.window(point, outcome)
        design = Design(chosen.hardware(strategy))
        golden.check(
            name,
            vcd,
            design,
            nets,
            first=begin if first is None else first,
            last=end if last is None else last,
        )
        return outcome, chosen.judge(strategy, point, outcome)

    return run
