"""On a real local Stellar network: what ledgers leave of our accounts is kept, and books that differ from it are a break."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from stellar_sdk import Asset, AuthorizationFlag, Clawback, IdMemo, Keypair, Payment, xdr

from custody.audit import service as audit
from custody.holdings import service as holdings
from custody.holdings.errors import StateExistsDifferent
from custody.holdings.model import (
    BlockPlace,
    Comparison,
    HoldingBreak,
    HoldingState,
    KeptHolding,
    LateBooking,
    TouchedHolding,
)
from custody.kernel.assetid import AssetId, parse_asset_id
from custody.kernel.ids import TenantId, derived_uuid
from custody.kernel.money import Amount
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.ledger.model import Transfer, TransferCode
from custody.wallets.model import Vault
from devnet.stellar.outsider import Outsider
from devnet.stellar.server import Served
from ingestion.loop import Loop
from ingestion.stellar.sources import RpcLedgers
from tests.integration.ingestion_harness import (
    OMNIBUS_REQUEST,
    Desk,
    build_loop,
    catch_up,
    take_fence,
)
from tests.integration.stellar_stage import CHAIN, XLM, desk, outsider, served, source

__all__ = ["desk", "outsider", "served", "source"]

FUNDED = 10_000 * 10**7

pytestmark = [pytest.mark.stack, pytest.mark.usefixtures("told_as_promised")]


@pytest.fixture
async def loop(desk: Desk, source: RpcLedgers) -> Loop:
    return build_loop(desk.db, source, await take_fence(desk.db, CHAIN))


def vault_key() -> Keypair:
    return Keypair.from_raw_ed25519_seed(OMNIBUS_REQUEST.bytes * 2)


async def held(desk: Desk, vault: Vault) -> dict[AssetId, KeptHolding]:
    async with desk.db.read(desk.tenant) as session:
        return {each.state.asset: each for each in await holdings.list_holdings(session, [vault.id])}


async def breaks(desk: Desk) -> list[HoldingBreak]:
    async with desk.db.read(desk.tenant) as session:
        return [each for _, each in await holdings.list_breaks(session)]


async def compared(desk: Desk, vault: Vault, asset: AssetId = XLM) -> list[Comparison]:
    async with desk.db.read(desk.tenant) as session:
        return await holdings.list_comparisons(session, vault.id, asset)


async def book(desk: Desk, vault: Vault, amount: int, asset: AssetId = XLM) -> None:
    """A person corrects the books: out of the vault, or into it below zero, against suspense."""
    sides = (postings.suspense_account(asset), postings.vault_account(vault.id, asset))
    debit, credit = sides if amount > 0 else sides[::-1]
    async with desk.db.unit_of_work(desk.tenant) as uow:
        correction = Transfer(
            id=derived_uuid("correction", amount),
            debit=debit,
            credit=credit,
            amount=Amount(asset, abs(amount)),
            code=TransferCode.DEPOSIT_SUSPENDED,
            reference=derived_uuid("person"),
        )
        await ledger.post(uow, correction)


async def test_what_ledgers_leave_is_kept_and_the_books_equal_it_at_every_height(
    desk: Desk, loop: Loop, outsider: Outsider, served: Served
) -> None:
    vault = await desk.open_omnibus()
    address = await desk.issue_address(await desk.open_wallet("ada"))

    def pay() -> None:
        outsider.fund(vault.account)
        payer = outsider.new_account()
        outsider.pay(payer, address.address, 500)
        outsider.pay(payer, vault.account, 11, memo=IdMemo(99))

    await asyncio.to_thread(pay)
    await catch_up(loop)
    kept = (await held(desk, vault))[XLM]
    key = xdr.LedgerKey(
        xdr.LedgerEntryType.ACCOUNT, account=xdr.LedgerKeyAccount(vault_key().xdr_account_id())
    )
    entry = served.network.entry(key)
    assert entry is not None
    assert entry.data.account is not None
    assert (kept.state.amount, kept.opening) == (entry.data.account.balance.int64, 0)
    assert kept.state.amount == await desk.held(vault, XLM) == FUNDED + 511
    async with desk.db.read(desk.tenant) as session:
        found = await holdings.find_account(session, vault.id, vault.account)
        earlier = await holdings.list_holdings(session, [vault.id], height=kept.height - 1)
    assert found is not None
    height, account = found
    assert (height, account.spendable) == (kept.height, FUNDED + 511 - 10**7)
    assert account.sequence == entry.data.account.seq_num.sequence_number.int64
    assert [each.state.amount for each in earlier] == [FUNDED + 500]
    assert await breaks(desk) == []
    assert all(each.difference == 0 for each in await compared(desk, vault))
    assert (await compared(desk, vault))[0].books == FUNDED + 511


async def test_a_clawback_is_a_break_that_names_its_transaction_and_closes_when_the_books_follow(
    desk: Desk, loop: Loop, outsider: Outsider
) -> None:
    vault = await desk.open_omnibus()

    def issue() -> tuple[Keypair, Asset]:
        outsider.fund(vault.account)
        issued = outsider.issue_asset("USDC", flags=AuthorizationFlag(10))
        outsider.trust(vault_key(), issued.asset)
        outsider.pay(issued.issuer, vault.account, 900, asset=issued.asset)
        return issued.issuer, issued.asset

    issuer, asset = await asyncio.to_thread(issue)
    usdc = parse_asset_id(f"stellar:devnet/USDC:{issuer.public_key}")
    await desk.list_asset(usdc, "USDC", 7)
    await catch_up(loop)
    assert (await held(desk, vault))[usdc].state.clawback
    assert await breaks(desk) == []

    def take_back() -> None:
        outsider.pay(issuer, vault.account, 7, asset=asset)
        outsider.send(issuer, [Clawback(asset, vault.account, "0.0000100")])
        outsider.pay(issuer, vault.account, 8, asset=asset)

    await asyncio.to_thread(take_back)
    await catch_up(loop)
    (found,) = await breaks(desk)
    states = await held(desk, vault)
    assert (found.state, found.opened.asset, found.opened.difference) == ("open", usdc, 100)
    assert found.first_height == states[usdc].height - 1
    assert found.first_tx is not None
    assert found.first_tx not in {each.transfer.tx_hash for each in await desk.deposits()}
    await catch_up(loop)
    assert len(await breaks(desk)) == 1
    await book(desk, vault, 100, usdc)
    await asyncio.to_thread(outsider.pay, issuer, vault.account, 1, asset=asset)
    await catch_up(loop)
    (closed,) = await breaks(desk)
    assert (closed.id, closed.state, closed.closed_height) == (found.id, "closed", await desk.final_height())
    async with desk.db.read(desk.tenant) as session:
        actions = [each.action for each in await audit.page(session, 0, 1000) if each.object_id == found.id]
        told = await session.conn.execute(
            text("SELECT type FROM outbox WHERE tenant_id = :t AND object_id = :id ORDER BY sequence"),
            {"t": desk.tenant, "id": found.id},
        )
        assert list(told.scalars()) == actions == ["holding.break_opened", "holding.break_closed"]


async def test_a_break_closes_at_the_next_ledger_even_when_that_touches_nothing_of_ours(
    desk: Desk, loop: Loop, outsider: Outsider, served: Served
) -> None:
    vault = await desk.open_omnibus()
    await asyncio.to_thread(outsider.fund, vault.account)
    await catch_up(loop)
    payment = [Payment(outsider.new_account().public_key, Asset.native(), "0.0000005")]
    await asyncio.to_thread(outsider.send, vault_key(), payment)
    await catch_up(loop)
    # The fee of what a key of ours sent elsewhere is booked, the payment is not.
    assert [(each.state, each.opened.difference) for each in await breaks(desk)] == [("open", 5)]
    await book(desk, vault, 5)
    served.network.close()
    await catch_up(loop)
    assert [each.state for each in await breaks(desk)] == ["closed"]
    # The same again is a break of its own.
    await book(desk, vault, -6)
    await asyncio.to_thread(outsider.send, vault_key(), payment)
    await catch_up(loop)
    assert [(each.state, each.opened.difference) for each in await breaks(desk)] == [
        ("open", 11),
        ("closed", 5),
    ]


async def test_what_lay_there_before_is_opening_and_no_break(
    desk: Desk, loop: Loop, outsider: Outsider
) -> None:
    await asyncio.to_thread(outsider.fund, vault_key().public_key)
    await catch_up(loop)
    vault = await desk.open_omnibus()
    assert await held(desk, vault) == {}
    payer = await asyncio.to_thread(outsider.new_account)
    await asyncio.to_thread(outsider.pay, payer, vault.account, 3)
    await catch_up(loop)
    kept = (await held(desk, vault))[XLM]
    assert (kept.opening, kept.state.amount, await desk.held(vault, XLM)) == (FUNDED, FUNDED + 3, 3)
    assert await breaks(desk) == []


async def test_an_unlisted_asset_is_kept_and_compared_from_its_listing_on(
    desk: Desk, loop: Loop, outsider: Outsider
) -> None:
    vault = await desk.open_omnibus()

    def issue() -> tuple[Keypair, Asset]:
        outsider.fund(vault.account)
        issued = outsider.issue_asset("SPAM")
        outsider.trust(vault_key(), issued.asset)
        outsider.pay(issued.issuer, vault.account, 5, asset=issued.asset)
        return issued.issuer, issued.asset

    issuer, asset = await asyncio.to_thread(issue)
    spam = parse_asset_id(f"stellar:devnet/SPAM:{issuer.public_key}")
    await catch_up(loop)
    kept = (await held(desk, vault))[spam]
    assert (kept.state.amount, kept.opening) == (5, None)
    await desk.list_asset(spam, "SPAM", 7)
    await asyncio.to_thread(outsider.pay, issuer, vault.account, 2, asset=asset)
    await catch_up(loop)
    kept = (await held(desk, vault))[spam]
    assert (kept.state.amount, kept.opening, await desk.held(vault, spam)) == (7, 0, 7), (
        "what came before the listing is booked with it"
    )
    assert await breaks(desk) == []


def touched(vault: Vault, before: int, amount: int) -> TouchedHolding:
    state = HoldingState(account=vault.account, asset=XLM, exists=True, before=before, amount=amount)
    return TouchedHolding(vault_id=vault.id, state=state, effects=())


def at(height: int) -> BlockPlace:
    return BlockPlace(chain=CHAIN, height=height, closed_at=datetime(2026, 1, 1, tzinfo=UTC))


async def test_what_is_booked_of_blocks_before_the_opening_explains_it(desk: Desk) -> None:
    vault = await desk.open_omnibus()
    for height, before, amount in ((50, 70, 75), (10, 0, 30), (20, 30, 70), (10, 0, 30), (60, 75, 60)):
        async with desk.db.unit_of_work(desk.tenant) as uow:
            await holdings.record(uow, at(height), holdings=[touched(vault, before, amount)])
    assert (await held(desk, vault))[XLM].opening == 70
    async with desk.db.unit_of_work(desk.tenant) as uow:
        booked = [
            LateBooking(vault_id=vault.id, asset=XLM, height=height, amount=amount)
            for height, amount in ((10, 35), (10, -5), (20, 40), (50, 5), (60, -15))
        ]
        await holdings.explain(uow, booked)
    kept = (await held(desk, vault))[XLM]
    assert (kept.height, kept.state.amount, kept.opening) == (60, 60, 0)


async def test_a_block_that_left_a_holding_otherwise_is_refused(desk: Desk) -> None:
    vault = await desk.open_omnibus()
    async with desk.db.unit_of_work(desk.tenant) as uow:
        await holdings.record(uow, at(10), holdings=[touched(vault, 0, 30)])
    for again in (touched(vault, 0, 31), touched(vault, 1, 30)):
        with pytest.raises(StateExistsDifferent):
            async with desk.db.unit_of_work(desk.tenant) as uow:
                await holdings.record(uow, at(10), holdings=[again])
    assert (await held(desk, vault))[XLM].state.amount == 30


@pytest.mark.parametrize("table", ["holding_states", "account_states", "account_data", "holding_comparisons"])
async def test_history_is_never_changed(desk: Desk, table: str) -> None:
    with pytest.raises(DBAPIError, match="permission denied"):
        async with desk.db.unit_of_work(desk.tenant) as uow:
            await uow.conn.execute(
                text(f"UPDATE {table} SET tenant_id = :t WHERE tenant_id = :t"), {"t": desk.tenant}
            )


async def test_a_tenant_sees_its_own_holdings_only(desk: Desk, other_tenant: TenantId) -> None:
    vault = await desk.open_omnibus()
    async with desk.db.unit_of_work(desk.tenant) as uow:
        await holdings.record(uow, at(10), holdings=[touched(vault, 0, 30)])
        assert await holdings.compare_final(uow, CHAIN, height_before=None, height_final=10) == 1
    theirs = replace(desk, tenant=other_tenant)
    assert (await held(theirs, vault), await breaks(theirs), await compared(theirs, vault)) == ({}, [], [])
    assert len(await breaks(desk)) == 1
