"""History filled in beside the live loop: what is to be read, how far it is, and what each worker last said of itself."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from custody.db.ddl import function_for_app, grant

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    first_heights()
    backfills()
    reports()
    registration()


def first_heights() -> None:
    op.add_column("ingestion_cursors", sa.Column("first_height", sa.BigInteger, nullable=True))
    op.execute(
        """
        UPDATE ingestion_cursors c SET first_height =
          (SELECT min(b.height) FROM ingestion_blocks b WHERE b.chain = c.chain AND b.canonical)
        WHERE c.height IS NOT NULL
        """
    )
    op.create_check_constraint(
        "first_with_height",
        "ingestion_cursors",
        "(height IS NULL) = (first_height IS NULL) AND first_height <= height",
    )


def backfills() -> None:
    op.create_table(
        "ingestion_backfills",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("chain", sa.Text, nullable=False),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("registered", sa.Boolean, nullable=False),
        sa.Column("first_height", sa.BigInteger, nullable=True),
        sa.Column("last_height", sa.BigInteger, nullable=True),
        sa.Column("next_height", sa.BigInteger, nullable=True),
        sa.Column("stands_on", sa.Text, nullable=False, server_default=""),
        sa.Column("fence", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("holder", sa.Text, nullable=False, server_default=""),
        sa.Column("halted", sa.Text, nullable=False, server_default=""),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.func.clock_timestamp(), nullable=False
        ),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_height", sa.BigInteger, nullable=True),
        sa.Column(
            "updated_at", sa.DateTime(timezone=True), server_default=sa.func.clock_timestamp(), nullable=False
        ),
        sa.PrimaryKeyConstraint("id", name="pk_ingestion_backfills"),
        sa.CheckConstraint(
            "(last_height IS NULL) = (next_height IS NULL) AND (last_height IS NULL OR first_height IS NOT NULL)",
            name="range_whole",
        ),
        sa.CheckConstraint(
            "first_height <= next_height AND next_height <= last_height + 1", name="next_in_range"
        ),
        sa.CheckConstraint("first_height >= 0 AND fence >= 0", name="not_negative"),
        sa.CheckConstraint("NOT registered OR account <> ''", name="registered_account"),
        sa.CheckConstraint("registered OR last_height IS NOT NULL", name="ordered_is_bounded"),
        sa.CheckConstraint("(started_at IS NULL) = (started_height IS NULL)", name="start_whole"),
    )
    op.create_index(
        "uq_ingestion_backfills_registered",
        "ingestion_backfills",
        ["chain", "account"],
        unique=True,
        postgresql_where=sa.text("registered"),
    )
    op.create_index(
        "uq_ingestion_backfills_ordered",
        "ingestion_backfills",
        ["chain", "account", "first_height", "last_height"],
        unique=True,
        postgresql_where=sa.text("NOT registered AND next_height <= last_height"),
    )
    op.create_index(
        "ix_ingestion_backfills_unnoticed",
        "ingestion_backfills",
        ["chain"],
        postgresql_where=sa.text("last_height IS NULL"),
    )
    op.create_index(
        "ix_ingestion_backfills_open",
        "ingestion_backfills",
        ["chain", "created_at"],
        postgresql_where=sa.text("next_height <= last_height"),
    )
    grant(
        "SELECT, INSERT, UPDATE (first_height, last_height, next_height, stands_on, fence, holder, halted, "
        "started_at, started_height, updated_at)",
        "ingestion_backfills",
    )


def reports() -> None:
    op.create_table(
        "ingestion_reports",
        sa.Column("chain", sa.Text, nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("leased_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("succeeded_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("gauges", sa.dialects.postgresql.JSONB, nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("chain", name="pk_ingestion_reports"),
    )
    grant("SELECT, INSERT, UPDATE", "ingestion_reports")


def registration() -> None:
    # Whoever registers an account calls this in the same transaction; it is all that `custody` knows of ingestion. The heights
    # are left open where only the live loop can name them (ingestion/backfill.py).
    op.execute(
        """
        CREATE FUNCTION request_history(wanted_chain text, wanted_account text, unused_before timestamptz)
        RETURNS void LANGUAGE sql SET search_path = public, pg_temp AS $$
          INSERT INTO ingestion_backfills (id, chain, account, registered, first_height)
          SELECT gen_random_uuid(), wanted_chain, wanted_account, true,
            (SELECT b.height + 1 FROM ingestion_blocks b
              WHERE b.chain = wanted_chain AND b.canonical AND b.closed_at < unused_before
              ORDER BY b.height DESC LIMIT 1)
          ON CONFLICT (chain, account) WHERE registered DO NOTHING
        $$
        """
    )
    function_for_app("request_history(text, text, timestamptz)")


def downgrade() -> None:
    raise RuntimeError("migrations go forward only")
