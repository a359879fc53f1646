"""Webhooks: endpoints, their sealed secrets, deliveries with every attempt; and places of events in their tenant's feed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from custody.db.ddl import append_only, grant, tenant_isolation

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    feed()
    endpoints()
    secrets()
    deliveries()
    attempts()
    tenant_isolation("webhook_endpoints", "webhook_secrets", "webhook_deliveries", "webhook_attempts")
    append_only("webhook_attempts")
    grant(
        "SELECT, INSERT, UPDATE (url, description, types, state, reason, failures, circuit_until, delivered, failed, changed_at)",
        "webhook_endpoints",
    )
    grant("SELECT, INSERT, UPDATE (expires_at)", "webhook_secrets")
    grant(
        "SELECT, INSERT, UPDATE (state, tries, attempts, next_at, lease_until, since, last_status, last_error, changed_at)",
        "webhook_deliveries",
    )
    grant("SELECT, INSERT", "webhook_attempts")


def created_at(name: str = "created_at") -> sa.Column[object]:
    return sa.Column(
        name, sa.DateTime(timezone=True), server_default=sa.func.clock_timestamp(), nullable=False
    )


def moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def count(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.BigInteger, autoincrement=False, nullable=False, server_default="0")


def feed() -> None:
    op.add_column("outbox", sa.Column("position", sa.BigInteger, nullable=True))
    # The owner obeys row-level security too; for one statement over all tenants it must not.
    op.execute("ALTER TABLE outbox NO FORCE ROW LEVEL SECURITY")
    op.execute(
        "UPDATE outbox o SET position = x.position FROM (SELECT tenant_id, id, row_number() OVER (PARTITION BY tenant_id "
        "ORDER BY sequence) AS position FROM outbox WHERE relayed_at IS NOT NULL) AS x "
        "WHERE o.tenant_id = x.tenant_id AND o.id = x.id"
    )
    op.execute("ALTER TABLE outbox FORCE ROW LEVEL SECURITY")
    op.create_check_constraint(
        "ck_outbox_placed_when_relayed", "outbox", "(position IS NULL) = (relayed_at IS NULL)"
    )
    op.create_index("uq_outbox_position", "outbox", ["tenant_id", "position"], unique=True)
    op.create_index(
        "ix_outbox_type",
        "outbox",
        ["tenant_id", "type", "position"],
        postgresql_where=sa.text("position IS NOT NULL"),
    )
    grant("UPDATE (position)", "outbox")


def endpoints() -> None:
    op.create_table(
        "webhook_endpoints",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("types", postgresql.ARRAY(sa.Text), nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        count("failures"),
        moment("circuit_until", nullable=True),
        count("delivered"),
        count("failed"),
        created_at(),
        created_at("changed_at"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_webhook_endpoints"),
        sa.CheckConstraint("state IN ('active', 'disabled', 'deleted')", name="state_known"),
        sa.CheckConstraint("reason IN ('', 'operator', 'gone', 'exhausted')", name="reason_known"),
        sa.CheckConstraint("(state = 'active') = (reason = '')", name="reason_when_off"),
        sa.CheckConstraint("cardinality(types) > 0", name="types_not_empty"),
        sa.CheckConstraint("failures >= 0 AND delivered >= 0 AND failed >= 0", name="counts_not_negative"),
    )


def secrets() -> None:
    op.create_table(
        "webhook_secrets",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("endpoint_id", sa.Uuid, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        moment("expires_at", nullable=True),
        created_at(),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_webhook_secrets"),
        of_endpoint("webhook_secrets"),
    )
    # One secret at a time is the endpoint's own; another may go on beside it until it expires.
    op.create_index(
        "uq_webhook_secrets_current",
        "webhook_secrets",
        ["tenant_id", "endpoint_id"],
        unique=True,
        postgresql_where=sa.text("expires_at IS NULL"),
    )


def of_endpoint(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["tenant_id", "endpoint_id"],
        ["webhook_endpoints.tenant_id", "webhook_endpoints.id"],
        name=f"fk_{table}_endpoint",
    )


def deliveries() -> None:
    op.create_table(
        "webhook_deliveries",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("endpoint_id", sa.Uuid, nullable=False),
        sa.Column("event_id", sa.Uuid, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("object_id", sa.Uuid, nullable=False),
        sa.Column("position", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        count("tries"),
        count("attempts"),
        moment("next_at"),
        moment("lease_until", nullable=True),
        moment("since"),
        sa.Column("last_status", sa.Integer, nullable=True),
        sa.Column("last_error", sa.Text, nullable=False),
        created_at(),
        created_at("changed_at"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_webhook_deliveries"),
        of_endpoint("webhook_deliveries"),
        sa.UniqueConstraint("tenant_id", "endpoint_id", "event_id", name="uq_webhook_deliveries_event"),
        sa.CheckConstraint(
            "state IN ('waiting', 'sending', 'delivered', 'exhausted', 'abandoned')", name="state_known"
        ),
        sa.CheckConstraint("(state = 'sending') = (lease_until IS NOT NULL)", name="lease_while_sending"),
        sa.CheckConstraint("tries >= 0 AND attempts >= tries", name="tries_counted"),
    )
    op.create_index(
        "ix_webhook_deliveries_due",
        "webhook_deliveries",
        ["tenant_id", "endpoint_id", "position"],
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.create_index(
        "ix_webhook_deliveries_open",
        "webhook_deliveries",
        ["tenant_id", "endpoint_id", "object_id", "position"],
        postgresql_where=sa.text("state IN ('waiting', 'sending')"),
    )
    op.create_index(
        "ix_webhook_deliveries_lease",
        "webhook_deliveries",
        ["tenant_id", "lease_until"],
        postgresql_where=sa.text("state = 'sending'"),
    )
    for name, columns in (("position", ()), ("endpoint", ("endpoint_id",)), ("state", ("state",))):
        op.create_index(
            f"ix_webhook_deliveries_{name}", "webhook_deliveries", ["tenant_id", *columns, "position", "id"]
        )


def attempts() -> None:
    op.create_table(
        "webhook_attempts",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("delivery_id", sa.Uuid, nullable=False),
        sa.Column("number", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("status", sa.Integer, nullable=True),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("elapsed_ms", sa.Integer, nullable=True),
        created_at(),
        sa.PrimaryKeyConstraint("tenant_id", "delivery_id", "number", name="pk_webhook_attempts"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "delivery_id"],
            ["webhook_deliveries.tenant_id", "webhook_deliveries.id"],
            name="fk_webhook_attempts_delivery",
        ),
        sa.CheckConstraint("outcome IN ('delivered', 'failed', 'gone', 'lost')", name="outcome_known"),
    )


def downgrade() -> None:
    raise RuntimeError("migrations go forward only")
