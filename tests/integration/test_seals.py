"""Sealing: every batch once, none skipped however late it commits, chained and signed, whatever dies in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from custody.db.session import Database
from custody.kernel.ids import TenantId
from custody.ledger import service as ledger
from custody.ledger.errors import InsufficientFunds
from custody.seals import chain, execution, service
from custody.seals.errors import HistoryAltered, SealClockBehind
from custody.seals.model import Verified
from custody.signing.checkpoints import message_of
from custody.signing.errors import SignerRefused, SignerUnreachable
from tests.fakes.checkpoint_desk import CheckpointDesk
from tests.fakes.sealed_books import deposit, open_books, pay, post


@pytest.fixture(autouse=True)
async def books(database: Database, tenant: TenantId) -> None:
    await open_books(database, tenant)


@pytest.fixture
def signer(tmp_path: Path) -> Iterator[CheckpointDesk]:
    desk = CheckpointDesk(tmp_path)
    yield desk
    desk.close()


@pytest.fixture
async def admin(admin_dsn: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(admin_dsn)
    yield connection
    await connection.close()


async def verify(database: Database, tenant: TenantId, trusted: frozenset[bytes] | None = None) -> Verified:
    async with database.read(tenant) as session:
        return await service.verify(session, message_of, trusted)


async def sealed(admin: asyncpg.Connection[Any]) -> list[list[int]]:
    """Numbers of the batches of each seal, in order."""
    rows = await admin.fetch(
        "SELECT sequence, array_agg(batch_id ORDER BY batch_id) AS ids FROM ledger_sealed_batches GROUP BY 1 ORDER BY 1"
    )
    return [row["ids"] for row in rows]


async def test_everything_booked_is_sealed_signed_and_verifies(
    database: Database, tenant: TenantId, signer: CheckpointDesk
) -> None:
    (first,) = await execution.seal_and_sign(database, signer, tenant)
    assert (first.sequence, first.previous, first.from_xid) == (1, chain.GENESIS, 0)
    await post(database, tenant, pay(0, 1, 5))
    (second,) = await execution.seal_and_sign(database, signer, tenant)
    assert (second.sequence, second.previous, second.from_xid) == (2, first.hash, first.to_xid)
    trusted = await execution.trusted_keys(database, signer, tenant)
    assert len(trusted) == 1
    verified = await verify(database, tenant, trusted)
    assert (verified.transfers, verified.batches, verified.unsealed) == (11, 3, 0)
    assert (verified.seals, verified.checkpoints, frozenset(verified.keys)) == (2, 2, trusted)


async def test_nothing_new_makes_no_seal(
    database: Database, tenant: TenantId, signer: CheckpointDesk
) -> None:
    await execution.seal_and_sign(database, signer, tenant)
    assert await execution.seal_and_sign(database, signer, tenant) == []
    assert signer.asked == [1]


async def test_what_is_not_sealed_yet_is_verified_too(database: Database, tenant: TenantId) -> None:
    verified = await verify(database, tenant)
    assert (verified.batches, verified.unsealed, verified.seals) == (2, 2, 0)


async def test_a_batch_that_commits_late_is_never_skipped(
    database: Database, tenant: TenantId, signer: CheckpointDesk, admin: asyncpg.Connection[Any]
) -> None:
    await execution.seal_and_sign(database, signer, tenant)
    async with database.unit_of_work(tenant) as late:
        await ledger.post(late, pay(0, 1, 5))
        await post(database, tenant, pay(2, 3, 5))
        # The later batch has the higher number and is committed; the watermark stands below both.
        assert await execution.seal_and_sign(database, signer, tenant) == []
    (seal,) = await execution.seal_and_sign(database, signer, tenant)
    assert seal.batches == 2
    numbers = [row["id"] for row in await admin.fetch("SELECT id FROM ledger_batches ORDER BY id")]
    assert [one for seal in await sealed(admin) for one in seal] == numbers
    assert (await verify(database, tenant)).unsealed == 0


async def test_a_low_number_of_a_late_transaction_comes_into_a_later_seal(
    database: Database, tenant: TenantId, signer: CheckpointDesk, admin: asyncpg.Connection[Any]
) -> None:
    """A transaction may draw its batch number before it is given its own: then the numbers stand in another order."""
    await execution.seal_and_sign(database, signer, tenant)
    kept = await admin.fetchval("SELECT nextval('ledger_batch_numbers')")
    await post(database, tenant, pay(0, 1, 5))
    await execution.seal_and_sign(database, signer, tenant)
    current = await admin.fetchval("SELECT last_value FROM ledger_batch_numbers")
    await admin.execute("SELECT setval('ledger_batch_numbers', $1, false)", kept)
    await post(database, tenant, pay(1, 2, 5))
    await admin.execute("SELECT setval('ledger_batch_numbers', $1)", current)
    (seal,) = await execution.seal_and_sign(database, signer, tenant)
    assert (seal.from_batch, seal.to_batch) == (kept, kept)
    assert (await verify(database, tenant)).unsealed == 0


async def test_a_transaction_that_rolls_back_leaves_a_gap_and_no_trouble(
    database: Database, tenant: TenantId, signer: CheckpointDesk
) -> None:
    async def post_and_fail() -> None:
        async with database.unit_of_work(tenant) as uow:
            await ledger.post(uow, pay(0, 1, 5))
            await ledger.post(uow, pay(0, 1, 5000))

    with pytest.raises(InsufficientFunds):
        await post_and_fail()
    await post(database, tenant, pay(0, 1, 6))
    await execution.seal_and_sign(database, signer, tenant)
    assert (await verify(database, tenant)).unsealed == 0


async def test_writers_and_sealers_in_a_storm_seal_every_batch_once(
    database: Database, tenant: TenantId, signer: CheckpointDesk, admin: asyncpg.Connection[Any]
) -> None:
    async def write(n: int) -> None:
        for step in range(8):
            async with database.unit_of_work(tenant) as uow:
                await ledger.post(uow, deposit(n % 5, 1 + step))
                if step % 3 == 0:
                    await ledger.post(uow, deposit(n % 5, 1))

    async def seal() -> None:
        for _ in range(12):
            async with database.unit_of_work(tenant) as uow:
                await service.seal_next(uow)

    await asyncio.gather(*(write(n) for n in range(6)), seal(), seal())
    await execution.seal_and_sign(database, signer, tenant)
    numbers = {row["id"] for row in await admin.fetch("SELECT id FROM ledger_batches")}
    taken = [one for seal in await sealed(admin) for one in seal]
    assert (len(taken), set(taken)) == (len(numbers), numbers)
    verified = await verify(database, tenant)
    assert (verified.unsealed, verified.checkpoints) == (0, verified.seals)


async def test_a_backlog_is_sealed_in_pieces_and_one_transaction_stays_whole(
    database: Database, tenant: TenantId, signer: CheckpointDesk
) -> None:
    for _ in range(4):
        await post(database, tenant, deposit(0, 1))
    async with database.unit_of_work(tenant) as uow:
        for _ in range(5):
            await ledger.post(uow, deposit(0, 1))
    await post(database, tenant, deposit(0, 1))
    sizes = []
    while True:
        async with database.unit_of_work(tenant) as uow:
            seal = await service.seal_next(uow, 3)
        if seal is None:
            break
        sizes.append(seal.batches)
    assert sizes == [3, 3, 5, 1]
    await execution.seal_and_sign(database, signer, tenant)
    assert (await verify(database, tenant)).unsealed == 0


async def test_tenants_have_chains_of_their_own(
    database: Database, tenant: TenantId, other_tenant: TenantId, signer: CheckpointDesk
) -> None:
    await open_books(database, other_tenant)
    for one in (tenant, other_tenant):
        (seal,) = await execution.seal_and_sign(database, signer, one)
        assert (seal.tenant, seal.sequence) == (one, 1)
    keys = {one: await execution.trusted_keys(database, signer, one) for one in (tenant, other_tenant)}
    assert keys[tenant].isdisjoint(keys[other_tenant])


async def test_seals_wait_for_an_absent_signer_and_are_signed_in_order(
    database: Database, tenant: TenantId, signer: CheckpointDesk
) -> None:
    signer.away = True
    for _ in range(2):
        with pytest.raises(SignerUnreachable):
            await execution.seal_and_sign(database, signer, tenant)
        await post(database, tenant, deposit(0, 1))
    verified = await verify(database, tenant)
    assert (verified.seals, verified.checkpoints) == (2, 0)
    signer.away = False
    await execution.seal_and_sign(database, signer, tenant)
    assert signer.asked == [1, 2, 3]
    assert (await verify(database, tenant)).checkpoints == 3


async def test_a_signature_whose_answer_was_lost_is_asked_for_again(
    database: Database, tenant: TenantId, signer: CheckpointDesk
) -> None:
    async with database.unit_of_work(tenant) as uow:
        seal = await service.seal_next(uow)
    assert seal is not None
    key_id = await signer.checkpoint_key(request_id=execution.key_request(tenant), tenant=tenant)
    await signer.sign_checkpoint(tenant=tenant, key_id=key_id, sequence=1, seal_hash=seal.hash)
    await execution.seal_and_sign(database, signer, tenant)
    assert (await verify(database, tenant)).checkpoints == 1


async def test_two_workers_that_sign_one_seal_keep_one_signature(
    database: Database, tenant: TenantId, signer: CheckpointDesk
) -> None:
    await asyncio.gather(*(execution.seal_and_sign(database, signer, tenant) for _ in range(4)))
    assert (await verify(database, tenant)).checkpoints == 1


async def test_a_past_that_was_set_back_cannot_be_sealed_under_the_same_key(
    database: Database, tenant: TenantId, signer: CheckpointDesk, admin: asyncpg.Connection[Any]
) -> None:
    await execution.seal_and_sign(database, signer, tenant)
    await admin.execute("SET session_replication_role = replica")
    for table in ("ledger_seals", "ledger_sealed_batches", "ledger_checkpoints"):
        await admin.execute(f"DELETE FROM {table}")
    with pytest.raises(SignerRefused) as caught:
        await execution.seal_and_sign(database, signer, tenant)
    assert caught.value.reason == "checkpoint_exists_different"
    fresh = await signer.checkpoint_key(
        request_id=execution.key_request(tenant, "after the loss"), tenant=tenant
    )
    await execution.seal_and_sign(database, signer, tenant, fresh)
    assert (await verify(database, tenant)).checkpoints == 1


async def test_a_batch_that_is_not_its_root_is_never_sealed(
    database: Database, tenant: TenantId, signer: CheckpointDesk, admin: asyncpg.Connection[Any]
) -> None:
    await admin.execute("SET session_replication_role = replica")
    await admin.execute("UPDATE ledger_transfers SET code = 'receipt' WHERE leaf = 2")
    with pytest.raises(HistoryAltered):
        await execution.seal_and_sign(database, signer, tenant)
    assert await admin.fetchval("SELECT count(*) FROM ledger_seals") == 0


async def test_a_transaction_counter_below_the_last_seal_stops_sealing(
    database: Database, tenant: TenantId, admin: asyncpg.Connection[Any]
) -> None:
    """What a logical dump restored into a fresh cluster looks like: batches booked there would lie in sealed ranges."""
    async with database.unit_of_work(tenant) as uow:
        await service.seal_next(uow)
    await admin.execute("SET session_replication_role = replica")
    await admin.execute("UPDATE ledger_seals SET to_xid = to_xid + 1000000")
    await post(database, tenant, deposit(0, 1))
    with pytest.raises(SealClockBehind):
        async with database.unit_of_work(tenant) as uow:
            await service.seal_next(uow)


@pytest.mark.parametrize(
    "table", ["ledger_seals", "ledger_sealed_batches", "ledger_checkpoints", "ledger_liabilities"]
)
async def test_the_application_can_only_add(app_dsn: str, tenant: TenantId, table: str) -> None:
    app = await asyncpg.connect(app_dsn)
    await app.execute(f"SET app.tenant = '{tenant}'")
    for statement in (f"UPDATE {table} SET sequence = 9", f"DELETE FROM {table}", f"TRUNCATE {table}"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await app.execute(statement)
    await app.close()
