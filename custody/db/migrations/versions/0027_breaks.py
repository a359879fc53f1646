"""Breaks name the movement that differs first, say how large they are now, and stop payments above a threshold."""

from __future__ import annotations

from alembic import op

from custody.db.ddl import append_only, grant, tenant_isolation

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    movements()
    differences()
    comparisons()
    rules()
    op.execute("CREATE INDEX ix_vaults_standing ON vaults (tenant_id, chain) WHERE purpose <> 'deposit'")


def movements() -> None:
    """The first movement of a block, or of a break, that is booked otherwise than it happened, with both amounts."""
    for table, name in (("holding_states", "differing"), ("holding_breaks", "first")):
        op.execute(
            f"ALTER TABLE {table} ADD COLUMN {name}_movement text, ADD COLUMN {name}_chain numeric(78, 0), "
            f"ADD COLUMN {name}_books numeric(78, 0)"
        )


def differences() -> None:
    op.execute("ALTER TABLE holding_breaks ADD COLUMN difference numeric(78, 0)")
    # The owner obeys row-level security too; for one statement over all tenants it must not. What an open break was when it was
    # found is what it is taken for until it is compared again, at the next final height.
    op.execute("ALTER TABLE holding_breaks NO FORCE ROW LEVEL SECURITY")
    op.execute(
        "UPDATE holding_breaks SET difference = CASE state WHEN 'open' THEN books + opening - chain_amount ELSE 0 END"
    )
    op.execute("ALTER TABLE holding_breaks FORCE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE holding_breaks ALTER COLUMN difference SET NOT NULL")
    op.execute(
        "ALTER TABLE holding_breaks ADD CONSTRAINT ck_holding_breaks_closed_is_equal "
        "CHECK ((state = 'closed') = (difference = 0))"
    )
    grant("UPDATE (difference)", "holding_breaks")


def comparisons() -> None:
    """A height may be compared again, when something of it is read or booked later."""
    op.execute("ALTER TABLE holding_comparisons ADD COLUMN revision integer NOT NULL DEFAULT 0")
    op.execute(
        "ALTER TABLE holding_comparisons DROP CONSTRAINT pk_holding_comparisons, ADD CONSTRAINT pk_holding_comparisons "
        "PRIMARY KEY (tenant_id, vault_id, asset, height, branch, revision)"
    )


def rules() -> None:
    op.execute(
        """
        CREATE TABLE holding_stop_rules (
          tenant_id int NOT NULL,
          asset text NOT NULL,
          version int NOT NULL,
          threshold numeric(78, 0) NOT NULL,
          set_by text NOT NULL,
          note text NOT NULL,
          created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
          CONSTRAINT pk_holding_stop_rules PRIMARY KEY (tenant_id, asset, version),
          CONSTRAINT ck_holding_stop_rules_not_negative CHECK (version > 0 AND threshold >= 0)
        )
        """
    )
    tenant_isolation("holding_stop_rules")
    append_only("holding_stop_rules")
    grant("SELECT, INSERT", "holding_stop_rules")


def downgrade() -> None:
    raise RuntimeError("migrations go forward only")
