"""The rule by which books and chain are compared at a height. Pure; nowhere else is it decided what may differ.

Equal means: the vault's posted balance, plus the opening, is what the entries say. Both are taken at the same final height,
in one database transaction that has just booked it. So
- what is observed and not final is in neither: books are compared with the state at the final height, not at the newest block;
- a transaction of ours in flight is in neither: its hold is pending, and only posted balances count; in the block that holds
  it, its amount and its fee are booked in the transaction that compares;
- an asset that is not listed has no books, and is not compared; listed later, what had come until then is opening;
- what an account held before the first ledger that we read of it is its **opening**: known, shown, and no break. It is taken when
  the first ledger is read: what the entries held before it, less what the books had. What is booked later of a ledger before that
  one (an address's history that is read later, money that came before its asset was listed) is taken out of the opening again.
  Where blocks do not show every change (EVM chains) nothing is opening until the chain was asked what lay there before all that
  we read: else what came unseen would pass for it;
- a height of a branch that the chain has left: it counts neither as a state nor as a comparison (`chain_rewinds`).
Everything else is a break: a clawback, a payment by a key used elsewhere, a claimed balance that nobody booked, a booking without
money, a ledger that was not read.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from custody.holdings.model import Comparison, Difference, HoldingBreak, TransactionEffect


class Finding(StrEnum):
    """What a comparison means, given what was known."""

    EQUAL = "equal"
    """Books and chain agree, as before."""
    OPENS = "opens"
    """They differ, and no break was open."""
    PERSISTS = "persists"
    """They differ, and a break is open."""
    CLOSES = "closes"
    """They agree again."""


def judge(compared: Comparison, known: HoldingBreak | None) -> Finding:
    """What this comparison means when `known` is the holding's open break."""
    if compared.difference:
        return Finding.OPENS if known is None else Finding.PERSISTS
    return Finding.EQUAL if known is None else Finding.CLOSES


WHOLE_TRANSACTION = "transaction"
"""What `Difference.movement` says where no single movement is known."""


def opening_of(before: int, books: int) -> int:
    """What no booking explains of a holding when its first ledger is read: the entries held `before`, the books had `books`."""
    return before - books


def first_differing(effects: Iterable[TransactionEffect]) -> Difference | None:
    """The first movement of a block that is booked otherwise than it happened; None when all are booked alike.

    A transaction counts as a whole: what it brings and takes at once, unbooked on both sides, is no difference."""
    for each in effects:
        if each.chain != each.books:
            for moved in each.movements:
                if moved.chain != moved.books:
                    return Difference(
                        tx_hash=each.tx_hash, movement=moved.movement, chain=moved.chain, books=moved.books
                    )
            return Difference(
                tx_hash=each.tx_hash, movement=WHOLE_TRANSACTION, chain=each.chain, books=each.books
            )
    return None


def exceeds(difference: int, threshold: int) -> bool:
    """Whether books and chain differ by more than is let pass, either way."""
    return abs(difference) > threshold
