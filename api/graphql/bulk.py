"""Many transfers in one request, each answered by itself; groups of them move together or not at all."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from datetime import datetime
from uuid import UUID

import strawberry

from api.deps import batcher_of
from api.graphql.commands import Ctx, MutationStatus, carry_out, checked, command_of, fresh
from api.graphql.mutation_types import Payload
from api.graphql.parties import Money, show_money
from api.rest.bulk_transfers import BulkIn, parse_lines
from custody.db.session import UnitOfWork
from custody.kernel.errors import NotFound, Unavailable
from custody.kernel.ids import parse_id, show_id
from custody.transfers import bulk


@strawberry.type
class BulkTransferLine:
    """One of many transfers. `status`: `posted`, `refused`, or `waiting`: accepted and not posted, which the same mutation with
    the same key does once nothing stops it. `code` says why it was refused or waits; it is null for what only was cut off."""

    transfer_id: strawberry.ID
    status: str
    code: str | None
    from_wallet_id: strawberry.ID
    to_wallet_id: strawberry.ID
    amount: Money
    fee: Money | None
    group: str | None
    booked_at: datetime | None


@strawberry.type
class BulkTransfer:
    """Many transfers that were accepted as one request, in its order, and how many are posted, refused and waiting."""

    id: strawberry.ID
    posted: int
    refused: int
    waiting: int
    lines: list[BulkTransferLine]
    requested_by: str
    created_at: datetime


@strawberry.input
class BulkTransferLineInput:
    """One of many transfers, in atomic units. Those of one `group` move together or not at all."""

    from_wallet_id: strawberry.ID
    to_wallet_id: strawberry.ID
    asset: str
    amount: str
    fee: str | None = None
    group: str | None = None


@strawberry.input
class CreateBulkTransferInput:
    """Up to 5000 transfers. One that is wrong in itself refuses all of them; each is then posted or refused by itself."""

    idempotency_key: str
    transfers: list[BulkTransferLineInput]


@strawberry.type
class BulkTransferPayload(Payload):
    """What came of it; the bulk transfer is null where it was refused as a whole. `PENDING`: some of its lines wait."""

    bulk_transfer: BulkTransfer | None = None


@strawberry.type
class BulkQuery:
    """The part of the root that reads them."""

    @strawberry.field
    async def bulk_transfer(self, info: Ctx, id: strawberry.ID) -> BulkTransfer | None:  # noqa: A002 - Relay names the argument so
        """Many transfers of one request, as they stand now."""
        return await find_bulk(info, parse_id("blk", str(id)))


@strawberry.type
class BulkMutations:
    """The part of the root that asks for them."""

    @strawberry.mutation
    async def create_bulk_transfer(self, info: Ctx, input: CreateBulkTransferInput) -> BulkTransferPayload:  # noqa: A002 - as above
        """Move money between many pairs of wallets. The same key and content again finish what a crash, a kill switch or a full
        ledger left undone."""
        caller = info.context.caller

        async def work() -> tuple[UUID, bool]:
            command = command_of(info, "createBulkTransfer", input)
            lines = [
                {name: value for name, value in strawberry.asdict(line).items() if value is not None}
                for line in input.transfers
            ]
            body = checked(BulkIn, transfers=lines)
            bulk_id = command.derived_id("bulk")
            async with caller.read() as session:
                transfers = await parse_lines(session, bulk_id, body)

            async def accept(uow: UnitOfWork) -> UUID:
                await bulk.accept(uow, caller.principal, bulk_id, transfers)
                return bulk_id

            accepted = await command.run(accept)
            # Accepted is not refused any more: lines that the ledger cannot take now, or did not answer for, are shown to wait.
            with suppress(Unavailable):
                await bulk.post(caller.app.db, batcher_of(caller.app), caller.principal.tenant, transfers)
            return accepted

        done = await carry_out(caller, "transfers:bulk", MutationStatus.DONE, work)
        found = None if done.id is None else await find_bulk(fresh(info), done.id)
        waits = done.status is MutationStatus.DONE and found is not None and found.waiting > 0
        status = MutationStatus.PENDING if waits else done.status
        return BulkTransferPayload(status=status, errors=done.errors, bulk_transfer=found)


async def find_bulk(info: Ctx, value: UUID) -> BulkTransfer | None:
    """Many transfers of one request, by its id."""
    try:
        async with info.context.turn() as session:
            found, answers = await bulk.get(session, value)
    except NotFound:
        return None
    info.context.budget.spend(len(answers))
    listed = await info.context.listed_all({each.wanted.amount.asset for each in found.transfers})
    many = Counter(each.state for each in answers)
    lines = []
    for asked, answer in zip(found.transfers, answers, strict=True):
        wanted = asked.wanted
        asset = listed[wanted.amount.asset]
        lines.append(
            BulkTransferLine(
                transfer_id=strawberry.ID(show_id("trf", wanted.id)),
                status=answer.state,
                code=answer.code,
                from_wallet_id=strawberry.ID(show_id("wal", wanted.source_wallet_id)),
                to_wallet_id=strawberry.ID(show_id("wal", wanted.destination_wallet_id)),
                amount=show_money(asset, wanted.amount.atomic),
                fee=None if wanted.fee is None else show_money(asset, wanted.fee.atomic),
                group=asked.group,
                booked_at=answer.booked_at,
            )
        )
    return BulkTransfer(
        id=strawberry.ID(show_id("blk", found.id)),
        posted=many["posted"],
        refused=many["refused"],
        waiting=many["waiting"],
        lines=lines,
        requested_by=found.requested_by,
        created_at=found.created_at,
    )
