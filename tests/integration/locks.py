"""Waiting for others to wait: how tests of locks know that somebody stands where they should."""

from __future__ import annotations

import asyncio

from sqlalchemy import text

from custody.db.session import Database, UnitOfWork


async def until_someone_waits(database: Database, many: int = 1) -> None:
    """Return once so many sessions of this database wait for an advisory lock."""
    async with asyncio.timeout(20):
        while True:
            async with database.read(None) as session:
                waiting = await session.conn.execute(
                    text(
                        "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
                        " WHERE NOT granted AND locktype = 'advisory' AND datname = current_database()"
                    )
                )
            if waiting.scalar_one() >= many:
                return


async def hold_the_ledger(uow: UnitOfWork) -> None:
    """Have the tenant's batches wait at the ledger's gate until this transaction ends."""
    await uow.conn.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended('ledger_post', :tenant))"), {"tenant": uow.tenant}
    )
