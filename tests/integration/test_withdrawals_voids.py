"""The signer is told before a hold is released: real approvals, brought to it by whomever, then pay nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from custody.db.session import Database
from custody.kernel.errors import Unavailable
from custody.kernel.ids import TenantId
from custody.screening import service as screening
from custody.signing.errors import SignerRefused
from custody.signing.model import EvmSlot
from custody.withdrawals import cooling, voids
from custody.withdrawals.errors import CancelTooLate, NotVoided
from custody.withdrawals.model import Withdrawal
from tests.fakes.faults import Crash
from tests.fakes.withdrawal_world import ETH, EVM, OUTSIDE, World, make_decision

pytestmark = pytest.mark.usefixtures("told_as_promised")

TWO = ("alice", "bob")
SLOT = EvmSlot(nonce=7, max_fee_per_gas=50, max_priority_fee_per_gas=5)


@pytest.fixture
async def world(database: Database, tenant: TenantId) -> World:
    return await World(db=database, tenant=tenant).open()


async def cancel(world: World, asked: Withdrawal) -> Withdrawal:
    """What the API does."""
    voided = await voids.void_approved(world.signer, [asked])
    async with world.db.unit_of_work(world.tenant) as uow:
        return await voids.cancel(uow, world.principal, asked.id, voided)


async def bring(world: World, asked: Withdrawal) -> str:
    """Somebody brings the real approvals to the signer by another way; why it refuses, or ""."""
    decisions = [make_decision(asked.intent, name) for name in TWO]
    try:
        await world.signer.sign(asked.intent, decisions, SLOT)
    except SignerRefused as refusal:
        return refusal.reason
    return ""


async def test_what_is_taken_back_after_its_approval_cannot_be_signed_by_another_way(world: World) -> None:
    asked = await world.request(ETH, approve=TWO)
    assert (await cancel(world, asked)).state == "cancelled"
    assert (await world.money(ETH))[1] == 0
    assert await bring(world, asked) == "voided"


async def test_nothing_is_released_while_the_signer_has_not_answered(world: World) -> None:
    asked = await world.request(ETH, approve=TWO)
    world.signer.reachable = False
    with pytest.raises(Unavailable):
        await cancel(world, asked)
    async with world.db.unit_of_work(world.tenant) as uow:
        with pytest.raises(NotVoided):
            await voids.cancel(uow, world.principal, asked.id, frozenset())
    assert (await world.state(asked), (await world.money(ETH))[1]) == ("approved", 1000)
    # Nobody has approved this one: no signer is needed.
    early = await world.request(ETH)
    assert (await cancel(world, early)).state == "cancelled"


async def test_what_was_signed_by_another_way_is_not_released(world: World) -> None:
    asked = await world.request(ETH, approve=TWO)
    assert await bring(world, asked) == ""
    with pytest.raises(CancelTooLate):
        await cancel(world, asked)
    world.clock.advance(4000)
    assert await voids.expire_due(world.means, world.tenant, world.clock.now()) == 0
    assert (await world.state(asked), (await world.money(ETH))[1]) == ("approved", 1000)


async def test_a_void_without_its_transaction_ends_in_a_refusal_and_the_hold_is_released_then(
    world: World,
) -> None:
    asked = await world.request(ETH, approve=TWO)
    await voids.void_approved(world.signer, [asked])
    assert await world.advance(asked) == "failed"
    assert (await world.money(ETH))[1] == 0


async def test_what_expires_after_its_approval_is_given_up_at_the_signer_first(world: World) -> None:
    asked, waiting = await world.request(ETH, approve=TWO), await world.request(ETH)
    world.clock.advance(4000)
    world.signer.reachable = False
    assert await voids.expire_due(world.means, world.tenant, world.clock.now()) == 1
    assert [await world.state(each) for each in (asked, waiting)] == ["approved", "expired"]
    world.signer.reachable = True
    assert await voids.expire_due(world.means, world.tenant, world.clock.now()) == 1
    assert await world.state(asked) == "expired"
    assert asked.digest in world.signer.voided


async def test_what_the_list_names_after_the_approval_is_given_up_at_the_signer_first(world: World) -> None:
    asked = await world.request(ETH, approve=TWO)
    async with world.db.unit_of_work(world.tenant) as uow:
        await screening.refuse(uow, "olga", EVM, OUTSIDE[EVM], source="sanctions 2026-11-01")
    world.signer.reachable = False
    assert await world.advance(asked) == "approved"
    assert (await world.money(ETH))[1] == 1000
    world.signer.reachable = True
    world.faults.arm("after void")
    with pytest.raises(Crash):
        await world.advance(asked)
    assert (await world.state(asked), (await world.money(ETH))[1]) == ("approved", 1000)
    assert await bring(world, asked) == "voided"
    assert await world.advance(asked) == "blocked"
    assert (await world.money(ETH))[1] == 0


async def test_what_cools_down_is_given_up_at_the_signer_first_too(world: World) -> None:
    async with world.db.unit_of_work(world.tenant) as uow:
        await cooling.set_rule(uow, "olga", "*", amount_min=0, seconds=600)
    asked = await world.request(ETH, approve=TWO)
    assert asked.state == "cooling_down"
    async with world.db.unit_of_work(world.tenant) as uow:
        with pytest.raises(NotVoided):
            await voids.cancel(uow, world.principal, asked.id, frozenset())
    assert (await cancel(world, asked)).state == "cancelled"
    assert await bring(world, asked) == "voided"


async def test_a_refusal_is_made_final_before_the_hold_is_released(world: World) -> None:
    """What the signer refuses today for a full window or a missing rule it might sign tomorrow, for whoever asks."""
    asked = await world.request(ETH, approve=TWO)
    world.signer.refuses_with = "no_rule"
    world.faults.arm("before void")
    with pytest.raises(Crash):
        await world.advance(asked)
    assert (await world.state(asked), (await world.money(ETH))[1]) == ("signing", 1000)
    assert await world.advance(asked) == "failed"
    assert (await world.money(ETH))[1] == 0
    world.signer.refuses_with = ""
    assert await bring(world, replace(asked)) == "voided"
