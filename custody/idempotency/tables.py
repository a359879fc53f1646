"""Keys and the answers they gave. Kept for ever: a key for money never expires."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, LargeBinary, SmallInteger, Table, Text

from custody.db.base import metadata
from custody.db.columns import created_at, tenant_column, uuid_key

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    tenant_column(),
    uuid_key("principal_id"),
    Column("key", Text, primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    created_at(),
    CheckConstraint("length(key) BETWEEN 1 AND 255", name="key_length"),
    CheckConstraint("length(fingerprint) = 32", name="fingerprint_length"),
)
