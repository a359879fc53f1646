"""The sandbox bank's own rules: one payment per reference, a balance after every line, a journal that brings it all back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from schwifty import IBAN

from devnet.bank.bank import Bank
from devnet.bank.book import Book, Journal
from devnet.bank.ibans import (
    NORMAL,
    OUTAGE_FIRST,
    REFUSED,
    RETURNED,
    TOLD_OUT_OF_ORDER,
    behaviour_of,
    sandbox_iban,
)
from devnet.bank.model import BankError, PaymentOrder

OURS = sandbox_iban(1)
T0 = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
STEP = timedelta(seconds=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bank.jsonl"


@pytest.fixture
def bank(path: Path) -> Iterator[Bank]:
    journal = Journal(path)
    opened = Bank(journal, STEP)
    opened.open_account(OURS, "Custody", T0)
    pay_in(opened, 10_000)
    yield opened
    journal.close()


def pay_in(bank: Bank, amount: int) -> None:
    bank.receive(
        {
            "account": OURS,
            "amount": str(amount),
            "remittance": "",
            "debtor_iban": sandbox_iban(7),
            "debtor_name": "Outsider",
        },
        T0,
    )


def make_order(ending: int = NORMAL, amount: str = "2500", reference: str = "CP1") -> PaymentOrder:
    return PaymentOrder(
        end_to_end_id=reference,
        debtor_iban=OURS,
        creditor_iban=sandbox_iban(ending),
        creditor_name="Grace Hopper",
        amount=amount,
        currency="EUR",
        remittance="",
    )


def refusal(bank: Bank, order: PaymentOrder) -> tuple[int, str]:
    with pytest.raises(BankError) as caught:
        bank.take(order, T0)
    return caught.value.status, caught.value.code


def test_every_sandbox_iban_is_valid() -> None:
    for ending in (1, NORMAL, REFUSED, OUTAGE_FIRST):
        iban = sandbox_iban(ending)
        assert IBAN(iban).is_valid
        assert iban.endswith(f"{ending:04d}")
    assert behaviour_of("FR1420041010050500013M02606") == behaviour_of(sandbox_iban(NORMAL))


def test_an_equal_order_again_is_the_same_payment_and_another_is_refused(bank: Bank) -> None:
    first = bank.take(make_order(), T0)
    assert bank.take(make_order(), T0 + STEP) is first
    for change in ({"amount": "2501"}, {"creditor_name": "Ada"}, {"remittance": "x"}):
        assert refusal(bank, replace(make_order(), **change)) == (409, "reference_reused")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"amount": "0"}, (400, "bad_amount")),
        ({"amount": "-1"}, (400, "bad_amount")),
        ({"amount": "1.5"}, (400, "bad_amount")),
        ({"amount": "1e3"}, (400, "bad_amount")),
        ({"currency": "USD"}, (400, "bad_currency")),
        ({"creditor_iban": "DE00"}, (400, "bad_iban")),
        ({"debtor_iban": sandbox_iban(9)}, (404, "unknown_account")),
        ({"end_to_end_id": ""}, (400, "bad_reference")),
        ({"end_to_end_id": "x" * 36}, (400, "bad_reference")),
    ],
)
def test_a_bad_order_is_refused_and_forgotten(
    bank: Bank, change: dict[str, str], expected: tuple[int, str]
) -> None:
    assert refusal(bank, replace(make_order(), **change)) == expected
    assert bank.book.payments == {}


def test_accepted_payments_reserve_what_they_will_take(bank: Bank) -> None:
    assert bank.take(make_order(amount="6000", reference="A"), T0).status == "accepted"
    assert bank.take(make_order(amount="4001", reference="B"), T0).events[0].code == "AM04"
    assert bank.take(make_order(amount="4000", reference="C"), T0).status == "accepted"
    assert (bank.book.accounts[OURS].balance, bank.book.available(OURS)) == (10_000, 0)


def test_time_settles_and_returns_with_a_balance_after_each_line(bank: Bank) -> None:
    bank.take(make_order(RETURNED), T0)
    for moment, status, balance in (
        (T0, "accepted", 10_000),
        (T0 + STEP, "settled", 7_500),
        (T0 + 2 * STEP, "returned", 10_000),
    ):
        bank.advance(moment)
        assert bank.find("CP1")["status"] == status
        assert bank.book.accounts[OURS].balance == balance
    assert [(entry.amount, entry.balance) for entry in bank.book.accounts[OURS].entries] == [
        (10_000, 10_000),
        (-2_500, 7_500),
        (2_500, 10_000),
    ]


def test_a_payment_between_two_accounts_here_books_both(bank: Bank) -> None:
    bank.open_account(sandbox_iban(NORMAL), "Grace", T0)
    bank.take(make_order(), T0)
    bank.advance(T0 + STEP)
    assert bank.book.accounts[sandbox_iban(NORMAL)].balance == 2_500


def test_an_order_told_out_of_order_tells_the_return_first(bank: Bank) -> None:
    bank.confirm_callback(bank.callbacks_due(T0)[0].id)
    bank.take(make_order(TOLD_OUT_OF_ORDER), T0)
    told: list[str] = []
    for seconds in range(10):
        now = T0 + seconds * STEP
        bank.advance(now)
        for callback in bank.callbacks_due(now):
            told.append(callback.body["event"]["status"])
            bank.confirm_callback(callback.id)
    assert told == ["returned", "settled"]


def test_the_first_try_into_an_outage_leaves_nothing(bank: Bank) -> None:
    assert refusal(bank, make_order(OUTAGE_FIRST)) == (503, "try_later")
    with pytest.raises(BankError, match="unknown_reference"):
        bank.find("CP1")
    assert bank.take(make_order(OUTAGE_FIRST), T0).status == "accepted"


def test_the_journal_brings_everything_back_at_every_length(bank: Bank, path: Path) -> None:
    bank.take(make_order(RETURNED), T0)
    bank.advance(T0 + 3 * STEP)
    bank.confirm_callback(bank.callbacks_due(T0)[0].id)
    reopened = Journal(path)
    reopened.close()
    again = Bank(reopened, STEP)
    assert again.statement(OURS, T0.date(), T0.date()) == bank.statement(OURS, T0.date(), T0.date())
    assert again.find("CP1") == bank.find("CP1")
    assert again.book.callbacks == bank.book.callbacks
    whole = path.read_bytes()
    for cut in range(len(whole)):
        torn = path.with_name("torn.jsonl")
        torn.write_bytes(whole[:cut])
        journal = Journal(torn)
        journal.close()
        records = list(journal.records())
        book = Book()
        for record in records:
            book.apply(record)
        assert len(records) == whole[:cut].count(b"\n")


def test_statements_of_other_days_carry_the_balance(bank: Bank) -> None:
    day = T0.date()
    before = bank.statement(OURS, day - timedelta(days=2), day - timedelta(days=1))
    after = bank.statement(OURS, day + timedelta(days=1), day + timedelta(days=2))
    assert (before["opening"], before["closing"], after["opening"], after["closing"]) == (
        "0", "0", "10000", "10000"
    )  # fmt: skip
    assert before["entries"] == after["entries"] == []


def test_a_payment_echoes_its_order(bank: Bank) -> None:
    bank.take(make_order(), T0)
    assert {**asdict(make_order())}.items() <= bank.find("CP1").items()
