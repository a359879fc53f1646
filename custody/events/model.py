"""Events: facts in the past tense that others may react to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from custody.kernel.ids import EventId, TenantId


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One row of the outbox."""

    tenant: TenantId
    """Whose event it is."""
    id: EventId
    """Version 7, but order is by `sequence`."""
    sequence: int
    """Grows with every event of the installation; gaps are possible, order per object is not lost."""
    position: int
    """1, 2, 3 … of the tenant, given in the order of relaying: whoever has read up to one has missed nothing before it."""
    type: str
    """A name of `events.catalog`, such as `withdrawal.settled`."""
    object_id: UUID
    """What it is about."""
    data: dict[str, object]
    """A whole snapshot of what changed, in JSON values."""
    occurred_at: datetime
    """When it was written."""
    trace_id: str | None
    """Correlation id of the request or job that caused it."""
