"""What a tariff charges: to the unit, within what is held, never less than its share."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from custody.tariffs.model import HeldFee, TariffTerms, share_of

AMOUNTS = st.integers(0, 2**200)


def terms(kind: str, **values: int) -> TariffTerms:
    return TariffTerms(kind=kind, quote_valid_s=60, **values)  # type: ignore[arg-type]  # a table of kinds


@pytest.mark.parametrize(
    ("tariff", "amount", "held"),
    [
        (terms("free"), 1000, 0),
        (terms("flat", flat=7), 1, 7),
        (terms("flat", flat=7), 10**30, 7),
        # A part of a unit is charged as a whole one.
        (terms("bps", bps=25), 400, 1),
        (terms("bps", bps=25), 401, 2),
        (terms("bps", bps=25), 1, 1),
        (terms("bps", bps=10_000), 5, 5),
        (terms("bps", bps=25, minimum=10), 400, 10),
        (terms("bps", bps=25, maximum=50), 10**9, 50),
        (terms("bps", bps=25, minimum=50, maximum=50), 10**9, 50),
        (terms("bps", bps=0, minimum=0), 10**9, 0),
        (terms("network", maximum=500, bps=1000), 10**9, 500),
    ],
)
def test_the_most_that_is_charged_is_held(tariff: TariffTerms, amount: int, held: int) -> None:
    assert tariff.fee_held(amount) == held


@pytest.mark.parametrize(
    ("held", "markup", "cost", "charged"),
    [
        (500, 0, 0, 0),
        (500, 0, 100, 100),
        (500, 1000, 100, 110),
        (500, 1, 100, 101),
        (500, 0, 500, 500),
        (500, 0, 501, 500),
        (500, 10_000, 251, 500),
        (0, 0, 100, 0),
    ],
)
def test_the_networks_cost_is_passed_on_up_to_the_ceiling(
    held: int, markup: int, cost: int, charged: int
) -> None:
    fee = HeldFee(kind="network", tariff_version=1, quote_id=None, held=held, markup_bps=markup)
    assert fee.charge_for(cost) == charged


@given(amount=AMOUNTS, bps=st.integers(0, 10_000))
def test_a_share_is_rounded_up_and_by_less_than_a_unit(amount: int, bps: int) -> None:
    exact = Fraction(amount * bps, 10_000)
    assert 0 <= share_of(amount, bps) - exact < 1


@given(
    kind=st.sampled_from(("free", "flat", "bps", "network")),
    held=AMOUNTS,
    cost=AMOUNTS,
    markup=st.integers(0, 10_000),
)
def test_what_is_charged_and_what_is_released_is_what_was_held(
    kind: str, held: int, cost: int, markup: int
) -> None:
    fee = HeldFee(kind=kind, tariff_version=1, quote_id=None, held=held, markup_bps=markup)  # type: ignore[arg-type]  # as above
    charged = fee.charge_for(cost)
    assert 0 <= charged <= held
    assert kind == "network" or charged == held
