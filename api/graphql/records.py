"""Records for people who watch: audit events, the feed, and what is owed to all."""

from __future__ import annotations

from datetime import datetime

import orjson
import strawberry

from custody.audit.model import AuditEntry
from custody.events import model as events
from custody.kernel.ids import show_id
from custody.seals.publication import Published


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
