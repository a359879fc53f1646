"""What is final is booked for each tenant by itself: one whose ledger refuses keeps nobody else waiting."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from custody.db.session import Database
from custody.deposits import cases
from custody.deposits import service as deposits
from custody.kernel.ids import TenantId, VaultId, derived_uuid
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.ledger.errors import ExceedsCeiling
from custody.ledger.model import ChangeAccount, OpenAccount
from custody.wallets import service as wallets
from custody.wallets.model import Vault, VaultRef
from ingestion import settling
from ingestion.finality import Standing
from ingestion.model import BlockRef
from tests.integration.ingestion_harness import take_fence
from tests.integration.test_deposits_service import (
    ACCOUNT,
    CHAIN,
    OTHER_WALLET,
    VAULT,
    WALLET,
    XLM,
    add_tag,
    arrival,
    balance_of,
    vault,
)

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
        closed = postings.vault_account(VAULT, XLM)
        close = ChangeAccount(id=derived_uuid("close"), key=closed, event="close")
        await ledger.post(uow, OpenAccount(key=closed), close)
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
    came = await settling.settle(database, CHAIN, fence, tip(101), Standing(reached=100))
    assert (came.refused, came.cases) == ((tenant,), {"memo_missing": 1})
    assert await states(database, tenant) == ["observed"]
    assert await states(database, other_tenant) == ["suspended"]
    async with database.read(tenant) as session:
        assert await deposits.final_height(session, CHAIN) is None, (
            "books do not stand where they were not booked"
        )
    assert (await settling.settle(database, CHAIN, fence, tip(150), Standing(reached=149))).refused == (
        tenant,
    )
    async with database.read(other_tenant) as session:
        height = await deposits.final_height(session, CHAIN)
    assert height is not None
    assert height.ingested_height == 150


async def test_what_wallets_may_not_take_is_suspended_and_settling_goes_on(
    database: Database, tenant: TenantId, vault: VaultRef
) -> None:
    """A ceiling is a wallet's business: neither its tenant nor another wallet waits for it."""
    async with database.unit_of_work(tenant) as uow:
        for wallet in (WALLET, OTHER_WALLET):
            await ledger.open_account(uow, postings.wallet_account(wallet, XLM), ceiling=500)
        await add_tag(uow, 8, OTHER_WALLET)
        await deposits.observe(uow, vault, arrival(amount=501))
        await deposits.observe(uow, vault, arrival(tx_hash="02", amount=400, tag=8))
        await deposits.observe(uow, vault, arrival(tx_hash="03", amount=101, tag=8))
    fence = await take_fence(database, CHAIN)
    came = await settling.settle(database, CHAIN, fence, tip(101), Standing(reached=100))
    assert (came.refused, came.cases) == ((), {"account_refused": 3})
    async with database.read(tenant) as session:
        found = await cases.list_cases(session)
        assert await cases.differences(session) == {}
        height = await deposits.final_height(session, CHAIN)
    assert height is not None
    assert height.height == 100
    assert [(each.named_wallet_id, each.amount) for each in found] == [
        (WALLET, 501), (OTHER_WALLET, 400), (OTHER_WALLET, 101),
    ]  # fmt: skip
    # A person assigns what fits; what does not is refused and changes nothing.
    async with database.unit_of_work(tenant) as uow:
        await cases.assign(uow, "ops", found[1].id, OTHER_WALLET)
    with pytest.raises(ExceedsCeiling):
        async with database.unit_of_work(tenant) as uow:
            await cases.assign(uow, "ops", found[2].id, OTHER_WALLET)
    assert await balance_of(database, tenant, OTHER_WALLET) == 400
    async with database.read(tenant) as session:
        assert [each.state for each in await cases.list_cases(session)] == ["open", "assigned", "open"]
        assert await cases.differences(session) == {}
