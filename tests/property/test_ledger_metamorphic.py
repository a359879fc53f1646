"""Changes that must not matter: how commands reach the ledger, where batches end, in which order strangers come."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Sequence

import pytest

from custody.assets import service as assets
from custody.db.session import Database
from custody.identity import service as identity
from custody.kernel.ids import TenantId, derived_uuid, new_uuid
from custody.ledger import postings, service
from custody.ledger.channel import connect
from custody.ledger.model import AccountKey, Command, Hold, OpenAccount, Outcome, Transfer, VoidHold
from custody.ledger.poster import Bounds, Poster
from tests.fakes.ledger_invariants import broken_invariants
from tests.fakes.ledger_oracle import Answer, Oracle
from tests.faults.doors import pause
from tests.faults.plan import EQUITY, VAULT, Chain, movement
from tests.property.test_ledger_streams import EUR, XLM, Stream

_runs = itertools.count()


@pytest.fixture
async def seed(database: Database) -> int:
    """Of this run, printed when it fails; the assets are listed."""
    async with database.unit_of_work(None) as uow:
        await assets.register(uow, XLM, "XLM", 7)
        await assets.register(uow, EUR, "EUR", 2)
    drawn = random.SystemRandom().randrange(2**31)
    print(f"seed {drawn}")
    return drawn


async def fresh(database: Database) -> TenantId:
    async with database.unit_of_work(None) as uow:
        return await identity.create_tenant(uow, f"way {next(_runs)}")


async def in_pieces(database: Database, chains: Sequence[Chain], sizes: Sequence[int]) -> list[Outcome]:
    """To a fresh tenant, so many chains to a call, the sizes in turns."""
    tenant, outcomes, start = await fresh(database), list[Outcome](), 0
    for size in itertools.cycle(sizes):
        if start >= len(chains):
            break
        async with database.unit_of_work(tenant) as uow:
            outcomes += await service.submit(uow, chains[start : start + size])
        start += size
    await sound(database, tenant)
    return outcomes


async def by_batcher(database: Database, dsn: str, chains: Sequence[Chain], bounds: Bounds) -> list[Outcome]:
    """To a fresh tenant, all given to a batcher at once; it keeps their order."""
    tenant, poster = await fresh(database), Poster(lambda: connect(dsn), pause, bounds)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(poster.submit(tenant, *chain)) for chain in chains]
        await asyncio.sleep(0)
        group.create_task(poster.run())
        answers = await asyncio.gather(*tasks)
        poster.stop()
    await sound(database, tenant)
    return [outcome for answer in answers for outcome in answer]


async def by_turns(database: Database, dsn: str, chains: Sequence[Chain], seed: int) -> list[Outcome]:
    """To a fresh tenant, each chain after the one before it, by a batcher or by a call of its own as chance has it."""
    chance, outcomes = random.Random(seed), list[Outcome]()
    tenant, poster = await fresh(database), Poster(lambda: connect(dsn), pause)
    async with asyncio.TaskGroup() as group:
        group.create_task(poster.run())
        for chain in chains:
            if chance.random() < 0.5:
                outcomes += await poster.submit(tenant, *chain)
            else:
                async with database.unit_of_work(tenant) as uow:
                    outcomes += await service.submit(uow, [chain])
        poster.stop()
    await sound(database, tenant)
    return outcomes


async def sound(database: Database, tenant: TenantId) -> None:
    async with database.read(tenant) as session:
        assert await broken_invariants(session) == []


def answers(outcomes: Sequence[Outcome]) -> list[tuple[Answer, bool]]:
    """What must not depend on the way taken."""
    return [
        (
            Answer(o.result.value, o.debit_version, o.debit_balance, o.credit_version, o.credit_balance),
            o.replayed,
        )
        for o in outcomes
    ]


async def test_answers_do_not_depend_on_the_way_commands_take(
    database: Database, app_dsn: str, seed: int
) -> None:
    stream = Stream(seed, Oracle({XLM, EUR}))
    chains: list[Chain] = [tuple(stream.first_money())]
    expected = stream.oracle.submit(chains)
    for _ in range(120):
        chains.append(tuple(stream.chain()))
        expected += stream.oracle.submit([chains[-1]])
    whole = answers(await in_pieces(database, chains, [len(chains)]))
    assert [answer for answer, _ in whole] == expected
    assert answers(await in_pieces(database, chains, [1])) == whole
    assert answers(await in_pieces(database, chains, [1, 7, 2, 40])) == whole
    for size in (1, 5, 1000):
        assert answers(await by_batcher(database, app_dsn, chains, Bounds(batch=size))) == whole
    assert answers(await by_turns(database, app_dsn, chains, seed)) == whole


def village(number: int) -> list[AccountKey]:
    """Wallets that have no dealings with any other village."""
    return [postings.wallet_account(derived_uuid("village", number, n), XLM) for n in range(4)]


def villagers(number: int, chance: random.Random) -> list[Chain]:
    """What happens in one village, in order: some of it is refused."""
    wallets = village(number)
    source = postings.vault_account(derived_uuid("village", number), XLM)
    chains: list[Chain] = [
        tuple(OpenAccount(key=key) for key in (source, *wallets)),
        (movement(Transfer, new_uuid(), source, wallets[0], 100),),
    ]
    for _ in range(25):
        debit, credit = chance.sample(wallets, 2)
        held = movement(Hold, new_uuid(), debit, credit, chance.randint(1, 60))
        paid = movement(Transfer, new_uuid(), credit, debit, chance.randint(1, 60))
        chains += [(held,), (paid, VoidHold(id=new_uuid(), hold_id=held.id))]
    return chains


async def test_independent_streams_may_be_woven_in_any_way(database: Database, seed: int) -> None:
    chance = random.Random(seed)
    streams = [villagers(number, chance) for number in range(4)]
    seen: list[dict[object, Answer]] = []
    for _ in range(4):
        turns = [number for number, stream in enumerate(streams) for _ in stream]
        chance.shuffle(turns)
        sources = [iter(stream) for stream in streams]
        chains = [next(sources[number]) for number in turns]
        outcomes = await in_pieces(database, chains, [chance.randint(1, 50) for _ in range(9)])
        ids = [o.command_id for o in outcomes]
        told = [answer for answer, _ in answers(outcomes)]
        seen.append({id_: answer for id_, answer in zip(ids, told, strict=True) if id_ is not None})
    assert all(one == seen[0] for one in seen)
    assert {answer.result for answer in seen[0].values()} > {"applied", "insufficient_funds"}


async def test_transfers_that_all_fit_end_in_the_same_books_in_any_order(
    database: Database, seed: int
) -> None:
    chance = random.Random(seed)
    wallets = village(0)
    opening: Chain = tuple(OpenAccount(key=key) for key in (EQUITY, VAULT, *wallets))
    funds = [(movement(Transfer, new_uuid(), VAULT, key, 10_000),) for key in wallets]
    moves: list[Chain] = [
        (movement(Transfer, new_uuid(), debit, credit, chance.randint(1, 50)),)
        for debit, credit in (chance.sample([*wallets, VAULT, EQUITY], 2) for _ in range(150))
    ]
    ends = set()
    for _ in range(3):
        tenant = await fresh(database)
        chance.shuffle(moves)
        async with database.unit_of_work(tenant) as uow:
            outcomes = await service.submit(uow, [opening, *funds, *moves])
        assert {o.result.value for o in outcomes} == {"applied"}
        async with database.read(tenant) as session:
            keys = (EQUITY, VAULT, *wallets)
            ends.add(tuple([await service.balance(session, key) for key in keys]))
    assert len(ends) == 1


async def test_a_command_repeated_within_one_batch_is_one_command(database: Database, seed: int) -> None:
    first, second = (movement(Transfer, new_uuid(), VAULT, EQUITY, 5) for _ in range(2))
    other = movement(Transfer, first.id, VAULT, EQUITY, 6)
    chains: list[Chain] = [
        (OpenAccount(key=VAULT), OpenAccount(key=EQUITY)),
        (first,),
        (first,),
        (second, second),
        (other,),
        (first, second),
    ]
    whole = await in_pieces(database, chains, [len(chains)])
    told = [(o.result.value, o.replayed, o.debit_version) for o in whole][2:]
    assert told == [
        ("applied", False, 1),
        ("applied", True, 1),
        ("applied", False, 2),
        ("applied", True, 2),
        ("transfer_exists_different", False, None),
        ("applied", True, 1),
        ("applied", True, 2),
    ]
    assert answers(whole) == answers(await in_pieces(database, chains, [1]))


@pytest.mark.parametrize("failing", range(5))
async def test_a_chain_that_fails_at_any_leg_changes_nothing(
    database: Database, seed: int, failing: int
) -> None:
    wallets = village(1)
    legs: list[Command] = [
        movement(kind, new_uuid(), debit, credit, 3)
        for kind, debit, credit in (
            (Transfer, VAULT, wallets[0]),
            (Hold, wallets[0], wallets[1]),
            (Transfer, EQUITY, wallets[1]),
            (Hold, VAULT, EQUITY),
            (Transfer, EQUITY, VAULT),
        )
    ]
    legs[failing] = movement(Transfer, new_uuid(), wallets[2], wallets[3], 1)
    tenant = await fresh(database)
    keys = (VAULT, EQUITY, *wallets)
    async with database.unit_of_work(tenant) as uow:
        await service.submit(uow, [[OpenAccount(key=key) for key in keys]])
        await service.submit(uow, [[movement(Transfer, new_uuid(), VAULT, EQUITY, 9)]])
        before = [await service.balance(uow, key) for key in keys]
        after_it = movement(Transfer, new_uuid(), VAULT, EQUITY, 1)
        outcomes = await service.submit(uow, [legs, [after_it]])
        after = [await service.balance(uow, key) for key in keys]
    results = [o.result.value for o in outcomes]
    refused = ["chain_refused"] * len(legs)
    refused[failing] = "insufficient_funds"
    assert results == [*refused, "applied"]
    assert (outcomes[-1].debit_version, outcomes[-1].credit_version) == (2, 2)
    assert after[2:] == before[2:]
    await sound(database, tenant)


async def test_a_thousand_transfers_on_one_pair_number_themselves_however_they_are_cut(
    database: Database, seed: int
) -> None:
    opening: Chain = (OpenAccount(key=VAULT), OpenAccount(key=EQUITY))
    ids = [new_uuid() for _ in range(1000)]
    moves: list[Chain] = [
        (movement(Transfer, id_, *((VAULT, EQUITY) if n % 3 else (EQUITY, VAULT)), n + 1),)
        for n, id_ in enumerate(ids)
    ]
    whole = await in_pieces(database, [opening, *moves], [1001])
    assert answers(await in_pieces(database, [opening, *moves], [1, 99, 3, 250])) == answers(whole)
    assert [o.debit_version for o in whole[2:]] == list(range(1, 1001))
    expected = sum((n + 1) * (1 if n % 3 else -1) for n in range(1000))
    assert whole[-1].debit_balance == whole[-1].credit_balance
    assert abs(whole[-1].debit_balance or 0) == abs(expected)
