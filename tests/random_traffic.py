"""Random software for the small machine: what it does depends on its seed and on what it is told.

The same traffic on two hosts, or twice on one, must see the same answers at the same clocks.
"""

import random

from hdl.cpu_port import Operation
from hdl.soc import RAM_BASE
from sim.hosts.base import EXTERNAL, Poke, Wake, operation_pokes

from .small_machine import SLOW


class RandomTraffic:
    """Two CPUs and the external initiator, each with at most one operation under way."""

    def __init__(self, seed, cpus=2, ram_bytes=64 * 1024):
        self._dice = random.Random(f"traffic {seed}")
        self._idle = set(range(cpus)) | {EXTERNAL}
        self._ram_bytes = ram_bytes

    def react(self, wake: Wake) -> tuple[list[Poke], int]:
        """(pokes, until) for a host's ``advance``, after ``wake``."""
        dice = self._dice
        self._idle |= wake.responses.keys()
        pokes = []
        for asker in sorted(self._idle):
            if dice.random() < 0.7:
                cycle = wake.cycle + dice.choice([0, 0, 0, 1, 2, 17])
                pokes += operation_pokes(asker, cycle, *self._operation())
                if asker == EXTERNAL:
                    pokes.append(Poke(cycle, "external_requester.id", dice.getrandbits(16)))
                self._idle.remove(asker)
        if dice.random() < 0.3:
            cycle = wake.cycle + dice.randrange(9)
            for _ in range(3):
                pokes.append(Poke(cycle, "probe_scene", dice.getrandbits(16)))
        return pokes, wake.cycle + dice.randint(1, 12)

    def _operation(self):
        dice = self._dice
        place = dice.random()
        if place < 0.6:
            address = RAM_BASE + dice.choice([0, 0x1000, self._ram_bytes - 64]) + dice.randrange(64)
        elif place < 0.85:
            address = SLOW.base + dice.randrange(SLOW.size)
        else:
            address = dice.choice([0, 0x2000_0000, 1 << 40, (1 << 64) - 4])
        size = dice.choice([0, 1, 2, 2, 3])
        if dice.random() < 0.8:
            address &= -(1 << size)
        operation = dice.choice([Operation.LOAD, Operation.STORE, Operation.STORE])
        if dice.random() < 0.05:
            operation = Operation.READ_SYSREG
        return operation.value, size, address, dice.getrandbits(64)


def run(host, traffic: RandomTraffic, clocks: int, wake: Wake | None = None) -> list[Wake]:
    """``traffic`` on a host that blocks, for ``clocks`` clocks; all wake-ups."""
    wakes = [wake or Wake(host.cycle, {}, host.lines)]
    end = host.cycle + clocks
    while host.cycle < end:
        pokes, until = traffic.react(wakes[-1])
        wakes.append(host.advance(pokes, min(until, end)))
    return wakes


async def run_job(host, seeds, clocks: int):
    """The same inside a simulation, one traffic after the other; per traffic the wake-ups, and at
    the end the tap records and some of RAM."""
    wakes = []
    for seed in seeds:
        traffic = RandomTraffic(seed)
        seen = [Wake(host.cycle, {}, host.lines)]
        end = host.cycle + clocks
        while host.cycle < end:
            pokes, until = traffic.react(seen[-1])
            seen.append(await host.advance(pokes, min(until, end)))
        wakes.append(seen)
        await quiesce_async(host)
    return wakes, host.records(), host.read_ram(0, 64)


QUIET_CLOCKS = 400
"""Clocks after which every answer of the small machine has come."""


def quiesce(host) -> None:
    """Let operations under way finish."""
    end = host.cycle + QUIET_CLOCKS
    while host.cycle < end:
        host.advance((), end)


async def quiesce_async(host) -> None:
    """The same on a host that awaits."""
    end = host.cycle + QUIET_CLOCKS
    while host.cycle < end:
        await host.advance((), end)
