"""An event as everybody outside sees it, over webhooks and brokers alike: the same bytes each time. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import UUID

import orjson

from custody.kernel.ids import show_id


def build_body(
    *,
    event_id: UUID,
    event_type: str,
    position: int,
    object_id: UUID,
    occurred_at: datetime,
    data: Mapping[str, object],
) -> bytes:
    """The event as receivers and `GET /v1/events` see it."""
    return orjson.dumps(
        {
            "id": show_id("evt", event_id),
            "type": event_type,
            "timestamp": show_moment(occurred_at),
            "sequence": position,
            "object_id": str(object_id),
            "data": dict(data),
        },
        option=orjson.OPT_SORT_KEYS,
    )


def show_moment(moment: datetime) -> str:
    """RFC 3339 in UTC."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
