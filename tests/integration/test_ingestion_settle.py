"""What is final is booked for each tenant by itself: one whose ledger refuses keeps nobody else waiting."""

from __future__ import annotations

from datetime import UTC, datetime

from custody.db.session import Database
from custody.deposits import service as deposits
from custody.kernel.ids import TenantId, VaultId, derived_uuid
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.wallets import service as wallets
from custody.wallets.model import Vault, VaultRef
from ingestion import effects
from ingestion.effects import Settled
from ingestion.model import BlockRef
from tests.integration.ingestion_harness import take_fence
from tests.integration.test_deposits_service import ACCOUNT, CHAIN, WALLET, XLM, arrival, vault

__all__ = ["vault"]

THEIR_VAULT = VaultId(derived_uuid("vault", 2))
THEIR_ACCOUNT = "GC5HBIPAKK3Z3OV5XKAIHLXPZLVDI6ERAJA2RWSQEKXFOXENLGOQIZR4"


def tip(height: int) -> BlockRef:
    return BlockRef(height=height, hash=f"{height:064x}", parent_hash="aa", closed_at=datetime.now(UTC))


async def states(database: Database, tenant: TenantId) -> list[str]:
    async with database.read(tenant) as session:
        return [each.state for each in await deposits.list_deposits(session)]


async def test_a_tenant_whose_ledger_refuses_keeps_no_other_tenant_waiting(
    database: Database, tenant: TenantId, other_tenant: TenantId, vault: VaultRef
) -> None:
    assert tenant < other_tenant, "tenants are settled in the order of their ids"
    async with database.unit_of_work(tenant) as uow:
        await ledger.open_account(uow, postings.wallet_account(WALLET, XLM), ceiling=500)
        await deposits.observe(uow, vault, arrival(amount=501))
    theirs = VaultRef(tenant=other_tenant, vault_id=THEIR_VAULT, account=THEIR_ACCOUNT)
    async with database.unit_of_work(other_tenant) as uow:
        made = Vault(
            id=THEIR_VAULT,
            chain=CHAIN,
            purpose="omnibus",
            wallet_id=None,
            key_id="1" * 32,
            account=THEIR_ACCOUNT,
        )
        await wallets.add_vault(uow, "test", made)
        sent = arrival(tx_hash="03", account=THEIR_ACCOUNT, source=ACCOUNT, tag=None, amount=700)
        await deposits.observe(uow, theirs, sent)
    fence = await take_fence(database, CHAIN)
    assert await effects.settle(database, CHAIN, fence, tip(101), 1) == Settled(refused=(tenant,))
    assert await states(database, tenant) == ["observed"]
    assert await states(database, other_tenant) == ["suspended"]
    async with database.read(tenant) as session:
        assert await deposits.final_height(session, CHAIN) is None, (
            "books do not stand where they were not booked"
        )
    assert await effects.settle(database, CHAIN, fence, tip(150), 1) == Settled(refused=(tenant,))
    async with database.read(other_tenant) as session:
        height = await deposits.final_height(session, CHAIN)
    assert height is not None
    assert height.ingested_height == 150
