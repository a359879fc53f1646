"""Every policy that the signer has shown us, by version. Belongs to the installation, not to a tenant."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Integer, Table
from sqlalchemy.dialects.postgresql import JSONB

from custody.db.base import metadata
from custody.db.columns import created_at, text_column

approval_policies = Table(
    "approval_policies",
    metadata,
    # Rises by one with each change in the signer.
    Column("version", Integer, primary_key=True, autoincrement=False),
    # SHA-256 of the signer's file: the same version with another hash is a fraud.
    text_column("policy_hash"),
    # The whole policy, for `policy.store`.
    Column("body", JSONB, nullable=False),
    created_at(),
    CheckConstraint("version > 0", name="version_positive"),
)
