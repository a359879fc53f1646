"""Rules about how long approved withdrawals wait."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Identity, Index, Integer, Table

from custody.db.base import metadata
from custody.db.columns import amount_column, created_at, tenant_column, text_column

cool_down_rules = Table(
    "cool_down_rules",
    metadata,
    tenant_column(),
    # The last row of an asset and threshold is in force.
    Column("sequence", BigInteger, Identity(always=True), primary_key=True),
    # An asset, or `*` for every one.
    text_column("asset"),
    # Atomic units from which on it holds; 0 for every amount.
    amount_column("amount_min"),
    # How long an approved withdrawal waits; 0 takes the rule back.
    Column("seconds", Integer, nullable=False),
    text_column("actor"),
    text_column("note"),
    created_at(),
    CheckConstraint("seconds BETWEEN 0 AND 31536000", name="seconds_sane"),
    CheckConstraint("amount_min >= 0 AND (asset <> '*' OR amount_min = 0)", name="threshold_of_an_asset"),
    Index("ix_cool_down_rules_asset", "tenant_id", "asset", "amount_min", "sequence"),
)
