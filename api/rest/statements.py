"""A wallet's books: its statement with running balances."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from pydantic import Field

from api.auth import Caller, requires
from api.filters import OLDEST_FIRST, Direction, walk_of
from api.paging import next_cursor, page_of, parse_number_cursor, show_cursor
from api.rest.shapes import (
    LIMIT_DEFAULT,
    READ_PROBLEMS,
    AmountOut,
    AssetPath,
    Cursor,
    Limit,
    Out,
    PageOut,
    show_amount,
    show_time,
)
from api.rest.wallets import WalletPath
from api.strict_json import StrictRoute
from custody.assets import service as assets
from custody.assets.model import Asset
from custody.kernel.assetid import parse_asset_id
from custody.kernel.ids import WalletId, parse_id
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.ledger.model import Entry, Side
from custody.wallets import service as wallets

router = APIRouter(prefix="/v1/wallets", tags=["wallets"], route_class=StrictRoute)

Reader = Annotated[Caller, Depends(requires("wallets:read"))]


class StatementLineOut(Out):
    """One entry of a wallet's account, as the wallet's owner sees it."""

    version: str = Field(description="1, 2, 3 … per wallet and asset, without gaps.", examples=["17"])
    kind: str = Field(description="How it was booked.", examples=["transfer"])
    code: str = Field(description="What for.", examples=["wallet_transfer"])
    reference: str = Field(
        description="UUID of what it belongs to; the hexadecimal part of that object's shown id."
    )
    direction: Literal["credit", "debit"] = Field(description="`credit` where the wallet received `amount`.")
    amount: AmountOut = Field(description="What was posted; zero where only something was held or released.")
    balance: AmountOut = Field(description="What was posted after this entry.")
    reserved: AmountOut = Field(description="What was held after it.")
    booked_at: str
    effective_at: str = Field(description="Its value date.")


@router.get("/{wallet_id}/statements/{asset:path}", responses=READ_PROBLEMS)
async def get_statement(
    wallet_id: WalletPath,
    caller: Reader,
    asset: AssetPath,
    order: Direction = OLDEST_FIRST,
    cursor: Cursor = None,
    limit: Limit = LIMIT_DEFAULT,
) -> PageOut[StatementLineOut]:
    """The wallet's entries of one asset with running balances. `422 history_archived` where the page would begin with months that
    are archived; newest first, the list ends where they begin."""
    wanted, named = WalletId(parse_id("wal", wallet_id)), walk_of("statement", order)
    place = parse_number_cursor(named, cursor)
    asset_id = parse_asset_id(asset)
    async with caller.read() as session:
        await wallets.get_wallet(session, wanted)
        listed = await assets.get(session, asset_id)
        account = postings.wallet_account(wanted, asset_id)
        if order == OLDEST_FIRST:
            found = await ledger.statement(session, account, place or 0, limit + 1)
        else:
            found = await ledger.statement_back(session, account, place, limit + 1)
    page = page_of(found, limit)
    return PageOut(
        data=[_show(listed, row) for row in page.rows],
        next_cursor=next_cursor(page, lambda row: show_cursor(named, row.version)),
    )


def _show(asset: Asset, entry: Entry) -> StatementLineOut:
    return StatementLineOut(
        version=str(entry.version),
        kind=entry.kind,
        code=entry.code,
        reference=str(entry.reference),
        direction="credit" if entry.side is Side.CREDIT else "debit",
        amount=show_amount(asset, entry.posted),
        balance=show_amount(asset, entry.balance),
        reserved=show_amount(asset, entry.held),
        booked_at=show_time(entry.booked_at),
        effective_at=show_time(entry.effective_at),
    )
