"""Tariffs, versioned by appending, and the quotes that were given. Nothing in them changes."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Integer, Table, Text

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
from custody.tariffs.model import KINDS

tariffs = Table(
    "tariffs",
    metadata,
    tenant_column(),
    Column("asset", Text, primary_key=True),
    # From 1; the newest is in force.
    Column("version", Integer, primary_key=True, autoincrement=False),
    choice_column("kind", KINDS),
    # Atomic units of the asset.
    amount_column("flat"),
    # Of the amount; of a network tariff, on top of what the chain took.
    Column("bps", Integer, nullable=False),
    amount_column("minimum"),
    # Of a network tariff its ceiling.
    amount_column("maximum", nullable=True),
    Column("quote_valid_s", Integer, nullable=False),
    text_column("set_by"),
    text_column("note"),
    created_at(),
    CheckConstraint(
        "version > 0 AND flat >= 0 AND bps >= 0 AND minimum >= 0 AND quote_valid_s > 0", name="not_negative"
    ),
    CheckConstraint(
        "kind <> 'bps' OR (bps <= 10000 AND (maximum IS NULL OR maximum >= minimum))", name="bps_shape"
    ),
    CheckConstraint("kind <> 'network' OR maximum IS NOT NULL", name="network_has_ceiling"),
)

withdrawal_quotes = Table(
    "withdrawal_quotes",
    metadata,
    tenant_column(),
    uuid_key(),
    uuid_column("wallet_id"),
    text_column("asset"),
    # What the receiver would get, and the most that the wallet would pay on top: atomic units of the asset.
    amount_column("amount"),
    choice_column("fee_kind", KINDS),
    Column("tariff_version", Integer, nullable=True),
    amount_column("fee_held"),
    Column("markup_bps", Integer, nullable=False),
    text_column("asked_by"),
    utc_column("expires_at"),
    created_at(),
    CheckConstraint("amount > 0 AND fee_held >= 0 AND markup_bps >= 0", name="not_negative"),
)
