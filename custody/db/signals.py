"""Says between processes that something was committed, by LISTEN and NOTIFY: whoever waits for it looks now.

Best effort, with polling behind it: nothing is lost when nobody hears. The business transactions themselves do not NOTIFY, since
Postgres lets only one transaction that does commit at a time; after them one connection of each process tells what they did.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection
from typing import Any

import asyncpg
import structlog

from custody.kernel.ids import TenantId

EMITTED = "custody_emitted"
"""Events stand in the outbox and have no place in the feed yet."""
RELAYED = "custody_relayed"
"""Events have got their places in the feed."""
_AGAIN_S = 1.0
"""How long to wait before a lost connection is made again."""
_TIMEOUT_S = 5.0
_LOST = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)  # a timeout is an OSError

_log = structlog.get_logger(__name__)


class Signals:
    """Tells others. What is to be told while a telling is on its way is gathered, and told with the next."""

    def __init__(self, url: str) -> None:
        """Connects on first use, and again after any failure."""
        self._url = url
        self._waiting: set[tuple[str, TenantId]] = set()
        self._telling: asyncio.Task[None] | None = None
        self._connection: asyncpg.Connection[Any] | None = None

    def tell(self, channel: str, tenants: Collection[TenantId]) -> None:
        """That there is something of these tenants. Returns at once."""
        self._waiting |= {(channel, tenant) for tenant in tenants}
        if self._telling is None or self._telling.done():
            self._telling = asyncio.get_running_loop().create_task(self._tell_all())

    async def close(self) -> None:
        """Stop telling."""
        if self._telling is not None:
            self._telling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._telling
        self._drop()

    async def _tell_all(self) -> None:
        while self._waiting:
            told, self._waiting = self._waiting, set()
            try:
                if self._connection is None:
                    self._connection = await asyncpg.connect(self._url, timeout=_TIMEOUT_S)
                await self._connection.execute(
                    "SELECT pg_notify(c, t) FROM unnest($1::text[], $2::text[]) AS each(c, t)",
                    [channel for channel, _ in told],
                    [str(tenant) for _, tenant in told],
                    timeout=_TIMEOUT_S,
                )
            except _LOST as error:
                _log.warning("signals.untold", reason=type(error).__name__)
                self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


class Ear:
    """What was heard and not yet looked at, on one channel."""

    def __init__(self, url: str, channel: str) -> None:
        """Nothing is heard before `run`."""
        self._url = url
        self._channel = channel
        self._heard: set[TenantId] = set()
        self._news = asyncio.Event()

    async def wait(self, patience_s: float) -> set[TenantId]:
        """The tenants that were told of since the last time, as soon as there is one; nobody when time runs out."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await self._news.wait()
        return self.heard()

    def heard(self) -> set[TenantId]:
        """The same without waiting."""
        heard, self._heard = self._heard, set()
        self._news.clear()
        return heard

    def nudge(self) -> None:
        """End a wait."""
        self._news.set()

    async def run(self) -> None:
        """Listen until cancelled; a lost connection is made again."""
        while True:
            try:
                connection = await asyncpg.connect(self._url, timeout=_TIMEOUT_S)
                await self._listen(connection)
            except _LOST as error:
                _log.warning("signals.deaf", channel=self._channel, reason=type(error).__name__)
            await asyncio.sleep(_AGAIN_S)

    async def _listen(self, connection: asyncpg.Connection[Any]) -> None:
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        try:
            await connection.add_listener(self._channel, self._hear)
            await lost.wait()
        finally:
            connection.terminate()

    def _hear(self, *told: object) -> None:
        payload = told[-1]
        if isinstance(payload, str) and payload.isascii() and payload.isdigit():
            self._heard.add(TenantId(int(payload)))
            self._news.set()
