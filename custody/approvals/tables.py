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
    # Key that signed, hexadecimal.
    text_column("public_key"),
    choice_column("word", tuple(word.value for word in Word)),
    # Hexadecimal, in the form of the key's kind.
    text_column("signature"),
    # The assertion that a passkey signed: credential, what the authenticator and what the browser said. Null for other keys.
    text_column("credential_id", nullable=True),
    Column("authenticator_data", LargeBinary, nullable=True),
    Column("client_data_json", LargeBinary, nullable=True),
    created_at(),
    CheckConstraint("octet_length(digest) = 32", name="digest_length"),
    CheckConstraint("public_key ~ '^([0-9a-f]{2})+$' AND length(public_key) <= 1024", name="public_key_form"),
    CheckConstraint("signature ~ '^([0-9a-f]{2})+$' AND length(signature) <= 1024", name="signature_form"),
    CheckConstraint(
        "num_nulls(credential_id, authenticator_data, client_data_json) IN (0, 3)", name="assertion_whole"
    ),
    CheckConstraint(
        "length(credential_id) <= 1364 AND octet_length(authenticator_data) = 37 "
        "AND octet_length(client_data_json) <= 2048",
        name="assertion_bounded",
    ),
)
