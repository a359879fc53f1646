"""EVM withdrawals under rising prices, dropped pools, reorganisations, crashes: one effect, and nothing lost."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from custody.chains.ports import Submission, SubmissionStatus
from custody.db.session import Database
from custody.kernel.errors import InvariantViolated
from custody.kernel.ids import TenantId
from custody.withdrawals import execution
from custody.withdrawals import service as withdrawals
from tests.fakes.evm_payouts import PAID, PEOPLE, attempts, chain_of, raise_price, sent, settle, stuck
from tests.fakes.faults import Crash
from tests.fakes.withdrawal_world import ETH, EVM, FUNDS, World
from tests.flows.told import actions_on, events_of
from tests.integration.test_withdrawals_execution import make_seen

pytestmark = pytest.mark.usefixtures("told_as_promised")


@pytest.fixture
async def world(database: Database, tenant: TenantId) -> World:
    return await World(db=database, tenant=tenant).open()


# --- many -----------------------------------------------------------------------------------------------------------------


async def test_as_many_are_under_way_as_is_configured_and_the_rest_follow(world: World):
    chain = world.settings.chains[1]
    evm = chain.evm.model_copy(update={"in_flight_max": 3})
    chains = (world.settings.chains[0], chain.model_copy(update={"evm": evm}))
    world.means = replace(world.means, settings=world.settings.model_copy(update={"chains": chains}))
    made = [await world.request(ETH, approve=PEOPLE) for _ in range(5)]
    assert await execution.advance_due(world.means, world.tenant) == []
    assert sorted([await world.state(each) for each in made]) == ["approved"] * 2 + ["broadcasting"] * 3
    await settle(world)
    for each in made:
        await world.advance(each)
    await settle(world)
    assert [await world.state(each) for each in made] == ["settled"] * 5
    assert [each.sequence for each in chain_of(world).included] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Submission(status=SubmissionStatus.REFUSED, code="insufficient_funds"), "vault_lacks_gas"),
        (Submission(status=SubmissionStatus.REFUSED, code="gas_too_low"), "node_refuses"),
        (Submission(status=SubmissionStatus.UNKNOWN, code="chain_rpc_unreachable"), "not_mined"),
        (Submission(status=SubmissionStatus.TRY_LATER, code="pool_full"), "not_mined"),
    ],
)
async def test_answers_that_no_price_helps_against_are_shown_to_a_person_and_change_nothing(
    world: World, answer: Submission, reason: str
):
    made = await sent(world)
    chain_of(world).height += 20
    chain_of(world).answers = [answer]
    assert await world.advance(made) == "broadcasting"
    assert await stuck(world, made) == reason
    assert len(await attempts(world, made)) == 1
    await world.advance(made)
    await settle(world)
    assert (await world.state(made), await stuck(world, made)) == ("settled", "")
    assert len(set(chain_of(world).sent)) == 1


# --- replacement ----------------------------------------------------------------------------------------------------------


async def test_a_transaction_that_the_price_left_behind_is_bid_for_again_within_what_was_approved(
    world: World,
):
    made = await sent(world)
    raise_price(world, 60)
    await world.advance(made)
    first, second = await attempts(world, made)
    assert (first.state, second.state) == ("broadcast", "broadcast")
    assert (second.sequence, second.alternative_of, second.fee_bid) == (first.sequence, first.id, 60)
    assert "withdrawal.replace" in await actions_on(world.db, world.tenant, made.id)
    await world.advance(made)
    assert len(await attempts(world, made)) == 2
    await settle(world)
    assert await world.state(made) == "settled"
    assert [each.state for each in await attempts(world, made)] == ["lapsed", "confirmed"]
    assert await world.money(ETH) == PAID


async def test_the_old_one_may_be_mined_after_the_new_one_was_sent(world: World):
    made = await sent(world)
    raise_price(world, 60)
    await world.advance(made)
    old, new = await attempts(world, made)
    chain = chain_of(world)
    chain.pool = {old.tx_hash or "": json.loads(old.tx or b"")}
    chain.mines_from = 0
    await settle(world)
    assert await world.state(made) == "settled"
    assert [each.state for each in await attempts(world, made)] == ["confirmed", "lapsed"]
    assert await world.money(ETH) == PAID
    with pytest.raises(InvariantViolated, match="had ended"):
        async with world.db.unit_of_work(world.tenant) as uow:
            await withdrawals.observe_transaction(
                uow, make_seen(new.tx_hash or "", chain.height + 1, new.sequence, chain=EVM)
            )


@pytest.mark.parametrize("point", ["before sign", "after sign", "before submit", "after submit"])
async def test_crash_between_any_two_steps_of_a_replacement_ends_the_same(world: World, point: str):
    made = await sent(world)
    raise_price(world, 60)
    world.faults.arm(point)
    with pytest.raises(Crash):
        await world.advance(made)
    for _ in range(3):
        await world.advance(made)
    await settle(world)
    assert await world.state(made) == "settled"
    assert len(await attempts(world, made)) == 2
    assert await world.money(ETH) == PAID
    assert len(chain_of(world).included) == 1


async def test_workers_at_once_bid_for_a_nonce_again_once(world: World):
    made = await sent(world)
    raise_price(world, 60)
    await asyncio.gather(*(world.advance(made) for _ in range(4)))
    assert [each.fee_bid for each in await attempts(world, made)] == [20, 60]
    await settle(world)
    assert await world.state(made) == "settled"
    assert await world.money(ETH) == PAID


async def test_replacements_climb_to_the_cap_and_then_a_person_is_told(world: World):
    made = await sent(world)
    for price in (60, 90, 150, 400):
        raise_price(world, price)
        await world.advance(made)
        await world.advance(made)
    bids = [each.fee_bid for each in await attempts(world, made)]
    assert bids == [20, 60, 100]
    assert await stuck(world, made) == "fee_cap_reached"
    for _ in range(2):
        await world.advance(made)
    assert (await events_of(world.db, world.tenant, made.id)).count("withdrawal.stuck") == 1
    # The price falls: what was sent is mined, and nobody needs to look any more.
    raise_price(world, 60)
    await settle(world)
    assert (await world.state(made), await stuck(world, made)) == ("settled", "")
    assert await world.money(ETH) == PAID


async def test_what_a_node_refuses_for_its_price_is_bid_for_again_at_once(world: World):
    made = await world.request(ETH, approve=PEOPLE)
    chain_of(world).floor = 21
    assert await world.advance(made) == "broadcasting"
    first, second = await attempts(world, made)
    assert first.last_answer == "refused underpriced"
    assert (second.fee_bid, second.priority_fee, second.last_answer) == (23, 2, "accepted")
    await settle(world)
    assert await world.state(made) == "settled"
    assert await world.money(ETH) == PAID


async def test_a_transaction_that_the_pool_dropped_is_sent_again_as_it_is(world: World):
    made = await sent(world)
    chain_of(world).pool.clear()
    await world.advance(made)
    assert len(await attempts(world, made)) == 1
    assert len(set(chain_of(world).sent)) == 1
    await settle(world)
    assert await world.state(made) == "settled"


async def test_a_replacement_that_the_signer_refuses_leaves_the_first_on_its_way(world: World):
    made = await sent(world)
    raise_price(world, 60)
    world.signer.refuses_with = "denied_by_rule"
    assert await world.advance(made) == "broadcasting"
    assert [each.state for each in await attempts(world, made)] == ["broadcast", "refused"]
    assert await stuck(world, made) == "replacement_refused"
    world.signer.refuses_with = ""
    chain_of(world).mines_from = 0
    await settle(world)
    assert await world.state(made) == "settled"
    assert await world.money(ETH) == PAID


async def test_a_reverted_transaction_books_its_fee_and_releases_the_hold_once(world: World):
    made = await sent(world)
    raise_price(world, 60)
    await world.advance(made)
    chain_of(world).fails_on_chain = True
    await settle(world)
    assert await world.state(made) == "failed"
    assert [each.state for each in await attempts(world, made)] == ["lapsed", "failed"]
    assert await world.money(ETH) == (FUNDS, 0, FUNDS - 100, 100)


async def test_a_reorganisation_gives_the_nonce_back_to_all_its_alternatives(world: World):
    made = await sent(world)
    raise_price(world, 60)
    await world.advance(made)
    old, _ = await attempts(world, made)
    height = await world.ingest(EVM, final=0)
    assert await world.state(made) == "confirming"
    async with world.db.unit_of_work(world.tenant) as uow:
        await withdrawals.orphan_above(uow, EVM, height - 1)
    assert await world.advance(made) == "broadcasting"
    async with world.db.unit_of_work(world.tenant) as uow:
        await withdrawals.observe_transaction(
            uow, make_seen(old.tx_hash or "", height, old.sequence, chain=EVM)
        )
    await world.ingest(EVM)
    assert await world.state(made) == "settled"
    assert [each.state for each in await attempts(world, made)] == ["confirmed", "lapsed"]
    assert await world.money(ETH) == PAID
