"""The bank's books: every change is a record, written to the journal first and folded into memory second.

Starting again reads the same records and comes to the same state, so that a bank killed at any moment has neither forgotten a
payment nor booked one twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from devnet.bank.model import Account, Callback, Entry, JsonObject, Payment, PaymentEvent, PaymentOrder

_SIGNS = {"settled": ("payment", -1), "returned": ("return", 1)}
"""What a payment's status books on the payer's account."""


class Journal:
    """One JSON record per line, each on the disk before it takes effect."""

    def __init__(self, path: Path) -> None:
        """Opens or creates the file. A last line cut off by a crash is dropped: it never took effect."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        whole = path.read_bytes()
        complete = whole[: whole.rfind(b"\n") + 1]
        if complete != whole:
            path.write_bytes(complete)
        self._path = path
        self._file = path.open("ab")

    def records(self) -> Iterator[JsonObject]:
        """Everything written so far, oldest first."""
        for line in self._path.read_text().splitlines():
            yield json.loads(line)

    def append(self, record: JsonObject) -> None:
        """Write and sync one record."""
        self._file.write(json.dumps(record, separators=(",", ":")).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Release the file."""
        self._file.close()


class Book:
    """All accounts, payments and undelivered callbacks, as the fold of the journal's records."""

    def __init__(self) -> None:
        """Empty."""
        self.accounts: dict[str, Account] = {}
        self.payments: dict[str, Payment] = {}
        """By the customer's end_to_end_id."""
        self.callbacks: dict[str, Callback] = {}
        self.turned_away: set[str] = set()
        """References that have been answered 503 once."""

    def apply(self, record: JsonObject) -> None:
        """Fold in one record. Records were checked before they were written, so this cannot refuse."""
        match record["kind"]:
            case "account_opened":
                self.accounts[record["iban"]] = Account(iban=record["iban"], holder=record["holder"])
            case "payment_taken":
                self._take(record)
            case "payment_advanced":
                self._advance(record)
            case "incoming_booked":
                self._receive(record)
            case "callback_delivered":
                self._confirm(record)
            case "turned_away":
                self.turned_away.add(record["end_to_end_id"])
            case other:
                raise ValueError(f"the journal holds a record of unknown kind {other!r}")

    def available(self, iban: str) -> int:
        """Booked balance less what accepted payments will still take, in minor units."""
        reserved = sum(
            payment.amount
            for payment in self.payments.values()
            if payment.order.debtor_iban == iban and payment.status == "accepted"
        )
        return self.accounts[iban].balance - reserved

    def _take(self, record: JsonObject) -> None:
        order = PaymentOrder(**record["order"])
        event = PaymentEvent(
            id=f"evt_{record['id']}_0", status=record["status"], code=record["code"], at=record["at"]
        )
        self.payments[order.end_to_end_id] = Payment(
            id=record["id"], order=order, events=[event], due=list(record["due"])
        )

    def _advance(self, record: JsonObject) -> None:
        payment = self.payments[record["end_to_end_id"]]
        step = payment.due.pop(0)
        event = PaymentEvent(
            id=f"evt_{payment.id}_{len(payment.events)}",
            status=step["status"],
            code=step["code"],
            at=record["at"],
        )
        payment.events.append(event)
        if event.status in _SIGNS:
            kind, sign = _SIGNS[event.status]
            self._book(payment.order.debtor_iban, kind, payment, sign * payment.amount, event)
            self._book(payment.order.creditor_iban, kind, payment, -sign * payment.amount, event)
        if step["notify"] != "never":
            self.callbacks[event.id] = Callback(
                id=event.id,
                body={
                    "type": f"payment.{event.status}",
                    "event": asdict(event),
                    "payment": show_payment(payment),
                },
                not_before=datetime.fromisoformat(step["tell_at"]),
                copies=2 if step["notify"] == "twice" else 1,
            )

    def _receive(self, record: JsonObject) -> None:
        incoming = record["incoming"]
        account = self.accounts[incoming["account"]]
        at = datetime.fromisoformat(record["at"])
        amount = int(incoming["amount"])
        account.entries.append(
            Entry(
                id=f"ent_{incoming['id']}",
                at=at,
                kind="incoming",
                object_id=incoming["id"],
                reference="",
                amount=amount,
                balance=account.balance + amount,
                remittance=incoming["remittance"],
            )
        )
        event_id = f"evt_{incoming['id']}"
        self.callbacks[event_id] = Callback(
            id=event_id,
            body={
                "type": "incoming.booked",
                "event": {"id": event_id, "status": "booked", "code": "", "at": record["at"]},
                "incoming": incoming,
            },
            not_before=at,
            copies=1,
        )

    def _confirm(self, record: JsonObject) -> None:
        callback = self.callbacks[record["id"]]
        callback.copies -= 1
        if callback.copies == 0:
            del self.callbacks[record["id"]]

    def _book(self, iban: str, kind: str, payment: Payment, amount: int, event: PaymentEvent) -> None:
        account = self.accounts.get(iban)
        if account is None:
            return
        account.entries.append(
            Entry(
                id=f"ent_{event.id}",
                at=datetime.fromisoformat(event.at),
                kind=kind,
                object_id=payment.id,
                reference=payment.order.end_to_end_id,
                amount=amount,
                balance=account.balance + amount,
                remittance=payment.order.remittance,
            )
        )


def show_payment(payment: Payment) -> JsonObject:
    """A payment as the bank tells it: what was asked, echoed back, and where it stands."""
    return {"id": payment.id, "status": payment.status, **asdict(payment.order)}
