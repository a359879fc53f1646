"""Batches on a real Postgres: held all or none, decided about as one, and each line with an end of its own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from custody.approvals.errors import DecisionExistsDifferent
from custody.db.session import Database
from custody.kernel.ids import TenantId, new_uuid
from custody.ledger.errors import InsufficientFunds
from custody.policy.errors import PolicyDenies
from custody.policy.model import Demand, Word
from custody.screening import service as screening
from custody.signing.errors import InvalidDecision
from custody.withdrawals import batches
from custody.withdrawals import service as withdrawals
from custody.withdrawals.errors import (
    BadBatchSize,
    BatchExistsDifferent,
    CancelTooLate,
    DecisionTooEarly,
    DecisionTooLate,
    LineOfBatch,
    UnknownBatch,
)
from tests.fakes.screener import FakeScreener, ScreeningDesk
from tests.fakes.withdrawal_world import (
    ETH,
    EVM,
    FUNDS,
    OUTSIDE,
    STELLAR,
    World,
    make_policy,
    make_settings,
)
from tests.integration.batch_stage import ask, decide, shown, states, wanted

pytestmark = pytest.mark.usefixtures("told_as_promised")

SCREENING = {"name": "desk", "url": "http://127.0.0.1:1/", "token": "none", "stuck_after_s": 60}


@pytest.fixture
async def world(database: Database, tenant: TenantId) -> World:
    return await World(db=database, tenant=tenant).open()


async def test_two_people_approve_all_lines_by_one_signature_each_and_every_line_is_paid(
    world: World,
) -> None:
    command = wanted(100, 200, 300, asset=ETH)
    asked = await ask(world, command)
    assert await ask(world, command) == asked
    assert (await world.money(ETH))[1] == 600
    assert (states(asked), asked.verdict.missing) == (["awaiting_approval"] * 3, 2)
    once = await decide(world, asked, "alice")
    assert await decide(world, asked, "alice") == once
    assert (states(once), once.verdict.missing) == (["awaiting_approval"] * 3, 1)
    done = await decide(world, asked, "bob")
    assert states(done) == ["approved"] * 3
    for line in done.lines:
        assert await world.advance(line) == "broadcasting"
    assert len(set(world.chains[EVM].sent)) == 3
    await world.ingest(EVM)
    await world.ingest(EVM)
    assert states(await shown(world, asked)) == ["settled"] * 3
    assert (await world.money(ETH))[:2] == (FUNDS - 600, 0)


async def test_stellar_lines_follow_each_other(world: World) -> None:
    asked = await ask(world, wanted(100, 200))
    await decide(world, asked, "alice")
    done = await decide(world, asked, "bob")
    for line in done.lines:
        assert await world.advance(line) == "broadcasting"
        await world.ingest(STELLAR)
    assert states(await shown(world, asked)) == ["settled"] * 2


async def test_all_amounts_are_held_or_none_is(world: World) -> None:
    before = await world.money()
    for command, error in (
        (wanted(400_000, 400_000, 300_000), InsufficientFunds),
        (wanted(*[1] * 101), BadBatchSize),
        (wanted(), BadBatchSize),
        # No rule holds them together, though each alone would be allowed.
        (wanted(300_000, 300_000), PolicyDenies),
    ):
        with pytest.raises(error):
            await ask(world, command)
    assert await world.money() == before
    async with world.db.read(world.tenant) as session:
        assert await withdrawals.list_withdrawals(session) == []
        with pytest.raises(UnknownBatch):
            await batches.view(session, new_uuid())


async def test_the_sum_decides_how_many_people_it_takes(database: Database, tenant: TenantId) -> None:
    policy = make_policy()
    (large, *others) = policy.allow
    small = replace(
        large,
        scope=replace(large.scope, id="small"),
        amount_max=100,
        approvals=(Demand(group="treasury", threshold=1),),
    )
    world = await World(
        db=database, tenant=tenant, policy=replace(policy, allow=(small, large, *others))
    ).open()
    together = await ask(world, wanted(60, 60))
    assert together.verdict.threshold == 2
    assert states(await decide(world, together, "alice")) == ["awaiting_approval"] * 2
    apart = await ask(world, wanted(50, 50))
    assert states(await decide(world, apart, "alice")) == ["approved"] * 2


async def test_lines_that_are_screened_outside_are_judged_by_the_sum_when_they_are_clear(
    database: Database, tenant: TenantId
) -> None:
    """Each by itself asks nobody; that they are cleared one after the other must not let them pass one by one."""
    policy, desk = make_policy(), ScreeningDesk()
    (large, *others) = policy.allow
    small = replace(large, scope=replace(large.scope, id="small"), amount_max=100, approvals=())
    world = World(
        db=database,
        tenant=tenant,
        policy=replace(policy, allow=(small, large, *others)),
        settings=make_settings(screening=SCREENING),
    )
    world.means = replace(world.means, screener=FakeScreener(desk, world.faults))
    await world.open()
    asked = await ask(world, wanted(60, 60))
    assert states(asked) == ["screening"] * 2
    first, second = asked.lines
    assert await world.advance(first) == "awaiting_approval"
    with pytest.raises(DecisionTooEarly):
        await decide(world, asked, "alice")
    assert await world.advance(second) == "awaiting_approval"
    await decide(world, asked, "alice")
    assert states(await decide(world, asked, "bob")) == ["approved"] * 2
    apart = await ask(world, wanted(40, 40))
    assert [await world.advance(line) for line in apart.lines] != ["screening"] * 2
    assert {line.state for line in (await shown(world, apart)).lines} <= {
        "approved",
        "signing",
        "broadcasting",
    }


async def test_a_line_that_the_list_refuses_is_blocked_alone(world: World) -> None:
    async with world.db.unit_of_work(world.tenant) as uow:
        await screening.refuse(uow, "olga", EVM, OUTSIDE[EVM], source="sanctions 2026-11-01")
    command = wanted(100, 200)
    line = replace(command.lines[1], asset=ETH, destination=OUTSIDE[EVM])
    asked = await ask(world, replace(command, lines=(command.lines[0], line)))
    assert states(asked) == ["awaiting_approval", "blocked"]
    assert ((await world.money())[1], (await world.money(ETH))[1]) == (100, 0)
    await decide(world, asked, "alice")
    assert states(await decide(world, asked, "bob")) == ["approved", "blocked"]


async def test_one_rejection_ends_all_lines_and_the_signer_knows(world: World) -> None:
    asked = await ask(world, wanted(100, 200, asset=ETH))
    await decide(world, asked, "alice")
    ended = await decide(world, asked, "carol", Word.REJECT)
    assert states(ended) == ["rejected"] * 2
    assert (await world.money(ETH))[1] == 0
    with pytest.raises(DecisionExistsDifferent):
        await decide(world, asked, "carol")
    with pytest.raises(DecisionTooLate):
        await decide(world, asked, "bob")
    assert await world.advance(ended.lines[0]) == "rejected"
    assert world.signer.vetoed == {line.digest for line in ended.lines}


async def test_a_line_is_taken_back_or_rejected_by_itself_and_not_approved(world: World) -> None:
    asked = await ask(world, wanted(100, 200, 300, asset=ETH))
    first, second, third = asked.lines
    with pytest.raises(LineOfBatch):
        await world.decide(first, "alice")
    assert (await world.decide(first, "alice", Word.REJECT)).state == "rejected"
    async with world.db.unit_of_work(world.tenant) as uow:
        await withdrawals.cancel(uow, world.principal, second.id)
    await decide(world, asked, "alice")
    done = await decide(world, asked, "bob")
    assert states(done) == ["rejected", "cancelled", "approved"]
    assert (await world.money(ETH))[1] == 300
    assert await world.advance(third) == "broadcasting"
    with pytest.raises(CancelTooLate):
        async with world.db.unit_of_work(world.tenant) as uow:
            await batches.cancel(uow, world.principal, asked.batch.id)


async def test_a_batch_is_taken_back_before_a_key_is_touched(world: World) -> None:
    asked = await ask(world, wanted(100, 200))
    for _ in range(2):
        async with world.db.unit_of_work(world.tenant) as uow:
            assert states(await batches.cancel(uow, world.principal, asked.batch.id)) == ["cancelled"] * 2
    assert (await world.money())[1] == 0


async def test_another_batch_under_the_same_id_and_a_decision_about_another_are_refused(world: World) -> None:
    asked = await ask(world, wanted(100, 200))
    with pytest.raises(BatchExistsDifferent):
        await ask(world, wanted(100, 201, batch_id=asked.batch.id))
    other = await ask(world, wanted(100, 200))
    with pytest.raises(InvalidDecision):
        await decide(
            world, replace(asked, batch=replace(asked.batch, document=other.batch.document)), "alice"
        )
