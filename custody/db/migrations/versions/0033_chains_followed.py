"""When each chain was followed to its tip, and why its worker ended: by it, sending on the chain is held back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from custody.db.ddl import grant

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "chains_followed",
        sa.Column("chain", sa.Text, nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("followed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("stopped", sa.Text, nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("chain", name="pk_chains_followed"),
        sa.CheckConstraint("fence > 0", name="fence_positive"),
    )
    grant("SELECT, INSERT, UPDATE", "chains_followed")


def downgrade() -> None:
    raise RuntimeError("migrations go forward only")
