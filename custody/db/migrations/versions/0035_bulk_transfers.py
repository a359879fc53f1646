"""Bulk transfers as they were accepted, and postings that no stop is slipped past by."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

from custody.db.ddl import append_only, function_for_app, grant, tenant_isolation

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None

SQL = Path(__file__).parent.parent / "sql"
COMMANDS = "integer[], text[], uuid[], uuid[], uuid[], text[], text[], uuid[], uuid[], timestamptz[], text[], boolean[], text[], text[]"
COLUMNS = (
    ("sources", sa.Uuid),
    ("destinations", sa.Uuid),
    ("assets", sa.Text),
    ("amounts", sa.Numeric(78, 0)),
    ("fees", sa.Numeric(78, 0)),
    ("groups", sa.Text),
)


def upgrade() -> None:
    op.create_table(
        "bulk_transfers",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        *(sa.Column(name, ARRAY(kind), nullable=False) for name, kind in COLUMNS),
        sa.Column("requested_by", sa.Text, nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.func.clock_timestamp(),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_bulk_transfers"),
        # A line is one place in each array.
        sa.CheckConstraint(
            " AND ".join(f"cardinality({name}) = cardinality(sources)" for name, _ in COLUMNS[1:])
            + " AND cardinality(sources) > 0",
            name="lines_whole",
        ),
        sa.CheckConstraint("0 < ALL (amounts) AND (0 < ALL (fees)) IS NOT FALSE", name="amounts_positive"),
    )
    tenant_isolation("bulk_transfers")
    append_only("bulk_transfers")
    grant("SELECT, INSERT", "bulk_transfers")
    op.get_bind().exec_driver_sql((SQL / "0035_ledger_post_unless_stopped.sql").read_text(encoding="utf-8"))
    function_for_app(f"ledger_post_unless_stopped(bigint, bigint, integer, boolean, {COMMANDS})")


def downgrade() -> None:
    raise RuntimeError("migrations go forward only")
