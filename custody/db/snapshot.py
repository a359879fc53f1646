"""One snapshot for several questions, for two round trips more than the questions take.

The pool's usual way to a read-only transaction asks whether the connection lives, begins, sets the tenant and ends: each of
them a round trip, and each of them a trip through the toolkit. Here the beginning says all of it in one message, and a
connection that turns out to be lost is replaced then. Statements go through the toolkit as ever.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from custody.db.reader import LOST, ReaderLost
from custody.kernel.ids import CustomerId, TenantId

_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; "


class Snapshots:
    """Read-only transactions over an engine that begins none by itself."""

    def __init__(self, engine: AsyncEngine, tries: int) -> None:
        """`engine`: with isolation level AUTOCOMMIT and connections of its own, of which at most `tries` are idle."""
        self.engine = engine
        self._tries = tries

    @asynccontextmanager
    async def open(self, tenant: TenantId, customer: CustomerId | None) -> AsyncIterator[AsyncConnection]:
        """A connection within one snapshot, as this tenant, or one customer of it, may see it. Raises ReaderLost."""
        conn = await self._begun(_BEGIN + _act_for(tenant, customer))
        try:
            try:
                yield conn
            finally:
                # What cannot be ended, as when a statement was cut off, must not be lent again with its transaction.
                await self._end(conn)
        finally:
            await conn.close()

    async def _begun(self, beginning: str) -> AsyncConnection:
        for _ in range(self._tries + 1):
            conn = await self.engine.connect()
            try:
                await _driver(conn).execute(beginning)
            except LOST:
                await _drop(conn)  # it may have been idle while the server restarted: nothing was asked yet
            except BaseException:
                await _drop(conn)
                raise
            else:
                return conn
        raise ReaderLost

    async def _end(self, conn: AsyncConnection) -> None:
        ended = False
        try:
            with suppress(*LOST):
                await _driver(conn).execute("COMMIT")
                ended = True
        finally:
            if not ended:
                await conn.invalidate()


def _act_for(tenant: TenantId, customer: CustomerId | None) -> str:
    """Both are numbers by the time they are written into a statement."""
    if customer is None:
        return f"SELECT set_config('app.tenant', '{int(tenant)}', true)"
    shown = UUID(int=customer.int)
    return (
        f"SELECT set_config('app.tenant', '{int(tenant)}', true), set_config('app.customer', '{shown}', true)"
    )


def _driver(conn: AsyncConnection) -> Any:
    """The driver's own connection."""
    if conn.sync_connection is None:
        raise ReaderLost
    return conn.sync_connection.connection.driver_connection


async def _drop(conn: AsyncConnection) -> None:
    await conn.invalidate()
    await conn.close()
