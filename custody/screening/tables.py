"""The tenant's list of refused addresses, and everything that was said about receivers. Rows are only ever added."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Identity, Index, Table

from custody.db.base import metadata
from custody.db.columns import choice_column, created_at, tenant_column, text_column, uuid_column

refused_addresses = Table(
    "refused_addresses",
    metadata,
    tenant_column(),
    # Order of the rows, and the list's version; the last row of an account is in force.
    Column("sequence", BigInteger, Identity(always=True), primary_key=True),
    # Kind of chain: one key is one account on all chains of a kind.
    text_column("namespace"),
    text_column("account"),
    choice_column("word", ("refused", "withdrawn")),
    text_column("source"),
    text_column("note"),
    text_column("actor"),
    created_at(),
    Index("ix_refused_addresses_account", "tenant_id", "namespace", "account", "sequence"),
)

screenings = Table(
    "screenings",
    metadata,
    tenant_column(),
    Column("sequence", BigInteger, Identity(always=True), primary_key=True),
    uuid_column("withdrawal_id"),
    # `list`, or the outside screener's name.
    text_column("screener"),
    # Ours, the same however often one question is asked.
    uuid_column("reference"),
    text_column("chain"),
    text_column("account"),
    choice_column("finding", ("clear", "hit", "unknown")),
    text_column("detail"),
    # Which rows of the list were known.
    Column("list_version", BigInteger, nullable=True),
    created_at(),
    CheckConstraint("(screener = 'list') = (list_version IS NOT NULL)", name="list_has_a_version"),
    Index("ix_screenings_withdrawal", "tenant_id", "withdrawal_id", "sequence"),
)
