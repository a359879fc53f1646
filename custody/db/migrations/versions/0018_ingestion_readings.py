"""How the blocks of a chain were read: the same payment, seen in two ways, would be two deposits."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from custody.db.ddl import grant

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "ingestion_readings",
        sa.Column("chain", sa.Text, nullable=False),
        sa.Column("calls_from", sa.BigInteger, nullable=True),
        sa.Column(
            "updated_at", sa.DateTime(timezone=True), server_default=sa.func.clock_timestamp(), nullable=False
        ),
        sa.PrimaryKeyConstraint("chain", name="pk_ingestion_readings"),
        sa.CheckConstraint("calls_from >= 0", name="from_not_negative"),
    )
    # Of what is ingested until now, no call was read.
    op.execute("INSERT INTO ingestion_readings (chain) SELECT DISTINCT chain FROM ingestion_blocks")
    grant("SELECT, INSERT, UPDATE (calls_from, updated_at)", "ingestion_readings")


def downgrade() -> None:
    raise RuntimeError("migrations go forward only")
