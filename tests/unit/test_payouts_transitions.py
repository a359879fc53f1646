"""The whole state × event product of a payout, as a table that a bookkeeper can check."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest

from custody.kernel.errors import IllegalTransition
from custody.kernel.ids import PayoutId, new_uuid
from custody.kernel.transitions import Transition
from custody.payouts.model import EVENT_OF, RailEvent, build_reference, poll_delay
from custody.payouts.transitions import PAYOUTS, Effect, Judgement, effects, judge

EVENTS = ["claim", "cancel", "accept", "lose", "resend", "settle", "return", "reject", "mismatch"]
# A state in the table is where the event leads; "=" is old news; "!" contradicts the books.
PRODUCT = {
    #                    claim         cancel       accept       lose       resend        settle     return
    #                    reject        mismatch
    "ready": ["submitting", "cancelled", "!", "!", "!", "!", "!", "!", "!"],
    "cancelled": ["!", "!", "!", "!", "!", "!", "!", "!", "!"],
    "submitting": [
        "!",
        "!",
        "submitted",
        "unknown",
        "!",
        "settled",
        "returned",
        "rejected",
        "integrity_failed",
    ],
    "unknown": [
        "!",
        "!",
        "submitted",
        "=",
        "submitting",
        "settled",
        "returned",
        "rejected",
        "integrity_failed",
    ],
    "submitted": ["!", "!", "=", "=", "!", "settled", "returned", "rejected", "integrity_failed"],
    "settled": ["!", "!", "=", "=", "!", "=", "returned", "!", "integrity_failed"],
    "returned": ["!", "!", "=", "=", "!", "=", "=", "!", "!"],
    "rejected": ["!", "!", "=", "=", "!", "!", "!", "=", "!"],
    "integrity_failed": ["!", "!", "=", "=", "!", "=", "=", "=", "="],
}


def test_the_table_covers_every_state_and_event() -> None:
    assert set(PRODUCT) == set(PAYOUTS.states)
    assert set(EVENTS) == set(PAYOUTS.events)
    assert {EVENT_OF[event] for event in RailEvent} <= set(EVENTS)


@pytest.mark.parametrize(("state", "event"), list(itertools.product(PRODUCT, EVENTS)))
def test_each_event_in_each_state(state: str, event: str) -> None:
    expected = PRODUCT[state][EVENTS.index(event)]
    verdict = judge(state, event)
    if expected == "=":
        assert verdict is Judgement.OLD
    elif expected == "!":
        assert verdict is Judgement.CONTRADICTS
    else:
        assert verdict is Judgement.MOVES
        assert PAYOUTS.target(state, event) == expected
        return
    with pytest.raises(IllegalTransition):
        PAYOUTS.target(state, event)


def test_cancelled_rejected_returned_and_integrity_failed_are_final() -> None:
    assert PAYOUTS.terminal == {"cancelled", "rejected", "returned", "integrity_failed"}


@pytest.mark.parametrize("row", PAYOUTS.rows, ids=lambda row: f"{row.source}-{row.event}")
def test_a_hold_is_ended_once_on_every_path_and_a_return_follows_a_settlement(row: Transition) -> None:
    held = {"ready", "submitting", "unknown", "submitted", "integrity_failed"}
    booked = effects(row.source, row.target)
    source, target = row.source, row.target
    ends_hold = [effect for effect in booked if effect is not Effect.BOOK_RETURN]
    assert len(ends_hold) == (1 if source in held and target not in held else 0)
    assert (Effect.BOOK_RETURN in booked) == (target == "returned")
    if target == "returned" and source != "settled":
        assert booked == (Effect.POST_HOLD, Effect.BOOK_RETURN)


def test_a_reference_is_the_same_for_ever_and_fits_sepa() -> None:
    payout_id = PayoutId(new_uuid())
    assert build_reference(payout_id) == build_reference(payout_id)
    assert len(build_reference(payout_id)) <= 35
    assert build_reference(payout_id) != build_reference(PayoutId(new_uuid()))


def test_polls_back_off_to_a_cap() -> None:
    delays = [poll_delay(polls) for polls in range(50)]
    assert delays == sorted(delays)
    assert (delays[0], delays[-1]) == (timedelta(milliseconds=500), timedelta(minutes=5))
