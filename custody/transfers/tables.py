"""Requests for many transfers, as they were accepted. What became of their lines is in the ledger, under the lines' ids."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import ARRAY

from custody.db.base import metadata
from custody.db.columns import Atomic, created_at, tenant_column, text_column, uuid_key

bulk_transfers = Table(
    "bulk_transfers",
    metadata,
    tenant_column(),
    uuid_key(),
    Column("sources", ARRAY(Uuid(as_uuid=True)), nullable=False),
    Column("destinations", ARRAY(Uuid(as_uuid=True)), nullable=False),
    Column("assets", ARRAY(Text), nullable=False),
    Column("amounts", ARRAY(Atomic()), nullable=False),
    Column("fees", ARRAY(Atomic()), nullable=False),
    Column("groups", ARRAY(Text), nullable=False),
    text_column("requested_by"),
    created_at(),
    CheckConstraint(
        " AND ".join(
            f"cardinality({name}) = cardinality(sources)"
            for name in ("destinations", "assets", "amounts", "fees", "groups")
        )
        + " AND cardinality(sources) > 0",
        name="lines_whole",
    ),
    CheckConstraint("0 < ALL (amounts) AND (0 < ALL (fees)) IS NOT FALSE", name="amounts_positive"),
)
"""One row per request; a line is one place in each array, for thousands of rows would cost more than the transfers."""
