"""Write events in the transaction of what happened; read them back in order."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from sqlalchemy import func, insert, select, update

from custody.db.session import ReadSession, UnitOfWork
from custody.events.catalog import EVENTS
from custody.events.errors import UnknownEvent
from custody.events.model import Event
from custody.events.tables import outbox
from custody.events.trace import current_trace
from custody.kernel.ids import EventId, TenantId, new_uuid


async def emit(uow: UnitOfWork, event_type: str, object_id: UUID, data: Mapping[str, object]) -> None:
    """Record a fact. It is heard only if the transaction commits. Raises UnknownEvent."""
    if event_type not in EVENTS:
        raise UnknownEvent(type=event_type)
    await uow.conn.execute(
        insert(outbox).values(
            tenant_id=uow.tenant,
            id=new_uuid(),
            type=event_type,
            object_id=object_id,
            data=dict(data),
            trace_id=current_trace(),
        )
    )


async def take_unrelayed(uow: UnitOfWork, limit: int) -> list[Event]:
    """The tenant's oldest events that nobody was woken for, locked and marked as relayed.

    Two relays never take the same row. A crash after the commit loses a wake-up, never work: the sweeper finds it.
    """
    rows = await uow.conn.execute(
        select(outbox)
        .where(outbox.c.tenant_id == uow.tenant, outbox.c.relayed_at.is_(None))
        .order_by(outbox.c.sequence)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    events = [
        Event(
            tenant=TenantId(row.tenant_id),
            id=EventId(row.id),
            sequence=row.sequence,
            type=row.type,
            object_id=row.object_id,
            data=row.data,
            trace_id=row.trace_id,
        )
        for row in rows
    ]
    if events:
        await uow.conn.execute(
            update(outbox)
            .where(outbox.c.tenant_id == uow.tenant, outbox.c.id.in_([event.id for event in events]))
            .values(relayed_at=func.clock_timestamp())
        )
    return events


async def count_of(session: ReadSession, object_id: UUID) -> int:
    """How many events an object has had."""
    rows = await session.conn.execute(
        select(func.count())
        .select_from(outbox)
        .where(outbox.c.tenant_id == session.tenant, outbox.c.object_id == object_id)
    )
    return int(rows.scalar_one())
