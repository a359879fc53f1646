"""Which slot a Stellar attempt gets, at every boundary."""

from __future__ import annotations

from typing import Any

import pytest

from custody.chains.ports import FeeQuote
from custody.signing.model import StellarSlot
from custody.withdrawals.slots import Wait
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
