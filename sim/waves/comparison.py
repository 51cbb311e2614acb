"""A golden and a run that differs, side by side."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vcd import VCDWriter
from vcd.writer import Variable

from ..design import Design
from .golden import Difference, Golden, value_text
from .gtkw import write_gtkw
from .lanes import Lane, arrange
from .picture import draw
from .reader import CLOCK, Waveform

PERIOD = 10_000
"""Length of a clock in the waveforms written here, in ps."""

BEFORE, AFTER = 20, 40
"""Clocks around the difference that the picture shows."""

MAX_NETS = 16
"""Nets in the picture."""


def write_vcd(path: Path, goldens: Mapping[str, Golden]) -> None:
    """The ``goldens`` as one waveform with a scope for each. Clocks keep their numbers."""
    stop = max(golden.clocks.stop for golden in goldens.values())
    with path.open("w") as file, VCDWriter(file, timescale="1 ps") as writer:
        clock = writer.register_var("top", CLOCK, "wire", 1, init=0)
        events: list[tuple[int, Variable, int | str]] = [
            (cycle * PERIOD + PERIOD // 2, clock, 1) for cycle in range(stop)
        ]
        events += [((cycle + 1) * PERIOD, clock, 0) for cycle in range(stop)]
        for scope, golden in goldens.items():
            for name, width in golden.widths.items():
                unknown = "x" * width
                variable = writer.register_var(scope, name, "wire", width, init=unknown)
                changes = list(golden.histories[name])
                if golden.clocks.stop < stop:
                    changes.append((golden.clocks.stop, None))
                events += [
                    (cycle * PERIOD, variable, unknown if value is None else value)
                    for cycle, value in changes
                ]
        for time, variable, value in sorted(events, key=lambda event: event[0]):
            writer.change(variable, time, value)


def _pairs(run: Waveform, names: Mapping[str, int]) -> list[Lane]:
    """For every net a lane that shows what was expected, and one that shows what was seen."""
    known = {run.net(lane.net).path: lane for lane in arrange(run)}
    lanes = []
    for name, width in names.items():
        plain = Lane("", "", name, "bit" if width == 1 else "hex")
        lane = known.get(run.net(name).path, plain)
        lanes += [
            replace(lane, group=name, label=side, net=f"{side}.{name}", when=None, detail=None)
            for side in ("expected", "seen")
        ]
    return lanes


def leave_behind(
    out: Path,
    vcd: Path,
    design: Design | None,
    expected: Golden,
    seen: Golden,
    difference: Difference | None,
) -> None:
    """Fill the folder ``out``: see :func:`.regression.compare`.

    Without a ``difference`` the marked clock is where the shorter of the two ends.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    write_vcd(out / "expected.vcd", {"expected": expected})
    shutil.copyfile(vcd, out / "seen.vcd")
    both = out / "comparison.vcd"
    write_vcd(both, {"expected": expected, "seen": seen})
    end = min(expected.clocks.stop, seen.clocks.stop) - 1
    cycle = end if difference is None else difference.cycle
    mark = (cycle, "ends here")
    if difference is not None:
        said = (value_text(difference.expected), value_text(difference.seen))
        mark = (cycle, f"{difference.net}: {' became '.join(said)}")
    view: dict[str, Any] = {"first": max(cycle - BEFORE, 0), "last": cycle + AFTER, "marks": [mark]}
    run = Waveform(vcd, design)
    names = expected.widths
    write_gtkw(both, out / "comparison.gtkw", lanes=_pairs(run, names), **view)
    differing = [name for name in names if expected.histories[name] != seen.histories[name]]
    shown = {name: names[name] for name in (differing or list(names))[:MAX_NETS]}
    draw(Waveform(both), out / "comparison.png", lanes=_pairs(run, shown), **view)
