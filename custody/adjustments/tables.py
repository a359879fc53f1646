"""Adjustments: what was proposed never changes, and what was decided is decided once."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, Table

from custody.adjustments.model import Direction, Reason
from custody.adjustments.transitions import ADJUSTMENTS
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

adjustments = Table(
    "adjustments",
    metadata,
    tenant_column(),
    uuid_key(),
    uuid_column("wallet_id"),
    choice_column("direction", tuple(Direction)),
    text_column("asset"),
    amount_column("amount"),
    choice_column("reason", tuple(Reason)),
    text_column("evidence"),
    state_column("state", ADJUSTMENTS),
    text_column("proposed_by"),
    created_at(),
    text_column("decided_by", nullable=True),
    utc_column("decided_at", nullable=True),
    text_column("note", server_default=""),
    utc_column("booked_at", nullable=True),
    CheckConstraint("amount > 0", name="amount_positive"),
    # Four eyes: whoever proposed it can only take it back.
    CheckConstraint(
        "state NOT IN ('posted', 'rejected') OR decided_by <> proposed_by", name="decided_by_another"
    ),
    CheckConstraint("state <> 'withdrawn' OR decided_by = proposed_by", name="withdrawn_by_proposer"),
    CheckConstraint(
        "(state = 'proposed') = (decided_at IS NULL) AND (decided_at IS NULL) = (decided_by IS NULL)",
        name="decided_when_decided",
    ),
    CheckConstraint("(state = 'posted') = (booked_at IS NOT NULL)", name="booked_when_posted"),
    ForeignKeyConstraint(
        ["tenant_id", "wallet_id"], ["wallets.tenant_id", "wallets.id"], name="fk_adjustments_wallet"
    ),
    Index("ix_adjustments_state", "tenant_id", "state", "id"),
)
