"""Customers, wallets, vaults, deposit addresses."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from custody.db.ddl import function_for_app, grant, tenant_isolation

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def created_at() -> sa.Column[object]:
    return sa.Column(
        "created_at", sa.DateTime(timezone=True), server_default=sa.func.clock_timestamp(), nullable=False
    )


def upgrade() -> None:
    op.create_table(
        "customers",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("external_ref", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        created_at(),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_customers"),
        sa.UniqueConstraint("tenant_id", "external_ref", name="uq_customers_tenant_id_external_ref"),
        sa.CheckConstraint("kind IN ('customer', 'treasury')", name="kind_known"),
    )
    op.create_table(
        "wallets",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("customer_id", sa.Uuid, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        created_at(),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_wallets"),
    )
    op.create_index("ix_wallets_customer_id", "wallets", ["tenant_id", "customer_id"])
    vaults()
    op.create_table(
        "deposit_addresses",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("wallet_id", sa.Uuid, nullable=False),
        sa.Column("vault_id", sa.Uuid, nullable=False),
        sa.Column("chain", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("tag", sa.Numeric(20, 0), nullable=True),
        created_at(),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_deposit_addresses"),
    )
    op.create_index(
        "uq_deposit_addresses_vault_tag",
        "deposit_addresses",
        ["tenant_id", "vault_id", "tag"],
        unique=True,
        postgresql_nulls_not_distinct=True,
    )
    op.create_index("ix_deposit_addresses_wallet_id", "deposit_addresses", ["tenant_id", "wallet_id"])
    tenant_isolation("customers", "wallets", "deposit_addresses")
    grant("SELECT, INSERT", "customers", "wallets", "deposit_addresses")


def vaults() -> None:
    op.create_table(
        "vaults",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("chain", sa.Text, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("wallet_id", sa.Uuid, nullable=True),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("tags_issued", sa.BigInteger, nullable=False, server_default="0"),
        created_at(),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_vaults"),
        sa.CheckConstraint("purpose IN ('omnibus', 'deposit')", name="purpose_known"),
        sa.CheckConstraint("(purpose = 'deposit') = (wallet_id IS NOT NULL)", name="deposit_has_wallet"),
        sa.CheckConstraint("key_id ~ '^[0-9a-f]{32}$'", name="key_id_form"),
    )
    op.create_index("uq_vaults_chain_account", "vaults", ["chain", "account"], unique=True)
    grant("SELECT, INSERT, UPDATE (tags_issued)", "vaults")
    # Row-level security, but not forced: the function below, owned by the same role, must find a vault of any tenant.
    op.execute("ALTER TABLE vaults ENABLE ROW LEVEL SECURITY")
    op.execute(
        "CREATE POLICY tenant_isolation ON vaults "
        "USING (tenant_id = current_tenant()) WITH CHECK (tenant_id = current_tenant())"
    )
    op.execute(
        """
        CREATE FUNCTION find_vaults(wanted_chain text, accounts text[])
        RETURNS TABLE (tenant_id int, id uuid, account text)
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
          SELECT v.tenant_id, v.id, v.account FROM vaults v
          WHERE v.chain = wanted_chain AND v.account = ANY (accounts)
        $$
        """
    )
    function_for_app("find_vaults(text, text[])")


def downgrade() -> None:
    raise RuntimeError("migrations go forward only")
