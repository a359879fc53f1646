"""Kill switches: what operators have stopped, and what let it go on. And batches: withdrawals that are approved as one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from custody.db.ddl import append_only, grant, tenant_isolation

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
TABLES = ("switch_stops", "switch_resumes", "withdrawal_batches", "withdrawal_batch_lines")


def upgrade() -> None:
    switches()
    batches()
    tenant_isolation(*TABLES)
    append_only(*TABLES)
    grant("SELECT, INSERT", *TABLES)


def switches() -> None:
    op.create_table(
        "switch_stops",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("sequence", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("created_at", MOMENT, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_switch_stops"),
        sa.UniqueConstraint("tenant_id", "sequence", name="uq_switch_stops_sequence"),
        sa.CheckConstraint("scope IN ('chain', 'asset', 'vault', 'customer', 'rail')", name="scope_known"),
        sa.CheckConstraint("subject <> '' AND reason <> ''", name="says_what_and_why"),
    )
    op.create_index("ix_switch_stops_place", "switch_stops", ["tenant_id", "scope", "subject"])
    op.create_table(
        "switch_resumes",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("stop_id", sa.Uuid, nullable=False),
        sa.Column("step", sa.SmallInteger, nullable=False),
        sa.Column("follows", sa.SmallInteger, nullable=True),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("created_at", MOMENT, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "stop_id", "step", name="pk_switch_resumes"),
        # Proposed and confirmed by two people, whatever the code says.
        sa.UniqueConstraint("tenant_id", "stop_id", "actor", name="uq_switch_resumes_four_eyes"),
        sa.CheckConstraint("(step = 1 AND follows IS NULL) OR (step = 2 AND follows = 1)", name="two_steps"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "stop_id"],
            ["switch_stops.tenant_id", "switch_stops.id"],
            name="fk_switch_resumes_stop",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "stop_id", "follows"],
            ["switch_resumes.tenant_id", "switch_resumes.stop_id", "switch_resumes.step"],
            name="fk_switch_resumes_follows",
        ),
    )


def batches() -> None:
    op.create_table(
        "withdrawal_batches",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("sequence", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("policy_version", sa.Integer, nullable=False),
        sa.Column("initiator", sa.Text, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.Column("created_at", MOMENT, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_withdrawal_batches"),
        sa.UniqueConstraint("tenant_id", "digest", name="uq_withdrawal_batches_digest"),
        sa.UniqueConstraint("tenant_id", "sequence", name="uq_withdrawal_batches_sequence"),
        sa.CheckConstraint("octet_length(digest) = 32", name="digest_length"),
    )
    op.create_table(
        "withdrawal_batch_lines",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("batch_id", sa.Uuid, nullable=False),
        sa.Column("place", sa.Integer, nullable=False),
        sa.Column("withdrawal_id", sa.Uuid, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "batch_id", "place", name="pk_withdrawal_batch_lines"),
        sa.UniqueConstraint("tenant_id", "withdrawal_id", name="uq_withdrawal_batch_lines_withdrawal"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "batch_id"],
            ["withdrawal_batches.tenant_id", "withdrawal_batches.id"],
            name="fk_withdrawal_batch_lines_batch",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "withdrawal_id"],
            ["withdrawals.tenant_id", "withdrawals.id"],
            name="fk_withdrawal_batch_lines_withdrawal",
        ),
    )


def downgrade() -> None:
    raise RuntimeError("migrations go forward only")
