"""Whether an event that arrived was sent by us, not long ago, and unchanged. Source: Standard Webhooks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

TOLERANCE_S = 300
"""How old, or how far ahead, an event's time may be."""


class InvalidWebhook(Exception):
    """The event must not be believed."""


def verify(
    secret: str, headers: Mapping[str, str], body: bytes, *, now_s: float | None = None
) -> dict[str, Any]:
    """The event in a request's body, read as bytes and not parsed before. Raises InvalidWebhook.

    `webhook-id` is the same however often an event is sent: keep it, and pass over those that you know.
    """
    given = {name.lower(): value for name, value in headers.items()}
    try:
        named, sent, signatures = (given[f"webhook-{part}"] for part in ("id", "timestamp", "signature"))
        age_s = (time.time() if now_s is None else now_s) - int(sent)
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (KeyError, ValueError) as error:
        raise InvalidWebhook("a header is missing, or it or the secret is malformed") from error
    if abs(age_s) > TOLERANCE_S:
        raise InvalidWebhook("too old, or from the future")
    mark = hmac.new(key, f"{named}.{sent}.".encode() + body, hashlib.sha256).digest()
    expected = "v1," + base64.b64encode(mark).decode("ascii")
    # Several while a secret is being rotated.
    if not any(hmac.compare_digest(expected.encode(), each.encode()) for each in signatures.split(" ")):
        raise InvalidWebhook("no signature fits")
    found: dict[str, Any] = json.loads(body)
    return found
