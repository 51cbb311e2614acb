"""The figures that README and docstrings state, held to the clock."""

import pytest

from sim.bench import Bench

from .latency import STATED, STATED_DIRECT, measure_direct
from .rig import DIRECT

MAX_CLOCKS = 12
"""From the accepted write to the line, when the translation is cached."""
MIN_PER_THOUSAND = 125
"""Events per 1,000 clocks: one every 8."""

ALL = {name: value for figures in STATED.values() for name, value in figures.items()}


@pytest.mark.parametrize("measure", STATED, ids=lambda measure: measure.__name__)
def test_the_machine_is_as_fast_as_stated(rig, measure):
    assert measure(rig) == STATED[measure]


def test_direct_lpis_are_as_fast_as_stated():
    with Bench(DIRECT) as bench:
        assert measure_direct(bench) == STATED_DIRECT


def test_a_cached_message_reaches_the_line_in_time():
    cached = [v for name, v in ALL.items() if "message -> line" in name and "cached" in name]
    assert len(cached) == 4
    assert max(cached) <= MAX_CLOCKS


def test_cached_events_keep_the_rate():
    rates = [v for name, v in ALL.items() if "1,000 clocks" in name and "walk" not in name]
    assert len(rates) == 3
    assert min(rates) >= MIN_PER_THOUSAND
