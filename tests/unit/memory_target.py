"""A memory of bytes behind a bus port, for tests of blocks that read tables."""

import random

MASKS = [sum(0xFF << 8 * lane for lane in range(4) if s >> lane & 1) for s in range(16)]


class MemoryTarget:
    """Answers the requests of ``bus`` from ``words``, a sparse memory of 32-bit words.

    ``wait``: clocks between taking a request and answering it, or a function that says how many.
    Addresses for which ``bad(address)`` holds are answered with an error. ``log`` keeps
    ``(write, address)`` of every request.
    """

    def __init__(self, bus, *, wait=0, bad=lambda address: False):
        self.bus = bus
        self.words: dict[int, int] = {}
        self.wait = wait if callable(wait) else lambda: wait
        self.bad = bad
        self.log: list[tuple[bool, int]] = []

    def write(self, address: int, data: bytes):
        for i, byte in enumerate(data, start=address):
            shift = 8 * (i & 3)
            word = self.words.get(i & ~3, 0)
            self.words[i & ~3] = word & ~(0xFF << shift) | byte << shift

    def read(self, address: int, size: int) -> bytes:
        return bytes(
            self.words.get(i & ~3, 0) >> 8 * (i & 3) & 0xFF for i in range(address, address + size)
        )

    def write64(self, address: int, value: int):
        self.write(address, value.to_bytes(8, "little"))

    def read64(self, address: int) -> int:
        return int.from_bytes(self.read(address, 8), "little")

    async def run(self, ctx):
        """The target's behaviour: add it to a simulator as a background testbench."""
        request, response = self.bus.request, self.bus.response
        while True:
            ctx.set(request.ready, 1)
            taken = False
            while not taken:
                _, _, taken, payload = await ctx.tick().sample(request.valid, request.payload)
            ctx.set(request.ready, 0)
            address = payload.address
            self.log.append((bool(payload.write), address))
            for _ in range(self.wait()):
                await ctx.tick()
            error = self.bad(address)
            data = 0
            if not error:
                if payload.write:
                    mask = MASKS[payload.select]
                    old = self.words.get(address, 0)
                    self.words[address] = old & ~mask | payload.data & mask
                else:
                    data = self.words.get(address, 0)
            ctx.set(response.payload, {"data": data, "error": error})
            ctx.set(response.valid, 1)
            taken = False
            while not taken:
                _, _, taken = await ctx.tick().sample(response.ready)
            ctx.set(response.valid, 0)


def random_wait(seed: int, longest: int):
    """Waits of 0 to ``longest`` clocks, short ones more often."""
    rng = random.Random(seed)
    return lambda: rng.choice((0, 0, 1, rng.randint(0, longest)))
