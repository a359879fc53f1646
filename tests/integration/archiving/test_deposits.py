"""A deposit whose month is archived can still be taken back by its chain: by a transfer the other way, since it has no mirror."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from custody.assets import service as assets
from custody.db.session import Database
from custody.deposits import cases
from custody.deposits import service as deposits
from custody.deposits.errors import CreditSpent
from custody.deposits.model import ObservedTransfer
from custody.kernel.assetid import ChainId
from custody.kernel.ids import CustomerId, TenantId, VaultId, WalletId, derived_uuid
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.seals import execution
from custody.wallets import service as wallets
from custody.wallets.model import Vault, VaultRef
from tests.fakes.archived_books import archive, means_for
from tests.fakes.checkpoint_desk import CheckpointDesk
from tests.fakes.finality import credit_final
from tests.fakes.passing_months import let_pass
from tests.fakes.sealed_books import XLM, pay, post

CHAIN = ChainId("stellar:devnet")
OMNIBUS = VaultId(derived_uuid("omnibus"))
ACCOUNT = "GAJQTRTE7HCNATAQREKWNYP2YGFPELWEJH6ZBVZR7RM2AJLAS57OAL5N"
SENDER = "GC5HBIPAKK3Z3OV5XKAIHLXPZLVDI6ERAJA2RWSQEKXFOXENLGOQIZR4"
ADA = WalletId(derived_uuid("wallet", 0))


@pytest.mark.parametrize("fate", ["suspended", "assigned", "spent"])
async def test_an_archived_deposit_is_taken_back_by_a_transfer_the_other_way(
    database: Database,
    tenant: TenantId,
    signer: CheckpointDesk,
    admin: Database,
    admin_dsn: str,
    tmp_path: Path,
    fate: str,
) -> None:
    async with database.unit_of_work(tenant) as uow:
        await assets.register(uow, XLM, "XLM", 7)
        customer = CustomerId(derived_uuid("customer"))
        await wallets.create_customer(uow, "test", customer, name="Ada", external_ref="ada")
        await wallets.create_wallet(uow, "test", ADA, customer, "main")
        vault = Vault(
            id=OMNIBUS, chain=CHAIN, purpose="omnibus", wallet_id=None, key_id="0" * 32, account=ACCOUNT
        )
        await wallets.add_vault(uow, "test", vault)
        seen = ObservedTransfer(
            chain=CHAIN,
            height=100,
            block_hash="aa",
            tx_hash="01",
            ordinal=1,
            asset=XLM,
            source=SENDER,
            account=ACCOUNT,
            tag=None,
            amount=500,
            occurred_at=datetime(2026, 1, 1, tzinfo=UTC),
        )
        await deposits.observe(uow, VaultRef(tenant=tenant, vault_id=OMNIBUS, account=ACCOUNT), seen)
        await credit_final(uow, CHAIN, 100)
        (case,) = await cases.list_cases(uow)
        if fate != "suspended":
            await cases.assign(uow, "ops", case.id, ADA)
    await let_pass(admin_dsn, 2)
    if fate == "spent":
        async with database.unit_of_work(tenant) as uow:
            await ledger.open_account(uow, postings.wallet_account(derived_uuid("wallet", 1), XLM))
        await post(database, tenant, pay(0, 1, 1))
    await execution.seal_and_sign(database, signer, tenant)
    await archive(await means_for(database, admin, signer, tenant, tmp_path / "archive"))
    if fate == "spent":
        with pytest.raises(CreditSpent):
            async with database.unit_of_work(tenant) as uow:
                await deposits.orphan(uow, CHAIN, 99)
        return
    async with database.unit_of_work(tenant) as uow:
        (gone,) = await deposits.orphan(uow, CHAIN, 99)
    assert gone.state == "reversed"
    async with database.read(tenant) as session:
        assert [each.state for each in await cases.list_cases(session)] == ["orphaned"]
        for key in (
            postings.wallet_account(ADA, XLM), postings.suspense_account(XLM), postings.vault_account(OMNIBUS, XLM),
        ):  # fmt: skip
            assert (await ledger.balance(session, key)).posted == 0
        assert await cases.differences(session) == {}
