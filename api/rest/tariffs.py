"""What withdrawals cost customers: the tariffs, and quotes that bind us for a while."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import Field
from starlette.responses import Response

from api.auth import Caller, requires
from api.errors import at
from api.idempotency import Command, commands
from api.rest.fees import KIND
from api.rest.shapes import (
    COMMAND_PROBLEMS,
    READ_PROBLEMS,
    AmountOut,
    AssetText,
    AtomicText,
    In,
    Out,
    PageOut,
    ShownId,
    load_asset,
    parse_field_id,
    parse_money,
    problems,
    show_amount,
    show_time,
)
from api.strict_json import StrictRoute
from custody.assets import service as assets
from custody.assets.model import Asset
from custody.db.session import UnitOfWork
from custody.kernel.ids import QuoteId, WalletId, new_uuid, parse_id, show_id
from custody.kernel.money import parse_atomic
from custody.tariffs import service as tariffs
from custody.tariffs.model import ROUNDING, FeeKind, Quote, RequestQuote, Tariff, TariffTerms

router = APIRouter(prefix="/v1", tags=["withdrawals"], route_class=StrictRoute)
Reader = Annotated[Caller, Depends(requires("tariffs:read"))]
Operate = Annotated[Command, Depends(commands("tariffs:write"))]
Write = Annotated[Command, Depends(commands("withdrawals:quote"))]

QuotePath = Annotated[str, Path(max_length=40, examples=["qte_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])]


class TariffIn(In):
    """What withdrawals of an asset cost from now on, in that asset. Terms that the kind does not know are refused."""

    asset: AssetText
    kind: FeeKind = Field(description=KIND, examples=["bps"])
    flat: AtomicText = Field(default="0", description="`flat`: the fee.")
    bps: int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="`bps`: of the amount. `network`: mark-up on what the chain took. 100 is one per cent.",
        examples=[25],
    )
    minimum: AtomicText = Field(default="0", description="`bps`: the least that is charged.")
    maximum: AtomicText | None = Field(
        default=None, description="`bps`: the most that is charged. `network`: the ceiling, and needed."
    )
    quote_valid_s: int = Field(ge=1, le=86_400, description="How long a quote binds us.", examples=[300])
    note: str = Field(default="", max_length=200, description="Why.")


class TariffOut(Out):
    """A tariff in force."""

    asset: AssetText
    version: int
    kind: str = Field(description=KIND)
    flat: AtomicText
    bps: int
    minimum: AtomicText
    maximum: AtomicText | None
    quote_valid_s: int
    rounding: str = Field(description="`ceil`: a part of an atomic unit is charged as a whole one.")
    set_by: str
    note: str


class QuoteIn(In):
    """A withdrawal that is considered."""

    wallet_id: ShownId = Field(examples=["wal_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])
    asset: AssetText
    amount: AtomicText


class QuoteOut(Out):
    """What it costs, for whoever asks for the withdrawal with this quote's id in time."""

    id: str = Field(examples=["qte_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])
    wallet_id: str
    amount: AmountOut = Field(description="What the receiver gets.")
    kind: str = Field(description=KIND)
    tariff_version: int | None
    fee: AmountOut = Field(
        description="What is held with the amount, and charged; of kind `network` the most that can be charged."
    )
    total: AmountOut = Field(description="Amount and fee: what the wallet must have.")
    markup_bps: int = Field(description="`network`: on top of what the chain takes.")
    rounding: str
    expires_at: str
    created_at: str


@router.get("/tariffs", responses=READ_PROBLEMS)
async def list_tariffs(caller: Reader) -> PageOut[TariffOut]:
    """The tariffs in force. Withdrawals of an asset without one are free."""
    async with caller.read() as session:
        found = await tariffs.list_tariffs(session)
    return PageOut(data=[_show_tariff(each) for each in found], next_cursor=None)


@router.post("/tariffs", status_code=200, response_model=TariffOut, responses=COMMAND_PROBLEMS)
async def set_tariff(body: TariffIn, command: Operate) -> Response:
    """Say what withdrawals of an asset cost from now on. Quotes that were given, and withdrawals under way, keep their terms."""
    with at("/flat"):
        flat = parse_atomic(body.flat)
    with at("/minimum"):
        minimum = parse_atomic(body.minimum)
    with at("/maximum"):
        maximum = None if body.maximum is None else parse_atomic(body.maximum)
    terms = TariffTerms(
        kind=body.kind,
        flat=flat,
        bps=body.bps,
        minimum=minimum,
        maximum=maximum,
        quote_valid_s=body.quote_valid_s,
    )

    async def effect(uow: UnitOfWork) -> TariffOut:
        asset = await load_asset(uow, body.asset)
        subject = command.principal.subject
        return _show_tariff(await tariffs.set_tariff(uow, subject, asset.id, terms, body.note))

    return await command.run(effect, status=200)


@router.post("/withdrawal-quotes", status_code=201, response_model=QuoteOut, responses=COMMAND_PROBLEMS)
async def quote_withdrawal(body: QuoteIn, command: Write) -> Response:
    """Say what a withdrawal costs. Nothing is held; name the quote in the withdrawal to have it at this price."""
    wallet_id = WalletId(parse_field_id("wal", body.wallet_id, "wallet_id"))
    quote_id = QuoteId(new_uuid())

    async def effect(uow: UnitOfWork) -> QuoteOut:
        asset = await load_asset(uow, body.asset)
        wanted = RequestQuote(id=quote_id, wallet_id=wallet_id, amount=parse_money(asset, body.amount))
        made = await tariffs.quote(uow, command.principal.subject, wanted, command.app.clock.now())
        return _show_quote(asset, made)

    return await command.run(effect)


@router.get("/withdrawal-quotes/{quote_id}", responses=problems(400, 404))
async def get_quote(quote_id: QuotePath, caller: Reader) -> QuoteOut:
    """One quote."""
    async with caller.read() as session:
        found = await tariffs.get_quote(session, QuoteId(parse_id("qte", quote_id)))
        asset = await assets.get(session, found.amount.asset)
    return _show_quote(asset, found)


def _show_tariff(found: Tariff) -> TariffOut:
    terms = found.terms
    return TariffOut(
        asset=found.asset.text,
        version=found.version,
        kind=terms.kind,
        flat=str(terms.flat),
        bps=terms.bps,
        minimum=str(terms.minimum),
        maximum=None if terms.maximum is None else str(terms.maximum),
        quote_valid_s=terms.quote_valid_s,
        rounding=ROUNDING,
        set_by=found.set_by,
        note=found.note,
    )


def _show_quote(asset: Asset, found: Quote) -> QuoteOut:
    return QuoteOut(
        id=show_id("qte", found.id),
        wallet_id=show_id("wal", found.wallet_id),
        amount=show_amount(asset, found.amount.atomic),
        kind=found.fee.kind,
        tariff_version=found.fee.tariff_version,
        fee=show_amount(asset, found.fee.held),
        total=show_amount(asset, found.amount.atomic + found.fee.held),
        markup_bps=found.fee.markup_bps,
        rounding=ROUNDING,
        expires_at=show_time(found.expires_at),
        created_at=show_time(found.created_at),
    )
