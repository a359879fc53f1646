"""The audit log: every state change with who did it, in a chain of hashes, for examiners."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from api.auth import Caller, requires
from api.errors import at
from api.filters import OLDEST_FIRST, Direction, walk_of
from api.paging import next_cursor, page_of, parse_number_cursor, show_cursor
from api.rest.shapes import LIMIT_DEFAULT, READ_PROBLEMS, Cursor, Limit, Out, PageOut, show_time
from api.strict_json import StrictRoute
from custody.audit import service as audit
from custody.audit.model import AuditEntry
from custody.kernel.ids import parse_any_id

router = APIRouter(prefix="/v1/audit-events", tags=["audit"], route_class=StrictRoute)

Reader = Annotated[Caller, Depends(requires("audit:read"))]


class AuditEventOut(Out):
    """One state change."""

    sequence: int = Field(description="1, 2, 3 … per tenant, without gaps.")
    occurred_at: str
    actor: str = Field(examples=["treasury-app"])
    action: str = Field(examples=["withdrawal.request"])
    object_id: str = Field(description="UUID of what was changed; the hexadecimal part of its shown id.")
    detail: dict[str, Any]
    hash: str = Field(description="SHA-256 over the previous entry's hash and this entry. Hexadecimal.")


@router.get("", responses=READ_PROBLEMS)
async def list_audit_events(
    caller: Reader,
    object_id: Annotated[
        str | None,
        Query(max_length=40, description="Only entries about this object, by its shown id or its UUID."),
    ] = None,
    order: Direction = OLDEST_FIRST,
    cursor: Cursor = None,
    limit: Limit = LIMIT_DEFAULT,
) -> PageOut[AuditEventOut]:
    """Entries; oldest first, as they come unless told, their chain of hashes can be followed."""
    named = walk_of("audit", order)
    after = parse_number_cursor(named, cursor)
    with at("query/object_id"):
        about = None if object_id is None else parse_any_id(object_id)
    async with caller.read() as session:
        found = await audit.page(
            session, after, limit + 1, object_id=about, newest_first=order != OLDEST_FIRST
        )
    page = page_of(found, limit)
    return PageOut(
        data=[show_entry(entry) for entry in page.rows],
        next_cursor=next_cursor(page, lambda entry: show_cursor(named, entry.sequence)),
    )


def show_entry(entry: AuditEntry) -> AuditEventOut:
    """An entry as responses carry it."""
    return AuditEventOut(
        sequence=entry.sequence,
        occurred_at=show_time(entry.occurred_at),
        actor=entry.actor,
        action=entry.action,
        object_id=str(entry.object_id),
        detail=entry.detail,
        hash=entry.hash.hex(),
    )
