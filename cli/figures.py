"""Where tables of money are printed: never so narrow that a figure would be cut."""

from __future__ import annotations

from rich.console import Console

WIDTH_MIN = 150
"""Columns that the widest table of figures needs. A narrower terminal wraps lines; a pipe has no width of its own."""


def figures_console() -> Console:
    """A console for tables whose figures must be read whole."""
    console = Console()
    return console if console.width >= WIDTH_MIN else Console(width=WIDTH_MIN)
