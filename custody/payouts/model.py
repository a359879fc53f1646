"""A payout, what a rail is asked to do for it, and what a rail says about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from custody.kernel.ids import BankAccountId, PayoutId, WalletId
from custody.kernel.money import Amount

_FIRST_POLL = timedelta(milliseconds=500)
_LAST_POLL = timedelta(minutes=5)
_POLL_DOUBLINGS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestPayout:
    """What a caller wants paid. Idempotent by `id`; two requests under one id must be equal."""

    id: PayoutId
    wallet_id: WalletId
    """Whose money it is."""
    bank_account_id: BankAccountId
    """From which of our bank accounts it is paid."""
    beneficiary_iban: str
    """Who is paid; checked, and stored in electronic form."""
    beneficiary_name: str
    """1 to 70 characters. Source: ISO 20022 pain.001 as limited by EPC."""
    amount: Amount
    """In the bank account's currency; more than zero."""
    remittance: str
    """Text for the beneficiary, up to 140 characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Payout:
    """A payout as the database holds it."""

    id: PayoutId
    sequence: int
    """Order of creation: what pages are cut by."""
    wallet_id: WalletId
    bank_account_id: BankAccountId
    rail: str
    account_iban: str
    """Our account that pays."""
    beneficiary_iban: str
    beneficiary_name: str
    amount: Amount
    remittance: str
    state: str
    """A state of `transitions.PAYOUTS`."""
    reference: str | None
    """Our reference at the rail; set when the payout is first claimed, never changed."""
    external_ref: str | None
    """The rail's own id, once it told us."""
    reason: str
    """The rail's code for a rejection or return; which field differed for integrity_failed; else empty."""
    requested_by: str
    """The principal's subject."""
    polls: int
    """How often the rail has been asked about it: sets the pause before the next question."""
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentInstruction:
    """What a rail is asked to pay. The same instruction under the same reference, however often it is sent."""

    rail: str
    reference: str
    account_iban: str
    beneficiary_iban: str
    beneficiary_name: str
    amount: Amount
    remittance: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutAttempt:
    """One sending of a payout, written down before it is sent."""

    payout_id: PayoutId
    number: int
    """1 for the first sending. Every attempt of a payout carries the same reference."""
    instruction: PaymentInstruction


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The rail took the order and will report."""

    external_ref: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Declined:
    """The rail will never carry out this order."""

    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatched:
    """The rail took an order, and what it echoes is not what we asked."""

    field: str
    external_ref: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """No answer that proves anything. The payout is unknown until the rail is asked about our reference."""

    cause: str


SubmissionReport = Accepted | Declined | Mismatched | Lost
"""How one sending ended."""


class RailEvent(StrEnum):
    """What a rail can report about a payment."""

    ACCEPTED = "accepted"
    """It took the order; no money has moved."""
    SETTLED = "settled"
    """The money has left our account."""
    REJECTED = "rejected"
    """It will not be paid; no money has moved."""
    RETURNED = "returned"
    """Settled before; the money is back on our account."""


EVENT_OF = {
    RailEvent.ACCEPTED: "accept",
    RailEvent.SETTLED: "settle",
    RailEvent.REJECTED: "reject",
    RailEvent.RETURNED: "return",
}
"""The event of the transition table that each report raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RailObservation:
    """A fact about one of our payments, from a verified callback or from a status answer. Unique by rail and event id."""

    rail: str
    external_event_id: str
    """The rail's id of this fact: the same by callback and by status answer."""
    external_ref: str
    """The rail's id of the payment."""
    account_iban: str
    """Our account that pays, as echoed. It names the tenant."""
    reference: str
    """Our reference, as echoed."""
    event: RailEvent
    code: str
    """Reason of a rejection or return, else empty."""
    amount: Amount
    """As echoed."""
    beneficiary_iban: str
    """As echoed."""
    occurred_at: datetime
    raw_sha256: bytes
    """Of the exact bytes that said so."""


class ObservationResult(StrEnum):
    """What became of an observation."""

    APPLIED = "applied"
    """It moved the payout."""
    DUPLICATE = "duplicate"
    """The same fact was recorded before."""
    OLD = "old"
    """Recorded; the payout had already moved past it."""
    CONTRADICTS = "contradicts"
    """Recorded and reported to operators."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PollTarget:
    """A payout that the rail should be asked about."""

    payout_id: PayoutId
    rail: str
    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BookedMovement:
    """A line that our books hold for a bank account, named as the bank's statement names it."""

    kind: str
    """payment or return."""
    external_ref: str
    amount: int
    """Minor units; negative left our account."""


def build_reference(payout_id: PayoutId) -> str:
    """Our reference at a rail: unique, the same for ever, within 35 characters of the SEPA set. Source: EPC217-08."""
    return "CP" + payout_id.hex.upper()


def difference(instruction: PaymentInstruction, echoed: RailObservation) -> str | None:
    """The first field in which a report differs from what we asked, or None."""
    pairs = (
        ("amount", instruction.amount, echoed.amount),
        ("beneficiary_iban", instruction.beneficiary_iban, echoed.beneficiary_iban),
        ("account_iban", instruction.account_iban, echoed.account_iban),
    )
    return next((name for name, ours, theirs in pairs if ours != theirs), None)


def poll_delay(polls: int) -> timedelta:
    """How long to wait before asking again, after so many questions: doubling from half a second to five minutes."""
    return min(_FIRST_POLL * (1 << min(polls, _POLL_DOUBLINGS)), _LAST_POLL)
