"""The verdict over disturbed books, given books that really are wrong: each broken promise is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from custody.db.session import Database
from custody.kernel.ids import TenantId, new_uuid
from custody.ledger.model import Transfer
from tests.faults.doors import SingleDoor
from tests.faults.drive import Journal, Told, drive
from tests.faults.plan import VAULT, WALLETS, Plan, draw_plan, movement, prepare
from tests.faults.verdict import troubles_of

LONG = "(SELECT chain_id FROM ledger_transfers WHERE id <> chain_id AND kind <> 'hold' ORDER BY booked_at DESC LIMIT 1)"
"""A chain of several transfers, the opening's or a later one."""


@pytest.fixture
async def tenant(database: Database) -> TenantId:
    return await prepare(database, "verdict")


@pytest.fixture
def plan() -> Plan:
    return draw_plan(5, 1, 72)


@pytest.fixture
async def journal(database: Database, tenant: TenantId, plan: Plan, tmp_path: Path) -> Journal:
    """Of a load that nothing disturbed."""
    kept = Journal(tmp_path / "journal.jsonl")
    await drive([SingleDoor(database)], tenant, plan, kept)
    kept.close()
    return kept


async def test_undisturbed_books_keep_every_promise(
    database: Database, tenant: TenantId, plan: Plan, journal: Journal
) -> None:
    assert len(journal.told) == 72
    assert await troubles_of(database, tenant, plan, journal) == []


def invented(told: Told) -> Told:
    """An answer to something that the ledger never heard of."""
    outcomes = tuple(outcome._replace(command_id=new_uuid()) for outcome in told.outcomes)
    return replace(told, chain=(movement(Transfer, new_uuid(), VAULT, WALLETS[0], 1),), outcomes=outcomes)


def moved(told: Told) -> Told:
    """The same id, answered with another version."""
    first = told.outcomes[0]
    return replace(told, outcomes=(first._replace(debit_version=(first.debit_version or 0) + 1),))


@pytest.mark.parametrize(
    ("forge", "said"),
    [(invented, "was acknowledged and is lost"), (moved, "was told")],
    ids=["lost", "two answers"],
)
async def test_an_answer_that_the_books_do_not_bear_out_is_named(
    database: Database,
    tenant: TenantId,
    plan: Plan,
    journal: Journal,
    forge: Callable[[Told], Told],
    said: str,
) -> None:
    applied = next(told for told in journal.told if told.outcomes[0].result.value == "applied")
    journal.told.append(forge(applied))
    assert any(said in trouble for trouble in await troubles_of(database, tenant, plan, journal))


@pytest.mark.parametrize(
    ("tampering", "said"),
    [
        (f"DELETE FROM ledger_transfers WHERE chain_id = {LONG} AND id <> chain_id", "torn"),
        (
            "UPDATE ledger_accounts SET version = version + 1 WHERE kind = 'vault'",
            "versions count from one without gaps",
        ),
        (
            "UPDATE ledger_commands SET result = 'account_frozen' WHERE result = 'hold_not_open'",
            "no state explains",
        ),
    ],
    ids=["torn chain", "lost version", "refusal without a reason"],
)
async def test_books_that_were_altered_are_named(
    database: Database,
    tenant: TenantId,
    plan: Plan,
    journal: Journal,
    admin_dsn: str,
    tampering: str,
    said: str,
) -> None:
    admin = await asyncpg.connect(admin_dsn)
    await admin.execute(
        "SET session_replication_role = replica"
    )  # triggers that guard history are off for us
    assert not (await admin.execute(tampering)).endswith(" 0")
    await admin.close()
    found = await troubles_of(database, tenant, plan, journal)
    assert any(said in trouble for trouble in found), found
