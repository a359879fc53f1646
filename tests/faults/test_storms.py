"""Whoever pays whom in whatever order: no caller of the ledger ever meets a deadlock, and Postgres has none to resolve."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import asyncpg
import pytest

from custody.db.session import Database
from custody.kernel.ids import TenantId
from custody.ledger import service
from tests.fakes.ledger_invariants import broken_invariants
from tests.faults.doors import SingleDoor
from tests.faults.plan import WALLETS, prepare
from tests.faults.storms import RING, around, storm


@pytest.fixture
async def tenant(database: Database) -> TenantId:
    return await prepare(database, "storm")


async def deadlocks(dsn: str) -> int:
    """How many this database has met. Asked when all its sessions have ended and told what they counted."""
    connection = await asyncpg.connect(dsn)
    try:
        async with asyncio.timeout(30):
            while True:
                others = (
                    "FROM pg_stat_activity WHERE datname = current_database() AND usename = 'custody_app'"
                )
                if not await connection.fetchval(f"SELECT count(*) {others}"):
                    break
                await asyncio.sleep(0.01)
        counted = await connection.fetchval(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        )
    finally:
        await connection.close()
    return int(counted)


async def test_storms_in_opposite_directions_meet_no_deadlock(
    database: Database, tenant: TenantId, app_dsn: str, admin_dsn: str
) -> None:
    seed = random.SystemRandom().randrange(2**31)
    async with database.read(tenant) as session:
        before = [(await service.balance(session, key)).posted for key in RING]
    results = await storm(database, tenant, app_dsn, seed)
    assert set(results) == {"applied"}, f"seed {seed}: {results}"
    assert results["applied"] > 1000
    async with database.read(tenant) as session:
        assert await broken_invariants(session) == []
        assert [(await service.balance(session, key)).posted for key in RING] == before
    await database.close()
    assert await deadlocks(admin_dsn) == 0, f"seed {seed}"


async def test_two_accounts_pay_each_other_from_every_connection_at_once(
    database: Database, tenant: TenantId, admin_dsn: str
) -> None:
    door, pair = SingleDoor(database), WALLETS[:2]

    async def payer(number: int) -> Counter[str]:
        results: Counter[str] = Counter()
        for _ in range(20):
            outcomes = await door.submit(tenant, around(pair if number % 2 else pair[::-1])[:1])
            results.update(outcome.result.value for outcome in outcomes)
        return results

    answers = sum(await asyncio.gather(*(payer(number) for number in range(20))), Counter[str]())
    assert answers == {"applied": 400}
    async with database.read(tenant) as session:
        assert await broken_invariants(session) == []
        assert [(await service.balance(session, key)).posted for key in pair] == [600, 600]
    await database.close()
    assert await deadlocks(admin_dsn) == 0
