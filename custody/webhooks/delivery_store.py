"""SQL of deliveries and attempts. Every statement names the tenant, and every change of state is guarded."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, func, insert, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert as upsert

from custody.db.session import ReadSession, UnitOfWork
from custody.events.model import Event
from custody.kernel.ids import EventId, derived_uuid
from custody.webhooks.model import OPEN, Attempt, Delivery, Outcome, Reason, WebhookFigures
from custody.webhooks.tables import webhook_attempts as attempts
from custody.webhooks.tables import webhook_deliveries as deliveries
from custody.webhooks.tables import webhook_endpoints as endpoints
from custody.webhooks.transitions import WEBHOOK_DELIVERIES, WEBHOOK_ENDPOINTS

_INSERTED_AT_ONCE = 1000
"""A statement takes 32,767 parameters at most."""


async def insert_deliveries(uow: UnitOfWork, wanted: Sequence[tuple[UUID, Event]]) -> int:
    """A delivery for each pair of endpoint and event that has none, due at once. Returns how many were written."""
    written = 0
    for start in range(0, len(wanted), _INSERTED_AT_ONCE):
        written += await _insert(uow, wanted[start : start + _INSERTED_AT_ONCE])
    return written


async def _insert(uow: UnitOfWork, wanted: Sequence[tuple[UUID, Event]]) -> int:
    rows = [
        {
            "tenant_id": uow.tenant,
            "id": derived_uuid("webhook_delivery", uow.tenant, endpoint_id, event.id),
            "endpoint_id": endpoint_id,
            "event_id": event.id,
            "type": event.type,
            "object_id": event.object_id,
            "position": event.position,
            "state": WEBHOOK_DELIVERIES.initial,
            "next_at": event.occurred_at,
            "since": func.clock_timestamp(),
            "last_error": "",
        }
        for endpoint_id, event in wanted
    ]
    written = await uow.conn.execute(
        upsert(deliveries)
        .values(rows)
        .on_conflict_do_nothing(index_elements=["tenant_id", "endpoint_id", "event_id"])
        .returning(deliveries.c.id)
    )
    return len(written.all())


async def load_due_endpoints(session: ReadSession, now: datetime) -> list[UUID]:
    """Active endpoints with something to send whose circuit lets it through."""
    due = (
        select(deliveries.c.id)
        .where(
            deliveries.c.tenant_id == session.tenant,
            deliveries.c.endpoint_id == endpoints.c.id,
            deliveries.c.state.in_(WEBHOOK_DELIVERIES.sources("claim")),
            deliveries.c.next_at <= now,
        )
        .exists()
    )
    rows = await session.conn.execute(
        select(endpoints.c.id).where(
            endpoints.c.tenant_id == session.tenant,
            endpoints.c.state == WEBHOOK_ENDPOINTS.initial,
            or_(endpoints.c.circuit_until.is_(None), endpoints.c.circuit_until <= now),
            due,
        )
    )
    return list(rows.scalars())


async def claim(
    uow: UnitOfWork, endpoint_id: UUID, *, now: datetime, lease_until: datetime, limit: int
) -> list[Delivery]:
    """Take the endpoint's oldest due deliveries, of each object its earliest only, and count an attempt of each."""
    earlier = deliveries.alias("earlier")
    waits = (
        select(earlier.c.id)
        .where(
            earlier.c.tenant_id == deliveries.c.tenant_id,
            earlier.c.endpoint_id == deliveries.c.endpoint_id,
            earlier.c.object_id == deliveries.c.object_id,
            earlier.c.position < deliveries.c.position,
            earlier.c.state.in_(OPEN),
        )
        .exists()
    )
    taken = (
        select(deliveries.c.id)
        .where(
            deliveries.c.tenant_id == uow.tenant,
            deliveries.c.endpoint_id == endpoint_id,
            deliveries.c.state.in_(WEBHOOK_DELIVERIES.sources("claim")),
            deliveries.c.next_at <= now,
            ~waits,
        )
        .order_by(deliveries.c.position)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = list((await uow.conn.execute(taken)).scalars())
    if not ids:
        return []
    rows = await uow.conn.execute(
        update(deliveries)
        .where(
            deliveries.c.tenant_id == uow.tenant,
            deliveries.c.id.in_(ids),
            deliveries.c.state.in_(WEBHOOK_DELIVERIES.sources("claim")),
        )
        .values(
            state=WEBHOOK_DELIVERIES.target_of("claim"),
            lease_until=lease_until,
            tries=deliveries.c.tries + 1,
            attempts=deliveries.c.attempts + 1,
            changed_at=func.clock_timestamp(),
        )
        .returning(deliveries)
    )
    return sorted((_delivery(row) for row in rows), key=lambda each: each.position)


async def lock_sent(uow: UnitOfWork, delivery_id: UUID, number: int) -> Delivery | None:
    """The delivery of this very attempt, locked; None when its lease has ended and others went on with it."""
    rows = await uow.conn.execute(
        select(deliveries)
        .where(
            deliveries.c.tenant_id == uow.tenant,
            deliveries.c.id == delivery_id,
            deliveries.c.attempts == number,
            deliveries.c.state.in_(WEBHOOK_DELIVERIES.sources("deliver")),
        )
        .with_for_update()
    )
    row = rows.one_or_none()
    return None if row is None else _delivery(row)


async def load_expired(session: ReadSession, now: datetime, limit: int) -> list[Delivery]:
    """Deliveries whose worker did not come back in time."""
    rows = await session.conn.execute(
        select(deliveries)
        .where(
            deliveries.c.tenant_id == session.tenant,
            deliveries.c.state.in_(WEBHOOK_DELIVERIES.sources("lose")),
            deliveries.c.lease_until <= now,
        )
        .limit(limit)
    )
    return [_delivery(row) for row in rows]


async def end_attempt(uow: UnitOfWork, delivery: Delivery, event: str, **values: Any) -> None:
    """Carry out one transition out of `sending`, of a locked delivery."""
    await uow.conn.execute(
        update(deliveries)
        .where(
            deliveries.c.tenant_id == uow.tenant,
            deliveries.c.id == delivery.id,
            deliveries.c.state.in_(WEBHOOK_DELIVERIES.sources(event)),
        )
        .values(
            state=WEBHOOK_DELIVERIES.target(delivery.state, event),
            lease_until=None,
            changed_at=func.clock_timestamp(),
            **values,
        )
    )


async def insert_attempt(
    uow: UnitOfWork,
    delivery: Delivery,
    outcome: Outcome,
    *,
    status: int | None = None,
    error: str = "",
    elapsed_ms: int | None = None,
) -> None:
    """A line of the delivery log."""
    await uow.conn.execute(
        insert(attempts).values(
            tenant_id=uow.tenant,
            delivery_id=delivery.id,
            number=delivery.attempts,
            outcome=outcome,
            status=status,
            error=error,
            elapsed_ms=elapsed_ms,
        )
    )


async def abandon_waiting(uow: UnitOfWork, endpoint_id: UUID) -> int:
    """End everything that waits for a locked endpoint that was switched off."""
    done = await uow.conn.execute(
        update(deliveries)
        .where(
            deliveries.c.tenant_id == uow.tenant,
            deliveries.c.endpoint_id == endpoint_id,
            deliveries.c.state == WEBHOOK_DELIVERIES.initial,
        )
        .values(
            state=WEBHOOK_DELIVERIES.target(WEBHOOK_DELIVERIES.initial, "abandon"),
            changed_at=func.clock_timestamp(),
        )
    )
    return int(done.rowcount)


async def requeue(uow: UnitOfWork, where: Collection[ColumnElement[bool]], now: datetime) -> list[Delivery]:
    """Begin a new round of tries of deliveries that are at an end."""
    rows = await uow.conn.execute(
        update(deliveries)
        .where(
            deliveries.c.tenant_id == uow.tenant,
            deliveries.c.state.in_(WEBHOOK_DELIVERIES.sources("replay")),
            *where,
        )
        .values(
            state=WEBHOOK_DELIVERIES.target_of("replay"),
            tries=0,
            next_at=now,
            since=now,
            changed_at=func.clock_timestamp(),
        )
        .returning(deliveries)
    )
    return [_delivery(row) for row in rows]


async def requeue_one(uow: UnitOfWork, delivery_id: UUID, now: datetime) -> Delivery | None:
    """The same of one delivery; None when it is not at an end."""
    found = await requeue(uow, [deliveries.c.id == delivery_id], now)
    return found[0] if found else None


async def requeue_events(
    uow: UnitOfWork, endpoint_id: UUID, event_ids: Collection[EventId], now: datetime, *, delivered: bool
) -> int:
    """The same of an endpoint's deliveries of these events; of those that had arrived only when `delivered`."""
    where = [deliveries.c.endpoint_id == endpoint_id, deliveries.c.event_id.in_(event_ids)]
    if not delivered:
        where.append(deliveries.c.state != WEBHOOK_DELIVERIES.target_of("deliver"))
    return len(await requeue(uow, where, now))


async def has_delivered_since(session: ReadSession, endpoint_id: UUID, since: datetime) -> bool:
    """Whether anything got through to an endpoint after a moment."""
    rows = await session.conn.execute(
        select(deliveries.c.id)
        .where(
            deliveries.c.tenant_id == session.tenant,
            deliveries.c.endpoint_id == endpoint_id,
            deliveries.c.state == WEBHOOK_DELIVERIES.target_of("deliver"),
            deliveries.c.changed_at > since,
        )
        .limit(1)
    )
    return rows.one_or_none() is not None


async def load_delivery(session: ReadSession, delivery_id: UUID) -> Delivery | None:
    """One delivery."""
    rows = await session.conn.execute(
        select(deliveries).where(deliveries.c.tenant_id == session.tenant, deliveries.c.id == delivery_id)
    )
    row = rows.one_or_none()
    return None if row is None else _delivery(row)


async def load_deliveries(
    session: ReadSession,
    *,
    endpoint_id: UUID | None,
    states: Collection[str],
    position: int | None,
    before: tuple[int, UUID] | None,
    limit: int,
) -> list[Delivery]:
    """A page, newest event first. `position` names one event; `before` is place and id of the last of the page before."""
    query = select(deliveries).where(deliveries.c.tenant_id == session.tenant)
    if endpoint_id is not None:
        query = query.where(deliveries.c.endpoint_id == endpoint_id)
    if states:
        query = query.where(deliveries.c.state.in_(states))
    if position is not None:
        query = query.where(deliveries.c.position == position)
    if before is not None:
        query = query.where(tuple_(deliveries.c.position, deliveries.c.id) < tuple_(*before))
    rows = await session.conn.execute(
        query.order_by(deliveries.c.position.desc(), deliveries.c.id.desc()).limit(limit)
    )
    return [_delivery(row) for row in rows]


async def load_attempts(session: ReadSession, delivery_id: UUID, limit: int) -> list[Attempt]:
    """A delivery's newest attempts, newest first."""
    rows = await session.conn.execute(
        select(attempts)
        .where(attempts.c.tenant_id == session.tenant, attempts.c.delivery_id == delivery_id)
        .order_by(attempts.c.number.desc())
        .limit(limit)
    )
    return [
        Attempt(
            number=row.number,
            outcome=Outcome(row.outcome),
            status=row.status,
            error=row.error,
            elapsed_ms=row.elapsed_ms,
            created_at=row.created_at,
        )
        for row in rows
    ]


async def load_figures(session: ReadSession) -> WebhookFigures:
    """How the tenant's sending stands."""
    waiting = await session.conn.execute(
        select(func.count(), func.min(deliveries.c.since)).where(
            deliveries.c.tenant_id == session.tenant, deliveries.c.state.in_(OPEN)
        )
    )
    count, since = waiting.one()
    disabled = endpoints.c.state == WEBHOOK_ENDPOINTS.target_of("disable")
    counted = await session.conn.execute(
        select(
            func.coalesce(func.sum(endpoints.c.delivered), 0),
            func.coalesce(func.sum(endpoints.c.failed), 0),
            func.count().filter(endpoints.c.state == WEBHOOK_ENDPOINTS.initial),
            func.count().filter(disabled, endpoints.c.reason == Reason.OPERATOR),
            func.count().filter(disabled, endpoints.c.reason != Reason.OPERATOR),
        ).where(endpoints.c.tenant_id == session.tenant)
    )
    delivered, failed, active, switched_off, broken = counted.one()
    return WebhookFigures(
        waiting=count,
        since=since,
        delivered=int(delivered),
        failed=int(failed),
        active=active,
        switched_off=switched_off,
        broken=broken,
    )


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(
        id=row.id,
        endpoint_id=row.endpoint_id,
        event_id=EventId(row.event_id),
        type=row.type,
        object_id=row.object_id,
        position=row.position,
        state=row.state,
        tries=row.tries,
        attempts=row.attempts,
        next_at=row.next_at,
        since=row.since,
        last_status=row.last_status,
        last_error=row.last_error,
        created_at=row.created_at,
        changed_at=row.changed_at,
    )
