"""Our accounts at banks, and the statements that banks give about them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from custody.kernel.assetid import AssetId
from custody.kernel.ids import BankAccountId, TenantId


@dataclass(frozen=True, slots=True, kw_only=True)
class BankAccount:
    """An account in our name at a bank. Its balance is an asset in our ledger (kind BANK, owner this id)."""

    id: BankAccountId
    rail: str
    """The rail that speaks to this bank: a name of the settings, such as `sandbox`."""
    iban: str
    """Electronic form, without spaces. Source: ISO 13616."""
    asset: AssetId
    """The currency it is kept in: `fiat/EUR`."""
    name: str
    """What operators call it."""
    created_at: datetime
    """When it was registered: from then on the books must hold all that the bank books."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BankAccountRef:
    """Whose account an IBAN is: enough to open the right tenant's transaction."""

    tenant: TenantId
    bank_account_id: BankAccountId


class EntryKind(StrEnum):
    """Why a bank booked a line on our account."""

    PAYMENT = "payment"
    """A payout of ours was settled: money left."""
    RETURN = "return"
    """A settled payout came back: money arrived again."""
    INCOMING = "incoming"
    """Somebody outside paid us."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementEntry:
    """One booked line of a bank statement."""

    kind: EntryKind
    external_ref: str
    """The bank's own id of the payment or incoming credit behind the line."""
    reference: str
    """Our reference, as the bank gives it back; empty on an incoming credit."""
    amount: int
    """Minor units of the account's currency; negative takes money from our account."""
    balance: int
    """The account's balance after this line, in minor units."""
    booked_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class BankStatement:
    """What a bank says about one account over some days. Source: ISO 20022 camt.053."""

    iban: str
    asset: AssetId
    opening: int
    """Balance before the first line, in minor units."""
    closing: int
    """Balance after the last line, in minor units."""
    entries: tuple[StatementEntry, ...]
    """In booking order."""
