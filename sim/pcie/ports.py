"""The ports of an endpoint under cocotb, each used as its signature says."""

from collections.abc import AsyncIterator
from typing import NamedTuple

from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, ReadOnly

from ..design import Design
from ..hosts.cocotb import CLOCK_NS, RESET_CLOCKS, Pins

BOUND = 512
"""Clocks within which any access is answered: the sweep of 64 table entries after reset, and
what a read of the table can take besides."""


class Posted(NamedTuple):
    """A memory write that left the function."""

    address: int
    data: int


class EndpointPorts(Pins):
    """An endpoint inside a running simulation.

    A clock lasts from one falling edge of ``clk`` to the next. Inputs change at its start; what
    has settled then is what the rising edge in its middle finds.
    """

    def __init__(self, design: Design, top):
        super().__init__(design, top)
        self._clk = top.clk

    async def start(self) -> None:
        """Start the clock and reset the function."""
        self._top.rst.value = 1
        self.clear()
        Clock(self._clk, CLOCK_NS, "ns").start()
        await self.clocks(RESET_CLOCKS)
        self._top.rst.value = 0
        self.drive(
            {
                "config_access_response_ready": 1,
                "memory_response_ready": 1,
                "posted_ready": 1,
            }
        )

    async def clocks(self, count: int) -> None:
        """Go to the start of the ``count``-th clock from now."""
        for _ in range(count):
            await FallingEdge(self._clk)

    async def access(self, port: str, address: int, select: int, data: int | None = None) -> int:
        """Read a word through ``port`` ("config_access" or "memory"), or write ``data`` to it.

        ``select`` has a bit for each byte lane. Returns at the start of the clock after the
        answer. One access at a time on a port.

        Raises
        ------
        TimeoutError
            No answer within :data:`BOUND` clocks.
        """
        request = f"{port}_request"
        await FallingEdge(self._clk)
        self.drive(
            {
                f"{request}_payload.address": address,
                f"{request}_payload.write": data is not None,
                f"{request}_payload.data": data or 0,
                f"{request}_payload.select": select,
                f"{request}_valid": 1,
            }
        )
        await self._high(f"{request}_ready")
        self.drive({f"{request}_valid": 0})
        return await self._high(f"{port}_response_valid", f"{port}_response_payload")

    async def _high(self, flag: str, value: str | None = None) -> int:
        """Wait for a clock with ``flag`` high, and to its end; ``value`` in that clock."""
        for _ in range(BOUND):
            await ReadOnly()
            seen = self.peek(flag)
            found = self.peek(value or flag)
            await FallingEdge(self._clk)
            if seen:
                return found
        raise TimeoutError(f"{flag} was not high within {BOUND} clocks")

    async def posted(self) -> AsyncIterator[Posted]:
        """Every write that leaves, in its clock. The stream is always taken."""
        while True:
            await ReadOnly()
            if self.peek("posted_valid"):
                payload = "posted_payload"
                yield Posted(self.peek(f"{payload}.address"), self.peek(f"{payload}.data"))
            await FallingEdge(self._clk)

    async def raise_event(self, vector: int) -> None:
        """The device has something to say on ``vector``."""
        await FallingEdge(self._clk)
        self.drive({"stimulus_event": 1, "stimulus_vector": vector})
        await FallingEdge(self._clk)
        self.drive({"stimulus_event": 0})
