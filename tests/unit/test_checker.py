"""The independent checker notices each way in which books and chain can differ, and shares no code with the product."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from devnet.checker.compare import compare
from devnet.checker.model import Attempt, Books, Chain, Deposit, Payment, Withdrawal

ROOT = Path(__file__).resolve().parents[2]
CHAIN = "eip155:31337"
ETH, OURS, PAYER, PAYEE = f"{CHAIN}/native", "0xAa", "0xbb", "0xcc"
PAID = Payment(tx_hash="out", asset=ETH, source="0xaa", destination=PAYEE, amount=30)
CAME = Payment(tx_hash="in", asset=ETH, source=PAYER, destination="0xaa", amount=100)
SETTLED = Withdrawal(
    id="wdr_1",
    kind="payment",
    state="settled",
    asset=ETH,
    amount=30,
    destination="0xCC",
    memo=None,
    stuck=None,
    attempts=(Attempt(state="lapsed", tx_hash="lost"), Attempt(state="confirmed", tx_hash="out")),
)
RELEASED = replace(SETTLED, id="wdr_2", state="cancelled", attempts=())
CREDITED = Deposit(
    id="dep_1", state="credited", asset=ETH, amount=100, tx_hash="in", account=OURS, wallet="wal_1"
)
BOOKS = Books(
    accounts={CHAIN: frozenset({OURS})},
    addresses={("0xaa", ""): "wal_1"},
    owed={ETH: 70},
    held={ETH: 0},
    withdrawals=(SETTLED, RELEASED),
    deposits=(CREDITED, replace(CREDITED, id="dep_0", tx_hash="replaced", state="orphaned")),
)
SEEN = Chain(
    name=CHAIN, height=9, payments=(CAME, PAID), ours={"out": True}, fees=2, balances={(OURS, ETH): 68}
)


def test_nothing_is_wrong_where_books_and_chain_agree() -> None:
    assert compare(BOOKS, [SEEN]) == []


def withdrawn(**changes: object) -> Books:
    return replace(BOOKS, withdrawals=(replace(SETTLED, **changes), RELEASED))  # type: ignore[arg-type]


def paid(*payments: Payment) -> Chain:
    return replace(SEEN, payments=(CAME, *payments))


Case = tuple[Callable[[], tuple[Books, Chain]], str]
CASES: dict[str, Case] = {
    "not paid": (lambda: (BOOKS, paid()), "settled and should have paid"),
    "paid twice": (lambda: (BOOKS, paid(PAID, PAID)), "settled and should have paid"),
    "another amount": (lambda: (BOOKS, paid(replace(PAID, amount=31))), "settled and should have paid"),
    "another payee": (lambda: (BOOKS, paid(replace(PAID, destination="0xdd"))), "should have paid"),
    "paid by both attempts": (
        lambda: (BOOKS, paid(PAID, replace(PAID, tx_hash="lost"))),
        "settled and should have paid",
    ),
    "paid and released": (lambda: (withdrawn(state="failed"), SEEN), "on chain it paid"),
    "not ended": (lambda: (withdrawn(state="broadcasting", attempts=()), SEEN), "has not ended"),
    "stuck": (lambda: (withdrawn(stuck="nonce_gap"), SEEN), "is stuck"),
    "nobody's payment": (
        lambda: (BOOKS, replace(SEEN, ours={"out": True, "theft": True}, payments=(CAME, PAID))),
        "no withdrawal knows it",
    ),
    "one transaction of two": (
        lambda: (replace(BOOKS, withdrawals=(SETTLED, replace(SETTLED, id="wdr_3"))), SEEN),
        "belongs to 2 withdrawals",
    ),
    "not credited": (lambda: (replace(BOOKS, deposits=()), SEEN), "and not booked"),
    "credited twice": (
        lambda: (replace(BOOKS, deposits=(CREDITED, replace(CREDITED, id="dep_2"))), SEEN),
        "booked and not on",
    ),
    "credited to another wallet": (
        lambda: (replace(BOOKS, deposits=(replace(CREDITED, wallet="wal_2"),)), SEEN),
        "booked and not on",
    ),
    "not decided": (
        lambda: (replace(BOOKS, deposits=(CREDITED, replace(CREDITED, state="observed"))), SEEN),
        "has not been decided about",
    ),
    "one unit too many owed": (lambda: (replace(BOOKS, owed={ETH: 71}), SEEN), "wallets own 71"),
    "one unit too few there": (
        lambda: (BOOKS, replace(SEEN, balances={(OURS, ETH): 67})),
        "accounts hold 67",
    ),
    "a hold is left": (lambda: (replace(BOOKS, held={ETH: 1}), SEEN), "is still held"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_each_difference_is_told(case: Case) -> None:
    build, told = case
    books, chain = build()
    assert told in " ".join(compare(books, [chain]))


def test_the_checker_has_no_code_of_the_product() -> None:
    packages = ("custody", "ingestion", "signer", "api", "rails", "cli")
    script = (
        f"import sys, devnet.checker.main; print([m for m in sys.modules if m.split('.')[0] in {packages}])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
