"""Thousands of transfers in one request, each answered by itself; named groups move together or not at all."""

from __future__ import annotations

from collections import Counter
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path
from pydantic import Field
from starlette.responses import Response

from api.auth import Caller, requires
from api.deps import poster_of
from api.errors import at
from api.idempotency import Command, commands
from api.rest.shapes import (
    COMMAND_PROBLEMS,
    READ_PROBLEMS,
    In,
    Out,
    parse_field_id,
    parse_money,
    show_time,
)
from api.rest.transfers import TransferIn
from api.strict_json import StrictRoute
from custody.assets import service as assets
from custody.assets.model import Asset
from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.assetid import parse_asset_id
from custody.kernel.ids import WalletId, parse_id, show_id
from custody.transfers import bulk
from custody.transfers.model import BulkAnswer, BulkState, BulkTransfer, RequestTransfer

router = APIRouter(prefix="/v1/transfers", tags=["transfers"], route_class=StrictRoute)

Reader = Annotated[Caller, Depends(requires("transfers:read"))]
Write = Annotated[Command, Depends(commands("transfers:bulk"))]

BulkPath = Annotated[str, Path(max_length=40, examples=["blk_0192f0a81c7a5d10b5b0c8e6f7a1d2c3"])]

TRANSFERS_MAX = 5000
"""In one request. Larger imports are several requests, each with a key of its own."""


class BulkTransferIn(TransferIn):
    """One of many transfers."""

    group: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")] | None = Field(
        default=None,
        description="Transfers of one group move together or not at all. Absent for a transfer by itself.",
        examples=["invoice-17"],
    )


class BulkIn(In):
    """Many transfers."""

    transfers: list[BulkTransferIn] = Field(
        min_length=1,
        max_length=TRANSFERS_MAX,
        examples=[
            [
                {
                    "from_wallet_id": "wal_0192f0a81c7a7d10b5b0c8e6f7a1d2c3",
                    "to_wallet_id": "wal_0192f0a81c7a7d10b5b0c8e6f7a1d2c4",
                    "asset": "stellar:devnet/native",
                    "amount": "2500000",
                    "group": "invoice-17",
                }
            ]
        ],
    )


class BulkAnswerOut(Out):
    """What became of one transfer."""

    id: str = Field(examples=["trf_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])
    status: BulkState = Field(
        description="`waiting`: accepted and not posted. The same request with the same key posts it, once nothing stops it."
    )
    code: str | None = Field(
        description="Why it was refused: a ledger refusal; `chain_refused` when another transfer of its group was refused. Why "
        "it waits: `stopped_by_switch`; null when only its request was cut off.",
        examples=["insufficient_funds"],
    )
    booked_at: str | None


class BulkOut(Out):
    """Every transfer's answer, in the order of the request."""

    id: str = Field(examples=["blk_0192f0a81c7a5d10b5b0c8e6f7a1d2c3"])
    data: list[BulkAnswerOut]
    posted: int
    refused: int
    waiting: int = Field(description="How many wait.")


@router.post("/bulk", response_model=BulkOut, responses=COMMAND_PROBLEMS)
async def make_bulk_transfers(body: BulkIn, command: Write) -> Response:
    """Move money between many pairs of wallets.

    The request is checked as a whole first: a wallet, asset or amount that is wrong refuses all of it. Then every transfer, or
    group, is answered by itself. The same key and body again finish what a crash or a kill switch left undone and give the same
    answers.
    """
    bulk_id = command.derived_id("bulk")
    app, tenant = command.app, command.principal.tenant

    async with command.read() as session:
        transfers = await parse_lines(session, bulk_id, body)

    async def accept(uow: UnitOfWork) -> None:
        await bulk.accept(uow, command.principal, bulk_id, transfers)

    replayed = await command.accept(accept)
    answers = await bulk.post(app.db, poster_of(command.request), tenant, transfers)
    return command.answer(_show(bulk_id, answers), 200, replayed=replayed)


@router.get("/bulk/{bulk_id}", responses=READ_PROBLEMS)
async def get_bulk_transfers(bulk_id: BulkPath, caller: Reader) -> BulkOut:
    """How the transfers of one request stand now."""
    async with caller.read() as session:
        found, answers = await bulk.get(session, parse_id("blk", bulk_id))
    return _show(found.id, answers)


async def parse_lines(session: ReadSession, bulk_id: UUID, body: BulkIn) -> list[BulkTransfer]:
    """The transfers of a request. Raises FieldError, which names the line that is wrong."""
    known: dict[str, Asset] = {}
    transfers = []
    for place, line in enumerate(body.transfers):
        field = f"transfers/{place}"
        if line.asset not in known:
            with at(f"/{field}/asset"):
                known[line.asset] = await assets.get(session, parse_asset_id(line.asset))
        asset = known[line.asset]
        wanted = RequestTransfer(
            id=bulk.transfer_id(bulk_id, place),
            source_wallet_id=WalletId(parse_field_id("wal", line.from_wallet_id, f"{field}/from_wallet_id")),
            destination_wallet_id=WalletId(parse_field_id("wal", line.to_wallet_id, f"{field}/to_wallet_id")),
            amount=parse_money(asset, line.amount, f"{field}/amount"),
            fee=None if line.fee is None else parse_money(asset, line.fee, f"{field}/fee"),
        )
        transfers.append(BulkTransfer(wanted=wanted, group=line.group))
    return transfers


def _show(bulk_id: UUID, answers: list[BulkAnswer]) -> BulkOut:
    data = [
        BulkAnswerOut(
            id=show_id("trf", each.id),
            status=each.state,
            code=each.code,
            booked_at=None if each.booked_at is None else show_time(each.booked_at),
        )
        for each in answers
    ]
    many = Counter(each.status for each in data)
    return BulkOut(
        id=show_id("blk", bulk_id),
        data=data,
        posted=many["posted"],
        refused=many["refused"],
        waiting=many["waiting"],
    )
