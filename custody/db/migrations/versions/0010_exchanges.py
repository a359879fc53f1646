"""Exchanges of one asset for another, each with its exact rate, and their reversals."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from custody.db.ddl import append_only, grant, tenant_isolation

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
TABLES = ("exchanges", "exchange_reversals")


def money(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.Numeric(78, 0), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "exchanges",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("source_wallet_id", sa.Uuid, nullable=False),
        sa.Column("destination_wallet_id", sa.Uuid, nullable=False),
        sa.Column("sold_asset", sa.Text, nullable=False),
        money("sold"),
        sa.Column("bought_asset", sa.Text, nullable=False),
        money("bought"),
        money("fee", nullable=True),
        money("rate_numerator"),
        money("rate_denominator"),
        sa.Column("rate_source", sa.Text, nullable=False),
        sa.Column("quoted_at", MOMENT, nullable=False),
        sa.Column("rounding", sa.Text, nullable=False),
        sa.Column("requested_by", sa.Text, nullable=False),
        sa.Column("booked_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_exchanges"),
        sa.CheckConstraint("rounding IN ('floor', 'ceil')", name="rounding_known"),
        # least() passes over a fee that is not there.
        sa.CheckConstraint(
            "least(sold, bought, fee, rate_numerator, rate_denominator) > 0", name="figures_positive"
        ),
        sa.CheckConstraint("sold_asset <> bought_asset", name="assets_differ"),
        # numeric products and div() are exact however long they become.
        sa.CheckConstraint(
            "bought = div(sold * rate_numerator "
            "+ CASE rounding WHEN 'ceil' THEN rate_denominator - 1 ELSE 0 END, rate_denominator)",
            name="bought_at_the_rate",
        ),
    )
    op.create_table(
        "exchange_reversals",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("exchange_id", sa.Uuid, nullable=False),
        sa.Column("requested_by", sa.Text, nullable=False),
        sa.Column("booked_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "exchange_id", name="pk_exchange_reversals"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "exchange_id"],
            ["exchanges.tenant_id", "exchanges.id"],
            name="fk_exchange_reversals_exchange",
        ),
    )
    tenant_isolation(*TABLES)
    append_only(*TABLES)
    grant("SELECT, INSERT", *TABLES)


def downgrade() -> None:
    raise RuntimeError("migrations go forward only")
