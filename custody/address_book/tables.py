"""The address book: proposals, what was said about them, and who is restricted to it. Rows are only ever added."""

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
    UniqueConstraint,
)

from custody.address_book.transitions import ENTRIES
from custody.db.base import metadata
from custody.db.columns import (
    choice_column,
    created_at,
    tenant_column,
    text_column,
    utc_column,
    uuid_column,
    uuid_key,
)

entries = Table(
    "address_book_entries",
    metadata,
    tenant_column(),
    uuid_key(),
    Column("sequence", BigInteger, Identity(always=True), nullable=False),
    text_column("chain"),
    text_column("address"),
    choice_column("memo_type", ("none", "id", "text", "hash")),
    text_column("memo"),
    text_column("label"),
    text_column("proposed_by"),
    created_at(),
    UniqueConstraint("tenant_id", "id", "proposed_by", name="uq_address_book_entries_proposer"),
    Index("ix_address_book_entries_address", "tenant_id", "chain", "address"),
    Index("ix_address_book_entries_sequence", "tenant_id", "sequence"),
)

_EVENTS = ", ".join(f"'{event}'" for event in ENTRIES.events)

words = Table(
    "address_book_words",
    metadata,
    tenant_column(),
    uuid_key("entry_id"),
    # Each at most once.
    Column("event", Text, CheckConstraint(f"event IN ({_EVENTS})", name="event_known"), primary_key=True),
    # The entry's proposer, so that the database sees that it is another person who confirms.
    text_column("proposed_by"),
    text_column("actor"),
    utc_column("counts_from", nullable=True),
    created_at(),
    ForeignKeyConstraint(
        ["tenant_id", "entry_id", "proposed_by"],
        ["address_book_entries.tenant_id", "address_book_entries.id", "address_book_entries.proposed_by"],
        name="fk_address_book_words_entry",
    ),
    CheckConstraint("event <> 'confirm' OR actor <> proposed_by", name="four_eyes"),
    CheckConstraint("(event = 'confirm') = (counts_from IS NOT NULL)", name="counts_once_confirmed"),
)

restrictions = Table(
    "address_book_restrictions",
    metadata,
    tenant_column(),
    Column("sequence", BigInteger, Identity(always=True), primary_key=True),
    choice_column("scope", ("vault", "wallet")),
    uuid_column("object_id"),
    Column("enabled", Boolean, nullable=False),
    utc_column("counts_from"),
    text_column("actor"),
    created_at(),
    Index("ix_address_book_restrictions_object", "tenant_id", "scope", "object_id", "sequence"),
)
