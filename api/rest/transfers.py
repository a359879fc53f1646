"""Transfers: money from one wallet to another of the same tenant, at once and for good."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import Field
from starlette.responses import Response

from api.auth import Caller, requires
from api.deps import transfers_of
from api.errors import at
from api.filters import OfWallet, asked_wallet
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
    parse_field_id,
    parse_money,
    show_amount,
    show_time,
)
from api.strict_json import StrictRoute
from custody.assets import service as assets
from custody.assets.model import Asset
from custody.db.session import ReadSession
from custody.events.trace import current_trace
from custody.kernel.assetid import parse_asset_id
from custody.kernel.ids import TransferId, WalletId, new_uuid, parse_id, show_id
from custody.transfers import service as transfers
from custody.transfers.model import RequestTransfer, WalletTransfer
from custody.transfers.together import AskedTransfer

router = APIRouter(prefix="/v1/transfers", tags=["transfers"], route_class=StrictRoute)

Reader = Annotated[Caller, Depends(requires("transfers:read"))]
Write = Annotated[Command, Depends(commands("transfers:request"))]

TransferPath = Annotated[str, Path(max_length=40, examples=["trf_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])]


class TransferIn(In):
    """A transfer as it is asked for."""

    from_wallet_id: ShownId = Field(examples=["wal_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])
    to_wallet_id: ShownId = Field(examples=["wal_0192f0a81c7a7d10b5b0c8e6f7a1d2c4"])
    asset: AssetText
    amount: AtomicText
    fee: AtomicText | None = Field(
        default=None,
        description="What the payer is charged on top of the amount, in the same asset. Absent for no fee.",
        examples=["2500"],
    )


class TransferOut(Out):
    """A transfer that was posted."""

    id: str = Field(examples=["trf_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])
    from_wallet_id: str
    to_wallet_id: str
    amount: AmountOut
    fee: AmountOut | None = Field(description="What the payer was charged on top of the amount.")
    booked_at: str


@router.post("", status_code=201, response_model=TransferOut, responses=COMMAND_PROBLEMS)
async def make_transfer(body: TransferIn, command: Write) -> Response:
    """Move money between two wallets. Both exist and the first has enough, for the fee as well, or nothing happens."""
    source = WalletId(parse_field_id("wal", body.from_wallet_id, "from_wallet_id"))
    destination = WalletId(parse_field_id("wal", body.to_wallet_id, "to_wallet_id"))
    with at("/asset"):
        asset_id = parse_asset_id(body.asset)
    asset = (await command.app.known_assets.of(command.app.db.reader, [asset_id]))[asset_id]
    wanted = RequestTransfer(
        id=TransferId(new_uuid()),
        source_wallet_id=source,
        destination_wallet_id=destination,
        amount=parse_money(asset, body.amount),
        fee=None if body.fee is None else parse_money(asset, body.fee, "fee"),
    )
    asked = AskedTransfer(
        use=await command.use(),
        wanted=wanted,
        trace_id=current_trace(),
        show=lambda booked: _show(asset, booked).model_dump_json().encode(),
    )
    return command.answered(await transfers_of(command.request).submit(command.principal.tenant, asked))


@router.get("", responses=READ_PROBLEMS)
async def list_transfers(
    caller: Reader, wallet_id: OfWallet = None, cursor: Cursor = None, limit: Limit = LIMIT_DEFAULT
) -> PageOut[TransferOut]:
    """Transfers of one wallet, on either side, or of all; newest first."""
    before, wallet = parse_id_cursor("transfers", cursor), asked_wallet(wallet_id)
    async with caller.read() as session:
        found = await transfers.list_transfers(
            session,
            wallet_id=wallet,
            before=None if before is None else TransferId(before),
            limit=limit + 1,
        )
    page = page_of(found, limit)
    listed = await caller.listed([row.amount.asset for row in page.rows])
    return PageOut(
        data=[_show(listed[row.amount.asset], row) for row in page.rows],
        next_cursor=next_cursor(page, lambda row: show_cursor("transfers", row.id)),
    )


@router.get("/{transfer_id}", responses=READ_PROBLEMS)
async def get_transfer(transfer_id: TransferPath, caller: Reader) -> TransferOut:
    """One transfer."""
    async with caller.read() as session:
        return await show_transfer(
            session, await transfers.get(session, TransferId(parse_id("trf", transfer_id)))
        )


async def show_transfer(session: ReadSession, found: WalletTransfer) -> TransferOut:
    """A transfer as responses carry it."""
    return _show(await assets.get(session, found.amount.asset), found)


def _show(asset: Asset, found: WalletTransfer) -> TransferOut:
    return TransferOut(
        id=show_id("trf", found.id),
        from_wallet_id=show_id("wal", found.source_wallet_id),
        to_wallet_id=show_id("wal", found.destination_wallet_id),
        amount=show_amount(asset, found.amount.atomic),
        fee=None if found.fee is None else show_amount(asset, found.fee.atomic),
        booked_at=show_time(found.booked_at),
    )
