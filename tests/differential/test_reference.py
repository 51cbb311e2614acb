"""Gateware and reference model: random operations, the same answers, the same state."""

from .campaign import campaign
from .machines import CONFIGS


def test_random_operations_agree(pair, operations, first_seed):
    share = -(-operations // len(CONFIGS))
    assert campaign(pair, share, first_seed) >= share
