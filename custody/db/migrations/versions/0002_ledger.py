"""The ledger: accounts, transfers, holds, the record of every command, and the functions that alone write them.

The application may read these tables and call `ledger_post`. It has no INSERT, UPDATE or DELETE here, so money cannot be
moved but by the rules of that function. The long SQL lives beside this file, in `migrations/sql`.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import UserDefinedType

from custody.db.ddl import APP_ROLE, append_only, function_for_app, grant, tenant_isolation

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SQL = Path(__file__).parent.parent / "sql"

COMMANDS = "integer[], text[], uuid[], uuid[], uuid[], text[], text[], uuid[], uuid[], timestamptz[], text[], boolean[], text[], text[]"
APPLY = f"ledger_apply(integer, boolean, boolean, {COMMANDS})"
OPEN = "ledger_open(integer, text[], uuid[], text[], uuid[], text[], numeric[], numeric[])"
POST = f"ledger_post(integer, boolean, {COMMANDS})"
MONTHS_AHEAD = 3
"""Partitions made by the migration, beyond this month's; a job of the worker makes those that follow."""

TABLES = ("ledger_accounts", "ledger_transfers", "ledger_holds", "ledger_commands", "ledger_batches")


class TransactionNumber(UserDefinedType[str]):
    """Postgres's 64-bit transaction number: never reused, unlike xid."""

    cache_ok = True

    def get_col_spec(self) -> str:
        return "xid8"


def upgrade() -> None:
    chart()
    accounts()
    account_opening()
    transfers()
    holds()
    commands()
    batches()
    tenant_isolation(*TABLES)
    append_only("ledger_chart", "ledger_transfers", "ledger_commands", "ledger_batches")
    no_removal("ledger_accounts", "ledger_holds")
    grant("SELECT", "ledger_chart", *TABLES)
    functions()
    partitions()


def money(name: str, **options: object) -> sa.Column[object]:
    return sa.Column(name, sa.Numeric(78, 0), nullable=False, **options)


def moment(name: str, *, nullable: bool = False, **options: object) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, **options)


def chart() -> None:
    """Reference data, the same for every tenant; `custody/ledger/chart.py` has the same lines."""
    made = op.create_table(
        "ledger_chart",
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("code", sa.SmallInteger, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("normal_side", sa.Text, nullable=False),
        sa.Column("guard", sa.Text, nullable=False),
        sa.Column("owned", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("kind", name="pk_ledger_chart"),
        sa.UniqueConstraint("code", name="uq_ledger_chart_code"),
        sa.UniqueConstraint("path", name="uq_ledger_chart_path"),
        sa.CheckConstraint("normal_side IN ('debit', 'credit')", name="normal_side_known"),
        sa.CheckConstraint("guard IN ('always', 'holds', 'never')", name="guard_known"),
        sa.CheckConstraint("path ~ '^[a-z_]+(:[a-z_]+)+$'", name="path_form"),
        # The class decides code and side; a path of no class has neither.
        sa.CheckConstraint(
            "CASE split_part(path, ':', 1) WHEN 'assets' THEN code / 1000 = 1 AND normal_side = 'debit' "
            "WHEN 'liabilities' THEN code / 1000 = 2 AND normal_side = 'credit' "
            "WHEN 'equity' THEN code / 1000 = 3 AND normal_side = 'credit' "
            "WHEN 'income' THEN code / 1000 = 4 AND normal_side = 'credit' "
            "WHEN 'expenses' THEN code / 1000 = 5 AND normal_side = 'debit' ELSE false END",
            name="code_and_side_by_class",
        ),
    )
    lines = (
        ("vault", 1100, "assets:vaults", "debit", "holds", True),
        ("bank", 1200, "assets:banks", "debit", "holds", True),
        ("in_transit", 1300, "assets:in_transit", "debit", "holds", False),
        ("wallet", 2100, "liabilities:wallets", "credit", "always", True),
        ("suspense", 2200, "liabilities:suspense", "credit", "always", False),
        ("issuance", 2300, "liabilities:issuance", "credit", "always", False),
        ("equity", 3100, "equity:capital", "credit", "never", False),
        ("clearing", 3200, "equity:clearing", "credit", "never", False),
        ("fee_income", 4100, "income:fees", "credit", "never", False),
        ("network_fees", 5100, "expenses:network_fees", "debit", "never", False),
    )
    names = ("kind", "code", "path", "normal_side", "guard", "owned")
    op.bulk_insert(made, [dict(zip(names, line, strict=True)) for line in lines])


def accounts() -> None:
    op.create_table(
        "ledger_accounts",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("owner", sa.Uuid, nullable=True),
        sa.Column("asset_id", sa.Integer, nullable=False),
        sa.Column("normal_side", sa.Text, nullable=False),
        sa.Column("guard", sa.Text, nullable=False),
        money("floor", server_default=sa.text("0")),
        sa.Column("ceiling", sa.Numeric(78, 0), nullable=True),
        sa.Column("state", sa.Text, nullable=False, server_default=sa.text("'open'")),
        sa.Column("version", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("head", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        money("debits_posted", server_default=sa.text("0")),
        money("credits_posted", server_default=sa.text("0")),
        money("debits_pending", server_default=sa.text("0")),
        money("credits_pending", server_default=sa.text("0")),
        moment("booked_at", server_default=sa.func.clock_timestamp()),
        moment("created_at", server_default=sa.func.clock_timestamp()),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_ledger_accounts"),
        sa.ForeignKeyConstraint(["asset_id"], ["assets.number"], name="fk_ledger_accounts_asset_id"),
        sa.CheckConstraint("state IN ('open', 'frozen', 'closed')", name="state_known"),
        sa.CheckConstraint(
            "ceiling IS NULL OR ceiling >= CASE normal_side "
            "WHEN 'credit' THEN credits_posted - debits_posted + credits_pending "
            "ELSE debits_posted - credits_posted + debits_pending END",
            name="balance_below_ceiling",
        ),
        sa.CheckConstraint(
            "version >= 0 AND least(debits_posted, credits_posted, debits_pending, credits_pending) >= 0",
            name="counters_not_negative",
        ),
        sa.CheckConstraint(
            "guard <> 'always' OR floor <= CASE normal_side "
            "WHEN 'credit' THEN credits_posted - debits_posted - debits_pending "
            "ELSE debits_posted - credits_posted - credits_pending END",
            name="available_above_floor",
        ),
        sa.CheckConstraint(
            "state <> 'closed' OR (debits_posted = credits_posted AND debits_pending + credits_pending = 0)",
            name="closed_is_empty",
        ),
        # Balances change with every posting: room on the page keeps those updates off the indexes.
        postgresql_with={"fillfactor": "50"},
    )
    op.create_index(
        "uq_ledger_accounts_key",
        "ledger_accounts",
        ["tenant_id", "kind", "owner", "asset_id"],
        unique=True,
        postgresql_nulls_not_distinct=True,
    )


FIXED = "tenant_id, id, kind, owner, asset_id, normal_side, guard, floor, ceiling, created_at"
"""What an account is opened with and keeps."""


def account_opening() -> None:
    """What must hold of columns that never change is checked once, when the row is made: a CHECK would cost every posting."""
    op.execute(
        """
        CREATE FUNCTION check_account_opening() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
        BEGIN
          IF NEW.floor > 0 OR NEW.ceiling < 0 OR NOT EXISTS (
               SELECT FROM ledger_chart c
                WHERE c.kind = NEW.kind AND c.normal_side = NEW.normal_side AND c.guard = NEW.guard
                  AND c.owned = (NEW.owner IS NOT NULL)) THEN
            RAISE EXCEPTION 'an account is opened as the chart says, with limits around zero'
              USING ERRCODE = 'check_violation', CONSTRAINT = 'account_as_charted', TABLE = 'ledger_accounts';
          END IF;
          RETURN NEW;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER account_as_charted BEFORE INSERT ON ledger_accounts "
        "FOR EACH ROW EXECUTE FUNCTION check_account_opening()"
    )
    # For each statement: a trigger for each row would lock and log every account before it is changed, whatever its columns.
    op.execute(
        f"CREATE TRIGGER fixed_columns BEFORE UPDATE OF {FIXED} ON ledger_accounts "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )


def transfers() -> None:
    op.create_table(
        "ledger_transfers",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("chain_id", sa.Uuid, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("reference", sa.Uuid, nullable=False),
        sa.Column("debit_account", sa.Uuid, nullable=False),
        sa.Column("credit_account", sa.Uuid, nullable=False),
        money("posted"),
        money("pending"),
        sa.Column("target_id", sa.Uuid, nullable=True),
        sa.Column("debit_version", sa.BigInteger, nullable=False),
        money("debit_balance"),
        money("debit_held"),
        sa.Column("credit_version", sa.BigInteger, nullable=False),
        money("credit_balance"),
        money("credit_held"),
        moment("booked_at"),
        moment("effective_at"),
        sa.Column("batch_id", sa.BigInteger, nullable=False),
        sa.Column("leaf", sa.Integer, nullable=False),
        sa.Column("debit_prior", sa.BigInteger, nullable=False),
        sa.Column("credit_prior", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "batch_id", "leaf", "booked_at", name="pk_ledger_transfers"),
        sa.CheckConstraint("debit_account <> credit_account", name="accounts_differ"),
        sa.CheckConstraint("debit_version > 0 AND credit_version > 0", name="versions_positive"),
        sa.CheckConstraint(
            "(debit_prior = 0) = (debit_version = 1) AND (credit_prior = 0) = (credit_version = 1)",
            name="first_entries_have_no_prior",
        ),
        sa.CheckConstraint("(target_id IS NULL) = (kind IN ('transfer', 'hold'))", name="target_by_kind"),
        # The one place that says what each kind moves. An unknown kind fails it as well.
        sa.CheckConstraint(
            "CASE kind WHEN 'transfer' THEN posted > 0 AND pending = 0 "
            "WHEN 'hold' THEN posted = 0 AND pending > 0 "
            "WHEN 'post_hold' THEN posted > 0 AND pending <= -posted "
            "WHEN 'void_hold' THEN posted = 0 AND pending < 0 "
            "WHEN 'expire_hold' THEN posted = 0 AND pending < 0 "
            "WHEN 'reverse' THEN posted > 0 AND pending = 0 ELSE false END",
            name="movement_by_kind",
        ),
        postgresql_partition_by="RANGE (booked_at)",
    )
    for side in ("debit", "credit"):
        op.create_index(
            f"ix_ledger_transfers_{side}_dated",
            "ledger_transfers",
            ["tenant_id", f"{side}_account", "effective_at"],
            postgresql_where=sa.text("effective_at <> booked_at"),
        )


def holds() -> None:
    op.create_table(
        "ledger_holds",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("debit_account", sa.Uuid, nullable=False),
        sa.Column("credit_account", sa.Uuid, nullable=False),
        money("amount"),
        money("posted"),
        money("remaining"),
        sa.Column("state", sa.Text, nullable=False),
        moment("expires_at", nullable=True),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("reference", sa.Uuid, nullable=False),
        moment("booked_at"),
        moment("changed_at"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_ledger_holds"),
        sa.CheckConstraint("state IN ('open', 'posted', 'voided', 'expired')", name="state_known"),
        sa.CheckConstraint("(state = 'open') = (remaining > 0)", name="open_holds_remain"),
        sa.CheckConstraint(
            "amount > 0 AND posted >= 0 AND remaining >= 0 AND posted + remaining <= amount", name="parts_fit"
        ),
    )
    op.create_index(
        "ix_ledger_holds_due",
        "ledger_holds",
        ["tenant_id", "expires_at"],
        postgresql_where=sa.text("state = 'open'"),
    )


def commands() -> None:
    op.create_table(
        "ledger_commands",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("request_hash", sa.LargeBinary, nullable=False),
        sa.Column("result", sa.Text, nullable=False),
        sa.Column("account_id", sa.Uuid, nullable=True),
        sa.Column("target_id", sa.Uuid, nullable=True),
        sa.Column("batch_id", sa.BigInteger, nullable=True),
        sa.Column("leaf", sa.Integer, nullable=True),
        moment("booked_at"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_ledger_commands"),
        sa.CheckConstraint("length(request_hash) = 32", name="request_hash_length"),
        sa.CheckConstraint("(batch_id IS NULL) = (leaf IS NULL)", name="place_is_whole"),
        sa.CheckConstraint(
            "(target_id IS NOT NULL) = (kind = 'reverse' AND result = 'applied')", name="target_of_reversals"
        ),
    )
    op.create_index(
        "uq_ledger_commands_reversal",
        "ledger_commands",
        ["tenant_id", "target_id"],
        unique=True,
        postgresql_where=sa.text("target_id IS NOT NULL"),
    )


def batches() -> None:
    op.execute("CREATE SEQUENCE ledger_batch_numbers")
    op.create_table(
        "ledger_batches",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("id", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("xid", TransactionNumber, nullable=False, server_default=sa.text("pg_current_xact_id()")),
        sa.Column("transfers", sa.Integer, nullable=False),
        sa.Column("root", sa.LargeBinary, nullable=False),
        moment("booked_at"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_ledger_batches"),
        sa.CheckConstraint("transfers > 0", name="not_empty"),
        sa.CheckConstraint("length(root) = 32", name="root_length"),
    )


def no_removal(*tables: str) -> None:
    """Balances and holds change, through the posting function; their rows are never removed, by anybody."""
    for table in tables:
        op.execute(
            f"CREATE TRIGGER no_removal_rows BEFORE DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            f"CREATE TRIGGER no_removal_table BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )


def functions() -> None:
    connection = op.get_bind()
    for name in ("0002_ledger_apply.sql", "0002_ledger_interface.sql", "0002_ledger_history.sql"):
        for statement in (SQL / name).read_text(encoding="utf-8").split("\n-- next statement\n"):
            connection.exec_driver_sql(statement)
    for internal in (APPLY, OPEN, "ledger_terms(integer, uuid[])", "ledger_guard_partition(text)"):
        op.execute(f"REVOKE ALL ON FUNCTION {internal} FROM PUBLIC")
    function_for_app(POST)
    function_for_app("ledger_prepare_partitions(date)")
    function_for_app("ledger_entry(integer, uuid, bigint)")
    function_for_app("ledger_mark(integer, uuid, bigint)")
    function_for_app("ledger_statement(integer, uuid, bigint, integer)")
    function_for_app("ledger_transfers_before(integer, uuid, bigint, text, text, integer)")
    function_for_app("ledger_place_before(integer, uuid, timestamptz, bigint)")
    function_for_app("ledger_last_entry(integer, uuid, timestamptz)")
    function_for_app("ledger_balance_at(integer, uuid, timestamptz)")
    function_for_app("ledger_balance_at_effective(integer, uuid, timestamptz)")
    op.execute(
        f"GRANT SELECT ON ledger_entries, ledger_balances, ledger_kind_sums, ledger_trial_balance TO {APP_ROLE}"
    )


def partitions() -> None:
    """Months to come, and a partition for what belongs to none of them."""
    op.execute("CREATE TABLE ledger_transfers_default PARTITION OF ledger_transfers DEFAULT")
    op.execute("SELECT ledger_guard_partition('ledger_transfers_default')")
    op.execute(f"SELECT ledger_prepare_partitions((now() + interval '{MONTHS_AHEAD} months')::date)")


def downgrade() -> None:
    raise RuntimeError("migrations go forward only")
