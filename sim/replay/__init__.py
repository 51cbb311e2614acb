"""Replay of recordings of real kernels: the traffic drives the gateware, every answer is compared.

A recording has a line for every register access, message and wire of a machine that ran Linux:
:mod:`.events` has the format. A replay takes two passes over it: :mod:`.survey` finds out what
machine it needs and what the guest's memory held, then a player (:mod:`.gic`, :mod:`.apic`) turns
every event into steps for the host and into checks. :mod:`.waivers` lists in what two correct
machines may differ, and why.
"""

from .session import Answer, replay
from .tally import Mismatch, Tally
from .trace import TraceError

__all__ = ["Answer", "Mismatch", "Tally", "TraceError", "replay"]
