"""Sessions are ended and statements cancelled at each step of a call: before it, while it waits, between any two tables that it
writes, and after its commit. The callers get one answer, and the books one effect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import asyncpg
import pytest

from custody.db.session import Database
from custody.kernel.ids import TenantId, new_uuid
from custody.ledger.channel import PostgresChannel
from custody.ledger.model import Hold, Outcome, Transfer
from custody.ledger.poster import Poster
from tests.fakes.ledger_invariants import broken_invariants
from tests.fakes.ledger_replay import first_id
from tests.faults.doors import BatchDoor, SingleDoor, Unanswered, pause, running
from tests.faults.plan import VAULT, WALLETS, Chain, movement, prepare
from tests.faults.proxy import Proxy

ANNA, BERT = WALLETS[:2]
ROW = "SELECT FROM ledger_accounts WHERE state = 'open' FOR UPDATE"
STEPS = {
    "accounts are locked": ROW,
    "commands are recorded": "LOCK TABLE ledger_commands IN SHARE MODE",
    "accounts are changed": "LOCK TABLE ledger_accounts IN SHARE MODE",
    "transfers are written": "LOCK TABLE ledger_transfers IN SHARE MODE",
    "the batch is written": "LOCK TABLE ledger_batches IN SHARE MODE",
    "holds are written": "LOCK TABLE ledger_holds IN SHARE MODE",
}
"""What an administrator does so that a call stops at a step."""
ENDS = ("pg_terminate_backend", "pg_cancel_backend")
_STOPPED = (
    "FROM pg_stat_activity WHERE datname = current_database() AND usename = 'custody_app'"
    " AND wait_event_type = 'Lock'"
)

Admin: TypeAlias = "asyncpg.Connection[Any]"


@pytest.fixture
async def tenant(database: Database) -> TenantId:
    return await prepare(database, "sessions")


@pytest.fixture
async def admin(admin_dsn: str) -> AsyncIterator[Admin]:
    connection = await asyncpg.connect(admin_dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def blocker(admin_dsn: str) -> AsyncIterator[Admin]:
    connection = await asyncpg.connect(admin_dsn)
    yield connection
    await connection.close()


@asynccontextmanager
async def stopped_at(blocker: Admin, step: str) -> AsyncIterator[None]:
    """Calls stop at this step until the block ends."""
    async with blocker.transaction():
        await blocker.execute(STEPS[step])
        yield


async def until(admin: Admin, condition: str) -> None:
    """Return when the query finds something."""
    async with asyncio.timeout(30):
        while True:
            if await admin.fetchval(f"SELECT count(*) {condition}"):
                return
            await asyncio.sleep(0.005)


def chain() -> Chain:
    """Something that touches every table: money moved and money held, together."""
    return (
        movement(Transfer, new_uuid(), ANNA, BERT, 5),
        movement(Hold, new_uuid(), BERT, VAULT, 2),
    )


async def booked_once(database: Database, tenant: TenantId, outcomes: tuple[Outcome, ...]) -> None:
    """What was answered stands in the books, and Anna has paid once."""
    assert [o.result.value for o in outcomes] == ["applied", "applied"]
    async with database.read(tenant) as session:
        assert await broken_invariants(session) == []
        rows = await session.conn.exec_driver_sql(
            "SELECT id, debit_version, booked_at FROM ledger_transfers ORDER BY booked_at, leaf"
        )
        written = [(row.id, row.debit_version, row.booked_at) for row in rows][-2:]
        assert written == [(o.command_id, o.debit_version, o.booked_at) for o in outcomes]
        paid = await session.conn.exec_driver_sql("SELECT count(*) FROM ledger_transfers WHERE posted = 5")
        assert paid.scalar_one() == 1


@pytest.mark.parametrize("step", STEPS)
async def test_a_batch_that_is_ended_at_a_step_is_posted_once(
    database: Database, tenant: TenantId, app_dsn: str, admin: Admin, blocker: Admin, step: str
) -> None:
    door = BatchDoor(app_dsn)
    async with running(door):
        async with stopped_at(blocker, step):
            answer = asyncio.ensure_future(door.submit(tenant, chain()))
            for end in ENDS:
                await until(admin, _STOPPED)
                await admin.execute(f"SELECT {end}(pid) {_STOPPED}")
        await booked_once(database, tenant, await answer)


@pytest.mark.parametrize("step", STEPS)
async def test_a_single_call_that_is_ended_at_a_step_has_done_nothing(
    database: Database, tenant: TenantId, admin: Admin, blocker: Admin, step: str
) -> None:
    door, sent = SingleDoor(database), chain()
    async with stopped_at(blocker, step):
        for end in ENDS:
            answer = asyncio.ensure_future(door.submit(tenant, sent))
            await until(admin, _STOPPED)
            await admin.execute(f"SELECT {end}(pid) {_STOPPED}")
            with pytest.raises(Unanswered):
                await answer
    outcomes = await door.submit(tenant, sent)
    assert not any(o.replayed for o in outcomes)
    await booked_once(database, tenant, outcomes)


async def test_a_session_ended_between_two_batches_is_replaced(
    database: Database, tenant: TenantId, app_dsn: str, admin: Admin
) -> None:
    door = BatchDoor(app_dsn)
    idle = "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%ledger_post%' AND state = 'idle'"
    async with running(door):
        first = await door.submit(tenant, chain()[1:])
        await until(admin, idle)
        await admin.execute(f"SELECT pg_terminate_backend(pid) {idle} AND pid <> pg_backend_pid()")
        await booked_once(database, tenant, await door.submit(tenant, chain()))
    assert first[0].result.value == "applied"


async def test_an_answer_lost_between_commit_and_caller_is_the_answer(
    database: Database, tenant: TenantId, app_dsn: str, admin: Admin
) -> None:
    """The commit is done, its answer is on the way; then the session ends and the line with it."""
    sent = chain()
    async with Proxy(app_dsn) as proxy:
        door = BatchDoor(proxy.dsn)
        async with running(door):
            await door.submit(tenant, (movement(Transfer, new_uuid(), VAULT, BERT, 1),))
            proxy.answers.clear()
            answer = asyncio.ensure_future(door.submit(tenant, sent))
            await until(admin, f"FROM ledger_commands WHERE id = '{first_id(sent)}'")
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND usename = 'custody_app' AND query LIKE '%ledger_post%'"
            )
            assert not answer.done()
            proxy.cut_all()
            outcomes = await answer
    assert all(o.replayed for o in outcomes)
    await booked_once(database, tenant, outcomes)


class Hurried:
    """Opens channels whose statements may take one millisecond, as often as it is told, and patient ones afterwards."""

    def __init__(self, dsn: str, times: int) -> None:
        self.dsn, self.left, self.opened = dsn, times, 0

    async def connect(self) -> PostgresChannel:
        connection = await asyncpg.connect(self.dsn)
        self.opened += 1
        if self.opened <= self.left:
            await connection.execute("SET statement_timeout = 1")
        return PostgresChannel(connection, 30)


async def test_a_statement_timeout_in_the_batch_leaves_nothing_and_is_tried_again(
    database: Database, tenant: TenantId, app_dsn: str
) -> None:
    hurried = Hurried(app_dsn, 5)
    poster = Poster(hurried.connect, pause)
    commands = [movement(Transfer, new_uuid(), VAULT, WALLETS[n % 4], 1) for n in range(400)]
    async with asyncio.TaskGroup() as group:
        group.create_task(poster.run())
        answers = await asyncio.gather(*(poster.submit(tenant, command) for command in commands))
        poster.stop()
    assert hurried.opened > hurried.left
    assert {o.result.value for (o,) in answers} == {"applied"}
    assert not any(o.replayed for (o,) in answers)
    async with database.read(tenant) as session:
        assert await broken_invariants(session) == []


async def test_a_batch_that_waits_longer_than_the_statement_timeout_is_tried_again(
    database: Database, tenant: TenantId, app_dsn: str, admin: Admin, blocker: Admin
) -> None:
    door = BatchDoor(f"{app_dsn}?statement_timeout=50")
    async with running(door):
        async with stopped_at(blocker, "accounts are locked"):
            answer = asyncio.ensure_future(door.submit(tenant, chain()))
            await until(admin, _STOPPED)
            began = await admin.fetchval(f"SELECT max(backend_start) {_STOPPED}")
            await until(admin, f"{_STOPPED} AND backend_start > '{began}'")
        await booked_once(database, tenant, await answer)
