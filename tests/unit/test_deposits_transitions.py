"""Deposits and vault requests over every state and event."""

from __future__ import annotations

import pytest

from custody.deposits.transitions import DEPOSIT_CASES, DEPOSITS, VAULT_REQUESTS
from custody.kernel.errors import IllegalTransition
from custody.kernel.transitions import TransitionTable

EXPECTED = {
    ("observed", "credit"): "credited",
    ("observed", "suspend"): "suspended",
    ("observed", "orphan"): "orphaned",
    ("credited", "reverse"): "reversed",
    ("suspended", "reverse"): "reversed",
    ("observed", "set_aside"): "unlisted",
    ("unlisted", "list"): "observed",
    ("unlisted", "orphan"): "orphaned",
    ("suspended", "assign"): "credited",
    ("suspended", "return"): "returned",
    ("orphaned", "include"): "observed",
    ("reversed", "include"): "observed",
}


@pytest.mark.parametrize("state", DEPOSITS.states)
@pytest.mark.parametrize("event", DEPOSITS.events)
def test_a_deposit_makes_the_listed_moves_and_no_other(state: str, event: str) -> None:
    if (state, event) in EXPECTED:
        assert DEPOSITS.target(state, event) == EXPECTED[state, event]
    else:
        with pytest.raises(IllegalTransition):
            DEPOSITS.target(state, event)


def test_a_booked_deposit_is_never_only_orphaned() -> None:
    assert set(DEPOSITS.sources("orphan")) == {"observed", "unlisted"}
    assert set(DEPOSITS.sources("reverse")) == {"credited", "suspended"}


@pytest.mark.parametrize("table", [DEPOSITS, DEPOSIT_CASES, VAULT_REQUESTS])
def test_every_event_leads_to_one_state_so_that_the_sql_can_guard_it(table: TransitionTable) -> None:
    assert {event: table.target_of(event) for event in table.events}


EXPECTED_OF_CASES = {
    ("open", "ignore"): "ignored",
    ("open", "assign"): "assigned",
    ("ignored", "assign"): "assigned",
    ("open", "return"): "returning",
    ("ignored", "return"): "returning",
    ("returning", "settle"): "returned",
    ("returning", "reopen"): "open",
    ("open", "dismiss"): "dismissed",
    ("ignored", "dismiss"): "dismissed",
    ("open", "list"): "listed",
    ("ignored", "list"): "listed",
    ("open", "orphan"): "orphaned",
    ("ignored", "orphan"): "orphaned",
    ("assigned", "orphan"): "orphaned",
    ("dismissed", "orphan"): "orphaned",
}


@pytest.mark.parametrize("state", DEPOSIT_CASES.states)
@pytest.mark.parametrize("event", DEPOSIT_CASES.events)
def test_a_case_makes_the_listed_moves_and_no_other(state: str, event: str) -> None:
    if (state, event) in EXPECTED_OF_CASES:
        assert DEPOSIT_CASES.target(state, event) == EXPECTED_OF_CASES[state, event]
    else:
        with pytest.raises(IllegalTransition):
            DEPOSIT_CASES.target(state, event)


def test_no_case_is_paid_twice() -> None:
    """Money that was returned, or is on its way, can be neither assigned nor returned; what was assigned is not returned."""
    for event in ("assign", "return"):
        assert set(DEPOSIT_CASES.sources(event)) == {"open", "ignored"}


def test_a_created_vault_stays_created() -> None:
    assert VAULT_REQUESTS.terminal == {"created"}
