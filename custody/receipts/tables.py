"""Arrivals, and the references by which they name a wallet. Both are history: nothing in them changes."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Identity, Index, LargeBinary, Table, Text

from custody.db.base import metadata
from custody.db.columns import (
    amount_column,
    choice_column,
    created_at,
    tenant_column,
    text_column,
    utc_column,
    uuid_column,
    uuid_key,
)

receipt_references = Table(
    "receipt_references",
    metadata,
    tenant_column(),
    Column("reference", Text, primary_key=True),
    uuid_column("wallet_id"),
    created_at(),
    CheckConstraint("reference ~ '^RF[0-9]{2}[0-9A-Z]{1,21}$'", name="reference_form"),
    Index("uq_receipt_references_wallet_id", "tenant_id", "wallet_id", unique=True),
)

receipts = Table(
    "receipts",
    metadata,
    tenant_column(),
    uuid_key(),
    Column("sequence", BigInteger, Identity(always=True), nullable=False),
    text_column("rail"),
    text_column("external_event_id"),
    text_column("external_ref"),
    uuid_column("bank_account_id"),
    uuid_column("wallet_id", nullable=True),
    text_column("asset"),
    amount_column("amount"),
    choice_column("outcome", ("credited", "suspended")),
    text_column("remittance"),
    text_column("debtor_iban"),
    text_column("debtor_name"),
    utc_column("occurred_at"),
    Column("raw_sha256", LargeBinary, nullable=False),
    created_at(),
    CheckConstraint("amount > 0", name="amount_positive"),
    CheckConstraint("(outcome = 'credited') = (wallet_id IS NOT NULL)", name="credited_to_a_wallet"),
    CheckConstraint("length(raw_sha256) = 32", name="raw_sha256_length"),
    Index("uq_receipts_event", "tenant_id", "rail", "external_event_id", unique=True),
    Index("uq_receipts_external_ref", "tenant_id", "rail", "external_ref", unique=True),
    Index("ix_receipts_sequence", "tenant_id", "sequence"),
)
