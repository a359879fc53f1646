"""Public keys of identity providers: fetched by HTTP outside any transaction, kept, and fetched again when a new one turns up.

A token that names an unknown key makes us look once, and then not again before a floor has passed, so that a flood of invented
names costs the provider nothing. Keys that cannot be refreshed go on counting for a day.
Source: RFC 7517; OpenID Connect Core 1.0 s.10.1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import httpx
import orjson
import structlog

from custody.identity.errors import InvalidToken, IssuerUnreachable, MalformedPublicKey
from custody.identity.tokens import VerifyingKey, read_jwk

FLOOR_S = 30.0
"""Shortest time between two fetches from one provider."""
FRESH_S = 3600.0
"""After so long keys are fetched again although they are known: one that was withdrawn must stop to count."""
STALE_S = 86_400.0
"""After so long without an answer nothing that we know of the provider counts any more."""
TIMEOUT_S = 5.0
BYTES_MAX = 262_144
KEYS_MAX = 64

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Set:
    """One provider's keys, and by the monotonic clock when they came and when they were last asked for."""

    keys: Mapping[str, VerifyingKey] = field(default_factory=dict)
    fetched_s: float | None = None
    tried_s: float | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Keysets:
    """What we know of each provider's keys, by address."""

    def __init__(self, monotonic: Callable[[], float], floor_s: float = FLOOR_S) -> None:
        """`monotonic` counts seconds. Nothing is fetched before a token needs it."""
        self._monotonic = monotonic
        self._floor_s = floor_s
        self._sets: dict[str, _Set] = {}

    async def find(self, uri: str, kid: str) -> VerifyingKey:
        """The provider's key of this name. Raises InvalidToken when it has none, IssuerUnreachable when that cannot be said.

        Call it outside transactions: it may fetch.
        """
        known = self._sets.setdefault(uri, _Set())
        if not self._is_fresh(known) or kid not in known.keys:
            async with known.lock:
                if self._may_fetch(known, kid):
                    await self._fetch(uri, known)
        if known.fetched_s is None or self._monotonic() - known.fetched_s > STALE_S:
            raise IssuerUnreachable
        found = known.keys.get(kid)
        if found is None:
            raise InvalidToken(reason="unknown_key")
        return found

    def _is_fresh(self, known: _Set) -> bool:
        return known.fetched_s is not None and self._monotonic() - known.fetched_s < FRESH_S

    def _may_fetch(self, known: _Set, kid: str) -> bool:
        if self._is_fresh(known) and kid in known.keys:
            return False
        return known.tried_s is None or self._monotonic() - known.tried_s >= self._floor_s

    async def _fetch(self, uri: str, known: _Set) -> None:
        known.tried_s = self._monotonic()
        try:
            known.keys = _read(await _download(uri))
            known.fetched_s = known.tried_s
        except (httpx.HTTPError, ValueError, TimeoutError) as error:
            _log.warning("identity.keys_not_fetched", uri=uri, reason=type(error).__name__)


async def _download(uri: str) -> bytes:
    parts, size = [], 0
    async with (
        asyncio.timeout(TIMEOUT_S),
        httpx.AsyncClient(follow_redirects=False, trust_env=False, timeout=TIMEOUT_S) as http,
        http.stream("GET", uri, headers={"Accept": "application/json"}) as answer,
    ):
        if answer.status_code != 200:
            raise ValueError(f"status {answer.status_code}")
        async for part in answer.aiter_bytes():
            size += len(part)
            if size > BYTES_MAX:
                raise ValueError("too large")
            parts.append(part)
    return b"".join(parts)


def _read(body: bytes) -> dict[str, VerifyingKey]:
    """The usable keys of a set, by name. What is of another kind is the provider's business. Raises ValueError without any."""
    document = orjson.loads(body)
    listed = document.get("keys") if isinstance(document, dict) else None
    found: dict[str, VerifyingKey] = {}
    for jwk in listed[:KEYS_MAX] if isinstance(listed, list) else ():
        try:
            key = read_jwk(jwk if isinstance(jwk, dict) else {})
        except MalformedPublicKey:
            continue
        found.setdefault(key.kid, key)
    if not found:
        raise ValueError("no usable key")
    return found
