"""Channels on a local Stellar network: opened by the system, used side by side, one transaction each, booked to the stroop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from stellar_sdk import Keypair

from custody.channels import execution as channels
from custody.db.session import Database
from custody.kernel.ids import TenantId
from custody.signing import intents
from custody.switches.model import of_customer
from custody.tariffs import service as tariffs
from custody.tariffs.model import TariffTerms
from custody.withdrawals.errors import BelowReserve, DestinationIsOurs, DestinationMissing
from custody.withdrawals.model import Withdrawal
from devnet.stellar.mempool import Mempool
from devnet.stellar.outsider import Outsider
from devnet.stellar.server import Served, serve_in_thread
from tests.integration.channel_stage import (
    CHANNEL_FULL,
    CUSTOMER,
    DEPOSIT,
    FEES_FULL,
    XLM,
    Stage,
    StageClock,
    make_network,
    make_settings,
    open_channels,
    open_stage,
)
from tests.integration.switch_stage import resume, stop

pytestmark = pytest.mark.usefixtures("told_as_promised")

BASE_FEE = 100


@pytest.fixture
def clock() -> StageClock:
    return StageClock()


@pytest.fixture
def served(clock: StageClock) -> Iterator[Served]:
    with serve_in_thread(make_network(clock)) as running:
        yield running


@pytest.fixture
def outsider(served: Served) -> Iterator[Outsider]:
    with Outsider(served.url, drive=True) as client:
        yield client


@pytest.fixture
async def stage(
    database: Database,
    tenant: TenantId,
    served: Served,
    outsider: Outsider,
    tmp_path: Path,
    clock: StageClock,
) -> AsyncIterator[Stage]:
    opened = await open_stage(database, tenant, served, outsider, tmp_path, clock)
    yield opened
    await opened.aclose()


async def hash_of(stage: Stage, withdrawal: Withdrawal) -> str:
    (attempt,) = await stage.attempts(withdrawal)
    assert attempt.tx_hash is not None
    return attempt.tx_hash


async def get_stuck(stage: Stage) -> Withdrawal:
    """A withdrawal that was sent, and then bids too little for two ledgers; a bump is asked for."""
    stage.order()
    made = await stage.request()
    await stage.work()
    stage.order(surge_fee=500)
    for _ in range(2):
        await stage.close()
        await stage.work()
    return made


async def test_channels_are_opened_filled_and_pay_side_by_side(stage: Stage) -> None:
    lent = await open_channels(stage)
    (payer,) = await stage.vaults("fees")
    assert [await stage.booked(each.id) for each in lent] == [CHANNEL_FULL] * 3
    assert await stage.booked(payer.id) == FEES_FULL
    await stage.demand_books_equal_chain()

    before = stage.paid_to(stage.stranger)
    made = [await stage.request() for _ in range(6)]
    assert {each.channel_id for each in made} == {each.id for each in lent}
    for _ in range(2):
        await stage.work()
        await stage.close()
    assert [await stage.state(each) for each in made] == ["settled"] * 6
    assert stage.paid_to(stage.stranger) == before + 6000
    assert await stage.owed() == DEPOSIT - 6000
    # Each channel paid for its own two; the omnibus vault paid no fee.
    assert [await stage.booked(each.id) for each in lent] == [CHANNEL_FULL - 2 * BASE_FEE] * 3
    await stage.demand_books_equal_chain()

    # What a channel can pay no longer is filled up, once, however often somebody looks.
    dear = make_settings(stage.served.url, max_fee_stroops=1_000_000, channel_balance_stroops=15_000_000)
    for _ in range(2):
        await channels.tend(stage.db, stage.signer, dear, stage.clock, stage.tenant)
    assert len([each for each in await stage.of_kind("refill") if each.state != "settled"]) == 3
    await stage.settle_all()
    assert [await stage.booked(each.id) for each in lent] == [15_000_000] * 3
    await stage.demand_books_equal_chain()


async def test_a_worker_that_dies_between_any_two_steps_pays_once(stage: Stage) -> None:
    stage.faults.arm("after sign", 1)
    await stage.tend()
    await stage.work(dies=True)
    lent = await open_channels_again(stage)
    paid = 0
    for point in ("before reserve", "before sign", "after sign", "before submit", "after submit"):
        before = stage.paid_to(stage.stranger)
        made = [await stage.request() for _ in range(4)]
        stage.faults.arm(point)
        await stage.work(dies=True)
        assert not stage.faults.armed[point]
        await stage.settle_all()
        assert [await stage.state(each) for each in made] == ["settled"] * 4
        assert [len(await stage.attempts(each)) for each in made] == [1] * 4
        assert stage.paid_to(stage.stranger) == before + 4000
        paid += 4
    assert sum([await stage.booked(each.id) for each in lent]) == 3 * CHANNEL_FULL - paid * BASE_FEE
    await stage.demand_books_equal_chain()


async def test_the_same_bytes_go_out_until_our_own_ledgers_prove_them_in_or_absent(stage: Stage) -> None:
    lent = await open_channels(stage)
    # Lost replies, refusals to queue and a node that forgets: the same bytes again, and one payment.
    before = stage.paid_to(stage.stranger)
    for fault in ({"try_again_later_next": 1}, {"lose_reply_next": 1}, {"drop_next": 1}):
        stage.order(**fault)
        made = await stage.request()
        await stage.work()
        first = await hash_of(stage, made)
        await stage.settle_all()
        assert (await stage.state(made), await hash_of(stage, made)) == ("settled", first)
    assert stage.paid_to(stage.stranger) == before + 3000

    # In a ledger, but not in one of ours yet: the node that forgot its bans says tx_bad_seq, and that proves nothing.
    made = await stage.request()
    await stage.work()
    stage.served.network.close()
    stage.served.network._pool = Mempool()
    await stage.work()
    (attempt,) = await stage.attempts(made)
    assert (attempt.state, attempt.last_answer) == ("broadcast", "unknown txBAD_SEQ")
    await stage.close()
    assert await stage.state(made) == "settled"

    # Past its bound by the node, which says tx_too_late: still nothing is released before our own ledgers say so.
    stage.order(drop_next=1000)
    made = await stage.request()
    owed = await stage.owed()
    await stage.work()
    (attempt,) = await stage.attempts(made)
    while stage.served.network.latest.sequence < (attempt.max_ledger or 0):
        stage.served.network.close()
    await stage.work()
    (attempt,) = await stage.attempts(made)
    assert (attempt.state, attempt.last_answer) == ("broadcast", "refused txTOO_LATE")
    assert await stage.owed() == owed
    await stage.close()
    assert (await stage.get(made.id)).reason == "lapsed"
    assert await stage.owed() == owed + 1000

    # The channel comes back with the same sequence once the signer has freed it; the others never waited.
    stage.order()
    following = [await stage.request() for _ in range(3)]
    await stage.work()
    await stage.close()
    assert [await stage.state(each) for each in following].count("settled") == 2
    stage.clock.ahead_s += 310
    await stage.settle_all()
    assert [await stage.state(each) for each in following] == ["settled"] * 3
    again = next(each for each in following if each.channel_id == made.channel_id)
    assert [each.sequence for each in await stage.attempts(again)] == [attempt.sequence]
    assert len(lent) == 3
    await stage.demand_books_equal_chain()


async def test_what_is_stuck_for_its_fee_is_bumped_once_and_booked_where_it_was_paid(stage: Stage) -> None:
    await open_channels(stage)
    (payer,) = await stage.vaults("fees")
    before = stage.paid_to(stage.stranger)
    passed_on = TariffTerms(kind="network", maximum=10**6, quote_valid_s=60)
    async with stage.db.unit_of_work(stage.tenant) as uow:
        await tariffs.set_tariff(uow, "treasurer", XLM, passed_on)
    made = await get_stuck(stage)
    lent = await stage.booked(made.sender_id)
    (bump,) = await stage.of_kind("fee_bump")
    # The worker dies with the bump signed; its bytes are the same afterwards. Others look at the same time.
    stage.faults.arm("after sign")
    await stage.work(dies=True)
    await stage.work()
    await stage.work()
    (wrapped,) = await stage.attempts(bump)
    assert (wrapped.state, wrapped.sequence, wrapped.fee_bid) == ("broadcast", 0, 2000)
    await stage.close()
    assert [await stage.state(each) for each in (made, bump)] == ["settled", "settled"]
    assert [each.id for each in await stage.of_kind("fee_bump")] == [bump.id]
    assert stage.paid_to(stage.stranger) == before + 1000
    fee = (await stage.get(made.id)).fee
    assert (fee and fee.charged) == 2 * BASE_FEE, "what the bump cost is what the payment cost"
    assert await stage.booked(made.sender_id) == lent
    assert await stage.booked(payer.id) == FEES_FULL - 2 * BASE_FEE
    await stage.demand_books_equal_chain()

    # A stop of whose money it wraps holds for the bump too. One that is needed no more before it is signed is taken back.
    made = await get_stuck(stage)
    stopped = await stop(stage.db, stage.tenant, of_customer(CUSTOMER))
    await stage.work()
    (waits,) = [each for each in await stage.of_kind("fee_bump") if each.id != bump.id]
    assert (waits.state, waits.stuck_reason) == ("approved", "stopped")
    await resume(stage.db, stopped, stage.tenant)
    stage.order()
    await stage.close()
    assert await stage.state(made) == "settled"
    await stage.settle_all()
    assert [each.state for each in await stage.of_kind("fee_bump")] == ["settled", "cancelled"]
    assert await stage.booked(payer.id) == FEES_FULL - 2 * BASE_FEE

    # One that is signed and overtaken by what it is wrapped around can never apply: it lapses with the same bounds.
    made = await get_stuck(stage)
    stage.order(drop_next=1)
    await stage.work()
    await stage.close()
    assert await stage.state(made) == "settled"
    await stage.settle_all()
    states = [each.state for each in await stage.of_kind("fee_bump")]
    assert states == ["settled", "cancelled", "failed"]
    await stage.demand_books_equal_chain()


async def test_what_fails_on_chain_says_why_and_gives_the_money_back(stage: Stage) -> None:
    await open_channels(stage)
    owed, nobody = await stage.owed(), Keypair.random().public_key
    made = await stage.request(destination=nobody, asks=False)
    await stage.settle_all()
    found = await stage.get(made.id)
    assert (found.state, found.reason) == ("failed", "failed on chain: op_no_destination")
    assert await stage.owed() == owed
    await stage.demand_books_equal_chain()


async def test_a_missing_account_is_opened_within_the_policy_and_never_one_of_ours(stage: Stage) -> None:
    lent = await open_channels(stage)
    nobody = Keypair.random().public_key
    with pytest.raises(BelowReserve):
        await stage.request(9_999_999, nobody)
    with pytest.raises(DestinationMissing):
        # The policy opens accounts with up to three lumens.
        await stage.request(3 * 10**7 + 1, nobody)
    made = await stage.request(2 * 10**7, nobody)
    assert intents.show(made.intent)["kind"] == "stellar_create_account"
    await stage.settle_all()
    assert (await stage.state(made), stage.paid_to(nobody)) == ("settled", 2 * 10**7)
    with pytest.raises(DestinationIsOurs):
        await stage.request(destination=lent[0].account)
    await stage.demand_books_equal_chain()


async def open_channels_again(stage: Stage) -> list[object]:
    """The rest of an opening that somebody began."""
    await stage.settle_all()
    assert await stage.tend() == []
    return list(await stage.vaults("channels"))
