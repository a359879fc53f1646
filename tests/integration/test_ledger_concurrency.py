"""Many connections at once: nothing is lost, nothing is doubled, no deadlock comes up."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from custody.assets import service as assets
from custody.db.session import Database
from custody.kernel.assetid import parse_asset_id
from custody.kernel.ids import TenantId, derived_uuid, new_uuid
from custody.kernel.money import Amount
from custody.ledger import postings, service
from custody.ledger.errors import LedgerBusy
from custody.ledger.model import (
    Command,
    ExpireHold,
    Hold,
    OpenAccount,
    Outcome,
    PostHold,
    Reverse,
    Transfer,
    TransferCode,
    VoidHold,
)
from tests.fakes.ledger_invariants import broken_invariants

XLM = parse_asset_id("stellar:devnet/native")
VAULT = postings.vault_account(derived_uuid("vault"), XLM)
WALLETS = [postings.wallet_account(derived_uuid("wallet", n), XLM) for n in range(6)]


@pytest.fixture(autouse=True)
async def funded(database: Database, tenant: TenantId) -> None:
    """Six wallets of 1000 each."""
    async with database.unit_of_work(tenant) as uow:
        await assets.register(uow, XLM, "XLM", 7)
        await service.post(uow, *(OpenAccount(key=key) for key in (VAULT, *WALLETS)))
        await service.post(uow, *(move(VAULT, n, 1000) for n in range(6)))


def move(debit: object, credit: int, atomic: int, command_id: UUID | None = None) -> Transfer:
    return Transfer(
        id=command_id or new_uuid(),
        debit=WALLETS[debit] if isinstance(debit, int) else VAULT,
        credit=WALLETS[credit],
        amount=Amount(XLM, atomic),
        code=TransferCode.WALLET_TRANSFER,
        reference=derived_uuid("reference"),
    )


def hold(atomic: int) -> Hold:
    return Hold(
        id=new_uuid(),
        debit=WALLETS[0],
        credit=VAULT,
        amount=Amount(XLM, atomic),
        code=TransferCode.WITHDRAWAL,
        reference=derived_uuid("reference"),
    )


async def submit(database: Database, tenant: TenantId, *chains: Sequence[Command]) -> list[Outcome]:
    async with database.unit_of_work(tenant) as uow:
        return await service.submit(uow, chains)


async def check(database: Database, tenant: TenantId) -> list[int]:
    """The wallets' balances, all invariants holding."""
    async with database.read(tenant) as session:
        assert await broken_invariants(session) == []
        return [(await service.balance(session, key)).posted for key in WALLETS]


async def test_opposite_directions_do_not_deadlock(database: Database, tenant: TenantId) -> None:
    async def storm(worker: int) -> Counter[str]:
        chance = random.Random(worker)
        answers: Counter[str] = Counter()
        for _ in range(15):
            chains: list[list[Command]] = []
            for _ in range(chance.randint(1, 12)):
                a, b = chance.sample(range(6), 2)
                chains.append([move(a, b, chance.randint(1, 300)), move(b, a, chance.randint(1, 300))])
            answers.update(o.result.value for o in await submit(database, tenant, *chains))
        return answers

    async with asyncio.TaskGroup() as group:
        workers = [group.create_task(storm(n)) for n in range(8)]
    answers = sum((worker.result() for worker in workers), Counter[str]())
    assert set(answers) <= {"applied", "insufficient_funds", "chain_refused"}
    assert answers["applied"] > 0
    assert sum(await check(database, tenant)) == 6000


async def test_one_id_on_many_connections_is_applied_once(database: Database, tenant: TenantId) -> None:
    command = move(0, 1, 10)
    answers = await asyncio.gather(*(submit(database, tenant, [command]) for _ in range(20)))
    assert [o.result.value for (o,) in answers] == ["applied"] * 20
    assert sum(not o.replayed for (o,) in answers) == 1
    assert {o.debit_version for (o,) in answers} == {2}
    assert (await check(database, tenant))[:2] == [990, 1010]


async def test_one_id_with_other_bodies_is_applied_once(database: Database, tenant: TenantId) -> None:
    for _ in range(10):
        command_id = new_uuid()
        # Other accounts in each, so that no account lock puts the racers in order: only the record's key does.
        bodies = [move(0, 1, 10, command_id), move(2, 3, 10, command_id), move(4, 5, 10, command_id)]
        answers = await asyncio.gather(*(submit(database, tenant, [body]) for body in bodies))
        assert sorted(o.result.value for (o,) in answers) == [
            "applied",
            "transfer_exists_different",
            "transfer_exists_different",
        ]
    assert sum(await check(database, tenant)) == 6000


async def test_the_same_ids_in_any_order_on_many_connections(database: Database, tenant: TenantId) -> None:
    commands = [move(n % 6, (n + 1) % 6, 1) for n in range(60)]

    async def shuffled(seed: int) -> list[Outcome]:
        order = random.Random(seed).sample(commands, len(commands))
        return await submit(database, tenant, *([command] for command in order))

    answers = await asyncio.gather(*(shuffled(seed) for seed in range(6)))
    assert {o.result.value for outcomes in answers for o in outcomes} == {"applied"}
    fresh = Counter(o.command_id for outcomes in answers for o in outcomes if not o.replayed)
    assert fresh == Counter(command.id for command in commands)
    assert await check(database, tenant) == [1000] * 6


async def test_two_partial_posts_of_one_hold_share_what_remains(database: Database, tenant: TenantId) -> None:
    reserved = hold(100)
    await submit(database, tenant, [reserved])
    parts: list[Command] = [
        PostHold(id=new_uuid(), hold_id=reserved.id, amount=Amount(XLM, 60)) for _ in range(2)
    ]
    answers = await asyncio.gather(*(submit(database, tenant, [part]) for part in parts))
    assert sorted(o.result.value for (o,) in answers) == ["applied", "hold_exceeded"]
    assert (await check(database, tenant))[0] == 940


async def test_a_hold_ends_one_way_only(database: Database, tenant: TenantId) -> None:
    reserved = hold(100)
    await submit(database, tenant, [reserved])
    ends: list[Command] = [
        *(PostHold(id=new_uuid(), hold_id=reserved.id) for _ in range(4)),
        *(VoidHold(id=new_uuid(), hold_id=reserved.id) for _ in range(4)),
    ]
    answers = await asyncio.gather(*(submit(database, tenant, [end]) for end in ends))
    assert sorted(o.result.value for (o,) in answers) == ["applied"] + ["hold_not_open"] * 7
    await check(database, tenant)


async def test_a_transfer_is_reversed_once_however_many_ask(database: Database, tenant: TenantId) -> None:
    transfer = move(0, 1, 10)
    await submit(database, tenant, [transfer])
    mirrors: list[Command] = [Reverse(id=new_uuid(), transfer_id=transfer.id) for _ in range(8)]
    answers = await asyncio.gather(*(submit(database, tenant, [mirror]) for mirror in mirrors))
    assert sorted(o.result.value for (o,) in answers) == ["already_reversed"] * 7 + ["applied"]
    assert await check(database, tenant) == [1000] * 6


async def test_the_same_money_is_not_spent_twice(database: Database, tenant: TenantId) -> None:
    answers = await asyncio.gather(*(submit(database, tenant, [move(0, 1, 300)]) for _ in range(12)))
    assert Counter(o.result.value for (o,) in answers) == {"applied": 3, "insufficient_funds": 9}
    assert (await check(database, tenant))[0] == 100


async def test_accounts_opened_by_many_at_once_are_one(database: Database, tenant: TenantId) -> None:
    fresh = [postings.wallet_account(new_uuid(), XLM) for _ in range(20)]

    async def open_all(seed: int) -> None:
        order = random.Random(seed).sample(fresh, len(fresh))
        async with database.unit_of_work(tenant) as uow:
            await service.post(uow, *(OpenAccount(key=key) for key in order))

    await asyncio.gather(*(open_all(seed) for seed in range(8)))
    async with database.read(tenant) as session:
        assert all([await service.find_account(session, key) for key in fresh])


async def test_holds_swept_and_settled_at_once_end_once(database: Database, tenant: TenantId) -> None:
    due = datetime(2030, 1, 1, tzinfo=UTC)
    reserved = [replace(hold(10), expires_at=due) for _ in range(10)]
    await submit(database, tenant, *([h] for h in reserved))
    settle: list[list[Command]] = [[PostHold(id=new_uuid(), hold_id=h.id)] for h in reserved]
    sweep: list[list[Command]] = [
        [ExpireHold(id=new_uuid(), hold_id=h.id, as_of=due)] for h in reversed(reserved)
    ]
    settled, swept = await asyncio.gather(submit(database, tenant, *settle), submit(database, tenant, *sweep))
    results = Counter(o.result.value for o in (*settled, *swept))
    assert results == {"applied": 10, "hold_not_open": 10}
    await check(database, tenant)


async def test_a_transaction_that_gives_way_is_told_to_come_back(
    database: Database, tenant: TenantId
) -> None:
    """Two transactions that post twice each, in opposite order: the one case in which Postgres must choose a victim."""
    met = asyncio.Barrier(2)

    async def post_twice(*commands: Transfer) -> str:
        try:
            async with database.unit_of_work(tenant) as uow:
                await service.post(uow, commands[0])
                await met.wait()
                await service.post(uow, commands[1])
        except LedgerBusy as busy:
            return busy.code
        return "committed"

    answers = await asyncio.gather(
        post_twice(move(0, 1, 1), move(2, 3, 1)), post_twice(move(2, 3, 1), move(0, 1, 1))
    )
    assert sorted(answers) == ["committed", "ledger_busy"]
    assert sum(await check(database, tenant)) == 6000
