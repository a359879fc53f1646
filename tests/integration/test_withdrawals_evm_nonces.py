"""EVM nonces that are cancelled, left open, or used by strangers: each is used once, and nothing is stuck for ever."""

from __future__ import annotations

from dataclasses import replace

import pytest

from custody.chains.ports import Submission, SubmissionStatus
from custody.db.session import Database
from custody.kernel.ids import TenantId, WithdrawalId, new_uuid
from custody.policy import service as policies
from custody.policy.model import Word
from custody.withdrawals import service as withdrawals
from custody.withdrawals.errors import NonceNotPending, NotOvertaken, WithdrawalExistsDifferent
from custody.withdrawals.model import Withdrawal
from tests.fakes.evm_payouts import PAID, PEOPLE, attempts, cancel, chain_of, raise_price, sent, settle, stuck
from tests.fakes.faults import Crash
from tests.fakes.withdrawal_world import ETH, EVM, FUNDS, VAULT, VAULT_ACCOUNT, World
from tests.integration.test_withdrawals_execution import make_seen

pytestmark = pytest.mark.usefixtures("told_as_promised")


@pytest.fixture
async def world(database: Database, tenant: TenantId) -> World:
    return await World(db=database, tenant=tenant).open()


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


async def test_a_cancel_waits_while_a_replacement_has_no_answer_from_the_signer(world: World):
    made = await sent(world)
    asked = await cancel(world, made)
    raise_price(world, 60)
    world.faults.arm("before sign")
    with pytest.raises(Crash):
        await world.advance(made)
    assert await world.advance(asked) == "approved"
    await world.advance(made)
    assert await world.advance(asked) == "broadcasting"
    bids = [each.fee_bid for each in (*await attempts(world, made), *await attempts(world, asked))]
    assert bids == [20, 60, 68]
    await settle(world)
    assert (await world.state(asked), await world.state(made)) == ("settled", "failed")
    assert await world.money(ETH) == (FUNDS, 0, FUNDS - 100, 100)


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


async def test_people_who_refuse_to_fill_a_gap_are_not_asked_again_at_every_look(world: World):
    _, behind = await gap(world)
    for _ in range(2):
        await world.advance(behind)
    (asked,) = await fills(world)
    await world.decide(asked, "carol", Word.REJECT)
    for _ in range(2):
        await world.advance(behind)
    assert [each.state for each in await fills(world)] == ["rejected"]
    following = await world.request(ETH, approve=PEOPLE)
    await world.advance(following)
    await settle(world)
    assert [await world.state(each) for each in (behind, following)] == ["settled"] * 2


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
