"""Waveforms as values per clock."""

import contextlib
import difflib
import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from operator import itemgetter
from pathlib import Path

import numpy
import pywellen

from ..design import Design
from ..ports import PortMap

CLOCK = "clk"
RESET = "rst"
_PORTS = "$rootio"
_SCOPES = ("top.", f"{_PORTS}.")


class WaveformError(ValueError):
    """A file is no usable waveform, or has no such net; the message says what would be right."""


@dataclass(frozen=True)
class Net:
    """One net: our name for it, module path and name in the file, and its width in bits.

    ``within`` is the width of the vector in the file, of which the net is the part from bit
    ``lsb`` on.
    """

    name: str
    scope: str
    leaf: str
    width: int
    lsb: int
    within: int

    @property
    def path(self) -> str:
        """Where it is in the file."""
        part = "" if self.width == self.within else f"[{self.lsb + self.width - 1}:{self.lsb}]"
        return f"{self.scope}.{self.leaf}{part}" if self.scope else f"{self.leaf}{part}"


def canonical(path: str) -> str:
    """The name a net goes by: as in :mod:`sim.ports`, with submodules in front.

    ``top.probe__cpu__0.context`` is ``probe_cpu_0.context``, and
    ``top.interconnect.bus__request__valid`` is ``interconnect.bus_request_valid``.
    """
    for scope in _SCOPES:
        path = path.removeprefix(scope)
    return path.replace("__", "_")


def _part(net: Net, value: int | str) -> int | None:
    """The bits of ``net`` in its vector's ``value``."""
    if isinstance(value, str):  # binary digits, some of them x or z
        bits = value.rjust(net.within, value[0])[::-1][net.lsb : net.lsb + net.width][::-1]
        return int(bits, 2) if set(bits) <= {"0", "1"} else None
    return (value >> net.lsb) & ((1 << net.width) - 1)


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """The library writes a backtrace there before it raises."""
    saved = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def _load(path: Path) -> pywellen.Waveform:
    if not path.is_file():
        raise WaveformError(f"{path}: there is no such file")
    try:
        with _silent_stderr():
            waveform = pywellen.Waveform(str(path))
            _ = [var.signal for var in islice(waveform.all_vars(), 1)]  # reads the whole body
    except BaseException as error:
        # Some broken files make the library panic, an exception that is no Exception.
        if not isinstance(error, RuntimeError) and type(error).__name__ != "PanicException":
            raise
        reason = " ".join(str(error).split())
        raise WaveformError(f"{path}: not a waveform (VCD or FST), or cut off: {reason}") from None
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        ends = file.read() == b"\n"
    if waveform.file_format == "VCD" and not ends:
        raise WaveformError(f"{path}: cut off in the middle of a line; run it again")
    return waveform


class Waveform:
    """A recorded run, read clock by clock.

    The value of a net in a clock is what it was just before the rising edge of ``clk`` in that
    clock, which is what a register takes over and what a host reads. Clock 0 is the first with
    ``rst`` low; the clocks of reset have negative numbers.

    Parameters
    ----------
    path : Path
        VCD or FST.
    design : Design, optional
        What was run. Fields of its ports, as in :mod:`sim.ports`, are nets then, and tap channels
        have their names: ``tap.apic0.kind`` is ``tap_1_record.kind``, say. Without it, fields have
        the names under which they happen to be in the file.

    Members
    -------
    nets : dict
        :class:`Net` by name (:func:`canonical`), in the order of the file.
    clocks : range
        The clocks that were recorded.

    Values are integers, or ``None`` while they are not known (x, z, or not written yet).
    Everything that names a net takes its canonical or its full name. Errors are
    :class:`WaveformError`: a file that is missing, cut off or something else; a net that is not
    there (with the nearest names).
    """

    def __init__(self, path: Path | str, design: Design | None = None):
        self.path = Path(path)
        self._waveform = _load(self.path)
        self._vars = {}
        self._sampled: dict[str, list[tuple[int, int | None]]] = {}
        self.nets: dict[str, Net] = {}
        for var in sorted(self._waveform.all_vars(), key=self._is_inside):
            name, width = canonical(var.full_name), var.bitwidth or 0
            known = self.nets.get(name)
            # Elements of an array have the name of the whole.
            if width > (known.width if known else 0) and not (known and known.scope == _PORTS):
                scope = var.full_name.removesuffix(var.name).removesuffix(".")
                self.nets[name] = Net(name, scope, var.name, width, 0, width)
                self._vars[scope, var.name] = var
        if design is not None:
            self._divide_ports(design.ports)
            self._name_channels(design.ports, design.channels)

    @staticmethod
    def _is_inside(var) -> bool:
        """The ports, which Verilator shows above the top module, are there again inside, among
        others of the same name."""
        return not var.full_name.startswith(_PORTS)

    def _divide_ports(self, ports: PortMap) -> None:
        for port, width in ports.widths.items():
            if port not in self.nets or self.nets[port].width != width:
                raise WaveformError(
                    f"{self.path}: not a run of this design, which has a port {port} "
                    f"of {width} bits"
                )
        for field in ports.fields.values():
            whole = self.nets[field.port]
            self.nets[field.name] = replace(
                whole, name=field.name, width=field.width, lsb=field.lsb
            )

    def _name_channels(self, ports: PortMap, channels: Iterable[str]) -> None:
        for index, channel in enumerate(channels):
            record = f"tap_{index}_record."
            names = [name for name in ports.fields if name.startswith(record)]
            for name in (f"tap_{index}_valid", *names):
                field = name.removeprefix(record).removeprefix(f"tap_{index}_")
                alias = f"tap.{channel}.{field}"
                self.nets[alias] = replace(self.nets[name], name=alias)

    def __contains__(self, name: str) -> bool:
        return canonical(name) in self.nets

    def net(self, name: str) -> Net:
        """The net of that name."""
        try:
            return self.nets[canonical(name)]
        except KeyError:
            near = difflib.get_close_matches(canonical(name), self.nets, n=3, cutoff=0.5)
            hint = f"; nearest: {', '.join(near)}" if near else ""
            raise WaveformError(f"{self.path}: no net {name!r}{hint}") from None

    def _changes(self, name: str) -> list[tuple[int, int | str]]:
        net = self.net(name)
        return self._vars[net.scope, net.leaf].tv

    @cached_property
    def _edges(self) -> list[int]:
        """Times of the rising edges of the clock."""
        edges = [time for time, value in self._changes(CLOCK) if value == 1]
        if not edges:
            raise WaveformError(f"{self.path}: {CLOCK!r} never rises, so there are no clocks")
        return edges

    @cached_property
    def _first(self) -> int:
        """Number of the first clock in the file."""
        if RESET not in self:
            return 0
        released = [time for time, value in self._changes(RESET) if value == 0]
        return -bisect_right(self._edges, released[0]) if released else -len(self._edges)

    @property
    def has_clock(self) -> bool:
        """Whether there is a ``clk``; without one there are nets, but no clocks."""
        return CLOCK in self

    @property
    def clocks(self) -> range:
        """The clocks that were recorded."""
        return range(self._first, self._first + len(self._edges))

    def time(self, cycle: int) -> int:
        """When clock ``cycle`` starts, in the file's unit of time."""
        period = self._edges[1] - self._edges[0] if len(self._edges) > 1 else 2
        return self._edges[0] + (cycle - self._first) * period - period // 2

    def changes(self, name: str) -> list[tuple[int, int | None]]:
        """(clock, new value) of every change; the first entry is the first clock's value."""
        net = self.net(name)
        if net.path not in self._sampled:
            self._sampled[net.path] = self._sample(net, self._changes(name))
        return self._sampled[net.path]

    def _sample(self, net: Net, history: list) -> list[tuple[int, int | None]]:
        times = numpy.array([time for time, _ in history], dtype=numpy.int64)
        seen = numpy.searchsorted(self._edges, times, side="right").tolist()
        result: list[tuple[int, int | None]] = [(self._first, None)]
        for index, (_, value) in zip(seen, history, strict=True):
            if index == len(self._edges):
                break
            cycle = self._first + index
            number = _part(net, value)
            if result[-1][0] == cycle:
                result.pop()
            if not result or result[-1][1] != number:
                result.append((cycle, number))
        return result

    def runs(self, name: str, clocks: range) -> list[tuple[int, int, int | None]]:
        """(first clock, clock after the last, value) of each stretch without a change."""
        clocks = self._recorded(clocks)
        changes = self.changes(name)
        runs = []
        index = bisect_right(changes, clocks.start, key=itemgetter(0)) - 1
        while index < len(changes) and changes[index][0] < clocks.stop:
            start, value = changes[index]
            index += 1
            stop = changes[index][0] if index < len(changes) else clocks.stop
            runs.append((max(start, clocks.start), min(stop, clocks.stop), value))
        return runs

    def values(self, name: str, clocks: range | None = None) -> list[int | None]:
        """The value in each of ``clocks`` (default: all)."""
        runs = self.runs(name, self.clocks if clocks is None else clocks)
        return [value for start, stop, value in runs for _ in range(start, stop)]

    def at(self, name: str, cycle: int) -> int | None:
        """The value in clock ``cycle``."""
        return self.values(name, range(cycle, cycle + 1))[0]

    def window(self, first: int | None, last: int | None) -> range:
        """The recorded ones of clocks ``first`` to ``last``; ``None``: from the first after reset,
        to the last there is."""
        have = self.clocks
        start = max(0 if first is None else first, have.start)
        stop = min(have.stop if last is None else last + 1, have.stop)
        if start >= stop:
            raise WaveformError(
                f"{self.path}: has clocks {have.start} to {have.stop - 1}, "
                f"nothing of {first} to {last}"
            )
        return range(start, stop)

    def _recorded(self, clocks: range) -> range:
        have = self.clocks
        if clocks.step != 1 or clocks.start < have.start or clocks.stop > have.stop or not clocks:
            raise WaveformError(
                f"{self.path}: has clocks {have.start} to {have.stop - 1}, "
                f"not {clocks.start} to {clocks.stop - 1}"
            )
        return clocks
