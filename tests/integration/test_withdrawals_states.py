"""Every state and event of withdrawals, attempts and strays: what the table says, and what the SQL that is guarded by it does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text

from custody.db.session import Database, UnitOfWork
from custody.identity import service as identity
from custody.kernel.errors import IllegalTransition
from custody.kernel.transitions import TransitionTable
from custody.withdrawals import attempt_store, store, stray_store
from custody.withdrawals.model import UNPAID, OwnTransaction
from custody.withdrawals.tables import BEFORE_THE_KEY
from custody.withdrawals.transitions import ATTEMPTS, STRAYS, WITHDRAWALS
from tests.fakes.withdrawal_world import STELLAR, VAULT, VAULT_ACCOUNT, World
from tests.postgres import Cluster

EXPECTED = {
    ("requested", "screen"): "screening",
    ("requested", "exempt"): "awaiting_approval",
    ("screening", "clear"): "awaiting_approval",
    ("screening", "block"): "blocked",
    ("awaiting_approval", "approve"): "approved",
    ("approved", "cool"): "cooling_down",
    ("approved", "block"): "blocked",
    ("cooling_down", "block"): "blocked",
    ("approved", "reserve"): "signing",
    ("cooling_down", "reserve"): "signing",
    ("signing", "sign"): "broadcasting",
    ("signing", "refuse"): "failed",
    ("broadcasting", "include"): "confirming",
    ("broadcasting", "lapse"): "failed",
    ("confirming", "orphan"): "broadcasting",
    ("confirming", "settle"): "settled",
    ("confirming", "fail"): "failed",
}
EXPECTED |= {(state, "cancel"): "cancelled" for state in BEFORE_THE_KEY}
EXPECTED |= {(state, "expire"): "expired" for state in BEFORE_THE_KEY}
EXPECTED |= {(state, "reject"): "rejected" for state in ("awaiting_approval", "approved", "cooling_down")}
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
EXPECTED_STRAYS = {
    ("observed", "book"): "booked",
    ("observed", "orphan"): "orphaned",
    ("observed", "match"): "matched",
    ("orphaned", "observe"): "observed",
    ("booked", "match"): "matched",
}
TABLES = [(WITHDRAWALS, EXPECTED), (ATTEMPTS, EXPECTED_ATTEMPTS), (STRAYS, EXPECTED_STRAYS)]

AT = datetime(2026, 1, 1, tzinfo=UTC)
BYTES: dict[str, Any] = {"tx": b"bytes", "tx_hash": "aa"}
FACTS: dict[str, Any] = {"height": 7, "succeeded": True, "fee_paid": 100, "included_at": AT}
NO_FACTS = dict.fromkeys(FACTS)
WITH_EVENT: dict[str, dict[str, Any]] = {
    "sign": BYTES,
    "include": FACTS,
    "orphan": NO_FACTS,
    "fail": {"succeeded": False},
}
"""What an attempt's move brings along, so that only the guard can refuse it."""


@pytest.mark.parametrize(("table", "expected"), TABLES)
def test_every_state_and_event_in_the_table(table: TransitionTable, expected: dict[tuple[str, str], str]):
    for state in table.states:
        for event in table.events:
            if (state, event) in expected:
                assert table.target(state, event) == expected[state, event]
            else:
                with pytest.raises(IllegalTransition):
                    table.target(state, event)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """One row of each table, in a database of this file's own."""

    world: World
    stray: OwnTransaction

    async def after(self, uow: UnitOfWork, table: TransitionTable, state: str, event: str) -> str | None:
        """The state of the table's row after the event, None where it was refused; it was forced into `state` before."""
        force = {WITHDRAWALS: self._withdrawal, ATTEMPTS: self._attempt, STRAYS: self._stray}[table]
        try:
            return await force(uow, state, event)
        except IllegalTransition:
            return None

    async def _withdrawal(self, uow: UnitOfWork, state: str, event: str) -> str:
        await uow.conn.execute(
            text(
                "UPDATE withdrawals SET state = :state, reason = :reason, approved_at = :at, cool_until = :at"
            ),
            {"state": state, "reason": "ended" if state in UNPAID else "", "at": AT},
        )
        (row,) = await store.load_page(uow, None, 2, None, ())
        reason = "ended" if WITHDRAWALS.target_of(event) in UNPAID else ""
        return (await store.change_state(uow, row, event, look_in_s=None, reason=reason)).state

    async def _attempt(self, uow: UnitOfWork, state: str, event: str) -> str:
        known: dict[str, Any] = {} if state in ("reserved", "refused") else dict(BYTES)
        if state in ("included", "confirmed", "failed"):
            known |= FACTS | {"succeeded": state != "failed"}
        sets = ", ".join(f"{name} = :{name}" for name in ("state", *known))
        await uow.conn.execute(text(f"UPDATE withdrawal_attempts SET {sets}"), {"state": state, **known})
        (row,) = (await uow.conn.execute(text("SELECT withdrawal_id FROM withdrawal_attempts"))).scalars()
        (attempt,) = await attempt_store.load_attempts(uow, row)
        return (await attempt_store.change_attempt(uow, attempt, event, **WITH_EVENT.get(event, {}))).state

    async def _stray(self, uow: UnitOfWork, state: str, event: str) -> str | None:
        await uow.conn.execute(text("UPDATE stray_transactions SET state = 'observed'"))
        stray = await stray_store.find(uow, STELLAR, self.stray.tx_hash)
        assert stray is not None
        await uow.conn.execute(text("UPDATE stray_transactions SET state = :state"), {"state": state})
        await stray_store.change(uow, stray, event)
        found = (await uow.conn.execute(text("SELECT state FROM stray_transactions"))).scalar_one()
        return None if found == state else str(found)


@pytest.fixture(scope="module")
async def rows(cluster: Cluster) -> AsyncIterator[Rows]:
    name = await cluster.create()
    database = Database(cluster.dsn(name, "custody_app"), pool_size=4)
    async with database.unit_of_work(None) as uow:
        tenant = await identity.create_tenant(uow, "acme")
    world = await World(db=database, tenant=tenant).open()
    world.signer.loses_answers = 1
    made = await world.request(approve=("alice", "bob"))
    assert await world.advance(made) == "signing"
    stray = OwnTransaction(
        chain=STELLAR,
        height=3,
        tx_hash="bb" * 32,
        account=VAULT_ACCOUNT[STELLAR],
        succeeded=True,
        fee_atomic=100,
        sequence=9,
        occurred_at=AT,
    )
    async with database.unit_of_work(tenant) as uow:
        await stray_store.observe(uow, VAULT[STELLAR], stray)
    yield Rows(world=world, stray=stray)
    await database.close()
    await cluster.drop(name)


@pytest.mark.parametrize(("table", "expected"), TABLES)
async def test_every_state_and_event_against_the_guard_in_sql(
    rows: Rows, table: TransitionTable, expected: dict[tuple[str, str], str]
):
    found = {}
    async with rows.world.db.engine.connect() as conn, conn.begin() as transaction:
        uow = UnitOfWork(conn, None)
        await uow.act_for(rows.world.tenant)
        for state in table.states:
            for event in table.events:
                async with conn.begin_nested() as point:
                    answer = await rows.after(uow, table, state, event)
                    await point.rollback()
                if answer is not None:
                    found[state, event] = answer
        await transaction.rollback()
    assert found == expected


@pytest.mark.parametrize("table", [WITHDRAWALS, ATTEMPTS, STRAYS])
def test_every_event_has_one_target_so_that_sql_can_guard_it(table: TransitionTable):
    for event in table.events:
        assert table.target_of(event) in table.states


def test_ends_are_ends():
    assert {"settled", "failed", "blocked", "rejected", "expired", "cancelled"} == WITHDRAWALS.terminal
    assert {"confirmed", "failed", "lapsed", "refused"} == ATTEMPTS.terminal
    assert set(UNPAID) == WITHDRAWALS.terminal - {"settled"}


def test_cancel_works_until_a_key_is_touched_and_never_after():
    touched = {"signing"}
    while True:
        reached = touched | {row.target for row in WITHDRAWALS.rows if row.source in touched}
        if reached == touched:
            break
        touched = reached
    assert set(WITHDRAWALS.sources("cancel")) == set(BEFORE_THE_KEY)
    assert set(WITHDRAWALS.states) - touched == {
        *BEFORE_THE_KEY, "blocked", "cancelled", "rejected", "expired",
    }  # fmt: skip
