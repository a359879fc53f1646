"""No statement of the ledger does more work because more is stored: a thousand accounts against a hundred thousand.

Counted in rows and blocks by the server's own statistics, never in time. The great number is written directly by the owner, since
only its size matters; what is posted and read goes through the product.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import asyncpg
import pytest
from sqlalchemy import text

from custody.assets import service as assets
from custody.db.session import Database, UnitOfWork
from custody.kernel.assetid import parse_asset_id
from custody.kernel.ids import TenantId, derived_uuid, new_uuid
from custody.kernel.money import Amount
from custody.ledger import postings, service
from custody.ledger.model import (
    AccountKey,
    Command,
    Hold,
    OpenAccount,
    PostHold,
    Reverse,
    Transfer,
    TransferCode,
    VoidHold,
)

pytestmark = pytest.mark.unused_database
XLM = parse_asset_id("stellar:devnet/native")
VAULT = postings.vault_account(derived_uuid("vault"), XLM)
ACCOUNTS = 1_000
MORE = 99_000
SIZES = (1, 10, 100, 1000)
ROWS_PER_ENTRY = 3
"""Of a walk along an account's history: the batch, and the transfer looked at for either leg."""
BLOCKS_PER_ENTRY = 60
"""The same in pages: an index probe of a few pages for the batch and for either leg in each partition that may hold it."""
LATER = datetime(2100, 1, 1, tzinfo=UTC)

_FLUSH = text("SELECT pg_stat_force_next_flush()")
_COUNTED = """
SELECT coalesce(sum(s.seq_tup_read), 0)::bigint AS scanned,
       coalesce(sum(coalesce(s.idx_tup_fetch, 0) + s.seq_tup_read), 0)::bigint AS rows,
       coalesce(sum(i.heap_blks_hit + i.heap_blks_read + coalesce(i.idx_blks_hit + i.idx_blks_read, 0)), 0)::bigint AS blocks
  FROM pg_stat_user_tables s JOIN pg_statio_user_tables i USING (relid)
 WHERE s.relname LIKE 'ledger%' AND s.relname <> 'ledger_chart'
"""
_GROWTH = """
WITH vault AS MATERIALIZED (
  SELECT version, head, clock_timestamp() AS now, nextval('ledger_batch_numbers') AS batch
    FROM ledger_accounts WHERE tenant_id = $1 AND id = $2),
numbered AS MATERIALIZED (
  SELECT gen_random_uuid() AS id, gen_random_uuid() AS made, n, v.batch << 20 | n - 1 AS place
    FROM generate_series(1::bigint, $4) AS n, vault v),
accounts AS (
  INSERT INTO ledger_accounts (tenant_id, id, kind, owner, asset_id, normal_side, guard, version, credits_posted, head, booked_at)
  SELECT $1, x.id, 'wallet', gen_random_uuid(), (SELECT number FROM assets WHERE id = $3), 'credit', 'always', 1, 1, x.place,
         v.now
    FROM numbered x, vault v),
transfers AS (
  INSERT INTO ledger_transfers (tenant_id, id, chain_id, kind, code, reference, debit_account, credit_account, posted, pending,
                                debit_version, debit_balance, debit_held, credit_version, credit_balance, credit_held, booked_at,
                                effective_at, batch_id, leaf, debit_prior, credit_prior)
  SELECT $1, x.made, x.made, 'transfer', 'deposit', x.made, $2, x.id, 1, 0, v.version + x.n, v.version + x.n, 0, 1, 1, 0,
         v.now, v.now, v.batch, x.n - 1, CASE x.n WHEN 1 THEN v.head ELSE x.place - 1 END, 0
    FROM numbered x, vault v),
batches AS (
  INSERT INTO ledger_batches (tenant_id, id, transfers, root, booked_at)
  SELECT $1, v.batch, $4, sha256(''), v.now FROM vault v),
holds AS (
  INSERT INTO ledger_holds (tenant_id, id, debit_account, credit_account, amount, posted, remaining, state, expires_at, code,
                            reference, booked_at, changed_at)
  SELECT $1, gen_random_uuid(), x.id, $2, 1, 0, 1, 'open', $5, 'withdrawal', x.made, v.now, v.now FROM numbered x, vault v),
commands AS (
  INSERT INTO ledger_commands (tenant_id, id, kind, request_hash, result, booked_at)
  SELECT $1, gen_random_uuid(), 'transfer', sha256(''), 'insufficient_funds', v.now FROM numbered x, vault v),
counted AS (
  UPDATE ledger_accounts SET version = ledger_accounts.version + $4, head = v.batch << 20 | $4 - 1
    FROM vault v WHERE tenant_id = $1 AND id = $2)
SELECT count(*) FROM numbered
"""

Admin: TypeAlias = "asyncpg.Connection[Any]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What the server did on the ledger's tables."""

    scanned: int
    """Rows read by going through a whole table."""
    rows: int
    blocks: int


def wallet(number: int) -> AccountKey:
    return postings.wallet_account(derived_uuid("wallet", number), XLM)


def moved(kind: type[Transfer | Hold], number: int, **extra: Any) -> Transfer | Hold:
    return kind(
        id=new_uuid(),
        debit=wallet(number % ACCOUNTS),
        credit=wallet((number + 1) % ACCOUNTS),
        amount=Amount(XLM, 2),
        code=TransferCode.WALLET_TRANSFER,
        reference=new_uuid(),
        **extra,
    )


class Stock:
    """Holds to end and transfers to reverse, booked beforehand and each used once."""

    def __init__(self) -> None:
        self.holds = [moved(Hold, n, expires_at=LATER) for n in range(2_400)]
        self.transfers = [moved(Transfer, n) for n in range(1_200)]

    def chains(self, size: int) -> list[list[Command]]:
        """So many commands of every kind, each on accounts of its own as far as there are enough."""
        makers: list[Callable[[int], Command]] = [
            lambda n: moved(Transfer, n),
            lambda n: moved(Hold, n, expires_at=LATER),
            lambda n: PostHold(id=new_uuid(), hold_id=self.holds.pop().id),
            lambda n: VoidHold(id=new_uuid(), hold_id=self.holds.pop().id),
            lambda n: Reverse(id=new_uuid(), transfer_id=self.transfers.pop().id),
        ]
        return [[makers[n % len(makers)](n)] for n in range(size)]


@pytest.fixture
async def admin(admin_dsn: str) -> AsyncIterator[Admin]:
    connection = await asyncpg.connect(admin_dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def stock(database: Database, tenant: TenantId, admin: Admin) -> Stock:
    """A thousand wallets with money in them, and the statistics that autovacuum gathers within a minute."""
    async with database.unit_of_work(None) as uow:
        await assets.register(uow, XLM, "XLM", 7)
    made = await stocked(database, tenant)
    await admin.execute("ANALYZE")
    return made


async def stocked(database: Database, tenant: TenantId) -> Stock:
    """A tenant's thousand wallets, its holds and its transfers."""
    made = Stock()
    async with database.unit_of_work(tenant) as uow:
        await service.submit(uow, [[OpenAccount(key=wallet(n))] for n in range(ACCOUNTS)])
        await service.post(uow, OpenAccount(key=VAULT))
        funds = [
            Transfer(
                id=new_uuid(),
                debit=VAULT,
                credit=wallet(n),
                amount=Amount(XLM, 1_000),
                code=TransferCode.DEPOSIT,
                reference=new_uuid(),
            )
            for n in range(ACCOUNTS)
        ]
        for commands in (funds, made.holds, made.transfers):
            outcomes = await service.submit(uow, [[command] for command in commands])
            assert {o.result.value for o in outcomes} == {"applied"}
        await uow.conn.execute(_FLUSH)  # or what this has counted would be counted to whoever comes next
    return made


async def grow(admin: Admin, tenant: TenantId) -> None:
    """As many accounts more as make a hundred thousand, each with a transfer from the vault, a hold and a refusal."""
    vault = VAULT.id_for(tenant)
    assert await admin.fetchval(_GROWTH, tenant, vault, XLM.text, MORE, LATER) == MORE
    await admin.execute("ANALYZE")


async def measured(
    admin: Admin, database: Database, tenant: TenantId, call: Callable[[UnitOfWork], Awaitable[object]]
) -> Work:
    """What the server does for one call. The statistics of its session are flushed before its transaction has ended."""
    before = await admin.fetchrow(_COUNTED)
    async with database.unit_of_work(tenant) as uow:
        await call(uow)
        await uow.conn.execute(_FLUSH)
    after = await admin.fetchrow(_COUNTED)
    assert before is not None
    assert after is not None
    return Work(**{name: after[name] - before[name] for name in ("scanned", "rows", "blocks")})


async def posting(admin: Admin, database: Database, tenant: TenantId, stock: Stock) -> dict[int, Work]:
    """Work for calls of each size."""
    found = {}
    for size in SIZES:
        chains = stock.chains(size)

        async def call(uow: UnitOfWork, chains: list[list[Command]] = chains) -> None:
            outcomes = await service.submit(uow, chains)
            assert {o.result.value for o in outcomes} == {"applied"}

        found[size] = await measured(admin, database, tenant, call)
    return found


async def test_posting_does_not_work_more_when_more_is_stored(
    database: Database, tenant: TenantId, admin: Admin, stock: Stock
) -> None:
    few = await posting(admin, database, tenant, stock)
    await database.close()
    await grow(admin, tenant)
    many = await posting(admin, database, tenant, stock)
    assert not any(work.scanned for work in (*few.values(), *many.values())), (few, many)
    for size in SIZES:
        # A call's own few rows, and a few more for each command; an index may be one level deeper than it was.
        assert few[size].rows <= 20 + 12 * size, (few, many)
        assert many[size].rows <= few[size].rows * 1.1 + 5, (few, many)
        assert many[size].blocks <= few[size].blocks * 2 + 40, (few, many)


async def test_a_tenant_that_statistics_do_not_know_yet_costs_no_more(
    database: Database, tenant: TenantId, other_tenant: TenantId, admin: Admin, stock: Stock
) -> None:
    """One that came since the tables were last analysed, which for big tables may be long ago: to the planner it has no rows."""
    await grow(admin, tenant)
    new = await stocked(database, other_tenant)
    await database.close()
    found = await posting(admin, database, other_tenant, new)
    for size in SIZES:
        assert found[size].rows <= 20 + 12 * size, found


READS: dict[str, Callable[[UnitOfWork], Awaitable[object]]] = {
    "balance": lambda uow: service.balance(uow, wallet(7)),
    "balances of an owner": lambda uow: service.balances(uow, VAULT.kind, VAULT.owner),
    "page of a statement": lambda uow: service.statement(uow, VAULT, 500, 20),
    "balance at a time": lambda uow: service.balance_at(uow, VAULT, datetime.now(UTC) - timedelta(seconds=1)),
    "balance by value date": lambda uow: service.balance_at_effective(uow, VAULT, datetime.now(UTC)),
    "holds that are due": lambda uow: service.expire_due(uow, datetime.now(UTC)),
    "account": lambda uow: service.find_account(uow, wallet(7)),
}


async def test_reading_does_not_work_more_when_more_is_stored(
    database: Database, tenant: TenantId, admin: Admin, stock: Stock
) -> None:
    few = {name: await measured(admin, database, tenant, read) for name, read in READS.items()}
    await database.close()
    await grow(admin, tenant)
    many = {name: await measured(admin, database, tenant, read) for name, read in READS.items()}
    for name in READS:
        assert many[name].scanned == 0, (name, few[name], many[name])
        # A past balance is found by bisection over marks: a hundred times the history is seven more probes. From there a walk
        # reads at most 63 entries, each with its batch, and how many of them is chance.
        assert many[name].rows <= few[name].rows + 20 + 63 * ROWS_PER_ENTRY, (name, few[name], many[name])
        assert many[name].blocks <= few[name].blocks * 2 + 100 + 63 * BLOCKS_PER_ENTRY, (
            name,
            few[name],
            many[name],
        )
