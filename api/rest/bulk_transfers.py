"""Thousands of transfers in one request, each answered by itself; named groups move together or not at all."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import Field
from starlette.responses import Response

from api.deps import poster_of
from api.errors import at
from api.idempotency import Command, commands
from api.rest.shapes import (
    COMMAND_PROBLEMS,
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
from custody.kernel.ids import WalletId, show_id
from custody.ledger.model import ResultCode
from custody.transfers import bulk
from custody.transfers.bulk import BulkAnswer, BulkTransfer
from custody.transfers.model import RequestTransfer

router = APIRouter(prefix="/v1/transfers", tags=["transfers"], route_class=StrictRoute)

Write = Annotated[Command, Depends(commands("transfers:bulk"))]

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
    status: Literal["posted", "refused"]
    code: str | None = Field(
        description="Why it was refused: a ledger refusal; `chain_refused` when another transfer of its group was refused.",
        examples=["insufficient_funds"],
    )
    booked_at: str | None


class BulkOut(Out):
    """Every transfer's answer, in the order of the request."""

    data: list[BulkAnswerOut]
    posted: int
    refused: int


@router.post("/bulk", response_model=BulkOut, responses=COMMAND_PROBLEMS)
async def make_bulk_transfers(body: BulkIn, command: Write) -> Response:
    """Move money between many pairs of wallets.

    The request is checked as a whole first: a wallet, asset or amount that is wrong refuses all of it. Then every transfer, or
    group, is answered by itself. The same key and body again finish what a crash left undone and give the same answers.
    """
    bulk_id = command.derived_id("bulk")

    async with command.read() as session:
        transfers = await _parse(session, bulk_id, body)

    async def accept(uow: UnitOfWork) -> None:
        await bulk.accept(uow, command.principal, bulk_id, transfers)

    replayed = await command.accept(accept)
    answers = await bulk.post(poster_of(command.request), command.principal.tenant, transfers)
    return command.answer(_show(answers), 200, replayed=replayed)


async def _parse(session: ReadSession, bulk_id: UUID, body: BulkIn) -> list[BulkTransfer]:
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


def _show(answers: list[BulkAnswer]) -> BulkOut:
    data = [
        BulkAnswerOut(
            id=show_id("trf", each.id),
            status="posted" if each.result is ResultCode.APPLIED else "refused",
            code=None if each.result is ResultCode.APPLIED else each.result.value,
            booked_at=None if each.booked_at is None else show_time(each.booked_at),
        )
        for each in answers
    ]
    posted = sum(each.status == "posted" for each in data)
    return BulkOut(data=data, posted=posted, refused=len(data) - posted)
