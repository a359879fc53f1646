"""From request to the key: screening, cool-downs, schedules. Who can stop it, and the crash between every two steps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from custody.audit import service as audit
from custody.chains.stellar.address import muxed
from custody.db.session import Database
from custody.kernel.clock import FixedClock
from custody.kernel.ids import TenantId, WithdrawalId, new_uuid
from custody.policy.model import Word
from custody.screening import service as screening
from custody.screening.errors import NotRefusedNow
from custody.signing import intents
from custody.withdrawals import cooling
from custody.withdrawals import service as withdrawals
from custody.withdrawals.errors import (
    BadCoolDownRule,
    CancelTooLate,
    DecisionTooEarly,
    DecisionTooLate,
    WindowTooShort,
    WithdrawalExistsDifferent,
)
from custody.withdrawals.model import Withdrawal
from tests.fakes.faults import Crash
from tests.fakes.screener import FakeScreener, ScreeningDesk
from tests.fakes.withdrawal_world import (
    ETH,
    EVM,
    FUNDS,
    OUTSIDE,
    STELLAR,
    USDC,
    VAULT,
    XLM,
    World,
    make_policy,
    make_settings,
)

pytestmark = pytest.mark.usefixtures("told_as_promised")

FREE = (FUNDS, 0, FUNDS, 0)
HELD = (FUNDS, 1000, FUNDS, 0)
PAID = (FUNDS - 1000, 0, FUNDS - 1100, 100)
SCREENING = {"name": "desk", "url": "http://127.0.0.1:1/", "token": "none", "stuck_after_s": 60}


@pytest.fixture
async def world(database: Database, tenant: TenantId) -> World:
    return await World(db=database, tenant=tenant).open()


@pytest.fixture
def desk() -> ScreeningDesk:
    return ScreeningDesk()


@pytest.fixture
async def screened(database: Database, tenant: TenantId, desk: ScreeningDesk) -> World:
    """A world with an outside screener."""
    world = World(db=database, tenant=tenant, settings=make_settings(screening=SCREENING))
    world.means = replace(world.means, screener=FakeScreener(desk, world.faults))
    return await world.open()


@pytest.fixture
async def present(database: Database, tenant: TenantId) -> World:
    """A world whose clock agrees with the database's, which measures cool-downs."""
    return await World(db=database, tenant=tenant, clock=FixedClock(datetime.now(UTC))).open()


async def refuse(world: World, address: str = OUTSIDE[STELLAR], chain=STELLAR) -> None:
    async with world.db.unit_of_work(world.tenant) as uow:
        await screening.refuse(uow, "olga", chain, address, source="sanctions 2026-11-01")


async def cool(world: World, seconds: int, asset: str = "*", amount_min: int = 0) -> None:
    async with world.db.unit_of_work(world.tenant) as uow:
        await cooling.set_rule(uow, "olga", asset, amount_min=amount_min, seconds=seconds)


async def cancel(world: World, made: Withdrawal) -> str:
    async with world.db.unit_of_work(world.tenant) as uow:
        return (await withdrawals.cancel(uow, world.principal, made.id)).state


async def veto(world: World, made: Withdrawal) -> str:
    return (await world.decide(made, "carol", Word.REJECT)).state


async def expire(world: World, made: Withdrawal) -> str:
    world.clock.advance(3600)
    async with world.db.unit_of_work(world.tenant) as uow:
        await withdrawals.expire_due(uow, world.clock.now())
    return await world.state(made)


async def reaches(world: World, made: Withdrawal, state: str) -> None:
    """What may wait for a second of real time is carried on by a worker."""
    deadline = time.monotonic() + 20
    while await world.advance(made) != state:
        assert time.monotonic() < deadline, await world.state(made)
        await asyncio.sleep(0.05)


async def settles(world: World, made: Withdrawal) -> None:
    """Carried on until it is paid, once."""
    await reaches(world, made, "broadcasting")
    await world.ingest(made.asset.chain)
    assert await world.state(made) == "settled"
    assert len(world.chains[made.asset.chain].included) == 1


async def test_the_list_blocks_at_once_whatever_the_tag_and_forgets_only_by_a_row(world: World):
    earlier = await world.request()
    with pytest.raises(NotRefusedNow):
        async with world.db.unit_of_work(world.tenant) as uow:
            await screening.withdraw(uow, "olga", STELLAR, OUTSIDE[STELLAR], source="none")
    for _ in range(2):
        await refuse(world, muxed(OUTSIDE[STELLAR], 7))
    made = await world.request()
    assert made.state == "blocked"
    assert made.reason.endswith("sanctions 2026-11-01")
    assert await world.money() == HELD
    assert (await world.request(id=made.id)).state == "blocked"
    for stop, error in ((cancel, CancelTooLate), (veto, DecisionTooLate)):
        with pytest.raises(error):
            await stop(world, made)
    assert await world.advance(made) == "blocked"
    assert (await world.request(ETH)).state == "awaiting_approval"

    async with world.db.unit_of_work(world.tenant) as uow:
        await screening.withdraw(uow, "olga", STELLAR, OUTSIDE[STELLAR], source="sanctions 2026-11-20")
        rows = await screening.list_entries(uow)
    later = await world.request()
    assert (await world.state(made), later.state) == ("blocked", "awaiting_approval")
    assert [row.word for row in rows] == ["refused", "withdrawn"]
    said = [(await world.view(each)).screenings[0] for each in (earlier, made, later)]
    assert [(each.screener, each.finding.value) for each in said] == [
        ("list", "clear"), ("list", "hit"), ("list", "clear"),
    ]  # fmt: skip
    assert [each.list_version for each in said] == [0, rows[0].sequence, rows[1].sequence]
    async with world.db.read(world.tenant) as session:
        assert await audit.verify(session) > 0


@pytest.mark.parametrize("waits_s", [0, 1])
async def test_what_is_listed_after_the_approval_is_blocked_before_the_key(world: World, waits_s: int):
    await cool(world, waits_s)
    made = await world.request(ETH, approve=("alice", "bob"))
    assert made.state == ("cooling_down" if waits_s else "approved")
    await refuse(world, OUTSIDE[EVM].lower(), EVM)
    await reaches(world, made, "blocked")
    assert await world.money(ETH) == FREE
    view = await world.view(made)
    assert [each.finding.value for each in view.screenings] == ["clear", "hit"]
    assert view.attempts == ()
    assert world.signer.journal == {}


async def test_operations_of_a_vault_are_exempt_and_never_wait(world: World):
    await refuse(world, OUTSIDE[STELLAR])
    await cool(world, 3600)
    async with world.db.unit_of_work(world.tenant) as uow:
        made = await withdrawals.request_trustline(
            uow,
            world.principal,
            WithdrawalId(new_uuid()),
            VAULT[STELLAR],
            USDC,
            settings=world.settings,
            clock=world.clock,
        )
    for name in ("alice", "bob"):
        made = await world.decide(made, name)
    assert (made.state, (await world.view(made)).screenings) == ("approved", ())
    assert await world.advance(made) == "broadcasting"


async def test_an_outside_screener_is_asked_until_it_knows(screened: World, desk: ScreeningDesk):
    desk.pending = True
    made = await screened.request()
    assert made.state == "screening"
    with pytest.raises(DecisionTooEarly):
        await screened.decide(made, "alice")
    for _ in range(3):
        assert await screened.advance(made) == "screening"
    async with screened.db.unit_of_work(screened.tenant) as uow:
        await uow.conn.execute(text("UPDATE withdrawals SET changed_at = changed_at - interval '1 hour'"))
    await screened.advance(made)
    assert (await screened.view(made)).withdrawal.stuck_reason == "screening_unknown"
    async with screened.db.read(screened.tenant) as session:
        due = await session.conn.execute(
            text("SELECT extract(epoch FROM next_step_at - clock_timestamp()) FROM withdrawals")
        )
    assert 50 < due.scalar_one() <= 60

    desk.pending = False
    assert await screened.advance(made) == "awaiting_approval"
    view = await screened.view(made)
    assert view.withdrawal.stuck_reason == ""
    assert [(each.screener, each.finding.value) for each in view.screenings] == [
        ("list", "clear"), ("desk", "unknown"), ("desk", "clear"),
    ]  # fmt: skip
    assert list(desk.screenings) == [str(view.screenings[-1].reference)]
    for name in ("alice", "bob"):
        await screened.decide(made, name)
    await settles(screened, made)
    assert await screened.money() == PAID


async def test_a_row_that_was_left_in_requested_is_carried_on(screened: World, desk: ScreeningDesk):
    made = await screened.request()
    async with screened.db.unit_of_work(screened.tenant) as uow:
        await uow.conn.execute(text("UPDATE withdrawals SET state = 'requested'"))
    assert await screened.advance(made) == "awaiting_approval"
    assert desk.asked == 1


async def test_its_hit_blocks_and_releases(screened: World, desk: ScreeningDesk):
    desk.hits.add(OUTSIDE[STELLAR])
    made = await screened.request()
    assert await screened.advance(made) == "blocked"
    assert (await screened.view(made)).withdrawal.reason == "refused by desk"
    assert await screened.money() == FREE


async def test_only_its_word_clears_and_it_is_not_told_of_what_the_list_refuses(
    screened: World, desk: ScreeningDesk
):
    made = await screened.request()
    screened.means = replace(screened.means, screener=None, settings=make_settings())
    assert await screened.advance(made) == "screening"
    assert (await screened.view(made)).withdrawal.stuck_reason == "screening_unknown"
    await refuse(screened)
    assert (await screened.request()).state == "blocked"
    assert desk.asked == 0


@pytest.mark.parametrize(("end", "state"), [(cancel, "cancelled"), (expire, "expired")])
async def test_what_ends_during_the_screening_stays_ended(
    screened: World, desk: ScreeningDesk, end: Callable[[World, Withdrawal], Awaitable[str]], state: str
):
    desk.pending = True
    made = await screened.request()
    await screened.advance(made)
    assert await end(screened, made) == state
    assert await screened.money() == FREE
    desk.pending = False
    assert await screened.advance(made) == state


@pytest.mark.parametrize("threshold", [2, 0])
@pytest.mark.parametrize("point", ["before screen", "after screen"])
async def test_crash_between_any_two_steps_of_the_screening_ends_the_same(
    database: Database, tenant: TenantId, desk: ScreeningDesk, point: str, threshold: int
):
    settings = make_settings(screening=SCREENING)
    world = World(db=database, tenant=tenant, settings=settings, policy=make_policy(threshold))
    world.means = replace(world.means, screener=FakeScreener(desk, world.faults))
    await world.open()
    made = await world.request()
    world.faults.arm(point, times=2)
    for _ in range(2):
        with pytest.raises(Crash):
            await world.advance(made)
        assert await world.state(made) == "screening"
    await asyncio.gather(*(world.advance(made) for _ in range(3)))
    if threshold:
        assert await world.state(made) == "awaiting_approval"
        for name in ("alice", "bob"):
            await world.decide(made, name)
    await settles(world, made)
    assert await world.money() == PAID
    assert len(desk.screenings) == 1


@pytest.mark.parametrize(("end", "state"), [(cancel, "cancelled"), (veto, "rejected"), (expire, "expired")])
async def test_a_cool_down_gives_time_to_stop_it(
    world: World, end: Callable[[World, Withdrawal], Awaitable[str]], state: str
):
    await cool(world, 3000)
    made = await world.request(approve=("alice", "bob"))
    assert made.state == "cooling_down"
    assert await world.advance(made) == "cooling_down"
    assert (await world.decide(made, "alice")).state == "cooling_down"
    assert await world.money() == HELD
    assert await end(world, made) == state
    assert await world.money() == FREE
    assert await world.advance(made) == state
    assert (await world.view(made)).attempts == ()


async def test_the_longest_rule_holds_and_the_last_word_about_each(world: World):
    await cool(world, 100)
    await cool(world, 400, XLM.text, 1000)
    await cool(world, 900, XLM.text, 1001)
    made = await world.request(amount=1000, approve=("alice", "bob"))
    assert (made.cool_until - made.approved_at).total_seconds() == 400
    await cool(world, 0, XLM.text, 1000)
    other = await world.request(amount=1000, approve=("alice", "bob"))
    assert (other.cool_until - other.approved_at).total_seconds() == 100
    assert (await world.view(made)).withdrawal.cool_until == made.cool_until
    async with world.db.unit_of_work(world.tenant) as uow:
        assert [rule.seconds for rule in await cooling.list_rules(uow)] == [100, 900]
        for asset, amount_min, seconds in (("*", 1, 5), ("*", 0, -1), (XLM.text, -1, 5)):
            with pytest.raises(BadCoolDownRule):
                await cooling.set_rule(uow, "olga", asset, amount_min=amount_min, seconds=seconds)
    await cool(world, 3600)
    with pytest.raises(WindowTooShort):
        await world.request()


async def test_what_has_cooled_down_takes_its_turn_and_is_paid_once(present: World):
    await cool(present, 1, XLM.text, 1000)
    made = await present.request(approve=("alice", "bob"))
    assert made.state == "cooling_down"
    small = await present.request(amount=1, approve=("alice", "bob"))
    assert await present.advance(small) == "broadcasting"
    await present.ingest(STELLAR)
    present.chains[STELLAR].included.clear()
    present.faults.arm("before sign")
    with pytest.raises(Crash):
        await settles(present, made)
    assert await present.state(made) == "signing"
    with pytest.raises(CancelTooLate):
        await cancel(present, made)
    await settles(present, made)


async def test_a_schedule_is_kept_by_us_and_by_the_signer(present: World):
    soon = (datetime.now(UTC) + timedelta(seconds=1)).replace(microsecond=0) + timedelta(seconds=1)
    made = await present.request(ETH, execute_after=soon, approve=("alice", "bob"))
    assert (made.state, made.cool_until) == ("cooling_down", soon)
    assert int(intents.show(made.intent)["not_before"]) == int(soon.timestamp()) - 60
    assert await present.advance(made) == "cooling_down"
    again = await present.request(ETH, id=made.id, execute_after=soon)
    assert again.digest == made.digest
    with pytest.raises(WithdrawalExistsDifferent):
        await present.request(ETH, id=made.id)
    await settles(present, made)
    assert made.cool_until is not None

    past = await present.request(
        ETH, execute_after=datetime(2020, 1, 1, tzinfo=UTC), approve=("alice", "bob")
    )
    assert (past.state, past.cool_until) == ("approved", None)
    with pytest.raises(WindowTooShort):
        await present.request(execute_after=datetime.now(UTC) + timedelta(seconds=3590))
