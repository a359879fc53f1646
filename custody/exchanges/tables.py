"""Exchanges with the rate of each, and their reversals. Both are history: nothing in them changes."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Table

from custody.db.base import metadata
from custody.db.columns import (
    amount_column,
    choice_column,
    tenant_column,
    text_column,
    utc_column,
    uuid_column,
    uuid_key,
)
from custody.exchanges.model import Rounding

exchanges = Table(
    "exchanges",
    metadata,
    tenant_column(),
    uuid_key(),
    uuid_column("source_wallet_id"),
    uuid_column("destination_wallet_id"),
    text_column("sold_asset"),
    amount_column("sold"),
    text_column("bought_asset"),
    amount_column("bought"),
    amount_column("fee", nullable=True),
    amount_column("rate_numerator"),
    amount_column("rate_denominator"),
    text_column("rate_source"),
    utc_column("quoted_at"),
    choice_column("rounding", tuple(Rounding)),
    text_column("requested_by"),
    utc_column("booked_at"),
    CheckConstraint(
        "least(sold, bought, fee, rate_numerator, rate_denominator) > 0", name="figures_positive"
    ),
    CheckConstraint("sold_asset <> bought_asset", name="assets_differ"),
    CheckConstraint(
        "bought = div(sold * rate_numerator "
        "+ CASE rounding WHEN 'ceil' THEN rate_denominator - 1 ELSE 0 END, rate_denominator)",
        name="bought_at_the_rate",
    ),
)
"""One row per exchange, written in the transaction of its legs. `fee` is of the sold asset. What was bought is what the exact
rate and the rounding give: the database computes it again."""

exchange_reversals = Table(
    "exchange_reversals",
    metadata,
    tenant_column(),
    uuid_key("exchange_id"),
    text_column("requested_by"),
    utc_column("booked_at"),
    ForeignKeyConstraint(
        ["tenant_id", "exchange_id"],
        ["exchanges.tenant_id", "exchanges.id"],
        name="fk_exchange_reversals_exchange",
    ),
)
"""One row per exchange that was reversed; its key allows no second one."""
