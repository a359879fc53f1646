"""Receipts: money that banks say has arrived for us."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import Field

from api.auth import Caller, requires
from api.paging import next_cursor, page_of, parse_number_cursor, show_cursor
from api.rest.shapes import (
    LIMIT_DEFAULT,
    READ_PROBLEMS,
    AmountOut,
    Cursor,
    Limit,
    Out,
    PageOut,
    show_amount,
    show_time,
)
from api.strict_json import StrictRoute
from custody.assets.model import Asset
from custody.kernel.ids import show_id
from custody.receipts import service as receipts
from custody.receipts.model import Receipt

router = APIRouter(prefix="/v1/receipts", tags=["receipts"], route_class=StrictRoute)

Reader = Annotated[Caller, Depends(requires("receipts:read"))]


class ReceiptOut(Out):
    """Money that arrived."""

    id: str = Field(examples=["rcp_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])
    outcome: str = Field(
        description="`credited`, or `suspended` while nobody can be named.", examples=["credited"]
    )
    wallet_id: str | None
    bank_account_id: str
    rail: str
    amount: AmountOut
    remittance: str = Field(description="The payer's text, in which a wallet's payment reference may stand.")
    debtor_name: str
    external_ref: str = Field(description="The bank's id of the credit.")
    occurred_at: str
    created_at: str


@router.get("", responses=READ_PROBLEMS)
async def list_receipts(
    caller: Reader, cursor: Cursor = None, limit: Limit = LIMIT_DEFAULT
) -> PageOut[ReceiptOut]:
    """Receipts, newest first."""
    before = parse_number_cursor("receipts", cursor)
    async with caller.read() as session:
        page = page_of(await receipts.list_receipts(session, before=before, limit=limit + 1), limit)
    listed = await caller.listed([row.amount.asset for row in page.rows])
    return PageOut(
        data=[_show(listed[row.amount.asset], row) for row in page.rows],
        next_cursor=next_cursor(page, lambda row: show_cursor("receipts", row.sequence)),
    )


def _show(asset: Asset, found: Receipt) -> ReceiptOut:
    return ReceiptOut(
        id=show_id("rcp", found.id),
        outcome=found.outcome.value,
        wallet_id=None if found.wallet_id is None else show_id("wal", found.wallet_id),
        bank_account_id=show_id("bnk", found.bank_account_id),
        rail=found.rail,
        amount=show_amount(asset, found.amount.atomic),
        remittance=found.remittance,
        debtor_name=found.debtor_name,
        external_ref=found.external_ref,
        occurred_at=show_time(found.occurred_at),
        created_at=show_time(found.created_at),
    )
