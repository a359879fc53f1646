"""The sandbox bank's JSON, read strictly: every field is checked before a domain object is made of it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime

from custody.banking.model import BankStatement, EntryKind, StatementEntry
from custody.kernel.assetid import FIAT, AssetId
from custody.kernel.jsontext import nests_too_deeply
from custody.kernel.money import Amount
from custody.payouts.model import PaymentInstruction, RailEvent, RailObservation
from custody.receipts.model import BankReceipt

Json = Mapping[str, object]

_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,30})")
_NO_TEXT = re.compile(r"[\x00\ud800-\udfff]")
_CURRENCY = re.compile(r"[A-Z]{3}")
_EVENTS = {
    "accepted": RailEvent.ACCEPTED,
    "refused": RailEvent.REJECTED,
    "rejected": RailEvent.REJECTED,
    "settled": RailEvent.SETTLED,
    "returned": RailEvent.RETURNED,
}


class Unreadable(ValueError):
    """The bank's words are not of the documented form. Carries what is wrong, never the words."""


def payment_order(instruction: PaymentInstruction) -> dict[str, str]:
    """The body of a payment order."""
    return {
        "end_to_end_id": instruction.reference,
        "debtor_iban": instruction.account_iban,
        "creditor_iban": instruction.beneficiary_iban,
        "creditor_name": instruction.beneficiary_name,
        "amount": str(instruction.amount.atomic),
        "currency": instruction.amount.asset.reference,
        "remittance": instruction.remittance,
    }


def read_object(raw: bytes) -> Json:
    """A JSON object. Raises Unreadable."""
    try:
        told = raw.decode("utf-8")
        found = None if nests_too_deeply(told) else json.loads(told)
    except ValueError as wrong:
        raise Unreadable("not JSON") from wrong
    return _object(found)


def payment_observation(rail: str, payment: Json, event: Json, raw: bytes) -> RailObservation:
    """One fact about a payment, with what the bank echoes of our order. Raises Unreadable."""
    status = text(event, "status")
    if status not in _EVENTS:
        raise Unreadable("unknown status")
    return RailObservation(
        rail=rail,
        external_event_id=text(event, "id"),
        external_ref=text(payment, "id"),
        account_iban=text(payment, "debtor_iban"),
        reference=text(payment, "end_to_end_id"),
        event=_EVENTS[status],
        code=text(event, "code"),
        amount=_amount(payment),
        beneficiary_iban=text(payment, "creditor_iban"),
        occurred_at=_moment(event, "at"),
        raw_sha256=hashlib.sha256(raw).digest(),
    )


def payment_history(rail: str, payment: Json, raw: bytes) -> tuple[RailObservation, ...]:
    """All facts of a status answer, oldest first. Raises Unreadable."""
    return tuple(payment_observation(rail, payment, event, raw) for event in _objects(payment, "events"))


def bank_receipt(rail: str, incoming: Json, event: Json, raw: bytes) -> BankReceipt:
    """One arrival. Raises Unreadable."""
    return BankReceipt(
        rail=rail,
        external_event_id=text(event, "id"),
        external_ref=text(incoming, "id"),
        account_iban=text(incoming, "account"),
        amount=_amount(incoming),
        remittance=text(incoming, "remittance"),
        debtor_iban=text(incoming, "debtor_iban"),
        debtor_name=text(incoming, "debtor_name"),
        occurred_at=_moment(event, "at"),
        raw_sha256=hashlib.sha256(raw).digest(),
    )


def bank_statement(found: Json) -> BankStatement:
    """A statement. Raises Unreadable, also when its lines do not lead from the opening to the closing balance."""
    entries = tuple(_entry(line) for line in _objects(found, "entries"))
    opening, closing = integer(found, "opening"), integer(found, "closing")
    running = opening
    for entry in entries:
        running += entry.amount
        if running != entry.balance:
            raise Unreadable("the balances do not follow from the entries")
    if running != closing:
        raise Unreadable("the closing balance does not follow from the entries")
    return BankStatement(
        iban=text(found, "account"), asset=_currency(found), opening=opening, closing=closing, entries=entries
    )


def inner(container: Json, name: str) -> Json:
    """An object within an object. Raises Unreadable."""
    return _object(container.get(name))


def text(container: Json, name: str) -> str:
    """A text field. Raises Unreadable."""
    found = container.get(name)
    if not isinstance(found, str):
        raise Unreadable(f"{name} is missing or no text")
    # JSON may name both by escapes; no database column holds either.
    if _NO_TEXT.search(found):
        raise Unreadable(f"{name} holds a NUL or half a character")
    return found


def integer(container: Json, name: str) -> int:
    """An integer that travels as text. Raises Unreadable."""
    found = text(container, name)
    if not _INTEGER.fullmatch(found):
        raise Unreadable(f"{name} is no integer")
    return int(found)


def _entry(line: Json) -> StatementEntry:
    kind = text(line, "kind")
    if kind not in {known.value for known in EntryKind}:
        raise Unreadable("unknown kind of entry")
    return StatementEntry(
        kind=EntryKind(kind),
        external_ref=text(line, "object_id"),
        reference=text(line, "reference"),
        amount=integer(line, "amount"),
        balance=integer(line, "balance"),
        booked_at=_moment(line, "at"),
    )


def _amount(container: Json) -> Amount:
    return Amount(_currency(container), integer(container, "amount"))


def _currency(container: Json) -> AssetId:
    found = text(container, "currency")
    if not _CURRENCY.fullmatch(found):
        raise Unreadable("currency is no ISO 4217 code")
    return AssetId(FIAT, found)


def _moment(container: Json, name: str) -> datetime:
    try:
        found = datetime.fromisoformat(text(container, name))
    except ValueError as wrong:
        raise Unreadable(f"{name} is no time") from wrong
    if found.tzinfo is None:
        raise Unreadable(f"{name} has no time zone")
    return found


def _objects(container: Json, name: str) -> list[Json]:
    found = container.get(name)
    if not isinstance(found, list):
        raise Unreadable(f"{name} is no list")
    return [_object(item) for item in found]


def _object(found: object) -> Json:
    if not isinstance(found, dict):
        raise Unreadable("an object is missing")
    return found
