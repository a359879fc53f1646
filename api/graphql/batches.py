"""Withdrawals that one approval is asked for."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import strawberry
from strawberry.types import Info

from api.graphql.context import Context
from api.graphql.movements import Withdrawal, show_withdrawal
from custody.kernel.errors import NotFound
from custody.kernel.ids import show_id
from custody.withdrawals import batches

Ctx = Info[Context, None]


@strawberry.type
class WithdrawalBatch:
    """A batch with its lines. `missing`: how many people have yet to approve."""

    id: strawberry.ID
    digest: str
    initiator: str
    missing: int
    lines: list[Withdrawal]
    expires_at: datetime
    created_at: datetime


async def find_batch(info: Ctx, value: UUID) -> WithdrawalBatch | None:
    """A batch by id."""
    try:
        async with info.context.turn() as session:
            found = await batches.view(session, value)
    except NotFound:
        return None
    info.context.budget.spend(len(found.lines))
    return WithdrawalBatch(
        id=strawberry.ID(show_id("bat", found.batch.id)),
        digest=found.batch.digest.hex(),
        initiator=found.batch.initiator,
        missing=found.verdict.missing,
        lines=[show_withdrawal(await info.context.asset(line.asset), line) for line in found.lines],
        expires_at=found.batch.expires_at,
        created_at=found.batch.created_at,
    )
