"""No proof that cannot fail: each property is broken by a change of the gateware.

Where a counterexample is within reach it is found; else the proof no longer goes through.
"""

from dataclasses import replace

import pytest

from sim.formal import properties
from sim.formal.solver import solve

from .mutants import MUTANTS


def _marked(mutant):
    (proof,) = properties.find([mutant.kills])
    return pytest.param(mutant, id=str(mutant), marks=[pytest.mark.slow] if proof.slow else [])


@pytest.mark.parametrize("mutant", [_marked(mutant) for mutant in MUTANTS])
def test_a_mutant_is_killed(mutant):
    (proof,) = properties.find([mutant.kills])
    with mutant.applied():
        if mutant.reach is None:
            undecided = proof if proof.expected else replace(proof, reach=0)
            assert solve(undecided).status == ("failed" if proof.expected else "unknown")
            return
        answer = solve(replace(proof, reach=mutant.reach, bounded=True))
    assert answer.status == "failed"
    assert answer.has_trace


def test_every_property_has_a_mutant():
    assert {mutant.kills for mutant in MUTANTS} == {proof.name for proof in properties.ALL}
