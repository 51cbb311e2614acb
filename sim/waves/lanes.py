"""Which nets a picture shows, in which order, under which names.

The order follows an interrupt: device, configuration, bus, controller, CPU, software.
:data:`ARRANGEMENT` is the whole truth; a rule whose nets a design does not have shows nothing.
"""

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

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


@dataclass(frozen=True)
class Lane:
    """One row of a picture.

    ``net`` is a net's name as in :class:`Waveform`. In a rule of :data:`ARRANGEMENT` it is a
    pattern, in which ``{n}`` stands for a number, ``{name}`` for an identifier and a leading
    ``*`` for any modules; label, group and ``when`` then have the same placeholders. ``when``
    names a net; while it is low the value means nothing and is not shown. ``format`` is one of
    :data:`FORMATS`, and ``enumeration`` gives values their names when that is "enum".
    """

    group: str
    label: str
    net: str
    format: str = "bit"
    enumeration: type[enum.Enum] | None = None
    when: str | None = None

    def text(self, value: int | None) -> str:
        """``value`` as it is shown."""
        if value is None:
            return "x"
        if self.enumeration is not None:
            names = {member.value: member.name for member in self.enumeration}
            return names.get(value, f"{value:#x}")
        if self.format == "binary":
            return f"{value:b}"
        return str(value) if self.format in ("bit", "decimal") else f"{value:#x}"


def _named(group, label, net, enumeration, when=None):
    return Lane(group, label, net, "enum", enumeration, when)


def _event(group, label, channel):
    """A channel of the tap: the kind of each event."""
    return _named(group, label, f"tap.{channel}.kind", EventKind, f"tap.{channel}.valid")


def _transfer(group, label, port, *, write=True):
    """Requests on a port: what is asked of which address, while ``valid`` is high."""
    valid, payload = f"{port}_valid", f"{port}_payload"
    yield Lane(group, f"{label} valid", valid)
    yield Lane(group, f"{label} address", f"{payload}.address", "hex", when=valid)
    if write:
        yield Lane(group, f"{label} write", f"{payload}.write", when=valid)
    yield Lane(group, f"{label} data", f"{payload}.data", "hex", when=valid)


_TARGETS = ("pci", "distributor", "redistributor{n}", "its", "apic_bus", "pmus", "ram")
"""Modules whose port ``bus`` answers requests."""

_REQUEST = "cpu_{n}_port_request"
_RESPONSE = "cpu_{n}_port_response"

ARRANGEMENT: tuple[Lane, ...] = (
    _event(DEVICE, "endpoint {n}", "endpoint{n}"),
    Lane(DEVICE, "endpoint {n} event", "*endpoint{n}.device.event"),
    Lane(
        DEVICE,
        "endpoint {n} vector",
        "*endpoint{n}.device.vector",
        "decimal",
        when="*endpoint{n}.device.event",
    ),
    Lane(DEVICE, "endpoint {n} INTx", "*endpoint{n}.intx"),
    Lane(DEVICE, "endpoint {n} unplug", "*endpoint{n}.stimulus_unplug"),
    _event(DEVICE, "PMU {n}", "pmu{n}"),
    Lane(DEVICE, "PMU {n} interrupt", "*pmu{n}.irq"),
    Lane(DEVICE, "external id", "external_requester.id", "hex", when="external_request_valid"),
    *_transfer(DEVICE, "external", "external_request", write=False),
    *_transfer(CONFIGURATION, "config {n}", "*endpoint{n}.config_access_request"),
    Lane(CONFIGURATION, "MSI {n} enabled", "*endpoint{n}.msi.enabled", "decimal"),
    Lane(CONFIGURATION, "MSI {n} address", "*endpoint{n}.msi.address", "hex"),
    Lane(CONFIGURATION, "MSI {n} data", "*endpoint{n}.msi.data", "hex"),
    Lane(CONFIGURATION, "MSI {n} mask", "*endpoint{n}.msi.mask", "binary"),
    Lane(CONFIGURATION, "bus master {n}", "*endpoint{n}.space.master"),
    *_transfer(BUS, "message {n}", "*endpoint{n}.posted", write=False),
    *(
        lane
        for target in _TARGETS
        for lane in (
            *_transfer(BUS, target, f"{target}.bus_request"),
            _named(
                BUS,
                f"{target} asked by",
                f"{target}.bus_request_payload.requester.kind",
                RequesterKind,
                f"{target}.bus_request_valid",
            ),
        )
    ),
    _event(BUS, "external errors", "external"),
    _event(BUS, "CPU {n} errors", "cpu{n}"),
    _event(CONTROLLER, "APIC {n}", "apic{n}"),
    Lane(
        CONTROLLER,
        "APIC {n} message",
        "apic{n}.link_message_payload.vector",
        "hex",
        when="apic{n}.link_message_valid",
    ),
    Lane(CONTROLLER, "APIC {n} requested", "apic{n}.requested", "binary"),
    Lane(CONTROLLER, "APIC {n} in service", "apic{n}.in_service", "binary"),
    _event(CONTROLLER, "APIC {n} line", "apic{n}_line"),
    _event(CONTROLLER, "{name}", "{name}"),
    _named(CONTROLLER, "tap {n}", "tap_{n}_record.kind", EventKind, "tap_{n}_valid"),
    Lane(CPU, "CPU {n} irq", "cpu_{n}_irq"),
    Lane(CPU, "CPU {n} virq", "cpu_{n}_virq"),
    Lane(CPU, "CPU {n} intr", "cpu_{n}_intr"),
    _named(CPU, "CPU {n} asks", f"{_REQUEST}_payload.operation", Operation, f"{_REQUEST}_valid"),
    Lane(CPU, "CPU {n} address", f"{_REQUEST}_payload.address", "hex", when=f"{_REQUEST}_valid"),
    Lane(CPU, "CPU {n} data", f"{_REQUEST}_payload.data", "hex", when=f"{_REQUEST}_valid"),
    Lane(CPU, "CPU {n} answer", f"{_RESPONSE}_payload.data", "hex", when=f"{_RESPONSE}_valid"),
    Lane(CPU, "CPU {n} error", f"{_RESPONSE}_payload.error", when=f"{_RESPONSE}_valid"),
    _named(SOFTWARE, "CPU {n} context", "probe_cpu_{n}.context", CpuContext),
    Lane(SOFTWARE, "CPU {n} irqs off", "probe_cpu_{n}.irqs_off"),
    Lane(SOFTWARE, "CPU {n} irq", "probe_cpu_{n}.irq", "decimal"),
    Lane(SOFTWARE, "CPU {n} irq state", "probe_cpu_{n}.state", "hex"),
    Lane(SOFTWARE, "CPU {n} lock", "probe_cpu_{n}.lock", "decimal"),
    Lane(SOFTWARE, "CPU {n} handlers", "probe_cpu_{n}.mark", "decimal"),
    Lane(SOFTWARE, "scene", "probe_scene", "decimal"),
)

_PLACEHOLDERS = {"*": r"(?P<scope>(?:[^.]+\.)*)", "{n}": r"(?P<n>\d+)", "{name}": r"(?P<name>\w+)"}


def _expression(pattern: str) -> re.Pattern:
    parts = re.split(r"(\*|\{n\}|\{name\})", pattern)
    return re.compile("".join(_PLACEHOLDERS.get(part, re.escape(part)) for part in parts))


def _fill(pattern: str, match: re.Match) -> str:
    found = match.groupdict()
    return pattern.replace("*", found.get("scope", "")).format(**found)


def _matches(rule: Lane, waveform: Waveform) -> Iterator[Lane]:
    expression = _expression(rule.net)
    for name in waveform.nets:
        if match := expression.fullmatch(name):
            when = _fill(rule.when, match) if rule.when else None
            yield replace(
                rule,
                label=_fill(rule.label, match),
                net=name,
                when=when if when in waveform.nets else None,
            )


def arrange(
    waveform: Waveform, arrangement: tuple[Lane, ...] = ARRANGEMENT, *, limit: int = 64
) -> list[Lane]:
    """The lanes of ``waveform`` in the order of :data:`GROUPS`, then by number, then by rule.

    A net appears once, under the first rule that names it. If no rule finds anything, the first
    ``limit`` nets are shown as they are, so that the result is empty only if the file is.
    """
    found: dict[str, tuple[tuple, Lane]] = {}
    for position, rule in enumerate(arrangement):
        for lane in _matches(rule, waveform):
            number = [int(digits) for digits in re.findall(r"\d+", lane.label)]
            key = (GROUPS.index(lane.group), number, position)
            found.setdefault(waveform.net(lane.net).path, (key, lane))
    if found:
        return [lane for _, lane in sorted(found.values(), key=lambda entry: entry[0])]
    nets = [net for net in waveform.nets.values() if net.name not in (CLOCK, RESET)]
    return [
        Lane(OTHER, net.name, net.name, "bit" if net.width == 1 else "hex")
        for net in (nets or list(waveform.nets.values()))[:limit]
    ]


def shown(waveform: Waveform, lane: Lane, clocks: range) -> list[tuple[int, int, int | None]]:
    """The stretches in which ``lane`` shows one value: (first clock, clock after it, value).

    Stretches in which its ``when`` is low are left out.
    """
    runs = waveform.runs(lane.net, clocks)
    if lane.when is None:
        return runs
    return [
        (max(start, opened), min(stop, closed), value)
        for opened, closed, means in waveform.runs(lane.when, clocks)
        if means
        for start, stop, value in runs
        if start < closed and stop > opened
    ]


def lively(waveform: Waveform, lanes: list[Lane], clocks: range) -> list[Lane]:
    """Those of ``lanes`` in which something happens in ``clocks``; all if nothing does."""

    def moves(lane: Lane) -> bool:
        runs = shown(waveform, lane, clocks)
        return len(runs) > 1 or bool(runs and lane.when)

    return [lane for lane in lanes if moves(lane)] or lanes


def lively_clocks(waveform: Waveform, lanes: list[Lane], *, margin: int = 4) -> range:
    """From the first to the last clock after reset in which one of ``lanes`` changes."""
    have = range(max(waveform.clocks.start, 0), waveform.clocks.stop)
    if not have:
        return waveform.clocks
    changes = [
        start for lane in lanes for start, _, _ in shown(waveform, lane, have) if start > have.start
    ]
    if not changes:
        return have
    return range(max(min(changes) - margin, have.start), min(max(changes) + margin, have.stop))
