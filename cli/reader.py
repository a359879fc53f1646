"""Whoever reads what a command prints."""

from __future__ import annotations


class ReaderGone(Exception):
    """The output was closed before its end. No OSError: that would look like a database that is away."""
