"""Several transactions for one EVM nonce, of which the chain takes one; withdrawals that are stuck, and why."""

from __future__ import annotations

from alembic import op

from custody.db.ddl import grant

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    kinds()
    stuck()
    alternatives()
    fixed_columns()


def kinds() -> None:
    """A transaction without effect that uses a nonce up: instead of one that is stuck, or in a gap."""
    op.execute("ALTER TABLE withdrawals DROP CONSTRAINT ck_withdrawals_kind_known")
    op.execute("ALTER TABLE withdrawals DROP CONSTRAINT ck_withdrawals_kind_shape")
    op.execute(
        "ALTER TABLE withdrawals ADD CONSTRAINT ck_withdrawals_kind_known CHECK (kind IN "
        "('payment', 'return', 'change_trust', 'anchor', 'memo_required', 'evm_cancel', 'evm_fill')) NOT VALID"
    )
    op.execute(
        "ALTER TABLE withdrawals ADD CONSTRAINT ck_withdrawals_kind_shape CHECK ("
        "(kind = 'payment' AND wallet_id IS NOT NULL AND amount > 0) "
        "OR (kind = 'return' AND wallet_id IS NULL AND amount > 0) "
        "OR (kind IN ('change_trust', 'anchor', 'memo_required', 'evm_cancel', 'evm_fill') "
        "AND wallet_id IS NULL AND amount = 0)) NOT VALID"
    )
    op.execute("ALTER TABLE withdrawals VALIDATE CONSTRAINT ck_withdrawals_kind_known")
    op.execute("ALTER TABLE withdrawals VALIDATE CONSTRAINT ck_withdrawals_kind_shape")
    op.execute("ALTER TABLE withdrawals ADD COLUMN target_id uuid")
    op.execute(
        "ALTER TABLE withdrawals ADD CONSTRAINT ck_withdrawals_cancel_has_target "
        "CHECK ((kind = 'evm_cancel') = (target_id IS NOT NULL)) NOT VALID"
    )
    op.execute("ALTER TABLE withdrawals VALIDATE CONSTRAINT ck_withdrawals_cancel_has_target")
    op.execute(
        "CREATE UNIQUE INDEX uq_withdrawals_cancel ON withdrawals (tenant_id, target_id) "
        "WHERE state IN ('awaiting_approval', 'approved', 'signing') AND target_id IS NOT NULL"
    )
    op.execute(
        "CREATE UNIQUE INDEX uq_withdrawals_fill ON withdrawals (tenant_id, vault_id) "
        "WHERE state IN ('awaiting_approval', 'approved', 'signing') AND kind = 'evm_fill'"
    )


def stuck() -> None:
    """Why a withdrawal goes no further by itself."""
    op.execute("ALTER TABLE withdrawals ADD COLUMN stuck_since timestamptz")
    op.execute("ALTER TABLE withdrawals ADD COLUMN stuck_reason text NOT NULL DEFAULT ''")
    op.execute(
        "ALTER TABLE withdrawals ADD CONSTRAINT ck_withdrawals_stuck_with_reason "
        "CHECK ((stuck_since IS NULL) = (stuck_reason = '')) NOT VALID"
    )
    op.execute("ALTER TABLE withdrawals VALIDATE CONSTRAINT ck_withdrawals_stuck_with_reason")
    op.execute(
        "CREATE INDEX ix_withdrawals_stuck ON withdrawals (tenant_id, stuck_since) WHERE stuck_since IS NOT NULL"
    )
    grant("UPDATE (stuck_since, stuck_reason)", "withdrawals")


def alternatives() -> None:
    """An alternative names the first attempt on its nonce; on the same vault and nonce, as the foreign key demands."""
    op.execute("ALTER TABLE withdrawal_attempts ADD COLUMN alternative_of uuid")
    op.execute("ALTER TABLE withdrawal_attempts ADD COLUMN intent bytea")
    op.execute("ALTER TABLE withdrawal_attempts ADD COLUMN spends numeric(78, 0) NOT NULL DEFAULT 0")
    op.execute("ALTER TABLE withdrawal_attempts ADD COLUMN watched_from bigint")
    op.execute(
        "ALTER TABLE withdrawal_attempts ADD CONSTRAINT ck_withdrawal_attempts_intent_of_alternative "
        "CHECK (intent IS NULL OR alternative_of IS NOT NULL) NOT VALID"
    )
    op.execute(
        "ALTER TABLE withdrawal_attempts ADD CONSTRAINT ck_withdrawal_attempts_alternatives_on_evm "
        "CHECK (alternative_of IS NULL OR max_ledger IS NULL) NOT VALID"
    )
    op.execute(
        "ALTER TABLE withdrawal_attempts ADD CONSTRAINT uq_withdrawal_attempts_place "
        "UNIQUE (tenant_id, id, vault_id, sequence)"
    )
    op.execute(
        "ALTER TABLE withdrawal_attempts ADD CONSTRAINT fk_withdrawal_attempts_first "
        "FOREIGN KEY (tenant_id, alternative_of, vault_id, sequence) "
        "REFERENCES withdrawal_attempts (tenant_id, id, vault_id, sequence) NOT VALID"
    )
    for name in ("intent_of_alternative", "alternatives_on_evm"):
        op.execute(f"ALTER TABLE withdrawal_attempts VALIDATE CONSTRAINT ck_withdrawal_attempts_{name}")
    op.execute("ALTER TABLE withdrawal_attempts VALIDATE CONSTRAINT fk_withdrawal_attempts_first")
    op.execute("DROP INDEX uq_withdrawal_attempts_slot")
    op.execute(
        "CREATE UNIQUE INDEX uq_withdrawal_attempts_slot ON withdrawal_attempts (tenant_id, vault_id, sequence) "
        "WHERE holds_slot AND alternative_of IS NULL"
    )
    op.execute("DROP INDEX uq_withdrawal_attempts_open")
    op.execute(
        "CREATE UNIQUE INDEX uq_withdrawal_attempts_open ON withdrawal_attempts (tenant_id, withdrawal_id) "
        "WHERE state IN ('reserved', 'signed', 'broadcast', 'included') AND alternative_of IS NULL"
    )
    op.execute(
        "CREATE UNIQUE INDEX uq_withdrawal_attempts_reserved ON withdrawal_attempts (tenant_id, alternative_of) "
        "WHERE state = 'reserved' AND alternative_of IS NOT NULL"
    )
    op.execute(
        "CREATE UNIQUE INDEX uq_withdrawal_attempts_mined ON withdrawal_attempts (tenant_id, vault_id, sequence) "
        "WHERE state IN ('included', 'confirmed', 'failed') AND max_ledger IS NULL"
    )
    grant("UPDATE (watched_from)", "withdrawal_attempts")


def fixed_columns() -> None:
    """As in 0004, with the new columns that never change."""
    op.execute(
        """
        CREATE OR REPLACE FUNCTION withdrawal_is_fixed() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          IF TG_OP = 'DELETE' OR (NEW.id, NEW.vault_id, NEW.asset, NEW.destination, NEW.memo_type, NEW.memo,
              NEW.amount, NEW.intent, NEW.digest, NEW.expires_at, NEW.target_id)
            IS DISTINCT FROM (OLD.id, OLD.vault_id, OLD.asset, OLD.destination, OLD.memo_type, OLD.memo,
              OLD.amount, OLD.intent, OLD.digest, OLD.expires_at, OLD.target_id)
          THEN RAISE EXCEPTION 'what approvers sign cannot change' USING ERRCODE = 'restrict_violation';
          END IF;
          RETURN NEW;
        END $$
        """
    )
    op.execute(
        """
        CREATE OR REPLACE FUNCTION attempt_is_fixed() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          IF TG_OP = 'DELETE' OR (NEW.id, NEW.withdrawal_id, NEW.vault_id, NEW.chain, NEW.number, NEW.sequence,
              NEW.exclusive, NEW.max_ledger, NEW.max_time, NEW.fee_bid, NEW.priority_fee, NEW.alternative_of,
              NEW.intent, NEW.spends)
            IS DISTINCT FROM (OLD.id, OLD.withdrawal_id, OLD.vault_id, OLD.chain, OLD.number, OLD.sequence,
              OLD.exclusive, OLD.max_ledger, OLD.max_time, OLD.fee_bid, OLD.priority_fee, OLD.alternative_of,
              OLD.intent, OLD.spends)
            OR (OLD.tx IS NOT NULL AND (NEW.tx, NEW.tx_hash) IS DISTINCT FROM (OLD.tx, OLD.tx_hash))
            OR (NEW.holds_slot AND NOT OLD.holds_slot)
          THEN RAISE EXCEPTION 'a reserved slot and signed bytes cannot change' USING ERRCODE = 'restrict_violation';
          END IF;
          RETURN NEW;
        END $$
        """
    )


def downgrade() -> None:
    raise RuntimeError("migrations go forward only")
