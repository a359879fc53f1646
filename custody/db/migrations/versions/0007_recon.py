"""Runs of reconciliation and the breaks that they found."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from custody.db.ddl import append_only, grant, tenant_isolation

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "recon_runs",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("finished_at", MOMENT, nullable=False),
        sa.Column("breaks", sa.Integer, nullable=False),
        sa.Column("report", postgresql.JSONB, nullable=False),
        sa.Column("created_at", MOMENT, server_default=sa.func.clock_timestamp(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_recon_runs"),
        sa.CheckConstraint("breaks >= 0", name="breaks_not_negative"),
        sa.CheckConstraint("finished_at >= started_at", name="finished_after_start"),
    )
    op.create_index("ix_recon_runs_created_at", "recon_runs", ["tenant_id", "created_at"])
    op.create_table(
        "recon_breaks",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("run_id", sa.Uuid, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("owner_id", sa.Uuid, nullable=True),
        sa.Column("asset", sa.Text, nullable=False),
        sa.Column("books", sa.Numeric(78, 0), nullable=False),
        sa.Column("outside", sa.Numeric(78, 0), nullable=True),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("created_at", MOMENT, server_default=sa.func.clock_timestamp(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "run_id", "number", name="pk_recon_breaks"),
        sa.CheckConstraint(
            "kind IN ('balance_differs', 'not_comparable', 'unbooked_entry', 'missing_entry', 'trial_balance')",
            name="kind_known",
        ),
        sa.CheckConstraint("number > 0", name="number_positive"),
        sa.CheckConstraint("(outside IS NULL) = (kind = 'not_comparable')", name="outside_when_comparable"),
    )
    tenant_isolation("recon_runs", "recon_breaks")
    append_only("recon_runs", "recon_breaks")
    grant("SELECT, INSERT", "recon_runs", "recon_breaks")


def downgrade() -> None:
    raise RuntimeError("migrations go forward only")
