"""Seals, the batches in them, the signatures under them, and what of it is shown outside. History: nothing in it changes."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    Table,
    UniqueConstraint,
    func,
)

from custody.db.base import metadata
from custody.db.columns import (
    amount_column,
    created_at,
    tenant_column,
    text_column,
    utc_column,
    uuid_column,
    uuid_key,
)


def _number(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def _digest(name: str) -> Column[bytes]:
    return Column(name, LargeBinary, nullable=False)


ledger_seals = Table(
    "ledger_seals",
    metadata,
    tenant_column(),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    _number("from_batch"),
    _number("to_batch"),
    _number("from_xid"),
    _number("to_xid"),
    Column("batches", Integer, nullable=False),
    _digest("root"),
    _digest("previous"),
    _digest("hash"),
    utc_column("sealed_at"),
    CheckConstraint("sequence > 0", name="sequence_positive"),
    CheckConstraint("batches > 0 AND from_batch <= to_batch AND from_xid < to_xid", name="not_empty"),
    CheckConstraint("length(root) = 32 AND length(previous) = 32 AND length(hash) = 32", name="hash_lengths"),
)
"""One row per seal. It holds every batch whose transaction's number is from `from_xid` up to but not including `to_xid`."""

ledger_sealed_batches = Table(
    "ledger_sealed_batches",
    metadata,
    tenant_column(),
    Column("batch_id", BigInteger, primary_key=True, autoincrement=False),
    _number("sequence"),
    _digest("leaves"),
    CheckConstraint("length(leaves) > 0 AND length(leaves) % 8 = 0", name="leaves_length"),
)
"""One row per sealed batch: in which seal, and the first 8 bytes of each of its leaves, to name a transfer that was altered."""

ledger_checkpoints = Table(
    "ledger_checkpoints",
    metadata,
    tenant_column(),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    text_column("key_id"),
    _digest("public_key"),
    _digest("signature"),
    CheckConstraint("length(public_key) = 32 AND length(signature) = 64", name="lengths"),
)
"""One row per signature under a seal."""

ledger_liabilities = Table(
    "ledger_liabilities",
    metadata,
    tenant_column(),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    text_column("asset", primary_key=True),
    amount_column("total"),
    _digest("root"),
    _digest("secret"),
    CheckConstraint("total >= 0", name="total_not_negative"),
    CheckConstraint("length(root) = 32 AND length(secret) = 32", name="lengths"),
)
"""One row per asset and signed seal for which a tree of liabilities was made. `secret` salts its leaves, so that the same tree
can be made again and a wallet's proof tells nothing about other wallets."""

ledger_liability_heads = Table(
    "ledger_liability_heads",
    metadata,
    tenant_column(),
    _number("sequence"),
)
"""Which checkpoint was published last. Follows from history; not history."""

ledger_liability_balances = Table(
    "ledger_liability_balances",
    metadata,
    tenant_column(),
    text_column("asset", primary_key=True),
    uuid_key("wallet_id"),
    amount_column("balance"),
    Index("ix_ledger_liability_balances_wallet", "tenant_id", "wallet_id"),
)
"""What is owed to each wallet at the checkpoint that was published last, in atomic units. Follows from history; not history."""

ledger_liability_pages = Table(
    "ledger_liability_pages",
    metadata,
    tenant_column(),
    text_column("asset", primary_key=True),
    Column("page", Integer, primary_key=True, autoincrement=False),
    # Of which checkpoint's tree; a page with an older one is left over from a larger tree.
    _number("sequence"),
    # Hash of the first leaf.
    _digest("first"),
    # 64 bytes per leaf: hash and amount.
    _digest("leaves"),
    # Hash and sum at the top of the page's subtree.
    _digest("root"),
    amount_column("total"),
    CheckConstraint("length(leaves) > 0 AND length(leaves) % 64 = 0", name="leaves_length"),
    CheckConstraint("length(first) = 32 AND length(root) = 32", name="hash_lengths"),
)
"""Leaves of the trees that were published last, for reading one wallet's proof. Follows from history; not history."""

ledger_anchors = Table(
    "ledger_anchors",
    metadata,
    tenant_column(),
    # Of which signed seal.
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    # Stellar chain that it is written to.
    text_column("chain", primary_key=True),
    # 1 for the first try; another one follows only where the one before ended without being on chain.
    Column("number", Integer, primary_key=True, autoincrement=False),
    # Operation on the vault that writes it; its attempt has the transaction.
    uuid_column("withdrawal_id"),
    _digest("seal_hash"),
    created_at(),
    UniqueConstraint("tenant_id", "withdrawal_id"),
    ForeignKeyConstraint(
        ["tenant_id", "sequence"], ["ledger_checkpoints.tenant_id", "ledger_checkpoints.sequence"]
    ),
    ForeignKeyConstraint(["tenant_id", "withdrawal_id"], ["withdrawals.tenant_id", "withdrawals.id"]),
    CheckConstraint("number > 0", name="number_positive"),
    CheckConstraint("length(seal_hash) = 32", name="seal_hash_length"),
)
"""One row per request to write a signed seal's hash to a chain."""

ledger_archives = Table(
    "ledger_archives",
    metadata,
    tenant_column(),
    Column("month", Date, primary_key=True),
    utc_column("until"),
    utc_column("dated_to", nullable=True),
    _number("batches"),
    _number("transfers"),
    _number("sequence"),
    text_column("directory"),
    _digest("digest"),
    utc_column("archived_at", server_default=func.clock_timestamp()),
    CheckConstraint("extract(day FROM month) = 1", name="month_begins"),
    CheckConstraint("batches > 0 AND transfers >= batches", name="not_empty"),
    CheckConstraint("length(digest) = 32", name="digest_length"),
)
"""One row per tenant and month whose transfers have left the database. `until` is where the month ends, `dated_to` the latest
value date among them that is not the time of booking, `sequence` the last seal that holds any of them; `directory` and `digest`
tell which files hold them."""

ledger_openings = Table(
    "ledger_openings",
    metadata,
    tenant_column(),
    uuid_key("account_id"),
    Column("month", Date, primary_key=True),
    _number("version"),
    amount_column("debits_posted"),
    amount_column("credits_posted"),
    amount_column("debits_pending"),
    amount_column("credits_pending"),
    ForeignKeyConstraint(["tenant_id", "month"], ["ledger_archives.tenant_id", "ledger_archives.month"]),
    CheckConstraint("version > 0", name="version_positive"),
    CheckConstraint(
        "least(debits_posted, credits_posted, debits_pending, credits_pending) >= 0",
        name="counters_not_negative",
    ),
)
"""One row per account and archived month in which it had entries: its counters and version when the month ended."""
