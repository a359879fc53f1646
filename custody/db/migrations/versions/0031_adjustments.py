"""Adjustments of wallets by hand, with four eyes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from custody.db.ddl import grant, tenant_isolation

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "adjustments",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("wallet_id", sa.Uuid, nullable=False),
        sa.Column("direction", sa.Text, nullable=False),
        sa.Column("asset", sa.Text, nullable=False),
        sa.Column("amount", sa.Numeric(78, 0), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("proposed_by", sa.Text, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False, server_default=sa.func.clock_timestamp()),
        sa.Column("decided_by", sa.Text, nullable=True),
        sa.Column("decided_at", MOMENT, nullable=True),
        sa.Column("note", sa.Text, nullable=False, server_default=""),
        sa.Column("booked_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_adjustments"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "wallet_id"], ["wallets.tenant_id", "wallets.id"], name="fk_adjustments_wallet"
        ),
        sa.CheckConstraint("direction IN ('credit', 'debit')", name="direction_known"),
        sa.CheckConstraint(
            "reason IN ('correction', 'goodwill', 'compensation', 'legal_order', 'write_off', 'opening')",
            name="reason_known",
        ),
        sa.CheckConstraint("state IN ('proposed', 'posted', 'rejected', 'withdrawn')", name="state_known"),
        sa.CheckConstraint("amount > 0", name="amount_positive"),
        # Four eyes: whoever proposed it can only take it back.
        sa.CheckConstraint(
            "state NOT IN ('posted', 'rejected') OR decided_by <> proposed_by", name="decided_by_another"
        ),
        sa.CheckConstraint("state <> 'withdrawn' OR decided_by = proposed_by", name="withdrawn_by_proposer"),
        sa.CheckConstraint(
            "(state = 'proposed') = (decided_at IS NULL) AND (decided_at IS NULL) = (decided_by IS NULL)",
            name="decided_when_decided",
        ),
        sa.CheckConstraint("(state = 'posted') = (booked_at IS NOT NULL)", name="booked_when_posted"),
    )
    op.create_index("ix_adjustments_state", "adjustments", ["tenant_id", "state", "id"])
    # What was decided is decided: no way out of an end, whatever code forgot.
    op.execute(
        "CREATE TRIGGER decided_once BEFORE UPDATE ON adjustments FOR EACH ROW WHEN (OLD.state <> 'proposed') "
        "EXECUTE FUNCTION refuse_change()"
    )
    tenant_isolation("adjustments")
    grant("SELECT, INSERT, UPDATE (state, decided_by, decided_at, note, booked_at)", "adjustments")


def downgrade() -> None:
    raise RuntimeError("migrations go forward only")
