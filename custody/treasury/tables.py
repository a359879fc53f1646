"""Rules of sweeping, levels of vaults, and what the worker saw last at deposit addresses.

The first two are set by operators, with an entry in the audit log each time. The third is derived: it says since when money lies
somewhere and why, and losing it loses the ages only.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    Table,
    Text,
)

from custody.db.base import metadata
from custody.db.columns import amount_column, choice_column, tenant_column, text_column, utc_column, uuid_key
from custody.treasury.model import LEVELLED, Verdict

sweep_rules = Table(
    "treasury_sweep_rules",
    metadata,
    tenant_column(),
    Column("asset", Text, primary_key=True),
    text_column("chain"),
    # Atomic units of the asset.
    amount_column("threshold"),
    amount_column("dust"),
    Column("max_age_s", BigInteger, nullable=True),
    # Atomic units of the chain's own currency, and hundredths of a percent of the amount.
    amount_column("fee_max"),
    Column("fee_share_max_bp", Integer, nullable=True),
    Column("enabled", Boolean, nullable=False),
    text_column("set_by"),
    utc_column("set_at"),
    CheckConstraint("0 <= dust AND dust <= threshold AND fee_max > 0", name="amounts"),
    CheckConstraint("max_age_s > 0", name="age"),
    CheckConstraint("fee_share_max_bp BETWEEN 1 AND 10000", name="share"),
)

targets = Table(
    "treasury_targets",
    metadata,
    tenant_column(),
    Column(
        "purpose", Text, CheckConstraint(f"purpose IN {LEVELLED}", name="purpose_known"), primary_key=True
    ),
    Column("asset", Text, primary_key=True),
    text_column("chain"),
    amount_column("low"),
    amount_column("target"),
    amount_column("high"),
    Column("enabled", Boolean, nullable=False),
    text_column("set_by"),
    utc_column("set_at"),
    CheckConstraint("0 <= low AND low <= target AND target <= high AND high > 0", name="levels"),
)

holdings = Table(
    "treasury_holdings",
    metadata,
    tenant_column(),
    uuid_key("vault_id"),
    Column("asset", Text, primary_key=True),
    text_column("chain"),
    amount_column("amount"),
    choice_column("verdict", tuple(Verdict)),
    # Code of a refusal; empty for every other verdict.
    text_column("detail"),
    utc_column("since"),
    utc_column("changed_at"),
    ForeignKeyConstraint(["tenant_id", "vault_id"], ["vaults.tenant_id", "vaults.id"]),
    CheckConstraint("amount >= 0", name="amount"),
    Index("ix_treasury_holdings_verdict", "tenant_id", "asset", "verdict", "vault_id"),
)
