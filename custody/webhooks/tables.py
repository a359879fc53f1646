"""Endpoints with their sealed secrets, deliveries and every attempt."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    func,
)
from sqlalchemy.dialects.postgresql import ARRAY

from custody.db.base import metadata
from custody.db.columns import (
    choice_column,
    created_at,
    state_column,
    tenant_column,
    text_column,
    utc_column,
    uuid_column,
    uuid_key,
)
from custody.webhooks.model import OPEN, OUTCOMES, REASONS
from custody.webhooks.transitions import WEBHOOK_DELIVERIES, WEBHOOK_ENDPOINTS


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default="0")


def _of_endpoint(table: str) -> ForeignKeyConstraint:
    return ForeignKeyConstraint(
        ["tenant_id", "endpoint_id"],
        ["webhook_endpoints.tenant_id", "webhook_endpoints.id"],
        name=f"fk_{table}_endpoint",
    )


webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    tenant_column(),
    uuid_key(),
    text_column("url"),
    text_column("description"),
    Column("types", ARRAY(Text), nullable=False),
    state_column("state", WEBHOOK_ENDPOINTS),
    choice_column("reason", REASONS),
    _count("failures"),
    utc_column("circuit_until", nullable=True),
    _count("delivered"),
    _count("failed"),
    created_at(),
    utc_column("changed_at", server_default=func.clock_timestamp()),
    CheckConstraint("(state = 'active') = (reason = '')", name="reason_when_off"),
    CheckConstraint("cardinality(types) > 0", name="types_not_empty"),
    CheckConstraint("failures >= 0 AND delivered >= 0 AND failed >= 0", name="counts_not_negative"),
)

webhook_secrets = Table(
    "webhook_secrets",
    metadata,
    tenant_column(),
    uuid_key(),
    uuid_column("endpoint_id"),
    Column("sealed", LargeBinary, nullable=False),
    utc_column("expires_at", nullable=True),
    created_at(),
    _of_endpoint("webhook_secrets"),
)
"""A row without `expires_at` is the endpoint's own; another signs beside it until it expires."""
Index(
    "uq_webhook_secrets_current",
    webhook_secrets.c.tenant_id,
    webhook_secrets.c.endpoint_id,
    unique=True,
    postgresql_where=webhook_secrets.c.expires_at.is_(None),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    tenant_column(),
    uuid_key(),
    uuid_column("endpoint_id"),
    uuid_column("event_id"),
    text_column("type"),
    uuid_column("object_id"),
    Column("position", BigInteger, nullable=False),
    state_column("state", WEBHOOK_DELIVERIES),
    _count("tries"),
    _count("attempts"),
    utc_column("next_at"),
    utc_column("lease_until", nullable=True),
    utc_column("since"),
    Column("last_status", Integer, nullable=True),
    text_column("last_error"),
    created_at(),
    utc_column("changed_at", server_default=func.clock_timestamp()),
    _of_endpoint("webhook_deliveries"),
    UniqueConstraint("tenant_id", "endpoint_id", "event_id", name="uq_webhook_deliveries_event"),
    CheckConstraint("(state = 'sending') = (lease_until IS NOT NULL)", name="lease_while_sending"),
    CheckConstraint("tries >= 0 AND attempts >= tries", name="tries_counted"),
    Index("ix_webhook_deliveries_position", "tenant_id", "position", "id"),
    Index("ix_webhook_deliveries_endpoint", "tenant_id", "endpoint_id", "position", "id"),
    Index("ix_webhook_deliveries_state", "tenant_id", "state", "position", "id"),
)
Index(
    "ix_webhook_deliveries_due",
    webhook_deliveries.c.tenant_id,
    webhook_deliveries.c.endpoint_id,
    webhook_deliveries.c.position,
    postgresql_where=webhook_deliveries.c.state == WEBHOOK_DELIVERIES.initial,
)
Index(
    "ix_webhook_deliveries_open",
    webhook_deliveries.c.tenant_id,
    webhook_deliveries.c.endpoint_id,
    webhook_deliveries.c.object_id,
    webhook_deliveries.c.position,
    postgresql_where=webhook_deliveries.c.state.in_(OPEN),
)
Index(
    "ix_webhook_deliveries_lease",
    webhook_deliveries.c.tenant_id,
    webhook_deliveries.c.lease_until,
    postgresql_where=webhook_deliveries.c.state == "sending",
)

webhook_attempts = Table(
    "webhook_attempts",
    metadata,
    tenant_column(),
    uuid_key("delivery_id"),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    choice_column("outcome", OUTCOMES),
    Column("status", Integer, nullable=True),
    text_column("error"),
    Column("elapsed_ms", Integer, nullable=True),
    created_at(),
    ForeignKeyConstraint(
        ["tenant_id", "delivery_id"],
        ["webhook_deliveries.tenant_id", "webhook_deliveries.id"],
        name="fk_webhook_attempts_delivery",
    ),
)
"""The delivery log. Append-only."""
