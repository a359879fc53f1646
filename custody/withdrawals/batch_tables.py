"""Batches: which withdrawals were asked for, shown and approved as one."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Identity,
    Integer,
    LargeBinary,
    Table,
    UniqueConstraint,
)

from custody.db.base import metadata
from custody.db.columns import created_at, tenant_column, text_column, utc_column, uuid_column, uuid_key

withdrawal_batches = Table(
    "withdrawal_batches",
    metadata,
    tenant_column(),
    uuid_key(),
    Column("sequence", BigInteger, Identity(always=True), nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("policy_version", Integer, nullable=False),
    text_column("initiator"),
    utc_column("expires_at"),
    created_at(),
    CheckConstraint("octet_length(digest) = 32", name="digest_length"),
    UniqueConstraint("tenant_id", "digest", name="uq_withdrawal_batches_digest"),
    UniqueConstraint("tenant_id", "sequence", name="uq_withdrawal_batches_sequence"),
)
"""One row per batch. It has no state of its own: its lines have."""

withdrawal_batch_lines = Table(
    "withdrawal_batch_lines",
    metadata,
    tenant_column(),
    uuid_key("batch_id"),
    Column("place", Integer, primary_key=True, autoincrement=False),
    uuid_column("withdrawal_id"),
    UniqueConstraint("tenant_id", "withdrawal_id", name="uq_withdrawal_batch_lines_withdrawal"),
    ForeignKeyConstraint(
        ["tenant_id", "batch_id"],
        ["withdrawal_batches.tenant_id", "withdrawal_batches.id"],
        name="fk_withdrawal_batch_lines_batch",
    ),
    ForeignKeyConstraint(
        ["tenant_id", "withdrawal_id"],
        ["withdrawals.tenant_id", "withdrawals.id"],
        name="fk_withdrawal_batch_lines_withdrawal",
    ),
)
"""Which withdrawals a batch is, in the order of its document. A withdrawal is a line of one batch only."""
