"""Adjustments: a wallet credited or debited by hand. One operator proposes, another confirms; the same person never does both."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query
from pydantic import Field
from starlette.responses import Response

from api.auth import Caller, requires
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
from custody.adjustments import service as adjustments
from custody.adjustments.model import WORDS_MAX, Adjustment, Direction, ProposeAdjustment, Reason
from custody.assets import service as assets
from custody.assets.model import Asset
from custody.db.session import ReadSession, UnitOfWork
from custody.identity.model import Principal
from custody.kernel.ids import AdjustmentId, WalletId, new_uuid, parse_id, show_id

router = APIRouter(prefix="/v1/adjustments", tags=["adjustments"], route_class=StrictRoute)
Reader = Annotated[Caller, Depends(requires("adjustments:read"))]
Operate = Annotated[Command, Depends(commands("adjustments:decide"))]

AdjustmentPath = Annotated[str, Path(max_length=40, examples=["adj_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])]
State = Literal["proposed", "posted", "rejected", "withdrawn"]
Decide = Callable[[UnitOfWork, Principal, AdjustmentId, str], Awaitable[Adjustment]]


class AdjustmentIn(In):
    """An adjustment as it is proposed."""

    wallet_id: ShownId = Field(examples=["wal_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])
    direction: Literal["credit", "debit"] = Field(
        description="As the wallet sees it: `credit` gives, `debit` takes.", examples=["credit"]
    )
    asset: AssetText
    amount: AtomicText
    reason: Literal["correction", "goodwill", "compensation", "legal_order", "write_off", "opening"] = Field(
        examples=["correction"]
    )
    evidence: str = Field(
        min_length=1,
        max_length=WORDS_MAX,
        description="Where an examiner finds the proof.",
        examples=["ticket 7421; bank letter of 2026-11-20, sha256 9f2c4e6a"],
    )


class NoteIn(In):
    """What is said with a decision."""

    note: str = Field(min_length=1, max_length=WORDS_MAX, examples=["Checked against the bank's letter."])


class AdjustmentOut(Out):
    """An adjustment as it stands."""

    id: str = Field(examples=["adj_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])
    state: State
    wallet_id: str
    direction: Literal["credit", "debit"]
    amount: AmountOut
    reason: str
    evidence: str
    proposed_by: str
    proposed_at: str
    decided_by: str | None = Field(description="Who confirmed, rejected or withdrew it.")
    decided_at: str | None
    note: str | None = Field(description="What was said with the decision.")
    booked_at: str | None = Field(description="When it was posted; null while it is not.")


@router.post("", status_code=201, response_model=AdjustmentOut, responses=COMMAND_PROBLEMS)
async def propose_adjustment(body: AdjustmentIn, command: Operate) -> Response:
    """Propose that a wallet is credited or debited. Nothing moves until somebody else confirms it."""
    wallet_id = WalletId(parse_field_id("wal", body.wallet_id, "wallet_id"))
    adjustment_id = AdjustmentId(new_uuid())

    async def effect(uow: UnitOfWork) -> AdjustmentOut:
        asset = await load_asset(uow, body.asset)
        wanted = ProposeAdjustment(
            id=adjustment_id,
            wallet_id=wallet_id,
            direction=Direction(body.direction),
            amount=parse_money(asset, body.amount),
            reason=Reason(body.reason),
            evidence=body.evidence,
        )
        return await show_adjustment(uow, await adjustments.propose(uow, command.principal, wanted))

    return await command.run(effect)


@router.post(
    "/{adjustment_id}/confirm", status_code=200, response_model=AdjustmentOut, responses=COMMAND_PROBLEMS
)
async def confirm_adjustment(adjustment_id: AdjustmentPath, body: NoteIn, command: Operate) -> Response:
    """Agree as the second person: it is posted at once. `403 second_person_needed` for who proposed it."""
    return await _decide(adjustment_id, body, command, adjustments.confirm)


@router.post(
    "/{adjustment_id}/reject", status_code=200, response_model=AdjustmentOut, responses=COMMAND_PROBLEMS
)
async def reject_adjustment(adjustment_id: AdjustmentPath, body: NoteIn, command: Operate) -> Response:
    """Disagree as the second person. It is never posted."""
    return await _decide(adjustment_id, body, command, adjustments.reject)


@router.post(
    "/{adjustment_id}/withdraw", status_code=200, response_model=AdjustmentOut, responses=COMMAND_PROBLEMS
)
async def withdraw_adjustment(adjustment_id: AdjustmentPath, body: NoteIn, command: Operate) -> Response:
    """Take back what one proposed oneself, while nobody has decided."""
    return await _decide(adjustment_id, body, command, adjustments.withdraw)


@router.get("", responses=READ_PROBLEMS)
async def list_adjustments(
    caller: Reader,
    state: Annotated[State | None, Query(description="Only those in this state.")] = None,
    cursor: Cursor = None,
    limit: Limit = LIMIT_DEFAULT,
) -> PageOut[AdjustmentOut]:
    """Adjustments, newest first."""
    named = f"adjustments-{state or 'all'}"
    before = parse_id_cursor(named, cursor)
    async with caller.read() as session:
        found = await adjustments.list_adjustments(
            session, state=state, before=None if before is None else AdjustmentId(before), limit=limit + 1
        )
    page = page_of(found, limit)
    listed = await caller.listed([row.wanted.amount.asset for row in page.rows])
    return PageOut(
        data=[_show(listed[row.wanted.amount.asset], row) for row in page.rows],
        next_cursor=next_cursor(page, lambda row: show_cursor(named, row.id)),
    )


@router.get("/{adjustment_id}", responses=READ_PROBLEMS)
async def get_adjustment(adjustment_id: AdjustmentPath, caller: Reader) -> AdjustmentOut:
    """One adjustment."""
    wanted = AdjustmentId(parse_id("adj", adjustment_id))
    async with caller.read() as session:
        return await show_adjustment(session, await adjustments.get(session, wanted))


async def _decide(adjustment_id: str, body: NoteIn, command: Command, decide: Decide) -> Response:
    wanted = AdjustmentId(parse_id("adj", adjustment_id))

    async def effect(uow: UnitOfWork) -> AdjustmentOut:
        return await show_adjustment(uow, await decide(uow, command.principal, wanted, body.note))

    return await command.run(effect, status=200)


async def show_adjustment(session: ReadSession, found: Adjustment) -> AdjustmentOut:
    """An adjustment as responses carry it."""
    return _show(await assets.get(session, found.wanted.amount.asset), found)


def _show(asset: Asset, found: Adjustment) -> AdjustmentOut:
    wanted = found.wanted
    return AdjustmentOut.model_validate(
        {
            "id": show_id("adj", found.id),
            "state": found.state,
            "wallet_id": show_id("wal", wanted.wallet_id),
            "direction": wanted.direction.value,
            "amount": show_amount(asset, wanted.amount.atomic),
            "reason": wanted.reason.value,
            "evidence": wanted.evidence,
            "proposed_by": found.proposed_by,
            "proposed_at": show_time(found.proposed_at),
            "decided_by": found.decided_by,
            "decided_at": None if found.decided_at is None else show_time(found.decided_at),
            "note": found.note or None,
            "booked_at": None if found.booked_at is None else show_time(found.booked_at),
        }
    )
