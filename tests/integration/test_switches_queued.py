"""What was asked for before a stop and is not done yet: it waits, whatever it is; what others have in hand ends as they say."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from custody.db.session import Database
from custody.exchanges import service as exchanges
from custody.kernel.clock import FixedClock
from custody.kernel.ids import TenantId, derived_uuid
from custody.payouts import service as payouts
from custody.payouts.model import Lost, RailEvent
from custody.switches.model import Place, Scope
from tests.fakes.fiat import NOW, make_fiat
from tests.fakes.withdrawal_world import ETH, EVM, START, STELLAR, XLM, World
from tests.integration.batch_stage import ask, decide, shown, wanted
from tests.integration.switch_stage import exchange_with, resume, second_wallet, stop

pytestmark = pytest.mark.usefixtures("told_as_promised")

ADA = Place(Scope.CUSTOMER, str(derived_uuid("customer", 1)))
LEASE = timedelta(seconds=20)
TWO = ("alice", "bob")


@pytest.fixture
async def world(database: Database, tenant: TenantId) -> World:
    return await World(db=database, tenant=tenant).open()


async def test_a_schedule_that_falls_due_behind_a_stop_waits_for_its_end(
    database: Database, tenant: TenantId
) -> None:
    # The clock agrees with the database's, which measures schedules.
    world = await World(db=database, tenant=tenant, clock=FixedClock(datetime.now(UTC))).open()
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
    made = await world.request(ETH, execute_after=soon, approve=TWO)
    stopped = await stop(world.db, world.tenant, ADA)
    async with asyncio.timeout(20):
        while (await world.view(made)).withdrawal.stuck_reason != "stopped":
            await world.advance(made)
            await asyncio.sleep(0.05)
    assert (await world.view(made)).attempts == ()
    await resume(world.db, stopped, world.tenant)
    assert await world.advance(made) == "broadcasting"


async def test_the_lines_of_a_batch_that_was_approved_wait_like_any_other(world: World) -> None:
    asked = await ask(world, wanted(100, 200, asset=ETH))
    for name in TWO:
        await decide(world, asked, name)
    stopped = await stop(world.db, world.tenant, Place(Scope.ASSET, ETH.text))
    lines = (await shown(world, asked)).lines
    assert [await world.advance(line) for line in lines] == ["approved"] * 2
    assert {line.stuck_reason for line in (await shown(world, asked)).lines} == {"stopped"}
    await resume(world.db, stopped, world.tenant)
    assert [await world.advance(line) for line in lines] == ["broadcasting"] * 2


async def test_what_is_in_others_hands_is_settled_and_what_gives_back_is_booked(world: World) -> None:
    sent = await world.request(ETH, approve=TWO)
    exchange = exchange_with(await second_wallet(world))
    async with world.db.unit_of_work(world.tenant) as uow:
        await exchanges.request(uow, world.principal, exchange, START)
    assert await world.advance(sent) == "broadcasting"
    await world.advance(sent)
    for place in (Place(Scope.CHAIN, EVM), Place(Scope.CHAIN, STELLAR), ADA, Place(Scope.ASSET, XLM.text)):
        await stop(world.db, world.tenant, place)
    await world.ingest(EVM)
    assert await world.state(sent) == "settled"
    async with world.db.unit_of_work(world.tenant) as uow:
        assert (await exchanges.reverse(uow, world.principal, exchange.id)).reversed_at is not None


async def test_a_payout_whose_outcome_is_unknown_is_asked_about_and_not_sent_again(
    database: Database, tenant: TenantId
) -> None:
    fiat = await make_fiat(database, tenant)
    await fiat.fund(10_000)
    payout = await fiat.request(1_000)
    async with database.unit_of_work(tenant) as uow:
        first = await payouts.claim(uow, ("sandbox",), NOW, LEASE)
        assert first is not None
        await payouts.record_submission(uow, first, Lost(cause="ConnectError"), NOW)
    stopped = await stop(database, tenant, Place(Scope.RAIL, "sandbox"))
    async with database.unit_of_work(tenant) as uow:
        due = await payouts.due_for_poll(uow, ("sandbox",), NOW + timedelta(hours=1))
        assert [each.payout_id for each in due] == [payout.id]
        assert await payouts.claim_resend(uow, payout.id, NOW, LEASE) is None
        await payouts.observe(uow, fiat.news(payout, RailEvent.SETTLED), NOW)
    assert (await fiat.get(payout.id)).state == "settled"
    await resume(database, stopped, tenant)
