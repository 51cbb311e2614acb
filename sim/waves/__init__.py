"""Waveforms: read, arranged for GTKWave, drawn as pictures, compared with goldens."""

from .golden import Difference, Golden
from .gtkw import open_in_gtkwave, write_gtkw
from .lanes import ARRANGEMENT, Lane, arrange
from .marks import Mark, story
from .picture import draw, draw_trial, figure
from .reader import Net, Waveform, WaveformError
from .regression import GoldenMismatchError, Goldens, compare

__all__ = [
    "ARRANGEMENT",
    "Difference",
    "Golden",
    "GoldenMismatchError",
    "Goldens",
    "Lane",
    "Mark",
    "Net",
    "Waveform",
    "WaveformError",
    "arrange",
    "compare",
    "draw",
    "draw_trial",
    "figure",
    "open_in_gtkwave",
    "story",
    "write_gtkw",
]
