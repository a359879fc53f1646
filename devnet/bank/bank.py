"""What can be asked of the sandbox bank, and what it does by itself when time passes."""

from __future__ import annotations

import re
import uuid
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta

from schwifty import IBAN
from schwifty.exceptions import SchwiftyException

from devnet.bank.book import Book, Journal, show_payment
from devnet.bank.ibans import Answer, Behaviour, Notify, behaviour_of
from devnet.bank.model import Account, BankError, Callback, JsonObject, Payment, PaymentOrder

_AMOUNT = re.compile(r"[1-9][0-9]{0,14}")
_REFERENCE = re.compile(r"[A-Za-z0-9/?:().,'+-]{1,35}")
"""Source: EPC217-08, the character set of SEPA references."""
_LATE_BY = 3
"""A late callback waits this many settlement delays after the last step."""


class Bank:
    """Accounts in EUR, payments by the customer's reference, credits from outside. Not safe for several threads."""

    def __init__(self, journal: Journal, settle_after: timedelta) -> None:
        """Reads the journal back. `settle_after` lies between acceptance and each following step."""
        self._journal = journal
        self._settle_after = settle_after
        self.book = Book()
        for record in journal.records():
            self.book.apply(record)

    def open_account(self, iban: str, holder: str, now: datetime) -> Account:
        """Open an account, or return the one that is open. Raises BankError."""
        checked = _checked_iban(iban)
        if checked not in self.book.accounts:
            self._write({"kind": "account_opened", "at": now.isoformat(), "iban": checked, "holder": holder})
        return self.book.accounts[checked]

    def take(self, order: PaymentOrder, now: datetime) -> Payment:
        """Accept or refuse a payment. Idempotent by end_to_end_id; another order under the same one is refused with 409."""
        known = self.book.payments.get(order.end_to_end_id)
        if known is not None:
            if known.order != order:
                raise BankError(409, "reference_reused", "this end_to_end_id was used for another order")
            return known
        self._check(order)
        behaviour = behaviour_of(order.creditor_iban)
        if behaviour.answer is Answer.OUTAGE and order.end_to_end_id not in self.book.turned_away:
            self._write({"kind": "turned_away", "end_to_end_id": order.end_to_end_id})
            raise BankError(503, "try_later", "nothing was accepted")
        refusal = self._refusal(order, behaviour)
        self._write(
            {
                "kind": "payment_taken",
                "at": now.isoformat(),
                "id": f"pmt_{uuid.uuid4().hex}",
                "order": asdict(order),
                "status": "refused" if refusal else "accepted",
                "code": refusal,
                "due": [] if refusal else self._plan(behaviour, now),
            }
        )
        return self.book.payments[order.end_to_end_id]

    def receive(self, incoming: JsonObject, now: datetime) -> JsonObject:
        """Book money that somebody outside sends to an account here. Raises BankError."""
        account = self._account(incoming["account"])
        if not _AMOUNT.fullmatch(incoming["amount"]):
            raise BankError(400, "bad_amount")
        told = {
            "id": f"inc_{uuid.uuid4().hex}",
            "account": account.iban,
            "amount": incoming["amount"],
            "currency": "EUR",
            "remittance": incoming["remittance"],
            "debtor_iban": _checked_iban(incoming["debtor_iban"]),
            "debtor_name": incoming["debtor_name"],
        }
        self._write({"kind": "incoming_booked", "at": now.isoformat(), "incoming": told})
        return told

    def find(self, end_to_end_id: str) -> JsonObject:
        """A payment with its history, by the customer's reference. Raises BankError 404."""
        payment = self.book.payments.get(end_to_end_id)
        if payment is None:
            raise BankError(404, "unknown_reference")
        return {**show_payment(payment), "events": [asdict(event) for event in payment.events]}

    def statement(self, iban: str, first: date, last: date) -> JsonObject:
        """Booked entries of these days (UTC, both included) with the balance before, after, and after each."""
        account = self._account(iban)
        opening = 0
        lines = []
        for entry in account.entries:
            day = entry.at.astimezone(UTC).date()
            if day < first:
                opening = entry.balance
            elif day <= last:
                lines.append(
                    {
                        **asdict(entry),
                        "at": entry.at.isoformat(),
                        "amount": str(entry.amount),
                        "balance": str(entry.balance),
                    }
                )
        return {
            "account": account.iban,
            "currency": "EUR",
            "from": first.isoformat(),
            "to": last.isoformat(),
            "opening": str(opening),
            "closing": lines[-1]["balance"] if lines else str(opening),
            "entries": lines,
        }

    def advance(self, now: datetime) -> None:
        """Let everything happen whose time has come."""
        for payment in list(self.book.payments.values()):
            while payment.due and datetime.fromisoformat(payment.due[0]["at"]) <= now:
                self._write(
                    {
                        "kind": "payment_advanced",
                        "at": now.isoformat(),
                        "end_to_end_id": payment.order.end_to_end_id,
                    }
                )

    def callbacks_due(self, now: datetime) -> list[Callback]:
        """Messages that the customer should have been told by now, oldest first."""
        return [callback for callback in self.book.callbacks.values() if callback.not_before <= now]

    def confirm_callback(self, callback_id: str) -> None:
        """One delivery was answered with 2xx."""
        self._write({"kind": "callback_delivered", "id": callback_id})

    def _write(self, record: JsonObject) -> None:
        self._journal.append(record)
        self.book.apply(record)

    def _account(self, iban: str) -> Account:
        account = self.book.accounts.get(_checked_iban(iban))
        if account is None:
            raise BankError(404, "unknown_account")
        return account

    def _check(self, order: PaymentOrder) -> None:
        if not _REFERENCE.fullmatch(order.end_to_end_id):
            raise BankError(400, "bad_reference")
        if not _AMOUNT.fullmatch(order.amount):
            raise BankError(400, "bad_amount")
        if order.currency != "EUR":
            raise BankError(400, "bad_currency")
        self._account(order.debtor_iban)
        _checked_iban(order.creditor_iban)

    def _refusal(self, order: PaymentOrder, behaviour: Behaviour) -> str:
        if behaviour.answer is Answer.REFUSE:
            return behaviour.code
        # AM04: insufficient funds. Source: ISO 20022 external status reason codes.
        return "AM04" if self.book.available(order.debtor_iban) < int(order.amount) else ""

    def _plan(self, behaviour: Behaviour, now: datetime) -> list[JsonObject]:
        times = [now + self._settle_after * (n + 1) for n in range(len(behaviour.steps))]
        late = now + self._settle_after * (len(behaviour.steps) + _LATE_BY)
        return [
            {
                "at": at.isoformat(),
                "status": step.status,
                "code": step.code,
                "notify": step.notify.value,
                "tell_at": (late if step.notify is Notify.LATE else at).isoformat(),
            }
            for step, at in zip(behaviour.steps, times, strict=True)
        ]


def _checked_iban(text: str) -> str:
    try:
        return str(IBAN(text))
    except SchwiftyException as wrong:
        raise BankError(400, "bad_iban", str(wrong)) from wrong
