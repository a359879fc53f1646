"""Our accounts at banks."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Index, Table

from custody.db.base import metadata
from custody.db.columns import created_at, tenant_column, text_column, uuid_key

bank_accounts = Table(
    "bank_accounts",
    metadata,
    tenant_column(),
    uuid_key(),
    text_column("rail"),
    text_column("iban"),
    text_column("asset"),
    text_column("name"),
    created_at(),
    CheckConstraint("asset ~ '^fiat/[A-Z]{3}$'", name="asset_is_fiat"),
    CheckConstraint("iban ~ '^[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}$'", name="iban_form"),
    # A callback names an IBAN before any tenant is known, so that one IBAN of a rail belongs to one tenant.
    Index("uq_bank_accounts_rail_iban", "rail", "iban", unique=True),
)
