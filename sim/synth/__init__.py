"""From a board's name to its bitstream, and to what it took."""

from .report import Figures, print_boards, print_figures
from .runner import flash, synthesise

__all__ = ["Figures", "flash", "print_boards", "print_figures", "synthesise"]
