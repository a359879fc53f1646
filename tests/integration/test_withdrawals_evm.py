"""EVM nonces under rising prices, dropped pools, cancels, gaps, strangers, crashes: one effect, and nothing stuck for ever."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from custody.chains.ports import Submission, SubmissionStatus
from custody.db.session import Database
from custody.kernel.errors import InvariantViolated
from custody.kernel.ids import TenantId, WithdrawalId, new_uuid
from custody.policy import service as policies
from custody.withdrawals import execution
from custody.withdrawals import service as withdrawals
from custody.withdrawals.errors import NonceNotPending, NotOvertaken, WithdrawalExistsDifferent
from custody.withdrawals.model import Attempt, Withdrawal
from tests.fakes.chain import FakeChain
from tests.fakes.faults import Crash
from tests.fakes.withdrawal_world import ETH, EVM, FUNDS, VAULT, VAULT_ACCOUNT, World
from tests.flows.told import actions_on, events_of
from tests.integration.test_withdrawals_execution import make_seen

PEOPLE = ("alice", "bob")
PAID = (FUNDS - 1000, 0, FUNDS - 1100, 100)
UNPAID = (FUNDS, 0, FUNDS, 0)


@pytest.fixture
async def world(database: Database, tenant: TenantId) -> World:
    return await World(db=database, tenant=tenant).open()


def chain_of(world: World) -> FakeChain:
    return world.chains[EVM]


async def sent(world: World) -> Withdrawal:
    """A withdrawal whose bytes were sent twice, as a worker does, and are in no block."""
    made = await world.request(ETH, approve=PEOPLE)
    assert await world.advance(made) == "broadcasting"
    await world.advance(made)
    return made


def raise_price(world: World, price: int) -> None:
    """Blocks come, and take none that pays less than half of this."""
    chain = chain_of(world)
    chain.price, chain.mines_from = price, price // 2
    chain.height += 6


async def attempts(world: World, made: Withdrawal) -> tuple[Attempt, ...]:
    return (await world.view(made)).attempts


async def stuck(world: World, made: Withdrawal) -> str:
    return (await world.view(made)).withdrawal.stuck_reason


async def cancel(world: World, target: Withdrawal, approve: tuple[str, ...] = PEOPLE) -> Withdrawal:
    async with world.db.unit_of_work(world.tenant) as uow:
        asked = await withdrawals.request_cancel(
            uow,
            world.principal,
            WithdrawalId(new_uuid()),
            target.id,
            settings=world.settings,
            clock=world.clock,
        )
    for name in approve:
        asked = await world.decide(asked, name)
    return asked


async def settle(world: World) -> None:
    """Two blocks: what they hold, and what that decides."""
    await world.ingest(EVM)
    await world.ingest(EVM)


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


# --- cancel ---------------------------------------------------------------------------------------------------------------


async def test_a_cancel_of_a_stuck_nonce_is_approved_as_an_intent_of_its_own(world: World):
    made = await sent(world)
    chain_of(world).mines_from = 10**6
    asked = await cancel(world, made, approve=("alice",))
    assert asked.state == "awaiting_approval"
    assert await world.advance(asked) == "awaiting_approval"
    await world.decide(asked, "bob")
    assert await world.advance(asked) == "broadcasting"
    (mine,) = await attempts(world, made)
    (its,) = await attempts(world, asked)
    assert (its.sequence, its.alternative_of) == (mine.sequence, mine.id)
    assert its.fee_bid >= 23
    # What it cancels stands back: sent again, it might be mined instead.
    before = len(chain_of(world).sent)
    await world.advance(made)
    assert len(chain_of(world).sent) == before
    chain_of(world).mines_from = 0
    await settle(world)
    assert (await world.state(asked), await world.state(made)) == ("settled", "failed")
    assert await world.money(ETH) == (FUNDS, 0, FUNDS - 100, 100)
    # The nonce is used; the next withdrawal takes the next.
    other = await sent(world)
    await settle(world)
    assert [each.sequence for each in chain_of(world).included] == [0, 1]
    assert await world.state(other) == "settled"


async def test_a_cancel_that_comes_too_late_ends_without_effect(world: World):
    made = await sent(world)
    asked = await cancel(world, made)
    world.faults.arm("before submit")
    with pytest.raises(Crash):
        await world.advance(asked)
    await settle(world)
    assert (await world.state(made), await world.state(asked)) == ("settled", "failed")
    assert [each.state for each in await attempts(world, asked)] == ["lapsed"]
    assert await world.money(ETH) == PAID


async def test_a_cancel_that_the_signer_has_not_answered_for_ends_with_its_nonce(world: World):
    made = await sent(world)
    asked = await cancel(world, made)
    world.faults.arm("before sign")
    with pytest.raises(Crash):
        await world.advance(asked)
    await settle(world)
    assert (await world.state(made), await world.state(asked)) == ("settled", "failed")
    assert [each.state for each in await attempts(world, asked)] == ["refused"]
    late = await world.request(ETH, approve=PEOPLE)
    await world.advance(late)
    unsigned = await cancel(world, late)
    await settle(world)
    assert await world.advance(unsigned) == "cancelled"
    assert await world.money(ETH) == (FUNDS - 2000, 0, FUNDS - 2200, 200)


async def test_what_cannot_be_cancelled_is_named(world: World):
    waiting = await world.request(ETH, approve=("alice",))
    with pytest.raises(NonceNotPending):
        await cancel(world, waiting)
    made = await sent(world)
    asked = await cancel(world, made, approve=())
    with pytest.raises(NonceNotPending):
        await cancel(world, made)
    async with world.db.unit_of_work(world.tenant) as uow:
        again = await withdrawals.request_cancel(
            uow, world.principal, asked.id, made.id, settings=world.settings, clock=world.clock
        )
        assert again.id == asked.id
        with pytest.raises(WithdrawalExistsDifferent):
            await withdrawals.request_cancel(
                uow, world.principal, made.id, made.id, settings=world.settings, clock=world.clock
            )
    async with world.db.unit_of_work(world.tenant) as uow:
        assert (await withdrawals.cancel(uow, world.principal, asked.id)).state == "cancelled"
    signed = await cancel(world, made)
    await world.advance(signed)
    with pytest.raises(NonceNotPending):
        await cancel(world, signed)
    dearer = await cancel(world, made)
    assert await world.advance(dearer) == "broadcasting"
    bids = [(await attempts(world, each))[0].fee_bid for each in (made, signed, dearer)]
    assert bids == sorted(set(bids))
    await settle(world)
    assert [await world.state(each) for each in (made, signed, dearer)] == ["failed", "failed", "settled"]
    assert len(chain_of(world).included) == 1


# --- gaps -----------------------------------------------------------------------------------------------------------------


async def gap(world: World) -> list[Withdrawal]:
    """Nonces 0 and 1 were reserved; 0 will never be signed."""
    made = [await world.request(ETH, approve=PEOPLE) for _ in range(2)]
    world.faults.arm("before sign")
    with pytest.raises(Crash):
        await world.advance(made[0])
    assert await world.advance(made[1]) == "broadcasting"
    world.signer.refuses_with = "denied_by_rule"
    assert await world.advance(made[0]) == "failed"
    world.signer.refuses_with = ""
    return made


async def fills(world: World) -> list[Withdrawal]:
    async with world.db.read(world.tenant) as session:
        return [each for each in await withdrawals.list_withdrawals(session) if each.kind == "evm_fill"]


async def test_a_gap_is_filled_by_whoever_comes_next(world: World):
    _, behind = await gap(world)
    following = await world.request(ETH, approve=PEOPLE)
    await world.advance(behind)
    assert await fills(world) == []
    await world.advance(following)
    await settle(world)
    assert [await world.state(each) for each in (behind, following)] == ["settled"] * 2
    assert [each.sequence for each in chain_of(world).included] == [0, 1]


async def test_a_gap_before_which_nobody_comes_is_filled_by_an_intent_without_effect(world: World):
    failed, behind = await gap(world)
    for _ in range(3):
        await world.advance(behind)
    (asked,) = await fills(world)
    assert (asked.state, asked.initiator) == ("awaiting_approval", "worker")
    assert await stuck(world, behind) == "nonce_gap"
    for name in PEOPLE:
        await world.decide(asked, name)
    assert await world.advance(asked) == "broadcasting"
    await settle(world)
    assert [await world.state(each) for each in (failed, behind, asked)] == ["failed", "settled", "settled"]
    assert await world.money(ETH) == (FUNDS - 1000, 0, FUNDS - 1200, 200)
    # A fill for which there is no gap any more takes no nonce.
    async with world.db.unit_of_work(world.tenant) as uow:
        idle = await withdrawals.request_fill(
            uow,
            world.principal,
            WithdrawalId(new_uuid()),
            VAULT[EVM],
            settings=world.settings,
            clock=world.clock,
        )
    for name in PEOPLE:
        await world.decide(idle, name)
    assert await world.advance(idle) == "cancelled"


async def test_a_policy_that_forbids_fills_leaves_the_gap_to_people(world: World):
    policy = world.policy
    world.signer.policy = replace(
        policy,
        version=2,
        policy_hash=f"{2:064x}",
        allow=tuple(r for r in policy.allow if r.scope.kind != "evm_fill"),
    )
    async with world.db.unit_of_work(None) as uow:
        await policies.adopt(uow, world.signer.policy)
    _, behind = await gap(world)
    await world.advance(behind)
    assert await fills(world) == []
    assert await stuck(world, behind) == "nonce_gap"


# --- strangers ------------------------------------------------------------------------------------------------------------


async def test_a_nonce_that_a_stranger_used_is_left_to_a_person_and_blocks_nobody(world: World):
    made = await sent(world)
    chain = chain_of(world)
    chain.pool.clear()
    chain.next[VAULT_ACCOUNT[EVM]] = 1
    chain.answers = [Submission(status=SubmissionStatus.UNKNOWN, code="nonce_too_low")] * 4
    for _ in range(3):
        chain.height += 4
        await world.advance(made)
    assert await stuck(world, made) == "nonce_used_elsewhere"
    stray = make_seen(f"0x{'ab' * 32}", chain.height, 0, chain=EVM)
    async with world.db.unit_of_work(world.tenant) as uow:
        await withdrawals.observe_transaction(uow, stray)
        with pytest.raises(NotOvertaken):
            await withdrawals.concede(uow, world.principal, made.id, stray.tx_hash)
    await settle(world)
    # Nobody can know for us whether it paid: the hold stays until a person says that it did not.
    assert await world.state(made) == "broadcasting"
    other = await sent(world)
    await settle(world)
    assert [each.sequence for each in chain.included] == [1]
    assert await world.state(other) == "settled"
    async with world.db.unit_of_work(world.tenant) as uow:
        with pytest.raises(NotOvertaken):
            await withdrawals.concede(uow, world.principal, made.id, f"0x{'cd' * 32}")
        with pytest.raises(NotOvertaken):
            await withdrawals.concede(uow, world.principal, other.id, stray.tx_hash)
        conceded = await withdrawals.concede(uow, world.principal, made.id, stray.tx_hash)
    assert (conceded.state, conceded.reason) == ("failed", f"transaction {stray.tx_hash} used its nonce")
    assert await world.money(ETH) == (FUNDS - 1000, 0, FUNDS - 1200, 200)


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
