"""Deposits: money that arrived from outside at one of our vaults."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import Field

from api.auth import Caller, requires
from api.filters import OLDEST_FIRST, Direction, OfWallet, asked_state, asked_wallet, states_of, walk_of
from api.paging import next_cursor, page_of, parse_id_cursor, show_cursor
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
from custody.assets import service as assets
from custody.assets.model import Asset
from custody.deposits import service as deposits
from custody.deposits.errors import UnknownDeposit
from custody.deposits.model import Deposit
from custody.deposits.transitions import DEPOSITS
from custody.kernel.ids import DepositId, parse_id, show_id

router = APIRouter(prefix="/v1/deposits", tags=["deposits"], route_class=StrictRoute)

Reader = Annotated[Caller, Depends(requires("deposits:read"))]

DepositPath = Annotated[str, Path(max_length=40, examples=["dep_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])]


class DepositOut(Out):
    """One arrival. Its id stays the same when a reorganisation moves its transaction to another block."""

    id: str = Field(examples=["dep_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])
    state: str = Field(
        description="`observed` until its block is final; then `credited`, or `suspended` while nobody can be named.",
        examples=["credited"],
    )
    wallet_id: str | None = Field(description="Whose it is; null while nobody can be named.")
    vault_id: str
    amount: AmountOut
    chain: str = Field(examples=["stellar:devnet"])
    height: str = Field(description="Of the block that holds it.", examples=["7421"])
    tx_hash: str
    source: str = Field(description="Who sent it.")
    account: str = Field(description="Our account, as the sender named it: on Stellar perhaps a muxed one.")
    memo: str | None
    occurred_at: str = Field(description="When its block was closed.")
    observed_at: str
    changed_at: str


@router.get("", responses=READ_PROBLEMS)
async def list_deposits(
    caller: Reader,
    wallet_id: OfWallet = None,
    state: Annotated[str | None, states_of(DEPOSITS)] = None,
    order: Direction = OLDEST_FIRST,
    cursor: Cursor = None,
    limit: Limit = LIMIT_DEFAULT,
) -> PageOut[DepositOut]:
    """Deposits by when they were observed. What an asset brought that is not listed has only a case."""
    named = walk_of("deposits", order)
    start, wallet, states = (
        parse_id_cursor(named, cursor),
        asked_wallet(wallet_id),
        asked_state(state, DEPOSITS),
    )
    async with caller.read() as session:
        listed = {asset.id: asset for asset in await assets.list_assets(session)}
        found = await deposits.list_deposits(
            session,
            wallet_id=wallet,
            states=states,
            of_assets=listed,
            after=start,
            limit=limit + 1,
            newest_first=order != OLDEST_FIRST,
        )
    page = page_of(found, limit)
    return PageOut(
        data=[show_deposit(listed[row.transfer.asset], row) for row in page.rows],
        next_cursor=next_cursor(page, lambda row: show_cursor(named, row.id)),
    )


@router.get("/{deposit_id}", responses=READ_PROBLEMS)
async def get_deposit(deposit_id: DepositPath, caller: Reader) -> DepositOut:
    """One deposit."""
    wanted = DepositId(parse_id("dep", deposit_id))
    async with caller.read() as session:
        found = await deposits.get_deposit(session, wanted)
        asset = await assets.find(session, found.transfer.asset)
    if asset is None:
        raise UnknownDeposit
    return show_deposit(asset, found)


def show_deposit(asset: Asset, found: Deposit) -> DepositOut:
    """A deposit as responses carry it."""
    seen = found.transfer
    return DepositOut(
        id=show_id("dep", found.id),
        state=found.state,
        wallet_id=None if found.wallet_id is None else show_id("wal", found.wallet_id),
        vault_id=show_id("vlt", found.vault_id),
        amount=show_amount(asset, seen.amount),
        chain=seen.chain,
        height=str(seen.height),
        tx_hash=seen.tx_hash,
        source=seen.source,
        account=seen.account,
        memo=seen.memo or None,
        occurred_at=show_time(seen.occurred_at),
        observed_at=show_time(found.observed_at),
        changed_at=show_time(found.changed_at),
    )
