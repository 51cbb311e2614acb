"""A block among arbitrary inputs, and what is claimed about it."""

from amaranth.asserts import AnyConst, AnySeq
from amaranth.back import rtlil
from amaranth.hdl import (
    Assert,
    Assume,
    ClockDomain,
    Elaboratable,
    Fragment,
    Module,
    Signal,
    Value,
)
from amaranth.lib import wiring

from .members import members
from .state import Registers, State

CLAIM = "claim_"
"""A claim is a signal with this prefix; in the last clock of a counterexample it is low."""


class Harness:
    """The block ``dut``, all of whose inputs are arbitrary in every clock after power-on.

    ``m`` takes what a property needs beside the block: registers that remember (ghosts), and
    drivers of inputs that shall not be arbitrary. ``state`` names the inside of the block.
    """

    def __init__(self, dut: Elaboratable):
        self.m = Module()
        self.m.domains.sync = self._clocked = ClockDomain(reset_less=True)
        self.dut = dut
        fragment = Fragment.get(dut, Registers())
        self.state = State(fragment)
        self.m.submodules.dut = fragment
        self._signature = getattr(dut, "signature", wiring.Signature({}))
        self._lemmas: dict[str, Value] = {}
        self._claims: dict[str, Value] = {}

    def constant(self, shape, name: str) -> Signal:
        """An arbitrary value that stays: what is proved is proved of each."""
        signal = Signal(shape, name=name)
        self.m.d.comb += Value.cast(signal).eq(AnyConst(len(Value.cast(signal))))
        return signal

    def arbitrary(self, shape, name: str) -> Signal:
        """An arbitrary value in every clock."""
        signal = Signal(shape, name=name)
        self.m.d.comb += Value.cast(signal).eq(AnySeq(len(Value.cast(signal))))
        return signal

    def named(self, value, name: str) -> Signal:
        """``value`` under a name, for the waveform."""
        signal = Signal.like(Value.cast(value), name=name)
        self.m.d.comb += signal.eq(value)
        return signal

    def before(self, value, name: str) -> Signal:
        """``value`` a clock ago; zero in the first clock."""
        past = Signal(len(Value.cast(value)), name=name)
        self.m.d.sync += past.eq(value)
        return past

    def assume(self, condition) -> None:
        """What the block may rely on: its neighbours are never seen to break it."""
        self.m.d.comb += Assume(condition)

    def claim(self, name: str, condition) -> None:
        """What the property says of every clock."""
        self._add(self._claims, name, condition)

    def lemma(self, name: str, condition) -> None:
        """What induction needs to know of the inside. Proved like a claim, but not the point."""
        self._add(self._lemmas, name, condition)

    def _add(self, those: dict[str, Value], name: str, condition) -> None:
        if name in self._claims or name in self._lemmas:
            raise ValueError(f"two claims are called {name!r}")
        those[name] = Value.cast(condition).bool()

    def netlist(self, *, lemmas: bool) -> str:
        """RTLIL of block and claims, and of the lemmas if wanted; a harness gives it once."""
        ports = {"clk": (self._clocked.clk, None)} | self._ports(outputs=not lemmas)
        for name, condition in {**(self._lemmas if lemmas else {}), **self._claims}.items():
            signal = Signal(name=CLAIM + name.replace("-", "_"))
            self.m.d.comb += [signal.eq(condition), Assert(signal)]
        text, _ = rtlil.convert_fragment(Fragment.get(self.m, None), ports, "top", emit_src=False)
        return text

    def _ports(self, *, outputs: bool) -> dict[str, tuple]:
        """The block's members as ports of the top; those nothing drives are inputs."""
        return {
            "_".join(map(str, path)): (Value.cast(value), None)
            for path, member, value in self._signature.flatten(self.dut)
            if outputs or member.flow is wiring.In
        }

    def members(self) -> dict[str, list[dict]]:
        """What the ports of the netlist mean, for :mod:`.story`."""
        return members(self._signature, self.dut)
