"""Guards of the posting function, each with a way to break it and the routine that must notice.

What is replaced is text of the function as the database has it. Whoever changes the SQL finds here what a test was proving, and
gives the guard's new text; a text that is not found fails the test, so that no mutant dies unseen.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError

from custody.db.session import Database
from custody.kernel.ids import TenantId, new_uuid
from custody.ledger.errors import LedgerBusy, PostingFailed
from custody.ledger.model import Hold, Outcome, PostHold, Transfer
from tests.fakes.ledger_invariants import broken_invariants
from tests.faults.doors import SingleDoor
from tests.faults.plan import VAULT, WALLETS, Chain, movement, prepare
from tests.faults.storms import storm
from tests.property.test_ledger_streams import run_stream

Routine = Callable[[Database, str, int], Awaitable[None]]
"""Raises when something is wrong with the ledger behind the database. Takes the application's URL and a seed as well."""

NOTICED = (AssertionError, LedgerBusy, PostingFailed, DBAPIError)
"""How a broken ledger shows: a wrong answer, a caller told to give way, or a function that fails."""


async def storming(database: Database, dsn: str, seed: int) -> None:
    """Opposite directions at once: nobody is told to give way, and nothing is refused."""
    tenant = await prepare(database, f"storm {new_uuid()}")
    results = await storm(database, tenant, dsn, seed)
    assert set(results) == {"applied"}, results
    await sound(database, tenant)


async def streaming(database: Database, dsn: str, seed: int) -> None:
    """Long random streams: every answer is the oracle's."""
    for number in range(6):
        await run_stream(database, seed + number, 10)


async def streaming_long(database: Database, dsn: str, seed: int) -> None:
    """The same for what comes up seldom."""
    for number in range(90):
        await run_stream(database, seed + number, 10)


async def racing(database: Database, dsn: str, seed: int) -> None:
    """One id on many connections, with one body and with several; parts of one hold."""
    tenant = await prepare(database, f"race {new_uuid()}")
    door = SingleDoor(database)
    for number in range(6):
        same, reserved = new_uuid(), movement(Hold, new_uuid(), WALLETS[number], VAULT, 20)
        await door.submit(tenant, (reserved,))
        others: list[Chain] = [(movement(Transfer, same, WALLETS[n], WALLETS[n + 1], 1),) for n in range(6)]
        twins: list[Chain] = [(movement(Transfer, new_uuid(), VAULT, WALLETS[number], 3),)] * 6
        ends: list[Chain] = [(PostHold(id=new_uuid(), hold_id=reserved.id),) for _ in range(6)]
        assert await _results(door, tenant, others) == {"applied": 1, "transfer_exists_different": 5}
        assert await _results(door, tenant, twins) == {"applied": 6}
        assert await _results(door, tenant, ends) == {"applied": 1, "hold_not_open": 5}
        await sound(database, tenant)


async def _results(door: SingleDoor, tenant: TenantId, chains: list[Chain]) -> Counter[str]:
    answers: list[tuple[Outcome, ...]] = await asyncio.gather(*(door.submit(tenant, c) for c in chains))
    return Counter(outcome.result.value for outcomes in answers for outcome in outcomes)


async def sound(database: Database, tenant: TenantId) -> None:
    async with database.read(tenant) as session:
        assert await broken_invariants(session) == []


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One guard, broken."""

    guard: str
    """What no longer holds."""
    text: str
    """As it stands in the function, exactly once."""
    instead: str
    """What is put in its place."""
    noticed_by: Routine
    function: str = "ledger_apply"
    """Where the guard is."""


MUTANTS = (
    Mutant(
        guard="an entry knows the place of the one before it",
        text="a_head[c] := a_head[d];",
        instead="a_head[c] := 0;",
        noticed_by=streaming,
    ),
    Mutant(
        guard="a refused chain gives back its places",
        text="a_head[d] := r_dprior[u];",
        instead="",
        noticed_by=streaming,
    ),
    Mutant(
        guard="accounts are locked in one order",
        text="IF p_locked THEN\n    PERFORM FROM unnest(a_id) AS x(id), LATERAL (",
        instead="IF p_locked THEN\n    PERFORM FROM (SELECT y.id FROM unnest(a_id) AS y(id) ORDER BY random()) AS x, LATERAL (",
        noticed_by=storming,
    ),
    Mutant(
        guard="accounts read without a lock are written only as they were read",
        text="IF k < cardinality(a_id) THEN",
        instead="IF false THEN",
        noticed_by=storming,
    ),
    Mutant(
        guard="the loser of a race for an id starts again",
        text="v_constraint <> 'pk_ledger_commands'",
        instead="v_constraint <> 'pk_of_nothing'",
        noticed_by=racing,
        function="ledger_post",
    ),
    Mutant(
        guard="an id is taken once",
        text="WHERE r_new[i] ORDER BY c_id[i];",
        instead="WHERE r_new[i] ORDER BY c_id[i] ON CONFLICT DO NOTHING;",
        noticed_by=racing,
    ),
    Mutant(
        guard="a recorded command is not carried out again",
        text="k := (p_map ->> c_id[i]::text)::int; j :=",
        instead="k := NULL; j :=",
        noticed_by=streaming,
    ),
    Mutant(
        guard="a repeated id has the content that was recorded",
        text="CASE WHEN p_hash[k] = c_hash[i] THEN p_result[k]",
        instead="CASE WHEN true THEN p_result[k]",
        noticed_by=streaming,
    ),
    Mutant(
        guard="a command repeated within a call is one command",
        text="ELSIF j < i THEN",
        instead="ELSIF false THEN",
        noticed_by=streaming,
    ),
    Mutant(
        guard="funds are checked at each step",
        text="AND a_cp[d] - a_dp[d] - a_dh[d] - v_posted - v_pending < a_floor[d] THEN",
        instead="AND a_cp[d] - a_dp[d] - a_dh[d] < a_floor[d] THEN",
        noticed_by=streaming,
    ),
    Mutant(
        guard="what is held is not available",
        text="AND a_cp[d] - a_dp[d] - a_dh[d] - v_posted - v_pending < a_floor[d] THEN",
        instead="AND a_cp[d] - a_dp[d] - v_posted - v_pending < a_floor[d] THEN",
        noticed_by=streaming,
    ),
    Mutant(
        guard="funds are checked on the credited side of a debit account",
        text="AND a_dp[c] - a_cp[c] - a_ch[c] - v_posted - v_pending < a_floor[c] THEN",
        instead="AND false THEN",
        noticed_by=streaming,
    ),
    Mutant(
        guard="a hold is not posted beyond what remains",
        text="WHEN v_posted > h_remaining[h] THEN",
        instead="WHEN v_posted > h_amount[h] THEN",
        noticed_by=streaming,
    ),
    Mutant(
        guard="a hold ends once",
        text="WHEN h_remaining[h] = 0 THEN",
        instead="WHEN false THEN",
        noticed_by=racing,
    ),
    Mutant(
        guard="a transfer is reversed once",
        text="WHEN t_reversed[t] THEN",
        instead="WHEN false THEN",
        noticed_by=streaming,
    ),
    Mutant(
        guard="what comes in on hold counts towards the ceiling",
        text="a_cp[c] - a_dp[c] + a_ch[c] + v_posted + v_pending > a_ceiling[c]",
        instead="a_cp[c] - a_dp[c] + v_posted + v_pending > a_ceiling[c]",
        noticed_by=streaming,
    ),
    Mutant(
        guard="a refusal takes back what its chain did",
        text="FOR u IN REVERSE i - 1 .. v_start LOOP",
        instead="FOR u IN REVERSE v_start - 1 .. v_start LOOP",
        noticed_by=streaming,
    ),
    Mutant(
        guard="what is decided at a glance is new to the record",
        text="v_small AND k IS NULL AND",
        instead="v_small AND",
        noticed_by=streaming,
    ),
    Mutant(
        guard="what is decided at a glance is new within its call",
        text="AND (j < i) IS NOT TRUE AND NOT t_map",
        instead="AND NOT t_map",
        noticed_by=streaming_long,
    ),
    Mutant(
        guard="what is decided at a glance is seen by those who reverse it",
        text="IS NOT TRUE AND NOT t_map ? c_id[i]::text;",
        instead="IS NOT TRUE;",
        noticed_by=streaming,
    ),
    Mutant(
        guard="what is decided at a glance has a chain that still stands",
        text="AND c_kind[i] = 'transfer' AND NOT v_failed THEN",
        instead="AND c_kind[i] = 'transfer' THEN",
        noticed_by=streaming,
    ),
    Mutant(
        guard="what is decided at a glance leaves no account below its least",
        text="IF v_from >= a_least[d] AND",
        instead="IF a_least[d] IS NOT NULL AND",
        noticed_by=streaming,
    ),
    Mutant(
        guard="what is decided at a glance brings no account above its most",
        text="AND v_to <= a_most[c] AND",
        instead="AND a_most[c] IS NOT NULL AND",
        noticed_by=streaming_long,
    ),
    Mutant(
        guard="what is decided at a glance is more than nothing",
        text="AND v_posted > 0 AND",
        instead="AND",
        noticed_by=streaming_long,
    ),
    Mutant(
        guard="what is decided at a glance is between two",
        text="AND a_asset[d] = a_asset[c] AND d <> c THEN",
        instead="AND a_asset[d] = a_asset[c] THEN",
        noticed_by=streaming_long,
    ),
    Mutant(
        guard="what is held raises the least",
        text="WHEN o.guard = 'always' THEN o.floor + o.debits_pending ELSE",
        instead="WHEN o.guard = 'always' THEN o.floor ELSE",
        noticed_by=streaming_long,
    ),
    Mutant(
        guard="accounts that are not open are looked at closely",
        text="a.state = 'open' AND greatest(",
        instead="greatest(",
        noticed_by=streaming,
    ),
    Mutant(
        guard="an account whose holds have changed is looked at closely",
        text="IF v_pending <> 0 THEN",
        instead="IF false THEN",
        noticed_by=streaming,
    ),
    Mutant(
        guard="an account whose state has changed is looked at closely",
        text="r_old[i] := a_state[d]; a_least[d] := NULL; a_most[d] := NULL;",
        instead="r_old[i] := a_state[d];",
        noticed_by=streaming_long,
    ),
    Mutant(
        guard="the terms of an account that is new at its turn are read then",
        text="IF array_position(a_asset, NULL) IS NOT NULL THEN",
        instead="IF false THEN",
        noticed_by=streaming,
    ),
    Mutant(
        guard="an account that is opened in its turn is not there before",
        text="a_state[u] := NULL; a_least[u] := NULL; a_most[u] := NULL;",
        instead="",
        noticed_by=streaming,
    ),
    Mutant(
        guard="an entry decided at a glance is the last of its account",
        text="a_head[c] := v_place | v_leaf;",
        instead="",
        noticed_by=streaming,
    ),
)
