"""Wake the worker sooner than its sweeper would. Best effort: nothing is lost when nobody hears it.

One of the two files that know arq (the other is `custody/worker.py`). A job carries ids only, of object and
cause; the work stands in Postgres.
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import orjson
import structlog
from arq.connections import ArqRedis, RedisSettings, create_pool
from redis.exceptions import RedisError

from custody.kernel.ids import TenantId

QUEUE = "custody"
"""The arq queue that the worker listens on."""

_log = structlog.get_logger(__name__)


def redis_settings(url: str) -> RedisSettings:
    """Where Valkey or Redis is, with short patience: a wake-up is never worth a wait."""
    parts = urlsplit(url)
    return RedisSettings(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 6379,
        database=int(parts.path.strip("/") or 0),
        username=parts.username,
        password=parts.password,
        conn_timeout=1,
        conn_retries=0,
    )


def dump_job(job: dict[str, Any]) -> bytes:
    """A job in JSON. arq's own choice is pickle, which would let whoever can write to Redis run code in the worker."""
    return orjson.dumps(job)


def load_job(data: bytes) -> dict[str, Any]:
    """The job in these bytes. Raises ValueError."""
    job: dict[str, Any] = orjson.loads(data)
    return job


class Waker:
    """Puts a job's name and ids into Redis, or gives up quietly."""

    def __init__(self, redis_url: str) -> None:
        """Connects on first use, and again after any failure."""
        self._settings = redis_settings(redis_url)
        self._pool: ArqRedis | None = None

    async def wake(self, job: str, tenant: TenantId, object_id: UUID, trace_id: str | None = None) -> bool:
        """Whether the wake-up was handed over. False means that the sweeper will find the work instead."""
        try:
            async with asyncio.timeout(2):
                if self._pool is None:
                    self._pool = await create_pool(
                        self._settings,
                        default_queue_name=QUEUE,
                        job_serializer=dump_job,
                        job_deserializer=load_job,
                    )
                await self._pool.enqueue_job(job, int(tenant), str(object_id), trace_id)
        except (RedisError, OSError, TimeoutError) as error:
            self._pool = None
            _log.warning("wakeup.skipped", job=job, object_id=str(object_id), reason=type(error).__name__)
            return False
        return True

    async def close(self) -> None:
        """Let the connection go."""
        if self._pool is not None:
            await self._pool.aclose()
            self._pool = None
