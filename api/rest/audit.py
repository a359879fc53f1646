"""The audit log: every state change with who did it, in a chain of hashes, for examiners."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import Field

from api.auth import Caller, requires
from api.paging import next_cursor, page_of, parse_number_cursor, show_cursor
from api.rest.shapes import LIMIT_DEFAULT, READ_PROBLEMS, Cursor, Limit, Out, PageOut, show_time
from api.strict_json import StrictRoute
from custody.audit import service as audit
from custody.audit.model import AuditEntry

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
    caller: Reader, cursor: Cursor = None, limit: Limit = LIMIT_DEFAULT
) -> PageOut[AuditEventOut]:
    """Entries, oldest first, so that the chain of hashes can be followed."""
    after = parse_number_cursor("audit", cursor) or 0
    async with caller.read() as session:
        page = page_of(await audit.page(session, after, limit + 1), limit)
    return PageOut(
        data=[show_entry(entry) for entry in page.rows],
        next_cursor=next_cursor(page, lambda entry: show_cursor("audit", entry.sequence)),
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
