"""Signed decisions, one per person and intent, kept for good."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Identity, LargeBinary, Table
from sqlalchemy.types import BigInteger

from custody.db.base import metadata
from custody.db.columns import choice_column, created_at, tenant_column, text_column
from custody.policy.model import Word

approvals = Table(
    "approvals",
    metadata,
    tenant_column(),
    # Digest of the intent.
    Column("digest", LargeBinary, primary_key=True),
    # Person, as the policy names them; one row per person is one decision per person.
    text_column("approver", primary_key=True),
    # Order of arrival.
    Column("sequence", BigInteger, Identity(always=True), nullable=False),
    # Ed25519 key that signed, hexadecimal.
    text_column("public_key"),
    choice_column("word", tuple(word.value for word in Word)),
    # Ed25519 signature, hexadecimal.
    text_column("signature"),
    created_at(),
    CheckConstraint("octet_length(digest) = 32", name="digest_length"),
    CheckConstraint("public_key ~ '^[0-9a-f]{64}$'", name="public_key_form"),
    CheckConstraint("signature ~ '^[0-9a-f]{128}$'", name="signature_form"),
)
