"""Our accounts at banks; payouts with their sendings and what rails said of them; arrivals and their references."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from custody.db.ddl import append_only, function_for_app, grant, tenant_isolation

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

MONEY = sa.Numeric(78, 0)
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    bank_accounts()
    payouts()
    payout_attempts()
    rail_observations()
    receipt_references()
    receipts()


def created_at() -> sa.Column:
    return sa.Column("created_at", MOMENT, server_default=sa.func.clock_timestamp(), nullable=False)


def bank_accounts() -> None:
    op.create_table(
        "bank_accounts",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("rail", sa.Text, nullable=False),
        sa.Column("iban", sa.Text, nullable=False),
        sa.Column("asset", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        created_at(),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_bank_accounts"),
        sa.CheckConstraint("asset ~ '^fiat/[A-Z]{3}$'", name="asset_is_fiat"),
        sa.CheckConstraint("iban ~ '^[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}$'", name="iban_form"),
    )
    # A callback names an IBAN before the tenant is known, so this one index does not start with the tenant.
    op.create_index("uq_bank_accounts_rail_iban", "bank_accounts", ["rail", "iban"], unique=True)
    append_only("bank_accounts")
    grant("SELECT, INSERT", "bank_accounts")
    # Row-level security, but not forced: the function below, owned by the same role, must find any tenant's account.
    op.execute("ALTER TABLE bank_accounts ENABLE ROW LEVEL SECURITY")
    op.execute(
        "CREATE POLICY tenant_isolation ON bank_accounts "
        "USING (tenant_id = current_tenant()) WITH CHECK (tenant_id = current_tenant())"
    )
    op.execute(
        """
        CREATE FUNCTION find_bank_account(on_rail text, of_iban text) RETURNS TABLE (tenant_id int, id uuid)
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
          SELECT a.tenant_id, a.id FROM bank_accounts a WHERE a.rail = on_rail AND a.iban = of_iban
        $$
        """
    )
    function_for_app("find_bank_account(text, text)")


def payouts() -> None:
    op.create_table(
        "payouts",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("sequence", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("wallet_id", sa.Uuid, nullable=False),
        sa.Column("bank_account_id", sa.Uuid, nullable=False),
        sa.Column("rail", sa.Text, nullable=False),
        sa.Column("account_iban", sa.Text, nullable=False),
        sa.Column("asset", sa.Text, nullable=False),
        sa.Column("amount", MONEY, nullable=False),
        sa.Column("beneficiary_iban", sa.Text, nullable=False),
        sa.Column("beneficiary_name", sa.Text, nullable=False),
        sa.Column("remittance", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reference", sa.Text, nullable=True),
        sa.Column("external_ref", sa.Text, nullable=True),
        sa.Column("reason", sa.Text, server_default="", nullable=False),
        sa.Column("requested_by", sa.Text, nullable=False),
        sa.Column("polls", sa.Integer, server_default="0", nullable=False),
        sa.Column("next_poll_at", MOMENT, nullable=True),
        sa.Column("settled_at", MOMENT, nullable=True),
        sa.Column("returned_at", MOMENT, nullable=True),
        created_at(),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_payouts"),
        sa.CheckConstraint(
            "state IN ('ready', 'cancelled', 'submitting', 'submitted', 'rejected', 'unknown', 'settled', "
            "'returned', 'integrity_failed')",
            name="state_known",
        ),
        sa.CheckConstraint("amount > 0", name="amount_positive"),
        sa.CheckConstraint(
            "(state IN ('ready', 'cancelled')) = (reference IS NULL)", name="reference_when_claimed"
        ),
        sa.CheckConstraint(
            "(state IN ('unknown', 'submitted')) = (next_poll_at IS NOT NULL)", name="polled_while_open"
        ),
        sa.CheckConstraint(
            "state NOT IN ('settled', 'returned') OR settled_at IS NOT NULL", name="settled_when_booked"
        ),
        sa.CheckConstraint("(state = 'returned') = (returned_at IS NOT NULL)", name="returned_when_booked"),
        sa.CheckConstraint("settled_at IS NULL OR external_ref IS NOT NULL", name="settled_has_external_ref"),
    )
    op.create_index("uq_payouts_reference", "payouts", ["tenant_id", "rail", "reference"], unique=True)
    op.create_index("ix_payouts_sequence", "payouts", ["tenant_id", "sequence"])
    op.create_index(
        "ix_payouts_ready", "payouts", ["tenant_id", "sequence"], postgresql_where=sa.text("state = 'ready'")
    )
    op.create_index(
        "ix_payouts_poll",
        "payouts",
        ["tenant_id", "next_poll_at"],
        postgresql_where=sa.text("next_poll_at IS NOT NULL"),
    )
    tenant_isolation("payouts")
    # What was asked never changes; how far it has come does.
    grant(
        "SELECT, INSERT, UPDATE "
        "(state, reference, external_ref, reason, polls, next_poll_at, settled_at, returned_at)",
        "payouts",
    )


def payout_attempts() -> None:
    op.create_table(
        "payout_attempts",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("payout_id", sa.Uuid, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("reference", sa.Text, nullable=False),
        sa.Column("lease_until", MOMENT, nullable=False),
        sa.Column("outcome", sa.Text, nullable=True),
        sa.Column("detail", sa.Text, server_default="", nullable=False),
        created_at(),
        sa.PrimaryKeyConstraint("tenant_id", "payout_id", "number", name="pk_payout_attempts"),
        sa.CheckConstraint("outcome IN ('accepted', 'declined', 'mismatched', 'lost')", name="outcome_known"),
        sa.CheckConstraint("number > 0", name="number_positive"),
    )
    op.create_index(
        "uq_payout_attempts_open",
        "payout_attempts",
        ["tenant_id", "payout_id"],
        unique=True,
        postgresql_where=sa.text("outcome IS NULL"),
    )
    op.create_index(
        "ix_payout_attempts_lease",
        "payout_attempts",
        ["tenant_id", "lease_until"],
        postgresql_where=sa.text("outcome IS NULL"),
    )
    tenant_isolation("payout_attempts")
    grant("SELECT, INSERT, UPDATE (outcome, detail)", "payout_attempts")


def rail_observations() -> None:
    op.create_table(
        "rail_observations",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("rail", sa.Text, nullable=False),
        sa.Column("external_event_id", sa.Text, nullable=False),
        sa.Column("payout_id", sa.Uuid, nullable=False),
        sa.Column("external_ref", sa.Text, nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("asset", sa.Text, nullable=False),
        sa.Column("amount", MONEY, nullable=False),
        sa.Column("beneficiary_iban", sa.Text, nullable=False),
        sa.Column("occurred_at", MOMENT, nullable=False),
        sa.Column("raw_sha256", sa.LargeBinary, nullable=False),
        sa.Column("result", sa.Text, nullable=False),
        created_at(),
        sa.PrimaryKeyConstraint("tenant_id", "rail", "external_event_id", name="pk_rail_observations"),
        sa.CheckConstraint("event IN ('accepted', 'settled', 'rejected', 'returned')", name="event_known"),
        sa.CheckConstraint("result IN ('applied', 'old', 'contradicts')", name="result_known"),
        sa.CheckConstraint("length(raw_sha256) = 32", name="raw_sha256_length"),
    )
    op.create_index("ix_rail_observations_payout_id", "rail_observations", ["tenant_id", "payout_id"])
    tenant_isolation("rail_observations")
    append_only("rail_observations")
    grant("SELECT, INSERT", "rail_observations")


def receipt_references() -> None:
    op.create_table(
        "receipt_references",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("reference", sa.Text, nullable=False),
        sa.Column("wallet_id", sa.Uuid, nullable=False),
        created_at(),
        sa.PrimaryKeyConstraint("tenant_id", "reference", name="pk_receipt_references"),
        sa.CheckConstraint("reference ~ '^RF[0-9]{2}[0-9A-Z]{1,21}$'", name="reference_form"),
    )
    op.create_index(
        "uq_receipt_references_wallet_id", "receipt_references", ["tenant_id", "wallet_id"], unique=True
    )
    tenant_isolation("receipt_references")
    append_only("receipt_references")
    grant("SELECT, INSERT", "receipt_references")


def receipts() -> None:
    op.create_table(
        "receipts",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("sequence", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("rail", sa.Text, nullable=False),
        sa.Column("external_event_id", sa.Text, nullable=False),
        sa.Column("external_ref", sa.Text, nullable=False),
        sa.Column("bank_account_id", sa.Uuid, nullable=False),
        sa.Column("wallet_id", sa.Uuid, nullable=True),
        sa.Column("asset", sa.Text, nullable=False),
        sa.Column("amount", MONEY, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("remittance", sa.Text, nullable=False),
        sa.Column("debtor_iban", sa.Text, nullable=False),
        sa.Column("debtor_name", sa.Text, nullable=False),
        sa.Column("occurred_at", MOMENT, nullable=False),
        sa.Column("raw_sha256", sa.LargeBinary, nullable=False),
        created_at(),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_receipts"),
        sa.CheckConstraint("outcome IN ('credited', 'suspended')", name="outcome_known"),
        sa.CheckConstraint("amount > 0", name="amount_positive"),
        sa.CheckConstraint("(outcome = 'credited') = (wallet_id IS NOT NULL)", name="credited_to_a_wallet"),
        sa.CheckConstraint("length(raw_sha256) = 32", name="raw_sha256_length"),
    )
    op.create_index("uq_receipts_event", "receipts", ["tenant_id", "rail", "external_event_id"], unique=True)
    op.create_index(
        "uq_receipts_external_ref", "receipts", ["tenant_id", "rail", "external_ref"], unique=True
    )
    op.create_index("ix_receipts_sequence", "receipts", ["tenant_id", "sequence"])
    tenant_isolation("receipts")
    append_only("receipts")
    grant("SELECT, INSERT", "receipts")


def downgrade() -> None:
    raise RuntimeError("migrations go forward only")
