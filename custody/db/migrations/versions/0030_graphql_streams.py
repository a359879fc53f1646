"""Lists that GraphQL pages by state and by wallet; how far each event stream to a broker has come."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from custody.db.ddl import grant, tenant_isolation

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_withdrawals_state", "withdrawals", ["tenant_id", "state", "sequence"])
    op.create_index("ix_payouts_wallet", "payouts", ["tenant_id", "wallet_id", "sequence"])
    op.create_table(
        "event_streams",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("stream", sa.Text, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column(
            "changed_at", sa.DateTime(timezone=True), server_default=sa.func.clock_timestamp(), nullable=False
        ),
        sa.PrimaryKeyConstraint("tenant_id", "stream", name="pk_event_streams"),
        sa.CheckConstraint("position >= 0", name="ck_event_streams_position_not_negative"),
    )
    tenant_isolation("event_streams")
    grant("SELECT, INSERT, UPDATE (position, changed_at)", "event_streams")
