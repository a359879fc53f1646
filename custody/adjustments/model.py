"""A correction of what a wallet holds, by people: proposed by one, confirmed by another, and explained by both."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from custody.adjustments.errors import BadGround
from custody.kernel.ids import AdjustmentId, WalletId
from custody.kernel.money import Amount, AmountNotPositive

WORDS_MAX = 500
"""Characters of evidence, and of a note."""


class Direction(StrEnum):
    """Which way the money goes, as the wallet sees it."""

    CREDIT = "credit"
    """Into the wallet, out of our own capital."""
    DEBIT = "debit"
    """Out of the wallet, into our own capital. Never below what the wallet has free."""


class Reason(StrEnum):
    """Why books are corrected by hand. What chains and banks say is booked by itself and is none of these."""

    CORRECTION = "correction"
    """Something was booked wrongly."""
    GOODWILL = "goodwill"
    """Given to a customer without being owed."""
    COMPENSATION = "compensation"
    """Owed to a customer for harm that we did."""
    LEGAL_ORDER = "legal_order"
    """A court or authority ordered it."""
    WRITE_OFF = "write_off"
    """A claim that will not be paid."""
    OPENING = "opening"
    """A balance that was kept elsewhere before it was kept here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposeAdjustment:
    """What somebody wants corrected. Idempotent by `id`. Raises AmountNotPositive, BadGround."""

    id: AdjustmentId
    """Chosen by the edge."""
    wallet_id: WalletId
    """Whose balance."""
    direction: Direction
    """Up or down."""
    amount: Amount
    """By how much; more than zero."""
    reason: Reason
    """Why."""
    evidence: str
    """Where an examiner finds the proof: a case, a document and its hash, an order's number."""

    def __post_init__(self) -> None:
        if self.amount.atomic <= 0:
            raise AmountNotPositive(amount=str(self.amount.atomic))
        demand_words(self.evidence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustment:
    """A correction as it stands."""

    wanted: ProposeAdjustment
    """What was proposed."""
    state: str
    """One of `transitions.ADJUSTMENTS`."""
    proposed_by: str
    """The subject that proposed it."""
    proposed_at: datetime
    """When, by the database's clock."""
    decided_by: str | None
    """The subject that confirmed, rejected or withdrew it."""
    decided_at: datetime | None
    """When."""
    note: str
    """What was said with the decision."""
    booked_at: datetime | None
    """When it was posted, by the database's clock."""

    @property
    def id(self) -> AdjustmentId:
        """Shown as `adj_…`."""
        return self.wanted.id


def demand_words(text: str) -> None:
    """Raises BadGround."""
    if not (text.strip() and text.isprintable() and len(text) <= WORDS_MAX):
        raise BadGround(length=len(text))
