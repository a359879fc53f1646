"""Deposit addresses on a real anvil: swept once with exactly the gas that is needed, and left where it is not worth it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from custody.db.session import Database
from custody.holdings import sending
from custody.kernel.ids import TenantId, WithdrawalId
from custody.switches.model import Place, Scope, of_vault
from custody.treasury.model import Verdict
from tests.integration.evm_stage import CHAIN, ETH, node
from tests.integration.switch_stage import resume, stop
from tests.integration.treasury_stage import (
    FILLED,
    GAS_NATIVE,
    GAS_TOKEN,
    TreasuryStage,
    open_treasury,
)

__all__ = ["node"]

pytestmark = [pytest.mark.stack, pytest.mark.usefixtures("told_as_promised")]

TOKENS = 5_000


@pytest.fixture
async def stage(
    database: Database, tenant: TenantId, node: str, tmp_path: Path
) -> AsyncIterator[TreasuryStage]:
    async with open_treasury(database, tenant, node, tmp_path) as opened:
        yield opened


async def fill_gas(stage: TreasuryStage) -> None:
    """The gas vault is made, and filled by the omnibus vault."""
    await stage.target("gas", ETH, FILLED // 2, FILLED, 10 * FILLED)
    assert len(await stage.tend()) == 1
    assert await stage.tend() == []
    await stage.settle()
    assert await stage.booked(await stage.vault("gas")) == FILLED


async def wait_unseen(stage: TreasuryStage, asked: WithdrawalId) -> None:
    """What was asked for waits while the chain's worker has ended; then one is at the tip again."""
    async with stage.desk.db.unit_of_work(None) as uow:
        await sending.note_stopped(uow, CHAIN, 2, "ingestion_broken_hash_chain")
    assert await stage.work() == []
    (waiting,) = await stage.moves("approved")
    assert (waiting.id, waiting.stuck_reason) == (asked, "chain_halted")
    async with stage.desk.db.unit_of_work(None) as uow:
        await sending.note_followed(uow, CHAIN, 2, 0)


async def test_tokens_and_ether_are_swept_with_exactly_the_gas_that_they_need(stage: TreasuryStage) -> None:
    await stage.rule(stage.token)
    await stage.rule(ETH, threshold=10**17, fee_share_max_bp=100)
    ann, bob = await stage.address("ann"), await stage.address("bob")
    await stage.pay(ann.address, tokens=TOKENS)
    await stage.pay(bob.address, wei=10**18)
    stopped = await stop(stage.desk.db, stage.desk.tenant, Place(Scope.CHAIN, ETH.chain))
    assert await stage.tend() == []
    (held_back,) = await stage.noted(ETH, Verdict.REFUSED)
    assert held_back.detail == "stopped_by_switch"
    await resume(stage.desk.db, stopped, stage.desk.tenant)
    # Nobody pays for gas yet: that is told, and keeps nothing else waiting.
    price = await stage.price()
    (swept,) = await stage.tend()
    (refused,) = await stage.noted(stage.token, Verdict.REFUSED)
    assert (refused.vault_id, refused.detail) == (ann.vault_id, "insufficient_funds")
    await wait_unseen(stage, swept)
    await stage.settle()
    (made,) = await stage.moves("settled")
    assert (made.id, made.kind, made.amount) == (swept, "sweep", 10**18 - GAS_NATIVE * price)
    assert 0 < await stage.booked(bob) < GAS_NATIVE * price

    await fill_gas(stage)
    price = await stage.price()
    (funding,) = await stage.tend()
    await wait_unseen(stage, funding)
    assert [each.vault_id for each in await stage.noted(stage.token, Verdict.FUNDING)] == [ann.vault_id]
    assert await stage.tend() == []
    # In a block, but not final: the sweep waits.
    await stage.work()
    await stage.mine()
    assert await stage.tend() == []
    await stage.settle()
    assert await stage.booked(ann) == GAS_TOKEN * price
    (sweep,) = await stage.tend()
    assert await stage.tend() == []
    await stage.settle()
    assert [each.id for each in (await stage.moves("settled"))[-2:]] == [funding, sweep]
    assert await stage.booked(stage.omnibus, stage.token) == TOKENS
    assert await stage.desk.owed(ann.wallet_id, stage.token) == TOKENS
    assert await stage.desk.owed(bob.wallet_id, ETH) == 10**18
    # What arrived from ourselves is no deposit, and what is left of the gas is used by the next sweep.
    assert len(await stage.desk.deposits()) == 3
    left = await stage.booked(ann)
    assert 0 < left < GAS_TOKEN * price
    assert await stage.tend() == []
    await stage.outsider.call("anvil_setNextBlockBaseFeePerGas", hex(20 * 10**9))
    await stage.pay(ann.address, tokens=TOKENS)
    price = await stage.price()
    await stage.tend()
    assert (await stage.moves("approved"))[-1].amount == GAS_TOKEN * price - left
    await stage.settle()
    await stage.tend()
    await stage.settle()
    assert await stage.booked(stage.omnibus, stage.token) == 2 * TOKENS
    await stage.demand_books_equal_chain()


async def test_what_is_not_worth_it_is_left_and_listed(stage: TreasuryStage) -> None:
    await stage.rule(ETH, threshold=10**17, dust=10**15, max_age_s=86_400)
    names = {"dust": 10**14, "small": 10**16, "large": 10**18}
    addresses = {name: await stage.address(name) for name in names}
    for name, wei in names.items():
        await stage.pay(addresses[name].address, wei=wei)
    await stage.rule(ETH, threshold=10**17, dust=10**15, max_age_s=86_400, fee_max=GAS_NATIVE)
    assert await stage.tend() == []
    for name, verdict in (
        ("dust", Verdict.DUST),
        ("small", Verdict.BELOW_THRESHOLD),
        ("large", Verdict.FEE_TOO_HIGH),
    ):
        (noted,) = await stage.noted(ETH, verdict)
        assert (noted.vault_id, noted.amount) == (addresses[name].vault_id, names[name])
    # A rule that is off leaves everything; one that allows the fee sweeps what is enough, and a day later what is old.
    await stage.rule(ETH, enabled=False)
    assert await stage.tend() == []
    await stage.rule(ETH, threshold=10**17, dust=10**15, max_age_s=86_400)
    (swept,) = await stage.tend()
    await stage.settle()
    stage.clock.ahead_s += 86_400
    (aged,) = await stage.tend()
    found = {each.id: each.vault_id for each in await stage.moves()}
    assert [found[swept], found[aged]] == [addresses[name].vault_id for name in ("large", "small")]
    await stage.settle()
    assert await stage.tend() == []
    assert len(await stage.noted(ETH, Verdict.DUST)) == 3
    await stage.demand_books_equal_chain()


async def test_whoever_dies_between_any_two_steps_an_address_gets_its_gas_once_and_is_swept_once(
    stage: TreasuryStage,
) -> None:
    await stage.rule(stage.token)
    await fill_gas(stage)
    gas = await stage.vault("gas")
    points = ("before sign", "after sign", "before submit", "after submit")
    for number, point in enumerate(points, start=1):
        address = await stage.address(point)
        await stage.pay(address.address, tokens=TOKENS)
        price = await stage.price()
        for step in ("funding", "sweep"):
            asked = await asyncio.gather(*(stage.tend() for _ in range(3)))
            assert len({each for one in asked for each in one}) == 1, step
            stage.faults.arm(point)
            await stage.work(dies=True)
            assert not stage.faults.armed[point]
            assert await stage.tend() == []
            await stage.work()
            await stage.mine()
            assert await stage.tend() == []
            await stage.settle()
            if step == "funding":
                assert await stage.booked(address) == GAS_TOKEN * price
        assert await stage.sent_by(gas.account) == number
        assert await stage.sent_by(address.account) == 1
        assert await stage.booked(stage.omnibus, stage.token) == number * TOKENS
    assert await stage.tend() == []
    await stage.demand_books_equal_chain()


async def test_hot_gives_to_cold_and_gets_it_back_by_three_people_one_request_at_a_time(
    stage: TreasuryStage,
) -> None:
    cold = await stage.add_vault("cold")
    ether = 10**18
    await stage.target("omnibus", ETH, ether // 10, ether // 4, ether // 2)
    asked = await asyncio.gather(*(stage.tend() for _ in range(3)))
    ((out,),) = [each for each in asked if each]
    assert await stage.approve(out, "alice") == "awaiting_approval"
    assert await stage.approve(out, "bob") == "approved"
    assert await stage.tend() == []
    # What was asked for before a stop waits behind it.
    stopped = await stop(stage.desk.db, stage.desk.tenant, of_vault(stage.omnibus.id))
    assert await stage.work() == []
    (waits,) = await stage.moves("approved")
    assert waits.stuck_reason == "stopped"
    await resume(stage.desk.db, stopped, stage.desk.tenant)
    await stage.settle()
    assert await stage.booked(cold) == 3 * ether // 4
    assert await stage.tend() == []
    # Too little is left: the warm vault has nothing, so the cold one is asked, and that takes everybody.
    await stage.add_vault("warm")
    await stage.target("omnibus", ETH, ether // 3, ether // 2, ether)
    (back,) = await stage.tend()
    assert await stage.tend() == []
    assert await stage.approve(back, "alice", "bob") == "awaiting_approval"
    assert await stage.approve(back, "carol") == "approved"
    await stage.settle()
    fee = ether // 4 - await stage.booked(stage.omnibus) + ether // 4
    assert 0 <= fee < 10**15
    assert len(await stage.desk.deposits()) == 1
    await stage.demand_books_equal_chain()
