"""Deposits and their cases, what a tenant takes as a deposit, requests for vaults, and the height up to which each chain is
final."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from custody.db.base import metadata
from custody.db.columns import (
    amount_column,
    choice_column,
    created_at,
    state_column,
    tenant_column,
    text_column,
    utc_column,
    uuid_column,
    uuid_key,
)
from custody.deposits.model import Reason
from custody.deposits.transitions import DEPOSIT_CASES, DEPOSITS, VAULT_REQUESTS
from custody.wallets.model import VAULT_PURPOSES

deposits = Table(
    "deposits",
    metadata,
    tenant_column(),
    uuid_key(),
    Column("sequence", BigInteger, Identity(always=True), nullable=False),
    text_column("chain"),
    text_column("tx_hash"),
    Column("ordinal", BigInteger, nullable=False),
    text_column("asset"),
    uuid_column("vault_id"),
    uuid_column("wallet_id", nullable=True),
    text_column("source"),
    text_column("account"),
    amount_column("tag", nullable=True),
    text_column("memo"),
    amount_column("amount"),
    Column("height", BigInteger, nullable=False),
    text_column("block_hash"),
    Column("inclusion", Integer, nullable=False),
    # Why it is not believed; empty where it is.
    text_column("doubt", server_default=""),
    # Booked, and its chain has it no more: a person let the booking stand.
    Column("lost", Boolean, nullable=False, server_default=text("false")),
    state_column("state", DEPOSITS),
    utc_column("occurred_at"),
    created_at(),
    utc_column("changed_at"),
    ForeignKeyConstraint(["tenant_id", "vault_id"], ["vaults.tenant_id", "vaults.id"]),
    CheckConstraint("amount > 0", name="amount_positive"),
    CheckConstraint("inclusion > 0", name="inclusion_positive"),
    CheckConstraint("height >= 0 AND ordinal >= 0", name="place_not_negative"),
    CheckConstraint("state <> 'credited' OR wallet_id IS NOT NULL", name="credited_has_wallet"),
    CheckConstraint("state <> 'suspended' OR wallet_id IS NULL", name="suspended_has_no_wallet"),
    # One place in one transaction brings one deposit. A transaction that a reorganisation executes anew may bring another amount:
    # that is another deposit, beside the orphaned one.
    Index(
        "uq_deposits_place",
        "tenant_id",
        "chain",
        "tx_hash",
        "ordinal",
        unique=True,
        postgresql_where=text("state NOT IN ('orphaned', 'reversed')"),
    ),
    Index(
        "ix_deposits_unsettled", "tenant_id", "chain", "height", postgresql_where=text("state = 'observed'")
    ),
    Index("ix_deposits_height", "tenant_id", "chain", "height"),
    Index("ix_deposits_sequence", "tenant_id", "sequence"),
    Index("ix_deposits_wallet_id", "tenant_id", "wallet_id", "sequence"),
    Index("ix_deposits_state", "tenant_id", "state", "sequence"),
)

deposit_cases = Table(
    "deposit_cases",
    metadata,
    tenant_column(),
    uuid_key(),
    Column("sequence", BigInteger, Identity(always=True), nullable=False),
    uuid_column("deposit_id"),
    state_column("state", DEPOSIT_CASES),
    choice_column("reason", tuple(Reason)),
    text_column("chain"),
    text_column("asset"),
    # Copied from the deposit, which never changes: what suspense holds is summed here.
    amount_column("amount"),
    uuid_column("named_wallet_id", nullable=True),
    uuid_column("wallet_id", nullable=True),
    uuid_column("withdrawal_id", nullable=True),
    text_column("decided_by"),
    text_column("note"),
    created_at(),
    utc_column("changed_at"),
    ForeignKeyConstraint(["tenant_id", "deposit_id"], ["deposits.tenant_id", "deposits.id"]),
    CheckConstraint("amount > 0", name="amount_positive"),
    CheckConstraint("state <> 'assigned' OR wallet_id IS NOT NULL", name="assigned_to_a_wallet"),
    CheckConstraint(
        "(state IN ('returning', 'returned')) = (withdrawal_id IS NOT NULL)", name="returned_by_a_withdrawal"
    ),
    CheckConstraint(
        "state NOT IN ('dismissed', 'listed') OR reason = 'unsupported_asset'", name="money_is_not_dismissed"
    ),
    CheckConstraint(
        "state NOT IN ('assigned', 'returning', 'returned') OR reason <> 'unsupported_asset'",
        name="unlisted_is_not_moved",
    ),
    # A deposit has one case at a time; what ended without a decision may be followed by another.
    Index(
        "uq_deposit_cases_deposit",
        "tenant_id",
        "deposit_id",
        unique=True,
        postgresql_where=text("state NOT IN ('orphaned', 'listed')"),
    ),
    Index("ix_deposit_cases_sequence", "tenant_id", "sequence"),
    Index(
        "ix_deposit_cases_waiting",
        "tenant_id",
        "chain",
        "asset",
        postgresql_where=text("reason = 'unsupported_asset' AND state IN ('open', 'ignored')"),
    ),
    # What a queue asks for, and what suspense must hold.
    Index(
        "ix_deposit_cases_unsettled",
        "tenant_id",
        "asset",
        "sequence",
        postgresql_where=text("state IN ('open', 'ignored', 'returning')"),
    ),
    Index(
        "uq_deposit_cases_withdrawal",
        "tenant_id",
        "withdrawal_id",
        unique=True,
        postgresql_where=text("withdrawal_id IS NOT NULL"),
    ),
)

deposit_rules = Table(
    "deposit_rules",
    metadata,
    tenant_column(),
    text_column("asset", primary_key=True),
    amount_column("minimum"),
    amount_column("dust"),
    # What becomes of arrivals that the token's own balance contradicts.
    choice_column("distrusted", ("refuse", "mark"), server_default="refuse"),
    text_column("set_by"),
    utc_column("changed_at"),
    CheckConstraint("minimum >= 0 AND dust >= 0", name="not_negative"),
)

vault_requests = Table(
    "vault_requests",
    metadata,
    tenant_column(),
    uuid_key(),
    text_column("chain"),
    choice_column("purpose", VAULT_PURPOSES),
    uuid_column("wallet_id", nullable=True),
    uuid_column("vault_id"),
    state_column("state", VAULT_REQUESTS),
    created_at(),
    utc_column("changed_at"),
    UniqueConstraint("tenant_id", "vault_id"),
)

chain_heights = Table(
    "chain_heights",
    metadata,
    tenant_column(),
    Column("chain", Text, primary_key=True),
    Column("height_final", BigInteger, nullable=False),
    Column("height_ingested", BigInteger, nullable=False),
    utc_column("ingested_at"),
    utc_column("updated_at"),
    CheckConstraint("height_final <= height_ingested", name="final_is_ingested"),
)
