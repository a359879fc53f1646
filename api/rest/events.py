"""The tenant's events in order: what webhooks carry, for those who missed some or would rather ask."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from api.auth import Caller, requires
from api.errors import at
from api.paging import next_cursor, page_of, parse_number_cursor, show_cursor
from api.rest.shapes import LIMIT_DEFAULT, READ_PROBLEMS, Cursor, Limit, Out, PageOut, show_time
from api.strict_json import StrictRoute
from custody.events import feed
from custody.events.model import Event
from custody.kernel.ids import show_id

router = APIRouter(prefix="/v1/events", tags=["webhooks"], route_class=StrictRoute)

Reader = Annotated[Caller, Depends(requires("events:read"))]

_SEQUENCE_MAX = 2**63 - 1


class EventOut(Out):
    """A fact, as webhooks carry it. What `data` holds is described by type in `api/events.json`."""

    id: str = Field(
        description="Also the header `webhook-id`: the same however often it is sent.",
        examples=["evt_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"],
    )
    type: str = Field(examples=["withdrawal.settled"])
    timestamp: str = Field(description="When it happened.")
    sequence: int = Field(description="1, 2, 3 … per tenant, without gaps.", examples=[7421])
    object_id: str = Field(
        description="UUID of what it is about; the hexadecimal part of its shown id. The ordering key of webhooks."
    )
    data: dict[str, Any]


@router.get("", responses=READ_PROBLEMS)
async def list_events(
    caller: Reader,
    after_sequence: Annotated[
        int, Query(ge=0, le=_SEQUENCE_MAX, description="Begin behind this sequence number.")
    ] = 0,
    type: Annotated[list[str] | None, Query(description="Only these types.", max_length=100)] = None,  # noqa: A002 (the parameter's public name)
    cursor: Cursor = None,
    limit: Limit = LIMIT_DEFAULT,
) -> PageOut[EventOut]:
    """Events, oldest first. Whoever has seen a sequence number has missed none below it; an event is here within moments of the
    commit that it tells of."""
    after = parse_number_cursor("events", cursor)
    async with caller.read() as session:
        with at("query/type"):
            found = await feed.page(
                session, after=after_sequence if after is None else after, types=type or (), limit=limit + 1
            )
    page = page_of(found, limit)
    return PageOut(
        data=[show_event(event) for event in page.rows],
        next_cursor=next_cursor(page, lambda event: show_cursor("events", event.position)),
    )


def show_event(event: Event) -> EventOut:
    """An event as responses carry it."""
    return EventOut(
        id=show_id("evt", event.id),
        type=event.type,
        timestamp=show_time(event.occurred_at),
        sequence=event.position,
        object_id=str(event.object_id),
        data=event.data,
    )
