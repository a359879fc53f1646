"""What customers are told of the feed: each a feed of its own, with places of its own.

Whose an event is, is decided once, where it gets its place in the tenant's feed: it is told to the customers of the wallets that
it names, if the catalog tells it to customers at all. A customer's row holds what that customer may know and nothing else: of a
transfer between two, each one's row names only its own wallet. Row-level security shows a customer no row but its own, and of the
outbox nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, select, text
from sqlalchemy.sql import Select

from custody.db.session import ReadSession, UnitOfWork
from custody.events.catalog import TOLD_TO_CUSTOMERS
from custody.events.model import WALLETS, Event
from custody.events.outbox import stretch
from custody.events.tables import customer_events
from custody.kernel.errors import InvariantViolated
from custody.kernel.ids import CustomerId, EventId, TenantId

_TELL = text(
    """
INSERT INTO customer_events (tenant_id, customer_id, place, position, event_id, type, object_id, data, occurred_at)
SELECT o.tenant_id, w.customer_id,
       (SELECT coalesce(max(e.place), 0) FROM customer_events e
         WHERE e.tenant_id = :tenant AND e.customer_id = w.customer_id)
         + row_number() OVER (PARTITION BY w.customer_id ORDER BY o.position),
       o.position, o.id, t.told_as, o.object_id,
       jsonb_object_agg(f.name, o.data -> f.name)
         || CASE WHEN t.told_as = o.type AND o.data ? 'state' THEN jsonb_build_object('state', o.data -> 'state') ELSE '{}' END,
       o.created_at
  FROM outbox o
  JOIN unnest(CAST(:types AS text[]), CAST(:told AS text[])) AS t(type, told_as) ON t.type = o.type
 CROSS JOIN unnest(CAST(:fields AS text[])) AS f(name)
  -- One wallet at a time, by its key: OFFSET keeps the planner from reading a tenant's wallets for a handful of events.
 CROSS JOIN LATERAL (SELECT w.customer_id FROM wallet_owners w
                      WHERE w.tenant_id = :tenant AND w.wallet_id = (o.data ->> f.name)::uuid OFFSET 0) AS w
 WHERE o.tenant_id = :tenant AND o.position BETWEEN :first AND :last
 GROUP BY o.tenant_id, o.id, w.customer_id, t.told_as
"""
)
"""A row for each customer of whose wallets an event names at least one, with those of its fields that name that customer's."""


async def tell(uow: UnitOfWork, events: Sequence[Event]) -> None:
    """Give events that have just got their places, one behind the other, to the customers whose they are.

    Locks: none, since the caller has the relay's.
    """
    if any(event.type in TOLD_TO_CUSTOMERS for event in events):
        await uow.conn.execute(
            _TELL,
            {
                "tenant": uow.tenant,
                "types": list(TOLD_TO_CUSTOMERS),
                "told": list(TOLD_TO_CUSTOMERS.values()),
                "fields": list(WALLETS),
                "first": events[0].position,
                "last": events[-1].position,
            },
        )


async def load_own(
    session: ReadSession,
    *,
    after: int,
    types: Collection[str],
    limit: int,
    up_to: int | None = None,
    object_id: UUID | None = None,
) -> list[Event]:
    """A stretch of the feed of the session's customer."""
    place = customer_events.c.place
    wanted = stretch(_of(session), customer_events, place, after, up_to, types, object_id)
    rows = await session.conn.execute(wanted.limit(limit))
    return [_event(row) for row in rows]


async def last_place(session: ReadSession) -> int:
    """The newest place of the session's customer's feed; 0 before the first."""
    rows = await session.conn.execute(_of(session).with_only_columns(func.max(customer_events.c.place)))
    return int(rows.scalar_one() or 0)


async def load_between(
    session: ReadSession, *, after: int, up_to: int
) -> Mapping[CustomerId, Sequence[Event]]:
    """What the tenant's customers were told of the events between two places of the tenant's feed, each one's in order."""
    rows = await session.conn.execute(
        select(customer_events)
        .where(
            customer_events.c.tenant_id == session.tenant,
            customer_events.c.position > after,
            customer_events.c.position <= up_to,
        )
        .order_by(customer_events.c.position)
    )
    found: dict[CustomerId, list[Event]] = defaultdict(list)
    for row in rows:
        found[CustomerId(row.customer_id)].append(_event(row))
    return found


def _of(session: ReadSession) -> Select[Any]:
    if session.customer is None:
        raise InvariantViolated("a customer's feed was asked for by nobody's session")
    return select(customer_events).where(
        customer_events.c.tenant_id == session.tenant, customer_events.c.customer_id == session.customer
    )


def _event(row: Row[Any]) -> Event:
    return Event(
        tenant=TenantId(row.tenant_id),
        id=EventId(row.event_id),
        sequence=row.place,
        position=row.place,
        type=row.type,
        object_id=row.object_id,
        data=row.data,
        occurred_at=row.occurred_at,
        trace_id=None,
    )
