"""Comparing two sides: equal, different, or not proved."""

from __future__ import annotations

import pytest

from custody.kernel.assetid import parse_asset_id
from custody.kernel.ids import new_uuid
from custody.recon.compare import amount_at, break_of, trial_breaks, unmatched_lines
from custody.recon.model import BankLine, BreakKind, ChainReading, Holding, ReconRow

EUR = parse_asset_id("fiat/EUR")
HOLDING = Holding(owner="bank sandbox DE00", owner_id=new_uuid(), asset=EUR)


@pytest.mark.parametrize(
    ("readings", "height", "expected"),
    [
        ([], 5, None),
        ([(5, 70)], 5, 70),
        ([(5, 70), (5, 71)], 5, 71),
        ([(4, 70)], 5, None),
        ([(6, 70)], 5, None),
        ([(4, 70), (6, 70)], 5, 70),
        ([(4, 70), (6, 71)], 5, None),
        ([(2, 60), (4, 70), (6, 70), (9, 80)], 5, 70),
        ([(2, 70), (4, 60), (6, 60), (9, 70)], 3, None),
    ],
)
def test_an_amount_is_taken_only_where_the_readings_prove_it(
    readings: list[tuple[int, int]], height: int, expected: int | None
) -> None:
    given = [ChainReading(height=at, amount=amount) for at, amount in readings]
    assert amount_at(given, height) == expected


@pytest.mark.parametrize(
    ("books", "outside", "kind"),
    [
        (10, 10, None),
        (10, 11, BreakKind.BALANCE_DIFFERS),
        (10, 9, BreakKind.BALANCE_DIFFERS),
        (0, None, BreakKind.NOT_COMPARABLE),
    ],
)
def test_a_row_breaks_unless_both_sides_are_known_and_equal(
    books: int, outside: int | None, kind: BreakKind | None
) -> None:
    found = break_of(ReconRow(holding=HOLDING, books=books, outside=outside, at="height 5"))
    assert (None if found is None else found.kind) == kind
    if found is not None:
        assert (found.books, found.outside) == (books, outside)


def line(ref: str, amount: int, kind: str = "payment") -> BankLine:
    return BankLine(kind=kind, external_ref=ref, amount=amount)


@pytest.mark.parametrize(
    ("booked", "stated", "expected"),
    [
        ([], [], []),
        ([line("a", -5)], [line("a", -5)], []),
        ([line("a", -5), line("b", 3)], [line("b", 3), line("a", -5)], []),
        ([], [line("a", -5)], [(BreakKind.UNBOOKED_ENTRY, "payment a", 0, -5)]),
        ([line("a", -5)], [], [(BreakKind.MISSING_ENTRY, "payment a", -5, 0)]),
        ([line("a", -5)], [line("a", -5), line("a", -5)], [(BreakKind.UNBOOKED_ENTRY, "payment a", 0, -5)]),
        (
            [line("a", -5)],
            [line("a", -6)],
            [(BreakKind.UNBOOKED_ENTRY, "payment a", 0, -6), (BreakKind.MISSING_ENTRY, "payment a", -5, 0)],
        ),
    ],
)
def test_lines_match_once_by_kind_reference_and_amount(
    booked: list[BankLine], stated: list[BankLine], expected: list[tuple[BreakKind, str, int, int]]
) -> None:
    found = unmatched_lines(HOLDING, booked, stated)
    assert [(item.kind, item.detail, item.books, item.outside) for item in found] == expected


def test_a_trial_balance_that_is_not_zero_breaks() -> None:
    assert trial_breaks({EUR: 0}) == ()
    (found,) = trial_breaks({EUR: -3})
    assert (found.kind, found.books, found.outside) == (BreakKind.TRIAL_BALANCE, -3, 0)
