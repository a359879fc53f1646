"""Deposit addresses by memo; cases of deposits that could not be credited; what a tenant takes as a deposit; returns out of suspense;
vaults that ask senders for a memo."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from custody.db.ddl import grant, tenant_isolation

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

REASONS = [
    "memo_missing",
    "unknown_memo",
    "unattributed",
    "unsupported_asset",
    "below_minimum",
    "dust",
    "account_closed",
    "account_refused",
]
STATES = ["open", "ignored", "assigned", "returning", "returned", "dismissed", "listed", "orphaned"]
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    memos()
    deposits()
    cases()
    rules()
    returns()
    backfill()


def memos() -> None:
    op.execute(
        """
        ALTER TABLE deposit_addresses
          ADD COLUMN memo_type text,
          ADD COLUMN memo text,
          ADD CONSTRAINT ck_deposit_addresses_memo_type_known CHECK (memo_type IN ('text', 'hash', 'return')),
          ADD CONSTRAINT ck_deposit_addresses_memo_with_type CHECK ((memo IS NULL) = (memo_type IS NULL)),
          ADD CONSTRAINT ck_deposit_addresses_one_name CHECK (num_nonnulls(tag, memo) <= 1)
        """
    )
    op.create_index(
        "uq_deposit_addresses_vault_name",
        "deposit_addresses",
        ["tenant_id", "vault_id", "tag", "memo"],
        unique=True,
        postgresql_nulls_not_distinct=True,
    )
    op.drop_index("uq_deposit_addresses_vault_tag", "deposit_addresses")


def deposits() -> None:
    """The check widens what is allowed: added unproved, then proved without a lock on writers."""
    op.execute("ALTER TABLE deposits DROP CONSTRAINT ck_deposits_state_known")
    op.execute(
        "ALTER TABLE deposits ADD CONSTRAINT ck_deposits_state_known CHECK (state IN "
        "('observed', 'credited', 'suspended', 'unlisted', 'returned', 'orphaned', 'reversed')) NOT VALID"
    )
    op.execute("ALTER TABLE deposits VALIDATE CONSTRAINT ck_deposits_state_known")


def words(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def cases() -> None:
    op.create_table(
        "deposit_cases",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("sequence", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("deposit_id", sa.Uuid, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("chain", sa.Text, nullable=False),
        sa.Column("asset", sa.Text, nullable=False),
        sa.Column("amount", sa.Numeric(78, 0), nullable=False),
        sa.Column("named_wallet_id", sa.Uuid, nullable=True),
        sa.Column("wallet_id", sa.Uuid, nullable=True),
        sa.Column("withdrawal_id", sa.Uuid, nullable=True),
        sa.Column("decided_by", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("created_at", MOMENT, server_default=sa.func.clock_timestamp(), nullable=False),
        sa.Column("changed_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_deposit_cases"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "deposit_id"],
            ["deposits.tenant_id", "deposits.id"],
            name="fk_deposit_cases_tenant_id_deposit_id",
        ),
        sa.CheckConstraint(f"state IN ({words(STATES)})", name="state_known"),
        sa.CheckConstraint(f"reason IN ({words(REASONS)})", name="reason_known"),
        sa.CheckConstraint("amount > 0", name="amount_positive"),
        sa.CheckConstraint("state <> 'assigned' OR wallet_id IS NOT NULL", name="assigned_to_a_wallet"),
        sa.CheckConstraint(
            "(state IN ('returning', 'returned')) = (withdrawal_id IS NOT NULL)",
            name="returned_by_a_withdrawal",
        ),
        sa.CheckConstraint(
            "state NOT IN ('dismissed', 'listed') OR reason = 'unsupported_asset'",
            name="money_is_not_dismissed",
        ),
        sa.CheckConstraint(
            "state NOT IN ('assigned', 'returning', 'returned') OR reason <> 'unsupported_asset'",
            name="unlisted_is_not_moved",
        ),
    )
    for name, columns, unique, where in (
        ("uq_deposit_cases_deposit", ["deposit_id"], True, "state NOT IN ('orphaned', 'listed')"),
        ("ix_deposit_cases_sequence", ["sequence"], False, None),
        (
            "ix_deposit_cases_waiting",
            ["chain", "asset"],
            False,
            "reason = 'unsupported_asset' AND state IN ('open', 'ignored')",
        ),
        (
            "ix_deposit_cases_unsettled",
            ["asset", "sequence"],
            False,
            "state IN ('open', 'ignored', 'returning')",
        ),
        ("uq_deposit_cases_withdrawal", ["withdrawal_id"], True, "withdrawal_id IS NOT NULL"),
    ):
        op.create_index(
            name,
            "deposit_cases",
            ["tenant_id", *columns],
            unique=unique,
            postgresql_where=None if where is None else sa.text(where),
        )
    tenant_isolation("deposit_cases")
    # Why a case was opened never changes; only what is decided about it.
    grant(
        "SELECT, INSERT, UPDATE (state, wallet_id, withdrawal_id, decided_by, note, changed_at)",
        "deposit_cases",
    )


def rules() -> None:
    op.create_table(
        "deposit_rules",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("asset", sa.Text, nullable=False),
        sa.Column("minimum", sa.Numeric(78, 0), nullable=False),
        sa.Column("dust", sa.Numeric(78, 0), nullable=False),
        sa.Column("set_by", sa.Text, nullable=False),
        sa.Column("changed_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "asset", name="pk_deposit_rules"),
        sa.CheckConstraint("minimum >= 0 AND dust >= 0", name="not_negative"),
    )
    tenant_isolation("deposit_rules")
    grant("SELECT, INSERT, UPDATE (minimum, dust, set_by, changed_at)", "deposit_rules")


def returns() -> None:
    """As for deposits."""
    op.execute("ALTER TABLE withdrawals DROP CONSTRAINT ck_withdrawals_kind_known")
    op.execute("ALTER TABLE withdrawals DROP CONSTRAINT ck_withdrawals_kind_shape")
    op.execute(
        "ALTER TABLE withdrawals ADD CONSTRAINT ck_withdrawals_kind_known "
        "CHECK (kind IN ('payment', 'return', 'change_trust', 'anchor', 'memo_required')) NOT VALID"
    )
    op.execute(
        "ALTER TABLE withdrawals ADD CONSTRAINT ck_withdrawals_kind_shape CHECK ("
        "(kind = 'payment' AND wallet_id IS NOT NULL AND amount > 0) "
        "OR (kind = 'return' AND wallet_id IS NULL AND amount > 0) "
        "OR (kind IN ('change_trust', 'anchor', 'memo_required') AND wallet_id IS NULL AND amount = 0)) NOT VALID"
    )
    op.execute("ALTER TABLE withdrawals VALIDATE CONSTRAINT ck_withdrawals_kind_known")
    op.execute("ALTER TABLE withdrawals VALIDATE CONSTRAINT ck_withdrawals_kind_shape")


def backfill() -> None:
    """A case for what is in suspense already, of every tenant: for this one statement the owner sees all rows."""
    for table in ("deposits", "deposit_cases"):
        op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
    op.execute(
        """
        INSERT INTO deposit_cases (tenant_id, id, deposit_id, state, reason, chain, asset, amount, decided_by, note, changed_at)
        SELECT tenant_id, gen_random_uuid(), id, 'open',
               CASE WHEN chain NOT LIKE 'stellar:%' THEN 'unattributed'
                    WHEN tag IS NULL AND memo = '' THEN 'memo_missing' ELSE 'unknown_memo' END,
               chain, asset, amount, '', '', clock_timestamp()
        FROM deposits WHERE state = 'suspended' ORDER BY sequence
        """
    )
    for table in ("deposits", "deposit_cases"):
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")


def downgrade() -> None:
    raise RuntimeError("migrations go forward only")
