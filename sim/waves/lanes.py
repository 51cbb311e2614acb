"""Which nets a picture shows, in which order, under which names.

The order follows an interrupt: device, configuration, bus, controller, CPU, software.
:data:`ARRANGEMENT` is the whole truth; a rule whose nets a design does not have shows nothing.
"""

import enum
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from hdl.bus import RequesterKind
from hdl.cpu_port import Operation
from hdl.probe import CpuContext
from hdl.tap import EventKind

from .reader import CLOCK, RESET, Waveform

DEVICE = "Device"
CONFIGURATION = "Configuration"
BUS = "Bus"
CONTROLLER = "Interrupt controller"
CPU = "CPU"
SOFTWARE = "Software"
OTHER = "Nets"
GROUPS = (DEVICE, CONFIGURATION, BUS, CONTROLLER, CPU, SOFTWARE, OTHER)

FORMATS = ("bit", "hex", "decimal", "binary", "enum")


class Access(enum.Enum):
    """The ``write`` bit of a bus request."""

    READ = 0
    WRITE = 1


class Status(enum.Enum):
    """The ``error`` bit of an answer."""

    OK = 0
    ERROR = 1


@dataclass(frozen=True)
class Lane:
    """One row of a picture.

    ``net`` is a net's name as in :class:`Waveform`. ``format`` is one of :data:`FORMATS`;
    ``enumeration`` gives values their names when that is "enum". ``when`` names a net: while it
    is low the value means nothing and is not shown. ``detail`` names a net whose value stands
    behind the value, in hexadecimal; in GTKWave it is a lane of its own.

    In a rule of :data:`ARRANGEMENT` the net is a pattern: ``{n}`` stands for a number, ``{name}``
    for an identifier and a leading ``*`` for any modules. The label, ``when`` and ``detail`` get
    what was found there.
    """

    group: str
    label: str
    net: str
    format: str = "bit"
    enumeration: type[enum.Enum] | None = None
    when: str | None = None
    detail: str | None = None

    def text(self, value: int | None, detail: int | None = None) -> str:
        """``value`` as it is shown, with what stands behind it."""
        return self._value(value) if detail is None else f"{self._value(value)} {detail:#x}"

    def _value(self, value: int | None) -> str:
        if value is None:
            return "x"
        if self.enumeration is not None:
            names = {member.value: member.name for member in self.enumeration}
            return names.get(value, f"{value:#x}")
        if self.format == "binary":
            return f"{value:b}"
        return str(value) if self.format in ("bit", "decimal") else f"{value:#x}"


class Run(NamedTuple):
    """Clocks ``start`` to ``stop - 1``, in which a lane shows the same."""

    start: int
    stop: int
    value: int | None
    detail: int | None = None


def _named(group, label, net, enumeration, when=None, detail=None):
    return Lane(group, label, net, "enum", enumeration, when, detail)


def _events(group, label, channel, detail="id"):
    """A channel of the tap: the kind of each event, and one of its fields."""
    record = f"tap.{channel}"
    return _named(
        group, label, f"{record}.kind", EventKind, f"{record}.valid", f"{record}.{detail}"
    )


def _data(group, label, net, when):
    return Lane(group, label, net, "hex", when=when)


def _requests(target, port):
    """What is asked on a bus port, and who asks."""
    valid, payload = f"{port}_request_valid", f"{port}_request_payload"
    yield Lane(BUS, f"{target} request", valid)
    yield _named(BUS, f"{target} access", f"{payload}.write", Access, valid, f"{payload}.address")
    yield _data(BUS, f"{target} data", f"{payload}.data", valid)
    kind, who = f"{payload}.requester.kind", f"{payload}.requester.id"
    yield _named(BUS, f"{target} asked by", kind, RequesterKind, valid, who)


_TARGETS = {
    "config space": "pci.ecam",
    "MMIO": "pci.mmio",
    "distributor": "gic.distributor",
    "redistributor {n}": "gic.redistributors_{n}",
    "ITS": "gic.its",
    "APIC window": "apic_bus.bus",
    "PMUs": "pmus.bus",
    "RAM": "ram.bus",
}
_EXTERNAL = "external_request"
_REQUEST = "cpu_{n}_port_request"
_RESPONSE = "cpu_{n}_port_response"

ARRANGEMENT: tuple[Lane, ...] = (
    _events(DEVICE, "endpoint {n}", "endpoint{n}_event"),
    _events(DEVICE, "endpoint {n} blocked", "endpoint{n}_blocked"),
    Lane(DEVICE, "endpoint {n} INTx", "*endpoint{n}.intx"),
    Lane(DEVICE, "endpoint {n} unplug", "endpoint_{n}_unplug"),
    _events(DEVICE, "PMU {n}", "pmu{n}", "data"),
    Lane(DEVICE, "PMU {n} irq", "*pmu{n}.irq"),
    Lane(DEVICE, "PMU line", "pmus.line"),
    Lane(DEVICE, "wires", "wires", "hex"),
    Lane(DEVICE, "external request", f"{_EXTERNAL}_valid"),
    _named(
        DEVICE,
        "external",
        f"{_EXTERNAL}_payload.operation",
        Operation,
        f"{_EXTERNAL}_valid",
        f"{_EXTERNAL}_payload.address",
    ),
    _data(DEVICE, "external data", f"{_EXTERNAL}_payload.data", f"{_EXTERNAL}_valid"),
    _data(DEVICE, "external id", "external_requester.id", f"{_EXTERNAL}_valid"),
    _events(CONFIGURATION, "config", "config", "address"),
    _data(CONFIGURATION, "config data", "tap.config.data", "tap.config.valid"),
    Lane(CONFIGURATION, "MSI {n} enable", "*endpoint{n}.msi.enable"),
    Lane(CONFIGURATION, "MSI {n} address", "*endpoint{n}.msi.address", "hex"),
    Lane(CONFIGURATION, "MSI {n} data", "*endpoint{n}.msi.data", "hex"),
    Lane(CONFIGURATION, "MSI {n} mask", "*endpoint{n}.msi.mask", "binary"),
    Lane(CONFIGURATION, "bus master {n}", "*endpoint{n}.space.master"),
    _events(BUS, "messages", "posted", "address"),
    _data(BUS, "message data", "tap.posted.data", "tap.posted.valid"),
    *(lane for target, port in _TARGETS.items() for lane in _requests(target, port)),
    _events(BUS, "external errors", "external", "address"),
    _events(BUS, "CPU {n} errors", "port{n}", "address"),
    _events(CONTROLLER, "APIC bus", "apic_bus", "address"),
    _events(CONTROLLER, "APIC {n}", "apic{n}"),
    _data(
        CONTROLLER,
        "APIC {n} message",
        "apic{n}.link_message_payload.vector",
        "apic{n}.link_message_valid",
    ),
    _events(CONTROLLER, "GIC {name}", "gic_{name}"),
    *(
        _data(CONTROLLER, f"{kind} candidate {{n}}", f"{net}.intid", f"{net}.valid")
        for kind, net in (
            ("SPI", "gic.distributor.candidate_{n}"),
            ("SGI, PPI", "gic.redistributor_{n}.candidate"),
            ("LPI", "gic.lpi_{n}.candidate"),
        )
    ),
    _events(CONTROLLER, "{name}", "{name}"),
    _named(CONTROLLER, "tap {n}", "tap_{n}_record.kind", EventKind, "tap_{n}_valid"),
    Lane(CPU, "CPU {n} irq", "cpu_{n}_irq"),
    Lane(CPU, "CPU {n} virq", "cpu_{n}_virq"),
    Lane(CPU, "CPU {n} intr", "cpu_{n}_intr"),
    Lane(CPU, "CPU {n} request", f"{_REQUEST}_valid"),
    _named(
        CPU,
        "CPU {n} asks",
        f"{_REQUEST}_payload.operation",
        Operation,
        f"{_REQUEST}_valid",
        f"{_REQUEST}_payload.address",
    ),
    _data(CPU, "CPU {n} data", f"{_REQUEST}_payload.data", f"{_REQUEST}_valid"),
    Lane(CPU, "CPU {n} response", f"{_RESPONSE}_valid"),
    _named(
        CPU,
        "CPU {n} answer",
        f"{_RESPONSE}_payload.error",
        Status,
        f"{_RESPONSE}_valid",
        f"{_RESPONSE}_payload.data",
    ),
    _named(SOFTWARE, "CPU {n} context", "probe_cpu_{n}.context", CpuContext),
    Lane(SOFTWARE, "CPU {n} irqs off", "probe_cpu_{n}.irqs_off"),
    Lane(SOFTWARE, "CPU {n} irq", "probe_cpu_{n}.irq", "decimal"),
    Lane(SOFTWARE, "CPU {n} irq state", "probe_cpu_{n}.state", "hex"),
    Lane(SOFTWARE, "CPU {n} lock", "probe_cpu_{n}.lock", "decimal"),
    Lane(SOFTWARE, "CPU {n} handlers", "probe_cpu_{n}.mark", "decimal"),
    Lane(SOFTWARE, "scene", "probe_scene", "decimal"),
)

HIDDEN = ("tap.apic{n}_line.kind", "tap.gic_irq{n}.kind", "tap.gic_virq{n}.kind")
"""Nets that no rule shows: a LINE record says what the line itself shows."""

_PLACEHOLDERS = {"*": r"(?P<scope>(?:[^.]+\.)*)", "{n}": r"(?P<n>\d+)", "{name}": r"(?P<name>\w+)"}


def _expression(pattern: str) -> re.Pattern:
    parts = re.split(r"(\*|\{n\}|\{name\})", pattern)
    return re.compile("".join(_PLACEHOLDERS.get(part, re.escape(part)) for part in parts))


def _matching(pattern: str, waveform: Waveform) -> Iterator[tuple[str, re.Match]]:
    expression = _expression(pattern)
    for name in waveform.nets:
        if match := expression.fullmatch(name):
            yield name, match


def _matches(rule: Lane, waveform: Waveform) -> Iterator[Lane]:
    for name, match in _matching(rule.net, waveform):
        found = match.groupdict()

        def filled(pattern: str, found=found) -> str:
            return pattern.replace("*", found.get("scope", "")).format(**found)

        def companion(pattern: str | None, filled=filled) -> str | None:
            name = filled(pattern) if pattern else None
            return name if name and name in waveform else None

        when, detail = companion(rule.when), companion(rule.detail)
        yield replace(rule, label=filled(rule.label), net=name, when=when, detail=detail)


def arrange(
    waveform: Waveform, arrangement: tuple[Lane, ...] = ARRANGEMENT, *, limit: int = 64
) -> list[Lane]:
    """The lanes of ``waveform`` in the order of :data:`GROUPS`, then by number, then by rule.

    A net appears once, under the first rule that names it. If no rule finds anything, the first
    ``limit`` nets are shown as they are, so that the result is empty only if the file is.
    """
    hidden = {waveform.net(name).path for rule in HIDDEN for name, _ in _matching(rule, waveform)}
    found: dict[str, tuple[tuple, Lane]] = {}
    for position, rule in enumerate(arrangement):
        for lane in _matches(rule, waveform):
            number = [int(digits) for digits in re.findall(r"\d+", lane.label)]
            key = (GROUPS.index(lane.group), number, position)
            path = waveform.net(lane.net).path
            if path not in hidden:
                found.setdefault(path, (key, lane))
    if found:
        return [lane for _, lane in sorted(found.values(), key=lambda entry: entry[0])]
    nets = [net for net in waveform.nets.values() if net.name not in (CLOCK, RESET)]
    return [
        Lane(OTHER, net.name, net.name, "bit" if net.width == 1 else "hex")
        for net in (nets or list(waveform.nets.values()))[:limit]
    ]


def shown(waveform: Waveform, lane: Lane, clocks: range) -> list[Run]:
    """The stretches in which ``lane`` shows the same, without those in which it shows nothing."""
    nets = [lane.net, *(net for net in (lane.detail, lane.when) if net)]
    columns = [waveform.runs(net, clocks) for net in nets]
    cuts = sorted({start for column in columns for start, _, _ in column} | {clocks.stop})
    places = [0] * len(nets)
    runs = []
    for start, stop in pairwise(cuts):
        for i, column in enumerate(columns):
            if column[places[i]][1] <= start:
                places[i] += 1
        values = [column[place][2] for column, place in zip(columns, places, strict=True)]
        if lane.when is None or values[-1]:
            runs.append(Run(start, stop, values[0], values[1] if lane.detail else None))
    return runs


def lively(waveform: Waveform, lanes: Iterable[Lane], clocks: range) -> list[Lane]:
    """Those of ``lanes`` in which something happens in ``clocks``; all if nothing does."""
    lanes = list(lanes)

    def moves(lane: Lane) -> bool:
        runs = shown(waveform, lane, clocks)
        return len(runs) > 1 or bool(runs and lane.when)

    return [lane for lane in lanes if moves(lane)] or lanes


def lively_clocks(waveform: Waveform, lanes: Iterable[Lane], *, margin: int = 4) -> range:
    """From the first to the last clock after reset in which one of ``lanes`` changes."""
    have = waveform.window(0, None)
    runs = [run for lane in lanes for run in shown(waveform, lane, have)]
    starts = [run.start for run in runs if run.start > have.start]
    if not starts:
        return have
    return waveform.window(max(min(starts) - margin, have.start), max(starts) + margin)
