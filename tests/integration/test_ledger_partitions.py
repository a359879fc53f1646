"""Partitions of the months to come: made ahead by the application's own role, guarded like the rest, never in the way."""

from __future__ import annotations

from datetime import UTC, datetime

import asyncpg
import pytest

from custody.db.session import Database
from custody.kernel.ids import TenantId
from custody.ledger import partitions
from custody.ledger.errors import LedgerBusy
from tests.fakes.passing_months import later, let_pass
from tests.fakes.sealed_books import open_books, pay, post

YEAR_AHEAD = datetime.combine(later(12), datetime.min.time(), UTC)


async def prepare(database: Database, now: datetime) -> int:
    async with database.unit_of_work(None) as uow:
        return await partitions.prepare(uow, now)


async def test_a_new_database_has_the_months_that_come_soon(database: Database) -> None:
    assert await prepare(database, datetime.now(UTC)) <= 1


async def test_the_application_prepares_months_ahead_once(database: Database) -> None:
    made = await prepare(database, YEAR_AHEAD)
    assert made in (11, 12)
    assert await prepare(database, YEAR_AHEAD) == 0


async def test_a_prepared_month_takes_its_transfers_and_guards_them(
    database: Database, tenant: TenantId, admin_dsn: str
) -> None:
    await open_books(database, tenant)
    await prepare(database, YEAR_AHEAD)
    await let_pass(admin_dsn, 12)
    await post(database, tenant, pay(0, 1, 5))
    name = f"ledger_transfers_{later(12):%Y_%m}"
    connection = await asyncpg.connect(admin_dsn)
    assert await connection.fetchval(f"SELECT count(*) FROM {name}") == 1
    for statement in (f"TRUNCATE {name}", f"DELETE FROM {name}", f"UPDATE {name} SET posted = 1"):
        with pytest.raises(asyncpg.RestrictViolationError):
            await connection.execute(statement)
    await connection.execute("SET ROLE custody_owner")
    assert await connection.fetchval(f"SELECT count(*) FROM {name}") == 0  # no tenant, no rows
    await connection.close()


async def test_a_long_reader_puts_it_off(database: Database, tenant: TenantId, admin_dsn: str) -> None:
    reader = await asyncpg.connect(admin_dsn)
    async with reader.transaction():
        await reader.fetch("SELECT count(*) FROM ledger_transfers")
        with pytest.raises(LedgerBusy):
            await prepare(database, YEAR_AHEAD)
        await open_books(database, tenant)
    await reader.close()
    assert await prepare(database, YEAR_AHEAD) > 0
