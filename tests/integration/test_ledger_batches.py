"""Every call that moves money leaves one root, which anybody can compute again from the rows."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

import asyncpg
import pytest

from custody.assets import service as assets
from custody.db.session import Database
from custody.kernel.assetid import parse_asset_id
from custody.kernel.ids import TenantId, derived_uuid, new_uuid
from custody.kernel.money import MAX_ATOMIC, Amount
from custody.ledger import postings, service
from custody.ledger.leaves import leaf_hash, root, transfer_encoding
from custody.ledger.model import (
    AccountKey,
    AccountKind,
    Command,
    Hold,
    OpenAccount,
    PostHold,
    Reverse,
    Transfer,
    TransferCode,
    VoidHold,
)
from tests.fakes.ledger_invariants import broken_invariants

XLM = parse_asset_id("stellar:devnet/native")
EQUITY = AccountKey(kind=AccountKind.EQUITY, owner=None, asset=XLM)
VAULT = postings.vault_account(derived_uuid("vault"), XLM)
WALLETS = [postings.wallet_account(derived_uuid("wallet", n), XLM) for n in range(4)]


@pytest.fixture(autouse=True)
async def opened(database: Database, tenant: TenantId) -> None:
    async with database.unit_of_work(tenant) as uow:
        await assets.register(uow, XLM, "XLM", 7)
        await service.post(uow, *(OpenAccount(key=key) for key in (EQUITY, VAULT, *WALLETS)))


@pytest.fixture
async def admin(admin_dsn: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(admin_dsn)
    yield connection
    await connection.close()


def move(
    atomic: int, debit: AccountKey = VAULT, credit: AccountKey = WALLETS[0], dated: datetime | None = None
) -> Transfer:
    return Transfer(
        id=new_uuid(),
        debit=debit,
        credit=credit,
        amount=Amount(XLM, atomic),
        code=TransferCode.DEPOSIT,
        reference=new_uuid(),
        effective_at=dated,
    )


async def submit(database: Database, tenant: TenantId, *chains: list[Command]) -> list[str]:
    async with database.unit_of_work(tenant) as uow:
        outcomes = await service.submit(uow, chains)
    async with database.read(tenant) as session:
        assert await broken_invariants(session) == []
    return [outcome.result.value for outcome in outcomes]


async def batches(admin: asyncpg.Connection[Any]) -> list[int]:
    """Sizes of all batches, each root proved from the rows as they lie there."""
    rows = await admin.fetch("SELECT * FROM ledger_transfers ORDER BY batch_id, leaf")
    derived = []
    for number, members in groupby(rows, key=lambda row: row["batch_id"]):
        leaves = [leaf_hash(transfer_encoding(row)) for row in members]
        derived.append((number, len(leaves), root(leaves)))
    stored = await admin.fetch("SELECT id, transfers, root FROM ledger_batches ORDER BY id")
    assert [tuple(row) for row in stored] == derived
    return [size for _, size, _ in derived]


async def test_roots_of_many_sizes_are_those_of_their_rows(
    database: Database, tenant: TenantId, admin: asyncpg.Connection[Any]
) -> None:
    sizes = [1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33, 100]
    for size in sizes:
        await submit(database, tenant, *([move(n + 1)] for n in range(size)))
    assert await batches(admin) == sizes


async def test_roots_cover_every_kind_of_entry_and_the_widest_values(
    database: Database, tenant: TenantId, admin: asyncpg.Connection[Any]
) -> None:
    deposit = move(MAX_ATOMIC - 5, dated=datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC))
    held = [
        Hold(
            id=new_uuid(),
            debit=WALLETS[0],
            credit=VAULT,
            amount=Amount(XLM, 10**30),
            code=TransferCode.WITHDRAWAL,
            reference=new_uuid(),
        )
        for _ in range(2)
    ]
    overdrawn = move(7, EQUITY, WALLETS[1], datetime(2099, 1, 1, tzinfo=UTC))
    answered = await submit(
        database,
        tenant,
        [deposit],
        [*held, PostHold(id=new_uuid(), hold_id=held[0].id, amount=Amount(XLM, 3), final=True)],
        [VoidHold(id=new_uuid(), hold_id=held[1].id)],
        [overdrawn],
        [Reverse(id=new_uuid(), transfer_id=overdrawn.id, effective_at=datetime(1980, 1, 1, tzinfo=UTC))],
    )
    assert answered == ["applied"] * 7
    assert await batches(admin) == [7]


async def test_refused_chains_leave_no_leaf_and_no_gap(
    database: Database, tenant: TenantId, admin: asyncpg.Connection[Any]
) -> None:
    refused = move(500, WALLETS[0], WALLETS[1])
    answered = await submit(
        database, tenant, [move(5)], [move(6), move(7), refused, move(8)], [move(9)], [refused], [move(1)]
    )
    assert answered.count("applied") == 3
    assert await batches(admin) == [3]


async def test_the_event_of_a_batch_names_a_command_that_was_applied(
    database: Database, tenant: TenantId, admin: asyncpg.Connection[Any]
) -> None:
    """The first leaf was given to a command that its chain took back, then to the next one."""
    taken_back, applied = move(6), move(9)
    await submit(database, tenant, [taken_back, move(500, WALLETS[0], WALLETS[1])], [applied])
    assert await admin.fetchval("SELECT object_id FROM outbox WHERE type = 'ledger.posted'") == applied.id


async def test_calls_that_move_nothing_leave_no_batch(
    database: Database, tenant: TenantId, admin: asyncpg.Connection[Any]
) -> None:
    deposit = move(5)
    await submit(database, tenant, [deposit])
    await submit(database, tenant, [deposit], [move(500, WALLETS[0], WALLETS[1])], [OpenAccount(key=VAULT)])
    assert await batches(admin) == [1]


async def test_random_batches_are_proved_by_their_rows(
    database: Database, tenant: TenantId, admin: asyncpg.Connection[Any]
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    chance = random.Random(seed)
    for _ in range(25):
        chains: list[list[Command]] = []
        for _ in range(chance.randint(1, 40)):
            pair = chance.sample([*WALLETS, VAULT, EQUITY], 2)
            days = chance.choice((None, -400, -1, 30))
            dated = None if days is None else datetime.now(UTC) + timedelta(days=days)
            chains.append([move(chance.randint(1, 9), pair[0], pair[1], dated)])
        await submit(database, tenant, *chains)
    assert await batches(admin), f"seed {seed}"


async def test_a_changed_row_is_seen(
    database: Database, tenant: TenantId, admin: asyncpg.Connection[Any]
) -> None:
    await submit(database, tenant, [move(5)], [move(6)])
    await admin.execute("ALTER TABLE ledger_transfers DISABLE TRIGGER ALL")
    await admin.execute("UPDATE ledger_transfers SET reference = gen_random_uuid() WHERE leaf = 1")
    with pytest.raises(AssertionError):
        await batches(admin)


async def test_a_batch_names_the_transaction_that_wrote_it(
    database: Database, tenant: TenantId, admin: asyncpg.Connection[Any]
) -> None:
    async with database.unit_of_work(tenant) as uow:
        await service.post(uow, move(1))
        await service.post(uow, move(2))
        written = (await uow.conn.exec_driver_sql("SELECT pg_current_xact_id()::text")).scalar_one()
    rows = await admin.fetch("SELECT xid::text, id FROM ledger_batches ORDER BY id")
    assert [row["xid"] for row in rows] == [written, written]
