"""Where ingestion stands on each chain. These rows belong to no tenant: a chain is read once for all of them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, Index, Table, Text, text

from custody.db.base import metadata
from custody.db.columns import text_column, utc_column

ingestion_cursors = Table(
    "ingestion_cursors",
    metadata,
    Column("chain", Text, primary_key=True),
    # The block up to which everything is booked. Null until the first block.
    Column("height", BigInteger, nullable=True),
    text_column("hash", nullable=True),
    # Counts the workers that took this chain over; only the latest may move the cursor.
    Column("fence", BigInteger, nullable=False),
    utc_column("updated_at"),
    CheckConstraint("(height IS NULL) = (hash IS NULL)", name="height_with_hash"),
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
