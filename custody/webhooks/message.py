"""What is sent around an event's body: headers that are made anew for each attempt. Pure.

Source: Standard Webhooks 1.0, "Webhook headers" and "Payload structure".
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from standardwebhooks.webhooks import Webhook

from custody.kernel.ids import show_id

USER_AGENT = "Custody-Webhooks/1"


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
