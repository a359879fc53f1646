"""What withdrawals cost customers: tariffs, quotes, and the fee that a withdrawal holds."""

from __future__ import annotations

from alembic import op

from custody.db.ddl import append_only, grant, tenant_isolation

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

KINDS = "('free', 'flat', 'bps', 'network')"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    tariffs()
    quotes()
    fees()


def tariffs() -> None:
    op.execute(
        f"""
        CREATE TABLE tariffs (
          tenant_id int NOT NULL,
          asset text NOT NULL,
          version int NOT NULL,
          kind text NOT NULL CONSTRAINT ck_tariffs_kind_known CHECK (kind IN {KINDS}),
          flat numeric(78, 0) NOT NULL,
          bps int NOT NULL,
          minimum numeric(78, 0) NOT NULL,
          maximum numeric(78, 0),
          quote_valid_s int NOT NULL,
          set_by text NOT NULL,
          note text NOT NULL,
          created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
          CONSTRAINT pk_tariffs PRIMARY KEY (tenant_id, asset, version),
          CONSTRAINT ck_tariffs_not_negative
            CHECK (version > 0 AND flat >= 0 AND bps >= 0 AND minimum >= 0 AND quote_valid_s > 0),
          CONSTRAINT ck_tariffs_bps_shape
            CHECK (kind <> 'bps' OR (bps <= 10000 AND (maximum IS NULL OR maximum >= minimum))),
          CONSTRAINT ck_tariffs_network_has_ceiling CHECK (kind <> 'network' OR maximum IS NOT NULL)
        )
        """
    )
    tenant_isolation("tariffs")
    append_only("tariffs")
    grant("SELECT, INSERT", "tariffs")


def quotes() -> None:
    op.execute(
        f"""
        CREATE TABLE withdrawal_quotes (
          tenant_id int NOT NULL,
          id uuid NOT NULL,
          wallet_id uuid NOT NULL,
          asset text NOT NULL,
          amount numeric(78, 0) NOT NULL,
          fee_kind text NOT NULL CONSTRAINT ck_withdrawal_quotes_fee_kind_known CHECK (fee_kind IN {KINDS}),
          tariff_version int,
          fee_held numeric(78, 0) NOT NULL,
          markup_bps int NOT NULL,
          asked_by text NOT NULL,
          expires_at timestamptz NOT NULL,
          created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
          CONSTRAINT pk_withdrawal_quotes PRIMARY KEY (tenant_id, id),
          CONSTRAINT ck_withdrawal_quotes_not_negative CHECK (amount > 0 AND fee_held >= 0 AND markup_bps >= 0)
        )
        """
    )
    tenant_isolation("withdrawal_quotes")
    append_only("withdrawal_quotes")
    grant("SELECT, INSERT", "withdrawal_quotes")


def fees() -> None:
    op.execute(
        "ALTER TABLE withdrawals ADD COLUMN fee_kind text, ADD COLUMN fee_tariff int, ADD COLUMN fee_quote_id uuid, "
        "ADD COLUMN fee_held numeric(78, 0) NOT NULL DEFAULT 0, ADD COLUMN fee_markup_bps int NOT NULL DEFAULT 0, "
        "ADD COLUMN fee_charged numeric(78, 0)"
    )
    for name, check in (
        ("fee_kind_known", f"fee_kind IN {KINDS}"),
        ("fee_of_payment", "fee_held = 0 OR (fee_kind IS NOT NULL AND kind = 'payment')"),
        ("fee_within_hold", "fee_charged BETWEEN 0 AND fee_held"),
        ("unpaid_costs_nothing", "fee_charged IS NULL OR fee_charged = 0 OR state = 'settled'"),
        ("settled_is_charged", "state <> 'settled' OR fee_kind IS NULL OR fee_charged IS NOT NULL"),
    ):
        op.execute(f"ALTER TABLE withdrawals ADD CONSTRAINT ck_withdrawals_{name} CHECK ({check}) NOT VALID")
        op.execute(f"ALTER TABLE withdrawals VALIDATE CONSTRAINT ck_withdrawals_{name}")
    op.execute(
        "ALTER TABLE withdrawals ADD CONSTRAINT fk_withdrawals_tenant_id_fee_quote_id FOREIGN KEY (tenant_id, fee_quote_id) "
        "REFERENCES withdrawal_quotes (tenant_id, id)"
    )
    op.execute(
        "CREATE UNIQUE INDEX uq_withdrawals_fee_quote ON withdrawals (tenant_id, fee_quote_id) WHERE fee_quote_id IS NOT NULL"
    )
    grant("UPDATE (fee_charged)", "withdrawals")
    op.execute(
        """
        CREATE FUNCTION withdrawal_fee_is_fixed() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          IF (NEW.fee_kind, NEW.fee_tariff, NEW.fee_quote_id, NEW.fee_held, NEW.fee_markup_bps) IS DISTINCT FROM
             (OLD.fee_kind, OLD.fee_tariff, OLD.fee_quote_id, OLD.fee_held, OLD.fee_markup_bps)
             OR (OLD.fee_charged IS NOT NULL AND NEW.fee_charged IS DISTINCT FROM OLD.fee_charged)
          THEN RAISE EXCEPTION 'what a withdrawal was agreed to cost cannot change' USING ERRCODE = 'restrict_violation';
          END IF;
          RETURN NEW;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER withdrawal_fee_is_fixed BEFORE UPDATE ON withdrawals "
        "FOR EACH ROW EXECUTE FUNCTION withdrawal_fee_is_fixed()"
    )


def downgrade() -> None:
    raise RuntimeError("migrations go forward only")
