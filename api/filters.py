"""What lists may be narrowed to and in which order they are walked: the same for REST and GraphQL."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Query

from api.errors import at
from custody.kernel.errors import InvalidInput
from custody.kernel.ids import WalletId, parse_id
from custody.kernel.transitions import TransitionTable

OfWallet = Annotated[str | None, Query(max_length=40, description="Only those of this wallet.")]
Direction = Annotated[Literal["oldest_first", "newest_first"], Query(description="In which order to walk.")]
NEWEST_FIRST: Literal["newest_first"] = "newest_first"
OLDEST_FIRST: Literal["oldest_first"] = "oldest_first"


class UnknownFilter(InvalidInput):
    """Nothing is ever in this state, or has this reason."""

    code = "unknown_filter"
    public = "There is no such state or reason."


def states_of(machine: TransitionTable) -> Any:
    """The query parameter `state` for a list of what this table moves."""
    return Query(
        max_length=40,
        description="Only those in this state.",
        json_schema_extra={"enum": [*machine.states, None]},
    )


def one_state(state: str | None, machine: TransitionTable) -> tuple[str, ...]:
    """The state to look for, if any. Raises UnknownFilter."""
    if state is not None and state not in machine.states:
        raise UnknownFilter(state=state[:40])
    return () if state is None else (state,)


def asked_state(state: str | None, machine: TransitionTable) -> tuple[str, ...]:
    """The same of a query parameter. Raises UnknownFilter, at that parameter."""
    with at("query/state"):
        return one_state(state, machine)


def asked_wallet(wallet_id: str | None) -> WalletId | None:
    """The wallet that the query parameter `wallet_id` names, if any. Raises MalformedId, at that parameter."""
    with at("query/wallet_id"):
        return None if wallet_id is None else WalletId(parse_id("wal", wallet_id))


def walk_of(name: str, direction: str) -> str:
    """The name of a list that is walked so, for its cursors: those of one order are none of the other."""
    return name if direction == OLDEST_FIRST else f"{name}-newest"
