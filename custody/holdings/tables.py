"""What our accounts held on chain, block by block, and how the books compared. History is only added to."""

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
    LargeBinary,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

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
from custody.holdings.transitions import CHAIN_HALTS, HOLDING_BREAKS


def _of_vault() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["tenant_id", "vault_id"], ["vaults.tenant_id", "vaults.id"])


def _branch() -> Column[int]:
    """How many times the chain had gone back when this was read: a later rewind to a block below it makes it history."""
    return Column("branch", Integer, primary_key=True, autoincrement=False, server_default="0")


def _height(name: str = "height", *, key: bool = False, nullable: bool = False) -> Column[int]:
    return Column(name, BigInteger, autoincrement=False, primary_key=key, nullable=nullable)


holding_states = Table(
    "holding_states",
    metadata,
    tenant_column(),
    uuid_key("vault_id"),
    Column("asset", Text, primary_key=True),
    _height(key=True),
    _branch(),
    text_column("chain"),
    Column("present", Boolean, nullable=False),
    amount_column("before"),
    amount_column("amount"),
    amount_column("selling"),
    amount_column("buying"),
    # Of a trustline only.
    amount_column("limit_amount", nullable=True),
    choice_column("authorized", ("full", "maintain", "none")),
    Column("clawback", Boolean, nullable=False),
    # The first movement of the block that is booked otherwise than it happened, and both amounts.
    text_column("differing_tx", nullable=True),
    text_column("differing_movement", nullable=True),
    amount_column("differing_chain", nullable=True),
    amount_column("differing_books", nullable=True),
    utc_column("closed_at"),
    _of_vault(),
    CheckConstraint("amount >= 0 AND before >= 0 AND selling >= 0 AND buying >= 0", name="not_negative"),
    CheckConstraint("present OR amount = 0", name="absent_holds_nothing"),
    # What a block touched; the newest state of one holding is found by the key.
    Index("ix_holding_states_height", "tenant_id", "chain", "height"),
)

account_states = Table(
    "account_states",
    metadata,
    tenant_column(),
    uuid_key("vault_id"),
    _height(key=True),
    _branch(),
    text_column("chain"),
    Column("present", Boolean, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("subentries", BigInteger, nullable=False),
    Column("sponsoring", BigInteger, nullable=False),
    Column("sponsored", BigInteger, nullable=False),
    Column("base_reserve", BigInteger, nullable=False),
    amount_column("minimum"),
    amount_column("spendable"),
    Column("master_weight", Integer, nullable=False),
    Column("low", Integer, nullable=False),
    Column("medium", Integer, nullable=False),
    Column("high", Integer, nullable=False),
    Column("flags", BigInteger, nullable=False),
    text_column("home_domain"),
    text_column("sponsor", nullable=True),
    # [{"key", "weight", "sponsor"}] in the ledger's order.
    Column("signers", JSONB, nullable=False),
    utc_column("closed_at"),
    _of_vault(),
)

account_data = Table(
    "account_data",
    metadata,
    tenant_column(),
    uuid_key("vault_id"),
    Column("name", Text, primary_key=True),
    _height(key=True),
    text_column("chain"),
    Column("value", LargeBinary, nullable=True),
    utc_column("closed_at"),
    _of_vault(),
)

holdings = Table(
    "holdings",
    metadata,
    tenant_column(),
    uuid_key("vault_id"),
    Column("asset", Text, primary_key=True),
    text_column("chain"),
    # The first block that was read of it while its asset was listed; from then on it is compared. 0 where blocks do not show
    # every change: then the opening is what lay there before all that we read.
    _height("opening_height", nullable=True),
    # With sign: books may have had more than the chain.
    amount_column("opening", nullable=True),
    created_at(),
    _of_vault(),
    CheckConstraint("(opening IS NULL) = (opening_height IS NULL)", name="opening_whole"),
)

holding_comparisons = Table(
    "holding_comparisons",
    metadata,
    tenant_column(),
    uuid_key("vault_id"),
    Column("asset", Text, primary_key=True),
    _height(key=True),
    _branch(),
    # From 0; more where something of the height was read or booked later, so that it was compared again. The newest counts.
    Column("revision", Integer, primary_key=True, autoincrement=False, server_default="0"),
    _height("state_height"),
    amount_column("books"),
    amount_column("opening"),
    amount_column("chain_amount"),
    created_at(),
    _of_vault(),
    CheckConstraint("state_height <= height", name="state_not_above_books"),
)

chain_rewinds = Table(
    "chain_rewinds",
    metadata,
    tenant_column(),
    Column("chain", Text, primary_key=True),
    # From 1; what is read afterwards is of this branch.
    Column("number", Integer, primary_key=True, autoincrement=False),
    # The highest block that is left: whatever an earlier branch says of a block above it is history.
    _height(),
    created_at(),
    CheckConstraint("number > 0 AND height >= 0", name="not_negative"),
    Index("ix_chain_rewinds_height", "tenant_id", "chain", "height"),
)

holding_breaks = Table(
    "holding_breaks",
    metadata,
    tenant_column(),
    uuid_key(),
    Column("sequence", BigInteger, Identity(always=True), nullable=False),
    text_column("chain"),
    uuid_column("vault_id"),
    text_column("asset"),
    state_column("state", HOLDING_BREAKS),
    _height(),
    _height("state_height"),
    amount_column("books"),
    amount_column("opening"),
    amount_column("chain_amount"),
    _height("first_height"),
    text_column("first_tx", nullable=True),
    text_column("first_movement", nullable=True),
    amount_column("first_chain", nullable=True),
    amount_column("first_books", nullable=True),
    # What the books have too much now; withdrawals are stopped by it.
    amount_column("difference"),
    created_at(),
    _height("closed_height", nullable=True),
    utc_column("closed_at", nullable=True),
    _of_vault(),
    CheckConstraint("books + opening <> chain_amount", name="differs"),
    CheckConstraint("num_nulls(closed_height, closed_at) IN (0, 2)", name="closing_whole"),
    CheckConstraint("(state = 'closed') = (closed_at IS NOT NULL)", name="closed_says_when"),
    CheckConstraint("(state = 'closed') = (difference = 0)", name="closed_is_equal"),
    Index(
        "uq_holding_breaks_open",
        "tenant_id",
        "vault_id",
        "asset",
        unique=True,
        postgresql_where=text("state = 'open'"),
    ),
    Index("ix_holding_breaks_sequence", "tenant_id", "sequence"),
)

holding_stop_rules = Table(
    "holding_stop_rules",
    metadata,
    tenant_column(),
    Column("asset", Text, primary_key=True),
    # From 1; the newest is in force.
    Column("version", Integer, primary_key=True, autoincrement=False),
    # Atomic units by which books and chain may differ, either way, before withdrawals of the vault's asset wait.
    amount_column("threshold"),
    text_column("set_by"),
    text_column("note"),
    created_at(),
    CheckConstraint("version > 0 AND threshold >= 0", name="not_negative"),
)

# Of no tenant: a chain stops for all of them.
chain_halts = Table(
    "chain_halts",
    metadata,
    uuid_key(),
    Column("sequence", BigInteger, Identity(always=True), nullable=False),
    text_column("chain"),
    state_column("state", CHAIN_HALTS),
    # The newest block that our record and the node's chain share.
    _height("fork_height"),
    text_column("fork_hash"),
    # Our newest block, and up to where it was final to us.
    _height("our_height"),
    text_column("our_hash"),
    _height("final_height"),
    # The node's newest block when it was found.
    _height("seen_height"),
    text_column("seen_hash"),
    # A person's decision.
    text_column("decided_by", server_default=""),
    text_column("note", server_default=""),
    # Whether credits whose money is gone shall stand, marked as lost.
    Column("marks_spent", Boolean, nullable=False, server_default=text("false")),
    # Why the decision could not be carried out; empty while it can.
    text_column("trouble", server_default=""),
    created_at(),
    utc_column("changed_at"),
    CheckConstraint("fork_height < our_height AND final_height <= our_height", name="fork_below_ours"),
    CheckConstraint("state = 'halted' OR decided_by <> ''", name="somebody_decided"),
    Index(
        "uq_chain_halts_open", "chain", unique=True, postgresql_where=text("state IN ('halted', 'following')")
    ),
    Index("ix_chain_halts_sequence", "chain", "sequence"),
)

# Of no tenant, like halts.
chains_followed = Table(
    "chains_followed",
    metadata,
    Column("chain", Text, primary_key=True),
    # Of the worker that wrote last: an older one's word no longer counts.
    Column("fence", BigInteger, nullable=False),
    # When a worker was at the chain's tip; null before the first time.
    utc_column("followed_at", nullable=True),
    # The broken invariant for which the worker ended, by its code; empty once one is at the tip again.
    text_column("stopped", server_default=""),
    CheckConstraint("fence > 0", name="fence_positive"),
)
