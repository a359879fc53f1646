"""The transactional outbox, what customers are told of it, and how far streams to a broker have carried it."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Identity, Index, Table, Text, func
from sqlalchemy.dialects.postgresql import JSONB

from custody.db.base import metadata
from custody.db.columns import created_at, tenant_column, text_column, utc_column, uuid_column, uuid_key

outbox = Table(
    "outbox",
    metadata,
    tenant_column(),
    uuid_key(),
    Column("sequence", BigInteger, Identity(always=True), nullable=False),
    text_column("type"),
    uuid_column("object_id"),
    Column("data", JSONB, nullable=False),
    text_column("trace_id", nullable=True),
    created_at(),
    utc_column("relayed_at", nullable=True),
    # Numbers in the order of relaying, without gaps: unlike `sequence`, none appears below one that was seen.
    Column("position", BigInteger, nullable=True),
    CheckConstraint("(position IS NULL) = (relayed_at IS NULL)", name="placed_when_relayed"),
    Index("ix_outbox_tenant_id_sequence", "tenant_id", "sequence"),
    Index("ix_outbox_object_id", "tenant_id", "object_id", "sequence"),
    Index("uq_outbox_position", "tenant_id", "position", unique=True),
)
Index(
    "ix_outbox_unrelayed",
    outbox.c.tenant_id,
    outbox.c.sequence,
    postgresql_where=outbox.c.relayed_at.is_(None),
)
Index(
    "ix_outbox_type",
    outbox.c.tenant_id,
    outbox.c.type,
    outbox.c.position,
    postgresql_where=outbox.c.position.is_not(None),
)

customer_events = Table(
    "customer_events",
    metadata,
    tenant_column(),
    uuid_key("customer_id"),
    # 1, 2, 3 … of the customer: whoever counts its own events learns nothing of how many others there are.
    Column("place", BigInteger, primary_key=True, autoincrement=False),
    # Place of the same event in the tenant's feed.
    Column("position", BigInteger, nullable=False),
    uuid_column("event_id"),
    text_column("type"),
    uuid_column("object_id"),
    # So much of the event's data as the customer may know, and nothing else.
    Column("data", JSONB, nullable=False),
    utc_column("occurred_at"),
    CheckConstraint("place > 0", name="place_positive"),
    Index("uq_customer_events_position", "tenant_id", "position", "customer_id", unique=True),
)

event_streams = Table(
    "event_streams",
    metadata,
    tenant_column(),
    Column("stream", Text, primary_key=True),
    # The last place of the tenant's feed that the broker has acknowledged.
    Column("position", BigInteger, nullable=False),
    utc_column("changed_at", server_default=func.clock_timestamp()),
    CheckConstraint("position >= 0", name="position_not_negative"),
)
