"""Withdrawals when ingestion and others hold each other's rows: no waiting in a circle, no transaction that nobody recognises."""

from __future__ import annotations

import asyncio

import pytest

from custody.audit import service as audit
from custody.db.session import Database
from custody.kernel.ids import TenantId
from custody.withdrawals import execution
from custody.withdrawals import service as withdrawals
from custody.withdrawals.model import OwnTransaction
from custody.withdrawals.settlement import lock_hash
from tests.fakes.faults import Crash
from tests.fakes.finality import lapse_due
from tests.fakes.withdrawal_world import ETH, EVM, FUNDS, START, STELLAR, VAULT_ACCOUNT, World

pytestmark = pytest.mark.usefixtures("told_as_promised")

PATIENCE_S = 20


@pytest.fixture
async def world(database: Database, tenant: TenantId) -> World:
    return await World(db=database, tenant=tenant).open()


async def test_ingestion_does_not_wait_for_a_withdrawal_that_it_only_wakes(world: World) -> None:
    """Two endings in one transaction: each wakes a withdrawal that somebody is just cancelling."""
    paid = [await world.request(ETH, approve=("alice", "bob")) for _ in range(2)]
    for each in paid:
        await world.advance(each)
    waiting = await world.request(ETH, approve=("alice", "bob"))
    seen = world.chains[EVM].close_block()
    async with world.db.unit_of_work(world.tenant) as cancelling:
        await withdrawals.cancel(cancelling, world.principal, waiting.id)
        async with asyncio.timeout(PATIENCE_S), world.db.unit_of_work(world.tenant) as ingesting:
            for each in seen:
                await withdrawals.observe_transaction(ingesting, each)
    assert [await world.state(each) for each in (*paid, waiting)] == ["confirming", "confirming", "cancelled"]


async def test_bytes_stored_while_their_block_is_taken_in_are_recognised(world: World) -> None:
    """Somebody sent the signer's bytes for us; the worker stores them in the moment in which ingestion sees them."""
    made = await world.request(approve=("alice", "bob"))
    world.faults.arm("after sign")
    with pytest.raises(Crash):
        await world.advance(made)
    signed = world.signer.journal[made.digest][1]
    await world.chains[STELLAR].submit(signed.tx, signed.tx_hash)
    seen = world.chains[STELLAR].close_block()
    async with world.db.unit_of_work(world.tenant) as uow:
        for each in seen:
            await withdrawals.observe_transaction(uow, each)
        storing = asyncio.create_task(world.advance(made))
        await asyncio.sleep(0.5)
    await storing
    async with world.db.unit_of_work(world.tenant) as uow:
        await lapse_due(uow, STELLAR, 200)
    assert await world.state(made) == "settled"
    assert await world.money() == (FUNDS - 1000, 0, FUNDS - 1100, 100)


async def test_bytes_stored_just_before_their_block_is_taken_in_are_recognised(world: World) -> None:
    """The other way round: ingestion asks before the worker's transaction is over, and the worker before ingestion's is."""
    made = await world.request(approve=("alice", "bob"))
    world.faults.arm("after sign")
    with pytest.raises(Crash):
        await world.advance(made)
    signed = world.signer.journal[made.digest][1]
    await world.chains[STELLAR].submit(signed.tx, signed.tx_hash)
    async with world.db.unit_of_work(world.tenant) as uow:
        await lock_hash(uow, STELLAR, signed.tx_hash)
        storing = asyncio.create_task(world.advance(made))
        await asyncio.sleep(0.5)
        ingesting = asyncio.create_task(world.ingest(STELLAR, final=0))
        await asyncio.sleep(0.5)
    await asyncio.gather(storing, ingesting)
    assert await world.state(made) == "confirming"
    await world.ingest(STELLAR, final=200)
    assert await world.state(made) == "settled"
    assert await world.money() == (FUNDS - 1000, 0, FUNDS - 1100, 100)


async def test_a_chain_that_is_not_configured_stops_only_its_own_withdrawals(world: World) -> None:
    stranded = await world.request(ETH, approve=("alice", "bob"))
    other = await world.request(approve=("alice", "bob"))
    del world.chains[EVM]
    failures = await execution.advance_due(world.means, world.tenant)
    assert [each.withdrawal_id for each in failures] == [stranded.id]
    assert [await world.state(each) for each in (stranded, other)] == ["approved", "broadcasting"]


async def test_a_fee_is_booked_although_the_vault_has_promised_everything_it_holds(world: World) -> None:
    made = [await world.request(amount=FUNDS // 2, approve=("alice", "bob")) for _ in range(2)]
    await world.advance(made[0])
    await world.ingest(STELLAR)
    assert [await world.state(each) for each in made] == ["settled", "approved"]
    assert await world.money() == (FUNDS // 2, FUNDS // 2, FUNDS // 2 - 100, 100)


async def test_every_change_of_a_transaction_that_nobody_asked_for_is_audited(world: World) -> None:
    seen = OwnTransaction(
        chain=EVM,
        height=102,
        tx_hash="0x" + "ab" * 32,
        account=VAULT_ACCOUNT[EVM],
        succeeded=True,
        fee_atomic=100,
        sequence=9,
        occurred_at=START,
    )
    async with world.db.unit_of_work(world.tenant) as uow:
        await withdrawals.observe_transaction(uow, seen)
        await withdrawals.orphan_above(uow, EVM, 101)
        await withdrawals.observe_transaction(uow, seen)
        await lapse_due(uow, EVM, 102)
    async with world.db.read(world.tenant) as session:
        entries = await audit.page(session, 0, 100)
        await audit.verify(session)
    told = [each.action.removeprefix("vault.unknown_transaction") for each in entries]
    assert [each for each in told if not each[:1].isalpha()] == ["", ".orphan", "", ".book"]
    assert await world.money(ETH) == (FUNDS, 0, FUNDS - 100, 100)
