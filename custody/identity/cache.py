"""Who was asking a moment ago: so that a busy client costs one lookup every few seconds and not one a request.

A revoked key or token goes on counting for at most `api.key_memory_s` in each process, and not at all in the one that revoked it.
Only what counted is remembered, so that guessing fills nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from custody.identity.model import Principal

SIZE_MAX = 4096
"""Principals remembered at once; the oldest goes first."""


@dataclass(frozen=True, slots=True)
class _Known:
    principal: Principal
    until_s: float


class PrincipalCache:
    """Principals by what they presented; only its hash is kept."""

    def __init__(self, monotonic: Callable[[], float], ttl_s: float) -> None:
        """`monotonic` counts seconds. `ttl_s`: how long a principal is believed without asking again; 0 for not at all."""
        self._monotonic = monotonic
        self._ttl_s = ttl_s
        self._known: dict[bytes, _Known] = {}
        self.forgotten = 0
        """How often something was let go of: whatever was looked up meanwhile may be what it was."""

    def find(self, credential: str, now: datetime) -> Principal | None:
        """The principal who presented this a moment ago, if it still counts."""
        key = _key(credential)
        known = self._known.get(key)
        if known is None:
            return None
        expires_at = known.principal.expires_at
        if known.until_s <= self._monotonic() or (expires_at is not None and expires_at <= now):
            del self._known[key]
            return None
        return known.principal

    def keep(self, credential: str, principal: Principal, since: int) -> None:
        """Remember it for a moment. `since`: what `forgotten` was before it was looked up."""
        if since != self.forgotten:
            return
        while len(self._known) >= SIZE_MAX:
            del self._known[next(iter(self._known))]
        self._known[_key(credential)] = _Known(principal, self._monotonic() + self._ttl_s)

    def forget(self, *ids: UUID) -> None:
        """Let go of principals and credentials of these ids: what was just revoked."""
        self._let_go(lambda principal: principal.id in ids or principal.credential in ids)

    def forget_subject(self, subject: str) -> None:
        """Let go of everybody of this name."""
        self._let_go(lambda principal: principal.subject == subject)

    def forget_role(self, role: str) -> None:
        """Let go of everybody who has this role: what it allows has changed."""
        self._let_go(lambda principal: role in principal.roles)

    def _let_go(self, gone: Callable[[Principal], bool]) -> None:
        self.forgotten += 1
        self._known = {key: known for key, known in self._known.items() if not gone(known.principal)}


def _key(credential: str) -> bytes:
    return hashlib.sha256(credential.encode()).digest()
