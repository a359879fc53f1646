"""Where tables of money are printed: never so narrow that a figure would be cut."""

from __future__ import annotations

from rich.console import Console

from cli.reader import ReaderGone

WIDTH_MIN = 150
"""Columns that the widest table of figures needs. A narrower terminal wraps lines; a pipe has no width of its own."""


class _Figures(Console):
    """Leaves a closed pipe to `cli.main`: the library's own exit code for it means here that something differs."""

    def on_broken_pipe(self) -> None:
        """Instead of ending the process."""
        raise ReaderGone


def figures_console(width_min: int = WIDTH_MIN) -> Console:
    """A console for tables whose figures, or hashes, must be read whole."""
    console = _Figures()
    return console if console.width >= width_min else _Figures(width=width_min)
