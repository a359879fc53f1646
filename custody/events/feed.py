"""Events in order, for whoever missed some: a tenant's, the same that webhooks carry, or what one customer is told of them."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from custody.db.session import ReadSession
from custody.events import customers, outbox
from custody.events.catalog import EVENTS
from custody.events.errors import UnknownEventType
from custody.events.model import Event


async def page(
    session: ReadSession,
    *,
    after: int,
    types: Collection[str],
    limit: int,
    up_to: int | None = None,
    object_id: UUID | None = None,
) -> list[Event]:
    """Events behind a place of the session's own feed and up to another, oldest first, of these types only where any are named,
    of one object or of all.

    Raises UnknownEventType.

    Whoever has read up to a place has missed nothing before it: places are given in order, when events are relayed.
    """
    for each in types:
        if each not in EVENTS:
            raise UnknownEventType(type=each[:64])
    load = outbox.load_feed if session.customer is None else customers.load_own
    return await load(session, after=after, types=types, up_to=up_to, limit=limit, object_id=object_id)
