"""Channel and fee accounts on Stellar: vaults of ours that lend sequence numbers, what fills them, and fees that are raised."""

from __future__ import annotations

from alembic import op

from custody.db.ddl import grant, tenant_isolation

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    purposes()
    kinds()
    lines()
    attempts()
    channels()


def purposes() -> None:
    """A vault may be a channel, or pay the fees of others. Known purposes only grow."""
    for table in ("vaults", "vault_requests"):
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT ck_{table}_purpose_known")
        op.execute(
            f"ALTER TABLE {table} ADD CONSTRAINT ck_{table}_purpose_known "
            "CHECK (purpose IN ('omnibus', 'deposit', 'channels', 'fees')) NOT VALID"
        )
        op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT ck_{table}_purpose_known")


def kinds() -> None:
    op.execute("ALTER TABLE withdrawals ADD COLUMN channel_id uuid")
    op.execute("ALTER TABLE withdrawals ADD COLUMN into_id uuid")
    op.execute("ALTER TABLE withdrawals DROP CONSTRAINT ck_withdrawals_kind_known")
    op.execute("ALTER TABLE withdrawals DROP CONSTRAINT ck_withdrawals_kind_shape")
    op.execute(
        "ALTER TABLE withdrawals ADD CONSTRAINT ck_withdrawals_kind_known CHECK (kind IN "
        "('payment', 'return', 'refill', 'change_trust', 'anchor', 'memo_required', 'fee_bump', 'evm_cancel', 'evm_fill')) "
        "NOT VALID"
    )
    op.execute(
        "ALTER TABLE withdrawals ADD CONSTRAINT ck_withdrawals_kind_shape CHECK ("
        "(kind = 'payment' AND wallet_id IS NOT NULL AND amount > 0) "
        "OR (kind IN ('return', 'refill') AND wallet_id IS NULL AND amount > 0) "
        "OR (kind IN ('change_trust', 'anchor', 'memo_required', 'fee_bump', 'evm_cancel', 'evm_fill') "
        "AND wallet_id IS NULL AND amount = 0)) NOT VALID"
    )
    op.execute(
        "ALTER TABLE withdrawals ADD CONSTRAINT ck_withdrawals_refill_into_vault "
        "CHECK ((kind = 'refill') = (into_id IS NOT NULL)) NOT VALID"
    )
    op.execute(
        "ALTER TABLE withdrawals ADD CONSTRAINT ck_withdrawals_channel_pays "
        "CHECK (channel_id IS NULL OR kind IN ('payment', 'return')) NOT VALID"
    )
    for name in ("kind_known", "kind_shape", "refill_into_vault", "channel_pays"):
        op.execute(f"ALTER TABLE withdrawals VALIDATE CONSTRAINT ck_withdrawals_{name}")


def lines() -> None:
    """Whoever uses the same sequence numbers stands in one line."""
    op.execute("DROP INDEX ix_withdrawals_turn")
    op.execute(
        "CREATE INDEX ix_withdrawals_turn ON withdrawals (tenant_id, (coalesce(channel_id, vault_id)), approved_at) "
        "WHERE state IN ('approved', 'signing')"
    )
    op.execute(
        "CREATE INDEX ix_withdrawals_channel ON withdrawals (tenant_id, channel_id) WHERE channel_id IS NOT NULL "
        "AND state IN ('awaiting_approval', 'approved', 'signing', 'broadcasting')"
    )
    op.execute(
        "CREATE INDEX ix_withdrawals_into ON withdrawals (tenant_id, into_id, sequence) WHERE into_id IS NOT NULL"
    )
    op.execute("CREATE INDEX ix_withdrawals_bump ON withdrawals (tenant_id, memo) WHERE kind = 'fee_bump'")
    op.execute(
        """
        CREATE FUNCTION withdrawal_line_is_fixed() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          IF (NEW.channel_id, NEW.into_id) IS DISTINCT FROM (OLD.channel_id, OLD.into_id)
          THEN RAISE EXCEPTION 'what approvers sign cannot change' USING ERRCODE = 'restrict_violation';
          END IF;
          RETURN NEW;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER withdrawal_line_is_fixed BEFORE UPDATE ON withdrawals "
        "FOR EACH ROW EXECUTE FUNCTION withdrawal_line_is_fixed()"
    )


def attempts() -> None:
    """A fee bump has no sequence of its own: it carries that of what it is wrapped around."""
    op.execute(
        "ALTER TABLE withdrawal_attempts DROP CONSTRAINT ck_withdrawal_attempts_slot_held_while_usable"
    )
    op.execute(
        "ALTER TABLE withdrawal_attempts ADD CONSTRAINT ck_withdrawal_attempts_slot_held_while_usable "
        "CHECK (holds_slot OR state IN ('refused', 'lapsed') OR (sequence = 0 AND max_ledger IS NOT NULL)) NOT VALID"
    )
    op.execute(
        "ALTER TABLE withdrawal_attempts VALIDATE CONSTRAINT ck_withdrawal_attempts_slot_held_while_usable"
    )


def channels() -> None:
    op.execute(
        """
        CREATE TABLE stellar_channels (
          tenant_id int NOT NULL,
          vault_id uuid NOT NULL,
          chain text NOT NULL,
          sequence bigint NOT NULL CONSTRAINT ck_stellar_channels_sequence_positive CHECK (sequence > 0),
          opened_height bigint NOT NULL,
          created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
          CONSTRAINT pk_stellar_channels PRIMARY KEY (tenant_id, vault_id)
        )
        """
    )
    op.execute("CREATE INDEX ix_stellar_channels_chain ON stellar_channels (tenant_id, chain)")
    tenant_isolation("stellar_channels")
    grant("SELECT, INSERT, UPDATE (sequence)", "stellar_channels")


def downgrade() -> None:
    raise RuntimeError("migrations go forward only")
