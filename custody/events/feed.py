"""A tenant's events in order, for whoever missed some: the same that webhooks carry."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from custody.db.session import ReadSession
from custody.events import outbox
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
    """Events behind a place and up to another, oldest first, of these types only where any are named, of one object or of all.
    Raises UnknownEventType.

    Whoever has read up to a place has missed nothing before it: places are given in order, when events are relayed.
    """
    for each in types:
        if each not in EVENTS:
            raise UnknownEventType(type=each[:64])
    return await outbox.load_feed(
        session, after=after, types=types, up_to=up_to, limit=limit, object_id=object_id
    )
