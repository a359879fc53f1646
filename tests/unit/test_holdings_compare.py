"""When books and chain may differ, and when a difference is a break: one row per rule."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from custody.holdings.compare import Finding, exceeds, first_differing, judge, opening_of
from custody.holdings.model import (
    Comparison,
    Difference,
    HoldingBreak,
    MovementEffect,
    TransactionEffect,
)
from custody.kernel.assetid import ChainId, parse_asset_id
from custody.kernel.ids import VaultId, derived_uuid

XLM = parse_asset_id("stellar:devnet/native")
EQUAL = Comparison(
    vault_id=VaultId(derived_uuid("vault")),
    asset=XLM,
    height=20,
    state_height=19,
    books=100,
    opening=0,
    chain=100,
)
OPEN = HoldingBreak(
    id=derived_uuid("break"),
    state="open",
    chain=ChainId("stellar:devnet"),
    opened=replace(EQUAL, books=90),
    first_height=19,
    first=None,
    difference=-10,
    opened_at=datetime(2026, 1, 1, tzinfo=UTC),
    closed_height=None,
    closed_at=None,
)


@pytest.mark.parametrize(
    ("books", "opening", "chain", "difference"),
    [
        (100, 0, 100, 0),
        # What lay there before the first ledger that was read is known and no break.
        (100, 40, 140, 0),
        # Books that once had more than the chain: an opening below zero.
        (100, -40, 60, 0),
        # A clawback, or a payment by a key used elsewhere: the books have too much.
        (100, 0, 99, 1),
        # Money that nobody booked: the books have too little.
        (100, 0, 101, -1),
        # An opening is no allowance for anything else.
        (100, 40, 100, 40),
        # A merged account holds nothing.
        (100, 0, 0, 100),
        (0, 0, 0, 0),
    ],
)
def test_books_and_opening_make_what_the_chain_shows(
    books: int, opening: int, chain: int, difference: int
) -> None:
    compared = replace(EQUAL, books=books, opening=opening, chain=chain)
    assert compared.difference == difference
    assert judge(compared, None) is (Finding.OPENS if difference else Finding.EQUAL)


@pytest.mark.parametrize(
    ("chain", "known", "finding"),
    [
        (100, None, Finding.EQUAL),
        (101, None, Finding.OPENS),
        (101, OPEN, Finding.PERSISTS),
        # Another difference than before is the same break still.
        (102, OPEN, Finding.PERSISTS),
        (100, OPEN, Finding.CLOSES),
    ],
)
def test_a_break_opens_once_and_closes_when_equal(
    chain: int, known: HoldingBreak | None, finding: Finding
) -> None:
    assert judge(replace(EQUAL, chain=chain), known) is finding


def test_the_opening_is_what_no_booking_explains() -> None:
    assert opening_of(before=0, books=0) == 0
    assert opening_of(before=500, books=0) == 500
    # The books were there before the state was read: an installation that is upgraded.
    assert opening_of(before=500, books=500) == 0
    assert opening_of(before=500, books=510) == -10


def effect(name: str, chain: int, books: int) -> TransactionEffect:
    return TransactionEffect(tx_hash=name, chain=chain, books=books)


def test_the_first_transaction_that_is_booked_otherwise_is_named() -> None:
    alike = effect("01", 5, 5)
    assert first_differing([]) is None
    assert first_differing([alike, effect("02", 0, 0)]) is None
    found = first_differing([alike, effect("02", -7, 0), effect("03", 1, 2)])
    assert found == Difference(tx_hash="02", movement="transaction", chain=-7, books=0)


def test_within_a_transaction_the_first_movement_that_is_booked_otherwise_is_named() -> None:
    def moved(movement: str, chain: int, books: int) -> MovementEffect:
        return MovementEffect(movement=movement, chain=chain, books=books)

    parts = (moved("arrival:7", 5, 5), moved("departure", -9, -8), moved("fee", -1, -1))
    whole = TransactionEffect(tx_hash="02", chain=-5, books=-4, movements=parts)
    assert first_differing([whole]) == Difference(tx_hash="02", movement="departure", chain=-9, books=-8)
    # What comes back at once, unbooked both ways, is no difference.
    there_and_back = (moved("arrival:1", 3, 0), moved("departure", -3, 0))
    assert (
        first_differing([TransactionEffect(tx_hash="03", chain=0, books=0, movements=there_and_back)]) is None
    )


@pytest.mark.parametrize(
    ("difference", "threshold", "stops"),
    [(1, 0, True), (-1, 0, True), (5, 5, False), (-5, 5, False), (6, 5, True), (-6, 5, True)],
)
def test_a_difference_stops_above_the_threshold_either_way(
    difference: int, threshold: int, stops: bool
) -> None:
    assert exceeds(difference, threshold) is stops
