"""Money that a bank says has arrived for us, and the references by which payers name a wallet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from custody.kernel.ids import BankAccountId, ReceiptId, WalletId
from custody.kernel.money import Amount


class ReceiptOutcome(StrEnum):
    """Whom an arrival was credited to."""

    CREDITED = "credited"
    """The wallet that its reference names."""
    SUSPENDED = "suspended"
    """Nobody yet: the text names no wallet of ours. The money waits in SUSPENSE."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BankReceipt:
    """A fact about money that arrived, from a verified callback. Unique by rail and event id."""

    rail: str
    external_event_id: str
    """The bank's id of this fact."""
    external_ref: str
    """The bank's id of the incoming credit."""
    account_iban: str
    """Our account that was credited. It names the tenant."""
    amount: Amount
    """More than zero, in the account's currency."""
    remittance: str
    """The payer's text, in which a reference may stand."""
    debtor_iban: str
    """Who paid, as the bank tells it."""
    debtor_name: str
    occurred_at: datetime
    raw_sha256: bytes
    """Of the exact bytes that said so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """An arrival as the database holds it. Written once and never changed."""

    id: ReceiptId
    sequence: int
    """Order of booking: what pages are cut by."""
    rail: str
    external_event_id: str
    external_ref: str
    bank_account_id: BankAccountId
    wallet_id: WalletId | None
    """Who was credited; None when it is suspended."""
    amount: Amount
    outcome: ReceiptOutcome
    remittance: str
    debtor_iban: str
    debtor_name: str
    occurred_at: datetime
    created_at: datetime
