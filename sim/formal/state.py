"""The inside of a block: every signal and memory row by name, for invariants to speak of."""

import difflib

from amaranth.hdl import Cat, Const, Fragment, Module, Mux, Signal, Value
from amaranth.lib.memory import Memory


class Registers:
    """A platform that makes memories of flip-flops, so that an invariant can name each row.

    The behaviour is that of :class:`amaranth.lib.memory.Memory`; only the storage differs.
    """

    def get_memory(self, memory: Memory) -> Module:
        m = Module()
        width = len(Value.cast(Signal(memory.shape)))
        rows = [
            Signal(width, init=Const.cast(row).value, name=f"row_{i}")
            for i, row in enumerate(memory.data._init._raw)
        ]
        for port in memory.read_ports:
            data = Value.cast(port.data)
            found: Value = Const(0, width)
            for i, row in enumerate(rows):
                found = Mux(port.addr == i, row, found)
            for writer in port.transparent_for:
                found = Mux(writer.addr == port.addr, _merged(found, writer), found)
            if port.domain == "comb":
                m.d.comb += data.eq(found)
            else:
                with m.If(port.en):
                    m.d[port.domain] += data.eq(found)
        for port in memory.write_ports:
            for i, row in enumerate(rows):
                with m.If(port.addr == i):
                    m.d[port.domain] += row.eq(_merged(row, port))
        return m


def _merged(old: Value, port) -> Value:
    """``old`` with the lanes that ``port`` writes in this clock."""
    data, enable = Value.cast(port.data), Value.cast(port.en)
    lanes = Cat(bit.replicate(len(data) // len(enable)) for bit in enable)
    return (old & ~lanes) | (data & lanes)


class State:
    """The signals that the modules of an elaborated block drive.

    A name is a signal's own name behind the names of the submodules on the way, with dots between:
    ``state["request_arbiter.before_0_1"]``.
    """

    def __init__(self, fragment: Fragment):
        self._signals: dict[str, Signal] = {}
        self._collect(fragment, "")

    def _collect(self, fragment: Fragment, prefix: str) -> None:
        for statements in fragment.statements.values():
            for statement in statements:
                for signal in statement._lhs_signals():
                    self._signals.setdefault(prefix + signal.name, signal)
        for i, (part, name, _) in enumerate(fragment.subfragments):
            self._collect(part, f"{prefix}{name or f'U{i}'}.")

    def __contains__(self, name: str) -> bool:
        return name in self._signals

    def __getitem__(self, name: str) -> Signal:
        if name not in self._signals:
            near = difflib.get_close_matches(name, self._signals, n=5)
            raise KeyError(f"no signal {name!r}; near: {', '.join(near)}")
        return self._signals[name]

    def names(self) -> list[str]:
        return sorted(self._signals)

    def states(self, name: str = "fsm_state") -> list[str]:
        """The states of the state machine ``name``, in the order of their codes."""
        signal, states = self[name], list[str]()
        while len(states) < 1 << len(signal):
            try:
                states.append(signal.decoder(len(states)).partition("/")[0])
            except KeyError:
                break
        return states

    def fsm(self, state: str, name: str = "fsm_state") -> Value:
        """Whether the state machine ``name`` is in ``state``."""
        states = self.states(name)
        if state not in states:
            raise KeyError(f"{name} has no state {state!r}")
        return self[name] == states.index(state)

    def legal(self, name: str = "fsm_state") -> Value:
        """Whether the state machine ``name`` is in any of its states."""
        signal, count = self[name], len(self.states(name))
        return Const(1, 1) if count == 1 << len(signal) else signal < count
