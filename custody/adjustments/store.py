"""SQL of adjustments."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, select, update
from sqlalchemy.dialects.postgresql import insert

from custody.adjustments.model import Adjustment, Direction, ProposeAdjustment, Reason
from custody.adjustments.tables import adjustments
from custody.adjustments.transitions import ADJUSTMENTS
from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.assetid import parse_asset_id
from custody.kernel.errors import IllegalTransition
from custody.kernel.ids import AdjustmentId, WalletId
from custody.kernel.money import Amount


async def insert_adjustment(uow: UnitOfWork, wanted: ProposeAdjustment, proposed_by: str) -> bool:
    """Whether it was written; False when the id is known."""
    written = await uow.conn.execute(
        insert(adjustments)
        .values(
            tenant_id=uow.tenant,
            id=wanted.id,
            wallet_id=wanted.wallet_id,
            direction=wanted.direction.value,
            asset=wanted.amount.asset.text,
            amount=wanted.amount.atomic,
            reason=wanted.reason.value,
            evidence=wanted.evidence,
            state=ADJUSTMENTS.initial,
            proposed_by=proposed_by,
        )
        .on_conflict_do_nothing()
        .returning(adjustments.c.id)
    )
    return written.one_or_none() is not None


async def lock_adjustment(uow: UnitOfWork, adjustment_id: AdjustmentId) -> Adjustment | None:
    """The tenant's adjustment of this id, held until the transaction ends."""
    rows = await uow.conn.execute(
        select(adjustments)
        .where(adjustments.c.tenant_id == uow.tenant, adjustments.c.id == adjustment_id)
        .with_for_update()
    )
    row = rows.one_or_none()
    return None if row is None else _adjustment(row)


async def decide(
    uow: UnitOfWork,
    adjustment_id: AdjustmentId,
    event: str,
    *,
    decided_by: str,
    note: str,
    booked_at: datetime | None = None,
) -> Adjustment:
    """Make one legal move. Raises IllegalTransition."""
    rows = await uow.conn.execute(
        update(adjustments)
        .where(
            adjustments.c.tenant_id == uow.tenant,
            adjustments.c.id == adjustment_id,
            adjustments.c.state.in_(ADJUSTMENTS.sources(event)),
        )
        .values(
            state=ADJUSTMENTS.target_of(event),
            decided_by=decided_by,
            decided_at=func.clock_timestamp(),
            note=note,
            booked_at=booked_at,
        )
        .returning(adjustments)
    )
    row = rows.one_or_none()
    if row is None:
        raise IllegalTransition(object=ADJUSTMENTS.name, event=event)
    return _adjustment(row)


async def load_adjustment(session: ReadSession, adjustment_id: AdjustmentId) -> Adjustment | None:
    """The tenant's adjustment of this id."""
    rows = await session.conn.execute(
        select(adjustments).where(
            adjustments.c.tenant_id == session.tenant, adjustments.c.id == adjustment_id
        )
    )
    row = rows.one_or_none()
    return None if row is None else _adjustment(row)


async def load_adjustments(
    session: ReadSession, *, state: str | None, before: AdjustmentId | None, limit: int
) -> list[Adjustment]:
    """A page by falling id, of one state or of all."""
    query = select(adjustments).where(adjustments.c.tenant_id == session.tenant)
    if state is not None:
        query = query.where(adjustments.c.state == state)
    if before is not None:
        query = query.where(adjustments.c.id < before)
    rows = await session.conn.execute(query.order_by(adjustments.c.id.desc()).limit(limit))
    return [_adjustment(row) for row in rows]


def _adjustment(row: Row[Any]) -> Adjustment:
    return Adjustment(
        wanted=ProposeAdjustment(
            id=AdjustmentId(row.id),
            wallet_id=WalletId(row.wallet_id),
            direction=Direction(row.direction),
            amount=Amount(parse_asset_id(row.asset), int(row.amount)),
            reason=Reason(row.reason),
            evidence=row.evidence,
        ),
        state=row.state,
        proposed_by=row.proposed_by,
        proposed_at=row.created_at,
        decided_by=row.decided_by,
        decided_at=row.decided_at,
        note=row.note,
        booked_at=row.booked_at,
    )
