"""One worker per chain, one process per backfill: a session-level advisory lock of Postgres on a connection of its own.

The lock spares two workers the work; the fence is what keeps the slower of them from writing.
"""

from __future__ import annotations

import hashlib
import os
import socket
from types import TracebackType
from typing import Self
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from custody.db.session import Database
from custody.kernel.assetid import ChainId


class Lease:
    """The right to follow one chain, or to carry out one backfill of it, held as long as the connection lives."""

    def __init__(self, db: Database, chain: ChainId, backfill: UUID | None = None) -> None:
        """Nothing is asked of the database yet."""
        self._db = db
        what = chain if backfill is None else f"{chain}/{backfill}"
        digest = hashlib.sha256(f"ingestion/{what}".encode()).digest()
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
        """Try to take the lock. False while another worker has it."""
        if self._conn is None:
            return False
        rows = await self._conn.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": self._key})
        return bool(rows.scalar_one())


def this_process() -> str:
    """How a holder is shown to operators: host and process id."""
    return f"{socket.gethostname()}/{os.getpid()}"
