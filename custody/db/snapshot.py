"""One snapshot for several questions, for one round trip more than the questions take.

The pool's usual way to a read-only transaction asks whether the connection lives, begins, sets isolation and tenant, and ends:
each of them a round trip, and each of them a trip through the toolkit. Here one message ends the transaction that the connection
was last used for, begins the next and says for whom. What nobody takes up again is ended a moment later. A connection that turns
out to be lost is replaced before anything was asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from custody.db.reader import LOST, ReaderLost
from custody.kernel.ids import CustomerId, TenantId

_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; "
LEFT_OPEN_S = 0.01
"""For so long a transaction that is done with may wait for the next one."""


class _Line:
    """One connection, lent to one caller at a time."""

    def __init__(self, conn: AsyncConnection) -> None:
        self.conn = conn
        self.is_open = False
        """Whether the transaction of whoever had it last has not ended yet."""

    async def say(self, words: str) -> None:
        if self.conn.sync_connection is None:
            raise ReaderLost
        driver: Any = self.conn.sync_connection.connection.driver_connection
        await driver.execute(words)

    async def begin(self, tenant: TenantId, customer: CustomerId | None) -> None:
        await self.say(f"{'COMMIT; ' if self.is_open else ''}{_BEGIN}{_act_for(tenant, customer)}")
        self.is_open = True

    async def end(self) -> None:
        await self.say("COMMIT")
        self.is_open = False

    async def drop(self) -> None:
        """Hang up, whatever state it is in."""
        with suppress(*LOST):
            await self.conn.invalidate()
            await self.conn.close()


class Snapshots:
    """Read-only transactions over an engine that begins none by itself."""

    def __init__(self, engine: AsyncEngine, size: int) -> None:
        """`engine`: with isolation level AUTOCOMMIT and no pool. `size` bounds the connections; who finds none free waits."""
        self.engine = engine
        self._free = asyncio.Semaphore(size)
        self._idle: list[_Line] = []
        self._tidying: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def open(self, tenant: TenantId, customer: CustomerId | None) -> AsyncIterator[AsyncConnection]:
        """A connection within one snapshot, as this tenant, or one customer of it, may see it. Raises ReaderLost."""
        async with self._free:
            line = await self._begun(tenant, customer)
            try:
                yield line.conn
            except BaseException:
                # A statement may have been cut off: whatever state it is in, nobody uses it again.
                await line.drop()
                raise
            self._idle.append(line)
            if self._tidying is None or self._tidying.done():
                self._tidying = asyncio.get_running_loop().create_task(self._tidy())

    async def _begun(self, tenant: TenantId, customer: CustomerId | None) -> _Line:
        while self._idle:
            line = self._idle.pop()
            try:
                await line.begin(tenant, customer)
            except LOST:
                await line.drop()  # idle while the server restarted: nothing was asked yet
            except BaseException:
                await line.drop()
                raise
            else:
                return line
        line = _Line(await self.engine.connect())
        try:
            await line.begin(tenant, customer)
        except BaseException as error:
            await line.drop()
            if isinstance(error, LOST):
                raise ReaderLost from error
            raise
        return line

    async def _tidy(self) -> None:
        """End what is left open by those who are idle."""
        while True:
            await asyncio.sleep(LEFT_OPEN_S)
            left = [line for line in self._idle if line.is_open]
            if not left:
                return
            for line in left:
                if line in self._idle and line.is_open:
                    self._idle.remove(line)
                    try:
                        await line.end()
                    except LOST:
                        await line.drop()
                    except BaseException:
                        await line.drop()
                        raise
                    else:
                        self._idle.insert(0, line)

    async def close(self) -> None:
        """Hang up."""
        if self._tidying is not None:
            self._tidying.cancel()
            await asyncio.wait({self._tidying})
            self._tidying = None
        while self._idle:
            await self._idle.pop().drop()
        await self.engine.dispose()


def _act_for(tenant: TenantId, customer: CustomerId | None) -> str:
    """Both are numbers by the time they are written into a statement. SET, since a SELECT would have to be planned each time."""
    told = f"SET LOCAL app.tenant = '{int(tenant)}'"
    return told if customer is None else f"{told}; SET LOCAL app.customer = '{UUID(int=customer.int)}'"
