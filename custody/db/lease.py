"""The right to be the only one who does something, as long as a connection lives: a session-level advisory lock of Postgres.

The lock spares two processes the work. What must not be written twice needs a fence or a compare-and-swap beside it.
"""

from __future__ import annotations

import hashlib
from types import TracebackType
from typing import Self

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from custody.db.session import Database


class Lease:
    """A lock of this name on a connection of its own."""

    def __init__(self, db: Database, name: str) -> None:
        """Nothing is asked of the database yet."""
        self._db = db
        digest = hashlib.sha256(name.encode()).digest()
        self._key = int.from_bytes(digest[:8], "big", signed=True)
        self._conn: AsyncConnection | None = None

    async def __aenter__(self) -> Self:
        plain = await self._db.engine.connect()
        self._conn = await plain.execution_options(isolation_level="AUTOCOMMIT")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._conn is not None:
            # The connection goes, and the lock with it; a pooled one would keep it.
            await self._conn.invalidate()
            await self._conn.close()
            self._conn = None

    async def take(self) -> bool:
        """Try to take the lock. False while another process has it; an error when the connection, and the lock, is gone."""
        if self._conn is None:
            return False
        rows = await self._conn.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": self._key})
        return bool(rows.scalar_one())
