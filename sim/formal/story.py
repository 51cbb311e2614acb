"""A counterexample for people: what happens in each clock, and the lanes to see it in."""

import json
from pathlib import Path

from ..waves import Lane, Waveform, write_gtkw
from .harness import CLAIM

_CLAIMS, _MEMBERS, _REMEMBERED, _INSIDE = "Claims", "Inputs and outputs", "Remembered", "Inside"
_GROUPS = (_CLAIMS, _MEMBERS, _REMEMBERED, _INSIDE)
_PAYLOAD, _VALID = "_payload", "_valid"


def tell(trace: Path, described: Path) -> list[str]:
    """A line for each clock of ``trace``: what is not zero at first, and then what changes.

    ``described`` is a JSON file with :func:`.members.members`. The payload of a stream counts only
    while it is valid.
    """
    waveform, parts = Waveform(trace), json.loads(described.read_text())
    lines, last = [], dict[str, int]()
    for clock in waveform.clocks:
        said = []
        for net in waveform.nets:
            valid = net.removesuffix(_PAYLOAD) + _VALID
            silent = net.endswith(_PAYLOAD) and valid in waveform and not waveform.at(valid, clock)
            if _group(net, parts) not in (_MEMBERS, _REMEMBERED) or silent:
                continue
            whole = {"name": net, "low": 0, "width": waveform.net(net).width, "values": {}}
            for part in parts.get(net, [whole]):
                value = (waveform.at(net, clock) or 0) >> part["low"] & ((1 << part["width"]) - 1)
                if value != last.get(part["name"], 0):
                    known = f"{value:#x}" if part["width"] > 3 else str(value)
                    said.append(f"{part['name']}={part['values'].get(str(value), known)}")
                last[part["name"]] = value
        lines.append(f"clock {clock}: {', '.join(said) or 'nothing changes'}")
    end = waveform.clocks[-1]
    broken = [
        net.removeprefix(CLAIM).replace("_", "-")
        for net in waveform.nets
        if net.startswith(CLAIM) and waveform.at(net, end) == 0
    ]
    return [*lines, f"clock {end} breaks the claim: {', '.join(broken)}"]


def _group(net: str, parts: dict) -> str | None:
    if net == "smt_step" or net.endswith("clk"):
        return None
    if net.startswith(CLAIM):
        return _CLAIMS
    if "." in net:
        return _INSIDE
    return _MEMBERS if net in parts else _REMEMBERED


def keep(trace: Path, described: Path, vcd: Path) -> None:
    """Copy ``trace`` to ``vcd``, with lanes for GTKWave beside it."""
    vcd.parent.mkdir(parents=True, exist_ok=True)
    vcd.write_text(trace.read_text())
    waveform, parts = Waveform(vcd), json.loads(described.read_text())
    lanes = [
        Lane(group, name, name, "bit" if net.width == 1 else "hex")
        for group in _GROUPS
        for name, net in waveform.nets.items()
        if _group(name, parts) == group
    ]
    first, last = waveform.clocks[0], waveform.clocks[-1]
    write_gtkw(
        vcd,
        vcd.with_suffix(".gtkw"),
        lanes=lanes,
        first=first,
        last=last,
        marks=[(last, "the claim is broken")],
    )
