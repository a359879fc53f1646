"""Customers' own feeds: what each is told of, numbered for itself. They begin with what is relayed from here on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from custody.db.ddl import append_only, grant, tenant_isolation

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "customer_events",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("customer_id", sa.Uuid, nullable=False),
        sa.Column("place", sa.BigInteger, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("event_id", sa.Uuid, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("object_id", sa.Uuid, nullable=False),
        sa.Column("data", postgresql.JSONB, nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "customer_id", "place", name="pk_customer_events"),
        sa.CheckConstraint("place > 0", name="ck_customer_events_place_positive"),
    )
    op.create_index(
        "uq_customer_events_position",
        "customer_events",
        ["tenant_id", "position", "customer_id"],
        unique=True,
    )
    append_only("customer_events")
    tenant_isolation("customer_events")
    grant("SELECT, INSERT", "customer_events")
    op.execute(
        "CREATE POLICY customer_view ON customer_events FOR SELECT "
        "USING (tenant_id = (SELECT customer_tenant()) AND customer_id = (SELECT current_customer()))"
    )
    # All that whoever tells customers need know of wallets; seen as whoever asks may see the wallets.
    op.execute(
        "CREATE VIEW wallet_owners WITH (security_invoker = true) AS "
        "SELECT tenant_id, id AS wallet_id, customer_id FROM wallets"
    )
    grant("SELECT", "wallet_owners")


def downgrade() -> None:
    raise RuntimeError("migrations go forward only")
