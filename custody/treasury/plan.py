"""Which deposit addresses are swept, with how much gas, and how much goes from one vault to another. Pure.

A fee is judged at its cap: what the sweep may cost at the price that is bid for it, the sending of its gas included. What is
mined costs less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from custody.chains.ports import FeeQuote
from custody.kernel.assetid import AssetId, native
from custody.kernel.ids import VaultId
from custody.treasury.model import SweepRule, Target, Verdict

_BASIS = 10_000
"""Hundredths of a percent in the whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What transactions on a chain may cost now."""

    gas_native: int
    """Gas limit of a plain transfer."""
    gas_token: int
    """Gas limit of a token transfer."""
    price: int
    """Wei per gas that is bid: the going price, which leaves room for a rising base fee, or the chain's cap if that is less."""
    layer_one: int
    """Wei for the layer below, of one transaction."""
    over_cap: bool
    """Whether the chain's cap is so far below the going price that nothing would be sent."""

    def of(self, *, native: bool) -> int:
        """Wei that one transfer may cost."""
        return (self.gas_native if native else self.gas_token) * self.price + self.layer_one


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One asset at a deposit address."""

    asset: AssetId
    """What."""
    amount: int
    """Atomic units that are final and not held."""
    since: datetime
    """Since when."""
    number: int | None
    """Number of the next sweep; None while one is open, or it is not time to ask again."""
    is_open: bool
    """Whether a sweep of it is open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gas:
    """How the sending of gas to an address stands."""

    is_open: bool
    """Whether some is on its way, or asked for."""
    number: int | None
    """Number of the next request; None while one is open, or it is not time to ask again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What to ask for."""

    asset: AssetId
    """What moves: the asset that is swept, or the chain's own currency for its gas."""
    amount: int
    """Atomic units that arrive."""
    number: int
    """Names the request."""
    price: int | None
    """Wei per gas that a sweep may cost; None for gas that is sent to the address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the rules say of one asset at a deposit address."""

    asset: AssetId
    """What."""
    verdict: Verdict
    """What is to be told of it."""
    step: Step | None = None
    """What is to be asked for."""


def costs_of(quote: FeeQuote, *, gas_native: int, gas_token: int, price_max: int) -> Costs:
    """From the node's quote and the chain's limits. The worker sends nothing for less than half of the quoted price."""
    return Costs(
        gas_native=gas_native,
        gas_token=gas_token,
        price=min(max(quote.max_fee_per_gas_wei, 1), price_max),
        layer_one=quote.layer_one_fee_wei,
        over_cap=price_max * 2 < quote.max_fee_per_gas_wei,
    )


def plan_address(
    found: Sequence[Held],
    rules: Mapping[AssetId, SweepRule],
    costs: Costs,
    *,
    ether: int,
    gas: Gas,
    now: datetime,
) -> list[Judged]:
    """What is to be done at one deposit address: at most one step, tokens first. `ether` is what it holds of the chain's own
    currency, final and not held.

    While gas is on its way to the address, or a sweep is open, nothing else is asked for there: what is meant for one sweep must
    not be spent by another.
    """
    judged = []
    blocked = gas.is_open or any(each.is_open for each in found)
    for held in sorted(found, key=lambda each: (each.asset.is_native, each.asset.text)):
        one = _judge(held, rules[held.asset], costs, ether, now)
        step = one.step
        if step is not None:
            number = gas.number if step.price is None else held.number
            if gas.is_open and step.price is None:
                one = replace(one, step=None)
            elif blocked or number is None:
                one = replace(one, step=None, verdict=Verdict.WAITING)
            else:
                one = replace(one, step=replace(step, number=number))
                blocked = True
        judged.append(one)
    return judged


def _judge(held: Held, rule: SweepRule, costs: Costs, ether: int, now: datetime) -> Judged:
    """By its rule alone."""
    is_native = held.asset.is_native
    cost = costs.of(native=is_native)
    if held.is_open:
        return Judged(asset=held.asset, verdict=Verdict.SWEEPING)
    if held.amount == 0:
        return Judged(asset=held.asset, verdict=Verdict.EMPTY)
    if held.amount < rule.dust or (is_native and held.amount <= cost):
        return Judged(asset=held.asset, verdict=Verdict.DUST)
    aged = rule.max_age_s is not None and now - held.since >= timedelta(seconds=rule.max_age_s)
    if held.amount < rule.threshold and not aged:
        return Judged(asset=held.asset, verdict=Verdict.BELOW_THRESHOLD)
    price = costs.price if is_native else _affordable(costs, ether)
    whole = cost if price else cost + costs.of(native=True)
    share = rule.fee_share_max_bp
    if costs.over_cap or whole > rule.fee_max or (share is not None and whole * _BASIS > share * held.amount):
        return Judged(asset=held.asset, verdict=Verdict.FEE_TOO_HIGH)
    if price:
        amount = held.amount - cost if is_native else held.amount
        step = Step(asset=held.asset, amount=amount, number=0, price=price)
        return Judged(asset=held.asset, verdict=Verdict.SWEEPING, step=step)
    step = Step(asset=native(held.asset.chain), amount=cost - ether, number=0, price=None)
    return Judged(asset=held.asset, verdict=Verdict.FUNDING, step=step)


def _affordable(costs: Costs, ether: int) -> int:
    """The price at which the address can pay for a token's sweep; 0 where gas has to be sent there first.

    Three quarters of the price will do: it was right when the gas was asked for, and prices move on.
    """
    price = min(costs.price, (ether - costs.layer_one) // costs.gas_token)
    return price if price > 0 and price * 4 >= costs.price * 3 else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Purse:
    """A vault that could give or take."""

    vault_id: VaultId
    """Which."""
    spendable: int
    """Atomic units of the asset that it can give."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """Money to be moved between a vault and one of its purses."""

    other_id: VaultId
    """The purse."""
    amount: int
    """Atomic units."""
    inward: bool
    """Whether the vault gets it."""


def plan_level(target: Target, held: int, purses: Sequence[Purse]) -> Shift | None:
    """What brings a vault back to its target; None when it is within its levels, or nobody can give or take.

    `purses` come nearest first: the first that can give all of it gives, else the one that has most; the first takes.
    """
    if held < target.low:
        wanted = target.target - held
        able = [each for each in purses if each.spendable > 0]
        source = next((each for each in able if each.spendable >= wanted), None) or max(
            able, key=lambda each: each.spendable, default=None
        )
        if source is None:
            return None
        return Shift(other_id=source.vault_id, amount=min(wanted, source.spendable), inward=True)
    if held > target.high and purses:
        return Shift(other_id=purses[0].vault_id, amount=held - target.target, inward=False)
    return None
