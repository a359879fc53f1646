"""Single statements that only read, in one round trip each: what is asked for most often should wait for Postgres once.

A statement outside an explicit transaction is a transaction and a snapshot of its own. The tenant that row-level security
compares with is set for the session, and only when it changes; these connections are never lent to anybody else, and cannot
write.
"""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg

from custody.kernel.ids import TenantId

_ACT_FOR = "SELECT set_config('app.tenant', $1, false)"
LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)
ANSWER_S = 30
"""A statement that takes longer counts as lost."""


class ReaderLost(ConnectionError):
    """Postgres did not answer, also over a fresh connection."""


class _Line:
    """One connection, and the tenant that it acts for."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self.connection = connection
        self.tenant = ""

    async def fetch(self, tenant: str, sql: str, values: tuple[object, ...]) -> list[asyncpg.Record]:
        if tenant != self.tenant:
            await self.connection.fetchval(_ACT_FOR, tenant)
            self.tenant = tenant
        return await self.connection.fetch(sql, *values)


class Reader:
    """A few connections that are opened when they are needed."""

    def __init__(self, url: str, size: int) -> None:
        """`size` bounds the connections; who finds none free waits for one."""
        self._url = url
        self._free = asyncio.Semaphore(size)
        self._idle: list[_Line] = []

    async def fetch(self, tenant: TenantId | None, sql: str, *values: object) -> list[asyncpg.Record]:
        """The rows, as this tenant may see them; for nobody, what belongs to no tenant. Raises ReaderLost."""
        shown = "" if tenant is None else str(tenant)
        async with self._free:
            while (line := self._take(shown)) is not None:
                try:
                    return await self._ask(line, shown, sql, values)
                except LOST:
                    continue  # it may have been idle while the server restarted: nothing was changed, so ask on another
            try:
                return await self._ask(await self._open(), shown, sql, values)
            except LOST as error:
                raise ReaderLost from error

    async def _ask(
        self, line: _Line, tenant: str, sql: str, values: tuple[object, ...]
    ) -> list[asyncpg.Record]:
        try:
            rows = await line.fetch(tenant, sql, values)
        except BaseException:
            # Also when cancelled: whatever state the connection is in, nobody uses it again.
            line.connection.terminate()
            raise
        self._idle.append(line)
        return rows

    def _take(self, tenant: str) -> _Line | None:
        """An idle connection, of this tenant where there is one. The last one used first, so that the others may be closed."""
        for place in range(len(self._idle) - 1, -1, -1):
            if self._idle[place].tenant == tenant:
                return self._idle.pop(place)
        return self._idle.pop() if self._idle else None

    async def _open(self) -> _Line:
        settings = {"default_transaction_read_only": "on", "application_name": "custody-reader"}
        connection: Any = await asyncpg.connect(
            self._url, server_settings=settings, timeout=ANSWER_S, command_timeout=ANSWER_S
        )
        return _Line(connection)

    async def close(self) -> None:
        """Hang up."""
        while self._idle:
            self._idle.pop().connection.terminate()
