"""Exchanges and charged fees on a real Postgres: all or nothing, once, with the rate kept, and undone once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from custody.assets import service as assets
from custody.audit import service as audit
from custody.db.session import Database
from custody.exchanges import service as exchanges
from custody.exchanges.errors import (
    BadQuoteTime,
    ExchangeExistsDifferent,
    ExchangeReversed,
    UnknownExchange,
)
from custody.exchanges.model import Exchange, Rate, RequestExchange, Rounding
from custody.identity.model import Principal
from custody.kernel.assetid import parse_asset_id
from custody.kernel.ids import CustomerId, ExchangeId, PrincipalId, TenantId, TransferId, WalletId, new_uuid
from custody.kernel.money import Amount
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.ledger.errors import AlreadyReversed, InsufficientFunds, TransferExistsDifferent
from custody.ledger.model import Reverse
from custody.transfers import service as transfers
from custody.transfers.model import RequestTransfer, WalletTransfer
from custody.wallets import service as wallets
from custody.wallets.errors import UnknownWallet
from tests.fakes.ledger_invariants import broken_invariants

pytestmark = pytest.mark.usefixtures("told_as_promised")

XLM, EUR = parse_asset_id("stellar:devnet/native"), parse_asset_id("fiat/EUR")
NOW = datetime(2026, 11, 22, 10, 15, tzinfo=UTC)
FUNDS = 1_000
VAULT = new_uuid()
RATE = Rate(numerator=1, denominator=3, source="desk quote 7421", quoted_at=NOW - timedelta(seconds=4))


@pytest.fixture
async def desk(database: Database, tenant: TenantId) -> Principal:
    """Somebody who may state rates."""
    async with database.unit_of_work(None) as uow:
        await assets.register(uow, XLM, "XLM", 7)
        await assets.register(uow, EUR, "EUR", 2)
    return Principal(tenant=tenant, id=PrincipalId(new_uuid()), subject="desk", scopes=frozenset({"operate"}))


async def opened(database: Database, tenant: TenantId, *, funded: bool) -> WalletId:
    """A wallet, with a deposit or with nothing."""
    async with database.unit_of_work(tenant) as uow:
        customer, wallet = CustomerId(new_uuid()), WalletId(new_uuid())
        await wallets.create_customer(uow, "test", customer, name="Ada", external_ref=str(customer))
        await wallets.create_wallet(uow, "test", wallet, customer, "main")
        if funded:
            await ledger.post(
                uow,
                *postings.deposit_credited(
                    deposit_id=new_uuid(), vault_id=VAULT, wallet_id=wallet, amount=Amount(XLM, FUNDS)
                ),
            )
    return wallet


@pytest.fixture
async def anna(database: Database, tenant: TenantId, desk: Principal) -> WalletId:
    return await opened(database, tenant, funded=True)


@pytest.fixture
async def bert(database: Database, tenant: TenantId, desk: Principal) -> WalletId:
    return await opened(database, tenant, funded=False)


def wanted(
    source: WalletId, destination: WalletId, sold: int = 100, fee: int | None = None
) -> RequestExchange:
    return RequestExchange(
        id=ExchangeId(new_uuid()),
        source_wallet_id=source,
        destination_wallet_id=destination,
        sold=Amount(XLM, sold),
        bought_asset=EUR,
        rate=RATE,
        rounding=Rounding.FLOOR,
        fee=None if fee is None else Amount(XLM, fee),
    )


async def book(database: Database, desk: Principal, order: RequestExchange) -> Exchange:
    async with database.unit_of_work(desk.tenant) as uow:
        return await exchanges.request(uow, desk, order, NOW)


async def send(database: Database, desk: Principal, order: RequestTransfer) -> WalletTransfer:
    async with database.unit_of_work(desk.tenant) as uow:
        return await transfers.request(uow, desk, order)


async def undo(database: Database, desk: Principal, exchange_id: ExchangeId) -> Exchange:
    async with database.unit_of_work(desk.tenant) as uow:
        return await exchanges.reverse(uow, desk, exchange_id)


async def figures(database: Database, tenant: TenantId, anna: WalletId, bert: WalletId) -> dict[str, int]:
    """What everybody has, after a look at the books as a whole."""
    keys = {
        "anna XLM": postings.wallet_account(anna, XLM),
        "bert XLM": postings.wallet_account(bert, XLM),
        "bert EUR": postings.wallet_account(bert, EUR),
        "clearing XLM": postings.clearing_account(XLM),
        "clearing EUR": postings.clearing_account(EUR),
        "fees XLM": postings.fee_income_account(XLM),
    }
    async with database.read(tenant) as session:
        assert await broken_invariants(session) == []
        return {name: (await ledger.balance(session, key)).posted for name, key in keys.items()}


async def actions(database: Database, tenant: TenantId) -> list[str]:
    async with database.read(tenant) as session:
        found = await audit.page(session, 0, 100)
    return [entry.action for entry in found if entry.action.startswith(("exchange.", "transfer."))]


NOTHING_HAPPENED = {
    "anna XLM": FUNDS,
    "bert XLM": 0,
    "bert EUR": 0,
    "clearing XLM": 0,
    "clearing EUR": 0,
    "fees XLM": 0,
}


async def test_an_exchange_moves_both_assets_and_keeps_its_rate(
    database: Database, desk: Principal, anna: WalletId, bert: WalletId
) -> None:
    order = wanted(anna, bert, fee=7)
    made = await book(database, desk, order)
    assert (made.sold, made.bought, made.fee) == (Amount(XLM, 100), Amount(EUR, 33), Amount(XLM, 7))
    assert await figures(database, desk.tenant, anna, bert) == {
        "anna XLM": FUNDS - 107,
        "bert XLM": 0,
        "bert EUR": 33,
        "clearing XLM": 100,
        "clearing EUR": -33,
        "fees XLM": 7,
    }
    async with database.read(desk.tenant) as session:
        found = await exchanges.get(session, order.id)
        assert await exchanges.list_exchanges(session) == [found]
        legs = await ledger.statement(session, postings.wallet_account(anna, XLM), 1)
    assert found == made
    assert (found.rate, found.rounding, found.requested_by) == (RATE, Rounding.FLOOR, "desk")
    assert {(leg.reference, leg.booked_at) for leg in legs} == {(order.id, found.booked_at)}
    assert await actions(database, desk.tenant) == ["exchange.post"]


async def test_a_rate_against_us_is_rounded_up_when_told(
    database: Database, desk: Principal, anna: WalletId, bert: WalletId
) -> None:
    made = [
        await book(database, desk, replace(wanted(anna, bert, sold), rounding=Rounding.CEIL))
        for sold in (100, 99)
    ]
    assert [each.bought.atomic for each in made] == [34, 33]


@pytest.mark.parametrize(("sold", "fee"), [(FUNDS + 1, None), (FUNDS, 1), (1, FUNDS)])
async def test_who_cannot_pay_all_of_it_exchanges_nothing(
    database: Database, desk: Principal, anna: WalletId, bert: WalletId, sold: int, fee: int | None
) -> None:
    order = replace(wanted(anna, bert, sold, fee), rounding=Rounding.CEIL)
    with pytest.raises(InsufficientFunds) as refused:
        await book(database, desk, order)
    assert (refused.value.values["account"], refused.value.values["owner"]) == ("wallet", anna)
    assert await figures(database, desk.tenant, anna, bert) == NOTHING_HAPPENED
    async with database.read(desk.tenant) as session:
        assert await exchanges.list_exchanges(session) == []
    assert await actions(database, desk.tenant) == []


async def test_the_same_exchange_again_is_the_same_and_another_is_refused(
    database: Database, desk: Principal, anna: WalletId, bert: WalletId
) -> None:
    order = wanted(anna, bert, fee=7)
    made = await book(database, desk, order)
    assert await book(database, desk, order) == made
    others = [
        replace(order, fee=None),
        replace(order, fee=Amount(XLM, 8)),
        replace(order, sold=Amount(XLM, 101)),
        replace(order, destination_wallet_id=anna),
        replace(order, rounding=Rounding.CEIL),
        replace(order, rate=replace(RATE, source="another desk")),
        replace(order, rate=replace(RATE, numerator=2, denominator=6)),
    ]
    for other in others:
        with pytest.raises(ExchangeExistsDifferent):
            await book(database, desk, other)
    assert (await figures(database, desk.tenant, anna, bert))["anna XLM"] == FUNDS - 107
    assert await actions(database, desk.tenant) == ["exchange.post"]


async def test_two_who_ask_at_once_under_one_id_get_one_exchange(
    database: Database, desk: Principal, anna: WalletId, bert: WalletId
) -> None:
    order = wanted(anna, bert)
    first, *rest = await asyncio.gather(*(book(database, desk, order) for _ in range(4)))
    assert all(each == first for each in rest)
    assert (await figures(database, desk.tenant, anna, bert))["anna XLM"] == FUNDS - 100
    different = await asyncio.gather(
        *(
            book(database, desk, replace(order, id=ExchangeId(VAULT), fee=fee))
            for fee in (None, Amount(XLM, 1))
        ),
        return_exceptions=True,
    )
    assert sorted(type(each).__name__ for each in different) == ["Exchange", "ExchangeExistsDifferent"]


async def test_a_reversal_mirrors_every_leg_once(
    database: Database, desk: Principal, anna: WalletId, bert: WalletId
) -> None:
    order = wanted(anna, bert, fee=7)
    await book(database, desk, order)
    undone = await undo(database, desk, order.id)
    assert (undone.reversed_by, undone.sold) == ("desk", order.sold)
    assert undone.reversed_at is not None
    assert await figures(database, desk.tenant, anna, bert) == NOTHING_HAPPENED
    with pytest.raises(ExchangeReversed):
        await undo(database, desk, order.id)
    assert await figures(database, desk.tenant, anna, bert) == NOTHING_HAPPENED
    async with database.read(desk.tenant) as session:
        assert await exchanges.get(session, order.id) == undone
    assert await actions(database, desk.tenant) == ["exchange.post", "exchange.reverse"]


async def test_two_who_reverse_at_once_reverse_once(
    database: Database, desk: Principal, anna: WalletId, bert: WalletId
) -> None:
    order = wanted(anna, bert)
    await book(database, desk, order)
    ended = await asyncio.gather(*(undo(database, desk, order.id) for _ in range(3)), return_exceptions=True)
    assert sorted(type(each).__name__ for each in ended) == [
        "Exchange",
        "ExchangeReversed",
        "ExchangeReversed",
    ]
    assert await figures(database, desk.tenant, anna, bert) == NOTHING_HAPPENED


async def test_what_is_spent_is_not_taken_back(
    database: Database, desk: Principal, anna: WalletId, bert: WalletId
) -> None:
    order = wanted(anna, bert)
    await book(database, desk, order)
    spent = RequestTransfer(
        id=TransferId(new_uuid()),
        source_wallet_id=bert,
        destination_wallet_id=anna,
        amount=Amount(EUR, 1),
    )
    await send(database, desk, spent)
    before = await figures(database, desk.tenant, anna, bert)
    with pytest.raises(InsufficientFunds):
        await undo(database, desk, order.id)
    assert await figures(database, desk.tenant, anna, bert) == before


async def test_one_leg_reversed_by_hand_keeps_the_exchange_from_half_a_reversal(
    database: Database, desk: Principal, anna: WalletId, bert: WalletId
) -> None:
    order = wanted(anna, bert)
    await book(database, desk, order)
    leg = postings.exchange_reversed(exchange_id=order.id, with_fee=False)[0]
    assert isinstance(leg, Reverse)
    async with database.unit_of_work(desk.tenant) as uow:
        await ledger.post(uow, Reverse(id=new_uuid(), transfer_id=leg.transfer_id))
    before = await figures(database, desk.tenant, anna, bert)
    with pytest.raises(ExchangeReversed) as refused:
        await undo(database, desk, order.id)
    assert isinstance(refused.value.__cause__, AlreadyReversed)
    assert await figures(database, desk.tenant, anna, bert) == before


async def test_another_tenants_exchange_is_not_there(
    database: Database, desk: Principal, other_tenant: TenantId, anna: WalletId, bert: WalletId
) -> None:
    order = wanted(anna, bert)
    await book(database, desk, order)
    stranger = replace(desk, tenant=other_tenant)
    async with database.unit_of_work(other_tenant) as uow:
        for attempt in (exchanges.get(uow, order.id), exchanges.reverse(uow, stranger, order.id)):
            with pytest.raises(UnknownExchange):
                await attempt
        assert await exchanges.list_exchanges(uow) == []
        with pytest.raises(UnknownWallet):
            await exchanges.request(uow, stranger, wanted(anna, bert), NOW)


async def test_a_quote_from_tomorrow_is_refused(
    database: Database, desk: Principal, anna: WalletId, bert: WalletId
) -> None:
    ahead = replace(RATE, quoted_at=NOW + exchanges.AHEAD_MAX)
    await book(database, desk, replace(wanted(anna, bert), rate=ahead))
    late = replace(ahead, quoted_at=ahead.quoted_at + timedelta(microseconds=1))
    with pytest.raises(BadQuoteTime):
        await book(database, desk, replace(wanted(anna, bert), rate=late))


async def test_a_page_goes_on_where_the_last_one_ended(
    database: Database, desk: Principal, anna: WalletId, bert: WalletId
) -> None:
    made = [await book(database, desk, wanted(anna, bert)) for _ in range(3)]
    newest = sorted(made, key=lambda each: each.id, reverse=True)
    async with database.read(desk.tenant) as session:
        first = await exchanges.list_exchanges(session, limit=2)
        rest = await exchanges.list_exchanges(session, before=first[-1].id, limit=2)
    assert [*first, *rest] == newest


@pytest.mark.parametrize(
    "change",
    ["bought = 34", "bought = 0", "sold = 0", "rounding = 'ceil'", "bought_asset = sold_asset", "fee = 0"],
)
async def test_the_database_computes_the_rate_again(
    database: Database, desk: Principal, anna: WalletId, bert: WalletId, admin_dsn: str, change: str
) -> None:
    await book(database, desk, wanted(anna, bert))
    connection = await asyncpg.connect(admin_dsn)
    try:
        await connection.execute("ALTER TABLE exchanges DISABLE TRIGGER append_only_rows")
        await connection.execute("UPDATE exchanges SET bought = 33")
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute(f"UPDATE exchanges SET {change}")
    finally:
        await connection.close()


def move(source: WalletId, destination: WalletId, amount: int, fee: int | None) -> RequestTransfer:
    return RequestTransfer(
        id=TransferId(new_uuid()),
        source_wallet_id=source,
        destination_wallet_id=destination,
        amount=Amount(XLM, amount),
        fee=None if fee is None else Amount(XLM, fee),
    )


async def test_a_transfers_fee_is_charged_beside_it_and_shown_with_it(
    database: Database, desk: Principal, anna: WalletId, bert: WalletId
) -> None:
    order = move(anna, bert, 100, 7)
    made = await send(database, desk, order)
    free = await send(database, desk, move(anna, bert, 1, None))
    assert await send(database, desk, order) == made
    assert (made.amount, made.fee, free.fee) == (Amount(XLM, 100), Amount(XLM, 7), None)
    found = await figures(database, desk.tenant, anna, bert)
    assert (found["anna XLM"], found["bert XLM"], found["fees XLM"]) == (FUNDS - 108, 101, 7)
    async with database.read(desk.tenant) as session:
        assert await transfers.get(session, made.id) == made
        assert {each.id: each.fee for each in await transfers.list_transfers(session)} == {
            made.id: made.fee,
            free.id: None,
        }
    assert await actions(database, desk.tenant) == ["transfer.post", "transfer.post"]


async def test_who_cannot_pay_the_fee_moves_nothing(
    database: Database, desk: Principal, anna: WalletId, bert: WalletId
) -> None:
    with pytest.raises(InsufficientFunds):
        await send(database, desk, move(anna, bert, FUNDS, 1))
    assert await figures(database, desk.tenant, anna, bert) == NOTHING_HAPPENED


@pytest.mark.parametrize(("first", "second"), [(None, 7), (7, None), (7, 8)])
async def test_a_transfer_again_with_another_fee_is_refused_and_charges_nothing(
    database: Database,
    desk: Principal,
    anna: WalletId,
    bert: WalletId,
    first: int | None,
    second: int | None,
) -> None:
    order = move(anna, bert, 100, first)
    await send(database, desk, order)
    before = await figures(database, desk.tenant, anna, bert)
    other = replace(order, fee=None if second is None else Amount(XLM, second))
    with pytest.raises(TransferExistsDifferent):
        await send(database, desk, other)
    assert await figures(database, desk.tenant, anna, bert) == before
