"""Messages that take time: what a block says, another hears a settable number of clocks later."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out


class Flight(wiring.Component):
    """Carries messages in order, each at least ``distance`` clocks long.

    A message taken in clock t is offered at the far end in clock t + 1 + ``distance`` at the
    earliest. Up to ``depth`` messages are under way at once; a further one waits at the near end
    until one has landed. ``distance`` counts for a message in the clock in which it is taken;
    order is kept when it changes.

    Parameters
    ----------
    shape : shape-like
        What a message is.
    depth : int
        Messages that may be under way at once, at least 1.

    Members
    -------
    near, far : In, Out(stream.Signature(shape))
    distance : In(8)
    """

    def __init__(self, shape, depth: int = 4):
        if depth < 1:
            raise ValueError(f"A flight needs room for at least one message, not {depth}")
        self._shape = shape
        self._depth = depth
        super().__init__(
            {
                "near": In(stream.Signature(shape)),
                "far": Out(stream.Signature(shape)),
                "distance": In(8),
            }
        )

    def elaborate(self, platform):
        m = Module()
        slot = data.StructLayout({"valid": 1, "left": 8, "message": self._shape})
        # Slot 0 lands next. The spare one beyond the end is never occupied.
        slots = [Signal(slot, name=f"slot_{i}") for i in range(self._depth)]
        spare = Signal(slot)
        landed = Signal()
        m.d.comb += [
            self.far.valid.eq(slots[0].valid & (slots[0].left == 0)),
            self.far.payload.eq(slots[0].message),
            self.near.ready.eq(~slots[-1].valid),
            landed.eq(self.far.valid & self.far.ready),
        ]
        for i, here in enumerate(slots):
            behind = slots[i + 1] if i + 1 < self._depth else spare
            ahead_full = slots[i - 1].valid if i else 1
            stay = Signal(slot, name=f"stay_{i}")
            m.d.comb += stay.eq(here)
            with m.If(landed):
                m.d.comb += stay.eq(behind)
            m.d.sync += here.eq(stay)
            with m.If(stay.left != 0):
                m.d.sync += here.left.eq(stay.left - 1)
            # A new message goes into the first slot that is free after a landing.
            first_free = Signal(name=f"first_free_{i}")
            if i:
                m.d.comb += first_free.eq(
                    (landed & here.valid & ~behind.valid) | (~landed & ahead_full & ~here.valid)
                )
            else:
                m.d.comb += first_free.eq((landed & ~behind.valid) | ~here.valid)
            with m.If(self.near.valid & self.near.ready & first_free):
                m.d.sync += [
                    here.valid.eq(1),
                    here.left.eq(self.distance),
                    here.message.eq(self.near.payload),
                ]
        return m
