"""What is claimed of each block, a module a block."""

import difflib
from collections.abc import Iterable

from ..proof import Proof
from . import bus, cpu_interface, distributor, endpoint, its, local_apic, lpi

ALL: tuple[Proof, ...] = (
    *bus.PROPERTIES,
    *distributor.PROPERTIES,
    *lpi.PROPERTIES,
    *cpu_interface.PROPERTIES,
    *its.PROPERTIES,
    *local_apic.PROPERTIES,
    *endpoint.PROPERTIES,
)
"""Every property, in the order in which they are told."""


def find(names: Iterable[str]) -> list[Proof]:
    """The properties called ``names``, of which each is a block or a property; none names all."""
    names = list(names)
    known = {p.title: p.name for p in ALL} | {x: x for p in ALL for x in (p.block, p.name)}
    for name in names:
        if not any(name in (proof.name, proof.block) for proof in ALL):
            near = dict.fromkeys(known[x] for x in difflib.get_close_matches(name, known))
            nearest = f"; near: {', '.join(near)}" if near else ""
            all_names = "`irqscope prove --list` shows all"
            raise ValueError(f"no property or block {name!r}{nearest}; {all_names}")
    return [proof for proof in ALL if not names or {proof.name, proof.block} & {*names}]
