"""A stop among requests and workers: nothing slips past it, and who waits behind it keeps nothing from others."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from sqlalchemy import text

from custody.db.session import Database
from custody.exchanges import service as exchanges
from custody.kernel.ids import (
    TenantId,
    new_uuid,
)
from custody.kernel.money import Amount
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.ledger.model import Command
from custody.switches import service as switches
from custody.switches.errors import (
    StoppedBySwitch,
)
from custody.switches.model import Place, Scope
from custody.transfers import service as transfers
from tests.fakes.withdrawal_world import ETH, EVM, START, STELLAR, VAULT, WALLET, XLM, World
from tests.integration.locks import until_someone_waits
from tests.integration.switch_stage import (
    actions,
    exchange_with,
    operator,
    second_wallet,
    stop,
    transfer_to,
)

pytestmark = pytest.mark.usefixtures("told_as_promised")

TWO = ("alice", "bob")


@pytest.fixture
async def world(database: Database, tenant: TenantId) -> World:
    return await World(db=database, tenant=tenant).open()


async def test_a_stop_waits_for_whoever_is_passing_and_lets_nobody_after_it(world: World) -> None:
    place = Place(Scope.CHAIN, EVM)
    async with world.db.unit_of_work(world.tenant) as passing:
        await switches.refuse_stopped(passing, [place])
        stopping = asyncio.create_task(stop(world.db, world.tenant, place))
        # It cannot have been committed while somebody who was let pass has not.
        done, _ = await asyncio.wait([stopping], timeout=0.2)
        assert not done
    await stopping
    with pytest.raises(StoppedBySwitch):
        await world.request(ETH)


@pytest.mark.parametrize("what", ["transfer", "exchange", "withdrawal"])
async def test_who_stands_behind_a_stop_keeps_no_account_from_others(world: World, what: str) -> None:
    other = await second_wallet(world)

    async def ask() -> None:
        async with world.db.unit_of_work(world.tenant) as uow:
            match what:
                case "transfer":
                    await transfers.request(uow, world.principal, transfer_to(other))
                case "exchange":
                    await exchanges.request(uow, world.principal, exchange_with(other), START)
                case _:
                    await world.request(XLM)

    async with world.db.unit_of_work(world.tenant) as stopping:
        place = Place(Scope.ASSET, XLM.text)
        await switches.stop(stopping, operator(world.tenant, "olga"), new_uuid(), place, "something is wrong")
        behind = asyncio.create_task(ask())
        await until_someone_waits(world.db)
        # A payment into the same wallet and out of the same vault's books is booked while the two wait.
        async with asyncio.timeout(20), world.db.unit_of_work(world.tenant) as uow:
            await uow.conn.execute(text("SET LOCAL lock_timeout = '5s'"))
            await ledger.post(uow, *paid_in())
        assert not behind.done()
    with pytest.raises(StoppedBySwitch):
        await behind


def paid_in() -> tuple[Command, ...]:
    return postings.deposit_credited(
        deposit_id=new_uuid(), wallet_id=WALLET, vault_id=VAULT[STELLAR], amount=Amount(XLM, 1)
    )


async def test_no_request_and_no_slot_is_committed_after_the_stop_is(world: World) -> None:
    """Many workers and requesters at once, one stop among them: the audit chain, in the order of commits, shows the line."""
    approved = [await world.request(ETH, approve=TWO) for _ in range(12)]

    async def ask() -> None:
        with suppress(StoppedBySwitch):
            while True:
                await world.request(ETH)

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(ask())
        for each in approved:
            group.create_task(world.advance(each))
        await asyncio.sleep(0)
        group.create_task(stop(world.db, world.tenant, Place(Scope.CHAIN, EVM)))
    told = await actions(world)
    line = told.index("switch.stopped")
    assert not {"withdrawal.request", "withdrawal.reserve"} & set(told[line:])
    for each in approved:
        assert await world.state(each) in ("approved", "signing", "broadcasting")
