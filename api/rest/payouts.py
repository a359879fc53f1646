"""Payouts: money that leaves a wallet for a bank account outside."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import Field
from starlette.responses import Response

from api.auth import Caller, requires
from api.filters import NEWEST_FIRST, Direction, OfWallet, asked_state, asked_wallet, states_of, walk_of
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
from custody.kernel.ids import BankAccountId, PayoutId, WalletId, new_uuid, parse_id, show_id
from custody.payouts import service as payouts
from custody.payouts.model import Payout, RequestPayout
from custody.payouts.transitions import PAYOUTS

router = APIRouter(prefix="/v1/payouts", tags=["payouts"], route_class=StrictRoute)

Reader = Annotated[Caller, Depends(requires("payouts:read"))]
Write = Annotated[Command, Depends(commands("payouts:request"))]
Cancel = Annotated[Command, Depends(commands("payouts:cancel"))]

PayoutPath = Annotated[str, Path(max_length=40, examples=["pay_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])]


class BeneficiaryIn(In):
    """Who is paid."""

    iban: str = Field(min_length=5, max_length=42, examples=["FR1420041010050500013M02606"])
    name: str = Field(min_length=1, max_length=70, examples=["Grace Hopper"])


class PayoutIn(In):
    """A payout as it is asked for."""

    wallet_id: ShownId = Field(examples=["wal_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])
    bank_account_id: ShownId = Field(
        description="Which of our bank accounts pays.", examples=["bnk_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"]
    )
    asset: AssetText = Field(examples=["fiat/EUR"])
    amount: AtomicText = Field(examples=["12500"])
    beneficiary: BeneficiaryIn
    remittance: str = Field(
        default="", max_length=140, description="Text for the beneficiary.", examples=["Invoice 7421"]
    )


class PayoutOut(Out):
    """A payout as it stands."""

    id: str = Field(examples=["pay_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])
    state: str = Field(examples=["submitted"])
    wallet_id: str
    bank_account_id: str
    rail: str
    amount: AmountOut
    beneficiary_iban: str
    beneficiary_name: str
    remittance: str
    reference: str | None = Field(description="Our reference at the rail; known once it was first sent.")
    external_ref: str | None = Field(description="The rail's own id.")
    reason: str | None = Field(description="The rail's code for a rejection or return.")
    created_at: str


@router.post("", status_code=201, response_model=PayoutOut, responses=COMMAND_PROBLEMS)
async def request_payout(body: PayoutIn, command: Write) -> Response:
    """Ask for a payout. The amount is held on the wallet until the rail has settled or refused it."""
    wallet_id = WalletId(parse_field_id("wal", body.wallet_id, "wallet_id"))
    bank_account_id = BankAccountId(parse_field_id("bnk", body.bank_account_id, "bank_account_id"))
    payout_id = PayoutId(new_uuid())

    async def effect(uow: UnitOfWork) -> PayoutOut:
        asset = await load_asset(uow, body.asset)
        wanted = RequestPayout(
            id=payout_id,
            wallet_id=wallet_id,
            bank_account_id=bank_account_id,
            beneficiary_iban=body.beneficiary.iban,
            beneficiary_name=body.beneficiary.name,
            amount=parse_money(asset, body.amount),
            remittance=body.remittance,
        )
        return await show_payout(uow, await payouts.request(uow, command.principal, wanted))

    return await command.run(effect)


@router.get("", responses=READ_PROBLEMS)
async def list_payouts(
    caller: Reader,
    wallet_id: OfWallet = None,
    state: Annotated[str | None, states_of(PAYOUTS)] = None,
    order: Direction = NEWEST_FIRST,
    cursor: Cursor = None,
    limit: Limit = LIMIT_DEFAULT,
) -> PageOut[PayoutOut]:
    """Payouts by when they were asked for."""
    named = walk_of("payouts", order)
    after, wallet, states = (
        parse_id_cursor(named, cursor),
        asked_wallet(wallet_id),
        asked_state(state, PAYOUTS),
    )
    async with caller.read() as session:
        found = await payouts.list_payouts(
            session,
            wallet_id=wallet,
            states=states,
            after=None if after is None else PayoutId(after),
            limit=limit + 1,
            newest_first=order == NEWEST_FIRST,
        )
    page = page_of(found, limit)
    listed = await caller.listed([row.amount.asset for row in page.rows])
    return PageOut(
        data=[_describe(listed[row.amount.asset], row) for row in page.rows],
        next_cursor=next_cursor(page, lambda row: show_cursor(named, row.id)),
    )


@router.get("/{payout_id}", responses=READ_PROBLEMS)
async def get_payout(payout_id: PayoutPath, caller: Reader) -> PayoutOut:
    """One payout."""
    async with caller.read() as session:
        return await show_payout(session, await payouts.get(session, PayoutId(parse_id("pay", payout_id))))


@router.post("/{payout_id}/cancel", status_code=200, response_model=PayoutOut, responses=COMMAND_PROBLEMS)
async def cancel_payout(payout_id: PayoutPath, command: Cancel, _: Empty | None = None) -> Response:
    """Take a payout back before it was sent to the rail. Its hold is released."""
    wanted = PayoutId(parse_id("pay", payout_id))

    async def effect(uow: UnitOfWork) -> PayoutOut:
        return await show_payout(uow, await payouts.cancel(uow, command.principal, wanted))

    return await command.run(effect, status=200)


async def show_payout(session: ReadSession, found: Payout) -> PayoutOut:
    """A payout as responses carry it."""
    return _describe(await assets.get(session, found.amount.asset), found)


def _describe(asset: Asset, found: Payout) -> PayoutOut:
    return PayoutOut(
        id=show_id("pay", found.id),
        state=found.state,
        wallet_id=show_id("wal", found.wallet_id),
        bank_account_id=show_id("bnk", found.bank_account_id),
        rail=found.rail,
        amount=show_amount(asset, found.amount.atomic),
        beneficiary_iban=found.beneficiary_iban,
        beneficiary_name=found.beneficiary_name,
        remittance=found.remittance,
        reference=found.reference,
        external_ref=found.external_ref,
        reason=found.reason or None,
        created_at=show_time(found.created_at),
    )
