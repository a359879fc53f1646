"""The audit log: append-only, one hash chain per tenant."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, LargeBinary, Table
from sqlalchemy.dialects.postgresql import JSONB

from custody.db.base import metadata
from custody.db.columns import tenant_column, text_column, utc_column, uuid_column

audit_entries = Table(
    "audit_entries",
    metadata,
    tenant_column(),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    utc_column("occurred_at"),
    text_column("actor"),
    text_column("action"),
    uuid_column("object_id"),
    Column("detail", JSONB, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    CheckConstraint("sequence > 0", name="sequence_positive"),
    CheckConstraint("length(hash) = 32", name="hash_length"),
    Index("ix_audit_entries_object_id", "tenant_id", "object_id", "sequence"),
)
