"""The same lanes in GTKWave: a save file that opens arranged."""

import enum
import math
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

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
    lively,
    lively_clocks,
)
from .marks import Mark, checked_marks, story
from .reader import Net, Waveform, WaveformError

COLOURS = {
    DEVICE: GTKWColor.red,
    CONFIGURATION: GTKWColor.orange,
    BUS: GTKWColor.yellow,
    CONTROLLER: GTKWColor.green,
    CPU: GTKWColor.indigo,
    SOFTWARE: GTKWColor.violet,
    OTHER: GTKWColor.normal,
}
MAX_MARKS = 26
_FORMATS = {"decimal": "dec", "binary": "bin", "bit": "bin"}
_WIDTH, _HEIGHT, _NAMES = 1600, 1000, 300
_ZOOM_FRAME = 200
"""GTKWave: at zoom z, 200 pixels show 2 ** -z units of time."""


def _colour(lane: Lane) -> GTKWColor:
    return COLOURS.get(lane.group, COLOURS[OTHER])


def _vector(net: Net) -> str:
    """The net's vector as GTKWave names it: a dot in a name is announced, and there is a range."""
    leaf = f"\\{net.leaf}" if "." in net.leaf else net.leaf
    suffix = f"[{net.within - 1}:0]" if net.within > 1 else ""
    return f"{net.scope}.{leaf}{suffix}" if net.scope else f"{leaf}{suffix}"


def _print_trace(save: GTKWSave, net: Net, alias: str, **style) -> None:
    """A trace; a part of a vector is put together from its bits, which count from the left."""
    vector = _vector(net)
    if net.width == net.within:
        save.trace(vector, alias, **style)
        return
    left = net.within - net.lsb - net.width
    bits = [f"({left + i}){vector}" for i in range(net.width)]
    if net.width == 1:
        save.trace(bits[0], alias, **style)
    else:
        save.trace(f"#{{{alias}}} {' '.join(bits)}", **style)


def _write_filter(gtkw: Path, enumeration: type[enum.Enum], width: int) -> str:
    """A translation of values into names, beside ``gtkw``; the file's name."""
    digits = -(-width // 4)
    name = f"{gtkw.stem}.{enumeration.__name__}.txt"
    names = {0: "-"} | {member.value: member.name for member in enumeration}
    lines = [f"{value:0{digits}x} {text}\n" for value, text in names.items()]
    (gtkw.parent / name).write_text("".join(lines))
    return name


def _zoom(save: GTKWSave, waveform: Waveform, clocks: range, marks: Sequence[Mark]) -> None:
    start, stop = waveform.time(clocks.start), waveform.time(clocks.stop)
    pixels = _WIDTH - _NAMES - 180
    zoom = -math.log2((stop - start) * _ZOOM_FRAME / pixels)
    letters = "abcdefghijklmnopqrstuvwxyz"
    marked: dict[str, Any] = {letters[i]: waveform.time(mark.cycle) for i, mark in enumerate(marks)}
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
    first: int | None = None,
    last: int | None = None,
    marks: Iterable[tuple[int, str]] | None = None,
) -> Path:
    """Write GTKWave's save file ``gtkw`` for ``vcd``; returns it.

    Lanes default to :func:`arrange`, the view of clocks ``first`` to ``last`` to those in which
    anything happens, ``marks``, which are (clock, text), to :func:`.marks.story`; GTKWave has room
    for 26 marks. Lanes that are quiet in the view are in closed groups. Names of enumeration
    members go into files beside ``gtkw``. A folder that holds all of them can be moved.
    """
    waveform = Waveform(vcd, design)
    lanes = arrange(waveform) if lanes is None else list(lanes)
    clocks, moving, marked = None, lanes, []
    if waveform.has_clock:
        whole = first is None and last is None
        clocks = lively_clocks(waveform, lanes) if whole else waveform.window(first, last)
        moving = lively(waveform, lanes, clocks)
        marked = story(waveform, clocks) if marks is None else checked_marks(marks)
    gtkw.parent.mkdir(parents=True, exist_ok=True)
    with gtkw.open("w") as file:
        save = GTKWSave(file)
        save.savefile(str(gtkw))
        save.dumpfile(str(vcd))
        save.size(_WIDTH, _HEIGHT)
        save.signals_width(_NAMES)
        save.sst_expanded(False)
        if clocks is not None:
            _zoom(save, waveform, clocks, marked[:MAX_MARKS])
        for group in dict.fromkeys(lane.group for lane in lanes):
            own = [lane for lane in lanes if lane.group == group]
            quiet = [lane for lane in own if lane not in moving]
            with save.group(group):
                for lane in own:
                    if lane not in quiet:
                        _trace(save, gtkw, waveform, lane)
                if quiet:
                    with save.group(f"{group}: {len(quiet)} quiet", closed=True):
                        for lane in quiet:
                            _trace(save, gtkw, waveform, lane)
    return gtkw


def _trace(save: GTKWSave, gtkw: Path, waveform: Waveform, lane: Lane) -> None:
    net, colour = waveform.net(lane.net), _colour(lane)
    datafmt = _FORMATS.get(lane.format, "hex")
    if lane.enumeration is None:
        _print_trace(save, net, lane.label, color=colour, datafmt=datafmt)
    elif net.width == 1:  # drawn as a level, without text: say what is high
        _print_trace(save, net, _member(lane, lane.net), color=colour)
    else:
        names = _write_filter(gtkw, lane.enumeration, net.width)
        _print_trace(save, net, lane.label, color=colour, translate_filter_file=names)
    if lane.detail is not None:
        _print_trace(save, waveform.net(lane.detail), _member(lane, lane.detail), color=colour)


def _member(lane: Lane, net: str) -> str:
    return f"{lane.label} {net.rpartition('.')[2]}"


def open_in_gtkwave(vcd: Path) -> None:
    """Show ``vcd`` in GTKWave and wait until it is closed.

    The lanes are those of the save file beside it (same name, ``.gtkw``), which is written when
    there is none. :class:`ToolError`: GTKWave is missing, or failed; :class:`WaveformError`:
    ``vcd`` is.
    """
    if not vcd.is_file():
        raise WaveformError(f"{vcd}: there is no such file")
    program = require("gtkwave", "gtkwave")
    gtkw = vcd.with_suffix(".gtkw")
    if not gtkw.exists():
        write_gtkw(vcd, gtkw)
    result = subprocess.run([program, str(gtkw)], capture_output=True, text=True)
    if result.returncode:
        said = (result.stderr or result.stdout).strip().splitlines()
        raise ToolError(f"gtkwave: {said[0] if said else f'status {result.returncode}'}")
