"""Deposits against a real Postgres: once and only once, final before credited, suspense, and the way back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from custody.assets import service as assets
from custody.db.session import Database, UnitOfWork
from custody.deposits import service as deposits
from custody.deposits.errors import CreditSpent, DepositExistsDifferent
from custody.deposits.model import Observation, ObservedTransfer
from custody.events import outbox
from custody.kernel.assetid import ChainId, parse_asset_id
from custody.kernel.ids import AddressId, CustomerId, TenantId, VaultId, WalletId, derived_uuid
from custody.kernel.money import Amount
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.ledger.model import ChangeAccount, OpenAccount
from custody.wallets import service as wallets
from custody.wallets.model import DepositAddress, Vault, VaultRef
from tests.fakes.finality import credit_final

CHAIN = ChainId("stellar:devnet")
XLM = parse_asset_id("stellar:devnet/native")
ACCOUNT = "GAJQTRTE7HCNATAQREKWNYP2YGFPELWEJH6ZBVZR7RM2AJLAS57OAL5N"
WALLET = WalletId(derived_uuid("wallet", 1))
OTHER_WALLET = WalletId(derived_uuid("wallet", 2))
VAULT = VaultId(derived_uuid("vault", 1))


@pytest.fixture
async def vault(database: Database, tenant: TenantId) -> VaultRef:
    """An omnibus vault with one wallet's tag, and the listed asset."""
    async with database.unit_of_work(tenant) as uow:
        await assets.register(uow, XLM, "XLM", 7)
        customer = await wallets.create_customer(
            uow, "test", CustomerId(derived_uuid("customer", 1)), name="Ada", external_ref="ada"
        )
        await wallets.create_wallet(uow, "test", WALLET, customer.id, "main")
        await wallets.create_wallet(uow, "test", OTHER_WALLET, customer.id, "other")
        await wallets.add_vault(
            uow,
            "test",
            Vault(
                id=VAULT,
                chain=CHAIN,
                purpose="omnibus",
                wallet_id=None,
                key_id="0" * 32,
                account=ACCOUNT,
            ),
        )
        await add_tag(uow, 7, WALLET)
    return VaultRef(tenant=tenant, vault_id=VAULT, account=ACCOUNT)


async def add_tag(uow: UnitOfWork, tag: int, wallet_id: WalletId) -> None:
    await wallets.add_address(
        uow,
        "test",
        DepositAddress(
            id=AddressId(derived_uuid("address", tag)),
            wallet_id=wallet_id,
            vault_id=VAULT,
            chain=CHAIN,
            address=f"M{tag}",
            account=ACCOUNT,
            tag=tag,
        ),
    )


def arrival(**changes: object) -> ObservedTransfer:
    seen = ObservedTransfer(
        chain=CHAIN,
        height=100,
        block_hash="aa",
        tx_hash="01",
        ordinal=65536,
        asset=XLM,
        source="GC5HBIPAKK3Z3OV5XKAIHLXPZLVDI6ERAJA2RWSQEKXFOXENLGOQIZR4",
        account=ACCOUNT,
        tag=7,
        memo="",
        amount=500,
        occurred_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    return replace(seen, **changes)


async def balance_of(database: Database, tenant: TenantId, wallet_id: WalletId) -> int:
    async with database.read(tenant) as session:
        return (await ledger.balance(session, postings.wallet_account(wallet_id, XLM))).posted


async def test_a_deposit_is_credited_once_and_only_when_its_block_is_final(
    database: Database, tenant: TenantId, vault: VaultRef
) -> None:
    for expected in (Observation.RECORDED, Observation.KNOWN):
        async with database.unit_of_work(tenant) as uow:
            assert await deposits.observe(uow, vault, arrival()) is expected
            assert await credit_final(uow, CHAIN, 99) == 0
    assert await balance_of(database, tenant, WALLET) == 0
    for booked in (1, 0):
        async with database.unit_of_work(tenant) as uow:
            assert await credit_final(uow, CHAIN, 100) == booked
    assert await balance_of(database, tenant, WALLET) == 500
    async with database.read(tenant) as session:
        found = await deposits.list_deposits(session)
        vault_balance = await ledger.balance(session, postings.vault_account(VAULT, XLM))
        assert await outbox.count_of(session, found[0].id) == 2
    assert [(each.state, each.wallet_id) for each in found] == [("credited", WALLET)]
    assert vault_balance.posted == 500


async def test_one_transaction_may_bring_several_deposits(
    database: Database, tenant: TenantId, vault: VaultRef
) -> None:
    async with database.unit_of_work(tenant) as uow:
        for operation in (1, 2, 3):
            await deposits.observe(uow, vault, arrival(ordinal=operation << 16, amount=operation))
        assert await credit_final(uow, CHAIN, 100) == 3
    assert await balance_of(database, tenant, WALLET) == 6


@pytest.mark.parametrize("tag", [None, 8, 2**64 - 1])
async def test_money_that_names_nobody_goes_to_suspense(
    database: Database, tenant: TenantId, vault: VaultRef, tag: int | None
) -> None:
    async with database.unit_of_work(tenant) as uow:
        await deposits.observe(uow, vault, arrival(tag=tag, memo="text:hello"))
        await credit_final(uow, CHAIN, 100)
    async with database.read(tenant) as session:
        suspense = await ledger.balance(session, postings.suspense_account(XLM))
        found = await deposits.list_deposits(session, states=["suspended"])
    assert suspense.posted == 500
    assert [(each.transfer.tag, each.transfer.memo) for each in found] == [(tag, "text:hello")]


async def test_an_address_issued_before_finality_is_still_credited(
    database: Database, tenant: TenantId, vault: VaultRef
) -> None:
    async with database.unit_of_work(tenant) as uow:
        await deposits.observe(uow, vault, arrival(tag=8))
        await add_tag(uow, 8, OTHER_WALLET)
        await credit_final(uow, CHAIN, 100)
    assert await balance_of(database, tenant, OTHER_WALLET) == 500


@pytest.mark.parametrize(
    "changes", [{"amount": 501}, {"tag": None}, {"source": ""}, {"block_hash": "bb", "height": 101}]
)
async def test_the_same_place_with_other_content_stops_the_flow(
    database: Database, tenant: TenantId, vault: VaultRef, changes: dict[str, object]
) -> None:
    async with database.unit_of_work(tenant) as uow:
        await deposits.observe(uow, vault, arrival())
    with pytest.raises(DepositExistsDifferent):
        async with database.unit_of_work(tenant) as uow:
            await deposits.observe(uow, vault, arrival(**changes))


@pytest.mark.parametrize("tag", [None, 7])
async def test_a_vault_that_pays_itself_receives_nothing(
    database: Database, tenant: TenantId, vault: VaultRef, tag: int | None
) -> None:
    """Nothing left the account, so what was credited for it would be missing on chain."""
    async with database.unit_of_work(tenant) as uow:
        itself = arrival(source=ACCOUNT, tag=tag)
        assert await deposits.observe(uow, vault, itself) is Observation.UNMOVED
        assert await credit_final(uow, CHAIN, 200) == 0
        assert await deposits.list_deposits(uow) == []
        assert not any((await ledger.trial_balance(uow)).values())
        booked = await ledger.balance(uow, postings.vault_account(VAULT, XLM))
    assert (booked.posted, await balance_of(database, tenant, WALLET)) == (0, 0)


async def test_an_orphaned_observation_is_included_again_as_the_same_deposit(
    database: Database, tenant: TenantId, vault: VaultRef
) -> None:
    async with database.unit_of_work(tenant) as uow:
        await deposits.observe(uow, vault, arrival())
        assert await deposits.orphan(uow, CHAIN, 100) == []
        assert [each.state for each in await deposits.orphan(uow, CHAIN, 99)] == ["orphaned"]
        assert await credit_final(uow, CHAIN, 200) == 0
        moved = arrival(height=101, block_hash="bb")
        assert await deposits.observe(uow, vault, moved) is Observation.RECORDED
        assert await credit_final(uow, CHAIN, 101) == 1
        found = await deposits.list_deposits(uow)
    assert [(each.state, each.inclusion, each.transfer.block_hash) for each in found] == [
        ("credited", 2, "bb")
    ]
    assert await balance_of(database, tenant, WALLET) == 500


async def test_a_transaction_executed_anew_with_another_amount_is_another_deposit(
    database: Database, tenant: TenantId, vault: VaultRef
) -> None:
    async with database.unit_of_work(tenant) as uow:
        await deposits.observe(uow, vault, arrival())
        await deposits.orphan(uow, CHAIN, 99)
        await deposits.observe(uow, vault, arrival(height=101, block_hash="bb", amount=499))
        await credit_final(uow, CHAIN, 101)
        found = await deposits.list_deposits(uow)
    assert [(each.state, each.transfer.amount) for each in found] == [("orphaned", 500), ("credited", 499)]
    assert await balance_of(database, tenant, WALLET) == 499


async def test_a_credit_that_the_chain_takes_back_is_mirrored_and_may_come_again(
    database: Database, tenant: TenantId, vault: VaultRef
) -> None:
    async with database.unit_of_work(tenant) as uow:
        await deposits.observe(uow, vault, arrival())
        await deposits.observe(uow, vault, arrival(ordinal=2, tag=None))
        await credit_final(uow, CHAIN, 100)
    async with database.unit_of_work(tenant) as uow:
        gone = await deposits.orphan(uow, CHAIN, 99)
        assert [each.state for each in gone] == ["reversed", "reversed"]
    assert await balance_of(database, tenant, WALLET) == 0
    async with database.unit_of_work(tenant) as uow:
        await deposits.observe(uow, vault, arrival(height=102, block_hash="cc"))
        await credit_final(uow, CHAIN, 102)
        trial = await ledger.trial_balance(uow)
        suspense = await ledger.balance(uow, postings.suspense_account(XLM))
    assert await balance_of(database, tenant, WALLET) == 500
    assert suspense.posted == 0
    assert set(trial.values()) == {0}


async def test_a_reversal_of_money_already_used_stops_instead_of_going_below_zero(
    database: Database, tenant: TenantId, vault: VaultRef
) -> None:
    async with database.unit_of_work(tenant) as uow:
        await deposits.observe(uow, vault, arrival())
        await credit_final(uow, CHAIN, 100)
        await ledger.post(
            uow,
            *postings.wallet_transfer(
                transfer_id=derived_uuid("spent"),
                source_wallet_id=WALLET,
                destination_wallet_id=OTHER_WALLET,
                amount=Amount(XLM, 1),
            ),
        )
    with pytest.raises(CreditSpent):
        async with database.unit_of_work(tenant) as uow:
            await deposits.orphan(uow, CHAIN, 99)
    assert await balance_of(database, tenant, WALLET) == 499


async def test_another_tenant_sees_no_deposit(
    database: Database, tenant: TenantId, other_tenant: TenantId, vault: VaultRef
) -> None:
    async with database.unit_of_work(tenant) as uow:
        await deposits.observe(uow, vault, arrival())
    async with database.unit_of_work(other_tenant) as uow:
        assert await deposits.list_deposits(uow) == []
        assert await credit_final(uow, CHAIN, 100) == 0
        assert await deposits.orphan(uow, CHAIN, 0) == []


async def test_money_for_a_closed_account_is_suspended_and_stops_nobody_elses(
    database: Database, tenant: TenantId, vault: VaultRef
) -> None:
    closed = postings.wallet_account(OTHER_WALLET, XLM)
    async with database.unit_of_work(tenant) as uow:
        await add_tag(uow, 8, OTHER_WALLET)
        close = ChangeAccount(id=derived_uuid("close"), key=closed, event="close")
        await ledger.post(uow, OpenAccount(key=closed), close)
        await deposits.observe(uow, vault, arrival(tag=8))
        await deposits.observe(uow, vault, arrival(tx_hash="02"))
    async with database.unit_of_work(tenant) as uow:
        assert await credit_final(uow, CHAIN, 100) == 2
    assert await balance_of(database, tenant, WALLET) == 500
    async with database.read(tenant) as session:
        assert (await ledger.balance(session, postings.suspense_account(XLM))).posted == 500
        found = await deposits.list_deposits(session)
    assert [(each.state, each.wallet_id) for each in found] == [("suspended", None), ("credited", WALLET)]
