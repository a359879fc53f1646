"""Tenants and API keys."""

from __future__ import annotations

from sqlalchemy import ARRAY, Column, Identity, Index, Integer, LargeBinary, Table, Text

from custody.db.base import metadata
from custody.db.columns import created_at, tenant_column, text_column, utc_column, uuid_key

tenants = Table(
    "tenants",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    text_column("name", unique=True),
    created_at(),
)

api_keys = Table(
    "api_keys",
    metadata,
    tenant_column(),
    uuid_key(),
    Column("secret_sha256", LargeBinary, nullable=False),
    text_column("subject"),
    Column("scopes", ARRAY(Text), nullable=False),
    utc_column("expires_at", nullable=True),
    utc_column("revoked_at", nullable=True),
    created_at(),
    Index("uq_api_keys_secret_sha256", "secret_sha256", unique=True),
)
