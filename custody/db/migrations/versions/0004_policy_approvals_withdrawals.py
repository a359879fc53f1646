"""The signer's policy as adopted, signed decisions, withdrawals, their attempts, and transactions that no attempt explains."""

from __future__ import annotations

from alembic import op

from custody.db.ddl import append_only, grant, tenant_isolation

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    policies()
    approvals()
    withdrawals()
    attempts()
    strays()
    heights()
    fixed_columns()


def policies() -> None:
    op.execute(
        """
        CREATE TABLE approval_policies (
          version int NOT NULL CONSTRAINT ck_approval_policies_version_positive CHECK (version > 0),
          policy_hash text NOT NULL,
          body jsonb NOT NULL,
          created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
          CONSTRAINT pk_approval_policies PRIMARY KEY (version)
        )
        """
    )
    append_only("approval_policies")
    grant("SELECT, INSERT", "approval_policies")


def approvals() -> None:
    op.execute(
        """
        CREATE TABLE approvals (
          tenant_id int NOT NULL,
          digest bytea NOT NULL CONSTRAINT ck_approvals_digest_length CHECK (octet_length(digest) = 32),
          approver text NOT NULL,
          sequence bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
          public_key text NOT NULL CONSTRAINT ck_approvals_public_key_form CHECK (public_key ~ '^[0-9a-f]{64}$'),
          word text NOT NULL CONSTRAINT ck_approvals_word_known CHECK (word IN ('approve', 'reject')),
          signature text NOT NULL CONSTRAINT ck_approvals_signature_form CHECK (signature ~ '^[0-9a-f]{128}$'),
          created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
          CONSTRAINT pk_approvals PRIMARY KEY (tenant_id, digest, approver)
        )
        """
    )
    tenant_isolation("approvals")
    append_only("approvals")
    grant("SELECT, INSERT", "approvals")


def withdrawals() -> None:
    op.execute(
        """
        CREATE TABLE withdrawals (
          tenant_id int NOT NULL,
          id uuid NOT NULL,
          sequence bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
          kind text NOT NULL CONSTRAINT ck_withdrawals_kind_known CHECK (kind IN ('payment', 'change_trust')),
          state text NOT NULL CONSTRAINT ck_withdrawals_state_known CHECK (state IN (
            'awaiting_approval', 'approved', 'rejected', 'expired', 'cancelled',
            'signing', 'broadcasting', 'confirming', 'settled', 'failed')),
          wallet_id uuid,
          vault_id uuid NOT NULL,
          chain text NOT NULL,
          asset text NOT NULL,
          destination text NOT NULL,
          memo_type text NOT NULL
            CONSTRAINT ck_withdrawals_memo_type_known CHECK (memo_type IN ('none', 'id', 'text', 'hash')),
          memo text NOT NULL,
          amount numeric(78, 0) NOT NULL,
          intent bytea NOT NULL,
          digest bytea NOT NULL CONSTRAINT ck_withdrawals_digest_length CHECK (octet_length(digest) = 32),
          policy_version int NOT NULL,
          initiator text NOT NULL,
          principal_id uuid NOT NULL,
          reason text NOT NULL,
          expires_at timestamptz NOT NULL,
          approved_at timestamptz,
          next_step_at timestamptz,
          created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
          changed_at timestamptz NOT NULL,
          CONSTRAINT pk_withdrawals PRIMARY KEY (tenant_id, id),
          CONSTRAINT uq_withdrawals_tenant_id_digest UNIQUE (tenant_id, digest),
          CONSTRAINT ck_withdrawals_kind_shape CHECK (
            (kind = 'payment' AND wallet_id IS NOT NULL AND amount > 0)
            OR (kind = 'change_trust' AND wallet_id IS NULL AND amount = 0)),
          CONSTRAINT ck_withdrawals_reason_when_unpaid CHECK (
            (state IN ('rejected', 'expired', 'cancelled', 'failed')) = (reason <> '')),
          CONSTRAINT ck_withdrawals_approved_before_signing CHECK (
            approved_at IS NOT NULL OR state IN ('awaiting_approval', 'rejected', 'expired', 'cancelled'))
        )
        """
    )
    op.execute("CREATE INDEX ix_withdrawals_sequence ON withdrawals (tenant_id, sequence)")
    op.execute("CREATE INDEX ix_withdrawals_wallet ON withdrawals (tenant_id, wallet_id, sequence)")
    op.execute(
        "CREATE INDEX ix_withdrawals_open ON withdrawals (tenant_id, next_step_at) WHERE next_step_at IS NOT NULL"
    )
    op.execute(
        "CREATE INDEX ix_withdrawals_window ON withdrawals (tenant_id, expires_at) "
        "WHERE state IN ('awaiting_approval', 'approved')"
    )
    op.execute(
        "CREATE INDEX ix_withdrawals_turn ON withdrawals (tenant_id, vault_id, approved_at) "
        "WHERE state IN ('approved', 'signing')"
    )
    tenant_isolation("withdrawals")
    grant("SELECT, INSERT", "withdrawals")
    grant("UPDATE (state, reason, approved_at, next_step_at, changed_at)", "withdrawals")


def attempts() -> None:
    op.execute(
        """
        CREATE TABLE withdrawal_attempts (
          tenant_id int NOT NULL,
          id uuid NOT NULL,
          withdrawal_id uuid NOT NULL,
          vault_id uuid NOT NULL,
          chain text NOT NULL,
          number int NOT NULL,
          state text NOT NULL CONSTRAINT ck_withdrawal_attempts_state_known CHECK (state IN (
            'reserved', 'signed', 'refused', 'broadcast', 'included', 'confirmed', 'failed', 'lapsed')),
          sequence bigint NOT NULL,
          holds_slot boolean NOT NULL,
          exclusive boolean NOT NULL,
          max_ledger bigint,
          max_time bigint,
          fee_bid numeric(78, 0) NOT NULL,
          priority_fee numeric(78, 0) NOT NULL,
          tx bytea,
          tx_hash text,
          sends int NOT NULL,
          last_answer text NOT NULL,
          height bigint,
          succeeded boolean,
          fee_paid numeric(78, 0),
          included_at timestamptz,
          created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
          changed_at timestamptz NOT NULL,
          CONSTRAINT pk_withdrawal_attempts PRIMARY KEY (tenant_id, id),
          CONSTRAINT uq_withdrawal_attempts_tenant_id_withdrawal_id_number UNIQUE (tenant_id, withdrawal_id, number),
          CONSTRAINT ck_withdrawal_attempts_bytes_once_signed CHECK (
            (tx IS NULL) = (state IN ('reserved', 'refused'))),
          CONSTRAINT ck_withdrawal_attempts_bytes_have_a_name CHECK ((tx IS NULL) = (tx_hash IS NULL)),
          CONSTRAINT ck_withdrawal_attempts_facts_once_included CHECK (
            (state IN ('included', 'confirmed', 'failed')) =
            (height IS NOT NULL AND succeeded IS NOT NULL AND fee_paid IS NOT NULL AND included_at IS NOT NULL)),
          CONSTRAINT ck_withdrawal_attempts_slot_held_while_usable CHECK (
            holds_slot OR state IN ('refused', 'lapsed')),
          CONSTRAINT ck_withdrawal_attempts_confirmed_succeeded CHECK (state <> 'confirmed' OR succeeded),
          CONSTRAINT ck_withdrawal_attempts_failed_did_not CHECK (state <> 'failed' OR NOT succeeded),
          CONSTRAINT ck_withdrawal_attempts_counts CHECK (sequence >= 0 AND sends >= 0 AND number > 0)
        )
        """
    )
    op.execute(
        "CREATE UNIQUE INDEX uq_withdrawal_attempts_slot ON withdrawal_attempts (tenant_id, vault_id, sequence) "
        "WHERE holds_slot"
    )
    op.execute(
        "CREATE UNIQUE INDEX uq_withdrawal_attempts_open ON withdrawal_attempts (tenant_id, withdrawal_id) "
        "WHERE state IN ('reserved', 'signed', 'broadcast', 'included')"
    )
    op.execute(
        "CREATE UNIQUE INDEX uq_withdrawal_attempts_exclusive ON withdrawal_attempts (tenant_id, vault_id) "
        "WHERE exclusive AND state IN ('reserved', 'signed', 'broadcast')"
    )
    op.execute(
        "CREATE UNIQUE INDEX uq_withdrawal_attempts_tx_hash ON withdrawal_attempts (tenant_id, chain, tx_hash) "
        "WHERE tx_hash IS NOT NULL"
    )
    op.execute(
        "CREATE INDEX ix_withdrawal_attempts_in_flight ON withdrawal_attempts (tenant_id, chain) "
        "WHERE state IN ('signed', 'broadcast', 'included')"
    )
    tenant_isolation("withdrawal_attempts")
    grant("SELECT, INSERT", "withdrawal_attempts")
    grant(
        "UPDATE (state, holds_slot, tx, tx_hash, sends, last_answer, height, succeeded, fee_paid, "
        "included_at, changed_at)",
        "withdrawal_attempts",
    )


def strays() -> None:
    op.execute(
        """
        CREATE TABLE stray_transactions (
          tenant_id int NOT NULL,
          chain text NOT NULL,
          tx_hash text NOT NULL,
          state text NOT NULL CONSTRAINT ck_stray_transactions_state_known CHECK (state IN (
            'observed', 'booked', 'orphaned', 'matched')),
          vault_id uuid NOT NULL,
          height bigint NOT NULL,
          succeeded boolean NOT NULL,
          fee_paid numeric(78, 0) NOT NULL,
          sequence bigint NOT NULL,
          occurred_at timestamptz NOT NULL,
          created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
          changed_at timestamptz NOT NULL,
          CONSTRAINT pk_stray_transactions PRIMARY KEY (tenant_id, chain, tx_hash)
        )
        """
    )
    tenant_isolation("stray_transactions")
    grant("SELECT, INSERT", "stray_transactions")
    grant(
        "UPDATE (state, height, succeeded, fee_paid, occurred_at, changed_at)",
        "stray_transactions",
    )


def heights() -> None:
    op.execute(
        """
        CREATE TABLE withdrawal_chain_heights (
          tenant_id int NOT NULL,
          chain text NOT NULL,
          height bigint NOT NULL,
          CONSTRAINT pk_withdrawal_chain_heights PRIMARY KEY (tenant_id, chain)
        )
        """
    )
    tenant_isolation("withdrawal_chain_heights")
    grant("SELECT, INSERT, UPDATE (height)", "withdrawal_chain_heights")


def fixed_columns() -> None:
    """What was approved, the slot, and bytes once stored never change, and no row goes away."""
    op.execute(
        """
        CREATE FUNCTION withdrawal_is_fixed() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          IF TG_OP = 'DELETE' OR (NEW.id, NEW.vault_id, NEW.asset, NEW.destination, NEW.memo_type, NEW.memo,
              NEW.amount, NEW.intent, NEW.digest, NEW.expires_at)
            IS DISTINCT FROM (OLD.id, OLD.vault_id, OLD.asset, OLD.destination, OLD.memo_type, OLD.memo,
              OLD.amount, OLD.intent, OLD.digest, OLD.expires_at)
          THEN RAISE EXCEPTION 'what approvers sign cannot change' USING ERRCODE = 'restrict_violation';
          END IF;
          RETURN NEW;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER withdrawal_is_fixed BEFORE UPDATE OR DELETE ON withdrawals "
        "FOR EACH ROW EXECUTE FUNCTION withdrawal_is_fixed()"
    )
    op.execute(
        """
        CREATE FUNCTION attempt_is_fixed() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          IF TG_OP = 'DELETE' OR (NEW.id, NEW.withdrawal_id, NEW.vault_id, NEW.chain, NEW.number, NEW.sequence,
              NEW.exclusive, NEW.max_ledger, NEW.max_time, NEW.fee_bid, NEW.priority_fee)
            IS DISTINCT FROM (OLD.id, OLD.withdrawal_id, OLD.vault_id, OLD.chain, OLD.number, OLD.sequence,
              OLD.exclusive, OLD.max_ledger, OLD.max_time, OLD.fee_bid, OLD.priority_fee)
            OR (OLD.tx IS NOT NULL AND (NEW.tx, NEW.tx_hash) IS DISTINCT FROM (OLD.tx, OLD.tx_hash))
            OR (NEW.holds_slot AND NOT OLD.holds_slot)
          THEN RAISE EXCEPTION 'a reserved slot and signed bytes cannot change' USING ERRCODE = 'restrict_violation';
          END IF;
          RETURN NEW;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER attempt_is_fixed BEFORE UPDATE OR DELETE ON withdrawal_attempts "
        "FOR EACH ROW EXECUTE FUNCTION attempt_is_fixed()"
    )


def downgrade() -> None:
    raise RuntimeError("migrations go forward only")
