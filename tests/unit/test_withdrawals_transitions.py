"""The legal moves of withdrawals, attempts and strays, over every state and event."""

from __future__ import annotations

import pytest

from custody.kernel.errors import IllegalTransition
from custody.kernel.transitions import TransitionTable
from custody.withdrawals.transitions import ATTEMPTS, STRAYS, WITHDRAWALS

EXPECTED = {
    ("awaiting_approval", "approve"): "approved",
    ("awaiting_approval", "reject"): "rejected",
    ("awaiting_approval", "expire"): "expired",
    ("awaiting_approval", "cancel"): "cancelled",
    ("approved", "reject"): "rejected",
    ("approved", "expire"): "expired",
    ("approved", "cancel"): "cancelled",
    ("approved", "reserve"): "signing",
    ("signing", "sign"): "broadcasting",
    ("signing", "refuse"): "failed",
    ("broadcasting", "include"): "confirming",
    ("broadcasting", "lapse"): "failed",
    ("confirming", "orphan"): "broadcasting",
    ("confirming", "settle"): "settled",
    ("confirming", "fail"): "failed",
}
EXPECTED_ATTEMPTS = {
    ("reserved", "sign"): "signed",
    ("reserved", "refuse"): "refused",
    ("signed", "send"): "broadcast",
    ("signed", "include"): "included",
    ("signed", "lapse"): "lapsed",
    ("broadcast", "include"): "included",
    ("broadcast", "lapse"): "lapsed",
    ("included", "orphan"): "broadcast",
    ("included", "confirm"): "confirmed",
    ("included", "fail"): "failed",
}


@pytest.mark.parametrize(("table", "expected"), [(WITHDRAWALS, EXPECTED), (ATTEMPTS, EXPECTED_ATTEMPTS)])
def test_every_state_and_event(table: TransitionTable, expected: dict[tuple[str, str], str]):
    for state in table.states:
        for event in table.events:
            if (state, event) in expected:
                assert table.target(state, event) == expected[state, event]
            else:
                with pytest.raises(IllegalTransition):
                    table.target(state, event)


@pytest.mark.parametrize("table", [WITHDRAWALS, ATTEMPTS, STRAYS])
def test_every_event_has_one_target_so_that_sql_can_guard_it(table: TransitionTable):
    for event in table.events:
        assert table.target_of(event) in table.states


def test_ends_are_ends():
    assert {"settled", "failed", "rejected", "expired", "cancelled"} == WITHDRAWALS.terminal
    assert {"confirmed", "failed", "lapsed", "refused"} == ATTEMPTS.terminal


def test_nothing_leads_back_once_a_key_may_have_been_touched():
    touched = {"signing"}
    while True:
        reached = touched | {row.target for row in WITHDRAWALS.rows if row.source in touched}
        if reached == touched:
            break
        touched = reached
    assert not touched & {"awaiting_approval", "approved", "cancelled", "rejected", "expired"}
