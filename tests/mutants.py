"""Machines broken on purpose, to see that a check notices."""

from unittest import mock

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import flipped

from hdl.apic.local_apic import LocalApic
from hdl.soc import Soc, SocConfig


class LateApic(wiring.Component):
    """A local APIC whose line reaches the CPU a clock late."""

    def __init__(self, index: int, *, held: bool):
        self._apic = LocalApic(index, held=held)
        super().__init__(self._apic.signature)

    def elaborate(self, platform):
        m = Module()
        m.submodules.apic = apic = self._apic
        wiring.connect(m, flipped(self.private), apic.private)
        wiring.connect(m, flipped(self.inta), apic.inta)
        wiring.connect(m, apic.link, flipped(self.link))
        for ours, theirs in zip(self.tap, apic.tap, strict=True):
            wiring.connect(m, theirs, flipped(ours))
        m.d.sync += self.intr.eq(apic.intr)
        return m


def late_line(config: SocConfig) -> Soc:
    """The machine with :class:`LateApic` in place of its local APICs."""
    with mock.patch("hdl.soc.LocalApic", LateApic):
        return Soc(config)


def floating_line(config: SocConfig) -> Soc:
    """The machine without the code that drives the lines of controllers it does not have."""

    class Floating(Soc):
        def _add_cpus(self, m, initiators):
            """Leave every CPU unconnected."""

    return Floating(config)
