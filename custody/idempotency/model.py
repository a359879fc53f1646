"""What a key remembers."""

from __future__ import annotations

from dataclasses import dataclass

from custody.identity.model import Principal


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyUse:
    """One request under a key."""

    principal: Principal
    """Whose key."""
    key: str
    """The caller's name of the command."""
    fingerprint: bytes
    """SHA-256 of method, route and canonical body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """The answer that was given when the key was first used."""

    status: int
    """HTTP status of the first answer."""
    body: bytes
    """Body of the first answer, byte for byte."""
    replayed: bool = True
    """Whether it was given before; not so when it is the first itself."""
