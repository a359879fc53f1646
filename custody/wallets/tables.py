"""Customers, wallets, vaults and deposit addresses."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Numeric, Table, UniqueConstraint

from custody.chains.stellar.memo import MEMO_TYPES
from custody.db.base import metadata
from custody.db.columns import choice_column, created_at, tenant_column, text_column, uuid_column, uuid_key
from custody.wallets.model import CUSTOMER_KINDS, VAULT_PURPOSES

customers = Table(
    "customers",
    metadata,
    tenant_column(),
    uuid_key(),
    text_column("name"),
    text_column("external_ref"),
    choice_column("kind", CUSTOMER_KINDS),
    created_at(),
    UniqueConstraint("tenant_id", "external_ref"),
)

wallets = Table(
    "wallets",
    metadata,
    tenant_column(),
    uuid_key(),
    uuid_column("customer_id"),
    text_column("name"),
    created_at(),
    Index("ix_wallets_customer_id", "tenant_id", "customer_id"),
)

vaults = Table(
    "vaults",
    metadata,
    tenant_column(),
    uuid_key(),
    text_column("chain"),
    choice_column("purpose", VAULT_PURPOSES),
    uuid_column("wallet_id", nullable=True),
    text_column("key_id"),
    text_column("account"),
    Column("tags_issued", BigInteger, nullable=False, server_default="0"),
    created_at(),
    # One account has one owner in the whole installation: this is what a block's movements are looked up by.
    Index("uq_vaults_chain_account", "chain", "account", unique=True),
    CheckConstraint("(purpose = 'deposit') = (wallet_id IS NOT NULL)", name="deposit_has_wallet"),
    CheckConstraint("key_id ~ '^[0-9a-f]{32}$'", name="key_id_form"),
)

deposit_addresses = Table(
    "deposit_addresses",
    metadata,
    tenant_column(),
    uuid_key(),
    uuid_column("wallet_id"),
    uuid_column("vault_id"),
    text_column("chain"),
    text_column("address"),
    text_column("account"),
    Column("tag", Numeric(20, 0), nullable=True),
    choice_column("memo_type", MEMO_TYPES, nullable=True),
    text_column("memo", nullable=True),
    created_at(),
    CheckConstraint("(memo IS NULL) = (memo_type IS NULL)", name="memo_with_type"),
    CheckConstraint("num_nonnulls(tag, memo) <= 1", name="one_name"),
    Index(
        "uq_deposit_addresses_vault_name",
        "tenant_id",
        "vault_id",
        "tag",
        "memo",
        unique=True,
        postgresql_nulls_not_distinct=True,
    ),
    Index("ix_deposit_addresses_wallet_id", "tenant_id", "wallet_id"),
)
