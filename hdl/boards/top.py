"""The laboratory on the pins of a board."""

from amaranth.build import ResourceError
from amaranth.hdl import ClockDomain, ClockSignal, Elaboratable, Instance, Module, Signal
from amaranth.lib import io
from amaranth.lib.cdc import ResetSynchronizer

from .lab import LEDS, Lab
from .protocol import LabConfig

VCO_MHZ = 600
"""Of an ECP5's PLL: in the middle of what is allowed."""


class BoardTop(Elaboratable):
    """A :class:`Lab`, the board's serial line, and as many of its lights as there are.

    The reset is the platform's, after configuration. The clock is its oscillator, or, on an ECP5,
    what a PLL makes of it; then the reset lasts until the PLL has locked.

    Parameters
    ----------
    config : LabConfig
    clock_mhz : float
        A divisor of :data:`VCO_MHZ`, if it is not the oscillator's.
    """

    def __init__(self, config: LabConfig, clock_mhz: float):
        self._config = config
        self._clock_mhz = clock_mhz

    def elaborate(self, platform):
        m = Module()
        if self._clock_mhz * 1e6 != platform.default_clk_frequency:
            self._add_pll(m, platform)
        m.submodules.lab = lab = Lab(self._config)
        uart = platform.request("uart", 0, dir="-")
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.Buffer("o", uart.tx)
        m.d.comb += [lab.rx.eq(rx.i), tx.o.eq(lab.tx)]
        for i in range(LEDS):
            try:
                port = platform.request("led", i, dir="-")
            except ResourceError:
                break
            m.submodules[f"led{i}"] = led = io.Buffer("o", port)
            m.d.comb += led.o.eq(lab.leds[i])
        return m

    def _add_pll(self, m, platform):
        oscillator_mhz = platform.default_clk_frequency / 1e6
        m.submodules.clk = clk = io.Buffer("i", platform.request(platform.default_clk, dir="-"))
        m.domains.sync = ClockDomain()
        clock = ClockSignal("sync")
        m.submodules.pll = Instance(
            "EHXPLLL",
            a_FREQUENCY_PIN_CLKI=str(oscillator_mhz),
            a_FREQUENCY_PIN_CLKOP=str(self._clock_mhz),
            p_CLKI_DIV=1,
            p_CLKFB_DIV=round(self._clock_mhz / oscillator_mhz),
            p_CLKOP_DIV=round(VCO_MHZ / self._clock_mhz),
            p_CLKOP_ENABLE="ENABLED",
            p_CLKOP_CPHASE=0,
            p_FEEDBK_PATH="CLKOP",
            i_CLKI=clk.i,
            i_CLKFB=clock,
            i_ENCLKOP=1,
            i_RST=0,
            i_STDBY=0,
            o_CLKOP=clock,
            o_LOCK=(locked := Signal()),
        )
        m.submodules.reset = ResetSynchronizer(~locked)
