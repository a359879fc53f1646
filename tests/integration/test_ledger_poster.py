"""The batcher on a real Postgres: connections ended under it, answers lost on the way back, several tenants."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum

import asyncpg
import pytest

from custody.assets import service as assets
from custody.db.session import Database
from custody.kernel.assetid import parse_asset_id
from custody.kernel.ids import TenantId, derived_uuid, new_uuid
from custody.kernel.money import Amount
from custody.ledger import postings, service
from custody.ledger.channel import ChannelLost, PostgresChannel, StopMark, connect
from custody.ledger.errors import PostingFailed
from custody.ledger.model import Command, OpenAccount, Outcome, Transfer, TransferCode
from custody.ledger.poster import Bounds, Poster
from tests.fakes.ledger_invariants import broken_invariants

XLM = parse_asset_id("stellar:devnet/native")
VAULT = postings.vault_account(derived_uuid("vault"), XLM)
WALLETS = [postings.wallet_account(derived_uuid("wallet", n), XLM) for n in range(5)]


@pytest.fixture(autouse=True)
async def funded(database: Database, tenant: TenantId) -> None:
    """Five wallets of 1000 each."""
    async with database.unit_of_work(tenant) as uow:
        await assets.register(uow, XLM, "XLM", 7)
        await service.post(uow, *(OpenAccount(key=key) for key in (VAULT, *WALLETS)))
        await service.post(uow, *(move(-1, n, 1000) for n in range(5)))


def move(debit: int, credit: int, atomic: int) -> Transfer:
    return Transfer(
        id=new_uuid(),
        debit=VAULT if debit < 0 else WALLETS[debit],
        credit=WALLETS[credit],
        amount=Amount(XLM, atomic),
        code=TransferCode.WALLET_TRANSFER,
        reference=new_uuid(),
    )


async def no_pause(_: int) -> None:
    await asyncio.sleep(0)


async def post_all(poster: Poster, tenant: TenantId, commands: Sequence[Command]) -> list[Outcome]:
    """Every command as a request of its own, through a running batcher."""
    async with asyncio.TaskGroup() as group:
        group.create_task(poster.run())
        answers = await asyncio.gather(*(poster.submit(tenant, command) for command in commands))
        poster.stop()
    return [outcome for (outcome,) in answers]


async def check(database: Database, tenant: TenantId) -> list[int]:
    async with database.read(tenant) as session:
        assert await broken_invariants(session) == []
        return [(await service.balance(session, key)).posted for key in WALLETS]


async def test_requests_are_answered_each_by_itself(
    database: Database, tenant: TenantId, app_dsn: str
) -> None:
    poster = Poster(lambda: connect(app_dsn), no_pause, Bounds(batch=7))
    commands = [move(0, 1, 100) for _ in range(14)]
    outcomes = await post_all(poster, tenant, commands)
    assert [o.command_id for o in outcomes] == [c.id for c in commands]
    assert Counter(o.result.value for o in outcomes) == {"applied": 10, "insufficient_funds": 4}
    assert [o.debit_balance for o in outcomes[:3]] == [900, 800, 700]
    assert (await check(database, tenant))[:2] == [0, 2000]


async def test_a_chain_of_nothing_is_answered_with_nothing(tenant: TenantId, app_dsn: str) -> None:
    poster = Poster(lambda: connect(app_dsn), no_pause)
    async with asyncio.TaskGroup() as group:
        group.create_task(poster.run())
        answers = await poster.submit_all(tenant, [[], [move(0, 1, 5)], []])
        poster.stop()
    assert [[o.result.value for o in chain] for chain in answers] == [[], ["applied"], []]
    assert poster.queued == 0


async def test_tenants_do_not_meet(
    database: Database, tenant: TenantId, other_tenant: TenantId, app_dsn: str
) -> None:
    async with database.unit_of_work(other_tenant) as uow:
        await service.post(uow, *(OpenAccount(key=key) for key in (VAULT, *WALLETS)))
    poster = Poster(lambda: connect(app_dsn), no_pause)
    async with asyncio.TaskGroup() as group:
        group.create_task(poster.run())
        answers = await asyncio.gather(
            *(poster.submit(t, move(-1, 0, 5)) for _ in range(6) for t in (tenant, other_tenant))
        )
        poster.stop()
    assert {o.result.value for (o,) in answers} == {"applied"}
    assert (await check(database, tenant))[0] == 1030
    assert (await check(database, other_tenant))[0] == 30


async def test_sessions_ended_at_any_moment_lose_and_double_nothing(
    database: Database, tenant: TenantId, app_dsn: str, admin_dsn: str
) -> None:
    poster = Poster(lambda: connect(app_dsn), no_pause, Bounds(batch=20))
    chance = random.Random(7)
    commands = [move(*chance.sample(range(5), 2), chance.randint(1, 9)) for _ in range(400)]
    ended, done = 0, asyncio.Event()

    async def assassin() -> None:
        nonlocal ended
        admin = await asyncpg.connect(admin_dsn)
        while not done.is_set():
            await asyncio.sleep(chance.random() / 50)
            ended += await admin.fetchval(
                "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE query LIKE 'SELECT * FROM ledger_post(%' AND datname = current_database()"
            )
        await admin.close()

    async with asyncio.TaskGroup() as group:
        group.create_task(assassin())
        outcomes = await post_all(poster, tenant, commands)
        done.set()
    assert ended > 0
    assert {o.result.value for o in outcomes} == {"applied"}
    assert sum(await check(database, tenant)) == 5000
    async with database.read(tenant) as session:
        booked = await session.conn.exec_driver_sql("SELECT id FROM ledger_transfers")
        assert {row.id for row in booked} >= {c.id for c in commands}


class Forgetful(PostgresChannel):
    """Loses every other answer after the commit."""

    forgets = True

    async def post(
        self, tenant: TenantId, chains: Sequence[Sequence[Command]], mark: StopMark | None = None
    ) -> list[Outcome]:
        outcomes = await super().post(tenant, chains, mark)
        Forgetful.forgets = not Forgetful.forgets
        if not Forgetful.forgets:
            raise ChannelLost
        return outcomes


async def test_answers_lost_after_the_commit_are_found_again(
    database: Database, tenant: TenantId, app_dsn: str
) -> None:
    async def forgetful() -> Forgetful:
        return Forgetful(await asyncpg.connect(app_dsn), 30)

    commands = [move(0, 1, 1) for _ in range(50)]
    outcomes = await post_all(Poster(forgetful, no_pause, Bounds(batch=9)), tenant, commands)
    assert [o.result.value for o in outcomes] == ["applied"] * 50
    assert all(o.replayed for o in outcomes)
    assert [o.debit_version for o in outcomes] == list(range(2, 52))
    assert (await check(database, tenant))[:2] == [950, 1050]


async def test_a_server_that_is_not_there_is_asked_again(
    database: Database, tenant: TenantId, app_dsn: str
) -> None:
    attempts: list[int] = []

    async def later() -> PostgresChannel:
        return await connect(app_dsn if len(attempts) == 3 else "postgresql://custody_app@127.0.0.1:1/none")

    async def pause(attempt: int) -> None:
        attempts.append(attempt)

    outcomes = await post_all(Poster(later, pause), tenant, [move(0, 1, 1)])
    assert (outcomes[0].result.value, attempts) == ("applied", [1, 2, 3])


class Strange(StrEnum):
    """A code that the table refuses."""

    CODE = "Not a code"


async def test_a_function_that_fails_is_reported_as_ours(tenant: TenantId, app_dsn: str) -> None:
    channel = await connect(app_dsn)
    with pytest.raises(PostingFailed):
        await channel.post(tenant, [[replace(move(0, 1, 1), code=Strange.CODE)]])  # type: ignore[arg-type]  # on purpose
    assert [o.result.value for o in await channel.post(tenant, [[move(0, 1, 1)]])] == ["applied"]
    await channel.close()
