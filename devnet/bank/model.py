"""What the sandbox bank remembers: accounts, payments, booked entries and callbacks still to deliver."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

JsonObject = dict[str, Any]
"""A decoded JSON object: the journal's records and the bodies on the wire."""


class BankError(Exception):
    """A refusal with the HTTP status and the code that the client sees."""

    def __init__(self, status: int, code: str, detail: str = "") -> None:
        """`code` is stable; `detail` is for the reader."""
        self.status = status
        self.code = code
        self.detail = detail
        super().__init__(f"{status} {code} {detail}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentOrder:
    """What a customer asks the bank to pay. Two orders under one reference must be equal."""

    end_to_end_id: str
    """The customer's own reference. Source: ISO 20022 EndToEndId, at most 35 characters."""
    debtor_iban: str
    """The account here that pays."""
    creditor_iban: str
    """Who is paid."""
    creditor_name: str
    """Their name, as given."""
    amount: str
    """Minor units, digits only."""
    currency: str
    """ISO 4217 code."""
    remittance: str
    """Text for the beneficiary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentEvent:
    """A fact about a payment, under the id that callbacks and status answers both use."""

    id: str
    status: str
    """accepted, refused, settled, rejected or returned."""
    code: str
    """Reason, empty where none applies."""
    at: str
    """When, ISO 8601 in UTC."""


@dataclass(slots=True, kw_only=True)
class Payment:
    """One payment and all that has happened to it."""

    id: str
    order: PaymentOrder
    events: list[PaymentEvent]
    due: list[JsonObject] = field(default_factory=list)
    """Steps that will still happen by themselves: {at, status, code, notify}."""

    @property
    def status(self) -> str:
        """The latest fact."""
        return self.events[-1].status

    @property
    def amount(self) -> int:
        """Minor units."""
        return int(self.order.amount)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A booked line of one account."""

    id: str
    at: datetime
    kind: str
    """payment, return or incoming."""
    object_id: str
    """The bank's id of the payment or incoming credit behind it."""
    reference: str
    """The customer's end_to_end_id; empty on an incoming credit."""
    amount: int
    """Minor units; negative takes money from the account."""
    balance: int
    """The account's balance after this line."""
    remittance: str


@dataclass(slots=True, kw_only=True)
class Account:
    """An account kept at this bank."""

    iban: str
    holder: str
    entries: list[Entry] = field(default_factory=list)

    @property
    def balance(self) -> int:
        """Booked balance in minor units."""
        return self.entries[-1].balance if self.entries else 0


@dataclass(slots=True, kw_only=True)
class Callback:
    """A message that the customer has not yet confirmed."""

    id: str
    body: JsonObject
    not_before: datetime
    copies: int
    """Deliveries still owed."""
