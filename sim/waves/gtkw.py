"""The same lanes in GTKWave: a save file that opens arranged."""

import enum
import math
import os
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from vcd.gtkw import GTKWColor, GTKWSave

from ..design import Design
from ..toolchain import ToolError, require
from .lanes import (
    BUS,
    CONFIGURATION,
    CONTROLLER,
    CPU,
    DEVICE,
    OTHER,
    SOFTWARE,
    Lane,
    arrange,
    lively_clocks,
)
from .reader import Net, Waveform, WaveformError

COLOURS = {
    DEVICE: GTKWColor.orange,
    CONFIGURATION: GTKWColor.yellow,
    BUS: GTKWColor.green,
    CONTROLLER: GTKWColor.blue,
    CPU: GTKWColor.indigo,
    SOFTWARE: GTKWColor.violet,
    OTHER: GTKWColor.normal,
}
MAX_MARKS = 26
_WIDTH, _HEIGHT, _NAMES = 1600, 1000, 240
_ZOOM_FRAME = 200
"""GTKWave: at zoom z, 200 pixels show 2 ** -z units of time."""


class Mark(NamedTuple):
    """Something worth pointing at: the start of clock ``cycle``."""

    cycle: int
    text: str


def _path(net: Net) -> str:
    """The net as GTKWave names it: dots inside a name are announced, vectors have a range."""
    leaf = f"\\{net.leaf}" if "." in net.leaf else net.leaf
    suffix = f"[{net.width - 1}:0]" if net.width > 1 else ""
    return f"{net.scope}.{leaf}{suffix}"


def _write_filter(folder: Path, stem: str, enumeration: type[enum.Enum], width: int) -> str:
    """A translation of values into names; the file's name."""
    digits = -(-width // 4)
    name = f"{stem}.{enumeration.__name__}.txt"
    lines = [f"{member.value:0{digits}x} {member.name}\n" for member in enumeration]
    (folder / name).write_text("".join(lines))
    return name


def _zoom(save: GTKWSave, waveform: Waveform, clocks: range, marks: Sequence[Mark]) -> None:
    start, stop = waveform.time(clocks.start), waveform.time(clocks.stop)
    pixels = _WIDTH - _NAMES - 180
    zoom = -math.log2((stop - start) * _ZOOM_FRAME / pixels)
    letters = "abcdefghijklmnopqrstuvwxyz"
    marked = {letters[i]: waveform.time(mark.cycle) for i, mark in enumerate(marks)}
    save.zoom_markers(zoom, waveform.time(marks[0].cycle) if marks else -1, **marked)
    for letter, mark in zip(letters, marks, strict=False):
        save.file.write(f"[markername_long] {letter.upper()} {mark.text}\n")
    save.timestart(start)


def write_gtkw(
    vcd: Path,
    gtkw: Path,
    design: Design | None = None,
    *,
    lanes: Sequence[Lane] | None = None,
    clocks: range | None = None,
    marks: Iterable[tuple[int, str]] = (),
) -> Path:
    """Write GTKWave's save file ``gtkw`` for ``vcd``; returns it.

    ``lanes`` default to :func:`arrange` and ``clocks``, the view, to :func:`lively_clocks`.
    ``marks`` are (clock, text); GTKWave has names for the first 26. Names of enumeration members go
    into files beside ``gtkw``. Paths in it are relative when all lie in one folder, so that the
    folder can be moved.
    """
    waveform = Waveform(vcd, design)
    lanes = arrange(waveform) if lanes is None else lanes
    marks = [Mark(*mark) for mark in marks][:MAX_MARKS]
    gtkw.parent.mkdir(parents=True, exist_ok=True)
    with gtkw.open("w") as file:
        save = GTKWSave(file)
        save.dumpfile(os.path.abspath(vcd), abspath=False)
        save.size(_WIDTH, _HEIGHT)
        save.signals_width(_NAMES)
        save.sst_expanded(False)
        if waveform.has_clock:
            view = lively_clocks(waveform, list(lanes)) if clocks is None else clocks
            _zoom(save, waveform, view, marks)
        for group in dict.fromkeys(lane.group for lane in lanes):
            with save.group(group):
                for lane in (lane for lane in lanes if lane.group == group):
                    _trace(save, gtkw, waveform.net(lane.net), lane)
    return gtkw


def _trace(save: GTKWSave, gtkw: Path, net: Net, lane: Lane) -> None:
    names = {"decimal": "dec", "binary": "bin", "bit": "bin"}
    translate = None
    if lane.enumeration is not None:
        translate = _write_filter(gtkw.parent, gtkw.stem, lane.enumeration, net.width)
        translate = os.path.abspath(gtkw.parent / translate)
    save.trace(
        _path(net),
        alias=lane.label,
        color=COLOURS[lane.group],
        datafmt=names.get(lane.format, "hex"),
        translate_filter_file=translate,
    )
