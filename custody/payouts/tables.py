"""Payouts, their sendings, and what rails said about them."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Identity, Index, Integer, LargeBinary, Table, text

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
from custody.payouts.transitions import PAYOUTS

payouts = Table(
    "payouts",
    metadata,
    tenant_column(),
    uuid_key(),
    Column("sequence", BigInteger, Identity(always=True), nullable=False),
    uuid_column("wallet_id"),
    uuid_column("bank_account_id"),
    text_column("rail"),
    text_column("account_iban"),
    text_column("asset"),
    amount_column("amount"),
    text_column("beneficiary_iban"),
    text_column("beneficiary_name"),
    text_column("remittance"),
    state_column("state", PAYOUTS),
    text_column("reference", nullable=True),
    text_column("external_ref", nullable=True),
    text_column("reason", server_default=""),
    text_column("requested_by"),
    Column("polls", Integer, nullable=False, server_default="0"),
    utc_column("next_poll_at", nullable=True),
    utc_column("settled_at", nullable=True),
    utc_column("returned_at", nullable=True),
    created_at(),
    CheckConstraint("amount > 0", name="amount_positive"),
    # Before a payout is claimed nobody can have been asked to pay it; afterwards the reference is there for ever.
    CheckConstraint("(state IN ('ready', 'cancelled')) = (reference IS NULL)", name="reference_when_claimed"),
    # Whatever waits for the rail's word is polled; whatever does not is left alone.
    CheckConstraint(
        "(state IN ('unknown', 'submitted')) = (next_poll_at IS NOT NULL)", name="polled_while_open"
    ),
    # What the books hold for it: the settlement, and the mirror of a return, each with its time of booking.
    CheckConstraint(
        "state NOT IN ('settled', 'returned') OR settled_at IS NOT NULL", name="settled_when_booked"
    ),
    CheckConstraint("(state = 'returned') = (returned_at IS NOT NULL)", name="returned_when_booked"),
    CheckConstraint("settled_at IS NULL OR external_ref IS NOT NULL", name="settled_has_external_ref"),
    Index("uq_payouts_reference", "tenant_id", "rail", "reference", unique=True),
    Index("ix_payouts_sequence", "tenant_id", "sequence"),
    Index("ix_payouts_wallet", "tenant_id", "wallet_id", "sequence"),
    Index("ix_payouts_state", "tenant_id", "state", "sequence"),
    Index("ix_payouts_ready", "tenant_id", "sequence", postgresql_where=text("state = 'ready'")),
    Index("ix_payouts_poll", "tenant_id", "next_poll_at", postgresql_where=text("next_poll_at IS NOT NULL")),
)

payout_attempts = Table(
    "payout_attempts",
    metadata,
    tenant_column(),
    uuid_key("payout_id"),
    Column("number", Integer, primary_key=True, autoincrement=False),
    text_column("reference"),
    utc_column("lease_until"),
    choice_column("outcome", ("accepted", "declined", "mismatched", "lost"), nullable=True),
    text_column("detail", server_default=""),
    created_at(),
    CheckConstraint("number > 0", name="number_positive"),
    # One sending at a time: the next may begin only when the last one's outcome is written, if only as lost.
    Index(
        "uq_payout_attempts_open",
        "tenant_id",
        "payout_id",
        unique=True,
        postgresql_where=text("outcome IS NULL"),
    ),
    Index("ix_payout_attempts_lease", "tenant_id", "lease_until", postgresql_where=text("outcome IS NULL")),
)

rail_observations = Table(
    "rail_observations",
    metadata,
    tenant_column(),
    Column("rail", text_column("rail").type, primary_key=True),
    Column("external_event_id", text_column("external_event_id").type, primary_key=True),
    uuid_column("payout_id"),
    text_column("external_ref"),
    choice_column("event", ("accepted", "settled", "rejected", "returned")),
    text_column("code"),
    text_column("asset"),
    amount_column("amount"),
    text_column("beneficiary_iban"),
    utc_column("occurred_at"),
    Column("raw_sha256", LargeBinary, nullable=False),
    choice_column("result", ("applied", "old", "contradicts")),
    created_at(),
    CheckConstraint("length(raw_sha256) = 32", name="raw_sha256_length"),
    Index("ix_rail_observations_payout_id", "tenant_id", "payout_id"),
)
