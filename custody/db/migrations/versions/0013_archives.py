"""Months of transfers that have left the database, what every account had at their end, and reads that know of it.

A detached partition goes to the schema `ledger_archive`, which the application cannot look into. Nothing here drops it.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op

from custody.db.ddl import append_only, function_for_app, grant, tenant_isolation

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

SQL = Path(__file__).parent.parent / "sql"
TABLES = ("ledger_archives", "ledger_openings")


def upgrade() -> None:
    archives()
    openings()
    tenant_isolation(*TABLES)
    append_only(*TABLES)
    grant("SELECT", *TABLES)
    op.execute("CREATE SCHEMA ledger_archive")
    for statement in (SQL / "0013_archives.sql").read_text(encoding="utf-8").split("\n-- next statement\n"):
        op.get_bind().exec_driver_sql(statement)
    function_for_app("ledger_opening(integer, uuid)")
    function_for_app("ledger_refuse_archived(integer, timestamptz, boolean)")


def archives() -> None:
    op.create_table(
        "ledger_archives",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("month", sa.Date, nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("dated_to", sa.DateTime(timezone=True), nullable=True),
        sa.Column("batches", sa.BigInteger, nullable=False),
        sa.Column("transfers", sa.BigInteger, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("directory", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column(
            "archived_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("tenant_id", "month", name="pk_ledger_archives"),
        sa.CheckConstraint("extract(day FROM month) = 1", name="month_begins"),
        sa.CheckConstraint("batches > 0 AND transfers >= batches", name="not_empty"),
        sa.CheckConstraint("length(digest) = 32", name="digest_length"),
    )


def openings() -> None:
    op.create_table(
        "ledger_openings",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("account_id", sa.Uuid, nullable=False),
        sa.Column("month", sa.Date, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        *(
            sa.Column(name, sa.Numeric(78, 0), nullable=False)
            for name in ("debits_posted", "credits_posted", "debits_pending", "credits_pending")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "account_id", "month", name="pk_ledger_openings"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "month"],
            ["ledger_archives.tenant_id", "ledger_archives.month"],
            name="fk_ledger_openings_tenant_id_month",
        ),
        sa.CheckConstraint("version > 0", name="version_positive"),
        sa.CheckConstraint(
            "least(debits_posted, credits_posted, debits_pending, credits_pending) >= 0",
            name="counters_not_negative",
        ),
    )


def downgrade() -> None:
    raise RuntimeError("migrations go forward only")
