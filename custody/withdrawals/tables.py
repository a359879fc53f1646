"""Withdrawals, their attempts, what our vaults sent without our knowledge, and how far each chain was ingested.

What the code promises the database enforces: one open attempt per withdrawal, one holder per sequence or nonce, one Stellar
transaction in flight per sender, bytes that never change once stored. An EVM nonce may have alternatives beside its first
attempt, on the same vault and nonce; of all of them one is mined. The triggers are in migrations 0004, 0021, 0023 and 0024.
"""

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
    UniqueConstraint,
    func,
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
from custody.tariffs.model import KINDS as FEE_KINDS
from custody.withdrawals.model import KINDS
from custody.withdrawals.transitions import ATTEMPTS, STRAYS, WITHDRAWALS

BEFORE_THE_KEY = ("requested", "screening", "awaiting_approval", "approved", "cooling_down")
"""States in which no key can have been touched."""

withdrawals = Table(
    "withdrawals",
    metadata,
    tenant_column(),
    uuid_key(),
    # Order of arrival; pages go by it.
    Column("sequence", BigInteger, Identity(always=True), nullable=False),
    choice_column("kind", KINDS),
    state_column("state", WITHDRAWALS),
    # Wallet that pays; none for a return, which suspense pays, or an operation on a vault.
    uuid_column("wallet_id", nullable=True),
    # Vault whose money moves and whose key signs.
    uuid_column("vault_id"),
    # Stellar: channel that lends its sequence number; none where the vault uses its own.
    uuid_column("channel_id", nullable=True),
    # Vault of ours that a refill or a sweep is for.
    uuid_column("into_id", nullable=True),
    text_column("chain"),
    text_column("asset"),
    text_column("destination"),
    choice_column("memo_type", ("none", "id", "text", "hash")),
    text_column("memo"),
    # Atomic units; 0 for an operation on a vault.
    amount_column("amount"),
    # Canonical bytes that approvers sign, and their name.
    Column("intent", LargeBinary, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("policy_version", Integer, nullable=False),
    # Subject and credential that asked.
    text_column("initiator"),
    uuid_column("principal_id"),
    # Why it ended unpaid; empty while it is open or paid.
    text_column("reason"),
    utc_column("expires_at"),
    # When the quorum was there: the order in which a vault serves.
    utc_column("approved_at", nullable=True),
    # Before when it must not be carried out, as asked for; and until when it cools down.
    utc_column("execute_after", nullable=True),
    utc_column("cool_until", nullable=True),
    # When a worker should look again; none while it waits for people or for the chain.
    utc_column("next_step_at", nullable=True),
    # Withdrawal whose nonce an `evm_cancel` takes.
    uuid_column("target_id", nullable=True),
    # Since when, and why, it goes no further by itself; every move ends it.
    # What it costs its wallet: none of these where no tariff was in force. Held with the amount is the most that is charged.
    choice_column("fee_kind", FEE_KINDS, nullable=True),
    Column("fee_tariff", Integer, nullable=True),
    uuid_column("fee_quote_id", nullable=True),
    amount_column("fee_held", server_default="0"),
    Column("fee_markup_bps", Integer, nullable=False, server_default="0"),
    # Once it has ended.
    amount_column("fee_charged", nullable=True),
    utc_column("stuck_since", nullable=True),
    text_column("stuck_reason", server_default=""),
    created_at(),
    utc_column("changed_at"),
    UniqueConstraint("tenant_id", "digest"),
    CheckConstraint(
        "(kind = 'payment' AND wallet_id IS NOT NULL AND amount > 0)"
        " OR (kind IN ('return', 'refill', 'sweep') AND wallet_id IS NULL AND amount > 0)"
        " OR (kind IN ('change_trust', 'anchor', 'memo_required', 'fee_bump', 'evm_cancel', 'evm_fill')"
        " AND wallet_id IS NULL AND amount = 0)",
        name="kind_shape",
    ),
    CheckConstraint("(kind IN ('refill', 'sweep')) = (into_id IS NOT NULL)", name="refill_into_vault"),
    CheckConstraint("channel_id IS NULL OR kind IN ('payment', 'return')", name="channel_pays"),
    CheckConstraint("(kind = 'evm_cancel') = (target_id IS NOT NULL)", name="cancel_has_target"),
    CheckConstraint("(stuck_since IS NULL) = (stuck_reason = '')", name="stuck_with_reason"),
    CheckConstraint("fee_held = 0 OR (fee_kind IS NOT NULL AND kind = 'payment')", name="fee_of_payment"),
    CheckConstraint("fee_charged BETWEEN 0 AND fee_held", name="fee_within_hold"),
    CheckConstraint(
        "fee_charged IS NULL OR fee_charged = 0 OR state = 'settled'", name="unpaid_costs_nothing"
    ),
    CheckConstraint(
        "state <> 'settled' OR fee_kind IS NULL OR fee_charged IS NOT NULL", name="settled_is_charged"
    ),
    CheckConstraint("octet_length(digest) = 32", name="digest_length"),
    CheckConstraint(
        "(state IN ('blocked', 'rejected', 'expired', 'cancelled', 'failed')) = (reason <> '')",
        name="reason_when_unpaid",
    ),
    CheckConstraint(
        "approved_at IS NOT NULL OR state IN ('requested', 'screening', 'awaiting_approval',"
        " 'blocked', 'rejected', 'expired', 'cancelled')",
        name="approved_before_signing",
    ),
    CheckConstraint("state <> 'cooling_down' OR cool_until IS NOT NULL", name="cools_until"),
    ForeignKeyConstraint(
        ["tenant_id", "fee_quote_id"], ["withdrawal_quotes.tenant_id", "withdrawal_quotes.id"]
    ),
    Index(
        "uq_withdrawals_fee_quote",
        "tenant_id",
        "fee_quote_id",
        unique=True,
        postgresql_where=text("fee_quote_id IS NOT NULL"),
    ),
    Index("ix_withdrawals_sequence", "tenant_id", "sequence"),
    Index("ix_withdrawals_wallet", "tenant_id", "wallet_id", "sequence"),
    Index("ix_withdrawals_state", "tenant_id", "state", "sequence"),
)
Index(
    "ix_withdrawals_open",
    withdrawals.c.tenant_id,
    withdrawals.c.next_step_at,
    postgresql_where=withdrawals.c.next_step_at.is_not(None),
)
Index(
    "ix_withdrawals_window",
    withdrawals.c.tenant_id,
    withdrawals.c.expires_at,
    postgresql_where=withdrawals.c.state.in_(BEFORE_THE_KEY),
)
Index(
    "ix_withdrawals_turn",
    withdrawals.c.tenant_id,
    func.coalesce(withdrawals.c.channel_id, withdrawals.c.vault_id),
    withdrawals.c.approved_at,
    postgresql_where=withdrawals.c.state.in_(("approved", "cooling_down", "signing")),
)
Index(
    "ix_withdrawals_channel",
    withdrawals.c.tenant_id,
    withdrawals.c.channel_id,
    postgresql_where=withdrawals.c.channel_id.is_not(None)
    & withdrawals.c.state.in_((*BEFORE_THE_KEY, "signing", "broadcasting")),
)
Index(
    "ix_withdrawals_into",
    withdrawals.c.tenant_id,
    withdrawals.c.into_id,
    withdrawals.c.sequence,
    postgresql_where=withdrawals.c.into_id.is_not(None),
)
Index(
    "uq_withdrawals_move",
    withdrawals.c.tenant_id,
    withdrawals.c.into_id,
    withdrawals.c.vault_id,
    withdrawals.c.asset,
    unique=True,
    postgresql_where=withdrawals.c.into_id.is_not(None)
    & withdrawals.c.state.not_in(("settled", "rejected", "expired", "cancelled", "blocked", "failed")),
)
Index(
    "ix_withdrawals_swept",
    withdrawals.c.tenant_id,
    withdrawals.c.vault_id,
    withdrawals.c.asset,
    withdrawals.c.sequence,
    postgresql_where=withdrawals.c.kind.in_(("sweep", "change_trust")),
)
Index(
    "ix_withdrawals_bump",
    withdrawals.c.tenant_id,
    withdrawals.c.memo,
    postgresql_where=withdrawals.c.kind == "fee_bump",
)
Index(
    "uq_withdrawals_cancel",
    withdrawals.c.tenant_id,
    withdrawals.c.target_id,
    unique=True,
    postgresql_where=withdrawals.c.state.in_(("awaiting_approval", "approved", "signing"))
    & withdrawals.c.target_id.is_not(None),
)
Index(
    "uq_withdrawals_fill",
    withdrawals.c.tenant_id,
    withdrawals.c.vault_id,
    unique=True,
    postgresql_where=withdrawals.c.state.in_(("awaiting_approval", "approved", "signing"))
    & (withdrawals.c.kind == "evm_fill"),
)
Index(
    "ix_withdrawals_stuck",
    withdrawals.c.tenant_id,
    withdrawals.c.stuck_since,
    postgresql_where=withdrawals.c.stuck_since.is_not(None),
)

OPEN_ATTEMPT = ("reserved", "signed", "broadcast", "included")
"""States of an attempt whose end is not known."""

attempts = Table(
    "withdrawal_attempts",
    metadata,
    tenant_column(),
    uuid_key(),
    uuid_column("withdrawal_id"),
    uuid_column("vault_id"),
    text_column("chain"),
    # 1 for the first attempt of a withdrawal.
    Column("number", Integer, nullable=False),
    state_column("state", ATTEMPTS),
    # Stellar sequence number or EVM nonce.
    Column("sequence", BigInteger, nullable=False),
    # Whether the slot is taken: false only with proof that nothing of ours can ever use it.
    Column("holds_slot", Boolean, nullable=False),
    # Whether its vault waits for this attempt before it makes another (Stellar): the lease of a channel.
    Column("exclusive", Boolean, nullable=False),
    # First Stellar ledger, and unix second, in which it can no longer apply.
    Column("max_ledger", BigInteger, nullable=True),
    Column("max_time", BigInteger, nullable=True),
    # Stellar: stroops for the transaction. EVM: wei per gas, and the part for the block's producer.
    amount_column("fee_bid"),
    amount_column("priority_fee"),
    # Signed bytes and the transaction's name, stored before the bytes are first sent.
    Column("tx", LargeBinary, nullable=True),
    text_column("tx_hash", nullable=True),
    Column("sends", Integer, nullable=False),
    # What the node said last. Never a proof.
    text_column("last_answer"),
    # What our own ingestion saw: block, outcome, fee in atomic units of the chain's own currency, time of the block.
    Column("height", BigInteger, nullable=True),
    Column("succeeded", Boolean, nullable=True),
    amount_column("fee_paid", nullable=True),
    utc_column("included_at", nullable=True),
    # EVM: the first attempt on the nonce, where this is an alternative to it; the replacement's own intent; wei that have to be
    # there; and the node's head when it was first seen to be the next of its account.
    uuid_column("alternative_of", nullable=True),
    Column("intent", LargeBinary, nullable=True),
    amount_column("spends", server_default="0"),
    Column("watched_from", BigInteger, nullable=True),
    created_at(),
    utc_column("changed_at"),
    UniqueConstraint("tenant_id", "withdrawal_id", "number"),
    CheckConstraint("(tx IS NULL) = (state IN ('reserved', 'refused'))", name="bytes_once_signed"),
    CheckConstraint("(tx IS NULL) = (tx_hash IS NULL)", name="bytes_have_a_name"),
    CheckConstraint(
        "(state IN ('included', 'confirmed', 'failed')) = "
        "(height IS NOT NULL AND succeeded IS NOT NULL AND fee_paid IS NOT NULL AND included_at IS NOT NULL)",
        name="facts_once_included",
    ),
    # A fee bump uses no sequence but that of what it is wrapped around.
    CheckConstraint(
        "holds_slot OR state IN ('refused', 'lapsed') OR (sequence = 0 AND max_ledger IS NOT NULL)",
        name="slot_held_while_usable",
    ),
    CheckConstraint("state <> 'confirmed' OR succeeded", name="confirmed_succeeded"),
    CheckConstraint("state <> 'failed' OR NOT succeeded", name="failed_did_not"),
    CheckConstraint("sequence >= 0 AND sends >= 0 AND number > 0", name="counts"),
    CheckConstraint("intent IS NULL OR alternative_of IS NOT NULL", name="intent_of_alternative"),
    CheckConstraint("alternative_of IS NULL OR max_ledger IS NULL", name="alternatives_on_evm"),
    UniqueConstraint("tenant_id", "id", "vault_id", "sequence", name="uq_withdrawal_attempts_place"),
    ForeignKeyConstraint(
        ["tenant_id", "alternative_of", "vault_id", "sequence"],
        [
            "withdrawal_attempts.tenant_id",
            "withdrawal_attempts.id",
            "withdrawal_attempts.vault_id",
            "withdrawal_attempts.sequence",
        ],
        name="fk_withdrawal_attempts_first",
    ),
)
Index(
    "uq_withdrawal_attempts_slot",
    attempts.c.tenant_id,
    attempts.c.vault_id,
    attempts.c.sequence,
    unique=True,
    postgresql_where=attempts.c.holds_slot & attempts.c.alternative_of.is_(None),
)
Index(
    "uq_withdrawal_attempts_open",
    attempts.c.tenant_id,
    attempts.c.withdrawal_id,
    unique=True,
    postgresql_where=attempts.c.state.in_(OPEN_ATTEMPT) & attempts.c.alternative_of.is_(None),
)
Index(
    "uq_withdrawal_attempts_reserved",
    attempts.c.tenant_id,
    attempts.c.alternative_of,
    unique=True,
    postgresql_where=(attempts.c.state == "reserved") & attempts.c.alternative_of.is_not(None),
)
Index(
    "uq_withdrawal_attempts_mined",
    attempts.c.tenant_id,
    attempts.c.vault_id,
    attempts.c.sequence,
    unique=True,
    postgresql_where=attempts.c.state.in_(("included", "confirmed", "failed"))
    & attempts.c.max_ledger.is_(None),
)
Index(
    "uq_withdrawal_attempts_exclusive",
    attempts.c.tenant_id,
    attempts.c.vault_id,
    unique=True,
    postgresql_where=attempts.c.exclusive & attempts.c.state.in_(("reserved", "signed", "broadcast")),
)
Index(
    "uq_withdrawal_attempts_tx_hash",
    attempts.c.tenant_id,
    attempts.c.chain,
    attempts.c.tx_hash,
    unique=True,
    postgresql_where=attempts.c.tx_hash.is_not(None),
)
Index(
    "ix_withdrawal_attempts_in_flight",
    attempts.c.tenant_id,
    attempts.c.chain,
    postgresql_where=attempts.c.state.in_(("signed", "broadcast", "included")),
)

strays = Table(
    "stray_transactions",
    metadata,
    tenant_column(),
    text_column("chain", primary_key=True),
    text_column("tx_hash", primary_key=True),
    state_column("state", STRAYS),
    # Vault that sent it, though no attempt of ours has this hash.
    uuid_column("vault_id"),
    Column("height", BigInteger, nullable=False),
    Column("succeeded", Boolean, nullable=False),
    # Atomic units of the chain's own currency.
    amount_column("fee_paid"),
    Column("sequence", BigInteger, nullable=False),
    utc_column("occurred_at"),
    created_at(),
    utc_column("changed_at"),
)

channels = Table(
    "stellar_channels",
    metadata,
    tenant_column(),
    # The vault that lends its sequence number; a row once its account is on chain.
    uuid_column("vault_id", primary_key=True),
    text_column("chain"),
    # Sequence number of its last transaction, by our own ingestion.
    Column("sequence", BigInteger, nullable=False),
    Column("opened_height", BigInteger, nullable=False),
    created_at(),
    CheckConstraint("sequence > 0", name="sequence_positive"),
    Index("ix_stellar_channels_chain", "tenant_id", "chain"),
)

chain_heights = Table(
    "withdrawal_chain_heights",
    metadata,
    tenant_column(),
    text_column("chain", primary_key=True),
    # Highest final block that our own ingestion has told us of.
    Column("height", BigInteger, nullable=False),
)
