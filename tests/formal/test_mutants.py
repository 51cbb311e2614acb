"""No proof that cannot fail: for each a change of the gateware, and a counterexample to it."""

from dataclasses import replace

import pytest

from sim.formal import properties
from sim.formal.solver import solve

from .mutants import MUTANTS


def _marked(mutant):
    (proof,) = properties.find([mutant.kills])
    slow = proof.slow or mutant.slow
    return pytest.param(mutant, id=str(mutant), marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize("mutant", [_marked(mutant) for mutant in MUTANTS])
def test_a_mutant_is_killed(mutant):
    (proof,) = properties.find([mutant.kills])
    searched = replace(proof, harness=mutant.narrowed(proof.harness))
    if not proof.expected:
        searched = replace(searched, reach=mutant.reach, bounded=True)
    with mutant.applied():
        answer = solve(searched)
    assert answer.status == "failed"
    assert answer.has_trace != proof.expected


def test_every_property_has_a_mutant():
    assert {mutant.kills for mutant in MUTANTS} == {proof.name for proof in properties.ALL}
