"""Deposits, vault requests, chain heights; and where ingestion stands on each chain."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from custody.db.ddl import grant, tenant_isolation

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    deposits()
    vault_requests()
    heights()
    ingestion()


def moment(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False)


def created_at() -> sa.Column[object]:
    return sa.Column(
        "created_at", sa.DateTime(timezone=True), server_default=sa.func.clock_timestamp(), nullable=False
    )


def deposits() -> None:
    op.create_table(
        "deposits",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("sequence", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("chain", sa.Text, nullable=False),
        sa.Column("tx_hash", sa.Text, nullable=False),
        sa.Column("ordinal", sa.BigInteger, nullable=False),
        sa.Column("asset", sa.Text, nullable=False),
        sa.Column("vault_id", sa.Uuid, nullable=False),
        sa.Column("wallet_id", sa.Uuid, nullable=True),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("tag", sa.Numeric(78, 0), nullable=True),
        sa.Column("memo", sa.Text, nullable=False),
        sa.Column("amount", sa.Numeric(78, 0), nullable=False),
        sa.Column("height", sa.BigInteger, nullable=False),
        sa.Column("block_hash", sa.Text, nullable=False),
        sa.Column("inclusion", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        moment("occurred_at"),
        created_at(),
        moment("changed_at"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_deposits"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "vault_id"],
            ["vaults.tenant_id", "vaults.id"],
            name="fk_deposits_tenant_id_vault_id",
        ),
        sa.CheckConstraint(
            "state IN ('observed', 'credited', 'suspended', 'orphaned', 'reversed')", name="state_known"
        ),
        sa.CheckConstraint("amount > 0", name="amount_positive"),
        sa.CheckConstraint("inclusion > 0", name="inclusion_positive"),
        sa.CheckConstraint("height >= 0 AND ordinal >= 0", name="place_not_negative"),
        sa.CheckConstraint("state <> 'credited' OR wallet_id IS NOT NULL", name="credited_has_wallet"),
        sa.CheckConstraint("state <> 'suspended' OR wallet_id IS NULL", name="suspended_has_no_wallet"),
    )
    op.create_index(
        "uq_deposits_place",
        "deposits",
        ["tenant_id", "chain", "tx_hash", "ordinal"],
        unique=True,
        postgresql_where=sa.text("state NOT IN ('orphaned', 'reversed')"),
    )
    op.create_index(
        "ix_deposits_unsettled",
        "deposits",
        ["tenant_id", "chain", "height"],
        postgresql_where=sa.text("state = 'observed'"),
    )
    op.create_index("ix_deposits_height", "deposits", ["tenant_id", "chain", "height"])
    op.create_index("ix_deposits_sequence", "deposits", ["tenant_id", "sequence"])
    op.create_index("ix_deposits_wallet_id", "deposits", ["tenant_id", "wallet_id", "sequence"])
    tenant_isolation("deposits")
    # What arrived never changes; only where it lies in the chain and what became of it.
    grant(
        "SELECT, INSERT, UPDATE (wallet_id, height, block_hash, inclusion, state, occurred_at, changed_at)",
        "deposits",
    )


def vault_requests() -> None:
    op.create_table(
        "vault_requests",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("chain", sa.Text, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("wallet_id", sa.Uuid, nullable=True),
        sa.Column("vault_id", sa.Uuid, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        created_at(),
        moment("changed_at"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_vault_requests"),
        sa.UniqueConstraint("tenant_id", "vault_id", name="uq_vault_requests_tenant_id_vault_id"),
        sa.CheckConstraint("purpose IN ('omnibus', 'deposit')", name="purpose_known"),
        sa.CheckConstraint("state IN ('requested', 'created')", name="state_known"),
    )
    tenant_isolation("vault_requests")
    grant("SELECT, INSERT, UPDATE (state, changed_at)", "vault_requests")


def heights() -> None:
    op.create_table(
        "chain_heights",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("chain", sa.Text, nullable=False),
        sa.Column("height_final", sa.BigInteger, nullable=False),
        sa.Column("height_ingested", sa.BigInteger, nullable=False),
        moment("ingested_at"),
        moment("updated_at"),
        sa.PrimaryKeyConstraint("tenant_id", "chain", name="pk_chain_heights"),
        sa.CheckConstraint("height_final <= height_ingested", name="final_is_ingested"),
    )
    tenant_isolation("chain_heights")
    grant("SELECT, INSERT, UPDATE", "chain_heights")


def ingestion() -> None:
    op.create_table(
        "ingestion_cursors",
        sa.Column("chain", sa.Text, nullable=False),
        sa.Column("height", sa.BigInteger, nullable=True),
        sa.Column("hash", sa.Text, nullable=True),
        sa.Column("fence", sa.BigInteger, nullable=False),
        moment("updated_at"),
        sa.PrimaryKeyConstraint("chain", name="pk_ingestion_cursors"),
        sa.CheckConstraint("(height IS NULL) = (hash IS NULL)", name="height_with_hash"),
        sa.CheckConstraint("fence > 0", name="fence_positive"),
    )
    grant("SELECT, INSERT, UPDATE", "ingestion_cursors")
    op.create_table(
        "ingestion_blocks",
        sa.Column("chain", sa.Text, nullable=False),
        sa.Column("height", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("parent_hash", sa.Text, nullable=False),
        moment("closed_at"),
        sa.Column("canonical", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("chain", "height", "hash", name="pk_ingestion_blocks"),
    )
    op.create_index(
        "uq_ingestion_blocks_canonical",
        "ingestion_blocks",
        ["chain", "height"],
        unique=True,
        postgresql_where=sa.text("canonical"),
    )
    grant("SELECT, INSERT, UPDATE (canonical)", "ingestion_blocks")


def downgrade() -> None:
    raise RuntimeError("migrations go forward only")
