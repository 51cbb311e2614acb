"""The checker itself: it tells two machines apart, says how to see it, and says it shortly."""

import dataclasses
from random import Random

import pytest

from sim.backends import implementation, reference_machine
from sim.bench import Bench

from . import machines
from .campaign import LENGTH, attempt, make
from .draws import integers, lists, sampled_from
from .operations import Command, command, on_cpu, repair
from .pair import DifferenceError, Pair
from .shrink import shrink, simpler

MUTATIONS = {
    "nonsecure_bpr": False,
    "setspi_bits": 8,
    "sleep_blocks": False,
    "surplus_entry": "drop",
    "surplus_vector": "drop",
    "pending_on_disable": "drop",
    "hppir_ignores_mask": False,
    "status_beside_messages": True,
    "lapic_esr_latched": False,
    "idle_eoi_deactivates": False,
}
"""Choices that an implementation may make, but the gateware has not."""
SCRIPTS = 60


@pytest.fixture(scope="module")
def skip_pair():
    made = Pair(machines.SKIP)
    yield made
    made.close()


@pytest.fixture
def mutate(skip_pair):
    """A pair whose reference has one choice changed; it is as it was afterwards."""

    def change(name, value):
        skip_pair.choices = dataclasses.replace(implementation(machines.SKIP), **{name: value})
        return skip_pair

    yield change
    skip_pair.choices = None


def first_difference(pair):
    for seed in range(SCRIPTS):
        script = make(pair, seed)
        if difference := attempt(pair, script):
            return script, difference
    return None, None


@pytest.mark.parametrize(("name", "value"), MUTATIONS.items(), ids=MUTATIONS)
def test_another_choice_is_told_apart(mutate, name, value):
    _, difference = first_difference(mutate(name, value))
    assert difference, f"{name} = {value!r} was not noticed in {SCRIPTS * LENGTH} operations"


@pytest.mark.parametrize("name", ["lose_foreign_deactivate", "lpi_duplicate"])
def test_a_bug_in_the_gateware_is_found(skip_pair, name):
    skip_pair.injected = {f"gic_knobs.{name}": 1}
    try:
        _, difference = first_difference(skip_pair)
    finally:
        skip_pair.injected = {}
    assert difference, f"{name} was not noticed in {SCRIPTS * LENGTH} operations"


def test_a_difference_shrinks_to_a_script_to_paste(mutate):
    pair = mutate("setspi_bits", 8)
    script, _ = first_difference(pair)
    short = shrink(script, lambda part: attempt(pair, part) is not None)
    assert len(short) <= 2
    difference = attempt(pair, short)
    with Bench(machines.SKIP, host="reference") as bench:
        bench.backend.machine = reference_machine(machines.SKIP)
        for line in str(difference).partition("\n\n")[2].splitlines():
            exec(line, {"bench": bench, "command": command, "repair": repair})


def test_each_sort_of_disagreement_is_reported(skip_pair):
    """Answers, lines, acknowledges: whichever comes first."""
    for disturb, call, story in (
        (
            lambda model: model.ram_write(machines.SCRATCH, b"\1"),
            on_cpu(0, "read", machines.SCRATCH),
            "the gateware answers 0x0, the reference 0x1",
        ),
        (
            lambda model: model.set_wire(40, True),
            on_cpu(0, "write", machines.SCRATCH, 0),
            "irq of CPU 0 is False in the gateware, not True",
        ),
        (
            lambda model: model.set_wire(40, True),
            on_cpu(0, "read_sysreg", "ICC_IAR1_EL1"),
            "the gateware acknowledges 1023, the reference permits 40",
        ),
        (
            lambda model: setattr(model.its, "stalled", True),
            on_cpu(0, "write", machines.SCRATCH, 0),
            "CREADR to become",
        ),
    ):
        skip_pair.restart()
        disturb(skip_pair.model)
        with pytest.raises(DifferenceError, match=story) as caught:
            skip_pair.run([call])
        assert str(call) in str(caught.value)


def test_a_seed_is_a_script(skip_pair):
    assert make(skip_pair, 5) == make(skip_pair, 5) != make(skip_pair, 6)
    assert len(make(skip_pair, 5)) >= LENGTH


# Shrinking and drawing, without machines -----------------------------------------------------


def test_shrinking_keeps_what_matters_and_simplifies_it():
    script = [on_cpu(0, "write", 0x100 + n, 0x1234_5600 + n) for n in range(20)]

    def differs(part):
        return sum(call.arguments[0] in (0x103, 0x10C) for call in part) == 2

    assert shrink(script, differs) == [
        on_cpu(0, "write", 0x103, 0),
        on_cpu(0, "write", 0x10C, 0),
    ]


def test_chance_is_not_shrunk():
    with pytest.raises(ValueError, match=r"^the same script does not differ when it is run again$"):
        shrink([1, 2], lambda part: False)


@pytest.mark.parametrize(("choice", "value"), [(0, 0), (1, 0x20), (2, 0x60), (3, 0xF60)])
def test_plainer_values(choice, value):
    assert simpler(on_cpu(1, "write", 4, 0xF60), choice) == on_cpu(1, "write", 4, value)


def test_what_has_no_number_stays():
    for operation in (Command((1, 2, 3, 4)), on_cpu(0, "read_sysreg", "ICC_RPR_EL1")):
        assert simpler(operation, 0) is operation


def test_draws():
    dice = Random(1)
    even = integers(0, 9).filter(lambda n: n % 2 == 0)
    assert set(lists(even, 100)(dice)) == {0, 2, 4, 6, 8}
    assert sampled_from("ab").map(str.upper)(dice) in "AB"
    with pytest.raises(ValueError, match=r"^1000 values in a row were not accepted$"):
        integers(0, 9).filter(lambda n: n > 9)(dice)


def test_calls_are_printed_as_code():
    assert str(on_cpu(1, "write", 0x800_0100, 3)) == "bench.cpu[1].write(0x8000100, 3)"
    assert str(Command((3, 16, 0, 0))) == "command(bench, 0x3, 0x10, 0x0, 0x0)"
