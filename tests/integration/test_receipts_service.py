"""Money that arrives: credited once, to the wallet that was named, or kept in suspense."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from custody.banking.errors import UnknownBankAccount
from custody.db.session import Database
from custody.events import outbox
from custody.kernel.assetid import parse_asset_id
from custody.kernel.clock import FixedClock
from custody.kernel.ids import CustomerId, TenantId, WalletId, new_uuid
from custody.kernel.money import Amount
from custody.ledger import service as ledger
from custody.ledger.model import ChangeAccount, OpenAccount
from custody.ledger.postings import wallet_account
from custody.receipts import service as receipts
from custody.receipts.errors import ReceiptContradicts, UnknownReceipt
from custody.receipts.model import BankReceipt, Receipt, ReceiptOutcome
from custody.receipts.reference import is_reference, new_reference
from custody.wallets import service as wallets
from custody.wallets.errors import UnknownWallet
from devnet.bank.ibans import sandbox_iban
from rails import intake
from tests.fakes.fiat import EUR, NOW, Fiat, make_fiat, make_receipt

pytestmark = pytest.mark.usefixtures("told_as_promised")


@pytest.fixture
async def fiat(database: Database, tenant: TenantId) -> Fiat:
    return await make_fiat(database, tenant)


async def observe(fiat: Fiat, told: BankReceipt) -> Receipt:
    async with fiat.database.unit_of_work(fiat.tenant) as uow:
        return await receipts.observe(uow, told)


async def reference_of(fiat: Fiat, wallet_id: WalletId | None = None) -> str:
    async with fiat.database.unit_of_work(fiat.tenant) as uow:
        return await receipts.reference_for(uow, wallet_id or fiat.wallet_id)


async def second_wallet(fiat: Fiat) -> WalletId:
    async with fiat.database.unit_of_work(fiat.tenant) as uow:
        customer = await wallets.create_customer(
            uow, "test", CustomerId(new_uuid()), name="Bob", external_ref="bob"
        )
        return (await wallets.create_wallet(uow, "test", WalletId(new_uuid()), customer.id, "main")).id


async def test_a_wallets_reference_stays_the_same_even_when_asked_at_once(fiat: Fiat) -> None:
    given = set(await asyncio.gather(*(reference_of(fiat) for _ in range(6))))
    assert len(given) == 1
    assert is_reference(given.pop())


async def test_an_unknown_wallet_gets_no_reference(fiat: Fiat) -> None:
    with pytest.raises(UnknownWallet):
        await reference_of(fiat, WalletId(new_uuid()))


async def test_an_arrival_that_names_a_wallet_credits_it(fiat: Fiat) -> None:
    reference = await reference_of(fiat)
    receipt = await observe(fiat, make_receipt(700, f"rent {reference[:4]} {reference[4:]} thanks"))
    assert (receipt.outcome, receipt.wallet_id) == (ReceiptOutcome.CREDITED, fiat.wallet_id)
    assert await fiat.books() == {"wallet": 700, "available": 700, "bank": 700, "suspense": 0, "trial": 0}
    async with fiat.database.read(fiat.tenant) as session:
        assert await outbox.count_of(session, receipt.id) == 1
        assert await receipts.get(session, receipt.id) == receipt
        assert await receipts.list_receipts(session, wallet_id=fiat.wallet_id) == [receipt]


async def test_an_arrival_that_names_nobody_or_two_goes_to_suspense(fiat: Fiat) -> None:
    ours, theirs = await reference_of(fiat), await reference_of(fiat, await second_wallet(fiat))
    for remittance in ("", "rent november", new_reference(), f"{ours} {theirs}"):
        receipt = await observe(fiat, make_receipt(100, remittance))
        assert (receipt.outcome, receipt.wallet_id) == (ReceiptOutcome.SUSPENDED, None)
    assert await fiat.books() == {"wallet": 0, "available": 0, "bank": 400, "suspense": 400, "trial": 0}


async def test_one_wallet_named_twice_is_named(fiat: Fiat) -> None:
    ours = await reference_of(fiat)
    assert (await observe(fiat, make_receipt(100, f"{ours} {ours}"))).wallet_id == fiat.wallet_id


async def test_the_same_arrival_told_many_times_is_booked_once(fiat: Fiat) -> None:
    told = make_receipt(700, await reference_of(fiat))
    found = await asyncio.gather(*(observe(fiat, told) for _ in range(8)))
    assert len({receipt.id for receipt in found}) == 1
    assert (await fiat.books())["wallet"] == 700


async def test_another_event_about_the_same_credit_is_booked_once(fiat: Fiat) -> None:
    told = make_receipt(700, await reference_of(fiat))
    await observe(fiat, told)
    await observe(fiat, replace(told, external_event_id="evt_other", raw_sha256=bytes(32)))
    assert (await fiat.books())["bank"] == 700


@pytest.mark.parametrize(
    "change",
    [
        {"amount": Amount(EUR, 701)},
        {"remittance": "other"},
        {"external_ref": "inc_other"},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_a_second_telling_that_differs_is_refused(fiat: Fiat, change: dict[str, object]) -> None:
    told = make_receipt(700, "x")
    await observe(fiat, told)
    with pytest.raises(ReceiptContradicts):
        await observe(fiat, replace(told, **change))
    assert (await fiat.books())["bank"] == 700


@pytest.mark.parametrize("amount", [Amount(EUR, 0), Amount(EUR, -1), Amount(parse_asset_id("fiat/USD"), 5)])
async def test_an_impossible_amount_is_refused(fiat: Fiat, amount: Amount) -> None:
    with pytest.raises(ReceiptContradicts):
        await observe(fiat, replace(make_receipt(1, ""), amount=amount))


async def test_money_for_an_account_that_is_not_ours_is_refused(fiat: Fiat) -> None:
    with pytest.raises(UnknownBankAccount):
        await intake.apply(fiat.database, FixedClock(NOW), [make_receipt(1, "", iban=sandbox_iban(55))])


async def test_a_callback_reaches_the_tenant_whose_account_it_names(
    fiat: Fiat, database: Database, other_tenant: TenantId
) -> None:
    rival = await make_fiat(database, other_tenant, iban=sandbox_iban(2))
    ours = await reference_of(fiat)
    told = [make_receipt(5, ours), make_receipt(7, ours, iban=rival.account.iban)]
    await intake.apply(database, FixedClock(NOW), told)
    assert (await fiat.books())["wallet"] == 5
    # The reference is another tenant's, so that to this one it names nobody.
    assert await rival.books() == {"wallet": 0, "available": 0, "bank": 7, "suspense": 7, "trial": 0}
    async with database.read(other_tenant) as session:
        (theirs,) = await receipts.list_receipts(session)
    async with database.read(fiat.tenant) as session:
        with pytest.raises(UnknownReceipt):
            await receipts.get(session, theirs.id)


@pytest.mark.parametrize("table", ["receipts", "receipt_references"])
@pytest.mark.parametrize("sql", ["UPDATE {} SET wallet_id = NULL", "DELETE FROM {}"])
async def test_arrivals_are_history(fiat: Fiat, table: str, sql: str) -> None:
    await fiat.fund(100)
    with pytest.raises(DBAPIError):
        async with fiat.database.unit_of_work(fiat.tenant) as uow:
            await uow.conn.execute(text(sql.format(table)))


async def test_money_for_a_closed_account_is_suspended(fiat: Fiat) -> None:
    key = wallet_account(fiat.wallet_id, EUR)
    async with fiat.database.unit_of_work(fiat.tenant) as uow:
        close = ChangeAccount(id=new_uuid(), key=key, event="close")
        await ledger.post(uow, OpenAccount(key=key), close)
    told = await fiat.fund(700)
    assert (told.outcome, told.wallet_id) == (ReceiptOutcome.SUSPENDED, None)
    assert (await fiat.books())["suspense"] == 700
