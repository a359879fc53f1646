"""Exchanges: one asset for another inside the books, at a rate that an operator states."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path
from pydantic import Field
from starlette.responses import Response

from api.auth import Caller, requires
from api.errors import at
from api.idempotency import Command, commands
from api.paging import next_cursor, page_of, parse_id_cursor, show_cursor
from api.rest.shapes import (
    COMMAND_PROBLEMS,
    LIMIT_DEFAULT,
    READ_PROBLEMS,
    AmountOut,
    AssetText,
    AtomicText,
    Cursor,
    Empty,
    In,
    Limit,
    Out,
    PageOut,
    ShownId,
    load_asset,
    parse_field_id,
    parse_money,
    show_amount,
    show_time,
)
from api.strict_json import StrictRoute
from custody.assets import service as assets
from custody.assets.model import Asset
from custody.db.session import ReadSession, UnitOfWork
from custody.exchanges import service as exchanges
from custody.exchanges.errors import BadQuoteTime
from custody.exchanges.model import SOURCE_MAX, Exchange, Rate, RequestExchange, Rounding
from custody.kernel.ids import ExchangeId, WalletId, new_uuid, parse_id, show_id
from custody.kernel.money import parse_positive

router = APIRouter(prefix="/v1/exchanges", tags=["exchanges"], route_class=StrictRoute)

Reader = Annotated[Caller, Depends(requires("exchanges:read"))]
Operate = Annotated[Command, Depends(commands("exchanges:write"))]

ExchangePath = Annotated[str, Path(max_length=40, examples=["exc_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])]
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)", re.ASCII)
"""Source: RFC 3339 s.5.6, without lower-case letters and leap seconds."""


class RateIn(In):
    """An exact rate, and where it comes from."""

    numerator: AtomicText = Field(
        description="Atomic units of the bought asset for `denominator` atomic units of the sold one.",
        examples=["1187"],
    )
    denominator: AtomicText = Field(examples=["1000000000"])
    source: str = Field(
        min_length=1,
        max_length=SOURCE_MAX,
        description="Who quoted it, in words that can be followed up.",
        examples=["desk quote 7421"],
    )
    quoted_at: str = Field(
        max_length=40, description="When it was quoted: RFC 3339.", examples=["2026-11-22T10:15:00Z"]
    )


class ExchangeIn(In):
    """An exchange as it is asked for."""

    from_wallet_id: ShownId = Field(examples=["wal_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])
    to_wallet_id: ShownId = Field(
        description="Who gets what is bought; may be the same wallet.",
        examples=["wal_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"],
    )
    asset: AssetText = Field(description="What is sold.")
    amount: AtomicText = Field(description="How much of it is sold, without the fee.")
    to_asset: AssetText = Field(description="What is bought.", examples=["fiat/EUR"])
    rate: RateIn
    rounding: Literal["floor", "ceil"] = Field(
        description="What becomes of a part of an atomic unit of the bought asset: `floor` keeps it, `ceil` makes it up."
    )
    fee: AtomicText | None = Field(
        default=None,
        description="What the seller is charged on top, in the sold asset. Absent for no fee.",
        examples=["2500"],
    )


class RateOut(Out):
    """An exact rate, and where it comes from."""

    numerator: str
    denominator: str
    source: str
    quoted_at: str


class ExchangeOut(Out):
    """An exchange that was booked."""

    id: str = Field(examples=["exc_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])
    from_wallet_id: str
    to_wallet_id: str
    sold: AmountOut
    bought: AmountOut
    fee: AmountOut | None = Field(description="What the seller was charged on top, in the sold asset.")
    rate: RateOut
    rounding: str
    requested_by: str
    booked_at: str
    reversed_by: str | None
    reversed_at: str | None = Field(description="When every leg was mirrored; null while it stands.")


@router.post("", status_code=201, response_model=ExchangeOut, responses=COMMAND_PROBLEMS)
async def make_exchange(body: ExchangeIn, command: Operate) -> Response:
    """Sell one asset for another. Both legs and the fee are booked, or nothing is. Needs `operate`, since the caller states the
    rate."""
    source = WalletId(parse_field_id("wal", body.from_wallet_id, "from_wallet_id"))
    destination = WalletId(parse_field_id("wal", body.to_wallet_id, "to_wallet_id"))
    rate = parse_rate(body.rate)
    exchange_id = ExchangeId(new_uuid())

    async def effect(uow: UnitOfWork) -> ExchangeOut:
        asset = await load_asset(uow, body.asset)
        bought = await load_asset(uow, body.to_asset, "to_asset")
        wanted = RequestExchange(
            id=exchange_id,
            source_wallet_id=source,
            destination_wallet_id=destination,
            sold=parse_money(asset, body.amount),
            bought_asset=bought.id,
            rate=rate,
            rounding=Rounding(body.rounding),
            fee=None if body.fee is None else parse_money(asset, body.fee, "fee"),
        )
        made = await exchanges.request(uow, command.principal, wanted, command.app.clock.now())
        return await show_exchange(uow, made)

    return await command.run(effect)


@router.post(
    "/{exchange_id}/reverse", status_code=200, response_model=ExchangeOut, responses=COMMAND_PROBLEMS
)
async def reverse_exchange(exchange_id: ExchangePath, command: Operate, _: Empty | None = None) -> Response:
    """Undo an exchange by the mirror of every leg, the fee's as well; once, and only while what was bought is still there."""
    target = ExchangeId(parse_id("exc", exchange_id))

    async def effect(uow: UnitOfWork) -> ExchangeOut:
        return await show_exchange(uow, await exchanges.reverse(uow, command.principal, target))

    return await command.run(effect, status=200)


@router.get("", responses=READ_PROBLEMS)
async def list_exchanges(
    caller: Reader, cursor: Cursor = None, limit: Limit = LIMIT_DEFAULT
) -> PageOut[ExchangeOut]:
    """Exchanges, newest first."""
    before = parse_id_cursor("exchanges", cursor)
    async with caller.read() as session:
        found = await exchanges.list_exchanges(
            session, before=None if before is None else ExchangeId(before), limit=limit + 1
        )
    page = page_of(found, limit)
    listed = await caller.listed([asset for row in page.rows for asset in (row.sold.asset, row.bought.asset)])
    return PageOut(
        data=[_show(listed[row.sold.asset], listed[row.bought.asset], row) for row in page.rows],
        next_cursor=next_cursor(page, lambda row: show_cursor("exchanges", row.id)),
    )


@router.get("/{exchange_id}", responses=READ_PROBLEMS)
async def get_exchange(exchange_id: ExchangePath, caller: Reader) -> ExchangeOut:
    """One exchange."""
    async with caller.read() as session:
        return await show_exchange(
            session, await exchanges.get(session, ExchangeId(parse_id("exc", exchange_id)))
        )


def parse_rate(body: RateIn) -> Rate:
    """The field `rate`. Raises MalformedAmount, AmountNotPositive, AmountTooLarge, BadRateSource, BadQuoteTime at the field."""
    with at("/rate/numerator"):
        numerator = parse_positive(body.numerator)
    with at("/rate/denominator"):
        denominator = parse_positive(body.denominator)
    with at("/rate/quoted_at"):
        quoted_at = parse_moment(body.quoted_at)
    with at("/rate/source"):
        return Rate(numerator=numerator, denominator=denominator, source=body.source, quoted_at=quoted_at)


def parse_moment(text: str) -> datetime:
    """A moment in UTC. Raises BadQuoteTime."""
    if not _MOMENT.fullmatch(text):
        raise BadQuoteTime
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise BadQuoteTime from error


async def show_exchange(session: ReadSession, found: Exchange) -> ExchangeOut:
    """An exchange as responses carry it."""
    sold = await assets.get(session, found.sold.asset)
    bought = await assets.get(session, found.bought.asset)
    return _show(sold, bought, found)


def _show(sold: Asset, bought: Asset, found: Exchange) -> ExchangeOut:
    return ExchangeOut(
        id=show_id("exc", found.id),
        from_wallet_id=show_id("wal", found.source_wallet_id),
        to_wallet_id=show_id("wal", found.destination_wallet_id),
        sold=show_amount(sold, found.sold.atomic),
        bought=show_amount(bought, found.bought.atomic),
        fee=None if found.fee is None else show_amount(sold, found.fee.atomic),
        rate=RateOut(
            numerator=str(found.rate.numerator),
            denominator=str(found.rate.denominator),
            source=found.rate.source,
            quoted_at=show_time(found.rate.quoted_at),
        ),
        rounding=found.rounding.value,
        requested_by=found.requested_by,
        booked_at=show_time(found.booked_at),
        reversed_by=found.reversed_by,
        reversed_at=None if found.reversed_at is None else show_time(found.reversed_at),
    )
