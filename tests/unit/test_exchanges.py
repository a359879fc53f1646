"""What an amount buys at an exact rate, and which rates are none."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from custody.exchanges.errors import BadQuoteTime, BadRate, BadRateSource, ExchangeTooSmall, SameAsset
from custody.exchanges.model import BOUGHT_MAX, Rate, RequestExchange, Rounding
from custody.kernel.assetid import parse_asset_id
from custody.kernel.ids import ExchangeId, WalletId, new_uuid
from custody.kernel.money import MAX_ATOMIC, Amount, AmountNotPositive, AmountTooLarge

XLM, EUR = parse_asset_id("stellar:devnet/native"), parse_asset_id("fiat/EUR")
QUOTED = datetime(2026, 11, 22, 10, 15, tzinfo=UTC)


def rate(numerator: int, denominator: int, source: str = "desk", quoted_at: datetime = QUOTED) -> Rate:
    return Rate(numerator=numerator, denominator=denominator, source=source, quoted_at=quoted_at)


@pytest.mark.parametrize(
    ("sold", "numerator", "denominator", "floor", "ceil"),
    [
        (100, 1, 1, 100, 100),
        (100, 1, 3, 33, 34),
        (99, 1, 3, 33, 33),
        (1, 5, 2, 2, 3),
        (10**18, 10**18 + 1, 10**18, 10**18 + 1, 10**18 + 1),
        (10**18 - 1, 10**18 + 1, 10**18, 10**18 - 1, 10**18),
        (BOUGHT_MAX, BOUGHT_MAX - 1, BOUGHT_MAX, BOUGHT_MAX - 1, BOUGHT_MAX - 1),
        (BOUGHT_MAX, 1, 2, BOUGHT_MAX // 2, BOUGHT_MAX // 2 + 1),
    ],
)
def test_the_part_of_a_unit_goes_where_the_rounding_says(
    sold: int, numerator: int, denominator: int, floor: int, ceil: int
) -> None:
    at = rate(numerator, denominator)
    assert at.convert(Amount(XLM, sold), EUR, rounding=Rounding.FLOOR) == Amount(EUR, floor)
    assert at.convert(Amount(XLM, sold), EUR, rounding=Rounding.CEIL) == Amount(EUR, ceil)


def test_less_than_a_unit_is_no_exchange_unless_it_is_made_up() -> None:
    with pytest.raises(ExchangeTooSmall):
        rate(1, 3).convert(Amount(XLM, 2), EUR, rounding=Rounding.FLOOR)
    assert rate(1, 3).convert(Amount(XLM, 2), EUR, rounding=Rounding.CEIL).atomic == 1


def test_more_than_an_amount_can_be_is_refused() -> None:
    with pytest.raises(AmountTooLarge):
        rate(2, 1).convert(Amount(XLM, MAX_ATOMIC), EUR, rounding=Rounding.FLOOR)


def test_one_exchange_buys_far_less_than_accounts_can_see_in_all_their_life() -> None:
    """What accounts have seen never falls, not by a reversal either: a mistyped rate leaves room for what follows."""
    assert rate(BOUGHT_MAX, 1).convert(Amount(XLM, 1), EUR, rounding=Rounding.FLOOR).atomic == BOUGHT_MAX
    with pytest.raises(AmountTooLarge):
        rate(BOUGHT_MAX + 1, 1).convert(Amount(XLM, 1), EUR, rounding=Rounding.FLOOR)
    assert BOUGHT_MAX * 2**60 < MAX_ATOMIC


def test_an_asset_does_not_buy_itself() -> None:
    with pytest.raises(SameAsset):
        rate(1, 1).convert(Amount(XLM, 1), XLM, rounding=Rounding.FLOOR)


@pytest.mark.parametrize(
    "parts", [(0, 1), (1, 0), (-1, 1), (1, -1), (MAX_ATOMIC + 1, 1), (1, MAX_ATOMIC + 1)]
)
def test_a_rate_is_a_fraction_of_positive_numbers(parts: tuple[int, int]) -> None:
    with pytest.raises(BadRate):
        rate(*parts)


@pytest.mark.parametrize("source", ["", "   ", "a\nb", "a\x00b", "x" * 201])
def test_a_rate_says_where_it_comes_from(source: str) -> None:
    with pytest.raises(BadRateSource):
        rate(1, 1, source)


def test_a_quote_has_a_moment_and_not_a_local_time() -> None:
    with pytest.raises(BadQuoteTime):
        rate(1, 1, quoted_at=QUOTED.replace(tzinfo=None))


@pytest.mark.parametrize(("sold", "fee"), [(0, None), (-1, None), (1, 0), (1, -1)])
def test_what_is_sold_and_what_is_charged_is_more_than_nothing(sold: int, fee: int | None) -> None:
    with pytest.raises(AmountNotPositive):
        RequestExchange(
            id=ExchangeId(new_uuid()),
            source_wallet_id=WalletId(new_uuid()),
            destination_wallet_id=WalletId(new_uuid()),
            sold=Amount(XLM, sold),
            bought_asset=EUR,
            rate=rate(1, 1),
            rounding=Rounding.FLOOR,
            fee=None if fee is None else Amount(XLM, fee),
        )
