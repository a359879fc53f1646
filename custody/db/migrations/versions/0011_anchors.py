"""Checkpoints whose seal's hash is written to a Stellar chain, by an operation on the vault that moves nothing."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from custody.db.ddl import append_only, grant, tenant_isolation

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    kinds()
    anchors()
    tenant_isolation("ledger_anchors")
    append_only("ledger_anchors")
    grant("SELECT, INSERT", "ledger_anchors")


def kinds() -> None:
    """Both checks widen what is allowed, so rows that are there keep them: added unproved, then proved without a lock on writers."""
    op.execute("ALTER TABLE withdrawals DROP CONSTRAINT ck_withdrawals_kind_known")
    op.execute("ALTER TABLE withdrawals DROP CONSTRAINT ck_withdrawals_kind_shape")
    op.execute(
        "ALTER TABLE withdrawals ADD CONSTRAINT ck_withdrawals_kind_known "
        "CHECK (kind IN ('payment', 'change_trust', 'anchor')) NOT VALID"
    )
    op.execute(
        "ALTER TABLE withdrawals ADD CONSTRAINT ck_withdrawals_kind_shape CHECK ("
        "(kind = 'payment' AND wallet_id IS NOT NULL AND amount > 0) "
        "OR (kind IN ('change_trust', 'anchor') AND wallet_id IS NULL AND amount = 0)) NOT VALID"
    )
    op.execute("ALTER TABLE withdrawals VALIDATE CONSTRAINT ck_withdrawals_kind_known")
    op.execute("ALTER TABLE withdrawals VALIDATE CONSTRAINT ck_withdrawals_kind_shape")


def anchors() -> None:
    op.create_table(
        "ledger_anchors",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("chain", sa.Text, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("withdrawal_id", sa.Uuid, nullable=False),
        sa.Column("seal_hash", sa.LargeBinary, nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("tenant_id", "sequence", "chain", "number", name="pk_ledger_anchors"),
        sa.UniqueConstraint("tenant_id", "withdrawal_id", name="uq_ledger_anchors_tenant_id_withdrawal_id"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "sequence"],
            ["ledger_checkpoints.tenant_id", "ledger_checkpoints.sequence"],
            name="fk_ledger_anchors_tenant_id_sequence",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "withdrawal_id"],
            ["withdrawals.tenant_id", "withdrawals.id"],
            name="fk_ledger_anchors_tenant_id_withdrawal_id",
        ),
        sa.CheckConstraint("number > 0", name="number_positive"),
        sa.CheckConstraint("length(seal_hash) = 32", name="seal_hash_length"),
    )


def downgrade() -> None:
    raise RuntimeError("migrations go forward only")
