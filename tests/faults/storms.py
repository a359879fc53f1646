"""Money in opposite directions, as much at once as there are connections: what deadlocks if locks are taken in a wrong order."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence

from custody.db.session import Database
from custody.kernel.ids import TenantId, new_uuid
from custody.ledger import service
from custody.ledger.model import AccountKey, Command, Transfer
from tests.faults.doors import BatchDoor, running
from tests.faults.plan import EQUITY, VAULT, WALLETS, movement

RING = [*WALLETS[:6], VAULT, EQUITY]
"""Accounts of which no payment of the storm runs out."""


def around(accounts: Sequence[AccountKey]) -> tuple[Command, ...]:
    """A chain that passes one unit along the accounts and back to the first."""
    pairs = zip(accounts, [*accounts[1:], accounts[0]], strict=True)
    return tuple(movement(Transfer, new_uuid(), debit, credit, 1) for debit, credit in pairs)


async def storm(database: Database, tenant: TenantId, dsn: str, seed: int, rounds: int = 12) -> Counter[str]:
    """Single chains, batches of chains and two batchers over the same ring, each in an order of its own; results by name.

    Whatever a call raises comes out of here: a single call must never be told to give way.
    """
    results: Counter[str] = Counter()
    batchers = [BatchDoor(dsn, batch=30), BatchDoor(dsn, batch=30)]

    async def caller(number: int) -> None:
        chance = random.Random(f"{seed} {number}")
        for _ in range(rounds):
            chains = [drawn(chance) for _ in range(1 if number % 2 else chance.randint(2, 10))]
            async with database.unit_of_work(tenant) as uow:
                outcomes = await service.submit(uow, chains)
            results.update(outcome.result.value for outcome in outcomes)

    async def client(number: int) -> None:
        chance = random.Random(f"{seed} client {number}")
        for _ in range(rounds):
            outcomes = await batchers[number % 2].submit(tenant, drawn(chance))
            results.update(outcome.result.value for outcome in outcomes)

    async with running(*batchers), asyncio.TaskGroup() as group:
        for number in range(10):
            group.create_task(caller(number))
            group.create_task(client(number))
    return results


def drawn(chance: random.Random) -> tuple[Command, ...]:
    """There and back between two, or a ring in either direction."""
    size = chance.choice((2, 2, 3, len(RING)))
    start = chance.randrange(len(RING))
    ring = [RING[(start + n) % len(RING)] for n in range(size)]
    return around(ring if chance.random() < 0.5 else ring[::-1])
