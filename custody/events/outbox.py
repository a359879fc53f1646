"""Write events in the transaction of what happened; read them back in order."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Column, Row, Select, Table, func, insert, select, text, update

from custody.db.session import ReadSession, UnitOfWork
from custody.events.catalog import EVENTS
from custody.events.errors import UnknownEvent
from custody.events.model import Event
from custody.events.tables import outbox
from custody.events.trace import current_trace
from custody.kernel.ids import EventId, TenantId, new_uuid

_EMIT_ALL = text(
    "INSERT INTO outbox (tenant_id, id, type, object_id, data, trace_id)"
    " SELECT :tenant, id, type, object_id, CAST(data AS jsonb), trace_id"
    " FROM unnest(CAST(:ids AS uuid[]), CAST(:types AS text[]), CAST(:objects AS uuid[]), CAST(:data AS text[]),"
    " CAST(:traces AS text[])) WITH ORDINALITY AS told(id, type, object_id, data, trace_id, place) ORDER BY place"
)


async def emit(uow: UnitOfWork, event_type: str, object_id: UUID, data: Mapping[str, object]) -> None:
    """Record a fact. It is heard only if the transaction commits. Raises UnknownEvent."""
    if event_type not in EVENTS:
        raise UnknownEvent(type=event_type)
    uow.emitted.add(uow.tenant)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A fact to record."""

    type: str
    """One of the catalog."""
    object_id: UUID
    """What it happened to."""
    data: Mapping[str, object]
    """The whole of it."""
    trace_id: str | None
    """The request that caused it."""


async def emit_all(uow: UnitOfWork, told: Sequence[Told]) -> None:
    """Record several facts in one statement, in this order, each with the trace of its own cause. Raises UnknownEvent."""
    for each in told:
        if each.type not in EVENTS:
            raise UnknownEvent(type=each.type)
    if told:
        uow.emitted.add(uow.tenant)
        await uow.conn.execute(
            _EMIT_ALL,
            {
                "tenant": uow.tenant,
                "ids": [new_uuid() for _ in told],
                "types": [each.type for each in told],
                "objects": [each.object_id for each in told],
                "data": [orjson.dumps(dict(each.data)).decode() for each in told],
                "traces": [each.trace_id for each in told],
            },
        )


async def take_unrelayed(uow: UnitOfWork, limit: int) -> list[Event]:
    """The tenant's oldest events that nobody was told of, marked as relayed and placed in the tenant's feed.

    One relay of a tenant at a time, so that places are given in order and never below one that was read. A crash after the commit
    loses a wake-up, never work: the sweeper finds it.
    """
    await uow.lock(f"relay/{uow.tenant}")
    taken = (
        select(outbox.c.id, func.row_number().over(order_by=outbox.c.sequence).label("n"))
        .where(
            outbox.c.tenant_id == uow.tenant,
            outbox.c.id.in_(
                select(outbox.c.id)
                .where(outbox.c.tenant_id == uow.tenant, outbox.c.relayed_at.is_(None))
                .order_by(outbox.c.sequence)
                .limit(limit)
                .scalar_subquery()
            ),
        )
        .subquery()
    )
    last = (
        select(func.coalesce(func.max(outbox.c.position), 0))
        .where(outbox.c.tenant_id == uow.tenant)
        .scalar_subquery()
    )
    rows = await uow.conn.execute(
        update(outbox)
        .where(outbox.c.tenant_id == uow.tenant, outbox.c.id == taken.c.id)
        .values(relayed_at=func.clock_timestamp(), position=last + taken.c.n)
        .returning(outbox)
    )
    return sorted((_event(row) for row in rows), key=lambda event: event.position)


async def load_feed(
    session: ReadSession,
    *,
    after: int,
    types: Collection[str],
    limit: int,
    up_to: int | None = None,
    object_id: UUID | None = None,
) -> list[Event]:
    """A stretch of the tenant's feed: what was relayed."""
    whole = select(outbox).where(outbox.c.tenant_id == session.tenant)
    wanted = stretch(whole, outbox, outbox.c.position, after, up_to, types, object_id)
    rows = await session.conn.execute(wanted.limit(limit))
    return [_event(row) for row in rows]


def stretch(
    feed: Select[Any],
    table: Table,
    place: Column[int],
    after: int,
    up_to: int | None,
    types: Collection[str],
    object_id: UUID | None,
) -> Select[Any]:
    """What of a feed stands behind a place and up to another, in order; of these types only, where any are named; of one object
    or of all."""
    query = feed.where(place > after)
    if up_to is not None:
        query = query.where(place <= up_to)
    if types:
        query = query.where(table.c.type.in_(types))
    if object_id is not None:
        query = query.where(table.c.object_id == object_id)
    return query.order_by(place)


async def last_position(session: ReadSession) -> int:
    """The newest place of the tenant's feed; 0 before the first."""
    rows = await session.conn.execute(
        select(func.max(outbox.c.position)).where(outbox.c.tenant_id == session.tenant)
    )
    return int(rows.scalar_one() or 0)


async def load_events(session: ReadSession, ids: Collection[UUID]) -> dict[UUID, Event]:
    """Relayed events by id."""
    rows = await session.conn.execute(
        select(outbox).where(
            outbox.c.tenant_id == session.tenant, outbox.c.id.in_(ids), outbox.c.position.is_not(None)
        )
    )
    return {row.id: _event(row) for row in rows}


async def count_of(session: ReadSession, object_id: UUID) -> int:
    """How many events an object has had."""
    rows = await session.conn.execute(
        select(func.count())
        .select_from(outbox)
        .where(outbox.c.tenant_id == session.tenant, outbox.c.object_id == object_id)
    )
    return int(rows.scalar_one())


def _event(row: Row[Any]) -> Event:
    return Event(
        tenant=TenantId(row.tenant_id),
        id=EventId(row.id),
        sequence=row.sequence,
        position=row.position,
        type=row.type,
        object_id=row.object_id,
        data=row.data,
        occurred_at=row.created_at,
        trace_id=row.trace_id,
    )
