"""Timing diagrams as one finds them in books."""

import enum
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from matplotlib.patheffects import withStroke

from ..design import Design
from .lanes import (
    BUS,
    CONFIGURATION,
    CONTROLLER,
    CPU,
    DEVICE,
    OTHER,
    SOFTWARE,
    Lane,
    Run,
    arrange,
    lively,
    lively_clocks,
    shown,
)
from .marks import Mark, checked_marks, story
from .reader import Waveform
from .timescale import Timescale

WIDTH = 1600
"""Width of a picture in pixels."""

COLOURS = {
    DEVICE: "#c2571a",
    CONFIGURATION: "#9a7b0a",
    BUS: "#2e7d4f",
    CONTROLLER: "#1f6f9c",
    CPU: "#3f4fa8",
    SOFTWARE: "#7b3f98",
    OTHER: "#444444",
}
_PALETTE = (
    "#e9ebee",
    "#c6dcf2",
    "#fbd9a5",
    "#c8e6c0",
    "#f7b9b2",
    "#e0cdee",
    "#f6e89a",
    "#bfe6e6",
    "#d9c9b8",
    "#f4c6dd",
)
_INK, _MUTED, _GRID, _FOLD, _MARK = "#1d1f24", "#8a8f98", "#eceef1", "#f4f5f7", "#b3261e"
_DPI = 100
_FONT = 8.5
_CHARACTER = 0.602 * _FONT * _DPI / 72  # of the monospaced font
_LABELS, _RIGHT = 190, 24
_ROW, _HEADING, _TITLE, _AXIS, _MARK_ROW, _BOTTOM = 27, 24, 40, 24, 22, 30
_SLANT = 3.5
_HALO = [withStroke(linewidth=3.5, foreground="white")]
_THIN_HALO = [withStroke(linewidth=2, foreground="white", alpha=0.7)]


def elide(text: str, room: float) -> str:
    """``text``, or as much of it as fits into ``room`` pixels; nothing if that says nothing."""
    fits = int(room / _CHARACTER)
    if len(text) <= fits:
        return text
    return f"{text[: fits - 1]}…" if fits >= 4 else ""


def _colour(group: str) -> str:
    return COLOURS.get(group, COLOURS[OTHER])


class _Diagram:
    """One picture; every measure is in pixels, y downwards."""

    def __init__(self, waveform: Waveform, lanes: Sequence[Lane], clocks: range, title, marks):
        self.waveform = waveform
        self.clocks = clocks
        self.rows = {lane: shown(waveform, lane, clocks) for lane in lanes}
        runs = [run for runs in self.rows.values() for run in runs]
        moments = {run.start for run in runs} | {run.stop for run in runs}
        moments |= {mark.cycle for mark in marks}
        self.left, self.right = _LABELS, WIDTH - _RIGHT
        self.x = Timescale(clocks, moments, self.left, self.right)
        self.marks = self._place(marks)
        levels = 1 + max((level for _, level, _ in self.marks), default=-1)
        self.top = (_TITLE if title else 12) + levels * _MARK_ROW + _AXIS
        groups = list(dict.fromkeys(lane.group for lane in lanes))
        self.bottom = self.top + len(groups) * _HEADING + len(lanes) * _ROW
        height = self.bottom + _BOTTOM
        self.figure = Figure(figsize=(WIDTH / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
        FigureCanvasAgg(self.figure)
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, WIDTH), ylim=(height, 0))
        self.axes.axis("off")
        self.area = Rectangle(
            (self.left, 0), self.right - self.left, height, transform=self.axes.transData
        )
        if title:
            self._text(16, _TITLE / 2, title, size=13, weight="bold", family="sans-serif")
        self._draw_time()
        y = self.top
        for group in groups:
            self._draw_heading(group, y)
            y += _HEADING
            for lane in (lane for lane in lanes if lane.group == group):
                self._draw_lane(lane, y)
                y += _ROW
        self._draw_marks()

    # --- Small things ---------------------------------------------------------------------

    def _text(self, x, y, text, *, size=_FONT, family="DejaVu Sans Mono", ha="left", **style):
        style = {"color": _INK, "va": "center", "zorder": 7} | style
        return self.axes.text(x, y, text, fontsize=size, family=family, ha=ha, **style)

    def _line(self, xs, ys, **style):
        (line,) = self.axes.plot(xs, ys, solid_joinstyle="round", **style)
        line.set_clip_path(self.area)

    def _shape(self, points, **style):
        shape = Polygon(points, closed=True, **style)
        self.axes.add_patch(shape)
        shape.set_clip_path(self.area)

    # --- Time -----------------------------------------------------------------------------

    def _draw_time(self):
        if self.x.unit >= 9:
            for segment in self.x.segments:
                if not segment.folded:
                    for cycle in range(segment.start, segment.stop + 1):
                        x = self.x(cycle)
                        self._line([x, x], [self.top, self.bottom], color=_GRID, lw=0.7, zorder=0)
        faint = {"color": _MUTED, "size": 8, "path_effects": _HALO}
        for cycle in self.x.ticks(46):
            x = self.x(cycle)
            self._line([x, x], [self.top - 4, self.bottom + 4], color="#d3d7dd", lw=0.8, zorder=0)
            for y in (self.top - 13, self.bottom + 14):
                self._text(x, y, str(cycle), ha="center", **faint)
        for y in (self.top - 13, self.bottom + 14):
            self._text(self.left - 14, y, "clock", ha="right", **faint)
        for fold in (segment for segment in self.x.segments if segment.folded):
            left, right = fold.left, fold.right
            corner = (left, self.top - 2)
            band = Rectangle(corner, right - left, self.bottom - self.top + 4)
            band.set(facecolor=_FOLD, edgecolor="none", zorder=4)
            self.axes.add_patch(band)
            for x in (left, right):
                self._line(
                    [x, x], [self.top, self.bottom], color="#c3c8cf", lw=0.8, ls=":", zorder=4
                )
            said = f"{fold.stop - fold.start} clocks"
            style = {"rotation": 90, "ha": "center", "color": _MUTED, "size": 8}
            self._text((left + right) / 2, (self.top + self.bottom) / 2, said, **style)

    # --- Marks ----------------------------------------------------------------------------

    def _place(self, marks: Sequence[Mark]):
        """(mark, level, abscissa of its middle): side by side, or above each other."""
        ends: list[float] = []
        placed = []
        for mark in sorted(marks):
            half = (len(mark.text) * _CHARACTER + 14) / 2
            x = min(max(self.x(mark.cycle), self.left + half), self.right - half)
            level = next((i for i, end in enumerate(ends) if end <= x - half), len(ends))
            ends[level : level + 1] = [x + half + 4]
            placed.append((mark, level, x))
        return placed

    def _draw_marks(self):
        for mark, level, middle in self.marks:
            x = self.x(mark.cycle)
            y = self.top - _AXIS - (level + 0.5) * _MARK_ROW
            self._line([x, x], [y + 8, self.bottom], color=_MARK, lw=1, ls=(0, (4, 3)), zorder=6)
            box = {"boxstyle": "round,pad=0.35", "fc": "#fdecea", "ec": _MARK, "lw": 0.8}
            self._text(middle, y, mark.text, ha="center", color=_MARK, bbox=box, zorder=8)

    # --- Lanes ----------------------------------------------------------------------------

    def _draw_heading(self, group: str, y: float):
        colour = _colour(group)
        bar = Rectangle((12, y + 3), 4, _HEADING - 6, facecolor=colour, edgecolor="none")
        self.axes.add_patch(bar)
        style = {"family": "sans-serif", "weight": "bold", "color": colour, "size": 9}
        self._text(23, y + _HEADING / 2, group, **style)
        (line,) = self.axes.plot(
            [self.left, self.right], [y + _HEADING / 2] * 2, color=colour, lw=0.8, alpha=0.35
        )
        line.set_zorder(1)

    def _draw_lane(self, lane: Lane, y: float):
        middle = y + _ROW / 2
        name = elide(lane.label, _LABELS - 40)
        self._text(self.left - 14, middle, name, ha="right", family="sans-serif", size=9)
        runs = self.rows[lane]
        if lane.when is not None:
            self._line([self.left, self.right], [middle] * 2, color="#cfd3d9", lw=0.9, zorder=1)
        if lane.format == "bit" and lane.when is None:
            self._draw_level(runs, y, _colour(lane.group))
        else:
            self._draw_values(lane, runs, y)

    def _draw_level(self, runs, y: float, colour: str):
        high, low = y + 6, y + _ROW - 6
        xs, ys = [], []
        for start, stop, value, _ in runs:
            left, right = self.x(start), self.x(stop)
            if value is None:
                self._hatch(left, right, high, low)
            level = (high + low) / 2 if value is None else (high if value else low)
            xs += [left if start == self.clocks.start else left + 1.5, right - 1.5]
            ys += [level, level]
            if value:
                box = [(left, low), (left, high), (right, high), (right, low)]
                self._shape(box, facecolor=colour, alpha=0.13, edgecolor="none", zorder=2)
        self._line(xs, ys, color=colour, lw=1.5, zorder=3)

    def _hatch(self, left, right, high, low):
        box = [(left, low), (left, high), (right, high), (right, low)]
        style = {"facecolor": "#f3f3f3", "edgecolor": "#c9c9c9", "hatch": "////", "lw": 0}
        self._shape(box, zorder=2, **style)

    def _draw_values(self, lane: Lane, runs, y: float):
        free = float(self.left)
        for index, run in enumerate(runs):
            left, right = self.x(run.start), max(self.x(run.stop), self.x(run.start) + 2)
            before = left - 9 if run.start == self.clocks.start else left
            after = right + 9 if run.stop == self.clocks.stop else right
            self._hexagon(before, after, y, run.value, lane)
            following = self.x(runs[index + 1].start) if index + 1 < len(runs) else self.right
            free = self._write(lane, run, (left, right), (free, following), y + _ROW / 2)

    def _hexagon(self, left, right, y, value, lane):
        high, low, middle = y + 5, y + _ROW - 5, y + _ROW / 2
        if value is None:
            self._hatch(left, right, high, low)
            return
        slant = min(_SLANT, (right - left) / 2)
        points = [
            (left, middle),
            (left + slant, high),
            (right - slant, high),
            (right, middle),
            (right - slant, low),
            (left + slant, low),
        ]
        fill = "white" if value == 0 else "#f2f5fb"
        if lane.enumeration is not None:
            fill = _enum_colour(lane.enumeration, value)
        style = {"facecolor": fill, "edgecolor": _colour(lane.group), "lw": 1.0, "zorder": 3}
        self._shape(points, **style)

    def _write(self, lane: Lane, run: Run, edges, space, y: float) -> float:
        """Put the text into its hexagon, or into the ``space`` free beside it; where that begins
        for the next one."""
        text = lane.text(run.value, run.detail)
        left, right = edges
        wide = len(text) * _CHARACTER
        pieces = self.x.visible(run.start, run.stop)
        inner_left, inner_right = max(pieces, key=lambda piece: piece[1] - piece[0])
        inside = elide(text, inner_right - inner_left - 2 * _SLANT)
        if inside != text and space[1] - right >= wide + 8 and self.x.clear(right, wide + 8):
            self._text(right + 4, y, text, path_effects=_HALO)
            return right + wide + 8
        if inside != text and left - space[0] >= wide + 8 and self.x.clear(left - wide - 8, wide):
            self._text(left - 4, y, text, ha="right", path_effects=_HALO)
            return right
        if inside:
            colour = _MUTED if text in ("0", "0x0") else _INK
            style = {"ha": "center", "color": colour, "path_effects": _THIN_HALO}
            self._text((inner_left + inner_right) / 2, y, inside, **style)
        return right


def _enum_colour(enumeration: type[enum.Enum], value: int) -> str:
    values = [member.value for member in enumeration]
    return _PALETTE[values.index(value) % len(_PALETTE)] if value in values else "white"


def chosen(waveform: Waveform, clocks: range) -> list[Lane]:
    """The lanes of a picture: those in which something happens, without the strobes that only
    say when another lane counts."""
    lanes = lively(waveform, arrange(waveform), clocks)
    strobes = {lane.when for lane in lanes}
    return [lane for lane in lanes if lane.net not in strobes]


def figure(
    waveform: Waveform,
    *,
    lanes: Sequence[Lane] | None = None,
    first: int | None = None,
    last: int | None = None,
    title: str = "",
    marks: Iterable[tuple[int, str]] | None = None,
) -> Figure:
    """``lanes`` in clocks ``first`` to ``last`` as a timing diagram, :data:`WIDTH` pixels wide.

    Clocks default to those in which anything happens, lanes to :func:`chosen`, ``marks`` to
    :func:`.marks.story`. Marks are (clock, text) and stand where the clock starts; those outside
    the clocks are left out. A value that does not fit stands beside its hexagon, or ends in an
    ellipsis. Stretches of more than :data:`.timescale.QUIET` clocks without any change are folded.
    """
    if first is None and last is None:
        clocks = lively_clocks(waveform, arrange(waveform) if lanes is None else lanes)
    else:
        clocks = waveform.window(first, last)
    if lanes is None:
        lanes = chosen(waveform, clocks)
    if not lanes:
        raise ValueError("lanes must not be empty")
    marks = story(waveform, clocks) if marks is None else checked_marks(marks)
    inside = [mark for mark in marks if mark.cycle in clocks]
    return _Diagram(waveform, lanes, clocks, title, inside).figure


def draw(waveform: Waveform, png: Path, **options: Any) -> Path:
    """Write the :func:`figure` of ``waveform`` with these ``options`` to ``png``; returns it."""
    png.parent.mkdir(parents=True, exist_ok=True)
    figure(waveform, **options).savefig(png, dpi=_DPI, format="png")
    return png


def draw_trial(vcd: Path, png: Path, design: Design | None = None, **options: Any) -> Path:
    """:func:`draw` from a file."""
    return draw(Waveform(vcd, design), png, **options)
