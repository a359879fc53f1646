"""What is sent: one body per event, the same bytes each time, and headers that are made anew for each attempt. Pure.

Source: Standard Webhooks 1.0, "Webhook headers" and "Payload structure".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID

import orjson
from standardwebhooks.webhooks import Webhook

from custody.kernel.ids import show_id

USER_AGENT = "Custody-Webhooks/1"


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


def build_headers(event_id: UUID, body: bytes, secrets: Sequence[bytes], now: datetime) -> dict[str, str]:
    """The signed headers: the id names the event and stays, the time is the attempt's, each secret gives a signature."""
    name, at = show_id("evt", event_id), now.astimezone(UTC)
    signatures = [Webhook(secret).sign(name, at, body.decode()) for secret in secrets]
    return {
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        "webhook-id": name,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def show_moment(moment: datetime) -> str:
    """RFC 3339 in UTC."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
