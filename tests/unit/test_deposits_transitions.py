"""Deposits and vault requests over every state and event."""

from __future__ import annotations

import pytest

from custody.deposits.transitions import DEPOSITS, VAULT_REQUESTS
from custody.kernel.errors import IllegalTransition
from custody.kernel.transitions import TransitionTable

EXPECTED = {
    ("observed", "credit"): "credited",
    ("observed", "suspend"): "suspended",
    ("observed", "orphan"): "orphaned",
    ("credited", "reverse"): "reversed",
    ("suspended", "reverse"): "reversed",
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
    assert DEPOSITS.sources("orphan") == ("observed",)
    assert set(DEPOSITS.sources("reverse")) == {"credited", "suspended"}


@pytest.mark.parametrize("table", [DEPOSITS, VAULT_REQUESTS])
def test_every_event_leads_to_one_state_so_that_the_sql_can_guard_it(table: TransitionTable) -> None:
    assert {event: table.target_of(event) for event in table.events}


def test_a_created_vault_stays_created() -> None:
    assert VAULT_REQUESTS.terminal == {"created"}
