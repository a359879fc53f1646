"""What a call reads does not grow with what is stored. Counted in rows read, by the server's own statistics, never in time."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from custody.assets import service as assets
from custody.db.session import Database, UnitOfWork
from custody.kernel.assetid import parse_asset_id
from custody.kernel.ids import TenantId, derived_uuid, new_uuid
from custody.kernel.money import Amount
from custody.ledger import postings, service
from custody.ledger.model import Command, Hold, PostHold, Reverse, Transfer, TransferCode

pytestmark = pytest.mark.unused_database
XLM = parse_asset_id("stellar:devnet/native")
VAULT = postings.vault_account(derived_uuid("vault"), XLM)
ACCOUNTS = 600
ROUNDS = 3

_ROWS_READ = text(
    "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_user_tables WHERE relname LIKE 'ledger%'"
)


def deposit(number: int) -> tuple[Command, ...]:
    return postings.deposit_credited(
        deposit_id=new_uuid(),
        vault_id=derived_uuid("vault"),
        wallet_id=derived_uuid("wallet", number),
        amount=Amount(XLM, 100),
    )


@pytest.fixture(autouse=True)
async def filled(database: Database, tenant: TenantId, admin_dsn: str) -> None:
    """Hundreds of accounts, thousands of transfers and holds, and the statistics that autovacuum gathers within a minute."""
    async with database.unit_of_work(tenant) as uow:
        await assets.register(uow, XLM, "XLM", 7)
        for _ in range(ROUNDS):
            await service.submit(uow, [deposit(n) for n in range(ACCOUNTS)])
            await service.submit(uow, [held(n)[:1] for n in range(ACCOUNTS)])
    admin = Database(admin_dsn)
    async with admin.unit_of_work(None) as uow:
        await uow.conn.execute(text("ANALYZE"))
    await admin.close()


def held(number: int) -> tuple[Command, ...]:
    hold = Hold(
        id=new_uuid(),
        debit=postings.wallet_account(derived_uuid("wallet", number), XLM),
        credit=VAULT,
        amount=Amount(XLM, 10),
        code=TransferCode.WITHDRAWAL,
        reference=new_uuid(),
    )
    return hold, PostHold(id=new_uuid(), hold_id=hold.id)


async def rows_read(uow: UnitOfWork) -> int:
    return int((await uow.conn.execute(_ROWS_READ)).scalar_one() or 0)


async def test_a_call_reads_a_few_rows_per_command_however_much_is_stored(
    database: Database, tenant: TenantId
) -> None:
    most = 0
    # More calls than it takes for Postgres to go over to generic plans.
    async with database.unit_of_work(tenant) as uow:
        for call in range(12):
            hold, post = held(call)
            transfer = deposit(call)[-1]
            assert isinstance(transfer, Transfer)
            before = await rows_read(uow)
            outcomes = await service.post(
                uow, *deposit(call), hold, post, transfer, Reverse(id=new_uuid(), transfer_id=transfer.id)
            )
            most = max(most, await rows_read(uow) - before)
            assert len(outcomes) == 7
    assert most <= 60


async def test_a_read_reads_what_it_answers(database: Database, tenant: TenantId) -> None:
    async with database.unit_of_work(tenant) as uow:
        for number in range(12):
            key = postings.wallet_account(derived_uuid("wallet", number), XLM)
            before = await rows_read(uow)
            entries = await service.statement(uow, key, 1, 3)
            assert len(entries) == 3
            await service.balance(uow, key)
            await service.balances(uow, key.kind, key.owner)
            page = await service.statement(uow, VAULT, 1000, 5)
            assert len(page) == 5
            past = await service.balance_at(uow, VAULT, page[0].booked_at)
            assert past.version >= page[0].version
            # Three walks, each at most 63 entries from its mark, and three rows an entry: its batch, and either leg.
            assert await rows_read(uow) - before <= 80 + 3 * 63 * 3
