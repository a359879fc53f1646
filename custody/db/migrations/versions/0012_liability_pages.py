"""What is owed to each wallet, and the trees over it in pages: derived from history at each publication, so that reads are short."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from custody.db.ddl import grant, tenant_isolation

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

TABLES = ("ledger_liability_heads", "ledger_liability_balances", "ledger_liability_pages")


def digest(name: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary, nullable=False)


def upgrade() -> None:
    op.create_table(
        "ledger_liability_heads",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_ledger_liability_heads"),
    )
    op.create_table(
        "ledger_liability_balances",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("asset", sa.Text, nullable=False),
        sa.Column("wallet_id", sa.Uuid, nullable=False),
        sa.Column("balance", sa.Numeric(78, 0), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "asset", "wallet_id", name="pk_ledger_liability_balances"),
    )
    op.create_index(
        "ix_ledger_liability_balances_wallet", "ledger_liability_balances", ["tenant_id", "wallet_id"]
    )
    op.create_table(
        "ledger_liability_pages",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("asset", sa.Text, nullable=False),
        sa.Column("page", sa.Integer, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        digest("first"),
        digest("leaves"),
        digest("root"),
        sa.Column("total", sa.Numeric(78, 0), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "asset", "page", name="pk_ledger_liability_pages"),
        sa.CheckConstraint("length(leaves) > 0 AND length(leaves) % 64 = 0", name="leaves_length"),
        sa.CheckConstraint("length(first) = 32 AND length(root) = 32", name="hash_lengths"),
    )
    tenant_isolation(*TABLES)
    grant("SELECT, INSERT", *TABLES)
    grant("UPDATE (sequence)", "ledger_liability_heads")
    grant("UPDATE (balance)", "ledger_liability_balances")
    grant("UPDATE (sequence, first, leaves, root, total)", "ledger_liability_pages")


def downgrade() -> None:
    raise RuntimeError("migrations go forward only")
