"""Treasury: rules of sweeping, levels of vaults, what lies at deposit addresses; vaults for gas, warm and cold money; sweeps."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from custody.db.ddl import grant, tenant_isolation

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

ATOMIC = sa.Numeric(78, 0)


def upgrade() -> None:
    purposes()
    kinds()
    rules()
    targets()
    holdings()
    tenant_isolation("treasury_sweep_rules", "treasury_targets", "treasury_holdings")


def purposes() -> None:
    """A vault may pay for gas, or keep money warm or cold. Known purposes only grow."""
    for table in ("vaults", "vault_requests"):
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT ck_{table}_purpose_known")
        op.execute(
            f"ALTER TABLE {table} ADD CONSTRAINT ck_{table}_purpose_known "
            "CHECK (purpose IN ('omnibus', 'deposit', 'channels', 'fees', 'gas', 'warm', 'cold')) NOT VALID"
        )
        op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT ck_{table}_purpose_known")


def kinds() -> None:
    """Sweeps; and of one asset never two moves at once from one vault of ours to another."""
    for name in ("kind_known", "kind_shape", "refill_into_vault"):
        op.execute(f"ALTER TABLE withdrawals DROP CONSTRAINT ck_withdrawals_{name}")
    op.execute(
        "ALTER TABLE withdrawals ADD CONSTRAINT ck_withdrawals_kind_known CHECK (kind IN "
        "('payment', 'return', 'refill', 'sweep', 'change_trust', 'anchor', 'memo_required', 'fee_bump', 'evm_cancel', "
        "'evm_fill')) NOT VALID"
    )
    op.execute(
        "ALTER TABLE withdrawals ADD CONSTRAINT ck_withdrawals_kind_shape CHECK ("
        "(kind = 'payment' AND wallet_id IS NOT NULL AND amount > 0) "
        "OR (kind IN ('return', 'refill', 'sweep') AND wallet_id IS NULL AND amount > 0) "
        "OR (kind IN ('change_trust', 'anchor', 'memo_required', 'fee_bump', 'evm_cancel', 'evm_fill') "
        "AND wallet_id IS NULL AND amount = 0)) NOT VALID"
    )
    op.execute(
        "ALTER TABLE withdrawals ADD CONSTRAINT ck_withdrawals_refill_into_vault "
        "CHECK ((kind IN ('refill', 'sweep')) = (into_id IS NOT NULL)) NOT VALID"
    )
    for name in ("kind_known", "kind_shape", "refill_into_vault"):
        op.execute(f"ALTER TABLE withdrawals VALIDATE CONSTRAINT ck_withdrawals_{name}")
    op.execute(
        "CREATE UNIQUE INDEX uq_withdrawals_move ON withdrawals (tenant_id, into_id, vault_id, asset) "
        "WHERE into_id IS NOT NULL AND state NOT IN ('settled', 'rejected', 'expired', 'cancelled', 'blocked', 'failed')"
    )
    op.execute(
        "CREATE INDEX ix_withdrawals_swept ON withdrawals (tenant_id, vault_id, asset, sequence) "
        "WHERE kind IN ('sweep', 'change_trust')"
    )


def _of_tenant(name: str, *columns: sa.Column[object] | sa.CheckConstraint) -> None:
    op.create_table(name, sa.Column("tenant_id", sa.Integer, nullable=False), *columns)


def _text(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.Text, nullable=False)


def _amount(name: str) -> sa.Column[object]:
    return sa.Column(name, ATOMIC, nullable=False)


def _moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def rules() -> None:
    _of_tenant(
        "treasury_sweep_rules",
        _text("asset"),
        _text("chain"),
        _amount("threshold"),
        _amount("dust"),
        sa.Column("max_age_s", sa.BigInteger, nullable=True),
        _amount("fee_max"),
        sa.Column("fee_share_max_bp", sa.Integer, nullable=True),
        sa.Column("enabled", sa.Boolean, nullable=False),
        _text("set_by"),
        _moment("set_at"),
        sa.CheckConstraint(
            "0 <= dust AND dust <= threshold AND fee_max > 0", name="ck_treasury_sweep_rules_amounts"
        ),
        sa.CheckConstraint("max_age_s > 0", name="ck_treasury_sweep_rules_age"),
        sa.CheckConstraint("fee_share_max_bp BETWEEN 1 AND 10000", name="ck_treasury_sweep_rules_share"),
        sa.PrimaryKeyConstraint("tenant_id", "asset", name="pk_treasury_sweep_rules"),
    )
    grant(
        "SELECT, INSERT, UPDATE (threshold, dust, max_age_s, fee_max, fee_share_max_bp, enabled, set_by, set_at)",
        "treasury_sweep_rules",
    )


def targets() -> None:
    _of_tenant(
        "treasury_targets",
        _text("purpose"),
        _text("asset"),
        _text("chain"),
        _amount("low"),
        _amount("target"),
        _amount("high"),
        sa.Column("enabled", sa.Boolean, nullable=False),
        _text("set_by"),
        _moment("set_at"),
        sa.CheckConstraint("purpose IN ('omnibus', 'warm', 'gas')", name="ck_treasury_targets_purpose_known"),
        sa.CheckConstraint(
            "0 <= low AND low <= target AND target <= high AND high > 0", name="ck_treasury_targets_levels"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "purpose", "asset", name="pk_treasury_targets"),
    )
    grant("SELECT, INSERT, UPDATE (low, target, high, enabled, set_by, set_at)", "treasury_targets")


def holdings() -> None:
    _of_tenant(
        "treasury_holdings",
        sa.Column("vault_id", sa.Uuid, nullable=False),
        _text("asset"),
        _text("chain"),
        _amount("amount"),
        _text("verdict"),
        _text("detail"),
        _moment("since"),
        _moment("changed_at"),
        sa.CheckConstraint(
            "verdict IN ('empty', 'dust', 'below_threshold', 'fee_too_high', 'funding', 'sweeping', 'waiting', 'refused')",
            name="ck_treasury_holdings_verdict_known",
        ),
        sa.CheckConstraint("amount >= 0", name="ck_treasury_holdings_amount"),
        sa.PrimaryKeyConstraint("tenant_id", "vault_id", "asset", name="pk_treasury_holdings"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "vault_id"],
            ["vaults.tenant_id", "vaults.id"],
            name="fk_treasury_holdings_tenant_id_vaults",
        ),
    )
    op.execute(
        "CREATE INDEX ix_treasury_holdings_verdict ON treasury_holdings (tenant_id, asset, verdict, vault_id)"
    )
    grant("SELECT, INSERT, UPDATE (amount, verdict, detail, since, changed_at)", "treasury_holdings")


def downgrade() -> None:
    raise RuntimeError("migrations go forward only")
