"""Cases against a real Postgres: why money was not credited, who gets it in the end, and that suspense is accounted for
throughout."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from custody.assets import service as assets
from custody.audit import service as audit
from custody.chains.errors import UnsupportedChain
from custody.db.session import Database, UnitOfWork
from custody.deposits import cases
from custody.deposits import service as deposits
from custody.deposits.errors import (
    CaseDecided,
    CaseHoldsMoney,
    CaseNotBooked,
    CreditSpent,
    UnknownCase,
)
from custody.deposits.model import DepositCase, DepositRule, Observation, Reason
from custody.events import outbox
from custody.kernel.assetid import AssetId, ChainId, parse_asset_id
from custody.kernel.ids import AddressId, TenantId, WalletId, derived_uuid
from custody.kernel.money import Amount
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.ledger.errors import AccountClosed
from custody.ledger.model import ChangeAccount, OpenAccount
from custody.wallets import service as wallets
from custody.wallets.errors import MemoTaken, UnknownWallet
from custody.wallets.model import DepositAddress, VaultRef
from tests.fakes.finality import credit_final
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

pytestmark = pytest.mark.usefixtures("told_as_promised")

__all__ = ["vault"]

USDC = parse_asset_id(f"stellar:devnet/USDC:{ACCOUNT}")
SHAPELESS = AssetId(CHAIN, "CAS3J7GYLGXMF6TDJBBYYSE3HQ6BBSMLNUQ34T6TZMYMW2EVH34XOWMA")
"""A contract's token: a name that this installation may not be able to parse."""


@pytest.fixture(autouse=True)
async def suspense_is_accounted_for(database: Database, tenant: TenantId) -> AsyncIterator[None]:
    """After every test, whatever it did: suspense holds what its open cases say, and the books add up to nothing."""
    yield
    async with database.read(tenant) as session:
        assert await cases.differences(session) == {}
        assert not any((await ledger.trial_balance(session)).values())


async def add_memo(uow: UnitOfWork, words: str, wallet_id: WalletId) -> None:
    memo_type = words.partition(":")[0]
    await wallets.add_address(
        uow,
        "test",
        DepositAddress(
            id=AddressId(derived_uuid("address", words, wallet_id)),
            wallet_id=wallet_id,
            vault_id=VAULT,
            chain=CHAIN,
            address=ACCOUNT,
            account=ACCOUNT,
            tag=None,
            memo_type=memo_type,
            memo=words,
        ),
    )


async def only_case(database: Database, tenant: TenantId) -> DepositCase:
    async with database.read(tenant) as session:
        (found,) = await cases.list_cases(session)
    return found


async def suspend(database: Database, vault: VaultRef, **changes: object) -> DepositCase:
    """The case of an arrival that names nobody, unless told otherwise."""
    async with database.unit_of_work(vault.tenant) as uow:
        await deposits.observe(uow, vault, arrival(**{"tag": None} | changes))
        await credit_final(uow, CHAIN, 100)
        return (await cases.list_cases(uow))[-1]


@pytest.mark.parametrize(
    ("tag", "memo", "wallet", "reason"),
    [
        (7, "", WALLET, None),
        (7, "text:ref-1", WALLET, None),
        (None, "text:7", WALLET, None),
        (None, "text:07", None, Reason.UNKNOWN_MEMO),
        (None, "text:+7", None, Reason.UNKNOWN_MEMO),
        (None, "text:7 ", None, Reason.UNKNOWN_MEMO),
        (None, "text:ref-1", OTHER_WALLET, None),
        (None, "text:Ref-1", None, Reason.UNKNOWN_MEMO),
        (None, "text:žluť", OTHER_WALLET, None),
        (None, "hash:" + "ab" * 32, OTHER_WALLET, None),
        (None, "hash:" + "00" * 32, None, Reason.UNKNOWN_MEMO),
        (None, "bytes:" + b"ref-1".hex(), None, Reason.UNKNOWN_MEMO),
        (None, "", None, Reason.MEMO_MISSING),
        (None, "text:", None, Reason.MEMO_MISSING),
        (0, "", None, Reason.UNKNOWN_MEMO),
        (8, "text:ref-1", None, Reason.UNKNOWN_MEMO),
        (2**64 - 1, "", None, Reason.UNKNOWN_MEMO),
        (None, f"text:{2**64 - 1}", None, Reason.UNKNOWN_MEMO),
        (None, f"text:{2**64}", None, Reason.UNKNOWN_MEMO),
    ],
)
async def test_money_goes_to_whom_tag_or_memo_names_and_else_gets_a_case(
    database: Database,
    tenant: TenantId,
    vault: VaultRef,
    tag: int | None,
    memo: str,
    wallet: WalletId | None,
    reason: Reason | None,
) -> None:
    async with database.unit_of_work(tenant) as uow:
        for words in ("text:ref-1", "text:žluť", "hash:" + "ab" * 32):
            await add_memo(uow, words, OTHER_WALLET)
        await deposits.observe(uow, vault, arrival(tag=tag, memo=memo))
        await credit_final(uow, CHAIN, 100)
        (found,) = await deposits.list_deposits(uow)
        opened = [(each.reason, each.state, each.amount) for each in await cases.list_cases(uow)]
    assert found.wallet_id == wallet
    assert found.state == ("credited" if reason is None else "suspended")
    assert opened == ([] if reason is None else [(reason, "open", 500)])


async def test_a_memo_names_one_wallet_only(database: Database, tenant: TenantId, vault: VaultRef) -> None:
    async with database.unit_of_work(tenant) as uow:
        await add_memo(uow, "text:ref-1", WALLET)
    with pytest.raises(MemoTaken):
        async with database.unit_of_work(tenant) as uow:
            await add_memo(uow, "text:ref-1", OTHER_WALLET)


async def test_assigning_credits_the_wallet_once_and_tells_everybody(
    database: Database, tenant: TenantId, vault: VaultRef
) -> None:
    case = await suspend(database, vault, memo="text:hello")
    for _ in range(2):
        async with database.unit_of_work(tenant) as uow:
            done = await cases.assign(uow, "ops", case.id, OTHER_WALLET, "ticket 7")
        assert (done.state, done.wallet_id, done.decided_by, done.note) == (
            "assigned", OTHER_WALLET, "ops", "ticket 7",
        )  # fmt: skip
    with pytest.raises(CaseDecided):
        async with database.unit_of_work(tenant) as uow:
            await cases.assign(uow, "ops", case.id, WALLET)
    assert await balance_of(database, tenant, OTHER_WALLET) == 500
    assert await balance_of(database, tenant, WALLET) == 0
    async with database.read(tenant) as session:
        (deposit,) = await deposits.list_deposits(session)
        assert (deposit.state, deposit.wallet_id) == ("credited", OTHER_WALLET)
        assert (await ledger.balance(session, postings.suspense_account(XLM))).posted == 0
        assert await outbox.count_of(session, case.id) == 2
        told = [
            (each.actor, each.action, each.detail.get("note"))
            for each in await audit.page(session, 0, 100)
            if each.object_id == case.id
        ]
    assert told == [("ingestion", "case.open", ""), ("ops", "case.assign", "ticket 7")]


async def test_of_two_who_assign_at_once_one_is_told_that_it_is_decided(
    database: Database, tenant: TenantId, vault: VaultRef
) -> None:
    case = await suspend(database, vault)

    async def assign(wallet_id: WalletId) -> str:
        try:
            async with database.unit_of_work(tenant) as uow:
                return (await cases.assign(uow, "ops", case.id, wallet_id)).state
        except CaseDecided as error:
            return error.code

    answers = await asyncio.gather(*(assign(each) for each in (WALLET, OTHER_WALLET) * 4))
    assert sorted(answers) == ["assigned"] * 4 + ["case_decided"] * 4
    sums = [await balance_of(database, tenant, each) for each in (WALLET, OTHER_WALLET)]
    assert sorted(sums) == [0, 500]


async def test_a_closed_account_is_not_assigned_to_and_another_tenants_wallet_is_none(
    database: Database, tenant: TenantId, other_tenant: TenantId, vault: VaultRef
) -> None:
    closed = postings.wallet_account(OTHER_WALLET, XLM)
    async with database.unit_of_work(tenant) as uow:
        close = ChangeAccount(id=derived_uuid("close"), key=closed, event="close")
        await ledger.post(uow, OpenAccount(key=closed), close)
        await add_tag(uow, 8, OTHER_WALLET)
    case = await suspend(database, vault, tag=8)
    assert (case.reason, case.named_wallet_id) == (Reason.ACCOUNT_CLOSED, OTHER_WALLET)
    with pytest.raises(AccountClosed):
        async with database.unit_of_work(tenant) as uow:
            await cases.assign(uow, "ops", case.id, OTHER_WALLET)
    with pytest.raises(UnknownWallet):
        async with database.unit_of_work(tenant) as uow:
            await cases.assign(uow, "ops", case.id, WalletId(derived_uuid("nobody's")))
    for act in (cases.assign, cases.dismiss):
        with pytest.raises(UnknownCase):
            async with database.unit_of_work(other_tenant) as uow:
                await act(uow, "ops", case.id, *([WALLET] if act is cases.assign else []))
    async with database.read(other_tenant) as session:
        assert await cases.list_cases(session) == []
    assert (await only_case(database, tenant)).state == "open"


async def test_money_is_not_dismissed_and_what_is_not_booked_not_assigned(
    database: Database, tenant: TenantId, vault: VaultRef
) -> None:
    money = await suspend(database, vault)
    token = await suspend(database, vault, asset=USDC, tx_hash="02")
    assert (token.reason, token.state, token.is_booked) == (Reason.UNSUPPORTED_ASSET, "open", False)
    with pytest.raises(CaseHoldsMoney):
        async with database.unit_of_work(tenant) as uow:
            await cases.dismiss(uow, "ops", money.id)
    with pytest.raises(CaseNotBooked):
        async with database.unit_of_work(tenant) as uow:
            await cases.assign(uow, "ops", token.id, WALLET)
    for _ in range(2):
        async with database.unit_of_work(tenant) as uow:
            assert (await cases.dismiss(uow, "ops", token.id)).state == "dismissed"
    async with database.unit_of_work(tenant) as uow:
        await assets.register(uow, USDC, "USDC", 7)
        assert await credit_final(uow, CHAIN, 101) == 0, "dismissed is dismissed"


@pytest.mark.parametrize("asset", [USDC, SHAPELESS])
async def test_an_unlisted_asset_is_kept_and_credited_once_it_is_listed(
    database: Database, tenant: TenantId, vault: VaultRef, asset: AssetId
) -> None:
    async with database.unit_of_work(tenant) as uow:
        assert await deposits.observe(uow, vault, arrival(asset=asset)) is Observation.UNLISTED
        assert await deposits.observe(uow, vault, arrival(asset=asset)) is Observation.KNOWN
        assert await credit_final(uow, CHAIN, 100) == 1
        assert await credit_final(uow, CHAIN, 101) == 0
    case = await only_case(database, tenant)
    assert (case.reason, case.asset, case.amount, case.named_wallet_id) == (
        Reason.UNSUPPORTED_ASSET, asset, 500, WALLET,
    )  # fmt: skip
    if asset is SHAPELESS:
        return
    async with database.unit_of_work(tenant) as uow:
        await assets.register(uow, asset, "TOKEN", 7)
        assert await credit_final(uow, CHAIN, 102) == 1
        assert (await ledger.balance(uow, postings.wallet_account(WALLET, asset))).posted == 500
    assert (await only_case(database, tenant)).state == "listed"


async def test_an_asset_listed_later_may_still_name_nobody(
    database: Database, tenant: TenantId, vault: VaultRef
) -> None:
    await suspend(database, vault, asset=USDC)
    async with database.unit_of_work(tenant) as uow:
        await assets.register(uow, USDC, "USDC", 7)
        await credit_final(uow, CHAIN, 102)
        found = await cases.list_cases(uow)
    assert [(each.reason, each.state) for each in found] == [
        (Reason.UNSUPPORTED_ASSET, "listed"), (Reason.MEMO_MISSING, "open"),
    ]  # fmt: skip


async def test_tokens_that_anybody_can_send_ask_nobody_and_can_still_be_listed(
    database: Database, tenant: TenantId, vault: VaultRef
) -> None:
    chain = ChainId("eip155:31337")
    token = parse_asset_id("eip155:31337/erc20:0x52908400098527886E0F7030069857D2E4169EE7")
    async with database.unit_of_work(tenant) as uow:
        seen = arrival(chain=chain, asset=token, tag=None)
        await deposits.observe(uow, vault, seen)
        await credit_final(uow, chain, 100)
    assert (await only_case(database, tenant)).state == "ignored"
    async with database.unit_of_work(tenant) as uow:
        await assets.register(uow, token, "TKN", 18)
        await credit_final(uow, chain, 101)
        found = await cases.list_cases(uow, states=("open",))
    assert [each.reason for each in found] == [Reason.UNATTRIBUTED]


@pytest.mark.parametrize(
    ("amount", "tag", "reason", "state"),
    [
        (9, 7, Reason.DUST, "ignored"),
        (9, None, Reason.DUST, "ignored"),
        (10, 7, Reason.BELOW_MINIMUM, "open"),
        (10, None, Reason.MEMO_MISSING, "open"),
        (99, 7, Reason.BELOW_MINIMUM, "open"),
        (100, 7, None, None),
        (100, None, Reason.MEMO_MISSING, "open"),
    ],
)
async def test_minimum_and_dust_are_rules_of_the_tenant(
    database: Database,
    tenant: TenantId,
    vault: VaultRef,
    amount: int,
    tag: int | None,
    reason: Reason | None,
    state: str | None,
) -> None:
    async with database.unit_of_work(tenant) as uow:
        await cases.set_rule(uow, "ops", XLM, DepositRule(minimum=100, dust=10))
        assert await cases.list_rules(uow) == {XLM: DepositRule(minimum=100, dust=10)}
        await deposits.observe(uow, vault, arrival(amount=amount, tag=tag, memo="" if tag else "text:"))
        await credit_final(uow, CHAIN, 100)
        found = await cases.list_cases(uow)
    if reason is None:
        assert found == []
        return
    assert [(each.reason, each.state) for each in found] == [(reason, state)]
    # What a rule has put aside a person may still give away.
    async with database.unit_of_work(tenant) as uow:
        await cases.assign(uow, "ops", found[0].id, WALLET)
    assert await balance_of(database, tenant, WALLET) == amount


async def test_a_rule_is_about_an_asset_that_can_arrive(
    database: Database, tenant: TenantId, vault: VaultRef
) -> None:
    euro = parse_asset_id("fiat/EUR")
    async with database.unit_of_work(tenant) as uow:
        await assets.register(uow, euro, "EUR", 2)
    with pytest.raises(UnsupportedChain):
        async with database.unit_of_work(tenant) as uow:
            await cases.set_rule(uow, "ops", euro, DepositRule(minimum=1))


async def test_what_the_chain_takes_back_ends_its_case_and_may_come_again(
    database: Database, tenant: TenantId, vault: VaultRef
) -> None:
    await suspend(database, vault)
    await suspend(database, vault, asset=USDC, tx_hash="02")
    async with database.unit_of_work(tenant) as uow:
        gone = await deposits.orphan(uow, CHAIN, 99)
        assert sorted(each.state for each in gone) == ["orphaned", "reversed"]
        assert [each.state for each in await cases.list_cases(uow)] == ["orphaned", "orphaned"]
        await deposits.observe(uow, vault, arrival(tag=None, height=101, block_hash="bb"))
        await credit_final(uow, CHAIN, 101)
        found = await cases.list_cases(uow, states=("open",))
    assert [each.reason for each in found] == [Reason.MEMO_MISSING]
    assert found[0].id != (await suspend(database, vault, tx_hash="03")).id


async def test_an_assigned_deposit_is_mirrored_out_of_its_wallet(
    database: Database, tenant: TenantId, vault: VaultRef
) -> None:
    case = await suspend(database, vault)
    async with database.unit_of_work(tenant) as uow:
        await cases.assign(uow, "ops", case.id, WALLET)
    async with database.unit_of_work(tenant) as uow:
        (gone,) = await deposits.orphan(uow, CHAIN, 99)
    assert gone.state == "reversed"
    assert await balance_of(database, tenant, WALLET) == 0
    assert (await only_case(database, tenant)).state == "orphaned"
    async with database.read(tenant) as session:
        assert (await ledger.balance(session, postings.vault_account(VAULT, XLM))).posted == 0


async def test_an_assigned_deposit_whose_money_is_spent_stops_the_flow(
    database: Database, tenant: TenantId, vault: VaultRef
) -> None:
    case = await suspend(database, vault)
    await suspend(database, vault, tx_hash="02")  # somebody else's, which must not pay for it
    async with database.unit_of_work(tenant) as uow:
        await cases.assign(uow, "ops", case.id, WALLET)
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
    async with database.read(tenant) as session:
        assert (await ledger.balance(session, postings.suspense_account(XLM))).posted == 500
