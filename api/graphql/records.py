"""Records for people who watch: audit events, the feed, and what is owed to all."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import orjson
import strawberry
from strawberry.types import Info

from api.graphql.connections import FIRST_DEFAULT, After, Connection, First, Order, checked, connect
from api.graphql.context import Context
from api.paging import parse_number_cursor
from custody.audit import service as audit
from custody.audit.model import AuditEntry
from custody.events import feed
from custody.events import model as events
from custody.kernel.ids import parse_any_id, show_id
from custody.seals import publication
from custody.seals.publication import Published

Ctx = Info[Context, None]


@strawberry.type
class AuditEvent:
    """One state change, with who did it. `detail` is a JSON object; `hash` chains it to the one before."""

    sequence: str
    occurred_at: datetime
    actor: str
    action: str
    object_id: str
    detail: str
    hash: str


@strawberry.type
class Event:
    """A fact of the feed, as webhooks carry it. `data` is a JSON object; its fields by type are in `api/events.json`."""

    id: str
    type: str
    sequence: str
    timestamp: datetime
    object_id: str
    data: str


@strawberry.type
class Liabilities:
    """What is owed to all wallets in one asset at the checkpoint published last. Every wallet's proof leads to `root`."""

    asset: str
    checkpoint: str
    total: str
    root: str


def show_audit_event(entry: AuditEntry) -> AuditEvent:
    """One entry of the audit log."""
    return AuditEvent(
        sequence=str(entry.sequence),
        occurred_at=entry.occurred_at,
        actor=entry.actor,
        action=entry.action,
        object_id=str(entry.object_id),
        detail=orjson.dumps(entry.detail, option=orjson.OPT_SORT_KEYS).decode(),
        hash=entry.hash.hex(),
    )


def show_event(event: events.Event) -> Event:
    """One event of the feed."""
    return Event(
        id=show_id("evt", event.id),
        type=event.type,
        sequence=str(event.position),
        timestamp=event.occurred_at,
        object_id=str(event.object_id),
        data=orjson.dumps(event.data, option=orjson.OPT_SORT_KEYS).decode(),
    )


def show_liabilities(found: Published) -> Liabilities:
    """What was published about one asset."""
    return Liabilities(
        asset=found.asset.text,
        checkpoint=str(found.sequence),
        total=str(found.total),
        root=found.root.hex(),
    )


@strawberry.type
class RecordQueries:
    """What is asked by who watches."""

    @strawberry.field
    async def audit_events(
        self,
        info: Ctx,
        object_id: strawberry.ID | None = None,
        order: Order = Order.OLDEST_FIRST,
        first: First = FIRST_DEFAULT,
        after: After = None,
    ) -> Connection[AuditEvent]:
        """Audit events of one object or of all. Oldest first, as they come unless told, their chain of hashes can be followed."""
        of = order.of("audit")
        place, about = parse_number_cursor(of, after), _object(object_id)
        async with info.context.turn() as session:
            found = await audit.page(
                session,
                place,
                checked(first) + 1,
                object_id=about,
                newest_first=order is Order.NEWEST_FIRST,
            )
        return connect(of, found, first, after, key=lambda row: row.sequence, show=show_audit_event)

    @strawberry.field
    async def events(
        self,
        info: Ctx,
        types: list[str] | None = None,
        object_id: strawberry.ID | None = None,
        first: First = FIRST_DEFAULT,
        after: After = None,
    ) -> Connection[Event]:
        """The feed, oldest first, of some types or of all, about one object or all. Whoever has read up to a sequence has missed
        nothing below it."""
        start, about = parse_number_cursor("events", after) or 0, _object(object_id)
        async with info.context.turn() as session:
            found = await feed.page(
                session, after=start, types=types or (), limit=checked(first) + 1, object_id=about
            )
        return connect("events", found, first, after, key=lambda row: row.position, show=show_event)

    @strawberry.field
    async def liabilities(self, info: Ctx) -> list[Liabilities] | None:
        """What is owed to all wallets, per asset, as it was published last. Error `not_sealed` while nothing is."""
        async with info.context.turn() as session:
            found = await publication.list_published(session)
        info.context.budget.spend(len(found))
        return [show_liabilities(each) for each in found]


def _object(text: strawberry.ID | None) -> UUID | None:
    """The object meant by a shown id such as `wdr_…`, or by the UUID that records carry. Raises MalformedId."""
    return None if text is None else parse_any_id(str(text))
