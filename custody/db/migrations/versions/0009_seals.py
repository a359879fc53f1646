"""Seals over the ledger's batches, the batches in them, the signatures under them, and the trees of liabilities."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from custody.db.ddl import append_only, grant, tenant_isolation

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
TABLES = ("ledger_seals", "ledger_sealed_batches", "ledger_checkpoints", "ledger_liabilities")


def number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def digest(name: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary, nullable=False)


def upgrade() -> None:
    # The sealer asks for the batches of transactions above the last seal.
    op.create_index("ix_ledger_batches_xid", "ledger_batches", ["tenant_id", "xid"])
    seals()
    others()
    tenant_isolation(*TABLES)
    append_only(*TABLES)
    grant("SELECT, INSERT", *TABLES)


def seals() -> None:
    op.create_table(
        "ledger_seals",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        number("sequence"),
        number("from_batch"),
        number("to_batch"),
        number("from_xid"),
        number("to_xid"),
        sa.Column("batches", sa.Integer, nullable=False),
        digest("root"),
        digest("previous"),
        digest("hash"),
        sa.Column("sealed_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "sequence", name="pk_ledger_seals"),
        sa.CheckConstraint("sequence > 0", name="sequence_positive"),
        sa.CheckConstraint("batches > 0 AND from_batch <= to_batch AND from_xid < to_xid", name="not_empty"),
        sa.CheckConstraint(
            "length(root) = 32 AND length(previous) = 32 AND length(hash) = 32", name="hash_lengths"
        ),
    )


def others() -> None:
    op.create_table(
        "ledger_sealed_batches",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        number("batch_id"),
        number("sequence"),
        digest("leaves"),
        sa.PrimaryKeyConstraint("tenant_id", "batch_id", name="pk_ledger_sealed_batches"),
        sa.CheckConstraint("length(leaves) > 0 AND length(leaves) % 8 = 0", name="leaves_length"),
    )
    op.create_table(
        "ledger_checkpoints",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        number("sequence"),
        sa.Column("key_id", sa.Text, nullable=False),
        digest("public_key"),
        digest("signature"),
        sa.PrimaryKeyConstraint("tenant_id", "sequence", name="pk_ledger_checkpoints"),
        sa.CheckConstraint("length(public_key) = 32 AND length(signature) = 64", name="lengths"),
    )
    op.create_table(
        "ledger_liabilities",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        number("sequence"),
        sa.Column("asset", sa.Text, nullable=False),
        sa.Column("total", sa.Numeric(78, 0), nullable=False),
        digest("root"),
        digest("secret"),
        sa.PrimaryKeyConstraint("tenant_id", "sequence", "asset", name="pk_ledger_liabilities"),
        sa.CheckConstraint("total >= 0", name="total_not_negative"),
        sa.CheckConstraint("length(root) = 32 AND length(secret) = 32", name="lengths"),
    )


def downgrade() -> None:
    raise RuntimeError("migrations go forward only")
