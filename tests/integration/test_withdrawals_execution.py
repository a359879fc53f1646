"""Execution under crashes, lost answers, refusals, full queues and two workers: one effect on chain, one end state."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from custody.chains.ports import Submission, SubmissionStatus
from custody.db.session import Database
from custody.kernel.errors import InvariantViolated
from custody.kernel.ids import TenantId
from custody.withdrawals import execution
from custody.withdrawals import service as withdrawals
from custody.withdrawals.errors import SlotContested
from custody.withdrawals.model import OwnTransaction
from tests.fakes.faults import Crash
from tests.fakes.finality import lapse_due
from tests.fakes.withdrawal_world import (
    ETH,
    EVM,
    FUNDS,
    STELLAR,
    VAULT_ACCOUNT,
    XLM,
    World,
)

pytestmark = pytest.mark.usefixtures("told_as_promised")

POINTS = ("before reserve", "before sign", "after sign", "before submit", "after submit")
PAID = (FUNDS - 1000, 0, FUNDS - 1100, 100)
UNPAID = (FUNDS, 0, FUNDS, 0)


@pytest.fixture
async def world(database: Database, tenant: TenantId) -> World:
    return await World(db=database, tenant=tenant).open()


@pytest.mark.parametrize(("asset", "chain"), [(XLM, STELLAR), (ETH, EVM)])
@pytest.mark.parametrize("point", POINTS)
async def test_crash_between_any_two_steps_ends_the_same(world: World, point: str, asset, chain):
    made = await world.request(asset, approve=("alice", "bob"))
    world.faults.arm(point, times=2)
    for _ in range(2):
        with pytest.raises(Crash):
            await world.advance(made)
    assert await world.advance(made) == "broadcasting"
    await world.ingest(chain)
    assert await world.advance(made) == "settled"
    assert await world.money(asset) == PAID
    assert len(world.chains[chain].included) == 1
    assert len(set(world.chains[chain].sent)) == 1
    assert len((await world.view(made)).attempts) == 1


async def test_two_workers_at_once_make_one_transaction(world: World):
    made = [await world.request(asset, approve=("alice", "bob")) for asset in (XLM, ETH, ETH)]
    await asyncio.gather(*(world.advance(each) for each in made for _ in range(4)))
    for chain in (STELLAR, EVM):
        await world.ingest(chain)
    assert [await world.state(each) for each in made] == ["settled"] * 3
    assert [each.sequence for each in world.chains[EVM].included] == [0, 1]
    assert len(world.chains[STELLAR].included) == 1


async def test_lost_answer_of_the_signer_is_asked_for_again(world: World):
    made = await world.request(approve=("alice", "bob"))
    world.signer.loses_answers = 2
    assert await world.advance(made) == "signing"
    assert await world.advance(made) == "signing"
    assert await world.advance(made) == "broadcasting"
    assert len(world.signer.journal) == 1


async def test_no_slot_is_taken_while_the_signer_is_away(world: World):
    made = await world.request(approve=("alice", "bob"))
    world.signer.reachable = False
    assert await world.advance(made) == "approved"
    assert (await world.view(made)).attempts == ()
    world.signer.reachable = True
    assert await world.advance(made) == "broadcasting"


@pytest.mark.parametrize(
    "status", [SubmissionStatus.UNKNOWN, SubmissionStatus.REFUSED, SubmissionStatus.TRY_LATER]
)
async def test_no_answer_of_the_node_ends_an_attempt(world: World, status: SubmissionStatus):
    made = await world.request(approve=("alice", "bob"))
    world.chains[STELLAR].answers = [Submission(status=status, code="whatever")]
    assert await world.advance(made) == "broadcasting"
    assert await world.advance(made) == "broadcasting"
    sent = world.chains[STELLAR].sent
    assert len(sent) == 2
    assert len(set(sent)) == 1
    await world.ingest(STELLAR)
    assert await world.state(made) == "settled"


async def test_final_refusal_of_the_signer_fails_the_withdrawal(world: World):
    made = await world.request(ETH, approve=("alice", "bob"))
    world.signer.refuses_with = "denied_by_rule"
    assert await world.advance(made) == "failed"
    assert await world.money(ETH) == UNPAID
    world.signer.refuses_with = ""
    other = await world.request(ETH, approve=("alice", "bob"))
    assert await world.advance(other) == "broadcasting"
    await world.ingest(EVM)
    assert [each.sequence for each in world.chains[EVM].included] == [0]


@pytest.mark.parametrize(
    "code",
    [
        "busy",
        "hsm_fault",
        "journal_fault",
        "clock_backwards",
        "slot_used",
        "cooling_down",
        "outside_hours",
    ],
)
async def test_refusal_that_decides_nothing_is_waited_out(world: World, code: str):
    made = await world.request(approve=("alice", "bob"))
    world.signer.refuses_with = code
    assert await world.advance(made) == "signing"
    world.signer.refuses_with = ""
    assert await world.advance(made) == "broadcasting"
    assert len((await world.view(made)).attempts) == 1


async def test_intent_bound_elsewhere_stops_and_keeps_the_hold(world: World):
    made = await world.request(approve=("alice", "bob"))
    world.signer.refuses_with = "already_bound"
    with pytest.raises(SlotContested):
        await world.advance(made)
    assert await world.state(made) == "signing"
    assert (await world.money())[1] == 1000


async def test_slot_that_outlived_its_bounds_unsigned_is_replaced(world: World):
    made = await world.request(approve=("alice", "bob"))
    world.faults.arm("before sign")
    with pytest.raises(Crash):
        await world.advance(made)
    world.clock.advance(120)
    assert await world.advance(made) == "signing"
    assert await world.advance(made) == "broadcasting"
    assert [each.state for each in (await world.view(made)).attempts] == ["refused", "broadcast"]
    await world.ingest(STELLAR)
    assert await world.state(made) == "settled"


async def test_window_that_closes_between_slots_fails_the_withdrawal(world: World):
    made = await world.request(approve=("alice", "bob"))
    world.faults.arm("before sign")
    with pytest.raises(Crash):
        await world.advance(made)
    world.signer.refuses_with = "bad_binding"
    await world.advance(made)
    world.clock.advance(3600)
    assert await world.advance(made) == "failed"
    assert await world.money() == UNPAID


async def test_stellar_vault_serves_one_at_a_time_in_order_of_approval(world: World):
    made = [await world.request(approve=("alice",)) for _ in range(3)]
    order = [made[1], made[2], made[0]]
    for each in order:
        await world.decide(each, "bob")
    for turn in range(3):
        states = [await world.advance(each) for each in made]
        assert states.count("broadcasting") == 1
        assert await world.state(order[turn]) == "broadcasting"
        await world.ingest(STELLAR)
        assert await world.state(order[turn]) == "settled"
    sequences = [each.sequence for each in world.chains[STELLAR].included]
    assert sequences == [1, 2, 3]


async def test_evm_vault_has_many_in_flight_and_fills_a_gap_first(world: World):
    made = [await world.request(ETH, approve=("alice", "bob")) for _ in range(3)]
    await world.advance(made[0])
    world.signer.refuses_with = "denied_by_rule"
    assert await world.advance(made[1]) == "failed"
    world.signer.refuses_with = ""
    await world.advance(made[2])
    await world.ingest(EVM)
    assert [each.sequence for each in world.chains[EVM].included] == [0, 1]


async def test_evm_vault_that_cannot_pay_all_its_gas_signs_no_more(world: World):
    made = [await world.request(ETH, approve=("alice", "bob")) for _ in range(2)]
    spend = 1000 + 21_000 * 20
    world.chains[EVM].holds = 2 * spend - 1
    assert [await world.advance(each) for each in made] == ["broadcasting", "approved"]
    world.chains[EVM].holds = 2 * spend
    assert await world.advance(made[1]) == "broadcasting"


async def test_lapsed_attempt_is_proved_by_our_own_height_only(world: World):
    chain = world.chains[STELLAR]
    made = await world.request(approve=("alice", "bob"))
    chain.drops = True
    await world.advance(made)
    bound = (await world.view(made)).attempts[0].max_ledger
    assert bound is not None
    while chain.height + 1 < bound:
        await world.ingest(STELLAR)
    assert await world.state(made) == "broadcasting"
    await world.ingest(STELLAR)
    assert await world.state(made) == "failed"
    assert await world.money() == UNPAID
    # The signer keeps the sequence closed until the lapsed bytes' time bound has passed on its clock.
    chain.drops = False
    following = await world.request(approve=("alice", "bob"))
    assert await world.advance(following) == "approved"
    world.clock.advance(67)
    assert await world.advance(following) == "broadcasting"
    await world.ingest(STELLAR)
    assert await world.state(following) == "settled"
    assert [each.sequence for each in chain.included] == [1]


async def test_transaction_that_was_proved_absent_stops_everything(world: World):
    chain = world.chains[STELLAR]
    made = await world.request(approve=("alice", "bob"))
    chain.drops = True
    await world.advance(made)
    for _ in range(13):
        await world.ingest(STELLAR)
    lapsed = (await world.view(made)).attempts[0]
    with pytest.raises(InvariantViolated):
        async with world.db.unit_of_work(world.tenant) as uow:
            await withdrawals.observe_transaction(uow, make_seen(lapsed.tx_hash or "", 200, lapsed.sequence))


async def test_nothing_is_reserved_while_our_ingestion_is_behind(world: World):
    made = await world.request(approve=("alice", "bob"))
    for _ in range(7):
        world.chains[STELLAR].close_block()
    assert await world.advance(made) == "approved"
    await world.ingest(STELLAR)
    assert await world.advance(made) == "broadcasting"


async def test_reorganisation_puts_a_transaction_back_in_flight(world: World):
    made = await world.request(ETH, approve=("alice", "bob"))
    await world.advance(made)
    height = await world.ingest(EVM, final=0)
    assert await world.state(made) == "confirming"
    async with world.db.unit_of_work(world.tenant) as uow:
        await withdrawals.orphan_above(uow, EVM, height - 1)
    assert await world.advance(made) == "broadcasting"
    seen = world.chains[EVM].included[0]
    async with world.db.unit_of_work(world.tenant) as uow:
        moved = make_seen(seen.tx_hash, height + 3, seen.sequence, chain=EVM)
        await withdrawals.observe_transaction(uow, moved)
        await lapse_due(uow, EVM, height + 2)
    assert await world.state(made) == "confirming"
    async with world.db.unit_of_work(world.tenant) as uow:
        await lapse_due(uow, EVM, height + 3)
    assert await world.state(made) == "settled"
    assert await world.money(ETH) == PAID


async def test_the_same_block_again_changes_nothing(world: World):
    made = await world.request(approve=("alice", "bob"))
    await world.advance(made)
    await world.ingest(STELLAR)
    async with world.db.unit_of_work(world.tenant) as uow:
        await withdrawals.observe_transaction(uow, world.chains[STELLAR].included[0])
        await lapse_due(uow, STELLAR, world.chains[STELLAR].height)
    assert await world.money() == PAID


async def test_transaction_that_nobody_asked_for_is_booked_and_told(world: World):
    seen = make_seen("ab" * 32, 102, 9)
    async with world.db.unit_of_work(world.tenant) as uow:
        for _ in range(2):
            await withdrawals.observe_transaction(uow, seen)
            await lapse_due(uow, STELLAR, 102)
    assert await world.money() == (FUNDS, 0, FUNDS - 100, 100)


async def test_bytes_that_were_sent_behind_our_back_are_taken_over(world: World):
    """A worker that has the bytes from the signer may send them and die before they are stored."""
    made = await world.request(approve=("alice", "bob"))
    world.faults.arm("after sign")
    with pytest.raises(Crash):
        await world.advance(made)
    signed = world.signer.journal[made.digest][1]
    await world.chains[STELLAR].submit(signed.tx, signed.tx_hash)
    await world.ingest(STELLAR)
    assert await world.state(made) == "signing"
    assert (await world.money())[3] == 100
    assert await world.advance(made) == "confirming"
    await world.ingest(STELLAR)
    assert await world.state(made) == "settled"
    assert await world.money() == PAID


async def test_sweep_takes_up_everything_that_is_due_and_reports_what_stops(world: World):
    made = [await world.request(asset, approve=("alice", "bob")) for asset in (XLM, ETH, ETH)]
    async with world.db.read(world.tenant) as session:
        assert set(await withdrawals.due(session)) == {each.id for each in made}
    assert await execution.advance_due(world.means, world.tenant) == []
    for chain in (STELLAR, EVM):
        await world.ingest(chain)
    assert [await world.state(each) for each in made] == ["settled"] * 3
    async with world.db.read(world.tenant) as session:
        assert await withdrawals.due(session) == []
    stopped = await world.request(approve=("alice", "bob"))
    world.signer.refuses_with = "already_bound"
    failures = await execution.advance_due(world.means, world.tenant)
    assert [each.withdrawal_id for each in failures] == [stopped.id]


def make_seen(tx_hash: str, height: int, sequence: int, chain=STELLAR) -> OwnTransaction:
    return OwnTransaction(
        chain=chain,
        height=height,
        tx_hash=tx_hash,
        account=VAULT_ACCOUNT[chain],
        succeeded=True,
        fee_atomic=100,
        sequence=sequence,
        occurred_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
