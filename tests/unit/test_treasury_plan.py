"""What is swept, what is left and why, what gas is sent; and what goes between hot, warm and cold. As tables."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from custody.chains.ports import FeeQuote
from custody.kernel.assetid import parse_asset_id
from custody.kernel.ids import VaultId, derived_uuid
from custody.treasury.model import SweepRule, Target, Verdict
from custody.treasury.plan import (
    Costs,
    Gas,
    Held,
    Judged,
    Purse,
    Shift,
    Step,
    costs_of,
    plan_address,
    plan_level,
)

ETH = parse_asset_id("eip155:1/native")
USD = parse_asset_id("eip155:1/erc20:0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed")
EUR = parse_asset_id("eip155:1/erc20:0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
COSTS = Costs(gas_native=20, gas_token=100, price=10, layer_one=7, over_cap=False)
"""A plain transfer costs 207, a token's 1007."""
USUAL = SweepRule(asset=USD, threshold=500, dust=50, max_age_s=3600, fee_max=5000)
NO_GAS = Gas(is_open=False, number=3)


def held(asset=USD, amount=1000, age_s=0, number=2, *, is_open=False) -> Held:
    since = NOW - timedelta(seconds=age_s)
    return Held(asset=asset, amount=amount, since=since, number=number, is_open=is_open)


def plan(*found, rule=USUAL, costs=COSTS, ether=0, gas=NO_GAS) -> list[Judged]:
    rules = {asset: replace(rule, asset=asset) for asset in (ETH, USD, EUR)}
    return plan_address(found, rules, costs, ether=ether, gas=gas, now=NOW)


def sweep(asset, amount, price=10, number=2) -> Step:
    return Step(asset=asset, amount=amount, number=number, price=price)


def fund(amount, number=3) -> Step:
    return Step(asset=ETH, amount=amount, number=number, price=None)


@pytest.mark.parametrize(
    ("found", "changes", "verdict", "step"),
    [
        (held(amount=0), {}, Verdict.EMPTY, None),
        (held(amount=49), {"ether": 9999}, Verdict.DUST, None),
        (held(amount=49, age_s=10**6), {"ether": 9999}, Verdict.DUST, None),
        (held(amount=50), {"ether": 9999}, Verdict.BELOW_THRESHOLD, None),
        (held(amount=499, age_s=3599), {"ether": 9999}, Verdict.BELOW_THRESHOLD, None),
        (held(amount=50, age_s=3600), {"ether": 9999}, Verdict.SWEEPING, sweep(USD, 50)),
        (held(amount=500), {"ether": 1007}, Verdict.SWEEPING, sweep(USD, 500)),
        # Three quarters of the price will do; less is filled up to all of it.
        (held(), {"ether": 807}, Verdict.SWEEPING, sweep(USD, 1000, price=8)),
        (held(), {"ether": 706}, Verdict.FUNDING, fund(301)),
        (held(), {"ether": 7}, Verdict.FUNDING, fund(1000)),
        (held(), {}, Verdict.FUNDING, fund(1007)),
        (held(), {"gas": Gas(is_open=True, number=None)}, Verdict.FUNDING, None),
        (held(), {"gas": Gas(is_open=False, number=None)}, Verdict.WAITING, None),
        (held(number=None), {"ether": 1007}, Verdict.WAITING, None),
        (held(number=None, is_open=True), {"ether": 1007}, Verdict.SWEEPING, None),
        # The fee of a token's sweep is that of its gas too, while that has to be sent.
        (held(), {"ether": 1007, "rule": replace(USUAL, fee_max=1007)}, Verdict.SWEEPING, sweep(USD, 1000)),
        (held(), {"ether": 1007, "rule": replace(USUAL, fee_max=1006)}, Verdict.FEE_TOO_HIGH, None),
        (held(), {"rule": replace(USUAL, fee_max=1214)}, Verdict.FUNDING, fund(1007)),
        (held(), {"rule": replace(USUAL, fee_max=1213)}, Verdict.FEE_TOO_HIGH, None),
        (held(), {"costs": replace(COSTS, over_cap=True)}, Verdict.FEE_TOO_HIGH, None),
        # Of ether just enough is left to pay for its own sweep.
        (held(ETH), {"ether": 1000}, Verdict.SWEEPING, sweep(ETH, 793)),
        (held(ETH, 207), {"rule": replace(USUAL, threshold=50)}, Verdict.DUST, None),
        (held(ETH, 208), {"rule": replace(USUAL, threshold=50)}, Verdict.SWEEPING, sweep(ETH, 1)),
        (held(ETH), {"rule": replace(USUAL, fee_share_max_bp=2070)}, Verdict.SWEEPING, sweep(ETH, 793)),
        (held(ETH), {"rule": replace(USUAL, fee_share_max_bp=2069)}, Verdict.FEE_TOO_HIGH, None),
    ],
)
def test_an_address_with_one_asset(found, changes, verdict, step) -> None:
    (judged,) = plan(found, **changes)
    assert judged == Judged(asset=found.asset, verdict=verdict, step=step)


@pytest.mark.parametrize(
    ("found", "changes", "told"),
    [
        # One step at a time, tokens first: they may need the ether.
        ([held(ETH), held()], {"ether": 1007}, [(Verdict.SWEEPING, True), (Verdict.WAITING, False)]),
        ([held(ETH), held()], {"ether": 100}, [(Verdict.FUNDING, True), (Verdict.WAITING, False)]),
        ([held(), held(EUR)], {"ether": 9999}, [(Verdict.SWEEPING, True), (Verdict.WAITING, False)]),
        # Gas on its way is for the token; nothing else leaves meanwhile.
        (
            [held(ETH), held()],
            {"ether": 100, "gas": Gas(is_open=True, number=None)},
            [(Verdict.FUNDING, False), (Verdict.WAITING, False)],
        ),
        (
            [held(ETH), held(number=None, is_open=True)],
            {"ether": 9999},
            [(Verdict.SWEEPING, False), (Verdict.WAITING, False)],
        ),
        # What was refused and waits for its turn again keeps nothing back.
        (
            [held(ETH), held(number=None)],
            {"ether": 9999},
            [(Verdict.WAITING, False), (Verdict.SWEEPING, True)],
        ),
    ],
)
def test_an_address_with_several_assets(found, changes, told) -> None:
    assert [(each.verdict, each.step is not None) for each in plan(*found, **changes)] == told


@pytest.mark.parametrize(
    ("quoted", "cap", "price", "over_cap"),
    [
        (0, 100, 1, False),
        (99, 100, 99, False),
        (101, 100, 100, False),
        (200, 100, 100, False),
        (201, 100, 100, True),
    ],
)
def test_the_price_is_the_going_one_up_to_the_chains_cap(quoted, cap, price, over_cap) -> None:
    quote = FeeQuote(max_fee_per_gas_wei=quoted, layer_one_fee_wei=7)
    costs = costs_of(quote, gas_native=20, gas_token=100, price_max=cap)
    assert costs == replace(COSTS, price=price, over_cap=over_cap)


WARM, COLD = (VaultId(derived_uuid(name)) for name in ("warm", "cold"))
LEVELS = Target(purpose="omnibus", asset=USD, low=100, target=200, high=300)


def purses(warm: int | None, cold: int | None) -> list[Purse]:
    pairs = ((WARM, warm), (COLD, cold))
    return [Purse(vault_id=name, spendable=amount) for name, amount in pairs if amount is not None]


@pytest.mark.parametrize(
    ("amount", "others", "shift"),
    [
        (100, purses(1000, 1000), None),
        (300, purses(1000, 1000), None),
        (99, purses(1000, 1000), Shift(other_id=WARM, amount=101, inward=True)),
        # The nearest that can give all of it; else whoever has most.
        (99, purses(100, 1000), Shift(other_id=COLD, amount=101, inward=True)),
        (99, purses(100, 50), Shift(other_id=WARM, amount=100, inward=True)),
        (99, purses(0, 50), Shift(other_id=COLD, amount=50, inward=True)),
        (99, purses(0, 0), None),
        (99, [], None),
        (301, purses(0, 0), Shift(other_id=WARM, amount=101, inward=False)),
        (301, purses(None, 0), Shift(other_id=COLD, amount=101, inward=False)),
        (301, [], None),
    ],
)
def test_a_vault_between_its_levels(amount, others, shift) -> None:
    assert plan_level(LEVELS, amount, others) == shift
