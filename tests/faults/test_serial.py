"""What concurrent clients see is what one order of everything would have shown them, and it respects real time."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from custody.db.session import Database
from custody.kernel.ids import TenantId, derived_uuid, new_uuid
from custody.kernel.money import Amount
from custody.ledger import service
from custody.ledger.model import Hold, Outcome, PostHold, Transfer
from tests.fakes.ledger_history import anomalies
from tests.fakes.ledger_invariants import broken_invariants
from tests.faults.doors import BatchDoor, Door, SingleDoor, running
from tests.faults.observe import ACCOUNTS, label, observed
from tests.faults.plan import EQUITY, VAULT, WALLETS, XLM, Chain, movement, prepare


@pytest.fixture
async def tenant(database: Database) -> TenantId:
    return await prepare(database, "serial")


async def posted(database: Database, tenant: TenantId) -> dict[str, tuple[int, int]]:
    """By account, version and balance, all invariants holding."""
    async with database.read(tenant) as session:
        assert await broken_invariants(session) == []
        found = {label(key): await service.balance(session, key) for key in ACCOUNTS}
    return {name: (balance.version, balance.posted) for name, balance in found.items()}


async def test_histories_of_mixed_clients_are_strictly_serialisable(
    database: Database, tenant: TenantId, app_dsn: str
) -> None:
    seed = random.SystemRandom().randrange(2**31)
    opening = await posted(database, tenant)
    observer = await observed(database, tenant, app_dsn, seed)
    assert anomalies(observer.history, opening) == [], f"seed {seed}"
    await posted(database, tenant)
    counts = Counter(bool(operation.legs) for operation in observer.history)
    assert counts[True] > 100, "too little was written to say anything"
    assert counts[False] > 10, "too little was read to say anything"
    names = Counter(operation.name for operation in observer.history)
    assert max(names.values()) > 1, "nothing was sent twice"


async def everywhere(
    database: Database, tenant: TenantId, dsn: str, chains: list[Chain]
) -> list[tuple[Outcome, ...]]:
    """Each chain by a client of its own, all at once, dealt out to two batchers and single calls."""
    batches = [BatchDoor(dsn), BatchDoor(dsn)]
    doors: list[Door] = [*batches, SingleDoor(database)]
    async with running(*batches):
        return await asyncio.gather(
            *(doors[number % 3].submit(tenant, chain) for number, chain in enumerate(chains))
        )


async def test_one_id_through_every_door_has_one_effect_and_equal_answers(
    database: Database, tenant: TenantId, app_dsn: str
) -> None:
    before = await posted(database, tenant)
    sent: Chain = (movement(Transfer, new_uuid(), WALLETS[0], WALLETS[1], 7),)
    answers = await everywhere(database, tenant, app_dsn, [sent] * 12)
    assert len({outcome._replace(replayed=False) for (outcome,) in answers}) == 1
    assert sum(not outcome.replayed for (outcome,) in answers) <= 1
    version, balance = before[label(WALLETS[0])]
    assert (await posted(database, tenant))[label(WALLETS[0])] == (version + 1, balance - 7)


async def test_one_id_with_other_bodies_through_every_door_has_one_winner(
    database: Database, tenant: TenantId, app_dsn: str
) -> None:
    for _ in range(5):
        same = new_uuid()
        chains: list[Chain] = [
            (movement(Transfer, same, WALLETS[n], WALLETS[n + 1], n + 1),) for n in range(6)
        ]
        answers = await everywhere(database, tenant, app_dsn, chains)
        results = Counter(outcome.result.value for (outcome,) in answers)
        assert results == {"applied": 1, "transfer_exists_different": 5}
    await posted(database, tenant)


async def test_parts_of_one_hold_never_exceed_it_whichever_door_they_take(
    database: Database, tenant: TenantId, app_dsn: str
) -> None:
    before = (await posted(database, tenant))[label(WALLETS[0])][1]
    reserved = movement(Hold, new_uuid(), WALLETS[0], VAULT, 100)
    await SingleDoor(database).submit(tenant, (reserved,))
    parts: list[Chain] = [
        (PostHold(id=new_uuid(), hold_id=reserved.id, amount=Amount(XLM, 30)),) for _ in range(12)
    ]
    answers = await everywhere(database, tenant, app_dsn, parts)
    assert Counter(o.result.value for (o,) in answers) == {"applied": 3, "hold_exceeded": 9}
    assert (await posted(database, tenant))[label(WALLETS[0])][1] == before - 90


async def test_a_limit_shared_by_two_wallets_is_kept(
    database: Database, tenant: TenantId, app_dsn: str
) -> None:
    """Each payment draws on its own wallet and, in the same chain, on an allowance of 100 that both share."""
    allowance = WALLETS[2]
    async with database.unit_of_work(tenant) as uow:
        await service.post(uow, movement(Transfer, derived_uuid("rest"), allowance, EQUITY, 500))
    payments: list[Chain] = [
        (
            movement(Transfer, new_uuid(), WALLETS[n % 2], VAULT, 15),
            movement(Transfer, new_uuid(), allowance, EQUITY, 15),
        )
        for n in range(24)
    ]
    answers = await everywhere(database, tenant, app_dsn, payments)
    results = Counter(tuple(o.result.value for o in outcomes) for outcomes in answers)
    assert results == {("applied", "applied"): 6, ("chain_refused", "insufficient_funds"): 18}
    assert (await posted(database, tenant))[label(allowance)][1] == 10
