"""Which nonce and price an EVM attempt gets, and when a nonce is bid for again, at every boundary."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from custody.chains.ports import FeeQuote, Submission, SubmissionStatus
from custody.kernel.assetid import ChainId
from custody.kernel.ids import AttemptId, VaultId, WithdrawalId, derived_uuid
from custody.signing.model import EvmSlot
from custody.withdrawals.evm_slots import (
    REPLACEMENTS_MAX,
    EvmView,
    Judgement,
    Pending,
    Prices,
    bumped,
    choose_evm,
    judge,
    outbid,
)
from custody.withdrawals.model import Attempt
from custody.withdrawals.slots import Wait

CAPS = Prices(fee=100, tip=10)


def choose(caps: Prices = CAPS, **changes: Any) -> EvmSlot | Wait:
    known: dict[str, Any] = {
        "next_nonce": 0,
        "taken": set(),
        "in_flight": 0,
        "in_flight_max": 3,
        "spendable": 10**9,
        "quote": FeeQuote(max_fee_per_gas_wei=20),
    }
    return choose_evm(EvmView(**(known | changes)), spend_at=lambda price: 5 + 100 * price, caps=caps)


def reason(chosen: EvmSlot | Wait) -> str:
    assert isinstance(chosen, Wait)
    assert chosen.look_in_s > 0
    return chosen.reason


# --- reservation ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("next_nonce", "taken", "nonce"),
    [(0, set(), 0), (3, set(), 3), (3, {3, 4}, 5), (3, {4}, 3), (3, {1, 2}, 3)],
)
def test_lowest_free_nonce_is_taken(next_nonce: int, taken: set[int], nonce: int) -> None:
    assert choose(next_nonce=next_nonce, taken=taken) == EvmSlot(
        nonce=nonce, max_fee_per_gas=20, max_priority_fee_per_gas=0
    )


@pytest.mark.parametrize(("quoted", "price"), [(100, 100), (200, 100), (0, 1)])
def test_price_stays_within_the_cap(quoted: int, price: int) -> None:
    slot = choose(quote=FeeQuote(max_fee_per_gas_wei=quoted, max_priority_fee_per_gas_wei=50))
    assert isinstance(slot, EvmSlot)
    assert (slot.max_fee_per_gas, slot.max_priority_fee_per_gas) == (price, min(10, price))


def test_waits_while_the_cap_is_hopeless_and_while_enough_are_under_way() -> None:
    assert reason(choose(quote=FeeQuote(max_fee_per_gas_wei=201))) == "fee_over_cap"
    assert reason(choose(in_flight=3)) == "vault_busy"
    assert isinstance(choose(in_flight=2), EvmSlot)


@pytest.mark.parametrize("below", [0, 700])
@pytest.mark.parametrize(("more", "reserved"), [(-1, False), (0, True), (1, True), (-3000, False)])
def test_waits_until_the_vault_can_pay_for_value_gas_and_the_layer_below(
    below: int, more: int, reserved: bool
) -> None:
    quote = FeeQuote(max_fee_per_gas_wei=20, layer_one_fee_wei=below)
    slot = choose(quote=quote, spendable=2005 + below + more)
    assert isinstance(slot, EvmSlot) is reserved
    assert reserved or reason(slot) == "vault_lacks_gas"


# --- replacement ----------------------------------------------------------------------------------------------------------


def make_attempt(**changes: Any) -> Attempt:
    known: dict[str, Any] = {
        "id": AttemptId(derived_uuid("attempt", 1)),
        "withdrawal_id": WithdrawalId(derived_uuid("withdrawal", 1)),
        "vault_id": VaultId(derived_uuid("vault", 1)),
        "chain": ChainId("eip155:31337"),
        "number": 1,
        "state": "broadcast",
        "sequence": 7,
        "max_ledger": None,
        "max_time": None,
        "fee_bid": 20,
        "priority_fee": 2,
        "tx": b"tx",
        "tx_hash": "0x00",
        "sends": 3,
        "last_answer": "",
        "height": None,
        "succeeded": None,
        "fee_paid": None,
        "included_at": None,
        "watched_from": 100,
    }
    return Attempt(**(known | changes))


MARKET = FeeQuote(max_fee_per_gas_wei=30, max_priority_fee_per_gas_wei=2, base_fee_per_gas_wei=14)
"""The attempt pays 2 above the base fee: as much as others."""
DEARER = FeeQuote(max_fee_per_gas_wei=44, max_priority_fee_per_gas_wei=2, base_fee_per_gas_wei=21)


def said(code: str = "", status: SubmissionStatus = SubmissionStatus.REFUSED) -> Submission:
    return Submission(status=status if code else SubmissionStatus.ACCEPTED, code=code)


def look(attempt: Attempt | None = None, **changes: Any) -> Judgement:
    newest = attempt or make_attempt()
    known: dict[str, Any] = {
        "attempt": newest,
        "alternatives": [newest],
        "replaceable": True,
        "caps": CAPS,
        "head": 106,
        "mined": 7,
        "lowest": 7,
        "gap": False,
        "lost": False,
        "quote": DEARER,
        "answer": said(),
        "stuck_after": 6,
        "bump_percent": 12,
    }
    return judge(Pending(**(known | changes)))


RAISED = EvmSlot(nonce=7, max_fee_per_gas=44, max_priority_fee_per_gas=3)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # The price has fallen behind, and it had its blocks.
        ({}, Judgement(replace=RAISED)),
        ({"head": 105}, Judgement()),
        # It is paid as well as others: the price is not what keeps it.
        ({"quote": MARKET}, Judgement()),
        ({"quote": MARKET, "head": 117}, Judgement()),
        ({"quote": MARKET, "head": 118}, Judgement(stuck="not_mined")),
        ({"quote": MARKET, "head": 118, "answer": said("gas_too_low")}, Judgement(stuck="node_refuses")),
        # Another tip is taken now.
        ({"quote": replace(MARKET, max_priority_fee_per_gas_wei=3)}, Judgement(replace=replace(RAISED, max_fee_per_gas=30))),
        # It waits behind another: nothing about itself is wrong.
        ({"mined": 6, "lowest": 6, "answer": said("underpriced")}, Judgement()),
        ({"mined": 5, "gap": True, "lowest": 6}, Judgement()),
        ({"mined": 6, "gap": True}, Judgement(stuck="nonce_gap", fill=True)),
        ({"mined": 6, "gap": True, "lost": True}, Judgement(stuck="nonce_gap")),
        # The node's own word about the price does not wait for blocks.
        ({"head": 100, "quote": MARKET, "answer": said("underpriced")}, Judgement(replace=replace(RAISED, max_fee_per_gas=30))),
        ({"head": 100, "answer": said("replacement_underpriced")}, Judgement(replace=RAISED)),
        # No answer of the node is a reason by itself.
        ({"head": 100, "answer": said("chain_rpc_unreachable", SubmissionStatus.UNKNOWN)}, Judgement()),
        ({"head": 100, "answer": said("pool_full", SubmissionStatus.TRY_LATER)}, Judgement()),
        ({"answer": said("insufficient_funds")}, Judgement(stuck="vault_lacks_gas")),
        # In a block, ours or not.
        ({"mined": 8}, Judgement()),
        ({"mined": 8, "answer": said("nonce_too_low", SubmissionStatus.UNKNOWN)}, Judgement(stuck="nonce_used_elsewhere")),
        ({"mined": 8, "head": 105, "answer": said("nonce_too_low", SubmissionStatus.UNKNOWN)}, Judgement()),
        # What the intent allows is bid, and no wei more.
        ({"caps": Prices(fee=44, tip=3)}, Judgement(replace=RAISED)),
        ({"caps": Prices(fee=30, tip=3)}, Judgement(replace=replace(RAISED, max_fee_per_gas=30))),
        ({"caps": Prices(fee=22, tip=3)}, Judgement(stuck="fee_cap_reached")),
        ({"caps": Prices(fee=44, tip=2)}, Judgement(stuck="fee_cap_reached")),
        ({"replaceable": False}, Judgement(stuck="fee_cap_reached")),
    ],
)  # fmt: skip
def test_a_nonce_is_bid_for_again_only_when_its_price_keeps_it(
    changes: dict[str, Any], expected: Judgement
) -> None:
    assert look(**changes) == expected


def test_it_is_watched_from_when_it_is_the_next_of_its_account() -> None:
    unwatched = make_attempt(watched_from=None)
    assert look(unwatched) == Judgement(watch=True)
    assert look(unwatched, answer=said("underpriced")) == Judgement(watch=True, replace=RAISED)
    assert look(unwatched, mined=6) == Judgement()
    spent = said("nonce_too_low", SubmissionStatus.UNKNOWN)
    assert look(unwatched, mined=8, answer=spent) == Judgement(watch=True)


def test_the_doubt_about_a_used_nonce_ends_where_ours_is_included() -> None:
    included = make_attempt(state="included", id=AttemptId(derived_uuid("attempt", 2)))
    spent = said("nonce_too_low", SubmissionStatus.UNKNOWN)
    assert look(mined=8, answer=spent, alternatives=[included, make_attempt()]) == Judgement()


def test_replacements_are_bounded() -> None:
    bids = [make_attempt(number=n + 1, fee_bid=20 + n, priority_fee=2) for n in range(REPLACEMENTS_MAX + 1)]
    assert look(bids[-1], alternatives=bids, answer=said("underpriced")).stuck == "too_many_replacements"
    assert look(bids[-2], alternatives=bids[:-1], answer=said("underpriced")).replace is not None


PRICES = st.integers(0, 2**70)


@given(
    bids=st.lists(st.tuples(PRICES, PRICES), min_size=1, max_size=8),
    quote=st.tuples(PRICES, PRICES),
    caps=st.tuples(PRICES, PRICES),
    percent=st.integers(10, 200),
)
def test_a_bid_beats_every_other_as_signer_and_pools_want_or_is_not_made(
    bids: list[tuple[int, int]], quote: tuple[int, int], caps: tuple[int, int], percent: int
) -> None:
    others = [make_attempt(fee_bid=max(pair), priority_fee=min(pair)) for pair in bids]
    cap = Prices(fee=max(caps), tip=min(caps))
    going = FeeQuote(max_fee_per_gas_wei=max(quote), max_priority_fee_per_gas_wei=min(quote))
    slot = outbid(others, going, cap, percent)
    least_fee = max(bumped(each.fee_bid, percent) for each in others)
    least_tip = max(bumped(each.priority_fee, percent) for each in others)
    if slot is None:
        assert cap.fee < max(least_fee, least_tip) or cap.tip < least_tip
        return
    assert least_fee <= slot.max_fee_per_gas <= cap.fee
    assert least_tip <= slot.max_priority_fee_per_gas <= min(cap.tip, slot.max_fee_per_gas)
    for each in others:
        assert slot.max_fee_per_gas * 10 >= each.fee_bid * 11
        assert slot.max_priority_fee_per_gas * 10 >= each.priority_fee * 11
        assert slot.max_priority_fee_per_gas > each.priority_fee
