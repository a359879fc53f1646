"""What a key remembers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """The answer that was given when the key was first used."""

    status: int
    """HTTP status of the first answer."""
    body: bytes
    """Body of the first answer, byte for byte."""
