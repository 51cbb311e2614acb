"""The way of a pending LPI from one engine to another."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..bus import FairArbiter
from .interfaces import LpiCommand


class HandoverNetwork(wiring.Component):
    """Carries hand-overs between the LPI engines of ``cpus`` CPUs, one at a time.

    A sender keeps its command offered until it sees ``ready``, which means that the target has
    carried it out: the engine's ``arrival`` gives ``ready`` no earlier. ``distance`` is the
    number of further clocks a hand-over is under way, counted when it sets out.

    Latency: offered to arrived, idle network: 2 + ``distance`` clocks, then the target's time.
    Bound: every engine carries out an arrival without waiting for its own hand-over, so each
    transfer ends, and a sender is overtaken by each other sender at most once.
    A target that does not exist swallows the command.

    Members
    -------
    senders : array of In(stream of LpiCommand), index is the CPU number
    targets : array of Out(stream of LpiCommand)
    distance : In(8)
    busy : Out(1), a hand-over is under way
    """

    def __init__(self, cpus: int):
        self._cpus = cpus
        super().__init__(
            {
                "senders": In(stream.Signature(LpiCommand)).array(cpus),
                "targets": Out(stream.Signature(LpiCommand)).array(cpus),
                "distance": In(8),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.arbiter = arbiter = FairArbiter(self._cpus)
        command = Signal(LpiCommand)
        sender = Signal(self._cpus)
        left = Signal(8)
        arrived = Signal()
        m.d.comb += self.busy.eq(sender.any())

        for i, source in enumerate(self.senders):
            m.d.comb += [
                arbiter.requests[i].eq(source.valid & ~self.busy),
                source.ready.eq(sender[i] & arrived),
            ]
            with m.If(arbiter.grant[i]):
                m.d.sync += command.eq(source.payload)
        m.d.comb += arbiter.taken.eq(arbiter.grant.any())
        with m.If(arbiter.taken):
            m.d.sync += [sender.eq(arbiter.grant), left.eq(self.distance)]
        with m.If(left.any()):
            m.d.sync += left.eq(left - 1)

        there = Signal()
        m.d.comb += [
            there.eq(self.busy & (left == 0)),
            arrived.eq(there & (command.target >= self._cpus)),
        ]
        for i, target in enumerate(self.targets):
            m.d.comb += [
                target.valid.eq(there & (command.target == i)),
                target.payload.eq(command),
            ]
            with m.If(target.valid & target.ready):
                m.d.comb += arrived.eq(1)
        with m.If(arrived):
            m.d.sync += sender.eq(0)
        return m
