"""Which slot an attempt gets, at every boundary."""

from __future__ import annotations

from typing import Any

import pytest

from custody.chains.ports import FeeQuote
from custody.signing.model import EvmSlot, StellarSlot
from custody.withdrawals.slots import EvmView, Wait, choose_evm
from custody.withdrawals.slots_stellar import StellarView, choose_stellar

NOW = 1_000_000


def stellar(*, expires_at: int = NOW + 3600, max_fee: int = 1000, **changes: Any) -> StellarSlot | Wait:
    known: dict[str, Any] = {
        "next_sequence": 8,
        "head": 100,
        "own_height": 100,
        "in_flight": 0,
        "taken": set(),
        "released_until": 0,
        "quote": FeeQuote(fee_stroops=250),
    }
    view = StellarView(**(known | changes))
    return choose_stellar(view, max_fee=max_fee, now=NOW, expires_at=expires_at, valid_s=60, valid_ledgers=12)


def evm(**changes: Any) -> EvmSlot | Wait:
    known: dict[str, Any] = {
        "next_nonce": 0,
        "taken": set(),
        "spendable": 10**9,
        "quote": FeeQuote(max_fee_per_gas_wei=20),
    }
    return choose_evm(
        EvmView(**(known | changes)),
        spend_at=lambda price: 5 + 100 * price,
        max_fee_per_gas=100,
        max_priority_fee_per_gas=10,
    )


def test_bounds_count_from_our_own_height_and_stay_inside_the_intent():
    assert stellar(head=103) == StellarSlot(sequence=8, max_time=NOW + 60, max_ledger=112, fee=250)
    assert stellar(expires_at=NOW + 30) == StellarSlot(sequence=8, max_time=NOW + 30, max_ledger=112, fee=250)


@pytest.mark.parametrize(("quoted", "bid"), [(1, 100), (100, 100), (999, 999), (1000, 1000), (1001, 1000)])
def test_bid_is_the_going_price_within_the_cap(quoted: int, bid: int):
    slot = stellar(quote=FeeQuote(fee_stroops=quoted))
    assert isinstance(slot, StellarSlot)
    assert slot.fee == bid


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"in_flight": 1}, "vault_busy"),
        ({"own_height": None}, "ingestion_behind"),
        ({"own_height": 93}, "ingestion_behind"),
        ({"taken": {8}}, "node_behind"),
        ({"released_until": NOW - 5}, "slot_not_released"),
        ({"released_until": NOW}, "slot_not_released"),
    ],
)
def test_waits(changes: dict[str, Any], reason: str):
    slot = stellar(**changes)
    assert isinstance(slot, Wait)
    assert slot.reason == reason
    assert slot.look_in_s > 0


def test_does_not_wait_at_the_boundaries():
    assert isinstance(stellar(own_height=94), StellarSlot)
    assert isinstance(stellar(released_until=NOW - 6), StellarSlot)
    assert isinstance(stellar(taken={7, 9}), StellarSlot)


@pytest.mark.parametrize(
    ("next_nonce", "taken", "nonce"),
    [(0, set(), 0), (3, set(), 3), (3, {3, 4}, 5), (3, {4}, 3), (3, {1, 2}, 3)],
)
def test_lowest_free_nonce_is_taken(next_nonce: int, taken: set[int], nonce: int):
    assert evm(next_nonce=next_nonce, taken=taken) == EvmSlot(
        nonce=nonce, max_fee_per_gas=20, max_priority_fee_per_gas=0
    )


@pytest.mark.parametrize(("quoted", "price"), [(100, 100), (200, 100), (0, 1)])
def test_price_stays_within_the_cap(quoted: int, price: int):
    slot = evm(quote=FeeQuote(max_fee_per_gas_wei=quoted, max_priority_fee_per_gas_wei=50))
    assert isinstance(slot, EvmSlot)
    assert slot.max_fee_per_gas == price
    assert slot.max_priority_fee_per_gas == min(10, price)


def test_waits_while_the_cap_is_hopeless():
    slot = evm(quote=FeeQuote(max_fee_per_gas_wei=201))
    assert isinstance(slot, Wait)
    assert slot.reason == "fee_over_cap"


@pytest.mark.parametrize(("spendable", "reserved"), [(2004, False), (2005, True), (2006, True), (-1, False)])
def test_waits_until_the_vault_can_pay_for_value_and_gas(spendable: int, reserved: bool):
    slot = evm(spendable=spendable)
    assert isinstance(slot, EvmSlot) is reserved
    assert reserved or (isinstance(slot, Wait) and slot.reason == "vault_lacks_gas")
