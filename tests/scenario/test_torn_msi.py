"""torn-msi on the gateware: the outcome of every strategy, and why naive loses when it does."""

import pytest

from firmware_model.strategies import direct_lpi
from hdl.tap import EventKind
from sim.scenarios import find_scenario
from sim.sweep import Point
from sim.sweep.pool import Runner

SCENARIO = find_scenario("torn-msi")
MOVE = 700
MSI_ADDRESS, MSI_DATA = 0x44, 0x4C
"""The registers of the function's MSI capability, at 0x40."""
TO_MESSAGE = 2
"""Clocks from an event to the message's look at address and data."""


@pytest.fixture(scope="module")
def runner():
    with Runner("torn-msi") as runner:
        yield runner


def verdicts(runner, strategy, injections, **at):
    """The verdicts of trials, by clock of the event."""
    found = {}
    for inject in injections:
        result = runner.run(Point(strategy, SCENARIO.complete(strategy, {"inject": inject, **at})))
        assert not result.error
        found[inject] = set(result.verdicts)
    return found


def having(found, verdict):
    return [inject for inject, earned in found.items() if verdict in earned]


def config_writes(outcome):
    """(clocks into the move, register) of every write to the function's configuration space."""
    return [
        (event.cycle - MOVE, event.address)
        for event in outcome.events
        if event.kind == EventKind.CONFIG_WRITE and event.cycle >= MOVE
    ]


def window(runner, strategy, first, last):
    """Clocks of the events that look at the message between the first writes of two registers."""
    at = SCENARIO.complete(strategy, {"inject": 300})
    writes = config_writes(runner.outcome(Point(strategy, at)))
    begin = next(cycle for cycle, register in writes if register == first)
    end = next(cycle for cycle, register in writes if register == last)
    return range(begin - TO_MESSAGE, end - TO_MESSAGE)


def test_naive_loses_exactly_what_comes_between_address_and_data(runner):
    torn = window(runner, "naive", MSI_ADDRESS, MSI_DATA)
    assert len(torn) > 5
    found = verdicts(runner, "naive", range(torn.start - 10, torn.stop + 10))
    assert having(found, "lost") == list(torn)
    assert all(found[inject] == {"lost", "misdirected"} for inject in torn)
    assert all(not earned for inject, earned in found.items() if inject not in torn)


def test_the_quick_and_the_full_grid_have_room_on_both_sides_of_every_write(runner):
    for strategy in EXPECTED:
        for hotplug, origin in ((1, 0), (0, 21)):
            at = SCENARIO.complete(strategy, {"inject": 300, "hotplug": hotplug})
            cycles = [cycle for cycle, _ in config_writes(runner.outcome(Point(strategy, at)))]
            for [grid] in SCENARIO.grids.values():
                for cycle in cycles:
                    assert min(grid["inject"]) + 20 < cycle - origin < max(grid["inject"]) - 15
    assert list(SCENARIO.grids["full"][0]["inject"]) == list(range(241)), "every clock"


EXPECTED = {
    "naive": {"lost", "misdirected"},
    "disable-msi": {"lost"},
    "retrigger": {"misdirected", "spurious"},
    "transit-evan": {"lost"},
    "transit-tglx": {"lost"},
    "transit-waiting": {"lost", "crash"},
    "two-step": set(),
    "two-step-under-lock": {"lost", "crash"},
    "two-step-unchecked": {"lost"},
    "quirk-lost": {"lost", "misdirected"},
    "as-coded": {"lost", "misdirected"},
    "as-commented": set(),
    "linux-6.1-recorded": {"lost", "misdirected"},
    "linux-5.10-recorded": set(),
    "mask": set(),
    "msix-unmasked": {"lost", "misdirected"},
}
"""What an event can earn while a CPU goes offline. The transit vector's interrupt waits in the
IRR of the CPU that dies, and nobody looks there for a vector that is not a device's."""


@pytest.mark.parametrize("strategy", EXPECTED)
def test_a_cpu_goes_offline(runner, strategy):
    found = verdicts(runner, strategy, range(0, 121, 6))
    assert set().union(*found.values()) == EXPECTED[strategy]
    assert set() in found.values() or strategy == "transit-waiting"


def test_every_strategy_is_expected_to_do_something():
    assert {*EXPECTED, *direct_lpi.STRATEGIES} == set(SCENARIO.strategies)


@pytest.mark.parametrize("strategy", ["naive", "two-step", "two-step-under-lock"])
def test_a_move_by_the_interrupt_itself(runner, strategy):
    found = verdicts(runner, strategy, range(40, 101, 6), hotplug=0)
    lost = having(found, "lost")
    if strategy == "two-step-under-lock":
        assert lost
        assert lost == having(found, "crash")
    else:
        assert not lost, "the handler that runs after the move finds the event"
    assert bool(having(found, "misdirected")) == (strategy == "naive")


def test_the_second_of_two_steps_disturbs_who_holds_the_new_vector(runner):
    between = window(runner, "two-step", MSI_ADDRESS, MSI_DATA)
    inject = between.stop + 10
    at = {"foreign_new": 1}
    assert verdicts(runner, "two-step", [inject])[inject] == set()
    assert verdicts(runner, "two-step", [inject], **at)[inject] == {"misdirected", "spurious"}


def test_two_steps_need_reads_that_push_messages(runner):
    """A message that the IRR does not show yet when it is looked at, is lost."""
    slow = {"bus_latency": 60}
    assert not having(verdicts(runner, "two-step", range(80, 105, 8), **slow), "lost")
    late = verdicts(runner, "two-step", range(80, 105, 8), **slow, ordering=1)
    assert having(late, "lost")


@pytest.mark.parametrize(
    ("strategy", "resent", "in_vain"),
    [("retrigger", 2, 2), ("two-step", 1, 1), ("linux-5.10-recorded", 1, 1), ("naive", 1, 1)],
)
def test_what_a_move_costs(runner, strategy, resent, in_vain):
    """I9 of the facts: retrigger sends always, two steps at most once."""
    points = [
        Point(strategy, SCENARIO.complete(strategy, {"inject": inject, "hotplug": hotplug}))
        for inject in range(0, 161, 8)
        for hotplug in (0, 1)
    ]
    figures = [runner.run(point).figures for point in points]
    assert max(cost["resent"] for cost in figures) == resent
    assert max(cost["in_vain"] for cost in figures) == in_vain
    assert min(cost["resent"] for cost in figures) == (1 if strategy == "retrigger" else 0)


def test_while_its_msi_is_off_a_function_asserts_its_pin_if_it_can(runner):
    """I16: a side effect of V1, unless the device is told, or made, not to."""
    off = range(30, 121, 6)
    for keep_pin in (0, 1):
        at = {"keep_pin": keep_pin}
        found = {
            inject: runner.run(
                Point("disable-msi", SCENARIO.complete("disable-msi", {"inject": inject, **at}))
            )
            for inject in off
        }
        asserted = [inject for inject, result in found.items() if result.figures["pin"]]
        lost = [inject for inject, result in found.items() if "lost" in result.verdicts]
        assert lost
        assert bool(asserted) == bool(keep_pin)
        if keep_pin:
            assert set(lost) <= set(asserted), "nobody listens to it"
