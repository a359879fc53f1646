"""Customers, wallets, vaults, deposit addresses and the keys that wait to become one."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from custody.chains.stellar.memo import MEMO_TYPES
from custody.db.base import metadata
from custody.db.columns import (
    choice_column,
    created_at,
    state_column,
    tenant_column,
    text_column,
    utc_column,
    uuid_column,
    uuid_key,
)
from custody.wallets.model import CUSTOMER_KINDS, VAULT_PURPOSES
from custody.wallets.transitions import DEPOSIT_KEYS, KEY_BATCHES

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
    # The few that are no deposit address, found among many that are.
    Index("ix_vaults_standing", "tenant_id", "chain", postgresql_where=text("purpose <> 'deposit'")),
    CheckConstraint("purpose = 'deposit' OR wallet_id IS NULL", name="omnibus_has_no_wallet"),
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

deposit_key_batches = Table(
    "deposit_key_batches",
    metadata,
    tenant_column(),
    uuid_key(),
    Column("size", Integer, nullable=False),
    state_column("state", KEY_BATCHES),
    # Code of the signer's last refusal.
    text_column("refusal", server_default=""),
    created_at(),
    utc_column("changed_at", server_default=text("clock_timestamp()")),
    CheckConstraint("size > 0", name="size_positive"),
    # What was asked for is finished before more is asked for.
    Index("uq_deposit_key_batches_asked", "tenant_id", unique=True, postgresql_where=text("state = 'asked'")),
)

deposit_keys = Table(
    "deposit_keys",
    metadata,
    tenant_column(),
    Column("key_id", Text, primary_key=True),
    # The order in which they are given out.
    Column("sequence", BigInteger, Identity(always=True), nullable=False),
    text_column("account"),
    Column("public_key", LargeBinary, nullable=True),
    Column("attestation", LargeBinary, nullable=True),
    uuid_column("batch_id", nullable=True),
    state_column("state", DEPOSIT_KEYS),
    uuid_column("wallet_id", nullable=True),
    created_at(),
    utc_column("changed_at", server_default=text("clock_timestamp()")),
    ForeignKeyConstraint(
        ["tenant_id", "batch_id"], ["deposit_key_batches.tenant_id", "deposit_key_batches.id"]
    ),
    CheckConstraint("(state = 'taken') = (wallet_id IS NOT NULL)", name="taken_by_a_wallet"),
    CheckConstraint("key_id ~ '^[0-9a-f]{32}$'", name="key_id_form"),
    CheckConstraint("account ~ '^0x[0-9a-fA-F]{40}$'", name="account_form"),
    CheckConstraint("octet_length(public_key) = 65 AND octet_length(attestation) = 64", name="sizes"),
    CheckConstraint(
        "batch_id IS NULL OR (public_key IS NOT NULL AND attestation IS NOT NULL)",
        name="batch_is_vouched_for",
    ),
    CheckConstraint("batch_id IS NOT NULL OR state = 'taken'", name="free_comes_from_a_batch"),
    # One account has one owner in the whole installation, as with vaults.
    Index("uq_deposit_keys_account", "account", unique=True),
    Index(
        "uq_deposit_keys_wallet",
        "tenant_id",
        "wallet_id",
        unique=True,
        postgresql_where=text("wallet_id IS NOT NULL"),
    ),
    Index("ix_deposit_keys_free", "tenant_id", "sequence", postgresql_where=text("state = 'free'")),
)
