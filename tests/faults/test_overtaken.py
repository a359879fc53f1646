"""A command that names something made at the same moment, by another call, on accounts that no lock has put in order yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import asyncpg
import pytest
from sqlalchemy import text

from custody.db.session import Database
from custody.kernel.ids import TenantId, derived_uuid, new_uuid
from custody.ledger import postings, service
from custody.ledger.channel import connect
from custody.ledger.model import (
    Command,
    ExpireHold,
    Hold,
    OpenAccount,
    Outcome,
    PostHold,
    Reverse,
    Transfer,
    VoidHold,
)
from tests.fakes.ledger_invariants import broken_invariants
from tests.faults.plan import DUE, VAULT, WALLETS, movement, prepare

ANNA, BERT, CARL, DORA = WALLETS[:4]
MADE = derived_uuid("made")
_GATE = text("SELECT pg_advisory_xact_lock(hashtextextended('ledger_post', CAST(:tenant AS integer)))")
_AT_TABLE = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'ledger_transfers'::regclass"
_WAITING = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


@pytest.fixture
async def tenant(database: Database) -> TenantId:
    return await prepare(database, "overtaken")


async def waiting(database: Database) -> None:
    """Return when a session waits for a lock."""
    async with asyncio.timeout(30):
        while True:
            async with database.read(None) as session:
                if (await session.conn.execute(_WAITING)).scalar_one():
                    return
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("made", "end"),
    [
        (Hold, lambda: PostHold(id=new_uuid(), hold_id=MADE)),
        (Hold, lambda: VoidHold(id=new_uuid(), hold_id=MADE)),
        (Hold, lambda: ExpireHold(id=new_uuid(), hold_id=MADE, as_of=DUE)),
        (Transfer, lambda: Reverse(id=new_uuid(), transfer_id=MADE)),
    ],
    ids=["post", "void", "expire", "reverse"],
)
async def test_what_is_made_while_its_end_waits_for_a_lock(
    database: Database, tenant: TenantId, made: type[Transfer | Hold], end: Callable[[], Command]
) -> None:
    """The end looks for what it names, does not find it, waits for somebody else's account, and finds it then."""
    extra = {"expires_at": DUE} if made is Hold else {}
    beside = movement(Transfer, new_uuid(), CARL, VAULT, 1)

    async def ending() -> list[Outcome]:
        async with database.unit_of_work(tenant) as uow:
            return await service.submit(uow, [[beside], [end()]])

    async with database.unit_of_work(tenant) as blocker:
        await service.post(blocker, movement(Transfer, new_uuid(), CARL, DORA, 1))
        async with database.unit_of_work(tenant) as maker:
            await service.post(maker, movement(made, MADE, ANNA, BERT, 10, **extra))
            answer = asyncio.ensure_future(ending())
            await waiting(database)
    outcomes = await answer
    # Which of the two came first is open; that both were asked and both are answered is not.
    assert outcomes[0].result.value == "applied"
    assert outcomes[1].result.value in {"applied", "hold_not_found", "transfer_not_found"}
    async with database.read(tenant) as session:
        assert await broken_invariants(session) == []


async def test_an_id_that_names_a_hold_is_another_command_wherever_the_hold_lies(
    database: Database, tenant: TenantId
) -> None:
    """The hold under the reused id lies on accounts that the call has no reason to lock."""
    used, other = (
        movement(Hold, new_uuid(), ANNA, VAULT, 1),
        movement(Hold, new_uuid(), BERT, VAULT, 1),
    )
    async with database.unit_of_work(tenant) as uow:
        await service.submit(uow, [[movement(Transfer, new_uuid(), VAULT, each, 5)] for each in (ANNA, BERT)])
        await service.submit(uow, [[used], [other]])
        (answer,) = await service.submit(uow, [[VoidHold(id=used.id, hold_id=other.id)]])
    assert answer.result.value == "transfer_exists_different"


async def test_a_batch_that_repeats_a_hold_does_not_stand_in_the_way_of_its_end(
    database: Database, tenant: TenantId, app_dsn: str
) -> None:
    """Whoever ends the hold has locked its accounts, for which the batch waits: the batch must not have locked the hold."""
    hold, beside = movement(Hold, new_uuid(), ANNA, VAULT, 1), movement(Transfer, new_uuid(), ANNA, BERT, 1)
    channel = await connect(app_dsn)
    await channel.post(tenant, [(hold,)])
    async with database.unit_of_work(tenant) as uow:
        await service.post(uow, movement(Transfer, new_uuid(), ANNA, VAULT, 1))
        batch = asyncio.ensure_future(channel.post(tenant, [(hold,), (beside,)]))
        await waiting(database)
        await service.post(uow, VoidHold(id=new_uuid(), hold_id=hold.id))
    outcomes = await batch
    await channel.close()
    assert [outcome.result.value for outcome in outcomes] == ["applied", "applied"]
    assert [outcome.replayed for outcome in outcomes] == [True, False]


async def test_an_account_opened_while_a_batch_waits_for_its_turn_has_its_limits(
    database: Database, tenant: TenantId, app_dsn: str
) -> None:
    """The batch has read what never changes of its accounts before its turn, when this one was not there."""
    fresh = postings.wallet_account(derived_uuid("fresh"), ANNA.asset)
    channel = await connect(app_dsn)
    async with database.unit_of_work(tenant) as uow:
        await service.submit(uow, [[movement(Transfer, new_uuid(), VAULT, ANNA, 10)]])
    async with database.unit_of_work(tenant) as gate:
        await gate.conn.execute(_GATE, {"tenant": int(tenant)})
        batch = asyncio.ensure_future(
            channel.post(
                tenant,
                [
                    (movement(Transfer, new_uuid(), fresh, ANNA, 5),),
                    (movement(Transfer, new_uuid(), ANNA, fresh, 5),),
                ],
            )
        )
        await waiting(database)
        async with database.unit_of_work(tenant) as uow:
            await service.post(uow, OpenAccount(key=fresh))
    outcomes = await batch
    await channel.close()
    assert [outcome.result.value for outcome in outcomes] == ["insufficient_funds", "applied"]


async def test_an_end_that_names_no_account_finds_the_hold_that_was_booked_while_it_waited(
    database: Database, tenant: TenantId, admin_dsn: str
) -> None:
    """It finds no hold, waits at the table behind somebody who waits for the hold's maker, and then finds one on accounts that it
    has not read."""
    made = movement(Hold, MADE, ANNA, VAULT, 1)
    async with database.unit_of_work(tenant) as uow:
        await service.submit(uow, [[movement(Transfer, new_uuid(), VAULT, ANNA, 5)]])

    archiver, watcher = await asyncpg.connect(admin_dsn), await asyncpg.connect(admin_dsn)

    async def pause_writers() -> None:
        async with archiver.transaction():
            await archiver.execute("LOCK TABLE ONLY ledger_transfers IN SHARE MODE")

    async def wait_at_table(sessions: int) -> None:
        async with asyncio.timeout(30):
            while await watcher.fetchval(_AT_TABLE) < sessions:
                pass

    async def ending() -> list[Outcome]:
        async with database.unit_of_work(tenant) as uow:
            return await service.submit(uow, [[PostHold(id=new_uuid(), hold_id=MADE)]])

    async with database.unit_of_work(tenant) as maker:
        await service.post(maker, made)
        pausing = asyncio.ensure_future(pause_writers())
        await wait_at_table(1)
        end = asyncio.ensure_future(ending())
        await wait_at_table(2)
    await pausing
    await archiver.close()
    await watcher.close()
    (outcome,) = await end
    assert outcome.result.value == "applied"
    async with database.read(tenant) as session:
        assert await broken_invariants(session) == []
