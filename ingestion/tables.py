"""Where ingestion stands on each chain. These rows belong to no tenant: a chain is read once for all of them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Identity,
    Index,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from custody.db.base import metadata
from custody.db.columns import created_at, text_column, utc_column, uuid_key

ingestion_cursors = Table(
    "ingestion_cursors",
    metadata,
    Column("chain", Text, primary_key=True),
    # The block up to which everything is booked. Null until the first block.
    Column("height", BigInteger, nullable=True),
    text_column("hash", nullable=True),
    # The lowest block of the unbroken run that ends at `height`.
    Column("first_height", BigInteger, nullable=True),
    # Counts the workers that took this chain over; only the latest may move the cursor.
    Column("fence", BigInteger, nullable=False),
    utc_column("updated_at"),
    CheckConstraint("(height IS NULL) = (hash IS NULL)", name="height_with_hash"),
    CheckConstraint(
        "(height IS NULL) = (first_height IS NULL) AND first_height <= height", name="first_with_height"
    ),
    CheckConstraint("fence > 0", name="fence_positive"),
)

ingestion_blocks = Table(
    "ingestion_blocks",
    metadata,
    Column("chain", Text, primary_key=True),
    Column("height", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", Text, primary_key=True),
    text_column("parent_hash"),
    utc_column("closed_at"),
    # Whether the block is part of the chain as we know it; a replaced one stays, marked.
    Column("canonical", Boolean, nullable=False),
    Index(
        "uq_ingestion_blocks_canonical",
        "chain",
        "height",
        unique=True,
        postgresql_where=text("canonical"),
    ),
)

ingestion_readings = Table(
    "ingestion_readings",
    metadata,
    Column("chain", Text, primary_key=True),
    # The first block of which the value inside calls is read call by call. Null: never.
    Column("calls_from", BigInteger, nullable=True),
    utc_column("updated_at", server_default=func.clock_timestamp()),
    CheckConstraint("calls_from >= 0", name="from_not_negative"),
)

ingestion_notices = Table(
    "ingestion_notices",
    metadata,
    # Derived from the block and what is said: read again, it is the same.
    uuid_key(),
    Column("sequence", BigInteger, Identity(always=True), nullable=False),
    text_column("chain"),
    Column("height", BigInteger, nullable=False),
    text_column("block_hash"),
    text_column("code"),
    # Whose account it concerns; empty where it concerns an asset as such, or the whole block.
    text_column("account"),
    # Asset or contract; empty for none.
    text_column("asset"),
    text_column("reported"),
    text_column("found"),
    created_at(),
    CheckConstraint("height >= 0", name="not_negative"),
    Index("ix_ingestion_notices_sequence", "chain", "sequence"),
)

ingestion_notices_seen = Table(
    "ingestion_notices_seen",
    metadata,
    uuid_key("notice_id"),
    # Who looked, and what that person wrote down.
    text_column("seen_by"),
    text_column("note"),
    created_at(),
    ForeignKeyConstraint(["notice_id"], ["ingestion_notices.id"]),
)

ingestion_surveys = Table(
    "ingestion_surveys",
    metadata,
    Column("chain", Text, primary_key=True),
    # Counts the passes over all accounts, the one under way included.
    Column("pass", BigInteger, nullable=False),
    # The account that was compared last in this pass; empty at its beginning.
    text_column("after", server_default=""),
    # The final block at which that was.
    Column("height", BigInteger, nullable=False),
    # The final block at which the pass began.
    Column("since_height", BigInteger, nullable=False),
    # Why the node could not be asked the last time; empty while it can.
    text_column("trouble", server_default=""),
    utc_column("started_at", server_default=func.clock_timestamp()),
    # When the last whole pass ended; null before the first.
    utc_column("ended_at", nullable=True),
    utc_column("updated_at", server_default=func.clock_timestamp()),
    CheckConstraint("pass > 0", name="pass_positive"),
)

ingestion_backfills = Table(
    "ingestion_backfills",
    metadata,
    uuid_key(),
    text_column("chain"),
    # Whose history; empty for that of every vault.
    text_column("account"),
    # Written by the registration of the account, at most once; else ordered by an operator.
    Column("registered", Boolean, nullable=False),
    # The range, both ends included. A registration leaves open what only the live loop can name: then null.
    Column("first_height", BigInteger, nullable=True),
    Column("last_height", BigInteger, nullable=True),
    # Everything below it, from the first on, is booked. One above the last: done.
    Column("next_height", BigInteger, nullable=True),
    # Hash of the block below the next, once one was read; else empty.
    text_column("stands_on", server_default=""),
    # Counts the processes that took it over; only the latest may move it.
    Column("fence", BigInteger, nullable=False, server_default="0"),
    # Host and process that took it over last.
    text_column("holder", server_default=""),
    # Why it cannot go on, by the code of the broken invariant and a sentence; empty while it can.
    text_column("halted", server_default=""),
    created_at(),
    # When and where the latest process began: what rate and remaining time are counted from.
    utc_column("started_at", nullable=True),
    Column("started_height", BigInteger, nullable=True),
    utc_column("updated_at", server_default=func.clock_timestamp()),
    CheckConstraint(
        "(last_height IS NULL) = (next_height IS NULL) AND (last_height IS NULL OR first_height IS NOT NULL)",
        name="range_whole",
    ),
    CheckConstraint("first_height <= next_height AND next_height <= last_height + 1", name="next_in_range"),
    CheckConstraint("first_height >= 0 AND fence >= 0", name="not_negative"),
    CheckConstraint("NOT registered OR account <> ''", name="registered_account"),
    CheckConstraint("registered OR last_height IS NOT NULL", name="ordered_is_bounded"),
    CheckConstraint("(started_at IS NULL) = (started_height IS NULL)", name="start_whole"),
    Index(
        "uq_ingestion_backfills_registered",
        "chain",
        "account",
        unique=True,
        postgresql_where=text("registered"),
    ),
    Index(
        "uq_ingestion_backfills_ordered",
        "chain",
        "account",
        "first_height",
        "last_height",
        unique=True,
        postgresql_where=text("NOT registered AND next_height <= last_height"),
    ),
    Index("ix_ingestion_backfills_unnoticed", "chain", postgresql_where=text("last_height IS NULL")),
    Index(
        "ix_ingestion_backfills_open",
        "chain",
        "created_at",
        postgresql_where=text("next_height <= last_height"),
    ),
)

ingestion_reports = Table(
    "ingestion_reports",
    metadata,
    Column("chain", Text, primary_key=True),
    # Of the worker that wrote the report: an older one's no longer counts.
    Column("fence", BigInteger, nullable=False),
    # Host and process that hold the lease.
    text_column("holder"),
    utc_column("leased_at"),
    # When the loop last ended a step well; null before the first.
    utc_column("succeeded_at", nullable=True),
    # The worker's gauges by their short names, as its /metrics shows them.
    Column("gauges", JSONB, nullable=False),
    utc_column("updated_at"),
)
