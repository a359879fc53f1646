"""How many requests a caller may make: per principal and class of route, over all API processes together.

Each process takes a handful of requests out of the window that is counted in Valkey and spends them by itself, so that most
requests ask nobody. Without Valkey each process counts alone, which lets through more but turns nobody away; a metric tells.
Limits on money are another matter: they are policy, in Postgres and in the signer. Source:
draft-ietf-httpapi-ratelimit-headers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

import structlog
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, RedisStorage, Storage
from limits.errors import StorageError
from redis.asyncio import ConnectionPool

from api.errors import TooManyRequests
from api.metrics import Metrics

WINDOW_S = 60
LEASES = 20
"""A window is taken in so many parts; what a process has taken and not used when the window ends is lost to the others."""
COUNTED_MAX = 10_000
"""Callers of whom a process remembers how many requests they have left."""
APART_S = 5.0
"""For so long Valkey is not asked again after it failed."""
PATIENCE_S = 0.25
"""How long a request waits for Valkey at most."""
REFUSALS_PER_MINUTE = 600
"""Requests without a valid key that one address may make, per process."""


@dataclass(slots=True)
class _Lease:
    """What one caller may still ask of this process."""

    left: int
    """Requests that this process may let through without asking."""
    others: int
    """What the shared window still had when the lease was taken."""
    ends_s: float
    """When the window ends, by this process's clock."""


class RateLimits:
    """The counters of one process."""

    def __init__(self, redis_url: str, per_minute: Mapping[str, int], metrics: Metrics) -> None:
        """`per_minute` says how many requests of each class of route one principal may make. Connects on first use."""
        self._connections: ConnectionPool = ConnectionPool.from_url(
            redis_url, socket_connect_timeout=PATIENCE_S, socket_timeout=PATIENCE_S
        )
        self._shared: Storage = RedisStorage(
            f"async+{redis_url}",
            wrap_exceptions=True,
            implementation="redispy",
            key_prefix="custody-api",
            connection_pool=self._connections,  # type: ignore[arg-type]  # as the library documents and does not declare
        )
        self._own: Storage = MemoryStorage(wrap_exceptions=True)
        self._items = {name: RateLimitItemPerMinute(quota) for name, quota in per_minute.items()}
        self._strangers = RateLimitItemPerMinute(REFUSALS_PER_MINUTE)
        self._leases: dict[tuple[str, str], _Lease] = {}
        self._locks: dict[tuple[str, str], asyncio.Lock] = {}
        self._apart_until = 0.0
        self._metrics = metrics

    async def aclose(self) -> None:
        """Let go of Valkey. Nothing is counted afterwards."""
        await self._connections.aclose()

    async def take(self, kind: str, caller: str) -> list[tuple[bytes, bytes]]:
        """Count one request, and give the headers that say what is left. Raises TooManyRequests."""
        item, named, now_s = self._items[kind], (kind, caller), time.monotonic()
        lease = self._leases.get(named)
        if lease is None or lease.ends_s <= now_s or lease.left == 0:
            lease = await self._renewed(item, named, now_s)
        if lease.left == 0:
            self._metrics.refusal_observed(kind)
            raise TooManyRequests(retry_after_s=max(1, ceil(lease.ends_s - now_s)))
        lease.left -= 1
        return _headers(kind, item.amount, lease.left + lease.others, max(0, ceil(lease.ends_s - now_s)))

    async def refuse_stranger(self, address: str) -> None:
        """Count one request that came without a valid key. Raises TooManyRequests."""
        key = self._strangers.key_for("stranger", address)
        if await self._own.incr(key, WINDOW_S) > REFUSALS_PER_MINUTE:
            self._metrics.refusal_observed("stranger")
            raise TooManyRequests(retry_after_s=WINDOW_S)

    async def _renewed(self, item: RateLimitItem, named: tuple[str, str], now_s: float) -> _Lease:
        """A lease that is in force: a new one, or the one that another request took meanwhile."""
        async with self._locks.setdefault(named, asyncio.Lock()):
            lease = self._leases.get(named)
            if lease is not None and lease.ends_s > now_s and (lease.left or not lease.others):
                return lease
            lease = await self._lease(item, named, now_s)
            self._forget(now_s)
            self._leases[named] = lease
            return lease

    async def _lease(self, item: RateLimitItem, named: tuple[str, str], now_s: float) -> _Lease:
        if now_s >= self._apart_until:
            try:
                lease = await self._taken(self._shared, item, named, now_s)
            except StorageError as error:
                self._apart_until = now_s + APART_S
                structlog.get_logger().warning(
                    "limits.counted_alone", reason=type(error.storage_error).__name__
                )
            else:
                self._metrics.limits_observed(alone=False)
                return lease
        self._metrics.limits_observed(alone=True)
        return await self._taken(self._own, item, named, now_s)

    async def _taken(
        self, storage: Storage, item: RateLimitItem, named: tuple[str, str], now_s: float
    ) -> _Lease:
        """Some of what the window has left, all of it counted as used."""
        wanted = max(1, item.amount // LEASES)
        key = item.key_for(*named)
        counted = await storage.incr(key, WINDOW_S, amount=wanted)
        ends_s = now_s + max(0.0, await storage.get_expiry(key) - time.time())
        left = max(0, min(wanted, item.amount - (counted - wanted)))
        return _Lease(left=left, others=max(0, item.amount - counted), ends_s=ends_s)

    def _forget(self, now_s: float) -> None:
        """Keep memory bounded, however many callers there are."""
        if len(self._leases) >= COUNTED_MAX:
            self._leases = {named: lease for named, lease in self._leases.items() if lease.ends_s > now_s}
            if len(self._leases) >= COUNTED_MAX:
                self._leases.clear()
            self._locks = {named: lock for named, lock in self._locks.items() if lock.locked()}


def kind_of(method: str, path: str) -> str:
    """The class of a route."""
    if path == "/graphql":
        return "graphql"
    return "read" if method in ("GET", "HEAD") else "write"


def _headers(kind: str, quota: int, left: int, ends_s: int) -> list[tuple[bytes, bytes]]:
    return [
        (b"ratelimit-policy", f'"{kind}";q={quota};w={WINDOW_S}'.encode()),
        (b"ratelimit", f'"{kind}";r={left};t={ends_s}'.encode()),
    ]
