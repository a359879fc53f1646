"""How an audit entry is hashed, so that anybody can check the chain without our code's help."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import UUID

GENESIS = bytes(32)
"""What the first entry of a tenant follows."""


def entry_hash(
    previous: bytes,
    *,
    sequence: int,
    occurred_at: datetime,
    actor: str,
    action: str,
    object_id: UUID,
    detail: Mapping[str, object],
) -> bytes:
    """SHA-256 of "custody-audit-v1", the previous hash, and the entry as JSON with sorted keys and no white space."""
    body = json.dumps(
        {
            "action": action,
            "actor": actor,
            "detail": detail,
            "object_id": str(object_id),
            "occurred_at": occurred_at.astimezone(UTC).isoformat(timespec="microseconds"),
            "sequence": sequence,
        },
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
    )
    return hashlib.sha256(b"custody-audit-v1\x00" + previous + body.encode()).digest()
