"""Withdrawal batches: many withdrawals under one approval, and what approvers are shown of them.

An approver gets the document and the intent of every line as canonical bytes. The approver's tool hashes each line, holds the
list and the sums against the document, shows all of it, and signs for the document's digest.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Collection
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query
from pydantic import Field
from starlette.responses import Response

from api.auth import Caller, requires
from api.errors import at
from api.idempotency import Command, commands
from api.paging import next_cursor, page_of, parse_id_cursor, show_cursor
from api.rest.approvals import (
    ApprovalGroupOut,
    DecisionIn,
    DecisionOut,
    PasskeyOut,
    read_decision,
    show_decision,
    show_groups,
    show_passkeys,
)
from api.rest.shapes import (
    COMMAND_PROBLEMS,
    LIMIT_DEFAULT,
    READ_PROBLEMS,
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
    show_time,
)
from api.rest.withdrawal_shapes import MemoIn, WithdrawalOut, describe_withdrawal
from api.rest.withdrawals import look_up_receiver
from api.strict_json import StrictRoute
from custody.assets import service as assets
from custody.chains import address as addresses
from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.ids import WalletId, WithdrawalId, parse_id, show_id
from custody.policy.model import Word
from custody.signing import batches as documents
from custody.withdrawals import batches, voids
from custody.withdrawals.batches import RequestBatch, line_id
from custody.withdrawals.model import NO_MEMO, Batch, BatchView, Memo, RequestWithdrawal
from custody.withdrawals.transitions import WITHDRAWALS

router = APIRouter(tags=["withdrawals"], route_class=StrictRoute)
Reader = Annotated[Caller, Depends(requires("approvals:read"))]
Write = Annotated[Command, Depends(commands("withdrawals:batch"))]
Approve = Annotated[Command, Depends(commands("approvals:decide"))]

BatchPath = Annotated[str, Path(max_length=40, examples=["bat_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])]


class LineIn(In):
    """One withdrawal of a batch."""

    wallet_id: ShownId = Field(examples=["wal_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])
    asset: AssetText
    amount: AtomicText
    destination: str = Field(
        min_length=1,
        max_length=128,
        examples=["GBRPYHIL2CI3FNQ4BXLFMNDLFJUNPU2HY3ZMFSHONUCEOASW7QC7OX2H"],
    )
    memo: MemoIn | None = None


class BatchIn(In):
    """Withdrawals that one approval is asked for."""

    lines: list[LineIn] = Field(min_length=1, max_length=documents.LINES_MAX)


class BatchOut(Out):
    """A batch, without its lines."""

    id: str = Field(examples=["bat_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])
    digest: str = Field(description="What approvers sign for. Hexadecimal.")
    initiator: str
    expires_at: str
    created_at: str


class BatchDetail(BatchOut):
    """A batch with its lines; each has a state of its own."""

    missing: int = Field(description="How many people are still missing.")
    lines: list[WithdrawalOut]


class BatchApprovalOut(Out):
    """What is to be decided about."""

    id: str
    document: str = Field(description="The canonical bytes that approvers sign for, in base64.")
    lines: list[str] = Field(description="The canonical bytes of every line's intent, in order, in base64.")
    digest: str = Field(description="Of the document; compute it yourself before you sign. Hexadecimal.")
    fields: dict[str, str] = Field(description="The document's fields as text, for reading only.")
    states: list[str] = Field(description="The state of every line.")
    approver_set_version: int = Field(description="Part of what is signed.")
    threshold: int = Field(description="How many different people must approve.")
    missing: int = Field(description="How many are still missing.")
    groups: list[ApprovalGroupOut]
    cool_down_s: int
    decisions: list[DecisionOut]
    passkeys: list[PasskeyOut]
    expires_at: str


@router.post(
    "/v1/withdrawal-batches", status_code=201, response_model=BatchDetail, responses=COMMAND_PROBLEMS
)
async def request_batch(body: BatchIn, command: Write) -> Response:
    """Ask for up to 100 withdrawals that are approved as one. All amounts are held, or none is."""
    batch_id = command.derived_id("withdrawal_batch")
    if (done := await command.recorded()) is not None:
        return done
    clients = command.app.clients
    found = await asyncio.gather(
        *(look_up_receiver(clients, line.asset, line.destination) for line in body.lines)
    )

    async def effect(uow: UnitOfWork) -> BatchDetail:
        lines = [await parse_line(uow, line, batch_id, place) for place, line in enumerate(body.lines)]
        wanted = RequestBatch(id=batch_id, lines=tuple(lines), receivers=tuple(found))
        made = await batches.request(
            uow, command.principal, wanted, settings=command.app.settings, clock=command.app.clock
        )
        return await _show_detail(uow, made)

    return await command.run(effect)


@router.get("/v1/withdrawal-batches", responses=READ_PROBLEMS)
async def list_batches(
    caller: Reader, cursor: Cursor = None, limit: Limit = LIMIT_DEFAULT
) -> PageOut[BatchOut]:
    """Batches, oldest first."""
    after = parse_id_cursor("batches", cursor)
    async with caller.read() as session:
        page = page_of(await batches.list_batches(session, after, limit + 1), limit)
    return PageOut(
        data=[BatchOut(**_fields(row)) for row in page.rows],
        next_cursor=next_cursor(page, lambda row: show_cursor("batches", row.id)),
    )


@router.get("/v1/withdrawal-batches/{batch_id}", responses=READ_PROBLEMS)
async def get_batch(batch_id: BatchPath, caller: Reader) -> BatchDetail:
    """One batch with its lines."""
    async with caller.read() as session:
        return await _show_detail(session, await batches.view(session, parse_id("bat", batch_id)))


@router.post(
    "/v1/withdrawal-batches/{batch_id}/cancel",
    status_code=200,
    response_model=BatchDetail,
    responses=COMMAND_PROBLEMS,
)
async def cancel_batch(batch_id: BatchPath, command: Write, _: Empty | None = None) -> Response:
    """Take all lines back while no key can have been touched for any. Single lines are cancelled as withdrawals are."""
    wanted = parse_id("bat", batch_id)
    if (done := await command.recorded()) is not None:
        return done
    async with command.read() as session:
        lines = (await batches.view(session, wanted)).lines
    voided = await voids.void_approved(command.app.signer, lines)

    async def effect(uow: UnitOfWork) -> BatchDetail:
        return await _show_detail(uow, await voids.cancel_batch(uow, command.principal, wanted, voided))

    return await command.run(effect, status=200)


@router.get("/v1/batch-approvals", responses=READ_PROBLEMS)
async def list_batch_approvals(
    caller: Reader,
    state: Annotated[
        Literal["pending"], Query(description="Only what still waits for approvers.")
    ] = "pending",
    cursor: Cursor = None,
    limit: Limit = LIMIT_DEFAULT,
) -> PageOut[BatchApprovalOut]:
    """Batches with a line that waits for approvers, oldest first."""
    after = parse_id_cursor(f"batch-approvals-{state}", cursor)
    async with caller.read() as session:
        rows = await batches.list_batches(session, after, limit + 1, states=WITHDRAWALS.sources("approve"))
        page = page_of(rows, limit)
        shown = [_show_approval(await batches.view(session, row.id)) for row in page.rows]
    return PageOut(
        data=shown,
        next_cursor=next_cursor(page, lambda row: show_cursor(f"batch-approvals-{state}", row.id)),
    )


@router.get("/v1/batch-approvals/{batch_id}", responses=READ_PROBLEMS)
async def get_batch_approval(batch_id: BatchPath, caller: Reader) -> BatchApprovalOut:
    """A batch as approvers check it, with the decisions about it."""
    async with caller.read() as session:
        return _show_approval(await batches.view(session, parse_id("bat", batch_id)))


@router.post(
    "/v1/batch-approvals/{batch_id}/decisions",
    status_code=201,
    response_model=BatchApprovalOut,
    responses=COMMAND_PROBLEMS,
)
async def decide_batch(batch_id: BatchPath, body: DecisionIn, command: Approve) -> Response:
    """Record an approver's decision about all lines. The signer checks every signature again for itself."""
    wanted, decision = parse_id("bat", batch_id), read_decision(body)
    if (done := await command.recorded()) is not None:
        return done
    decided: list[BatchView] = []
    rejects, app = decision.word is Word.REJECT, command.app
    voided: Collection[WithdrawalId] = ()
    if rejects:
        tenant = command.principal.tenant
        voided = await voids.void_rejected_batch(app.db, app.signer, tenant, wanted, decision)

    async def effect(uow: UnitOfWork) -> BatchApprovalOut:
        if rejects:
            decided.append(await voids.reject_batch(uow, wanted, decision, voided))
        else:
            decided.append(await batches.decide(uow, wanted, decision))
        return _show_approval(decided[-1])

    answer = await command.run(effect)
    for view in decided:
        for line in view.lines:
            await command.wake("advance_withdrawal", line.id)
    return answer


async def parse_line(uow: UnitOfWork, line: LineIn, batch_id: UUID, place: int) -> RequestWithdrawal:
    """The withdrawal at a place of a batch. Raises UnknownAsset, and FieldError, which names line and field."""
    field = f"lines/{place}"
    asset = await load_asset(uow, line.asset, f"{field}/asset")
    amount = parse_money(asset, line.amount, f"{field}/amount")
    with at(f"/{field}/destination"):
        addresses.parse(asset.id.chain, line.destination)
    memo = NO_MEMO if line.memo is None else Memo(type=line.memo.type, value=line.memo.value)
    return RequestWithdrawal(
        id=line_id(batch_id, place),
        wallet_id=WalletId(parse_field_id("wal", line.wallet_id, f"{field}/wallet_id")),
        asset=asset.id,
        destination=line.destination,
        amount=amount.atomic,
        memo=memo,
    )


def _fields(batch: Batch) -> dict[str, str]:
    return {
        "id": show_id("bat", batch.id),
        "digest": batch.digest.hex(),
        "initiator": batch.initiator,
        "expires_at": show_time(batch.expires_at),
        "created_at": show_time(batch.created_at),
    }


async def _show_detail(session: ReadSession, view: BatchView) -> BatchDetail:
    listed = {each: await assets.get(session, each) for each in {line.asset for line in view.lines}}
    lines = [describe_withdrawal(listed[line.asset], line) for line in view.lines]
    return BatchDetail(**_fields(view.batch), missing=view.verdict.missing, lines=lines)


def _show_approval(view: BatchView) -> BatchApprovalOut:
    return BatchApprovalOut(
        id=show_id("bat", view.batch.id),
        document=base64.b64encode(view.batch.document).decode(),
        lines=[base64.b64encode(line.intent).decode() for line in view.lines],
        digest=view.batch.digest.hex(),
        fields=documents.show(view.batch.document),
        states=[line.state for line in view.lines],
        approver_set_version=view.approver_set_version,
        threshold=view.verdict.threshold,
        missing=view.verdict.missing,
        groups=show_groups(view.verdict),
        cool_down_s=view.verdict.cool_down_s,
        decisions=[show_decision(each) for each in view.decisions],
        passkeys=show_passkeys(view.approvers),
        expires_at=show_time(view.batch.expires_at),
    )
