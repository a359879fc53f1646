"""What the worker's sweep does besides withdrawals."""

from __future__ import annotations

from datetime import timedelta

from custody import worker
from custody.db.session import Database
from custody.kernel.ids import TenantId, new_uuid
from custody.kernel.money import Amount
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.ledger.model import Hold, TransferCode
from tests.fakes.withdrawal_world import START, STELLAR, VAULT, WALLET, XLM, World


async def test_a_hold_whose_time_has_passed_is_expired_by_a_posting(
    database: Database, tenant: TenantId
) -> None:
    world = await World(db=database, tenant=tenant).open()
    wallet, vault = postings.wallet_account(WALLET, XLM), postings.vault_account(VAULT[STELLAR], XLM)
    due, later = (
        Hold(
            id=new_uuid(),
            debit=wallet,
            credit=vault,
            amount=Amount(XLM, 10),
            code=TransferCode.PAYOUT,
            reference=new_uuid(),
            expires_at=START + timedelta(days=days),
        )
        for days in (-1, 100)
    )
    async with database.unit_of_work(tenant) as uow:
        await ledger.post(uow, due, later)
    await worker.sweep(world.means)
    await worker.sweep(world.means)
    async with database.read(tenant) as session:
        entries = await ledger.statement(session, wallet)
        assert (await ledger.balance(session, wallet)).pending_out == 10
    assert [entry.kind for entry in entries[-3:]] == ["hold", "hold", "expire_hold"]
