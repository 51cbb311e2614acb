"""Leads system-register accesses to the block that has the register."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .cpu_port import SysregSignature
from .registers.sysreg import SystemRegister


class SysregDecoder(wiring.Component):
    """LAPIC_INTA goes to the local APIC, everything else to the GIC's CPU interface.

    A register whose block is absent is answered with an error in the next clock. Adds no clock to
    any other access.

    Members
    -------
    cpu : In(SysregSignature())
    gic, apic : Out(SysregSignature())
        An absent one is never asked and may stay unconnected.
    """

    def __init__(self, *, gic: bool, apic: bool):
        self._gic = gic
        self._apic = apic
        super().__init__(
            {
                "cpu": In(SysregSignature()),
                "gic": Out(SysregSignature()),
                "apic": Out(SysregSignature()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        to_apic = self.cpu.request.p.register == SystemRegister.LAPIC_INTA.value
        refused = Signal()
        m.d.comb += [
            self.gic.request.payload.eq(self.cpu.request.payload),
            self.apic.request.payload.eq(self.cpu.request.payload),
            self.gic.response.ready.eq(self.cpu.response.ready),
            self.apic.response.ready.eq(self.cpu.response.ready),
        ]
        with m.If(to_apic & self._apic):
            self._forward(m, self.apic)
        with m.Elif(~to_apic & self._gic):
            self._forward(m, self.gic)
        with m.Else():
            m.d.comb += self.cpu.request.ready.eq(~refused)
            with m.If(self.cpu.request.valid & ~refused):
                m.d.sync += refused.eq(1)

        # One request at a time, so at most one of the three has an answer.
        with m.If(refused):
            m.d.comb += [
                self.cpu.response.valid.eq(1),
                self.cpu.response.p.error.eq(1),
            ]
            with m.If(self.cpu.response.ready):
                m.d.sync += refused.eq(0)
        with m.Elif(self.apic.response.valid):
            m.d.comb += [
                self.cpu.response.valid.eq(1),
                self.cpu.response.payload.eq(self.apic.response.payload),
            ]
        with m.Else():
            m.d.comb += [
                self.cpu.response.valid.eq(self.gic.response.valid),
                self.cpu.response.payload.eq(self.gic.response.payload),
            ]
        return m

    def _forward(self, m, target):
        m.d.comb += [
            target.request.valid.eq(self.cpu.request.valid),
            self.cpu.request.ready.eq(target.request.ready),
        ]
