"""A withdrawal's whole lifecycle: screening before approvers are asked, cool-downs and schedules after, and an address book."""

from __future__ import annotations

from alembic import op

from custody.db.ddl import append_only, grant, tenant_isolation

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    states()
    waits()
    lines()
    cool_down_rules()
    screening()
    address_book()


def states() -> None:
    """Known states only grow."""
    for name, condition in (
        (
            "state_known",
            "state IN ('requested', 'screening', 'awaiting_approval', 'blocked', 'approved', 'cooling_down', 'rejected', 'expired', 'cancelled', 'signing', 'broadcasting', 'failed', 'confirming', 'settled')",
        ),
        (
            "reason_when_unpaid",
            "(state IN ('blocked', 'rejected', 'expired', 'cancelled', 'failed')) = (reason <> '')",
        ),
        (
            "approved_before_signing",
            "approved_at IS NOT NULL OR state IN ('requested', 'screening', 'awaiting_approval', 'blocked', 'rejected', 'expired', 'cancelled')",
        ),
    ):
        op.execute(f"ALTER TABLE withdrawals DROP CONSTRAINT ck_withdrawals_{name}")
        op.execute(
            f"ALTER TABLE withdrawals ADD CONSTRAINT ck_withdrawals_{name} CHECK ({condition}) NOT VALID"
        )
        op.execute(f"ALTER TABLE withdrawals VALIDATE CONSTRAINT ck_withdrawals_{name}")


def waits() -> None:
    """From when on it may be carried out. What was asked for never changes; how long it cools is known with the quorum."""
    op.execute("ALTER TABLE withdrawals ADD COLUMN execute_after timestamptz")
    op.execute("ALTER TABLE withdrawals ADD COLUMN cool_until timestamptz")
    op.execute(
        "ALTER TABLE withdrawals ADD CONSTRAINT ck_withdrawals_cools_until "
        "CHECK (state <> 'cooling_down' OR cool_until IS NOT NULL) NOT VALID"
    )
    op.execute("ALTER TABLE withdrawals VALIDATE CONSTRAINT ck_withdrawals_cools_until")
    grant("UPDATE (cool_until)", "withdrawals")
    op.execute(
        """
        CREATE FUNCTION withdrawal_schedule_is_fixed() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          IF NEW.execute_after IS DISTINCT FROM OLD.execute_after
            OR (OLD.cool_until IS NOT NULL AND NEW.cool_until IS DISTINCT FROM OLD.cool_until)
          THEN RAISE EXCEPTION 'what approvers sign, and how long it waits, cannot change' USING ERRCODE = 'restrict_violation';
          END IF;
          RETURN NEW;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER withdrawal_schedule_is_fixed BEFORE UPDATE ON withdrawals "
        "FOR EACH ROW EXECUTE FUNCTION withdrawal_schedule_is_fixed()"
    )


def lines() -> None:
    op.execute("DROP INDEX ix_withdrawals_window")
    op.execute(
        "CREATE INDEX ix_withdrawals_window ON withdrawals (tenant_id, expires_at) "
        "WHERE state IN ('requested', 'screening', 'awaiting_approval', 'approved', 'cooling_down')"
    )
    op.execute("DROP INDEX ix_withdrawals_turn")
    op.execute(
        "CREATE INDEX ix_withdrawals_turn ON withdrawals (tenant_id, (coalesce(channel_id, vault_id)), approved_at) "
        "WHERE state IN ('approved', 'cooling_down', 'signing')"
    )
    op.execute("DROP INDEX ix_withdrawals_channel")
    op.execute(
        "CREATE INDEX ix_withdrawals_channel ON withdrawals (tenant_id, channel_id) WHERE channel_id IS NOT NULL "
        "AND state IN ('requested', 'screening', 'awaiting_approval', 'approved', 'cooling_down', 'signing', 'broadcasting')"
    )


def cool_down_rules() -> None:
    op.execute(
        """
        CREATE TABLE cool_down_rules (
          tenant_id int NOT NULL,
          sequence bigint GENERATED ALWAYS AS IDENTITY,
          asset text NOT NULL,
          amount_min numeric(78, 0) NOT NULL,
          seconds int NOT NULL,
          actor text NOT NULL,
          note text NOT NULL,
          created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
          CONSTRAINT pk_cool_down_rules PRIMARY KEY (tenant_id, sequence),
          CONSTRAINT ck_cool_down_rules_seconds_sane CHECK (seconds BETWEEN 0 AND 31536000),
          CONSTRAINT ck_cool_down_rules_threshold_of_an_asset CHECK (
            amount_min >= 0 AND (asset <> '*' OR amount_min = 0))
        )
        """
    )
    op.execute(
        "CREATE INDEX ix_cool_down_rules_asset ON cool_down_rules (tenant_id, asset, amount_min, sequence)"
    )
    tenant_isolation("cool_down_rules")
    append_only("cool_down_rules")
    grant("SELECT, INSERT", "cool_down_rules")


def screening() -> None:
    op.execute(
        """
        CREATE TABLE refused_addresses (
          tenant_id int NOT NULL,
          sequence bigint GENERATED ALWAYS AS IDENTITY,
          namespace text NOT NULL,
          account text NOT NULL,
          word text NOT NULL CONSTRAINT ck_refused_addresses_word_known CHECK (word IN ('refused', 'withdrawn')),
          source text NOT NULL,
          note text NOT NULL,
          actor text NOT NULL,
          created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
          CONSTRAINT pk_refused_addresses PRIMARY KEY (tenant_id, sequence)
        )
        """
    )
    op.execute(
        "CREATE INDEX ix_refused_addresses_account ON refused_addresses (tenant_id, namespace, account, sequence)"
    )
    op.execute(
        """
        CREATE TABLE screenings (
          tenant_id int NOT NULL,
          sequence bigint GENERATED ALWAYS AS IDENTITY,
          withdrawal_id uuid NOT NULL,
          screener text NOT NULL,
          reference uuid NOT NULL,
          chain text NOT NULL,
          account text NOT NULL,
          finding text NOT NULL CONSTRAINT ck_screenings_finding_known CHECK (finding IN ('clear', 'hit', 'unknown')),
          detail text NOT NULL,
          list_version bigint,
          created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
          CONSTRAINT pk_screenings PRIMARY KEY (tenant_id, sequence),
          CONSTRAINT ck_screenings_list_has_a_version CHECK ((screener = 'list') = (list_version IS NOT NULL))
        )
        """
    )
    op.execute("CREATE INDEX ix_screenings_withdrawal ON screenings (tenant_id, withdrawal_id, sequence)")
    for table in ("refused_addresses", "screenings"):
        tenant_isolation(table)
        append_only(table)
        grant("SELECT, INSERT", table)


def address_book() -> None:
    """An entry is a proposal and what was said about it afterwards: each word once, and none of it is ever changed."""
    op.execute(
        """
        CREATE TABLE address_book_entries (
          tenant_id int NOT NULL,
          id uuid NOT NULL,
          sequence bigint GENERATED ALWAYS AS IDENTITY,
          chain text NOT NULL,
          address text NOT NULL,
          memo_type text NOT NULL CONSTRAINT ck_address_book_entries_memo_type_known
            CHECK (memo_type IN ('none', 'id', 'text', 'hash')),
          memo text NOT NULL,
          label text NOT NULL,
          proposed_by text NOT NULL,
          created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
          CONSTRAINT pk_address_book_entries PRIMARY KEY (tenant_id, id),
          CONSTRAINT uq_address_book_entries_proposer UNIQUE (tenant_id, id, proposed_by)
        )
        """
    )
    op.execute(
        "CREATE INDEX ix_address_book_entries_address ON address_book_entries (tenant_id, chain, address)"
    )
    op.execute("CREATE INDEX ix_address_book_entries_sequence ON address_book_entries (tenant_id, sequence)")
    op.execute(
        """
        CREATE TABLE address_book_words (
          tenant_id int NOT NULL,
          entry_id uuid NOT NULL,
          event text NOT NULL CONSTRAINT ck_address_book_words_event_known CHECK (event IN ('confirm', 'remove')),
          proposed_by text NOT NULL,
          actor text NOT NULL,
          counts_from timestamptz,
          created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
          CONSTRAINT pk_address_book_words PRIMARY KEY (tenant_id, entry_id, event),
          CONSTRAINT fk_address_book_words_entry FOREIGN KEY (tenant_id, entry_id, proposed_by)
            REFERENCES address_book_entries (tenant_id, id, proposed_by),
          CONSTRAINT ck_address_book_words_four_eyes CHECK (event <> 'confirm' OR actor <> proposed_by),
          CONSTRAINT ck_address_book_words_counts_once_confirmed CHECK ((event = 'confirm') = (counts_from IS NOT NULL))
        )
        """
    )
    op.execute(
        """
        CREATE TABLE address_book_restrictions (
          tenant_id int NOT NULL,
          sequence bigint GENERATED ALWAYS AS IDENTITY,
          scope text NOT NULL CONSTRAINT ck_address_book_restrictions_scope_known CHECK (scope IN ('vault', 'wallet')),
          object_id uuid NOT NULL,
          enabled boolean NOT NULL,
          counts_from timestamptz NOT NULL,
          actor text NOT NULL,
          created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
          CONSTRAINT pk_address_book_restrictions PRIMARY KEY (tenant_id, sequence)
        )
        """
    )
    op.execute(
        "CREATE INDEX ix_address_book_restrictions_object "
        "ON address_book_restrictions (tenant_id, scope, object_id, sequence)"
    )
    for table in ("address_book_entries", "address_book_words", "address_book_restrictions"):
        tenant_isolation(table)
        append_only(table)
        grant("SELECT, INSERT", table)


def downgrade() -> None:
    raise RuntimeError("migrations go forward only")
